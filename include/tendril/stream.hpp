// Buffered streams of bytes: lines, delimiters and exact lengths over a socket, a pipe, or TLS.
//
//   tendril::stream s = tendril::net::open_stream(tendril::net::create_connection("localhost", 80));
//   s.write("GET / HTTP/1.0\r\n\r\n");
//   s.flush();
//   for (std::string& line : s.lines()) ...
//
// One fiber may read while another writes; `error` is thrown if two fibers read (or write) at once.
// Errors of the transport are thrown unchanged (std::system_error). Every wait is a cancellation
// point. One kernel thread at a time may use a stream. (asyncio's StreamReader and StreamWriter;
// Python's io.BufferedRWPair)
#pragma once

#include "detail/cxx20.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "detail/descriptor.hpp"
#include "detail/next_iterator.hpp"
#include "error.hpp"

namespace tendril {

// The stream ended before the requested bytes were read. partial() returns what was read; it has
// been consumed. (asyncio.IncompleteReadError)
class incomplete_read : public error {
 public:
  explicit incomplete_read(std::string partial)
      : error("the stream ended after " + std::to_string(partial.size()) +
              " bytes, before the requested end"),
        partial_(std::move(partial)) {}
  const std::string& partial() const noexcept { return partial_; }

 private:
  std::string partial_;
};

// The delimiter did not come within the limit. What was read remains available.
// (asyncio.LimitOverrunError)
class limit_overrun : public error {
 public:
  using error::error;
};

// What a stream reads from and writes to. Derive from it to make other kinds of streams; the stream
// passes on the exceptions that it throws.
class transport {
 public:
  virtual ~transport() = default;
  // Waits for at least one byte and returns the number of bytes read, at most n; 0 at the end of
  // the stream.
  virtual std::size_t read_some(void* to, std::size_t n) = 0;
  // Waits until all of `data` has been written.
  virtual void write_all(std::string_view data) = 0;
  // Tells the other side that no more data will come. Reading remains possible.
  virtual void end_writing() = 0;
  // Closes it without waiting.
  virtual void close() noexcept = 0;
  // The descriptor, or -1 if there is none.
  virtual int descriptor() const noexcept { return -1; }
};

// A descriptor, which this object owns from now on: a pipe, a terminal, a file. (For sockets:
// net::socket_transport.)
class descriptor_transport : public transport {
 public:
  explicit descriptor_transport(int fd) noexcept : fd_(fd) {}
  std::size_t read_some(void* to, std::size_t n) override {
    return std::size_t(detail::checked_call("read", [&] { return posix::read(fd_.get(), to, n); }));
  }
  // Writing to a pipe without readers raises SIGPIPE before it throws EPIPE, unless the program
  // ignores the signal.
  void write_all(std::string_view data) override {
    while (!data.empty()) {
      data.remove_prefix(std::size_t(detail::checked_call(
          "write", [&] { return posix::write(fd_.get(), data.data(), data.size()); })));
    }
  }
  void end_writing() override { fd_.reset(); }
  void close() noexcept override { fd_.reset(); }
  int descriptor() const noexcept override { return fd_.get(); }

 private:
  detail::owned_fd fd_;
};

class [[nodiscard("the stream is closed at once unless it has a name")]] stream {
 public:
  static constexpr std::size_t default_limit = 64 * 1024;

  // A handle of no stream.
  stream() noexcept = default;
  explicit stream(std::unique_ptr<transport> t) noexcept : transport_(std::move(t)) {}
  // Makes a stream that owns the descriptor.
  static stream adopt(int fd) { return stream(std::make_unique<descriptor_transport>(fd)); }
  stream(stream&&) noexcept = default;
  stream& operator=(stream&&) noexcept = default;
  // Closes the stream without waiting: data that was not flushed is lost.
  ~stream() = default;

  // Whether this is a handle of a stream.
  explicit operator bool() const noexcept { return transport_ != nullptr; }
  // The transport, or null.
  transport* below() const noexcept { return transport_.get(); }
  int descriptor() const noexcept { return transport_ ? transport_->descriptor() : -1; }

