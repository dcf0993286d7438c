// Connects to a name: tries all its addresses, and uses the first that answers (Happy Eyeballs, RFC
// 8305).
//
//   tendril::net::socket s = tendril::net::create_connection("www.debian.org", 80);
//
// (socket.create_connection, asyncio's loop.create_connection)
#pragma once

#include "../detail/cxx20.hpp"

#include <netdb.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "../detail/remote_wait.hpp"
#include "../task.hpp"
#include "socket.hpp"

namespace tendril::net {

// The category of getaddrinfo's own error numbers: EAI_NONAME, EAI_AGAIN, ... Its messages are
// gai_strerror(3)'s. A code of it compares equal to the std::errc that says the same, if there is
// one. Any kernel thread may call it. (socket.gaierror)
TENDRIL_API inline const std::error_category& gai_category() noexcept {
  class category final : public std::error_category {
   public:
    const char* name() const noexcept override { return "getaddrinfo"; }
    std::string message(int code) const override { return ::gai_strerror(code); }
    std::error_condition default_error_condition(int code) const noexcept override {
      switch (code) {
        case EAI_AGAIN:
          return std::errc::resource_unavailable_try_again;
        case EAI_MEMORY:
          return std::errc::not_enough_memory;
        case EAI_FAMILY:
          return std::errc::address_family_not_supported;
        case EAI_BADFLAGS:
          return std::errc::invalid_argument;
        default:
          return {code, *this};
      }
    }
  };
  static const category the_only;
  return the_only;
}

// A name has no address. code() is in gai_category(). (socket.gaierror)
class resolve_error : public std::system_error {
 public:
  resolve_error(int code, const std::string& name)
      : std::system_error(code, gai_category(), name) {}
};

// Throws what a failed getaddrinfo() means: a resolve_error; for EAI_SYSTEM, whose reason is in
// errno, the std::system_error of errno.
[[noreturn]] inline void throw_resolve_error(int code, const std::string& name) {
  if (code == EAI_SYSTEM) detail::throw_errno("getaddrinfo");
  throw resolve_error(code, name);
}

// Looks up the addresses of a host (a name, or a numeric address) and a port (a number, or the name
// of a service), by getaddrinfo(3) on a helper thread, and returns them in its order. family:
// AF_INET, AF_INET6, or AF_UNSPEC for both. passive: for addresses to bind to. Throws
// std::system_error: a resolve_error if the name or the service has no address, errno's otherwise.
// A cancellation point. Any kernel thread may call it. (socket.getaddrinfo)
[[nodiscard]] inline std::vector<address> resolve(const std::string& host, const std::string& port,
                                                  int family = AF_UNSPEC, int type = SOCK_STREAM,
                                                  bool passive = false) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_family = family;
  hints.ai_socktype = type;
  hints.ai_flags = passive ? AI_PASSIVE : 0;
  int r;
  do r = posix::getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints, &found);
  while (r == EAI_SYSTEM && errno == EINTR);
  if (r != 0) throw_resolve_error(r, host.empty() ? port : host);
  std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, ::freeaddrinfo);
  std::vector<address> addresses;
  for (addrinfo* a = found; a; a = a->ai_next) addresses.emplace_back(a->ai_addr, a->ai_addrlen);
  return addresses;
}

struct connect_options {
  // The time after which the next address is tried concurrently (RFC 8305: 250 ms).
  clock::duration attempt_delay = std::chrono::milliseconds(250);
  // The time for all attempts, without the look-up; then std::errc::timed_out is thrown. max():
  // only the system's limit.
  clock::duration timeout = clock::duration::max();
  // The address to bind to before connecting.
  std::optional<address> local = std::nullopt;
};

// No attempt succeeded. code() is the last attempt's; attempts() lists all of them, in the order of
// failing.
class connect_error : public std::system_error {
 public:
  using attempt = std::pair<address, std::error_code>;
  explicit connect_error(std::vector<attempt> a)
      : std::system_error(a.back().second, describe(a)), attempts_(std::move(a)) {}
  const std::vector<attempt>& attempts() const noexcept { return attempts_; }

