// Waiting for child processes, and the functions based on that: system(3), popen(3).
//
// A single child is waited for through a pidfd, which the poller watches, on a number out of the
// program's way. "Any child" and process groups have no descriptor, and the descriptor table may be
// full: then a helper thread waits with WNOWAIT, so that the call itself still finds the child.
#include "posix/processes/process.hpp"

#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <tendril/posix.hpp>

#include <new>

#include "base/fork_handlers.hpp"
#include "base/futex_lock.hpp"
#include "libc/elf_scan.hpp"
#include "posix/common/offload.hpp"
#include "posix/descriptors/wait.hpp"
#include "posix/threads/thread.hpp"
#include "scheduler/closing.hpp"

extern "C" char** environ;

namespace tendril::posix {

namespace {

constexpr unsigned p_pidfd = 3;

// A pidfd reports a child's end, but not the stops that a tracer waits for.
bool may_trace() noexcept {
  static std::atomic<int> known{-1};
  int k = known.load(std::memory_order_relaxed);
  if (k < 0) known = k = program_imports("ptrace");
  return k;
}

// Opens a pidfd for the wait in the frame `frame`. Null: not possible.
core::kept_descriptor* keep_child(id_t id, const void* frame) noexcept {
  if (!in_hubs_process()) return nullptr;
  core::handlers_deferred quiet;
  int fd = int(sys::call(SYS_pidfd_open, id, 0));
  return fd >= 0 ? my_hub().io.kept.keep(fd, frame) : nullptr;
}

// While it lives, the thread stays on its hub, which keeps a descriptor for it. (If a handler
// leaves the wait by siglongjmp, the thread stays there for good.)
struct stays_here {
  stays_here() noexcept { core::current->storage->bound++; }
  ~stays_here() { core::current->storage->bound--; }
  stays_here(const stays_here&) = delete;
};

// Waits until such a child has something to report. 0: check again; -errno.
long wait_for_child(int type, id_t id, int options) noexcept {
  bool only_its_end = (options & (WSTOPPED | WCONTINUED)) == 0 && !may_trace();
  if (unsigned(type) == p_pidfd && only_its_end)
    return wait_for(int(id), EPOLLIN, deadline::never(), on_signal::restart);
  if (type == P_PID && only_its_end) {
    const void* frame = __builtin_frame_address(0);
    stays_here bound;
    if (core::kept_descriptor* child = keep_child(id, frame)) {
      // With a time-out, because the program may close the pidfd unseen, and then nothing reports
      // the child's end.
      int r = wait_for(child->fd, EPOLLIN, deadline::after(core::now(), 1'000'000'000),
                       on_signal::restart);
      core::handlers_deferred quiet;
      // A wait in a handler may already have dropped it, as one whose wait was left by siglongjmp.
      if (child->who == core::current && child->frame == frame) my_hub().io.kept.drop(*child);
      return r == -ETIMEDOUT || r == -EBADF ? 0 : r;
    }
  }
  return offload_interruptible([&] {
    siginfo_t info;
    return sys::call(SYS_waitid, type, id, &info, (options & ~WNOHANG) | WNOWAIT, 0);
  });
}

struct which {
  int type;
  id_t id;
};
// The meaning of waitpid's first argument.
which children(pid_t pid) noexcept {
  if (pid > 0) return {P_PID, id_t(pid)};
  if (pid == -1) return {P_ALL, 0};
  return {P_PGID, pid == 0 ? 0 : 0 - id_t(pid)};
}

// `attempt` makes the call with WNOHANG, and returns 0 if there is nothing to report yet.
template <class Attempt>
long until_reported(int type, id_t id, int options, Attempt attempt) noexcept {
  for (;;) {
    long r = attempt();
    if (r != 0) return r;
    r = wait_for_child(type, id, options);
    // -ECHILD from the helper: another fiber has reaped the last child; the next attempt reports
    // that.
    if (r < 0 && r != -ECHILD) return r;
  }
}

}  // namespace

pid_t wait4(pid_t pid, int* status, int options, rusage* usage) {
  // __WNOTHREAD selects this kernel thread's own children; a helper has none.
  if (!cooperative() || (options & (WNOHANG | __WNOTHREAD)))
    return real.wait4(pid, status, options, usage);
  which w = children(pid);
  int wanted =
      WEXITED | (options & WUNTRACED ? WSTOPPED : 0) | (options & (WCONTINUED | __WALL | __WCLONE));
  return result<pid_t>(until_reported(w.type, w.id, wanted, [&]() noexcept {
    return sys::call(SYS_wait4, pid, status, options | WNOHANG, usage);
  }));
}

pid_t wait(int* status) {
  if (!cooperative()) return real.wait(status);
  return posix::wait4(-1, status, 0, nullptr);
}

pid_t waitpid(pid_t pid, int* status, int options) {
  if (!cooperative() || (options & WNOHANG)) return real.waitpid(pid, status, options);
  return posix::wait4(pid, status, options, nullptr);
}

pid_t wait3(int* status, int options, rusage* usage) {
  if (!cooperative() || (options & WNOHANG)) return real.wait3(status, options, usage);
  return posix::wait4(-1, status, options, usage);
}

// (The program may pass any number; the kernel checks it.)
__attribute__((no_sanitize("enum"))) int waitid(idtype_t type, id_t id, siginfo_t* info,
                                                int options) {
  if (!cooperative() || (options & (WNOHANG | __WNOTHREAD)))
    return real.waitid(type, id, info, options);
  // With a non-blocking pidfd, waitid never waits.
  if (unsigned(type) == p_pidfd && !blocks(int(id))) return real.waitid(type, id, info, options);
  siginfo_t own;
  siginfo_t* found = info ? info : &own;
  const int kind = int(type);
  long r = until_reported(kind, id, options & ~WNOWAIT, [&]() noexcept -> long {
    long e = sys::call(SYS_waitid, kind, id, found, options | WNOHANG, 0);
    return e ? e : found->si_pid ? 1 : 0;
  });
  return result<int>(r == 1 ? 0 : r);
}

namespace {

// While this lives, the thread blocks SIGCHLD. If several fibers of one thread do this at once, the
// last one unblocks it.
class child_signal_blocked {
 public:
  child_signal_blocked() noexcept {
    hub& h = my_hub();
    core::signal_state& s = core::current->storage->signals;
    core::handlers_deferred quiet;
    mask_ = h.signals.own_mask();
    h.signals.set_mask(mask_ | child);
    if (s.child_signal_blocks++ == 0) s.child_signal_blocked_before = mask_ & child;
    if (!s.child_signal_blocked_before) mask_ &= ~child;
  }
  ~child_signal_blocked() {
    hub& h = my_hub();
    core::signal_state& s = core::current->storage->signals;
    core::handlers_deferred quiet;
    if (--s.child_signal_blocks == 0 && !s.child_signal_blocked_before)
      h.signals.set_mask(h.signals.own_mask() & ~child);
  }
  child_signal_blocked(const child_signal_blocked&) = delete;
  std::uint64_t mask_before() const noexcept { return mask_; }

