// The cancellation points of pthreads(7): each ends a thread that is cancelled while it waits
// there, or before; other calls do not.
#include "threads.h"

#include <aio.h>
#include <netinet/in.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <threads.h>

static int in[2], full[2], pair[2], listener, ep, file, locked;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static mtx_t c11_mutex;
static cnd_t c11_condition;
static sem_t semaphore;
static struct worker forever;
static char buf[1 << 17];
static struct iovec vec = {buf, sizeof buf};
static struct timespec far;
static struct timespec hour = {3600, 0};
static pid_t child;
static sigset_t usr1;
static struct aiocb reads;
static const struct aiocb* request = &reads;

#define CALLS(X)                                                                       \
  X(read, read(in[0], buf, 1))                                                         \
  X(aio_suspend, aio_suspend(&request, 1, NULL))                                       \
  X(readv, readv(in[0], &vec, 1))                                                      \
  X(write, write(full[1], buf, sizeof buf))                                            \
  X(writev, writev(full[1], &vec, 1))                                                  \
  X(recv, recv(pair[0], buf, 1, 0))                                                    \
  X(recvfrom, recvfrom(pair[0], buf, 1, 0, NULL, NULL))                                \
  X(recvmsg, ({                                                                        \
      struct msghdr m = {.msg_iov = &vec, .msg_iovlen = 1};                            \
      recvmsg(pair[0], &m, 0);                                                         \
    }))                                                                                \
  X(recvmmsg, ({                                                                       \
      struct mmsghdr m = {.msg_hdr = {.msg_iov = &vec, .msg_iovlen = 1}};              \
      recvmmsg(pair[0], &m, 1, 0, NULL);                                               \
    }))                                                                                \
  X(send, send(pair[1], buf, sizeof buf, 0))                                           \
  X(sendto, sendto(pair[1], buf, sizeof buf, 0, NULL, 0))                              \
  X(sendmsg, ({                                                                        \
      struct msghdr m = {.msg_iov = &vec, .msg_iovlen = 1};                            \
      sendmsg(pair[1], &m, 0);                                                         \
    }))                                                                                \
  X(accept, accept(listener, NULL, NULL))                                              \
  X(accept4, accept4(listener, NULL, NULL, 0))                                         \
  X(poll, ({                                                                           \
      struct pollfd p = {in[0], POLLIN, 0};                                            \
      poll(&p, 1, -1);                                                                 \
    }))                                                                                \
  X(poll of nothing, poll(NULL, 0, 3600000))                                           \
  X(ppoll, ({                                                                          \
      struct pollfd p = {in[0], POLLIN, 0};                                            \
      ppoll(&p, 1, NULL, NULL);                                                        \
    }))                                                                                \
  X(select, ({                                                                         \
      fd_set s;                                                                        \
      FD_ZERO(&s);                                                                     \
      FD_SET(in[0], &s);                                                               \
      select(in[0] + 1, &s, NULL, NULL, NULL);                                         \
    }))                                                                                \
  X(pselect, ({                                                                        \
      fd_set s;                                                                        \
      FD_ZERO(&s);                                                                     \
      FD_SET(in[0], &s);                                                               \
      pselect(in[0] + 1, &s, NULL, NULL, NULL, NULL);                                  \
    }))                                                                                \
  X(epoll_wait, ({                                                                     \
      struct epoll_event e;                                                            \
      epoll_wait(ep, &e, 1, -1);                                                       \
    }))                                                                                \
  X(epoll_pwait, ({                                                                    \
      struct epoll_event e;                                                            \
      epoll_pwait(ep, &e, 1, -1, NULL);                                                \
    }))                                                                                \
  X(sleep, sleep(3600))                                                                \
  X(usleep, usleep(3600000000U))                                                       \
  X(nanosleep, nanosleep(&hour, NULL))                                                 \
  X(clock_nanosleep, clock_nanosleep(CLOCK_MONOTONIC, 0, &hour, NULL))                 \
  X(clock_nanosleep until, clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &far, NULL)) \
  X(thrd_sleep, thrd_sleep(&hour, NULL))                                               \
  X(pause, pause())                                                                    \
  X(sigsuspend, ({                                                                     \
      sigset_t s;                                                                      \
      sigemptyset(&s);                                                                 \
      sigsuspend(&s);                                                                  \
    }))                                                                                \
  X(sigwait, ({                                                                        \
      int s;                                                                           \
      sigwait(&usr1, &s);                                                              \
    }))                                                                                \
  X(sigwaitinfo, sigwaitinfo(&usr1, NULL))                                             \
  X(sigtimedwait, sigtimedwait(&usr1, NULL, &hour))                                    \
  X(wait, wait(NULL))                                                                  \
  X(waitpid, waitpid(child, NULL, 0))                                                  \
  X(wait4, wait4(child, NULL, 0, NULL))                                                \
  X(waitid, waitid(P_PID, (id_t)child, &(siginfo_t){0}, WEXITED))                      \
  X(pthread_join, pthread_join(forever.id, NULL))                                      \
  X(pthread_timedjoin_np, pthread_timedjoin_np(forever.id, NULL, &far))                \
  X(pthread_cond_wait, ({                                                              \
      pthread_mutex_lock(&mutex);                                                      \
      pthread_cleanup_push(unlock, NULL);                                              \
      pthread_cond_wait(&condition, &mutex);                                           \
      pthread_cleanup_pop(0);                                                          \
      0;                                                                               \
    }))                                                                                \
  X(pthread_cond_timedwait, ({                                                         \
      pthread_mutex_lock(&mutex);                                                      \
      pthread_cleanup_push(unlock, NULL);                                              \
      pthread_cond_timedwait(&condition, &mutex, &far);                                \
      pthread_cleanup_pop(0);                                                          \
      0;                                                                               \
    }))                                                                                \
  X(pthread_cond_clockwait, ({                                                         \
      pthread_mutex_lock(&mutex);                                                      \
      pthread_cleanup_push(unlock, NULL);                                              \
      pthread_cond_clockwait(&condition, &mutex, CLOCK_REALTIME, &far);                \
      pthread_cleanup_pop(0);                                                          \
      0;                                                                               \
    }))                                                                                \
  X(cnd_wait, ({                                                                       \
      mtx_lock(&c11_mutex);                                                            \
      pthread_cleanup_push(c11_unlock, NULL);                                          \
      cnd_wait(&c11_condition, &c11_mutex);                                            \
      pthread_cleanup_pop(0);                                                          \
      0;                                                                               \
    }))                                                                                \
  X(sem_wait, sem_wait(&semaphore))                                                    \
  X(sem_timedwait, sem_timedwait(&semaphore, &far))                                    \
  X(sem_clockwait, sem_clockwait(&semaphore, CLOCK_REALTIME, &far))                    \
  X(F_OFD_SETLKW, ({                                                                   \
      struct flock l = {.l_type = F_WRLCK};                                            \
      fcntl(file, F_OFD_SETLKW, &l);                                                   \
    }))