 private:
  static std::string describe(const std::vector<attempt>& a) {
    std::string s = "connect";
    for (auto& [where, code] : a)
      s += (&where == &a.front().first ? " to " : ", ") + where.to_string();
    return s;
  }
  std::vector<attempt> attempts_;
};

namespace happy_eyeballs {

// RFC 8305, section 4: keeps the order, but alternates between the families.
inline std::vector<address> interleaved(const std::vector<address>& in) {
  std::vector<address> first, second, out;
  for (auto& a : in) (a.family() == in.front().family() ? first : second).push_back(a);
  for (std::size_t i = 0; i < std::max(first.size(), second.size()); i++) {
    if (i < first.size()) out.push_back(first[i]);
    if (i < second.size()) out.push_back(second[i]);
  }
  return out;
}

// Concurrent attempts; the first that succeeds stores its socket.
class race {
 public:
  explicit race(const connect_options& o) : options_(o) {}
  ~race() {
    for (auto& t : attempts_) t.request_kill();
  }
  socket run(const std::vector<address>& addresses) {
    if (addresses.empty()) throw error("no address to connect to");
    auto end = options_.timeout == clock::duration::max() ? clock::time_point::max()
                                                          : detail::later(options_.timeout);
    std::unique_lock lock(result_->mutex);
    for (const address& a : addresses) {
      std::size_t failed = result_->failures.size();
      lock.unlock();
      attempts_.push_back(spawn({.name = "connect"}, attempt, result_, a, options_.local));
      lock.lock();
      bool last = &a == &addresses.back();
      auto until = last ? end : std::min(end, detail::later(options_.attempt_delay));
      result_->changed.wait(lock, until,
                            [&] {
                              return result_->winner ||
                                     (last ? result_->failures.size() == addresses.size()
                                           : result_->failures.size() > failed);
                            },
                            {.kind = core::wait_kind::descriptor, .remote = false});
      if (result_->winner) return std::move(result_->winner);
      if (clock::now() >= end) break;
    }
    if (result_->failures.size() < addresses.size())
      errno = ETIMEDOUT, detail::throw_errno("connect");
    throw connect_error(result_->failures);
  }

 private:
  // Shared with the attempts, which may outlive the race while they are being killed.
  struct outcome {
    std::mutex mutex;
    detail::remote_wait changed;
    socket winner;
    std::vector<connect_error::attempt> failures;
  };
  static void attempt(std::shared_ptr<outcome> o, const address& to,
                      const std::optional<address>& from) {
    std::error_code failure;
    try {
      socket s(to.family(), SOCK_STREAM);
      if (from) s.bind(*from);
      s.connect(to);
      std::lock_guard lock(o->mutex);
      if (!o->winner) o->winner = std::move(s);
      o->changed.notify_all();
      return;
    } catch (const std::system_error& e) {
      failure = e.code();
    }
    std::lock_guard lock(o->mutex);
    o->failures.emplace_back(to, failure);
    o->changed.notify_all();
  }

  const connect_options& options_;
  std::shared_ptr<outcome> result_ = std::make_shared<outcome>();
  std::vector<task<void>> attempts_;
};

}  // namespace happy_eyeballs

// Returns a socket that is connected to one of the addresses. They are tried in their order,
// alternating between the families: each one when the attempt before it has failed or attempt_delay
// has passed. The attempts that have not won are given up. Throws connect_error, and
// std::system_error with std::errc::timed_out. A cancellation point. Any kernel thread may call it.
inline socket create_connection(const std::vector<address>& addresses,
                                const connect_options& o = {}) {
  if (addresses.empty()) throw error("no address to connect to");
  return happy_eyeballs::race(o).run(happy_eyeballs::interleaved(addresses));
}
inline socket create_connection(const address& a, const connect_options& o = {}) {
  return create_connection(std::vector{a}, o);
}
// The same for all addresses of a name. Throws resolve_error too.
inline socket create_connection(const std::string& host, std::uint16_t port,
                                const connect_options& o = {}) {
  return create_connection(resolve(host, std::to_string(port)), o);
}

}  // namespace tendril::net
