// The rules of signal(7) for calls that wait: those that are never restarted are ended by any
// handler; those that are restarted are not ended by one with SA_RESTART. No call ends, or returns
// less, because another thread computes and threads are preempted by a signal that the program does
// not know.
#include "tcp_pair.h"
#include "threads.h"

#include <aio.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <netdb.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

static int pipe_of[2], empty_pair[2], full_pair[2], listener, instance, semaphores, messages, watch,
    event;
static aio_context_t context;
static struct aiocb request;
static mqd_t queue;

static long wait_by(int call, long ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000}, left, until = in_ms(CLOCK_REALTIME, ms),
                  mono = in_ms(CLOCK_MONOTONIC, ms);
  struct timeval tv = {ms / 1000, ms % 1000 * 1000};
  struct pollfd p = {pipe_of[0], POLLIN, 0};
  struct epoll_event e;
  struct sembuf down = {0, -1, 0};
  struct io_event done;
  char data[100];
  fd_set set;
  sigset_t usr2, none;
  sem_t sem;
  uint32_t word = 0;
  const struct aiocb* list[] = {&request};
  FD_ZERO(&set);
  FD_SET(pipe_of[0], &set);
  sigemptyset(&none);
  sigemptyset(&usr2);
  sigaddset(&usr2, SIGUSR2);
  sem_init(&sem, 0, 0);
  setsockopt(empty_pair[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
  setsockopt(full_pair[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
  setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
  errno = 0;
  switch (call) {
    case 0:
      return poll(&p, 1, (int)ms);
    case 1:
      return ppoll(&p, 1, &t, NULL);
    case 2:
      return select(pipe_of[0] + 1, &set, NULL, NULL, &tv);
    case 3:
      return pselect(pipe_of[0] + 1, &set, NULL, NULL, &t, NULL);
    case 4:
      return epoll_wait(instance, &e, 1, (int)ms);
    case 5:
      return epoll_pwait(instance, &e, 1, (int)ms, NULL);
    case 6:
      return syscall(SYS_epoll_pwait2, instance, &e, 1, &t, NULL, KERNEL_SET);
    case 7:
      return nanosleep(&t, &left);
    case 8:
      return usleep((useconds_t)ms * 1000);
    case 9:
      errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &mono, NULL);
      return errno ? -1 : 0;
    case 10:
      errno = clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL);
      return errno ? -1 : 0;
    case 11:
      errno = clock_nanosleep(CLOCK_BOOTTIME, 0, &t, NULL);
      return errno ? -1 : 0;
    case 12:
      return sigtimedwait(&usr2, NULL, &t);
    case 13:
      return syscall(SYS_rt_sigtimedwait, &usr2, NULL, &t, 8);
    case 14:
      return semtimedop(semaphores, &down, 1, &t);
    case 15:
      return recv(empty_pair[0], data, 1, 0);
    case 16:
      return read(empty_pair[0], data, 1);
    case 17:
      return send(full_pair[0], data, 1, 0);
    case 18:
      return accept(listener, NULL, NULL);
    case 19:
      return syscall(SYS_io_getevents, context, 1, 1, &done, &t);
    case 20:
      return syscall(SYS_io_pgetevents, context, 1, 1, &done, &t, NULL);
    case 21:
      return syscall(SYS_ppoll, &p, 1, &t, NULL, KERNEL_SET);
    case 22:
      return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &t);
    case 23:
      return sem_timedwait(&sem, &until);
    case 24:
      return aio_suspend(list, 1, &t);
    case 25:
      return mq_timedreceive(queue, data, sizeof data, NULL, &until);
#ifdef SYS_select
    case 26:
      return syscall(SYS_select, pipe_of[0] + 1, &set, NULL, NULL, &tv);
#endif
    default:
      return -2;
  }
}
enum { by_queue = 25, timed = 27 };
static const char* const timed_names[timed] = {"poll",
                                               "ppoll",
                                               "select",
                                               "pselect",
                                               "epoll_wait",
                                               "epoll_pwait",
                                               "epoll_pwait2",
                                               "nanosleep",
                                               "usleep",
                                               "clock_nanosleep",
                                               "clock_nanosleep to a time",
                                               "clock_nanosleep on another clock",
                                               "sigtimedwait",
                                               "rt_sigtimedwait",
                                               "semtimedop",
                                               "recv with a time-out",
                                               "read with a time-out",
                                               "send with a time-out",
                                               "accept with a time-out",
                                               "io_getevents",
                                               "io_pgetevents",
                                               "ppoll by number",
                                               "futex",
                                               "sem_timedwait",
                                               "aio_suspend",
                                               "mq_timedreceive",
                                               "select by number"};

