// fork(2) with threads: which of them the child has (the one thread, its locks, keys and ids), the
// order of pthread_atfork(3), children of children, vfork(2), posix_spawn(3) and exec(3) from
// threads, several at once; and the contents of /proc.
#include "threads.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <poll.h>
#include <semaphore.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

extern char** environ;

static int status_of(pid_t child) {
  int s;
  while (waitpid(child, &s, 0) < 0) {}
  return WIFEXITED(s) ? WEXITSTATUS(s) : 1000 + WTERMSIG(s);
}
static void* returns(void* p) { return p; }
static void* result_of(void* (*run)(void*), void* argument) {
  struct worker w;
  start(&w, run, argument);
  return end_of(&w);
}
static int tasks(void) {
  int n = 0;
  DIR* d = opendir("/proc/self/task");
  for (struct dirent* e; d && (e = readdir(d));) n += e->d_name[0] != '.';
  if (d) closedir(d);
  return n;
}

// A child's state, as a sum of the checks that succeed.
static pthread_key_t key;
static __thread int own = 1;
static int child_is_right(void* value, pthread_t self, int expected) {
  int right = 0;
  right += getpid() == gettid();
  right += syscall(SYS_gettid) == getpid();
  right += pthread_equal(pthread_self(), self) != 0;
  right += pthread_getspecific(key) == value;
  right += own == expected;
  right += pthread_kill(pthread_self(), 0) == 0;
  right += result_of(returns, &right) == &right;
  right += fork() == 0 ? (_exit(0), 0) : wait(NULL) > 0;
  right += own == expected;
  return right;
}
// In the child of a thread, which the C library must distinguish from the remains of its siblings.
static void* takes_its_ids(void* unused) {
  (void)unused;
  return (void*)(intptr_t)(setgid(getgid()) + seteuid(geteuid()));
}
static void* forks_for_ids(void* unused) {
  pid_t child = fork();
  if (child == 0) {
    long r = setgid(getgid()) + setuid(getuid());
    r += (intptr_t)result_of(takes_its_ids, NULL);
    pid_t grandchild = fork();
    if (grandchild == 0) _exit(setgid(getgid()) != 0);
    _exit(r == 0 && status_of(grandchild) == 0 && takes_its_ids(NULL) == NULL ? 5 : 6);
  }
  (void)unused;
  return (void*)(intptr_t)status_of(child);
}
static void* forks(void* value) {
  pthread_setspecific(key, value);
  own = 7;
  pthread_t self = pthread_self();
  pid_t child = fork();
  if (child == 0) _exit(child_is_right(value, self, 7));
  return (void*)(intptr_t)status_of(child);
}
static void* forks_twice(void* value) {
  pid_t child = fork();
  if (child == 0) _exit((int)(intptr_t)result_of(forks, value));
  return (void*)(intptr_t)status_of(child);
}
static void* sleeps_on(void* p) {
  pause();
  return p;
}

static void children(void) {
  printf("-- the child's one thread\n");
  struct worker w[3];
  int value;
  pthread_key_create(&key, NULL);
  pthread_setspecific(key, &value);
  for (int i = 0; i < 3; i++) start(&w[i], sleeps_on, NULL), await_waiting(&w[i]);
  pthread_t self = pthread_self();
  fflush(stdout);
  pid_t child = MUST(fork());
  if (child == 0) _exit(child_is_right(&value, self, 1));
  SAY("of main's child, right", status_of(child));
  SAY("of a thread's child", (intptr_t)result_of(forks, &value));
  SAY("of a child that a child's thread made", (intptr_t)result_of(forks_twice, &value));
  SAY("a thread's child sets its user and group", (intptr_t)result_of(forks_for_ids, NULL) == 5);
  child = MUST(fork());
  if (child == 0) {
    // The other threads do not exist here: their mutexes stay locked, and they cannot be joined,
    // but new threads can be created and joined.
    for (int i = 0; i < 100; i++) result_of(returns, NULL);
    _exit(tasks());
  }
  // The main one, the one that watches them, and one for each further hub.
  const char* hubs = getenv("TENDRIL_CORES");
  SAY("a child that makes threads ends with as many tasks as it needs",
      status_of(child) <= 2 + (hubs ? atoi(hubs) : 1));
  struct worker many[16];
  for (int i = 0; i < 16; i++) start(&many[i], forks, &value);
  long sum = 0;
  for (int i = 0; i < 16; i++) sum += (intptr_t)end_of(&many[i]);
  SAY("sixteen threads fork at once", sum);
  for (int i = 0; i < 3; i++) pthread_cancel(w[i].id), end_of(&w[i]);
}