static int cleaned;
static void unlock(void* unused) {
  (void)unused;
  cleaned = pthread_mutex_unlock(&mutex) == 0;
}
static void c11_unlock(void* unused) {
  (void)unused;
  cleaned = mtx_unlock(&c11_mutex) == thrd_success;
}
static void clean(void* unused) {
  (void)unused;
  cleaned++;
}

static volatile int before;

static void* for_ever(void* unused) {
  for (;;) pause();
  return unused;
}

// Calls that do not have to wait, some of which are cancellation points.
static int out[2], spare;
#define QUICK(X)                                                                           \
  X("close", close(spare))                                                                 \
  X("open", open("/dev/null", O_RDONLY))                                                   \
  X("openat", openat(AT_FDCWD, "/dev/null", O_RDONLY))                                     \
  X("creat", creat("x", 0600))                                                             \
  X("fsync", fsync(file))                                                                  \
  X("fdatasync", fdatasync(file))                                                          \
  X("msync", msync(buf, 0, MS_ASYNC))                                                      \
  X("read of a file", read(file, buf, 1))                                                  \
  X("write to a file", write(file, "x", 1))                                                \
  X("pread", pread(file, buf, 1, 0))                                                       \
  X("pwrite", pwrite(file, "x", 1, 0))                                                     \
  X("preadv", preadv(file, &vec, 1, 0))                                                    \
  X("write to a pipe", write(out[1], "x", 1))                                              \
  X("send", send(pair[0], "x", 1, MSG_DONTWAIT))                                           \
  X("recv", recv(pair[0], buf, 1, MSG_DONTWAIT))                                           \
  X("poll without time", poll(NULL, 0, 0))                                                 \
  X("waitpid, WNOHANG", waitpid(child, NULL, WNOHANG))                                     \
  X("sem_wait of a free one", ({                                                           \
      sem_post(&semaphore);                                                                \
      sem_wait(&semaphore);                                                                \
    }))                                                                                    \
  X("sem_post", sem_post(&semaphore))                                                      \
  X("pthread_cond_signal", pthread_cond_signal(&condition))                                \
  X("pthread_testcancel", (pthread_testcancel(), 0))                                       \
  X("sched_yield", sched_yield())                                                          \
  X("dup2", dup2(file, spare))                                                             \
  X("dup", close(dup(0)))                                                                  \
  X("socket", socket(AF_UNIX, SOCK_STREAM, 0))                                             \
  X("setsockopt", setsockopt(pair[0], SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int)))   \
  X("pthread_mutex_lock", pthread_mutex_lock(&mutex) + pthread_mutex_unlock(&mutex))       \
  X("pthread_mutex_trylock", pthread_mutex_trylock(&mutex) + pthread_mutex_unlock(&mutex)) \
  X("sem_trywait", sem_trywait(&semaphore))                                                \
  X("pthread_tryjoin_np", pthread_tryjoin_np(forever.id, NULL))                            \
  X("fcntl F_GETFL", fcntl(file, F_GETFL))                                                 \
  X("flock", flock(file, LOCK_SH))                                                         \
  X("kill", kill(getpid(), 0))                                                             \
  X("sigaction", sigaction(SIGUSR2, NULL, NULL))                                           \
  X("syscall", (int)syscall(39))
