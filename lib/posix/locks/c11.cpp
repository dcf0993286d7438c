// <threads.h>: C11's names and results for POSIX threads. The objects are the same; thrd_current,
// thrd_equal, mtx_init, cnd_init and tss_* remain the C library's.
#include <errno.h>

#include <cstdint>
#include <tendril/pthread.hpp>

namespace tendril::posix {

namespace {

int as_c11(int error) noexcept {
  switch (error) {
    case 0:
      return thrd_success;
    case ENOMEM:
      return thrd_nomem;
    case ETIMEDOUT:
      return thrd_timedout;
    case EBUSY:
      return thrd_busy;
    default:
      return thrd_error;
  }
}

pthread_mutex_t* mutex(mtx_t* m) noexcept { return reinterpret_cast<pthread_mutex_t*>(m); }
pthread_cond_t* condition(cnd_t* c) noexcept { return reinterpret_cast<pthread_cond_t*>(c); }

}  // namespace

int thrd_create(thrd_t* id, thrd_start_t start, void* argument, const void* caller) {
  // The routine's result is read as an int again by thrd_join().
  auto as_pthreads = reinterpret_cast<void* (*)(void*)>(reinterpret_cast<void*>(start));
  int r = posix::pthread_create(id, nullptr, as_pthreads, argument, caller);
  return as_c11(r);
}

int thrd_join(thrd_t id, int* result) {
  void* value = nullptr;
  int r = posix::pthread_join(id, &value);
  if (r == 0 && result) *result = int(reinterpret_cast<std::intptr_t>(value));
  return as_c11(r);
}

int thrd_detach(thrd_t id) { return as_c11(posix::pthread_detach(id)); }
void thrd_exit(int result) { posix::pthread_exit(reinterpret_cast<void*>(std::intptr_t(result))); }
void thrd_yield() { posix::sched_yield(); }

int mtx_lock(mtx_t* m) { return as_c11(posix::pthread_mutex_lock(mutex(m))); }
int mtx_timedlock(mtx_t* m, const timespec* until) {
  return as_c11(posix::pthread_mutex_timedlock(mutex(m), until));
}
int mtx_trylock(mtx_t* m) { return as_c11(posix::pthread_mutex_trylock(mutex(m))); }
int mtx_unlock(mtx_t* m) { return as_c11(posix::pthread_mutex_unlock(mutex(m))); }
void mtx_destroy(mtx_t* m) { posix::pthread_mutex_destroy(mutex(m)); }

int cnd_wait(cnd_t* c, mtx_t* m) {
  return as_c11(posix::pthread_cond_wait(condition(c), mutex(m)));
}
int cnd_timedwait(cnd_t* c, mtx_t* m, const timespec* until) {
  return as_c11(posix::pthread_cond_timedwait(condition(c), mutex(m), until));
}
int cnd_signal(cnd_t* c) { return as_c11(posix::pthread_cond_signal(condition(c))); }
int cnd_broadcast(cnd_t* c) { return as_c11(posix::pthread_cond_broadcast(condition(c))); }
void cnd_destroy(cnd_t* c) { posix::pthread_cond_destroy(condition(c)); }

}  // namespace tendril::posix
