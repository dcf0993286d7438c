// Signal handlers that are ordinary code: each delivery runs a function in a new task.
//
//   tendril::signal_handler on_term(SIGTERM, [&] { server.stop(10s); });
//
// The installed handler only wakes a task, so the function may allocate, lock and wait. It runs on
// the kernel thread that made the signal_handler, when that thread waits or yields, once for each
// delivery (the system merges standard signals that are pending). If there are several
// signal_handlers for a signal, all of them run. Unless said otherwise, only the kernel thread that
// made a signal_handler may use it. (gevent.signal_handler)
#pragma once

#include "detail/cxx20.hpp"

#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <concepts>
#include <functional>
#include <memory>
#include <mutex>
#include <system_error>
#include <tuple>
#include <utility>

#include "detail/descriptor.hpp"
#include "task.hpp"

namespace tendril {
namespace detail {

// The receivers of a signal. Each has an eventfd, which is never closed, since a handler may be
// about to write to it.
struct signal_slot {
  std::atomic<int> fd{-1};
  std::atomic<bool> taken{false};
};
struct signal_entry {
  std::array<signal_slot, 16> slots;
  int users = 0;
  struct sigaction before {};
};
struct signal_table {
  std::mutex mutex;
  std::atomic<pid_t> process{0};
  std::array<signal_entry, _NSIG> entries;

  static signal_table& instance() {
    // never destroyed: signals also arrive during exit()
    static signal_table& t = *new signal_table;
    return t;
  }
  static void deliver(int signal) {
    int saved = errno;
    signal_table& t = instance();
    // After a fork, the child shares the eventfds but has none of the tasks.
    if (t.process.load() == ::getpid()) {
      for (auto& s : t.entries[std::size_t(signal)].slots) {
        std::uint64_t one = 1;
        if (s.taken.load()) ::syscall(SYS_write, s.fd.load(), &one, sizeof one);
      }
    }
    errno = saved;
  }
  signal_slot& take(int signal) {
    if (signal <= 0 || signal >= _NSIG)
      throw std::system_error(EINVAL, std::generic_category(), "signal_handler");
    std::lock_guard lock(mutex);
    if (process != ::getpid()) {
      for (auto& e : entries) {
        e.users = 0;
        for (auto& s : e.slots) {
          s.taken = false;
          if (int fd = s.fd.exchange(-1); fd >= 0) posix::close(fd);
        }
      }
      process = ::getpid();
    }
    signal_entry& e = entries[std::size_t(signal)];
    for (auto& s : e.slots) {
      if (s.taken) continue;
      if (s.fd < 0) s.fd = checked_call("eventfd", [] { return ::eventfd(0, EFD_CLOEXEC); });
      drain(s);
      if (e.users == 0) {
        struct sigaction a {};
        a.sa_handler = deliver;
        a.sa_flags = SA_RESTART;
        sigemptyset(&a.sa_mask);
        checked_call("sigaction", [&] { return posix::sigaction(signal, &a, &e.before); });
      }
      e.users++;
      s.taken = true;
      return s;
    }
    throw std::system_error(ENOSPC, std::generic_category(),
                            "too many signal_handlers for one signal");
  }
  void give_back(int signal, signal_slot& s) noexcept {
    std::lock_guard lock(mutex);
    if (process != ::getpid() || !s.taken) return;
    s.taken = false;
    signal_entry& e = entries[std::size_t(signal)];
    if (--e.users == 0) posix::sigaction(signal, &e.before, nullptr);
  }

 private:
  static void drain(signal_slot& s) noexcept {
    pollfd p{s.fd, POLLIN, 0};
    std::uint64_t n;
    if (posix::poll(&p, 1, 0) > 0) (void)!posix::read(s.fd, &n, sizeof n);
  }
};

}  // namespace detail

class signal_handler {
 public:
  // From now on, calls f(args...) in a new task for each delivery of the signal, in place of the
  // installed action. Its result is dropped; its exception is reported as lost
  // (lost_exception.hpp). Throws std::system_error: the signal cannot be caught (EINVAL), there are
  // sixteen signal_handlers for it already (ENOSPC).
  template <class F, class... A>
    requires std::invocable<std::decay_t<F>&, std::decay_t<A>&...>
  [[nodiscard(
      "the handler is removed at once unless the signal_handler has a "
      "name")]] explicit signal_handler(int signal, F&& f, A&&... args)
      : signal_(signal), slot_(&detail::signal_table::instance().take(signal)) {
    auto call = [f = std::decay_t<F>(std::forward<F>(f)),
                 with = std::tuple<std::decay_t<A>...>(std::forward<A>(args)...)]() mutable {
      std::apply(f, with);
    };
    auto shared = std::make_shared<decltype(call)>(std::move(call));
    try {
      watcher_ = spawn({.name = "signal"}, [fd = slot_->fd.load(), shared] {
        for (;;) {
          std::uint64_t times = 0;
          detail::checked_call("read", [&] { return posix::read(fd, &times, sizeof times); });
          while (times-- > 0) spawn([shared] { (*shared)(); });
        }
      });
    } catch (...) {
      detail::signal_table::instance().give_back(signal_, *slot_);
      throw;
    }
  }
  signal_handler(const signal_handler&) = delete;
  // Does what cancel() does.
  ~signal_handler() {
    try {
      cancel();
    } catch (...) {  // on another kernel thread: the end of the watcher's thread stops it
    }
  }

  // No more calls begin. The last signal_handler of a signal restores the action that was installed
  // before. Never waits. May be called again. Throws fiber_error on another kernel thread.
  void cancel() {
    if (slot_) detail::signal_table::instance().give_back(signal_, *std::exchange(slot_, nullptr));
    if (watcher_.valid()) watcher_.request_kill();
  }

 private:
  int signal_;
  detail::signal_slot* slot_;
  task<void> watcher_;
};

}  // namespace tendril
