// Processes, timers and messages with threads: fork(2) and related calls from a thread,
// SIGEV_THREAD, SIGEV_THREAD_ID, message queues of POSIX and of System V, semaphores of System V.
// While one thread waits, others run.
#include "threads.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"

#include <mqueue.h>
#include <pthread.h>
#include <semaphore.h>
#include <spawn.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

extern char** environ;
static const struct timespec hour = {3600, 0};

static long in_thread(void* (*f)(void*)) {
  pthread_t t;
  void* r;
  fflush(stdout);
  if (pthread_create(&t, NULL, f, NULL)) return -99;
  pthread_join(t, &r);
  return (long)r;
}
static int status_of(pid_t c) {
  int s;
  while (waitpid(c, &s, 0) < 0) {}
  return WIFEXITED(s) ? WEXITSTATUS(s) : WIFSIGNALED(s) ? 1000 + WTERMSIG(s) : -2;
}
static sigset_t set_of(int a) {
  sigset_t s;
  sigemptyset(&s);
  sigaddset(&s, a);
  return s;
}
static int blocks_signal(int signal) {
  sigset_t s;
  pthread_sigmask(SIG_BLOCK, NULL, &s);
  return sigismember(&s, signal);
}

// --- processes ---

static char order[32];
static void note(char c) {
  size_t n = strlen(order);
  if (n < sizeof order - 1) order[n] = c;
}
static void p1(void) { note('1'); }
static void p2(void) { note('2'); }
static void a1(void) { note('a'); }
static void a2(void) { note('b'); }
static void c1(void) { note('x'); }
static void c2(void) { note('y'); }

static void* adds(void* p) { return (char*)p + 1; }
static int child_works(void) {
  pthread_t t;
  void* r = NULL;
  int good =
      pthread_create(&t, NULL, adds, (void*)4) == 0 && pthread_join(t, &r) == 0 && r == (void*)5;
  struct timespec instant = {0, 1000000};
  good += nanosleep(&instant, NULL) == 0;
  on_signal(SIGUSR1, 0);
  raise(SIGUSR1);
  good += handled == 1;
  kill(getpid(), SIGUSR1);
  good += handled == 2;
  good += pthread_kill(pthread_self(), SIGUSR1) == 0 && handled == 3;
  alarm(0);
  // it repeats, since the first signal may come before the sleep
  struct itimerval soon = {{0, 20000}, {0, 20000}};
  on_signal(SIGALRM, 0);
  setitimer(ITIMER_REAL, &soon, NULL);
  good += nanosleep(&hour, NULL) == -1 && errno == EINTR;
  limit();
  return good;
}
static void* forks(void* p) {
  sigset_t s = set_of(SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  pthread_kill(pthread_self(), SIGUSR2);
  pid_t c = fork();
  if (c == 0) {
    sigset_t pending;
    sigpending(&pending);
    int good = child_works() * 10 + blocks_signal(SIGUSR2) + 2 * sigismember(&pending, SIGUSR2);
    _exit(good);
  }
  long r = status_of(c);
  siginfo_t i;
  sigwaitinfo(&s, &i);
  return (void*)r;
}
static void* forks_and_ends(void* p) {
  pid_t c = fork();
  if (c == 0) {
    fflush(stdout);
    pthread_exit(NULL);
  }
  return (void*)(long)status_of(c);
}
static void* forks_and_exits(void* p) {
  pid_t c = fork();
  if (c == 0) exit(7);
  return (void*)(long)status_of(c);
}
static void* vforks(void* p) {
  pid_t c = vfork();
  if (c == 0) _exit(8);
  return (void*)(long)status_of(c);
}
static void* execs(void* p) {
  execl("/bin/sh", "sh", "-c", "exit 9", NULL);
  return NULL;
}
static void* execs_blocking(void* p) {
  sigset_t s = set_of(SIGTERM);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  execl("/bin/sh", "sh", "-c", "kill -TERM $$; exit 4", NULL);
  return NULL;
}
static long child_which(void* (*f)(void*)) {
  fflush(stdout);
  pid_t c = fork();
  if (c == 0) {
    in_thread(f);
    _exit(90);
  }
  return status_of(c);
}
static void* spawns(void* p) {
  sigset_t s = set_of(SIGTERM);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  char* const a[] = {"sh", "-c", "kill -TERM $$; exit 5", NULL};
  pid_t c;
  if (posix_spawn(&c, "/bin/sh", NULL, NULL, a, environ)) return (void*)-1;
  long r = status_of(c);
  posix_spawnattr_t attr;
  posix_spawnattr_init(&attr);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attr, &none);
  posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
  if (posix_spawn(&c, "/bin/sh", NULL, &attr, a, environ)) return (void*)-2;
  return (void*)(r * 10000 + status_of(c));
}
static void quick(void) { write(1, "at_quick_exit\n", 14); }
static void at_end(void) { write(1, "atexit\n", 7); }
static void* exits(void* p) {
  atexit(at_end);
  exit(11);
}
static void* exits_quickly(void* p) {
  at_quick_exit(quick);
  quick_exit(12);
}
static void* aborts(void* p) { abort(); }
static void* aborts_handled(void* p) {
  on_signal(SIGABRT, 0);
  sigset_t s = set_of(SIGABRT);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  abort();
}
static void* exits_at_once(void* p) { _exit(13); }

