// The pthread functions that the shim interposes. Each behaves as its man page says. Once
// threads_become_fibers() was called (the shim calls it), threads are fibers: of the main kernel
// thread, and with TENDRIL_CORES of others as well. Before that, the functions are the C library's.
//
// Such a thread has its own thread-local storage, stack, errno, cancellation and keys, as any
// thread has. It runs until it waits, or until it is preempted. Other kernel threads (helper
// threads, those of libraries that need them) may use the same locks.
#pragma once

#include "detail/cxx20.hpp"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <threads.h>
#include <time.h>

#include "detail/export.hpp"

namespace tendril::posix {

// Makes pthread_create create fibers from now on, if Tendril knows the layout of this C library's
// threads. If it does not, the first pthread_create says so in one line (see detail/explain.hpp).
// Must be called before there are threads.
TENDRIL_API void threads_become_fibers() noexcept;
// Why threads of this C library cannot be made as fibers, in words; null if they can. The first
// call must be on the main thread.
TENDRIL_API const char* threads_obstacle() noexcept;
// Runs the program's main() and exits with its result. pthread_exit() in it ends the main thread
// and leaves the others running.
[[noreturn]] TENDRIL_API void run_main(int (*main)(int, char**, char**), int argc, char** argv,
                                       char** envp) noexcept;

// --- pthread_create(3), pthread_join(3), pthread_detach(3), pthread_exit(3), pthread_cancel(3) ---
// `caller` is an address in the module that calls. A module that makes futex system calls itself
// (libgomp, Go) gets a kernel thread, since Tendril cannot see what such a thread waits for. A call
// from a kernel thread also creates a kernel thread.
TENDRIL_API int pthread_create(pthread_t* id, const pthread_attr_t* attributes,
                               void* (*start)(void*), void* argument, const void* caller = nullptr);
TENDRIL_API int pthread_join(pthread_t id, void** result);
TENDRIL_API int pthread_tryjoin_np(pthread_t id, void** result);
TENDRIL_API int pthread_timedjoin_np(pthread_t id, void** result, const timespec* until);
TENDRIL_API int pthread_clockjoin_np(pthread_t id, void** result, clockid_t clock,
                                     const timespec* until);
TENDRIL_API int pthread_detach(pthread_t id);
[[noreturn]] TENDRIL_API void pthread_exit(void* result);
TENDRIL_API int pthread_cancel(pthread_t id);

// --- pthread_mutex_lock(3) ---
// The owner is a thread, or a fiber that shares its thread with others. A process-shared mutex that
// inherits priorities stays the C library's; a fiber waits for it by trying repeatedly.
TENDRIL_API int pthread_mutex_lock(pthread_mutex_t* m);
TENDRIL_API int pthread_mutex_trylock(pthread_mutex_t* m);
TENDRIL_API int pthread_mutex_timedlock(pthread_mutex_t* m, const timespec* until);
TENDRIL_API int pthread_mutex_clocklock(pthread_mutex_t* m, clockid_t clock, const timespec* until);
TENDRIL_API int pthread_mutex_unlock(pthread_mutex_t* m);
TENDRIL_API int pthread_mutex_destroy(pthread_mutex_t* m);
// PTHREAD_PRIO_INHERIT and PTHREAD_PRIO_PROTECT are accepted and change no priority.
TENDRIL_API int pthread_mutex_init(pthread_mutex_t* m, const pthread_mutexattr_t* a);
TENDRIL_API int pthread_mutex_setprioceiling(pthread_mutex_t* m, int ceiling, int* old);

// --- pthread_cond_wait(3) ---
// Waiters are woken in the order of their arrival.
TENDRIL_API int pthread_cond_wait(pthread_cond_t* c, pthread_mutex_t* m);
TENDRIL_API int pthread_cond_timedwait(pthread_cond_t* c, pthread_mutex_t* m,
                                       const timespec* until);
TENDRIL_API int pthread_cond_clockwait(pthread_cond_t* c, pthread_mutex_t* m, clockid_t clock,
                                       const timespec* until);
TENDRIL_API int pthread_cond_signal(pthread_cond_t* c);
TENDRIL_API int pthread_cond_broadcast(pthread_cond_t* c);
TENDRIL_API int pthread_cond_destroy(pthread_cond_t* c);

// --- sem_wait(3) ---
TENDRIL_API int sem_wait(sem_t* s);
TENDRIL_API int sem_timedwait(sem_t* s, const timespec* until);
TENDRIL_API int sem_clockwait(sem_t* s, clockid_t clock, const timespec* until);
TENDRIL_API int sem_post(sem_t* s);

// --- pthread_rwlock_rdlock(3), pthread_barrier_wait(3), pthread_spin_lock(3) ---
// Process-shared rwlocks have the C library's format; a fiber waits for them in the kernel, on a
// helper thread.
TENDRIL_API int pthread_rwlock_rdlock(pthread_rwlock_t* l);
TENDRIL_API int pthread_rwlock_wrlock(pthread_rwlock_t* l);
TENDRIL_API int pthread_rwlock_tryrdlock(pthread_rwlock_t* l);
TENDRIL_API int pthread_rwlock_trywrlock(pthread_rwlock_t* l);
TENDRIL_API int pthread_rwlock_timedrdlock(pthread_rwlock_t* l, const timespec* until);
TENDRIL_API int pthread_rwlock_timedwrlock(pthread_rwlock_t* l, const timespec* until);
TENDRIL_API int pthread_rwlock_clockrdlock(pthread_rwlock_t* l, clockid_t clock,
                                           const timespec* until);
TENDRIL_API int pthread_rwlock_clockwrlock(pthread_rwlock_t* l, clockid_t clock,
                                           const timespec* until);
TENDRIL_API int pthread_rwlock_unlock(pthread_rwlock_t* l);
TENDRIL_API int pthread_barrier_wait(pthread_barrier_t* b);
TENDRIL_API int pthread_barrier_destroy(pthread_barrier_t* b);
TENDRIL_API int pthread_spin_lock(pthread_spinlock_t* l);
TENDRIL_API int pthread_spin_trylock(pthread_spinlock_t* l);

// --- pthread_getcpuclockid(3), clock_gettime(2), getrusage(2) ---
// Each thread has its own CPU clock. It is exact from the first call that asks for one; before
// that, time is charged to the thread that runs at each tick.
TENDRIL_API int pthread_getcpuclockid(pthread_t id, clockid_t* clock);
TENDRIL_API int clock_gettime(clockid_t clock, timespec* t);
TENDRIL_API int clock_getres(clockid_t clock, timespec* t);
TENDRIL_API int clock_settime(clockid_t clock, const timespec* t);
TENDRIL_API int getrusage(int who, rusage* usage);

// --- pthread_getattr_np(3), pthread_setname_np(3), sched_setaffinity(2), sched_setscheduler(2), and
// prctl(2) for the name ---
// The values are kept per thread, since threads share a kernel thread. A value that the kernel
// would refuse is refused.
TENDRIL_API int pthread_getattr_np(pthread_t id, pthread_attr_t* a);
TENDRIL_API int pthread_setname_np(pthread_t id, const char* name);
TENDRIL_API int pthread_getname_np(pthread_t id, char* name, size_t n);
TENDRIL_API int pthread_setschedparam(pthread_t id, int policy, const struct sched_param* p);
TENDRIL_API int pthread_getschedparam(pthread_t id, int* policy, struct sched_param* p);
TENDRIL_API int pthread_setschedprio(pthread_t id, int priority);
TENDRIL_API int pthread_setaffinity_np(pthread_t id, size_t n, const cpu_set_t* set);
TENDRIL_API int pthread_getaffinity_np(pthread_t id, size_t n, cpu_set_t* set);
TENDRIL_API int sched_setaffinity(pid_t tid, size_t n, const cpu_set_t* set);
TENDRIL_API int sched_getaffinity(pid_t tid, size_t n, cpu_set_t* set);
TENDRIL_API int sched_setscheduler(pid_t tid, int policy, const struct sched_param* p);
TENDRIL_API int sched_getscheduler(pid_t tid);
TENDRIL_API int sched_setparam(pid_t tid, const struct sched_param* p);
TENDRIL_API int sched_getparam(pid_t tid, struct sched_param* p);
TENDRIL_API int sched_rr_get_interval(pid_t tid, timespec* interval);
TENDRIL_API int prctl(int what, unsigned long a, unsigned long b, unsigned long c, unsigned long d);

// --- pthread_once(3), sched_yield(2), pkey_alloc(2) ---
TENDRIL_API int pthread_once(pthread_once_t* control, void (*routine)());
TENDRIL_API int sched_yield();
TENDRIL_API int pkey_alloc(unsigned flags, unsigned rights);

// --- <threads.h> ---
// `caller` as in pthread_create.
TENDRIL_API int thrd_create(thrd_t* id, thrd_start_t start, void* argument,
                            const void* caller = nullptr);
TENDRIL_API int thrd_join(thrd_t id, int* result);
TENDRIL_API int thrd_detach(thrd_t id);
[[noreturn]] TENDRIL_API void thrd_exit(int result);
TENDRIL_API void thrd_yield();
TENDRIL_API int mtx_lock(mtx_t* m);
TENDRIL_API int mtx_timedlock(mtx_t* m, const timespec* until);
TENDRIL_API int mtx_trylock(mtx_t* m);
TENDRIL_API int mtx_unlock(mtx_t* m);
TENDRIL_API void mtx_destroy(mtx_t* m);
TENDRIL_API int cnd_wait(cnd_t* c, mtx_t* m);
TENDRIL_API int cnd_timedwait(cnd_t* c, mtx_t* m, const timespec* until);
TENDRIL_API int cnd_signal(cnd_t* c);
TENDRIL_API int cnd_broadcast(cnd_t* c);
TENDRIL_API void cnd_destroy(cnd_t* c);
TENDRIL_API void call_once(once_flag* flag, void (*routine)());

// --- syscall(2): futexes and calls that may wait; gettid(2): a distinct number for each thread ---
TENDRIL_API long syscall(long number, long a, long b, long c, long d, long e, long f);
TENDRIL_API pid_t gettid();

}  // namespace tendril::posix