// Calls without a time-out.
static long wait_for_ever_by(int call) {
  struct {
    long type;
    char text[100];
  } m;
  struct sembuf down = {0, -1, 0};
  char data[1000];
  sigset_t none, usr2;
  siginfo_t info;
  int status;
  struct rusage usage;
  sigemptyset(&none);
  sigemptyset(&usr2);
  sigaddset(&usr2, SIGUSR2);
  switch (call) {
    case 0:
      return pause();
    case 1:
      return sigsuspend(&none);
    case 2:
      return sigwaitinfo(&usr2, &info);
    case 3:
      return msgrcv(messages, &m, sizeof m.text, 1, 0);
    case 4:
      return semop(semaphores, &down, 1);
    case 5:
      return poll(NULL, 0, -1);
    case 6:
      return epoll_wait(instance, (struct epoll_event*)data, 1, -1);
    case 7:
      return select(0, NULL, NULL, NULL, NULL);
    case 8:
      return syscall(SYS_io_getevents, context, 1, 1, data, NULL);
    // These calls are restarted.
    case 9:
      return read(pipe_of[0], data, 1);
    case 10:
      return read(watch, data, sizeof data);
    case 11:
      return read(event, data, 8);
    case 12:
      return waitpid(-1, &status, 0);
    case 13:
      return syscall(SYS_waitid, P_ALL, 0, &info, WEXITED, &usage);
    case 14:
      return mq_receive(queue, data, 100, NULL);
    default:
      return -2;
  }
}
enum { endless = 15, restarted = 9 };
static const char* const endless_names[endless] = {"pause",           "sigsuspend",
                                                   "sigwaitinfo",     "msgrcv",
                                                   "semop",           "poll",
                                                   "epoll_wait",      "select",
                                                   "io_getevents",    "read",
                                                   "read of inotify", "read of an eventfd",
                                                   "waitpid",         "waitid with usage",
                                                   "mq_receive"};

static _Atomic int over;
static void* computes(void* p) {
  for (volatile long n = 0; !over; n++) {}
  return p;
}