static void processes(void) {
  printf("-- processes\n");
  SAY("fork in a thread", in_thread(forks));
  SAY("the child's only thread ends", in_thread(forks_and_ends));
  SAY("the child calls exit", in_thread(forks_and_exits));
  SAY("vfork", in_thread(vforks));
  SAY("exec in a thread", child_which(execs));
  SAY("with its mask", child_which(execs_blocking));
  SAY("posix_spawn, with the thread's mask and without", in_thread(spawns));
  SAY("exit in a thread", child_which(exits));
  SAY("quick_exit in a thread", child_which(exits_quickly));
  SAY("abort in a thread", child_which(aborts));
  SAY("abort, handled and blocked", child_which(aborts_handled));
  SAY("_exit in a thread", child_which(exits_at_once));
  pthread_atfork(p1, a1, c1);
  pthread_atfork(p2, a2, c2);
  fflush(stdout);
  pid_t c = fork();
  if (c == 0) _exit(strcmp(order, "21xy"));
  printf("the order of pthread_atfork: %s\n", order);
  SAY("  in the child", status_of(c));
}

// --- timers ---

static sem_t told;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int value_told;
static void tell(union sigval v) {
  pthread_mutex_lock(&mutex);
  value_told += v.sival_int;
  pthread_cond_signal(&cond);
  pthread_mutex_unlock(&mutex);
  sem_post(&told);
}
static pthread_t handler_thread;
static void where(int signal) {
  handler_thread = pthread_self();
  handled++;
}
static void* wants_timer(void* p) {
  struct sigevent e;
  memset(&e, 0, sizeof e);
  e.sigev_notify = SIGEV_THREAD_ID;
  e.sigev_signo = SIGUSR1;
  e._sigev_un._tid = gettid();
  timer_t t;
  if (timer_create(CLOCK_MONOTONIC, &e, &t)) return (void*)(long)-errno;
  // it repeats, since the first signal may come before the sleep
  struct itimerspec s = {{0, 20000000}, {0, 20000000}};
  timer_settime(t, 0, &s, NULL);
  errno = 0;
  long r = nanosleep(&hour, NULL);
  int error = errno;
  timer_delete(t);
  return (void*)(long)((r == -1 && error == EINTR) * 10 +
                       !!pthread_equal(handler_thread, pthread_self()));
}
static void timers(void) {
  printf("-- timers\n");
  struct sigevent e;
  memset(&e, 0, sizeof e);
  e.sigev_notify = SIGEV_THREAD;
  e.sigev_notify_function = tell;
  e.sigev_value.sival_int = 3;
  timer_t t;
  sem_init(&told, 0, 0);
  SAY("timer_create with SIGEV_THREAD", timer_create(CLOCK_MONOTONIC, &e, &t));
  struct itimerspec s = {{0, 5000000}, {0, 5000000}};
  timer_settime(t, 0, &s, NULL);
  pthread_mutex_lock(&mutex);
  while (value_told < 9) pthread_cond_wait(&cond, &mutex);
  pthread_mutex_unlock(&mutex);
  timer_delete(t);
  SAY("its function uses a mutex and a condition", sem_wait(&told));
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_handler = where;
  a.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &a, NULL);
  SAY("SIGEV_THREAD_ID", in_thread(wants_timer));
}

// --- messages ---

