// Waiting for several descriptors at once, each with data of the program.
//
//   tendril::selector<connection*> s;
//   s.register_(fd, s.read, &c);
//   for (auto& [key, events] : s.select(1s)) key.data->ready(events);
//
// One kernel thread at a time may use a selector. While it waits, other fibers run, and may
// register and unregister descriptors. It is built on epoll, which refuses regular files (EPERM).
// (Python's selectors.EpollSelector)
#pragma once

#include "detail/cxx20.hpp"

#include <sys/epoll.h>

#include <any>
#include <chrono>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "detail/descriptor.hpp"
#include "error.hpp"

namespace tendril {

template <class Data = std::any>
class selector {
 public:
  // The events to wait for, and those that select() returns. Errors and hang-ups count as both.
  static constexpr unsigned read = 1, write = 2;

  // A registered descriptor. (SelectorKey)
  struct key {
    int fd;
    unsigned events;
    Data data;
  };
  using event = std::pair<key, unsigned>;

  // Throws std::system_error if no descriptor is free.
  selector()
      : epoll_(
            detail::checked_call("epoll_create1", [] { return ::epoll_create1(EPOLL_CLOEXEC); })) {}
  selector(selector&&) noexcept = default;
  selector& operator=(selector&&) noexcept = default;

  // Begins to watch a descriptor, which remains the caller's. Returns its registration. Throws
  // std::invalid_argument if `events` is not read, write or both, `error` if fd is registered
  // already, and std::system_error if fd is not open (EBADF) or is a regular file (EPERM).
  // (selectors: register)
  const key& register_(int fd, unsigned events, Data data = {}) {
    check(events);
    if (keys_.count(fd)) throw error("descriptor " + std::to_string(fd) + " is registered already");
    control(EPOLL_CTL_ADD, fd, events);
    return keys_.emplace(fd, key{fd, events, std::move(data)}).first->second;
  }
  // Ends the watch, also of a descriptor that was closed meanwhile. Returns the registration.
  // Throws `error` if fd is not registered. (selectors: unregister)
  key unregister(int fd) {
    auto at = find(fd);
    key k = std::move(at->second);
    keys_.erase(at);
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);  // fails if fd was closed
    return k;
  }
  // Replaces the events and the data. Throws as register_() and unregister(). (selectors: modify)
  const key& modify(int fd, unsigned events, Data data) {
    check(events);
    key& k = find(fd)->second;
    if (events != k.events) control(EPOLL_CTL_MOD, fd, events);
    k.events = events;
    k.data = std::move(data);
    return k;
  }

  // Waits until a descriptor is ready. Returns the ready ones, each with those of its events that
  // occurred. A cancellation point. (selectors: select)
  [[nodiscard("it has the descriptors that are ready")]] std::vector<event> select() {
    return select_until(forever);
  }
  // The same, for at most `timeout`; if that is 0 or less, it does not wait. Returns an empty
  // vector if nothing was ready in time.
  template <class Rep, class Period>
  [[nodiscard("it has the descriptors that are ready")]] std::vector<event> select(
      std::chrono::duration<Rep, Period> timeout) {
    return select_until(detail::later(std::max(timeout, timeout.zero())));
  }

  // The registration of fd. Throws `error` if it is not registered.
  const key& get_key(int fd) const {
    auto at = keys_.find(fd);
    if (at == keys_.end()) throw missing(fd);
    return at->second;
  }
  // All registrations, by descriptor.
  const std::map<int, key>& get_map() const noexcept { return keys_; }
  // Ends all watches and closes the epoll descriptor; afterwards calls fail with EBADF. May be
  // called again.
  void close() noexcept {
    keys_.clear();
    epoll_.reset();
  }

 private:
  using time_point = std::chrono::steady_clock::time_point;
  static constexpr time_point forever = time_point::max();

  static error missing(int fd) {
    return error("descriptor " + std::to_string(fd) + " is not registered");
  }
  static void check(unsigned events) {
    if (!events || (events & ~(read | write)))
      throw std::invalid_argument("selector: events must be read, write, or both");
  }
  auto find(int fd) {
    auto at = keys_.find(fd);
    if (at == keys_.end()) throw missing(fd);
    return at;
  }
  void control(int operation, int fd, unsigned events) {
    epoll_event e{};
    e.events = (events & read ? EPOLLIN : 0u) | (events & write ? EPOLLOUT : 0u);
    e.data.fd = fd;
    detail::checked_call("epoll_ctl", [&] { return ::epoll_ctl(epoll_.get(), operation, fd, &e); });
  }
  std::vector<event> select_until(time_point deadline) {
    std::vector<epoll_event> found(std::max<std::size_t>(keys_.size(), 1));
    for (;;) {
      int ms = -1;
      if (deadline != forever) {
        auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline -
                                                                 std::chrono::steady_clock::now());
        ms = int(std::clamp<std::chrono::milliseconds::rep>(left.count(), 0, 1'000'000'000));
      }
      int n = posix::epoll_wait(epoll_.get(), found.data(), int(found.size()), ms);
      if (n < 0 && errno != EINTR) detail::throw_errno("epoll_wait");
      std::vector<event> ready;
      for (int i = 0; i < n; i++) {
        const epoll_event& e = found[std::size_t(i)];
        auto at = keys_.find(e.data.fd);
        if (at == keys_.end()) continue;  // unregistered by another fiber meanwhile
        unsigned events = (e.events & ~EPOLLIN ? write : 0) | (e.events & ~EPOLLOUT ? read : 0);
        if (events &= at->second.events) ready.emplace_back(at->second, events);
      }
      if (!ready.empty() || (deadline != forever && std::chrono::steady_clock::now() >= deadline))
        return ready;
    }
  }

  detail::owned_fd epoll_;
  std::map<int, key> keys_;
};

}  // namespace tendril