// --- timers and pending signals, which a child does not inherit ---

static volatile int taken;
static void note_signal(int signal) {
  (void)signal;
  taken++;
}
static void* forks_with_timer(void* unused) {
  struct itimerspec hour = {{0, 0}, {3600, 0}}, left;
  timer_t mine = make_timer(CLOCK_THREAD_CPUTIME_ID, SIGEV_SIGNAL, SIGUSR1, 0, NULL, 0);
  MUST(timer_settime(mine, 0, &hour, NULL));
  (void)unused;
  pid_t child = fork();
  if (child == 0) {
    int right = timer_gettime(mine, &left) == -1 && errno == EINVAL;
    // The child's timers may get the numbers of the parent's.
    for (int i = 0; i < 4; i++) {
      timer_t t = make_timer(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, NULL, 0);
      right += timer_settime(t, 0, &hour, NULL) == 0 && timer_gettime(t, &left) == 0 &&
               left.it_value.tv_sec >= 3000 && timer_getoverrun(t) == 0;
    }
    _exit(right);
  }
  int right = status_of(child);
  timer_delete(mine);
  return (void*)(intptr_t)right;
}
static void* forks_with_pending(void* unused) {
  sigset_t usr1, pending;
  struct timespec at_once = {0, 0};
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &usr1, NULL);
  pthread_kill(pthread_self(), SIGUSR1);
  (void)unused;
  pid_t child = fork();
  if (child == 0) {
    sigpending(&pending);
    int right = !sigismember(&pending, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &usr1, NULL);
    right += taken == 0;
    pthread_kill(pthread_self(), SIGUSR1);
    _exit(right + (taken == 1));
  }
  int right = status_of(child);
  SAY("  the parent's signal stays", sigtimedwait(&usr1, NULL, &at_once) == SIGUSR1);
  return (void*)(intptr_t)right;
}
static void not_inherited(void) {
  printf("-- timers and pending signals\n");
  // This comes before all other timers: the kernel numbers those of a child from 0 again.
  SAY("a child has none of the parent's timers", (intptr_t)result_of(forks_with_timer, NULL));
  signal(SIGUSR1, note_signal);
  fflush(stdout);
  SAY("a child has no pending signals", (intptr_t)result_of(forks_with_pending, NULL));
  signal(SIGUSR1, SIG_DFL);
}

// --- locks ---

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, plain = PTHREAD_MUTEX_INITIALIZER,
                       recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP,
                       checking = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static sem_t semaphore, stop;
static volatile int state;

static void* holds(void* p) {
  pthread_mutex_lock(&mutex);
  state = 1;
  while (sem_wait(&stop)) {}
  pthread_mutex_unlock(&mutex);
  return p;
}
static void* forks_with_locks(void* p) {
  pthread_mutex_lock(&recursive);
  pthread_mutex_lock(&recursive);
  pthread_mutex_lock(&checking);
  pthread_mutex_lock(&plain);
  pthread_rwlock_wrlock(&rwlock);
  pid_t child = fork();
  if (child == 0) {
    ERR("  trylock of one whose holder is not here", pthread_mutex_trylock(&mutex));
    ERR("  unlock of its own", pthread_mutex_unlock(&plain));
    ERR("  lock of it", pthread_mutex_lock(&plain));
    // These mutexes store their owner's id, which is another one here.
    ERR("  unlock of its recursive one", pthread_mutex_unlock(&recursive));
    ERR("  trylock of it", pthread_mutex_trylock(&recursive));
    ERR("  unlock of its checking one", pthread_mutex_unlock(&checking));
    ERR("  tryrdlock of its rwlock", pthread_rwlock_tryrdlock(&rwlock));
    _exit(0);
  }
  pthread_rwlock_unlock(&rwlock);
  pthread_mutex_unlock(&plain);
  pthread_mutex_unlock(&checking);
  pthread_mutex_unlock(&recursive);
  pthread_mutex_unlock(&recursive);
  return p ? p : (void*)(intptr_t)status_of(child);
}
static void* waits_for_all(void* p) {
  if (p == (void*)1) {
    pthread_mutex_lock(&mutex);
    while (state != 2) pthread_cond_wait(&condition, &mutex);
    pthread_mutex_unlock(&mutex);
  } else {
    while (sem_wait(&semaphore)) {}
  }
  return p;
}
static void* posts(void* p) {
  sem_post(&semaphore);
  pthread_mutex_lock(&mutex);
  state = 2;
  pthread_cond_broadcast(&condition);
  pthread_mutex_unlock(&mutex);
  return p;
}

