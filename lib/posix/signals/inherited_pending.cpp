#include "posix/signals/inherited_pending.hpp"

#include <fcntl.h>
#include <string.h>

#include "scheduler/helper_pool.hpp"

namespace tendril::posix {

namespace {

constexpr timespec at_once{};

// Takes the next pending signal of the set; like the kernel, the thread's before the process's.
bool take(std::uint64_t set, siginfo_t& info) noexcept {
  return sys::call(SYS_rt_sigtimedwait, &set, &info, &at_once, 8) > 0;
}

// Reads from proc(5) which signals are pending for the calling kernel thread alone. False: that is
// not available, or there is no free descriptor. No other thread exists yet that could see the
// descriptor.
bool read_pending(std::uint64_t& of_thread) noexcept {
  char text[4096];
  long fd = sys::call(SYS_openat, AT_FDCWD, "/proc/thread-self/status", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  long n = sys::read(int(fd), text, sizeof text - 1);
  sys::close(int(fd));
  text[n > 0 ? n : 0] = 0;
  const char* line = strstr(text, "\nSigPnd:\t");
  if (!line) return false;
  of_thread = 0;
  for (line += 9; *line > ' '; line++)
    of_thread = of_thread << 4 | std::uint64_t(*line <= '9' ? *line - '0' : *line - 'a' + 10);
  return true;
}

// Keeps the signals that are pending for the process out of the way for a moment: a kernel thread
// of the runtime's, which has nothing pending of its own, takes them.
class put_aside {
 public:
  explicit put_aside(std::uint64_t set) noexcept : set_(set) {
    works_ = core::start_own_thread(run, this, 64 * 1024);
    while (works_ && !done_.load()) sys::futex_wait(&done_, 0);
  }
  put_aside(const put_aside&) = delete;
  bool works() const noexcept { return works_; }
  // Sends them again in their order.
  void send_back(int pid) noexcept {
    while (core::pending_signal* p = first_) {
      first_ = p->next;
      sys::call(SYS_rt_sigqueueinfo, pid, p->signal, &p->info);
      core::drop_pending(p);
    }
  }

 private:
  static void* run(void* self) {
    auto& mine = *static_cast<put_aside*>(self);
    core::pending_signal** end = &mine.first_;
    for (siginfo_t info; take(mine.set_, info); end = &(*end)->next) {
      *end = core::make_pending(info.si_signo, info, nullptr);
      if (!*end) break;
    }
    mine.done_ = 1;  // the object may be gone from here on
    sys::futex_wake(&mine.done_, 1);
    return nullptr;
  }

  std::uint64_t set_;
  core::pending_signal* first_ = nullptr;
  bool works_;
  std::atomic<std::uint32_t> done_{0};
};

}  // namespace

void adopt_pending(core::hub& h) noexcept {
  std::uint64_t pending = 0, mine;
  if (sys::is_refused(SYS_rt_sigpending) || sys::call(SYS_rt_sigpending, &pending, 8) < 0 ||
      !pending)
    return;
  core::handlers_deferred quiet;
  siginfo_t info;
  auto take_over = [&](std::uint64_t set) {
    return take(set & -set, info) && h.signals.post(h.storage, info.si_signo, info) >= 0;
  };
  if (read_pending(mine)) {
    while ((mine &= pending) && take_over(mine) && read_pending(mine)) {}
    return;
  }
  put_aside others(pending);
  if (!others.works()) return;
  for (std::uint64_t left = pending; left; left &= left - 1) {
    while (take_over(left)) {}
  }
  others.send_back(h.pid);
}

}  // namespace tendril::posix