  // Returns the bytes that are available, at most n; waits if there are none. Empty at the end of
  // the stream. (asyncio: read(n))
  std::string read_some(std::size_t n = default_limit) {
    busy b(reading_);
    if (n > 0 && unread().empty()) fill();
    return take(std::min(n, unread().size()));
  }
  // Reads to the end of the stream. (asyncio: read())
  std::string read_all() {
    busy b(reading_);
    while (fill()) {}
    return take(unread().size());
  }
  // Reads n bytes. Throws incomplete_read if the stream ends first. (asyncio: readexactly)
  std::string read_exactly(std::size_t n) {
    busy b(reading_);
    while (unread().size() < n) {
      if (!fill()) throw incomplete_read(take(unread().size()));
    }
    return take(n);
  }
  // Reads up to and including the delimiter, which must not be empty. Throws incomplete_read if the
  // stream ends first, and limit_overrun if that would be more than `limit` bytes. (asyncio:
  // readuntil)
  std::string read_until(std::string_view delimiter, std::size_t limit = default_limit) {
    if (delimiter.empty()) throw error("the delimiter is empty");
    busy b(reading_);
    std::optional<std::size_t> end = find_end(delimiter, limit);
    if (!end) throw incomplete_read(take(unread().size()));
    return take(*end);
  }
  // Reads the next line and returns it without its "\n" or "\r\n"; the last line may have neither.
  // Returns an empty optional at the end of the stream. Throws limit_overrun if the line has more
  // than `limit` bytes. (asyncio: readline)
  std::optional<std::string> read_line(std::size_t limit = default_limit) {
    busy b(reading_);
    std::optional<std::size_t> end = find_end("\n", limit);
    if (!end && unread().empty()) return {};
    std::string line = take(end ? *end : unread().size());
    if (line.ends_with('\n')) {
      line.pop_back();
      if (line.ends_with('\r')) line.pop_back();
    }
    return line;
  }
  // For `for (auto& line : s.lines())`: calls read_line() until the end of the stream.
  auto lines(std::size_t limit = default_limit) { return line_range{*this, limit}; }
  // The bytes that have been read ahead and not been requested yet.
  std::string_view buffered() const noexcept { return unread(); }

  // Adds `data` to the output buffer. If that becomes large, sends it, which may wait. (asyncio:
  // write, drain)
  void write(std::string_view data) {
    busy b(writing_);
    if (out_.size() + data.size() < default_limit) {
      out_ += data;
      return;
    }
    send();
    open().write_all(data);
  }
  // Sends the output buffer and waits until the system has taken it. (io: flush)
  void flush() {
    busy b(writing_);
    send();
  }
  // Flushes, then tells the other side that no more data will come. (asyncio: write_eof)
  void end_writing() {
    busy b(writing_);
    send();
    open().end_writing();
  }
  // Flushes and closes the stream; closes it too if flushing throws. Other fibers that wait on it
  // wake with EBADF. May be called again.
  void close() {
    if (!transport_) return;
    struct closing {
      transport& t;
      ~closing() { t.close(); }
    } c{*transport_};
    if (!out_.empty()) flush();
  }

 private:
  // Detects that two fibers read, or write, at the same time.
  class busy {
   public:
    [[nodiscard]] explicit busy(bool& flag) : flag_(flag) {
      if (flag_) throw error("another fiber is reading or writing the same stream");
      flag_ = true;
    }
    ~busy() { flag_ = false; }
    busy(const busy&) = delete;

   private:
    bool& flag_;
  };
  struct [[nodiscard("no line is read until it is iterated over")]] line_range {
    stream& s;
    std::size_t limit;
    std::optional<std::string> next() { return s.read_line(limit); }
    auto begin() { return detail::next_iterator<line_range, std::string>(*this); }
    std::default_sentinel_t end() const noexcept { return {}; }
  };

  transport& open() const {
    if (!transport_) throw error("no stream");
    return *transport_;
  }
  std::string_view unread() const noexcept { return std::string_view(in_).substr(head_); }
  // Reads ahead; false at the end of the stream.
  bool fill() {
    constexpr std::size_t piece = 16 * 1024;
    in_.erase(0, std::exchange(head_, 0));
    std::size_t before = in_.size();
    struct cut {  // also when the wait throws
      std::string& in;
      std::size_t to;
      ~cut() { in.resize(to); }
    } c{in_, before};
    in_.resize(before + std::max(piece, before));
    std::size_t got = open().read_some(in_.data() + before, in_.size() - before);
    c.to = before + got;
    return got > 0;
  }
  // Where the next delimiter ends, counted from the start of the unread bytes; none if the stream
  // ends first.
  std::optional<std::size_t> find_end(std::string_view delimiter, std::size_t limit) {
    std::size_t searched = 0;
    for (;;) {
      std::string_view all = unread();
      std::size_t at = all.find(delimiter, searched);
      std::size_t needs = at == all.npos ? all.size() : at + delimiter.size();
      if (needs > limit)
        throw limit_overrun("no delimiter within " + std::to_string(limit) + " bytes");
      if (at != all.npos) return needs;
      searched = all.size() < delimiter.size() ? 0 : all.size() - delimiter.size() + 1;
      if (!fill()) return {};
    }
  }
  std::string take(std::size_t n) {
    std::string s(unread().substr(0, n));
    head_ += n;
    if (head_ == in_.size()) in_.clear(), head_ = 0;
    return s;
  }
  void send() {
    if (out_.empty()) return;
    std::string data = std::exchange(out_, {});
    open().write_all(data);
  }

  std::unique_ptr<transport> transport_;
  std::string in_, out_;
  std::size_t head_ = 0;  // in_ up to here has been consumed
  bool reading_ = false, writing_ = false;
};

}  // namespace tendril
