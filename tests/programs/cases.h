// The building blocks of the programs here: a case makes a call and prints one line, "sentence:
// result ERRNO". The lines must be the same natively and under the shim (see compare), so they
// contain no numbers that vary between runs.
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// An unmapped address, hidden from the compiler.
static void* volatile nowhere = (void*)64;
#define NOWHERE nowhere

// The size of the kernel's signal sets, for syscall(). It is a size_t because syscall()'s sixth
// argument lies on the stack, where the upper half of an int is undefined.
#define KERNEL_SET ((size_t)8)

static inline void say(const char* sentence, long result, int error) {
  if (result == -1) printf("%s: -1 %s\n", sentence, strerrorname_np(error));
  else if (error)
    printf("%s: %ld, and errno became %s\n", sentence, result, strerrorname_np(error));
  else printf("%s: %ld\n", sentence, result);
  fflush(stdout);
}

// Makes the call and prints its result. A call that succeeds must not change errno.
#define SAY(sentence, call)        \
  do {                             \
    errno = 0;                     \
    long result_ = (call);         \
    say(sentence, result_, errno); \
  } while (0)

// Makes a call that the case needs and that must succeed.
#define MUST(call)                                                   \
  ({                                                                 \
    long result_ = (call);                                           \
    if (result_ == -1) {                                             \
      printf("line %d: %s: %s\n", __LINE__, #call, strerror(errno)); \
      exit(99);                                                      \
    }                                                                \
    result_;                                                         \
  })

// --- which threads wait ---

// A number that identifies the system call that a kernel thread sleeps in, from the call's number,
// the caller's stack and its code. It stays the same while the thread sleeps, also if it is woken
// and sleeps again in the same loop. 0 while the thread runs or is runnable; `no_task` if there is
// no such thread or it has ended.
#define no_task (~0UL)
static inline unsigned long sleeps_in(pid_t who, const char* task) {
  char path[320], text[512];
  snprintf(path, sizeof path, "/proc/%d/task/%s/stat", (int)who, task);
  int fd = open(path, O_RDONLY);
  ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  text[n > 0 ? n : 0] = 0;
  const char* name_ends = strrchr(text, ')');
  if (!name_ends || strchr("ZXx", name_ends[2])) return no_task;
  if (name_ends[2] != 'S') return 0;

  snprintf(path, sizeof path, "/proc/%d/task/%s/syscall", (int)who, task);
  fd = open(path, O_RDONLY);
  n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  // Where it cannot be read (that requires the right to trace), all sleeps count as the same.
  if (n <= 0) return 1;
  text[n] = 0;
  unsigned long stack = 0, code = 0;
  long call = strtol(text, NULL, 10);
  const char* last = strrchr(text, ' ');
  if (!last || call < 0) return 0;  // "running", or a page fault
  code = strtoul(last, NULL, 16);
  while (last > text && *--last != ' ') {}
  stack = strtoul(last, NULL, 16);
  unsigned long mixed =
      ((unsigned long)call * 0x9e3779b97f4a7c15 ^ stack) * 0x9e3779b97f4a7c15 ^ code;
  return mixed + (mixed == 0) - (mixed == no_task);
}
// The same for all kernel threads of a process except one, combined; 0 while any of them runs or is
// runnable. When all of them sleep, a thread that works for another has finished. `no_task`: the
// process has ended.
static inline unsigned long all_sleep_in(pid_t who, pid_t but) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/task", (int)who);
  DIR* tasks = opendir(path);
  if (!tasks) return no_task;
  unsigned long sum = 2, one = 1;
  int living = 0;
  for (struct dirent* e; one && (e = readdir(tasks));) {
    if (e->d_name[0] == '.') continue;
    if (atoi(e->d_name) == but) {
      living++;
      continue;
    }
    one = sleeps_in(who, e->d_name);
    if (one == no_task) continue;
    living++;
    sum += one * (2 * (unsigned long)atoi(e->d_name) + 1);
  }
  closedir(tasks);
  if (!one) return 0;
  return living ? sum + (sum == 0) - (sum == no_task) : no_task;
}

// A thread counts as waiting when it is asleep in the same place for several looks, even if it
// wakes in between. (A lock that the C library or the shim holds for a moment is another place.)
// Between the looks all other threads can run, both kernel threads and those that share one.
struct looks {
  unsigned long place;
  int same;
};
static inline int seen_waiting(struct looks* l, unsigned long place) {
  const struct timespec moment = {0, 100000};
  if (place) l->same = place == l->place ? l->same + 1 : 1, l->place = place;
  if (l->same == 5) return 1;
  nanosleep(&moment, NULL);
  return 0;
}
static inline void await_blocked_pid(pid_t who) {
  struct looks l = {0, 0};
  unsigned long place;
  do {
    place = all_sleep_in(who, 0);
    if (place == no_task) _exit(98);
  } while (!seen_waiting(&l, place));
}