static void locks(void) {
  printf("-- locks\n");
  struct worker w, a, b;
  sem_init(&stop, 0, 0);
  sem_init(&semaphore, 0, 0);
  start(&w, holds, NULL);
  while (!state) sched_yield();
  fflush(stdout);
  SAY("a thread forks with its locks", (intptr_t)result_of(forks_with_locks, NULL));
  sem_post(&stop);
  end_of(&w);
  // The parent's waiters do not exist in the child, where the same objects work.
  state = 0;
  start(&a, waits_for_all, (void*)1), await_waiting(&a);
  start(&b, waits_for_all, (void*)2), await_waiting(&b);
  pid_t child = MUST(fork());
  if (child == 0) {
    struct worker c, d;
    start(&c, waits_for_all, (void*)1);
    start(&d, waits_for_all, (void*)2);
    result_of(posts, NULL);
    int right = end_of(&c) == (void*)1;
    right += end_of(&d) == (void*)2;
    _exit(right);
  }
  SAY("in the child, other threads wait for the same and are woken", status_of(child));
  SAY("  and no thread here", state);
  result_of(posts, NULL);
  end_of(&a), end_of(&b);
  SAY("until somebody here does", state);
}

// --- pthread_atfork ---

static char order[128];
static void note(char c) {
  size_t n = strlen(order);
  if (n < sizeof order - 1) order[n] = c;
}
static pthread_t forker;
static void prepare_1(void) {
  note('1'), note(pthread_equal(forker, pthread_self()) ? '+' : '-'), pthread_mutex_lock(&mutex);
}
static void parent_1(void) {
  note('a'), note(pthread_equal(forker, pthread_self()) ? '+' : '-'), pthread_mutex_unlock(&mutex);
}
static void child_1(void) {
  note('x'), note(pthread_equal(forker, pthread_self()) ? '+' : '-'), pthread_mutex_unlock(&mutex);
}
static void prepare_2(void) { note('2'); }
static void parent_2(void) { note('b'); }
static void child_2(void) { note('y'), note(getpid() == gettid() ? '+' : '-'); }
static void prepare_3(void) {
  // Waits, so that others run meanwhile.
  note('3');
  struct timespec t = {0, 1000000};
  nanosleep(&t, NULL);
}
static void* forks_noting(void* p) {
  forker = pthread_self();
  order[0] = 0;
  memset(order, 0, sizeof order);
  pid_t child = fork();
  if (child == 0) {
    printf("  in the child: %s\n", order);
    fflush(stdout);
    _exit(0);
  }
  status_of(child);
  printf("  in the parent: %s\n", order);
  fflush(stdout);
  return p;
}
static volatile int quit;
static long counted, seen;
static void* counts(void* p) {
  while (!quit) {
    pthread_mutex_lock(&mutex);
    counted++;
    seen++;
    pthread_mutex_unlock(&mutex);
    sched_yield();
  }
  return p;
}
static void* forks_while_counting(void* p) {
  pid_t child = fork();
  if (child == 0) {
    pthread_mutex_lock(&mutex);
    int whole = counted == seen;
    pthread_mutex_unlock(&mutex);
    _exit(whole);
  }
  return (void*)((intptr_t)p + status_of(child));
}
static void handlers(void) {
  printf("-- pthread_atfork\n");
  ERR("one with a lock", pthread_atfork(prepare_1, parent_1, child_1));
  pthread_atfork(prepare_2, parent_2, child_2);
  pthread_atfork(prepare_3, NULL, NULL);
  printf("main forks\n");
  fflush(stdout);
  forks_noting(NULL);
  printf("a thread forks\n");
  fflush(stdout);
  result_of(forks_noting, NULL);
  struct worker w[2], f[4];
  for (int i = 0; i < 2; i++) start(&w[i], counts, NULL);
  for (int i = 0; i < 4; i++) start(&f[i], forks_while_counting, NULL);
  long whole = 0;
  for (int i = 0; i < 4; i++) whole += (intptr_t)end_of(&f[i]);
  quit = 1;
  for (int i = 0; i < 2; i++) end_of(&w[i]);
  SAY("four children find what the lock guards whole", whole);
}