 private:
  static constexpr std::uint64_t child = 1ULL << (SIGCHLD - 1);
  std::uint64_t mask_ = 0;
};

// system(3) ignores SIGINT and SIGQUIT while any call of it runs.
struct system_calls {
  core::futex_lock lock;
  int running = 0;
  struct sigaction interrupt = {}, quit = {};

  void begin() noexcept {
    core::futex_guard guard(lock);
    if (running++) return;
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    posix::sigaction(SIGINT, &ignore, &interrupt);
    posix::sigaction(SIGQUIT, &ignore, &quit);
  }
  void end() noexcept {
    core::futex_guard guard(lock);
    if (--running) return;
    posix::sigaction(SIGINT, &interrupt, nullptr);
    posix::sigaction(SIGQUIT, &quit, nullptr);
  }
};
constinit system_calls systems;

// Starts a shell that runs `command`. 0, or an error number.
int start_shell(const char* command, posix_spawn_file_actions_t* files, const sigset_t* mask,
                const sigset_t* reset, pid_t* pid) noexcept {
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  short flags = 0;
  if (mask) posix_spawnattr_setsigmask(&attributes, mask), flags |= POSIX_SPAWN_SETSIGMASK;
  if (reset) posix_spawnattr_setsigdefault(&attributes, reset), flags |= POSIX_SPAWN_SETSIGDEF;
  posix_spawnattr_setflags(&attributes, flags);
  char* const arguments[] = {const_cast<char*>("sh"), const_cast<char*>("-c"),
                             const_cast<char*>(command), nullptr};
  int r = real.posix_spawn(pid, "/bin/sh", files, &attributes, arguments, environ);
  posix_spawnattr_destroy(&attributes);
  return r;
}

}  // namespace

namespace {

// Returns system(3)'s result. `cancelled`: the call was cancelled, and the shell was killed.
int run_shell(const char* command, bool& cancelled) noexcept {
  systems.begin();
  child_signal_blocked blocked;
  std::uint64_t old = blocked.mask_before();
  sigset_t mask, reset;
  sigemptyset(&mask);
  memcpy(&mask, &old, sizeof old);
  sigemptyset(&reset);
  if (systems.interrupt.sa_handler != SIG_IGN) sigaddset(&reset, SIGINT);
  if (systems.quit.sa_handler != SIG_IGN) sigaddset(&reset, SIGQUIT);
  pid_t pid;
  int status = 127 << 8;  // no shell: as if it had exited with 127
  if (start_shell(command, nullptr, &mask, &reset, &pid) == 0) {
    long r;
    do {
      r = until_reported(P_PID, id_t(pid), WEXITED,
                         [&]() noexcept { return sys::call(SYS_wait4, pid, &status, WNOHANG, 0); });
    } while (r == -EINTR);
    cancelled = r == -ECANCELED;
    if (cancelled) {
      sys::call(SYS_kill, pid, SIGKILL);
      sys::call(SYS_wait4, pid, 0, 0, 0);
    }
    if (r < 0) {
      errno = int(-r);
      status = -1;
    }
  }
  systems.end();  // before SIGCHLD is unblocked
  return status;
}

}  // namespace

int system(const char* command) {
  if (command) core::descriptors::shared();
  if (!command || !cooperative()) return real.system(command);
  bool cancelled = false;
  int status = run_shell(command, cancelled);
  if (cancelled) act_on_cancel();
  return status;
}

namespace {

struct blocking_pclose {
  FILE* stream = nullptr;
  int status = -1, error = 0;
  void run() noexcept {
    errno = 0;
    status = real.pclose(stream);
    error = errno;
  }
  void undo() noexcept {}
};

}  // namespace

// Opening does not wait, and the C library knows which of its streams have children. A child
// inherits open descriptors, so they are shared from now on.
FILE* popen(const char* command, const char* mode) {
  core::descriptors::shared();
  return real.popen(command, mode);
}

int pclose(FILE* f) {
  if (!cooperative() || !in_hubs_process()) return real.pclose(f);
  int fd = fileno(f);
  core::forget_descriptor(fd);
  blocking_pclose c;
  c.stream = f;
  int e = offload_abandonable(c);
  int saved = errno;
  core::wake_closed_waiters(fd);
  errno = saved;
  if (e < 0) return result<int>(e);
  if (c.error) errno = c.error;
  return c.status;
}

// Spawning does not wait, but the child inherits descriptors, which are not private any more.
int posix_spawn(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions,
                const posix_spawnattr_t* attributes, char* const* argv, char* const* env) {
  core::descriptors::shared();
  return real.posix_spawn(pid, path, actions, attributes, argv, env);
}

int posix_spawnp(pid_t* pid, const char* file, const posix_spawn_file_actions_t* actions,
                 const posix_spawnattr_t* attributes, char* const* argv, char* const* env) {
  core::descriptors::shared();
  return real.posix_spawnp(pid, file, actions, attributes, argv, env);
}

void memory_borrowed(int children) noexcept {
  core::descriptors::shared();
  if (core::current) my_hub().vfork_children = my_hub().vfork_children + children;
}

int clone(int (*run)(void*), void* stack, int flags, void* argument, pid_t* parent_tid, void* tls,
          pid_t* child_tid) {
  if (flags & CLONE_VM) {
    if (!(flags & CLONE_THREAD)) memory_borrowed(1);
    return real.clone(run, stack, flags, argument, parent_tid, tls, child_tid);
  }
  // The child has a copy of this frame. It may leave `run` by longjmp, and then continues here like
  // a child of fork.
  struct beginning {
    int (*run)(void*);
    void* argument;
    bool shares_descriptors;
  } b{run, argument, (flags & CLONE_FILES) != 0};
  if (!run || !stack) return real.clone(run, stack, flags, argument, parent_tid, tls, child_tid);
  core::prepare_for_child();
  int child = real.clone(
      [](void* p) {
        beginning mine = *static_cast<beginning*>(p);
        bare_child_begins(mine.shares_descriptors);
        return mine.run(mine.argument);
      },
      stack, flags, &b, parent_tid, tls, child_tid);
  core::parent_continues();
  return child;
}

// The signals stay ignored if another thread was in system() during the fork, as in the C library.
void system_after_fork() noexcept { new (&systems.lock) core::futex_lock; }

}  // namespace tendril::posix
