// A substitute for libfaketime: the program's time is an hour later, and the deadlines of its waits
// are translated.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <semaphore.h>
#include <time.h>

enum { later = 3600 };

int clock_gettime(clockid_t clock, struct timespec* t) {
  int (*next)(clockid_t, struct timespec*) =
      (int (*)(clockid_t, struct timespec*))dlsym(RTLD_NEXT, "clock_gettime");
  int r = next(clock, t);
  if (r == 0) t->tv_sec += later;
  return r;
}

int sem_timedwait(sem_t* s, const struct timespec* until) {
  int (*next)(sem_t*, const struct timespec*) =
      (int (*)(sem_t*, const struct timespec*))dlsym(RTLD_NEXT, "sem_timedwait");
  struct timespec real = {until->tv_sec - later, until->tv_nsec};
  return next(s, &real);
}