// --- other ways to make processes ---

static void* vforks(void* command) {
  char* const arguments[] = {"sh", "-c", command, NULL};
  pid_t child = vfork();
  if (child == 0) {
    execv("/bin/sh", arguments);
    _exit(127);
  }
  return (void*)(intptr_t)status_of(child);
}
static void* spawns(void* command) {
  char* const arguments[] = {"sh", "-c", command, NULL};
  pid_t child;
  int e = posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ);
  return (void*)(intptr_t)(e ? -e : status_of(child));
}
static void* spawns_nothing(void* p) {
  char* const arguments[] = {"nothing", NULL};
  pid_t child;
  (void)p;
  return (void*)(intptr_t)posix_spawn(&child, "/nonexistent", NULL, NULL, arguments, environ);
}
static void* pipes(void* p) {
  // A child's output through a pipe, while other threads do the same.
  int fds[2];
  char text[32] = "";
  posix_spawn_file_actions_t actions;
  if (pipe2(fds, O_CLOEXEC)) return NULL;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
  char command[32];
  snprintf(command, sizeof command, "echo %ld", (long)p);
  char* const arguments[] = {"sh", "-c", command, NULL};
  pid_t child;
  int e = posix_spawnp(&child, "sh", &actions, NULL, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  close(fds[1]);
  ssize_t n = e ? 0 : read(fds[0], text, sizeof text - 1);
  close(fds[0]);
  if (!e) status_of(child);
  return (void*)(n > 0 ? atol(text) : -1L);
}
static void* waits_for_any(void* p) {
  pid_t child = fork();
  if (child == 0) _exit((int)(intptr_t)p);
  int s;
  return (void*)(intptr_t)(waitpid(child, &s, 0) == child && WEXITSTATUS(s) == (int)(intptr_t)p);
}
static void programs(void) {
  printf("-- vfork, posix_spawn\n");
  struct worker w[12];
  SAY("vfork and exec in a thread", (intptr_t)result_of(vforks, "exit 5"));
  SAY("  in main", (intptr_t)vforks("exit 6"));
  SAY("posix_spawn in a thread", (intptr_t)result_of(spawns, "exit 7"));
  SAY("  of a missing program", (intptr_t)result_of(spawns_nothing, NULL));
  long sum = 0;
  for (long i = 0; i < 12; i++)
    start(&w[i], i % 3 ? pipes : vforks, i % 3 ? (void*)i : (void*)"exit 2");
  for (int i = 0; i < 12; i++) sum += (intptr_t)end_of(&w[i]);
  SAY("twelve at once", sum);
  sum = 0;
  for (long i = 0; i < 12; i++) start(&w[i], waits_for_any, (void*)(i + 1));
  for (int i = 0; i < 12; i++) sum += (intptr_t)end_of(&w[i]);
  SAY("twelve threads wait for a child each", sum);
}

// An event loop as libuv's: its atfork child handler, registered before there were threads, closes
// the descriptors that it polls.
static int instance = -1, wakes[2];
static sem_t awake;
static void close_instance(void) {
  if (instance >= 0) close(instance);
}
static void* wakes_up(void* unused) {
  (void)unused;
  intptr_t n = write(wakes[1], "x", 1);
  sem_wait(&awake);
  return (void*)n;
}
static void event_loop(void) {
  printf("-- an epoll instance that the child closes in its fork handler\n");
  MUST(instance = epoll_create1(EPOLL_CLOEXEC));
  MUST(pipe(wakes));
  sem_init(&awake, 0, 0);
  struct epoll_event e = {.events = EPOLLIN};
  MUST(epoll_ctl(instance, EPOLL_CTL_ADD, wakes[0], &e));
  result_of(returns, NULL);
  struct worker w;
  char c;
  for (int i = 0; i < 2; i++) {
    start(&w, wakes_up, NULL);
    SAY("a thread wakes the loop", epoll_wait(instance, &e, 1, -1));
    MUST(read(wakes[0], &c, 1));
    sem_post(&awake);
    SAY("  and ends", (intptr_t)end_of(&w));
    if (i) break;
    pid_t child = MUST(fork());
    if (child == 0) _exit(0);
    int status;
    SAY("a child", waitpid(child, &status, 0) == child && status == 0);
  }
  close(instance), close(wakes[0]), close(wakes[1]);
  instance = -1;
}

// A semaphore that processes share: the child's waits do not need what its parent's left behind.
static void* waits_shared(void* sem) {
  int r;
  do r = sem_wait(sem);
  while (r < 0 && errno == EINTR);
  return (void*)(intptr_t)r;
}
static void shared_semaphores(void) {
  printf("-- semaphores that processes share\n");
  sem_t* sems = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < 2; i++) MUST(sem_init(&sems[i], 1, 0));
  struct worker w;
  start(&w, waits_shared, &sems[0]);
  await_waiting(&w);
  pid_t child = MUST(fork());
  if (child == 0) {
    start(&w, waits_shared, &sems[1]);
    await_waiting(&w);
    sem_post(&sems[1]);
    _exit(end_of(&w) ? 1 : 0);
  }
  SAY("a child's thread waits while one of its parent does", status_of(child));
  sem_post(&sems[0]);
  SAY("  which goes on", (intptr_t)end_of(&w));
  munmap(sems, 4096);
}