// Where all kernel threads sleep except the one that runs this.
static inline unsigned long others_sleep_in(void) {
  char mine[64] = "";
  ssize_t n = readlink("/proc/thread-self", mine, sizeof mine - 1);  // PID/task/TID
  mine[n > 0 ? n : 0] = 0;
  const char* last = strrchr(mine, '/');
  return all_sleep_in(getpid(), last ? atoi(last + 1) : gettid());
}
// Waits until all other threads wait or have ended. Threads that are fibers run when others yield.
static inline void await_all_waiting(void) {
  struct looks l = {0, 0};
  while (!seen_waiting(&l, others_sleep_in())) {}
}

// A child process that acts when the parent is blocked:
//   if (peer()) { await_blocked(); ...; leave(); }
//   SAY("...", ...);
//   peer_ends();
static pid_t peer_pid;
static inline int peer(void) {
  fflush(stdout);
  peer_pid = MUST(fork());
  return peer_pid == 0;
}
static inline void await_blocked(void) { await_blocked_pid(getppid()); }
static inline void leave(void) { _exit(0); }
// Makes a pipe with that end in a peer, until the parent is blocked, and the other in the parent.
static inline void pipe_to_peer(int p[2], int end) {
  MUST(pipe(p));
  if (peer()) {
    close(p[!end]);
    await_blocked();
    leave();
  }
  close(p[end]);
}
static inline void peer_ends(void) {
  int status = -1;
  while (waitpid(peer_pid, &status, 0) < 0 && errno == EINTR) {}
  if (status) printf("the peer ended with status %x\n", status);
}

// Counting signal handlers.
static _Atomic long handled;  // incremented by several threads at once
static inline void count_signal(int signal) {
  (void)signal;
  handled++;
}
static inline void on_signal(int signal, int flags) {
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_handler = count_signal;
  a.sa_flags = flags;
  MUST(sigaction(signal, &a, NULL));
}
static inline long take_handled(void) {
  long h = handled;
  handled = 0;
  return h;
}

// A call that is blocked when a handler without SA_RESTART runs, then one with SA_RESTART, whose
// wait `rescue` ends.
#define SAY_INTERRUPTED(what, call, rescue)   \
  do {                                        \
    on_signal(SIGUSR1, 0);                    \
    take_handled();                           \
    if (peer()) {                             \
      await_blocked();                        \
      kill(getppid(), SIGUSR1);               \
      leave();                                \
    }                                         \
    SAY(what " is ended by a handler", call); \
    SAY("  which ran", take_handled());       \
    peer_ends();                              \
    on_signal(SIGUSR1, SA_RESTART);           \
    if (peer()) {                             \
      await_blocked();                        \
      kill(getppid(), SIGUSR1);               \
      await_blocked();                        \
      rescue;                                 \
      leave();                                \
    }                                         \
    SAY(what " and SA_RESTART", call);        \
    SAY("  which ran", take_handled());       \
    peer_ends();                              \
  } while (0)

// Ends a program that hangs; the test would fail anyway. `PATIENCE` is the number of seconds
// (tests/meson.build). Call it again after a program has used the only alarm for something else.
__attribute__((constructor)) static void limit(void) {
  const char* patience = getenv("PATIENCE");
  signal(SIGALRM, SIG_DFL);
  alarm(patience ? (unsigned)atoi(patience) : 300);
}

// Checks the rest of a time, in seconds: it is not the whole time, and not less than the part that
// has not passed. (A tick of a coarse clock may lie between.)
static inline double seconds_on(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}
static inline long may_be_left(double left, double whole, double since) {
  return left < whole && left >= whole - (seconds_on(CLOCK_MONOTONIC) - since) - 0.01;
}

static inline void set_nonblocking(int fd, int on) {
  int flags = MUST(fcntl(fd, F_GETFL));
  MUST(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}
static inline long is_nonblocking(int fd) { return !!(MUST(fcntl(fd, F_GETFL)) & O_NONBLOCK); }

// Bytes whose order can be checked.
static inline unsigned char pattern(size_t i) { return (unsigned char)(i * 7 + i / 251); }
static inline void fill(unsigned char* p, size_t n, size_t from) {
  for (size_t i = 0; i < n; i++) p[i] = pattern(from + i);
}
// Reads to the end, or `most` bytes, in reads of `piece` bytes. Returns the number of bytes, or -2
// if they were not in order.
static inline long drain(int fd, size_t most, size_t piece) {
  static unsigned char buf[1 << 20];
  size_t got = 0;
  if (piece > sizeof buf) piece = sizeof buf;
  while (got < most) {
    ssize_t n = read(fd, buf, most - got < piece ? most - got : piece);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -1;
    if (n == 0) break;
    for (ssize_t i = 0; i < n; i++) {
      if (buf[i] != pattern(got + (size_t)i)) return -2;
    }
    got += (size_t)n;
  }
  return (long)got;
}