struct call {
  int which;
  long ms, result;
  int error;
};
static void* makes(void* p) {
  struct call* c = p;
  c->result = c->ms ? wait_by(c->which, c->ms) : wait_for_ever_by(c->which);
  c->error = errno;
  return p;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void* sends_file(void* p) {
  int* fds = p;
  off_t at = 0;
  size_t n = 64 << 20;
  return sendfile(fds[1], fds[0], &at, n) == (ssize_t)n ? p : NULL;
}
static size_t much;
static void* reads_much(void* p) {
  size_t n = much;
  char* room = malloc(n);
  int ok = read(*(int*)p, room, n) == (ssize_t)n;
  free(room);
  return ok ? p : NULL;
}
static void* takes_random(void* p) {
  size_t n = much;
  char* room = malloc(n);
  int ok = getrandom(room, n, 0) == (ssize_t)n;
  free(room);
  return ok ? p : NULL;
}
static void* allocates(void* p) { return posix_fallocate(*(int*)p, 0, 128 << 20) == 0 ? p : NULL; }

int main(void) {
  alarm(100);
  struct worker computing, w;
  struct sockaddr_in at;
  char data[4096] = {0}, name[64];
  MUST(pipe(pipe_of));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, empty_pair));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, full_pair));
  while (send(full_pair[0], data, sizeof data, MSG_DONTWAIT) > 0) {}
  listener = tcp_listener(&at);
  instance = (int)MUST(epoll_create1(0));
  semaphores = (int)MUST(semget(IPC_PRIVATE, 1, 0600));
  messages = (int)MUST(msgget(IPC_PRIVATE, 0600));
  watch = (int)MUST(inotify_init());
  event = (int)MUST(eventfd(0, 0));
  struct mq_attr attributes = {.mq_maxmsg = 2, .mq_msgsize = 100};
  snprintf(name, sizeof name, "/never-restarted-%d", (int)getpid());
  queue = (mqd_t)MUST(mq_open(name, O_RDWR | O_CREAT, 0600, &attributes));
  mq_unlink(name);
  MUST(syscall(SYS_io_setup, 4, &context));
  int aio_pipe[2];
  MUST(pipe(aio_pipe));
  request.aio_fildes = aio_pipe[0];
  request.aio_buf = data;
  request.aio_nbytes = 1;
  MUST(aio_read(&request));
  sigset_t usr2;
  sigemptyset(&usr2);
  sigaddset(&usr2, SIGUSR2);
  sigprocmask(SIG_BLOCK, &usr2, NULL);

  start(&computing, computes, NULL);
  puts("beside a thread that computes");
  for (int i = 0; i < timed; i++) {
    struct call c = {.which = i, .ms = 60};
    double begin = now();
    start(&w, makes, &c);
    end_of(&w);
    say(timed_names[i], c.result, c.result == -1 ? c.error : 0);
    SAY("  it took its time", now() - begin > 0.059);
  }
  int file[2] = {memfd_create("from", 0), memfd_create("to", 0)},
      zero = open("/dev/zero", O_RDONLY), random = open("/dev/urandom", O_RDONLY);
  MUST(ftruncate(file[0], 64 << 20));
  start(&w, sends_file, file);
  SAY("a file is sent whole", end_of(&w) != NULL);
  much = 256 << 20;
  start(&w, reads_much, &zero);
  SAY("zeros are read whole", end_of(&w) != NULL);
  much = 16 << 20;
  start(&w, reads_much, &random);
  SAY("random bytes are read whole", end_of(&w) != NULL);
  start(&w, takes_random, &w);
  SAY("random bytes are taken whole", end_of(&w) != NULL);
  start(&w, allocates, &file[1]);
  SAY("memory is allocated whole", end_of(&w) != NULL);
  over = 1;
  end_of(&computing);

  for (int flags = 0; flags < 2; flags++) {
    puts(flags ? "by a handler with SA_RESTART" : "by a handler");
    on_signal(SIGUSR1, flags ? SA_RESTART : 0);
    for (int i = 0; i < timed + (flags ? restarted : endless); i++) {
      if (flags && i == by_queue) continue;  // this one is restarted
      struct call c = {.which = i < timed ? i : i - timed, .ms = i < timed ? 50000 : 0};
      pid_t child = i - timed == 12 || i - timed == 13 ? fork() : -1;
      if (child == 0) pause(), _exit(0);
      start(&w, makes, &c);
      await_waiting(&w);
      pthread_kill(w.id, SIGUSR1);
      end_of(&w);
      say(i < timed ? timed_names[i] : endless_names[i - timed], c.result,
          c.result == -1 ? c.error : 0);
      SAY("  the handler ran", take_handled());
      if (child > 0) kill(child, SIGKILL), waitpid(child, NULL, 0);
    }
  }
  MUST(write(aio_pipe[1], "a", 1));
  while (aio_error(&request) == EINPROGRESS) sched_yield();
  semctl(semaphores, 0, IPC_RMID);
  msgctl(messages, IPC_RMID, NULL);
  return 0;
}
