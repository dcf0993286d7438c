// Buffered streams of bytes: lines, delimiters and exact lengths over a socket, a pipe, or TLS.
//
//   tendril::stream s = tendril::net::open_stream(tendril::net::create_connection("localhost", 80));
//   s.write("GET / HTTP/1.0\r\n\r\n");
//   s.flush();
//   for (std::string& line : s.lines()) ...
//
// One fiber may read while another writes; two that read at once are an error. What goes wrong
// below is thrown as it comes (std::system_error); every wait is a cancellation point. A stream
// belongs to one kernel thread at a time. (asyncio's StreamReader and StreamWriter; Python's
// io.BufferedRWPair)
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "detail/descriptor.hpp"
#include "detail/pull.hpp"
#include "error.hpp"

namespace tendril {

// The stream came to its end before all was there; partial() is what was.
// (asyncio.IncompleteReadError)
class incomplete_read : public error {
 public:
  explicit incomplete_read(std::string partial)
      : error("the stream ended after " + std::to_string(partial.size()) + " bytes of more"),
        partial_(std::move(partial)) {}
  const std::string& partial() const noexcept { return partial_; }

 private:
  std::string partial_;
};

// The delimiter did not come within the limit; what was read is still there to be read.
// (asyncio.LimitOverrunError)
class limit_overrun : public error {
 public:
  using error::error;
};

// What a stream reads from and writes to. For one's own kinds of streams; the errors are theirs.
class transport {
 public:
  virtual ~transport() = default;
  // Waits for some bytes, at most n; 0 at the end.
  virtual std::size_t read_some(void* to, std::size_t n) = 0;
  virtual void write_all(std::string_view data) = 0;
  // Says to the other side that this was all; reading goes on.
  virtual void end_writing() = 0;
  virtual void close() noexcept = 0;
  // -1 if there is none.
  virtual int descriptor() const noexcept { return -1; }
};

// A descriptor, which it takes over: a pipe, a terminal, a file. (For sockets:
// net::socket_transport.)
class descriptor_transport : public transport {
 public:
  explicit descriptor_transport(int fd) noexcept : fd_(fd) {}
  std::size_t read_some(void* to, std::size_t n) override {
    return std::size_t(detail::checked_call("read", [&] { return posix::read(fd_.get(), to, n); }));
  }
  // A pipe that nobody reads sends SIGPIPE first, unless the program ignores that.
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

class stream {
 public:
  static constexpr std::size_t default_limit = 64 * 1024;

  // No stream.
  stream() noexcept = default;
  explicit stream(std::unique_ptr<transport> t) noexcept : transport_(std::move(t)) {}
  // Takes over a descriptor.
  static stream adopt(int fd) { return stream(std::make_unique<descriptor_transport>(fd)); }
  stream(stream&&) noexcept = default;
  stream& operator=(stream&&) noexcept = default;
  // Closes it, and does not wait: what has not been flushed is lost.
  ~stream() = default;

  explicit operator bool() const noexcept { return transport_ != nullptr; }
  // What is below; null if there is nothing.
  transport* below() const noexcept { return transport_.get(); }
  int descriptor() const noexcept { return transport_ ? transport_->descriptor() : -1; }

  // What is there, at most n bytes; waits if there is nothing. Empty at the end.
  std::string read_some(std::size_t n = default_limit) {
    busy b(reading_);
    if (n > 0 && unread().empty()) fill();
    return take(std::min(n, unread().size()));
  }
  // Everything up to the end.
  std::string read_all() {
    busy b(reading_);
    while (fill()) {}
    return take(unread().size());
  }
  // n bytes. incomplete_read, which takes what there was: the end came first.
  std::string read_exactly(std::size_t n) {
    busy b(reading_);
    while (unread().size() < n) {
      if (!fill()) throw incomplete_read(take(unread().size()));
    }
    return take(n);
  }
  // Everything up to and with the delimiter, which is not empty. incomplete_read, which takes what
  // there was: the end came first. limit_overrun: that would be more than `limit` bytes.
  std::string read_until(std::string_view delimiter, std::size_t limit = default_limit) {
    if (delimiter.empty()) throw error("an empty delimiter");
    busy b(reading_);
    std::optional<std::size_t> end = find_end(delimiter, limit);
    if (!end) throw incomplete_read(take(unread().size()));
    return take(*end);
  }
  // The next line without its "\n" or "\r\n"; the last one may have none. Empty optional: the end.
  // limit_overrun.
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
  // for (auto& line : s.lines()): read_line() until the end.
  auto lines(std::size_t limit = default_limit) { return line_range{*this, limit}; }
  // What has been read ahead, and not been asked for.
  std::string_view buffered() const noexcept { return unread(); }

  // Keeps it to be sent; sends when there is much. Waits then.
  void write(std::string_view data) {
    busy b(writing_);
    if (out_.size() + data.size() < default_limit) {
      out_ += data;
      return;
    }
    send();
    open().write_all(data);
  }
  // Sends what was kept, and waits until the system has taken it.
  void flush() {
    busy b(writing_);
    send();
  }
  // Flushes, and says to the other side that this was all. (write_eof)
  void end_writing() {
    busy b(writing_);
    send();
    open().end_writing();
  }
  // Flushes and closes; on an exception from that, closes too. Others that wait wake with EBADF.
  // May be called again.
  void close() {
    if (!transport_) return;
    struct closing {
      transport& t;
      ~closing() { t.close(); }
    } c{*transport_};
    if (!out_.empty()) flush();
  }

 private:
  // Fibers that get into each other's way.
  class busy {
   public:
    explicit busy(bool& flag) : flag_(flag) {
      if (flag_) throw error("another fiber is reading or writing the same stream");
      flag_ = true;
    }
    ~busy() { flag_ = false; }
    busy(const busy&) = delete;

   private:
    bool& flag_;
  };
  struct line_range {
    stream& s;
    std::size_t limit;
    std::optional<std::string> next() { return s.read_line(limit); }
    auto begin() { return detail::pull_iterator<line_range, std::string>(*this); }
    std::default_sentinel_t end() const noexcept { return {}; }
  };

  transport& open() const {
    if (!transport_) throw error("no stream");
    return *transport_;
  }
  std::string_view unread() const noexcept { return std::string_view(in_).substr(head_); }
  // Reads ahead; false at the end.
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
  // Where the delimiter that comes next ends, counted in what is unread; none if the stream ends
  // first.
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
  std::size_t head_ = 0;  // in_ up to there has been taken
  bool reading_ = false, writing_ = false;
};

}  // namespace tendril
