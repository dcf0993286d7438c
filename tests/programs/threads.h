// What the programs with threads have in common, in addition to cases.h.
#pragma once

#include "cases.h"
#include "thread_kind.h"

#include <pthread.h>

// POSIX threads' functions return their error.
static inline void say_error(const char* sentence, int error) {
  printf("%s: %s\n", sentence, error == 0 ? "0" : error < 0 ? "SERIAL" : strerrorname_np(error));
  fflush(stdout);
}
#define ERR(sentence, call)      \
  do {                           \
    int error_ = (call);         \
    say_error(sentence, error_); \
  } while (0)

// A thread whose beginning and blocking others can observe.
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
static inline void start_with(struct worker* w, const pthread_attr_t* attributes,
                              void* (*run)(void*), void* argument) {
  w->tid = 0;
  w->run = run;
  w->argument = argument;
  int e = pthread_create(&w->id, attributes, worker_begins, w);
  if (e) printf("pthread_create: %s\n", strerrorname_np(e)), exit(97);
}
static inline void start(struct worker* w, void* (*run)(void*), void* argument) {
  start_with(w, NULL, run, argument);
}
static inline void* end_of(struct worker* w) {
  void* result = NULL;
  int e = pthread_join(w->id, &result);
  if (e) printf("pthread_join: %s\n", strerrorname_np(e)), exit(96);
  return result;
}

// Waits until the thread waits: its kernel thread sleeps; or, if it is a fiber, it ran when others
// yielded, until it waited. A helper that works for it may be another kernel thread.
static inline void await_waiting(struct worker* w) {
  struct looks l = {0, 0};
  unsigned long place;
  while (!__atomic_load_n(&w->tid, __ATOMIC_ACQUIRE)) sched_yield();
  do {
    char task[16];
    snprintf(task, sizeof task, "%d", (int)w->tid);
    place = sleeps_in(getpid(), task);
    if (place == no_task) place = others_sleep_in();
  } while (!seen_waiting(&l, place));
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

// `f` is for SIGEV_THREAD, `tid` for SIGEV_THREAD_ID; otherwise they are null and 0.
static inline timer_t make_timer(clockid_t clock, int notify, int signal, int v,
                                 void (*f)(union sigval), pid_t tid) {
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
