// The cooperative POSIX calls. Each behaves as its man page says (result, errno, partial transfers,
// flags, time-outs), except that the other fibers of the kernel thread run while it waits.
//
// Under the shim, the same functions are behind their libc names: read() and tendril::posix::read()
// are one function. On a kernel thread where no other fiber could run, a call is the C library's.
// So it is inside signal handlers, except those of threads that are fibers, which may have to wait
// for each other there.
//
// Common to all of them, beyond the man page:
//
// * Any kernel thread may call them. The fibers that run meanwhile are those of that kernel thread.
// * The descriptor's flags are never changed. If the program made it non-blocking, the result is
//   EAGAIN, as natively.
// * Closing a descriptor ends the waits for it with EBADF.
// * In a killed task, a call that would have to wait fails with ECANCELED. Nothing is thrown.
// * A signal handler ends a wait of its thread's own fiber (the main fiber, or a fiber that is a
//   thread) with EINTR, by the rules of SA_RESTART (signal(7)). Waits of other fibers go on, except
//   pause() and sigsuspend().
// * A call that does not wait may still yield from time to time, so that no fiber starves.
#pragma once

#include "detail/cxx20.hpp"

#include <aio.h>
#include <mqueue.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "detail/export.hpp"

namespace tendril::posix {

// --- read(2), write(2), readv(2) and their positioned and flagged forms ---
// A read waits for the first byte; for files, it waits for the disk on a helper thread. A write
// waits until all is written, or returns what was written before an error, a signal handler or
// SO_SNDTIMEO ended the wait. EPIPE comes with SIGPIPE.
TENDRIL_API ssize_t read(int fd, void* buf, size_t n);
TENDRIL_API ssize_t write(int fd, const void* buf, size_t n);
TENDRIL_API ssize_t readv(int fd, const iovec* v, int n);
TENDRIL_API ssize_t writev(int fd, const iovec* v, int n);
TENDRIL_API ssize_t pread(int fd, void* buf, size_t n, off_t at);
TENDRIL_API ssize_t pwrite(int fd, const void* buf, size_t n, off_t at);
TENDRIL_API ssize_t preadv(int fd, const iovec* v, int n, off_t at);
TENDRIL_API ssize_t pwritev(int fd, const iovec* v, int n, off_t at);
// With RWF_NOWAIT, they never wait.
TENDRIL_API ssize_t preadv2(int fd, const iovec* v, int n, off_t at, int flags);
TENDRIL_API ssize_t pwritev2(int fd, const iovec* v, int n, off_t at, int flags);
TENDRIL_API ssize_t getrandom(void* to, size_t n, unsigned flags);
TENDRIL_API int eventfd_read(int fd, eventfd_t* value);  // eventfd(3)
TENDRIL_API int eventfd_write(int fd, eventfd_t value);

// --- recv(2), send(2) ---
// SO_RCVTIMEO and SO_SNDTIMEO end a wait with EAGAIN. MSG_DONTWAIT never waits. MSG_WAITALL waits
// for the full length on a stream, also with MSG_PEEK.
TENDRIL_API ssize_t recv(int fd, void* buf, size_t n, int flags);
TENDRIL_API ssize_t recvfrom(int fd, void* buf, size_t n, int flags, sockaddr* from,
                             socklen_t* len);
TENDRIL_API ssize_t recvmsg(int fd, msghdr* m, int flags);
// The time-out is checked after each datagram, as in the kernel.
TENDRIL_API int recvmmsg(int fd, mmsghdr* m, unsigned n, int flags, timespec* timeout);
TENDRIL_API ssize_t send(int fd, const void* buf, size_t n, int flags);
TENDRIL_API ssize_t sendto(int fd, const void* buf, size_t n, int flags, const sockaddr* to,
                           socklen_t len);
TENDRIL_API ssize_t sendmsg(int fd, const msghdr* m, int flags);
TENDRIL_API int sendmmsg(int fd, mmsghdr* m, unsigned n, int flags);
// Never waits. It is here because SO_RCVLOWAT changes how long other calls wait.
TENDRIL_API int setsockopt(int fd, int level, int name, const void* value, socklen_t n);

// --- socket(2), connect(2), accept(2) ---
TENDRIL_API int socket(int domain, int type, int protocol);
// SO_SNDTIMEO ends the wait with EINPROGRESS. After EINTR or ECANCELED, the connection is
// established in the background.
TENDRIL_API int connect(int fd, const sockaddr* to, socklen_t len);
TENDRIL_API int accept(int fd, sockaddr* from, socklen_t* len);
TENDRIL_API int accept4(int fd, sockaddr* from, socklen_t* len, int flags);

// --- sendfile(2), splice(2), tee(2), vmsplice(2), copy_file_range(2) ---
TENDRIL_API ssize_t sendfile(int out, int in, off_t* at, size_t n);
TENDRIL_API ssize_t splice(int in, off64_t* in_at, int out, off64_t* out_at, size_t n,
                           unsigned flags);
TENDRIL_API ssize_t tee(int in, int out, size_t n, unsigned flags);
TENDRIL_API ssize_t vmsplice(int fd, const iovec* v, size_t n, unsigned flags);
TENDRIL_API ssize_t copy_file_range(int in, off64_t* in_at, int out, off64_t* out_at, size_t n,
                                    unsigned flags);

// --- poll(2), select(2), epoll_wait(2) ---
// A signal handler always ends these with EINTR. While ppoll(), pselect() or epoll_pwait() waits,
// its signal mask is the thread's, and so applies to the other fibers of that thread, too.
TENDRIL_API int poll(pollfd* fds, nfds_t n, int timeout_ms);
TENDRIL_API int ppoll(pollfd* fds, nfds_t n, const timespec* timeout, const sigset_t* mask);
TENDRIL_API int select(int n, fd_set* r, fd_set* w, fd_set* x, timeval* timeout);
TENDRIL_API int pselect(int n, fd_set* r, fd_set* w, fd_set* x, const timespec* timeout,
                        const sigset_t* mask);
TENDRIL_API int epoll_wait(int ep, epoll_event* e, int n, int timeout_ms);
TENDRIL_API int epoll_pwait(int ep, epoll_event* e, int n, int timeout_ms, const sigset_t* mask);
TENDRIL_API int epoll_pwait2(int ep, epoll_event* e, int n, const timespec* timeout,
                             const sigset_t* mask);

// --- sleep(3), nanosleep(2), clock_nanosleep(2), thrd_sleep(3) ---
// A signal handler ends these with EINTR (sleep() returns the seconds left). sleep(0) yields.
TENDRIL_API unsigned sleep(unsigned seconds);
TENDRIL_API int usleep(useconds_t us);
TENDRIL_API int nanosleep(const timespec* wanted, timespec* left);
TENDRIL_API int clock_nanosleep(clockid_t clock, int flags, const timespec* wanted, timespec* left);
TENDRIL_API int thrd_sleep(const timespec* wanted, timespec* left);

// --- getaddrinfo(3), getnameinfo(3), gethostbyname(3) ---
// The C library's own look-ups, on helper threads; look-ups of several fibers run at the same time.
TENDRIL_API int getaddrinfo(const char* node, const char* service, const addrinfo* hints,
                            addrinfo** found);
TENDRIL_API int getnameinfo(const sockaddr* a, socklen_t len, char* host, socklen_t host_len,
                            char* service, socklen_t service_len, int flags);
TENDRIL_API hostent* gethostbyname(const char* name);
TENDRIL_API hostent* gethostbyname2(const char* name, int family);
TENDRIL_API hostent* gethostbyaddr(const void* a, socklen_t len, int family);
TENDRIL_API int gethostbyname_r(const char* name, hostent* h, char* buf, size_t n, hostent** found,
                                int* error);
TENDRIL_API int gethostbyname2_r(const char* name, int family, hostent* h, char* buf, size_t n,
                                 hostent** found, int* error);
TENDRIL_API int gethostbyaddr_r(const void* a, socklen_t len, int family, hostent* h, char* buf,
                                size_t n, hostent** found, int* error);

// Fibers that wait for the descriptor, on any kernel thread, wake with EBADF.
// Fibers that wait for the descriptor wake with EBADF, on all kernel threads.
TENDRIL_API int close(int fd);
TENDRIL_API int dup2(int from, int to);
TENDRIL_API int dup3(int from, int to, int flags);
TENDRIL_API int close_range(unsigned first, unsigned last, int flags);
TENDRIL_API void closefrom(int first);
TENDRIL_API int fclose(FILE* f);
TENDRIL_API int mq_close(int queue);
TENDRIL_API FILE* freopen(const char* path, const char* mode, FILE* f);

// --- files: open(2) of a FIFO, flock(2), lockf(3), F_SETLKW, fsync(2) and related calls ---
// A call that has to wait does so on a helper thread. If a task that waits for a file lock is
// killed, or a handler interrupts it, the request for the lock is withdrawn.
TENDRIL_API int open(const char* path, int flags, mode_t mode = 0);
TENDRIL_API int openat(int dir, const char* path, int flags, mode_t mode = 0);
TENDRIL_API int fcntl(int fd, int command, void* argument = nullptr);
// FIONBIO makes calls on fd non-blocking; other requests go to the device.
TENDRIL_API int ioctl(int fd, unsigned long request, void* argument = nullptr);
TENDRIL_API int flock(int fd, int operation);
TENDRIL_API int lockf(int fd, int command, off_t len);
TENDRIL_API int fsync(int fd);
TENDRIL_API int fdatasync(int fd);
TENDRIL_API int syncfs(int fd);
TENDRIL_API int sync_file_range(int fd, off64_t from, off64_t n, unsigned flags);
TENDRIL_API int msync(void* p, size_t n, int flags);
TENDRIL_API int fallocate(int fd, int mode, off_t at, off_t n);
TENDRIL_API int posix_fallocate(int fd, off_t at, off_t n);
TENDRIL_API void sync();

// --- wait(2), system(3), popen(3) ---
TENDRIL_API pid_t wait(int* status);
TENDRIL_API pid_t waitpid(pid_t pid, int* status, int options);
TENDRIL_API pid_t wait3(int* status, int options, rusage* usage);
TENDRIL_API pid_t wait4(pid_t pid, int* status, int options, rusage* usage);
TENDRIL_API int waitid(idtype_t type, id_t id, siginfo_t* info, int options);
// If the task is killed, system() kills the shell too and returns -1 with ECANCELED.
TENDRIL_API int system(const char* command);
TENDRIL_API FILE* popen(const char* command, const char* mode);
TENDRIL_API int pclose(FILE* f);
TENDRIL_API int posix_spawn(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions,
                            const posix_spawnattr_t* attributes, char* const* argv,
                            char* const* env);
TENDRIL_API int posix_spawnp(pid_t* pid, const char* file,
                             const posix_spawn_file_actions_t* actions,
                             const posix_spawnattr_t* attributes, char* const* argv,
                             char* const* env);
// A child that shares our memory must not touch our fibers: its calls are the C library's.
TENDRIL_API int clone(int (*run)(void*), void* stack, int flags, void* argument,
                      pid_t* parent_tid = nullptr, void* tls = nullptr, pid_t* child_tid = nullptr);
// Changes the number of children that share the calling thread's memory by `children`. Not for
// programs: the shim's vfork() calls it.
TENDRIL_API void memory_borrowed(int children) noexcept;

// --- pause(2), sigsuspend(2), sigwait(3), sigaction(2) ---
TENDRIL_API int pause();
TENDRIL_API int sigsuspend(const sigset_t* mask);
TENDRIL_API int sigwait(const sigset_t* set, int* signal);
TENDRIL_API int sigwaitinfo(const sigset_t* set, siginfo_t* info);
TENDRIL_API int sigtimedwait(const sigset_t* set, siginfo_t* info, const timespec* timeout);
// Without the shim, a handler must be installed by these for waits to end with EINTR. A handler
// never runs while the runtime changes its own data. A handler for a signal that arrives while the
// main fiber waits runs on the main fiber's stack.
TENDRIL_API int sigaction(int signal, const struct sigaction* action, struct sigaction* old);
TENDRIL_API sighandler_t signal(int signal, sighandler_t handler);
TENDRIL_API sighandler_t sysv_signal(int signal, sighandler_t handler);
TENDRIL_API sighandler_t sigset(int signal, sighandler_t handler);
TENDRIL_API int siginterrupt(int signal, int interrupts);

// --- pthread_sigmask(3), pthread_kill(3), sigpending(2), sigaltstack(2) ---
// Each thread has its own mask, pending signals and alternate stack. A signal for the process goes
// to the main thread if that does not block it, else to any thread that does not.
TENDRIL_API int sigprocmask(int how, const sigset_t* set, sigset_t* old);
TENDRIL_API int pthread_sigmask(int how, const sigset_t* set, sigset_t* old);
TENDRIL_API int sigpending(sigset_t* set);
TENDRIL_API int sigaltstack(const stack_t* stack, stack_t* old);
TENDRIL_API int raise(int signal);
TENDRIL_API int pthread_kill(pthread_t id, int signal);
TENDRIL_API int pthread_sigqueue(pthread_t id, int signal, sigval value);
TENDRIL_API int tgkill(pid_t process, pid_t thread, int signal);
// Also supports SIGEV_THREAD_ID with the gettid() of a thread that is a fiber, and the CPU clocks
// of such threads (see pthread.hpp).
TENDRIL_API int timer_create(clockid_t clock, sigevent* event, timer_t* timer);
TENDRIL_API int timer_delete(timer_t timer);
TENDRIL_API int timer_settime(timer_t timer, int flags, const itimerspec* value, itimerspec* old);
TENDRIL_API int timer_gettime(timer_t timer, itimerspec* value);
TENDRIL_API int timer_getoverrun(timer_t timer);
// The gettid() of a thread that is a fiber also designates the process, as natively.
TENDRIL_API int kill(pid_t process, int signal);
// sigpause() is BSD's: `mask` has the signals to block while it waits. __xpg_sigpause() is POSIX's:
// `signal` is unblocked while it waits.
TENDRIL_API int sigpause(int mask);
TENDRIL_API int __xpg_sigpause(int signal);
TENDRIL_API int sighold(int signal);
TENDRIL_API int sigrelse(int signal);
TENDRIL_API int sigblock(int mask);
TENDRIL_API int sigsetmask(int mask);
TENDRIL_API int siggetmask();

// --- setuid(2), setgroups(2), initgroups(3) and related calls ---
// Whichever thread calls them, they apply to the whole process.
TENDRIL_API int setuid(uid_t user);
TENDRIL_API int setgid(gid_t group);
TENDRIL_API int seteuid(uid_t effective);
TENDRIL_API int setegid(gid_t effective);
TENDRIL_API int setreuid(uid_t user, uid_t effective);
TENDRIL_API int setregid(gid_t group, gid_t effective);
TENDRIL_API int setresuid(uid_t user, uid_t effective, uid_t saved);
TENDRIL_API int setresgid(gid_t group, gid_t effective, gid_t saved);
TENDRIL_API int setgroups(size_t n, const gid_t* groups);
TENDRIL_API int initgroups(const char* user, gid_t group);
// --- setfsuid(2), setfsgid(2), capset(2) ---
// They apply to the calling thread alone. capset() ends the process if there are other threads,
// since a switch could not undo it.
TENDRIL_API int setfsuid(uid_t user);
TENDRIL_API int setfsgid(gid_t group);
TENDRIL_API int capset(void* header, const void* data);

// --- aio_suspend(3), lio_listio(3), gai_suspend(3) ---
TENDRIL_API int gai_suspend(const gaicb* const* list, int n, const timespec* timeout);
TENDRIL_API int aio_suspend(const aiocb* const* list, int n, const timespec* timeout);
TENDRIL_API int lio_listio(int mode, aiocb* const* list, int n, sigevent* event);

// --- mq_overview(7), msgrcv(2), semop(2) ---
// A call that has to wait does so on a helper thread.
TENDRIL_API int mq_send(mqd_t queue, const char* text, size_t n, unsigned priority);
TENDRIL_API int mq_timedsend(mqd_t queue, const char* text, size_t n, unsigned priority,
                             const timespec* until);
TENDRIL_API ssize_t mq_receive(mqd_t queue, char* text, size_t n, unsigned* priority);
TENDRIL_API ssize_t mq_timedreceive(mqd_t queue, char* text, size_t n, unsigned* priority,
                                    const timespec* until);
TENDRIL_API int msgsnd(int queue, const void* message, size_t n, int flags);
TENDRIL_API ssize_t msgrcv(int queue, void* message, size_t n, long type, int flags);
TENDRIL_API int semop(int set, sembuf* operations, size_t n);
TENDRIL_API int semtimedop(int set, sembuf* operations, size_t n, const timespec* timeout);

// Makes calls on this process's kernel threads cooperative even where no other fiber exists. For
// tests.
TENDRIL_API void cooperate_always() noexcept;

// Why the kernel cannot receive by io_uring here (TENDRIL_POLLER=io_uring), in words; null if it
// can. Any kernel thread may call it.
TENDRIL_API const char* io_uring_obstacle() noexcept;

}  // namespace tendril::posix
