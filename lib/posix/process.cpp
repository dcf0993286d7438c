// Waiting for child processes, and what the C library builds on that: system(3), popen(3).
//
// A single child is waited for through a pidfd, which the poller watches. "Any child" and process groups have no
// descriptor: there a helper thread waits with WNOWAIT, which leaves the child for the call itself.
#include <tendril/posix.hpp>

#include <spawn.h>
#include <stdlib.h>
#include <string.h>

#include "../futex_lock.hpp"
#include "imports.hpp"
#include "offload.hpp"

extern "C" char** environ;

namespace tendril::posix {

namespace {

constexpr unsigned p_pidfd = 3;

struct child_wait {
  int type = 0;
  id_t id = 0;
  int options = 0;
  long r = 0;
  void run() noexcept {
    siginfo_t info;
    r = sys::call(SYS_waitid, type, id, &info, (options & ~WNOHANG) | WNOWAIT, 0);
  }
  void undo() noexcept {}
};

// A pidfd tells of a child's end, but not of the stops that a tracer waits for.
bool may_trace() noexcept {
  static std::atomic<int> known{-1};
  int k = known.load(std::memory_order_relaxed);
  if (k < 0) known = k = program_imports("ptrace");
  return k;
}

// Waits until a child of that kind has something to report. 0: ask again; -errno.
long wait_for_child(int type, id_t id, int options) noexcept {
  if (type == P_PID && (options & (WSTOPPED | WCONTINUED)) == 0 && !may_trace()) {
    long fd = sys::call(SYS_pidfd_open, id, 0);
    if (fd >= 0) {
      core::wait_info what;
      int r = wait_for(int(fd), EPOLLIN, deadline::never(), on_signal::restart);
      core::forget_descriptor(int(fd));
      sys::close(int(fd));
      return r;
    }
  }
  child_wait w;
  w.type = type;
  w.id = id;
  w.options = options;
  int e = offload_abandonable(w);
  return e < 0 ? e : w.r == -EINTR ? 0 : w.r;
}

struct which {
  int type;
  id_t id;
};
// What waitpid's first argument means.
which children(pid_t pid) noexcept {
  if (pid > 0) return {P_PID, id_t(pid)};
  if (pid == -1) return {P_ALL, 0};
  return {P_PGID, pid == 0 ? 0 : id_t(-pid)};
}

// `attempt` is a wait call with WNOHANG, which gives 0 (`none`) if there is nothing to report yet.
template <class Attempt>
long until_reported(int type, id_t id, int options, Attempt attempt) noexcept {
  for (;;) {
    long r = attempt();
    if (r != 0) return r;
    r = wait_for_child(type, id, options);
    // -ECHILD of the helper's wait: another fiber took the last child; the next attempt says so.
    if (r < 0 && r != -ECHILD) return r;
  }
}

}  // namespace

pid_t wait4(pid_t pid, int* status, int options, rusage* usage) {
  if (!cooperative() || (options & WNOHANG)) return real.wait4(pid, status, options, usage);
  which w = children(pid);
  int wanted = WEXITED | (options & WUNTRACED ? WSTOPPED : 0) | (options & (WCONTINUED | __WALL | __WCLONE | __WNOTHREAD));
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

int waitid(idtype_t type, id_t id, siginfo_t* info, int options) {
  if (!cooperative() || (options & WNOHANG)) return real.waitid(type, id, info, options);
  if (unsigned(type) == p_pidfd) {
    siginfo_t found{};
    long r = sys::call(SYS_waitid, type, id, &found, options | WNOHANG, 0);
    while (r == 0 && found.si_pid == 0) {
      r = wait_for(int(id), EPOLLIN, deadline::never(), on_signal::restart);
      if (r == 0) r = sys::call(SYS_waitid, type, id, &found, options | WNOHANG, 0);
    }
    if (r == 0 && info) *info = found;
    return result<int>(r);
  }
  siginfo_t found{};
  long r = until_reported(type, id, options & ~WNOWAIT, [&]() noexcept -> long {
    found.si_pid = 0;
    long e = sys::call(SYS_waitid, type, id, &found, options | WNOHANG, 0);
    return e ? e : found.si_pid ? 1 : 0;
  });
  if (r == 1) {
    if (info) *info = found;
    r = 0;
  }
  return result<int>(r);
}

namespace {

// system(3) ignores SIGINT and SIGQUIT while any call of it is running.
struct system_calls {
  core::futex_lock lock;
  int running = 0;
  struct sigaction interrupt {}, quit{};

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

// A shell that runs `command`; an error number if it cannot be started.
int start_shell(const char* command, posix_spawn_file_actions_t* files, const sigset_t* mask, const sigset_t* reset,
                pid_t* pid) noexcept {
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  short flags = 0;
  if (mask) posix_spawnattr_setsigmask(&attributes, mask), flags |= POSIX_SPAWN_SETSIGMASK;
  if (reset) posix_spawnattr_setsigdefault(&attributes, reset), flags |= POSIX_SPAWN_SETSIGDEF;
  posix_spawnattr_setflags(&attributes, flags);
  char* const arguments[] = {const_cast<char*>("sh"), const_cast<char*>("-c"), const_cast<char*>(command), nullptr};
  int r = posix_spawn(pid, "/bin/sh", files, &attributes, arguments, environ);
  posix_spawnattr_destroy(&attributes);
  return r;
}

}  // namespace

int system(const char* command) {
  if (!command || !cooperative()) return real.system(command);
  systems.begin();
  std::uint64_t block = 1ULL << (SIGCHLD - 1), old;
  sys::call(SYS_rt_sigprocmask, SIG_BLOCK, &block, &old, 8);
  sigset_t mask, reset;
  sigemptyset(&mask);
  memcpy(&mask, &old, sizeof old);
  sigemptyset(&reset);
  if (systems.interrupt.sa_handler != SIG_IGN) sigaddset(&reset, SIGINT);
  if (systems.quit.sa_handler != SIG_IGN) sigaddset(&reset, SIGQUIT);
  pid_t pid;
  int status = 127 << 8;  // no shell: as if it had said exit 127
  if (start_shell(command, nullptr, &mask, &reset, &pid) == 0) {
    pid_t r;
    do r = posix::wait4(pid, &status, 0, nullptr);
    while (r < 0 && errno == EINTR);
    if (r < 0) {
      int error = errno;
      if (error == ECANCELED) {
        // As when system(3) is cancelled: the shell is not left behind.
        sys::call(SYS_kill, pid, SIGKILL);
        sys::call(SYS_wait4, pid, 0, 0, 0);
      }
      errno = error;
      status = -1;
    }
  }
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &old, 0, 8);
  systems.end();
  return status;
}

namespace {

// The streams that popen() below has opened.
struct piped_stream {
  FILE* stream;
  pid_t pid;
  piped_stream* next;
};
struct piped_streams {
  core::futex_lock lock;
  piped_stream* first = nullptr;
};
constinit piped_streams piped;

}  // namespace

// Always ours, so that pclose() knows the child whenever it is called.
FILE* popen(const char* command, const char* mode) {
  bool reads = false, writes = false, cloexec = false;
  for (const char* m = mode; *m; m++) {
    if (*m == 'r') reads = true;
    else if (*m == 'w') writes = true;
    else if (*m == 'e') cloexec = true;
    else reads = writes = true;
  }
  if (reads == writes) {
    errno = EINVAL;
    return nullptr;
  }
  piped_stream* p = static_cast<piped_stream*>(malloc(sizeof *p));
  if (!p) return nullptr;
  int ends[2];
  if (long r = sys::call(SYS_pipe2, ends, O_CLOEXEC); r < 0) {
    free(p);
    errno = int(-r);
    return nullptr;
  }
  int ours = reads ? ends[0] : ends[1], theirs = reads ? ends[1] : ends[0], target = reads ? 1 : 0;
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, theirs, target);
  {
    // POSIX: the child does not get the streams of earlier popen() calls.
    core::futex_guard guard(piped.lock);
    for (piped_stream* q = piped.first; q; q = q->next) {
      int fd = fileno(q->stream);
      if (fd >= 0 && fd != target) posix_spawn_file_actions_addclose(&files, fd);
    }
  }
  int error = start_shell(command, &files, nullptr, nullptr, &p->pid);
  posix_spawn_file_actions_destroy(&files);
  sys::close(theirs);
  if (error == 0) {
    p->stream = fdopen(ours, reads ? "r" : "w");
    if (!p->stream) error = errno;
  }
  if (error) {
    sys::close(ours);
    free(p);
    errno = error;
    return nullptr;
  }
  if (!cloexec) sys::call(SYS_fcntl, ours, F_SETFD, 0);
  core::futex_guard guard(piped.lock);
  p->next = piped.first;
  piped.first = p;
  return p->stream;
}

int pclose(FILE* f) {
  piped_stream* mine = nullptr;
  {
    core::futex_guard guard(piped.lock);
    for (piped_stream** q = &piped.first; *q; q = &(*q)->next) {
      if ((*q)->stream != f) continue;
      mine = *q;
      *q = mine->next;
      break;
    }
  }
  if (!mine) return real.pclose(f);  // opened before the shim was there
  pid_t pid = mine->pid;
  free(mine);
  posix::fclose(f);
  int status;
  pid_t r;
  do r = posix::waitpid(pid, &status, 0);
  while (r < 0 && errno == EINTR);
  return r < 0 ? -1 : status;
}

}  // namespace tendril::posix
