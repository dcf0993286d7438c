// What the programs here are made of: a case makes a call and prints one line, "sentence: result ERRNO". The lines
// must be the same natively and under the shim (see compare), so they hold no numbers that a run makes up.
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

// Somewhere that is not mapped, in a way that the compiler does not see.
static void* volatile nowhere = (void*)64;
#define NOWHERE nowhere

static inline void say(const char* sentence, long result, int error) {
  if (result == -1) printf("%s: -1 %s\n", sentence, strerrorname_np(error));
  else if (error) printf("%s: %ld, and errno became %s\n", sentence, result, strerrorname_np(error));
  else printf("%s: %ld\n", sentence, result);
  fflush(stdout);
}

// Makes the call and says what it returned. A call that succeeds leaves errno alone.
#define SAY(sentence, call)   \
  do {                        \
    errno = 0;                \
    long result_ = (call);    \
    say(sentence, result_, errno); \
  } while (0)

// Makes a call that the case needs, and that has to work.
#define MUST(call)                                              \
  ({                                                            \
    long result_ = (call);                                      \
    if (result_ == -1) {                                        \
      printf("line %d: %s: %s\n", __LINE__, #call, strerror(errno)); \
      exit(99);                                                 \
    }                                                           \
    result_;                                                    \
  })

// Whether all threads of a process sleep, but perhaps one of them; whoever does something for another has done it.
static inline int all_sleep(pid_t who, pid_t but) {
  char path[320];
  snprintf(path, sizeof path, "/proc/%d/task", (int)who);
  DIR* tasks = opendir(path);
  int all = tasks != NULL;
  for (struct dirent* e; all && (e = readdir(tasks));) {
    if (e->d_name[0] == '.' || atoi(e->d_name) == but) continue;
    char text[512];
    snprintf(path, sizeof path, "/proc/%d/task/%s/stat", (int)who, e->d_name);
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    text[n > 0 ? n : 0] = 0;
    const char* name_ends = strrchr(text, ')');
    all = !name_ends || name_ends[2] == 'S';
  }
  if (tasks) closedir(tasks);
  return all;
}

// Whether the process sleeps: its first thread has not run since the last look, and all do.
static inline int sleeps(pid_t who, unsigned long* runs) {
  char path[64], text[8192];
  snprintf(path, sizeof path, "/proc/%d/status", (int)who);
  int fd = open(path, O_RDONLY);
  if (fd < 0) return -1;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return -1;
  text[n] = 0;
  const char* state = strstr(text, "State:");
  const char* voluntary = strstr(text, "\nvoluntary_ctxt_switches:");
  const char* forced = strstr(text, "nonvoluntary_ctxt_switches:");
  if (!state || !voluntary || !forced) return -1;
  unsigned long now = strtoul(voluntary + 25, NULL, 10) + strtoul(forced + 27, NULL, 10);
  int same = now == *runs;
  *runs = now;
  return state[7] == 'S' && same && all_sleep(who, 0);
}

static inline void await_blocked_pid(pid_t who) {
  unsigned long runs = 0;
  for (int looks = 0; looks < 30;) {
    int s = sleeps(who, &runs);
    if (s < 0) _exit(98);
    looks = s ? looks + 1 : 0;
    sched_yield();
  }
}

// A child process that does something when the parent is blocked:
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
static inline void peer_ends(void) {
  int status;
  while (waitpid(peer_pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (status) printf("the peer ended with status %x\n", status);
}

// Counting signal handlers.
static _Atomic long handled;  // by several threads at once, too
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

// A call that is blocked when a handler without SA_RESTART runs, and one with, for which `rescue` then makes an end
// of the wait.
#define SAY_INTERRUPTED(what, call, rescue)                                      \
  do {                                                                           \
    on_signal(SIGUSR1, 0);                                                       \
    take_handled();                                                              \
    if (peer()) {                                                                \
      await_blocked();                                                           \
      kill(getppid(), SIGUSR1);                                                  \
      leave();                                                                   \
    }                                                                            \
    SAY(what " is ended by a handler", call);                                    \
    SAY("  which ran", take_handled());                                          \
    peer_ends();                                                                 \
    on_signal(SIGUSR1, SA_RESTART);                                              \
    if (peer()) {                                                                \
      await_blocked();                                                           \
      kill(getppid(), SIGUSR1);                                                  \
      await_blocked();                                                           \
      rescue;                                                                    \
      leave();                                                                   \
    }                                                                            \
    SAY(what " and SA_RESTART", call);                                           \
    SAY("  which ran", take_handled());                                          \
    peer_ends();                                                                 \
  } while (0)

// Keeps a hang from lasting: the test would fail anyway.
__attribute__((constructor)) static void limit(void) { alarm(60); }

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
// Reads to the end, or `most` bytes, by `piece`; how many bytes came in their order, or -2.
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
