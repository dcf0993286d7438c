// What the programs with threads have in common, beside cases.h.
#pragma once

#include "cases.h"

#include <pthread.h>

// POSIX threads' functions return their error.
static inline void say_error(const char* sentence, int error) {
  printf("%s: %s\n", sentence, error == 0 ? "0" : error < 0 ? "SERIAL" : strerrorname_np(error));
  fflush(stdout);
}
#define ERR(sentence, call)          \
  do {                               \
    int error_ = (call);             \
    say_error(sentence, error_);     \
  } while (0)

// A thread which others can see begin and block.
struct worker {
  pthread_t id;
  volatile pid_t tid;
  void* (*run)(void*);
  void* argument;
};

static inline void* worker_begins(void* p) {
  struct worker* w = p;
  void* (*run)(void*) = w->run;
  void* argument = w->argument;
  __atomic_store_n(&w->tid, gettid(), __ATOMIC_RELEASE);
  return run(argument);
}
static inline void start_with(struct worker* w, const pthread_attr_t* attributes, void* (*run)(void*), void* argument) {
  w->tid = 0;
  w->run = run;
  w->argument = argument;
  int e = pthread_create(&w->id, attributes, worker_begins, w);
  if (e) printf("pthread_create: %s\n", strerrorname_np(e)), exit(97);
}
static inline void start(struct worker* w, void* (*run)(void*), void* argument) { start_with(w, NULL, run, argument); }
static inline void* end_of(struct worker* w) {
  void* result = NULL;
  int e = pthread_join(w->id, &result);
  if (e) printf("pthread_join: %s\n", strerrorname_np(e)), exit(96);
  return result;
}

// Whether a kernel thread sleeps, and how often it has gone to sleep by itself; -1: there is none.
static inline int is_asleep(const char* task, unsigned long* often) {
  char path[300], text[4096];
  snprintf(path, sizeof path, "/proc/self/task/%s/status", task);
  int fd = open(path, O_RDONLY);
  if (fd < 0) return -1;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  text[n > 0 ? n : 0] = 0;
  const char* state = strstr(text, "State:");
  const char* voluntary = strstr(text, "\nvoluntary_ctxt_switches:");
  *often = voluntary ? strtoul(voluntary + 25, NULL, 10) : 0;
  return state && state[7] == 'S';
}
// Whether all kernel threads sleep but the one that runs this. (A thread that is none of the kernel's runs on the first.)
static inline int others_sleep(void) {
  char mine[32];
  snprintf(mine, sizeof mine, "/proc/self/task/%d", (int)gettid());
  pid_t self = access(mine, F_OK) == 0 ? gettid() : getpid();
  return all_sleep(getpid(), self);
}
// Waits until all other threads wait, or have ended: their kernel threads sleep, and did so for some looks; those that are
// none of the kernel's run when others let them.
static inline void await_all_waiting(void) {
  for (int looks = 0; looks < 30;) {
    looks = others_sleep() ? looks + 1 : 0;
    sched_yield();
  }
}

// Waits until the thread waits: its kernel thread sleeps, and did so for some looks. One that is none of the kernel's
// runs when others let it, until it waits; who waits for it may be another kernel thread.
static inline void await_waiting(struct worker* w) {
  unsigned long runs = 0, now = 0;
  while (!__atomic_load_n(&w->tid, __ATOMIC_ACQUIRE)) sched_yield();
  for (int looks = 0; looks < 30;) {
    char task[16];
    snprintf(task, sizeof task, "%d", (int)w->tid);
    int s = is_asleep(task, &now);
    if (s < 0) {
      looks = others_sleep() ? looks + 1 : 0;
    } else {
      looks = s && now == runs ? looks + 1 : 0;
      runs = now;
    }
    sched_yield();
  }
}

// A time `ms` milliseconds from now.
static inline struct timespec in_ms(clockid_t clock, long ms) {
  struct timespec t;
  clock_gettime(clock, &t);
  t.tv_sec += ms / 1000;
  t.tv_nsec += ms % 1000 * 1000000;
  if (t.tv_nsec >= 1000000000) t.tv_nsec -= 1000000000, t.tv_sec++;
  return t;
}

// `f` for SIGEV_THREAD, `tid` for SIGEV_THREAD_ID; else null and 0.
static inline timer_t make_timer(clockid_t clock, int notify, int signal, int v, void (*f)(union sigval), pid_t tid) {
  struct sigevent e;
  timer_t t;
  memset(&e, 0, sizeof e);
  e.sigev_notify = notify;
  e.sigev_signo = signal;
  e.sigev_value.sival_int = v;
  if (f) e.sigev_notify_function = f;
  if (tid) e._sigev_un._tid = tid;
  MUST(timer_create(clock, &e, &t));
  return t;
}