// What a child changes of a socket that it shares with its parent.
static int connection[2];
static void connects(void) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t n = sizeof a;
  int l = MUST(socket(AF_INET, SOCK_STREAM, 0));
  MUST(bind(l, (struct sockaddr*)&a, sizeof a));
  MUST(listen(l, 1));
  MUST(getsockname(l, (struct sockaddr*)&a, &n));
  connection[0] = MUST(socket(AF_INET, SOCK_STREAM, 0));
  MUST(connect(connection[0], (struct sockaddr*)&a, sizeof a));
  connection[1] = MUST(accept(l, NULL, NULL));
  close(l);
}
static int non_blocking(void) { return fcntl(connection[0], F_SETFL, O_NONBLOCK); }
static int with_time_out(void) {
  struct timeval t = {0, 1000};
  return setsockopt(connection[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
}
static void* receives(void* error) {
  char c;
  errno = 0;
  long r = recv(connection[0], &c, 1, 0);
  *(int*)error = errno;
  return (void*)r;
}
static void shared_socket(const char* what, int (*change)(void)) {
  struct worker w;
  int error;
  connects();
  start(&w, receives, &error);
  await_waiting(&w);
  MUST(write(connection[1], "x", 1));
  long r = (intptr_t)end_of(&w);
  say("a receive that waits", r, error);
  pid_t child = MUST(fork());
  if (child == 0) _exit(change() ? 1 : 0);
  SAY(what, status_of(child));
  start(&w, receives, &error);
  r = (intptr_t)end_of(&w);
  say("  then a receive", r, error);
  close(connection[0]), close(connection[1]);
}
static void shared_sockets(void) {
  printf("-- a socket that parent and child share\n");
  shared_socket("a child makes it non-blocking", non_blocking);
  shared_socket("a child sets a time-out for receiving", with_time_out);
}

int main(void) {
  pthread_atfork(NULL, NULL, close_instance);
  event_loop();
  children();
  not_inherited();
  locks();
  handlers();
  programs();
  shared_semaphores();
  shared_sockets();
  return 0;
}