#define QUICK_CASE(name, call)              \
  if (which == n++) {                       \
    if (!names[which]) names[which] = name; \
    (void)(call);                           \
    return 1;                               \
  }
static const char* names[100];
static int quick(int which) {
  int n = 0;
  QUICK(QUICK_CASE)
  return 0;
}
static void* tries(void* which) {
  while (before == 1) sched_yield();
  quick((int)(intptr_t)which);
  return "went on";
}
#define POINT_CASE(name, call) \
  if (which == n++) {          \
    names[which] = #name;      \
    if (!ask) (void)(call);    \
    return 1;                  \
  }
static int point(int which, int ask) {
  int n = 0;
  CALLS(POINT_CASE)
  return 0;
}
static void* waits_at(void* which) {
  pthread_cleanup_push(clean, NULL);
  while (before == 1) sched_yield();
  point((int)(intptr_t)which, 0);
  pthread_cleanup_pop(0);
  return "went on";
}

// A cancelled system(3) leaves no shell behind.
static void* runs_shell(void* unused) {
  system("echo $$ > shell.part; mv shell.part shell; exec sleep 100");
  return unused;
}
static void shells(void) {
  struct worker w;
  start(&w, runs_shell, NULL);
  FILE* f;
  while (!(f = fopen("shell", "r"))) sched_yield();
  int pid = 0;
  if (fscanf(f, "%d", &pid) != 1) puts("no number");
  fclose(f);
  pthread_cancel(w.id);
  SAY("system is cancelled", end_of(&w) == PTHREAD_CANCELED);
  SAY("  and its shell has ended", kill(pid, 0));
}

int main(void) {
  MUST(pipe(in));
  MUST(pipe(full));
  MUST(pipe(out));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  set_nonblocking(full[1], 1);
  while (write(full[1], buf, sizeof buf) > 0) {}
  set_nonblocking(full[1], 0);
  set_nonblocking(pair[1], 1);
  int other[2];
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, other));
  while (send(other[1], buf, sizeof buf, MSG_DONTWAIT) > 0) {}
  pair[1] = other[1];
  listener = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
  MUST(listen(listener, 5));
  ep = (int)MUST(epoll_create1(0));
  struct epoll_event e = {.events = EPOLLIN};
  MUST(epoll_ctl(ep, EPOLL_CTL_ADD, in[0], &e));
  file = (int)MUST(open("file", O_RDWR | O_CREAT, 0600));
  locked = (int)MUST(open("file", O_RDWR));
  struct flock l = {.l_type = F_WRLCK};
  MUST(fcntl(locked, F_OFD_SETLK, &l));
  sem_init(&semaphore, 0, 0);
  mtx_init(&c11_mutex, mtx_plain);
  cnd_init(&c11_condition);
  far = in_ms(CLOCK_REALTIME, 3600000);
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &usr1, NULL);
  int never[2];
  MUST(pipe(never));
  reads.aio_fildes = never[0];
  reads.aio_buf = buf;
  reads.aio_nbytes = 1;
  MUST(aio_read(&reads));
  child = MUST(fork());
  if (child == 0) {
    for (;;) pause();
  }
  start(&forever, for_ever, NULL);
  for (int i = 0; point(i, 1); i++) {
    struct worker w;
    cleaned = 0;
    before = 0;
    start(&w, waits_at, (void*)(intptr_t)i);
    await_waiting(&w);
    pthread_cancel(w.id);
    void* r = end_of(&w);
    printf("%s: %s, cleaned up %d", names[i], r == PTHREAD_CANCELED ? "cancelled" : (char*)r,
           cleaned);
    fflush(stdout);
    cleaned = 0;
    before = 1;
    start(&w, waits_at, (void*)(intptr_t)i);
    while (!w.tid) sched_yield();
    pthread_cancel(w.id);
    before = 2;
    r = end_of(&w);
    printf("; before it: %s\n", r == PTHREAD_CANCELED ? "cancelled" : (char*)r);
    fflush(stdout);
  }
  for (int i = 0;; i++) {
    struct worker w;
    names[i] = NULL;
    spare = dup(in[0]);
    before = 0;
    start(&w, tries, (void*)(intptr_t)i);
    end_of(&w);
    if (!names[i]) break;
    close(spare);
    spare = dup(in[0]);
    before = 1;
    start(&w, tries, (void*)(intptr_t)i);
    while (!w.tid) sched_yield();
    pthread_cancel(w.id);
    before = 2;
    void* r = end_of(&w);
    printf("cancelled before %s: %s\n", names[i], r == PTHREAD_CANCELED ? "cancelled" : (char*)r);
    fflush(stdout);
    close(spare);
  }
  shells();
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  return 0;
}
