// Locks in memory that processes share, used by their threads: mutexes (also robust ones whose
// owner's process ends), conditions, rwlocks, semaphores, barriers, file locks; and what a process
// can find out about its threads: /proc, sched_*.
#include "threads.h"

#include <dirent.h>
#include <semaphore.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum { processes = 3, threads = 3, times = 200 };

struct shared {
  pthread_mutex_t mutex, robust, heir;
  pthread_cond_t condition;
  pthread_rwlock_t rwlock;
  pthread_barrier_t barrier;
  sem_t semaphore, held;
  long counted, torn, pair[2], turn, serial;
};
static struct shared* s;

static int status_of(pid_t child) {
  int status;
  while (waitpid(child, &status, 0) < 0) {}
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void* counts(void* p) {
  for (int i = 0; i < times; i++) {
    pthread_mutex_lock(&s->mutex);
    long n = s->counted;
    if (i % 20 == 0) sched_yield();
    s->counted = n + 1;
    pthread_mutex_unlock(&s->mutex);
    if (i % 4 == 0) {
      pthread_rwlock_wrlock(&s->rwlock);
      s->pair[0]++;
      if (i % 20 == 0) sched_yield();
      s->pair[1]++;
      pthread_rwlock_unlock(&s->rwlock);
    } else {
      pthread_rwlock_rdlock(&s->rwlock);
      if (s->pair[0] != s->pair[1]) s->torn = 1;
      pthread_rwlock_unlock(&s->rwlock);
    }
  }
  if (pthread_barrier_wait(&s->barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
    __atomic_add_fetch(&s->serial, 1, __ATOMIC_SEQ_CST);
  return p;
}
// The threads run one after another, by a condition that all wait on.
static void* takes_turns(void* p) {
  long mine = (intptr_t)p;
  for (int i = 0; i < 10; i++) {
    pthread_mutex_lock(&s->mutex);
    while (s->turn % (processes * threads) != mine) pthread_cond_wait(&s->condition, &s->mutex);
    s->turn++;
    pthread_cond_broadcast(&s->condition);
    pthread_mutex_unlock(&s->mutex);
  }
  return p;
}
static void* posts_and_waits(void* p) {
  for (int i = 0; i < times; i++) {
    if ((intptr_t)p % 2) {
      sem_post(&s->semaphore);
    } else {
      while (sem_wait(&s->semaphore)) {}
    }
  }
  return p;
}
static void in_processes(int n, int each, void* (*run)(void*)) {
  pid_t children[8];
  fflush(stdout);
  for (int i = 0; i < n; i++) {
    children[i] = MUST(fork());
    if (children[i]) continue;
    struct worker w[8];
    for (int k = 0; k < each; k++) start(&w[k], run, (void*)(intptr_t)(i * each + k));
    for (int k = 0; k < each; k++) end_of(&w[k]);
    _exit(0);
  }
  int sum = 0;
  for (int i = 0; i < n; i++) sum += status_of(children[i]);
  if (sum) printf("the processes ended with %d\n", sum);
}

static void* locks_robust(void* p) {
  int e = pthread_mutex_lock(&s->robust);
  (void)p;
  if (e == EOWNERDEAD) pthread_mutex_consistent(&s->robust);
  pthread_mutex_unlock(&s->robust);
  return (void*)(intptr_t)e;
}
static void robust(void) {
  printf("-- robust\n");
  for (intptr_t by_itself = 0; by_itself < 2; by_itself++) {
    struct worker w[3];
    fflush(stdout);
    pid_t child = MUST(fork());
    if (child == 0) {
      pthread_mutex_lock(&s->robust);
      sem_post(&s->held);
      if (by_itself) _exit(3);
      for (;;) pause();
    }
    while (sem_wait(&s->held)) {}
    for (int i = 0; i < 3; i++) start(&w[i], locks_robust, NULL), await_waiting(&w[i]);
    if (!by_itself) kill(child, SIGKILL);
    SAY(by_itself ? "its process ends" : "its process is killed", status_of(child));
    int dead = 0, good = 0;
    for (int i = 0; i < 3; i++) {
      int e = (int)(intptr_t)end_of(&w[i]);
      dead += e == EOWNERDEAD;
      good += e == 0;
    }
    SAY("  one of three that wait sees it", dead);
    SAY("  the others have it as usual", good);
  }
}

static void* locks_and_holds(void* p) {
  pthread_mutex_lock(&s->heir);
  sem_post(&s->held);
  while (sem_wait(&s->semaphore)) {}
  pthread_mutex_unlock(&s->heir);
  return p;
}
static void inheriting(void) {
  printf("-- a mutex that inherits priorities\n");
  struct worker w;
  struct timespec never = {0, -1}, soon;
  start(&w, locks_and_holds, NULL);
  while (sem_wait(&s->held)) {}
  ERR("trylock of what another thread holds", pthread_mutex_trylock(&s->heir));
  soon = in_ms(CLOCK_REALTIME, 5);
  ERR("timedlock", pthread_mutex_timedlock(&s->heir, &soon));
  soon = in_ms(CLOCK_MONOTONIC, 5);
  ERR("clocklock", pthread_mutex_clocklock(&s->heir, CLOCK_MONOTONIC, &soon));
  ERR("timedlock until an invalid time", pthread_mutex_timedlock(&s->heir, &never));
  ERR("unlock by another one", pthread_mutex_unlock(&s->heir));
  sem_post(&s->semaphore);
  ERR("lock", pthread_mutex_lock(&s->heir));
  ERR("lock again", pthread_mutex_lock(&s->heir));
  ERR("unlock", pthread_mutex_unlock(&s->heir));
  end_of(&w);
}

static void* locks_file(void* p) {
  // A separate open file description, since flock(2) distinguishes those, not threads.
  int fd = MUST(open("lock", O_RDWR | O_CREAT, 0600));
  for (int i = 0; i < 20; i++) {
    if (flock(fd, LOCK_EX)) return (void*)1;
    long n = s->counted;
    sched_yield();
    s->counted = n + 1;
    flock(fd, LOCK_UN);
  }
  close(fd);
  (void)p;
  return NULL;
}

static void* says_nothing(void* p) {
  while (!*(volatile int*)p) usleep(20000);
  return p;
}
static void* asks_processor(void* p) {
  unsigned cpu = 99999, node;
  int right = sched_getcpu() >= 0;
  right += getcpu(&cpu, &node) == 0 && cpu < 99999;
  cpu_set_t set;
  right += sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0;
  right += sched_setaffinity(0, sizeof set, &set) == 0;
  right += sched_get_priority_min(SCHED_FIFO) == 1 && sched_get_priority_max(SCHED_FIFO) == 99;
  struct timespec t;
  right += sched_rr_get_interval(0, &t) == 0;
  right += getpriority(PRIO_PROCESS, 0) == *(int*)p;
  return (void*)(intptr_t)right;
}
static void* says_where(void* p) {
  // /proc has a thread under its own link, and under its process.
  char path[64] = "", own[64];
  (void)p;
  snprintf(own, sizeof own, "%d/task/", (int)getpid());
  ssize_t n = readlink("/proc/thread-self", path, sizeof path - 1);
  char comm[32] = "";
  int fd = open("/proc/self/comm", O_RDONLY);
  ssize_t m = read(fd, comm, sizeof comm - 1);
  close(fd);
  return (void*)(intptr_t)(n > 0 && strncmp(path, own, strlen(own)) == 0 && m > 0);
}
static void processors(void) {
  printf("-- queries about threads\n");
  struct worker w[3];
  volatile int stop = 0;
  int nice_now = getpriority(PRIO_PROCESS, 0);
  SAY("main asks about its processor", (intptr_t)asks_processor(&nice_now));
  start(&w[0], asks_processor, &nice_now);
  SAY("a thread does", (intptr_t)end_of(&w[0]));
  start(&w[0], says_where, NULL);
  SAY("/proc/thread-self", (intptr_t)end_of(&w[0]));
  for (int i = 0; i < 3; i++) start(&w[i], says_nothing, (void*)&stop);
  for (int i = 0; i < 3; i++) await_waiting(&w[i]);
  int n = 0;
  DIR* d = opendir("/proc/self/task");
  for (struct dirent* e; d && (e = readdir(d));) n += e->d_name[0] != '.';
  if (d) closedir(d);
  SAY("/proc/self/task lists at least the first", n >= 1);
  SAY("numbers differ", w[0].tid != w[1].tid && w[1].tid != w[2].tid && w[0].tid != getpid());
  SAY("kill of a thread's number as a process", kill(getpid(), 0));
  SAY("tgkill finds each",
      syscall(SYS_tgkill, getpid(), w[0].tid, 0) + syscall(SYS_tgkill, getpid(), w[1].tid, 0));
  SAY("tgkill of a missing thread", syscall(SYS_tgkill, getpid(), 1, 0));
  stop = 1;
  for (int i = 0; i < 3; i++) end_of(&w[i]);
}

int main(void) {
  s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_mutexattr_t m;
  pthread_condattr_t c;
  pthread_rwlockattr_t r;
  pthread_barrierattr_t b;
  pthread_mutexattr_init(&m);
  pthread_mutexattr_setpshared(&m, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init(&s->mutex, &m);
  pthread_mutexattr_setrobust(&m, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&s->robust, &m);
  pthread_condattr_init(&c);
  pthread_condattr_setpshared(&c, PTHREAD_PROCESS_SHARED);
  pthread_cond_init(&s->condition, &c);
  pthread_rwlockattr_init(&r);
  pthread_rwlockattr_setpshared(&r, PTHREAD_PROCESS_SHARED);
  pthread_rwlock_init(&s->rwlock, &r);
  pthread_barrierattr_init(&b);
  pthread_barrierattr_setpshared(&b, PTHREAD_PROCESS_SHARED);
  pthread_barrier_init(&s->barrier, &b, processes * threads);
  sem_init(&s->semaphore, 1, 0);
  sem_init(&s->held, 1, 0);

  pthread_mutexattr_init(&m);
  pthread_mutexattr_setpshared(&m, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_settype(&m, PTHREAD_MUTEX_ERRORCHECK);
  pthread_mutexattr_setprotocol(&m, PTHREAD_PRIO_INHERIT);

  printf("-- between processes\n");
  in_processes(processes, threads, counts);
  SAY("counted", s->counted);
  SAY("pairs", s->pair[0] + s->pair[1]);
  SAY("  seen torn", s->torn);
  SAY("a barrier, serial threads", s->serial);
  in_processes(processes, threads, takes_turns);
  SAY("turns taken", s->turn);
  in_processes(2, 2, posts_and_waits);
  int left = -1;
  sem_getvalue(&s->semaphore, &left);
  SAY("posted and waited for, left", left);
  s->counted = 0;
  in_processes(processes, threads, locks_file);
  SAY("counted under a file's lock", s->counted);
  robust();
  for (int by_another = 0; by_another < 2; by_another++) {
    pthread_mutex_init(&s->heir, &m);
    // As the C library makes it, in a process without the runtime.
    if (by_another) s->heir.__data.__kind |= 32;
    inheriting();
  }
  processors();
  return 0;
}