static mqd_t queue;
static int sysv, sems;
static void* mq_receives(void* p) {
  char b[16];
  unsigned priority = 0;
  ssize_t n = mq_receive(queue, b, sizeof b, &priority);
  return (void*)(n < 0 ? -(long)errno : n * 100 + (long)priority);
}
static void* mq_sends(void* p) {
  return (void*)(mq_send(queue, "full", 4, 1) < 0 ? -(long)errno : 0L);
}
static void* mq_times_out(void* p) {
  struct timespec t;
  char b[16];
  clock_gettime(CLOCK_REALTIME, &t);
  t.tv_nsec += 20000000;
  if (t.tv_nsec >= 1000000000) t.tv_nsec -= 1000000000, t.tv_sec++;
  ssize_t n = mq_timedreceive(queue, b, sizeof b, NULL, &t);
  return (void*)(n < 0 ? -(long)errno : n);
}
struct message {
  long type;
  char text[8];
};
static void* msg_receives(void* p) {
  struct message m;
  ssize_t n = msgrcv(sysv, &m, sizeof m.text, 5, 0);
  return (void*)(n < 0 ? -(long)errno : n);
}
static void* sem_takes(void* p) {
  struct sembuf o = {.sem_num = 0, .sem_op = -1, .sem_flg = 0};
  return (void*)(semop(sems, &o, 1) < 0 ? -(long)errno : 0L);
}
static void* sem_times_out(void* p) {
  struct sembuf o = {.sem_num = 0, .sem_op = -1, .sem_flg = 0};
  struct timespec t = {0, 20000000};
  return (void*)(semtimedop(sems, &o, 1, &t) < 0 ? -(long)errno : 0L);
}
#define SAY_WAITS(sentence, f, release)    \
  do {                                     \
    pthread_t t_;                          \
    void* r_;                              \
    pthread_create(&t_, NULL, f, NULL);    \
    await_all_waiting();                   \
    release;                               \
    pthread_join(t_, &r_);                 \
    SAY(sentence, (long)r_);               \
    on_signal(SIGUSR1, 0);                 \
    pthread_create(&t_, NULL, f, NULL);    \
    await_all_waiting();                   \
    pthread_kill(t_, SIGUSR1);             \
    pthread_join(t_, &r_);                 \
    SAY("  ended by a handler", (long)r_); \
  } while (0)

static void messages(void) {
  printf("-- messages\n");
  char name[32], b[16];
  snprintf(name, sizeof name, "/threads-%d", (int)getpid());
  struct mq_attr attr = {.mq_maxmsg = 2, .mq_msgsize = 16};
  queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &attr);
  if (queue < 0) {
    printf("no message queues here\n");
  } else {
    mq_unlink(name);
    SAY_WAITS("mq_receive", mq_receives, mq_send(queue, "abc", 3, 2));
    SAY("mq_timedreceive", in_thread(mq_times_out));
    // A receiver that waits goes before a notification.
    sigset_t s = set_of(SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &s, NULL);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
    MUST(mq_notify(queue, &event));
    SAY_WAITS("mq_receive beside mq_notify", mq_receives, mq_send(queue, "abc", 3, 2));
    sigset_t pending;
    sigpending(&pending);
    SAY("  sends no notification", sigismember(&pending, SIGUSR2));
    mq_send(queue, "one", 3, 0);
    sigpending(&pending);
    SAY("  and then does", sigismember(&pending, SIGUSR2));
    struct timespec at_once = {0, 0};
    sigtimedwait(&s, NULL, &at_once);
    pthread_sigmask(SIG_UNBLOCK, &s, NULL);
    mq_send(queue, "two", 3, 0);
    SAY_WAITS("mq_send to a full queue", mq_sends, mq_receive(queue, b, sizeof b, NULL));
    SAY("mq_send of too much", mq_send(queue, "12345678901234567890", 20, 0));
    SAY("mq_receive into too little", mq_receive(queue, b, 3, NULL));
    struct timespec bad = {0, -1};
    SAY("mq_timedsend with a bad time", mq_timedsend(queue, "x", 1, 0, &bad));
    attr.mq_flags = O_NONBLOCK;
    mq_setattr(queue, &attr, NULL);
    SAY("mq_send to a full queue, O_NONBLOCK", mq_send(queue, "x", 1, 0));
    SAY("a bad descriptor", mq_send(-1, "x", 1, 0));
    mq_close(queue);
  }
  sysv = msgget(IPC_PRIVATE, 0600);
  sems = semget(IPC_PRIVATE, 1, 0600);
  if (sysv < 0 || sems < 0) return;
  struct message m = {5, "hello"};
  SAY_WAITS("msgrcv", msg_receives, msgsnd(sysv, &m, 5, 0));
  SAY("msgrcv, IPC_NOWAIT", msgrcv(sysv, &m, 8, 0, IPC_NOWAIT));
  struct sembuf up = {.sem_num = 0, .sem_op = 1, .sem_flg = 0};
  SAY_WAITS("semop", sem_takes, semop(sems, &up, 1));
  SAY("semtimedop", in_thread(sem_times_out));
  pthread_t t;
  void* r;
  pthread_create(&t, NULL, msg_receives, NULL);
  await_all_waiting();
  msgctl(sysv, IPC_RMID, NULL);
  pthread_join(t, &r);
  SAY("the queue is removed", (long)r);
  pthread_create(&t, NULL, sem_takes, NULL);
  await_all_waiting();
  semctl(sems, 0, IPC_RMID);
  pthread_join(t, &r);
  SAY("the semaphores are removed", (long)r);
}

int main(void) {
  processes();
  timers();
  messages();
}
