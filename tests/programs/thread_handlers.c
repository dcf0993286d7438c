// Handlers in which a thread waits for other threads, as garbage collectors stop all threads and
// resume them: sigsuspend(2), sem_wait(3), pthread_mutex_lock(3), read(2) and a busy loop in
// handlers; the masks, and EINTR of the interrupted calls.
#include "cases.h"
#include "thread_kind.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <sys/mman.h>

#define THREADS 6

static const struct timespec hour = {3600, 0};

static void install(int signal, void (*handler)(int), int flags) {
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_handler = handler;
  a.sa_flags = flags;
  sigfillset(&a.sa_mask);
  MUST(sigaction(signal, &a, NULL));
}
static void wait_sem(sem_t* s) {
  while (sem_wait(s)) {}
}
static int blocks_signal(int signal) {
  sigset_t s;
  pthread_sigmask(SIG_BLOCK, NULL, &s);
  return sigismember(&s, signal);
}

// --- a stopped world ---

static sem_t stopped, started;
static volatile int world_stopped, quit;
static volatile long ran_while_stopped, opened, turns[THREADS];
static pthread_t mutators[THREADS];
static int ends[2];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

static void stop_here(int signal) {
  int saved = errno;
  sigset_t all_but_one;
  sigfillset(&all_but_one);
  sigdelset(&all_but_one, SIGUSR2);
  sem_post(&stopped);
  while (world_stopped) sigsuspend(&all_but_one);
  if (!blocks_signal(SIGUSR1) || !blocks_signal(SIGUSR2)) opened++;
  sem_post(&started);
  errno = saved;
}
static void go_on(int signal) {}

static void* mutate(void* p) {
  long which = (long)p;
  for (char c; !quit; turns[which]++) {
    struct pollfd f = {.fd = ends[0], .events = POLLIN};
    struct timespec moment = {0, 1000};
    switch (which) {
      case 0:
        read(ends[0], &c, 1);
        break;
      case 1:
        poll(&f, 1, 1);
        break;
      case 2:
        nanosleep(&moment, NULL);
        break;
      case 3:
        free(malloc(1000));
        break;
      case 4:
        pthread_mutex_lock(&mutex);
        if (!quit) pthread_cond_wait(&condition, &mutex);
        pthread_mutex_unlock(&mutex);
        break;
      default:
        break;  // computes
    }
  }
  return NULL;
}

static void stop_the_world(void) {
  world_stopped = 1;
  for (int i = 0; i < THREADS; i++) MUST(-pthread_kill(mutators[i], SIGUSR1));
  for (int i = 0; i < THREADS; i++) wait_sem(&stopped);
}
static void start_the_world(void) {
  world_stopped = 0;
  for (int i = 0; i < THREADS; i++) MUST(-pthread_kill(mutators[i], SIGUSR2));
  for (int i = 0; i < THREADS; i++) wait_sem(&started);
}

static void collector(void) {
  printf("-- a stopped world\n");
  sem_init(&stopped, 0, 0), sem_init(&started, 0, 0);
  MUST(pipe(ends));
  install(SIGUSR1, stop_here, SA_RESTART);
  install(SIGUSR2, go_on, SA_RESTART);
  for (long i = 0; i < THREADS; i++) pthread_create(&mutators[i], NULL, mutate, (void*)i);
  while (!turns[5]) sched_yield();
  for (int round = 0; round < 20; round++) {
    stop_the_world();
    long before = turns[1] + turns[2] + turns[3] + turns[5];
    struct timespec collecting = {0, 100000};
    nanosleep(&collecting, NULL);
    if (turns[1] + turns[2] + turns[3] + turns[5] != before) ran_while_stopped++;
    start_the_world();
  }
  SAY("a thread ran although it was stopped", ran_while_stopped);
  SAY("a handler's mask was another after sigsuspend", opened);
  quit = 1;
  write(ends[1], "x", 1);
  pthread_mutex_lock(&mutex);
  pthread_cond_broadcast(&condition);
  pthread_mutex_unlock(&mutex);
  for (int i = 0; i < THREADS; i++) SAY("a thread ends", pthread_join(mutators[i], NULL));
  close(ends[0]), close(ends[1]);
}

// --- waits in a handler ---

static sem_t go, entered;
static volatile int flag, result;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;

static void waits_for_sem(int s) {
  sem_post(&entered);
  wait_sem(&go);
  result = 1;
}
static void waits_for_mutex(int s) {
  sem_post(&entered);
  pthread_mutex_lock(&held);
  result = 2;
  pthread_mutex_unlock(&held);
}
static void waits_for_byte(int s) {
  char c = 0;
  sem_post(&entered);
  result = read(ends[0], &c, 1) == 1 && c == 'b' ? 3 : -1;
}
static void waits_for_memory(int s) {
  sem_post(&entered);
  while (!flag) {}
  result = 4;
}
static void waits_politely(int s) {
  sem_post(&entered);
  while (!flag) sched_yield();
  result = 5;
}
static void waits_asleep(int s) {
  struct timespec moment = {0, 100000};
  sem_post(&entered);
  while (!flag) nanosleep(&moment, NULL);
  result = 6;
}

// Unblocks the signals only while it sleeps.
static long sleep_open(void) {
  sigset_t none;
  sigemptyset(&none);
  sem_post(&entered);
  long r = ppoll(NULL, 0, &hour, &none);
  return r < 0 ? -(long)errno : r;
}
static void block(int signal) {
  sigset_t s;
  sigemptyset(&s);
  sigaddset(&s, signal);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
}
static void* sleeps_long(void* p) {
  block(SIGUSR1), block(SIGUSR2);
  return (void*)sleep_open();
}
static void* computes(void* p) {
  sem_post(&entered);
  while (!quit) {}
  return NULL;
}

static void waits(void) {
  printf("-- waits in a handler\n");
  static void (*const handlers[])(int) = {waits_for_sem,    waits_for_mutex, waits_for_byte,
                                          waits_for_memory, waits_politely,  waits_asleep};
  static void* (*const bodies[])(void*) = {sleeps_long, computes};
  sem_init(&go, 0, 0), sem_init(&entered, 0, 0);
  MUST(pipe(ends));
  for (unsigned i = 0; i < 12; i++) {
    pthread_t t;
    void* r;
    quit = flag = result = 0;
    install(SIGUSR1, handlers[i / 2], 0);
    pthread_create(&t, NULL, bodies[i % 2], NULL);
    wait_sem(&entered);
    pthread_mutex_lock(&held);
    pthread_kill(t, SIGUSR1);
    wait_sem(&entered);
    SAY("while it waits", result);
    flag = 1;
    sem_post(&go);
    pthread_mutex_unlock(&held);
    write(ends[1], "b", 1);
    while (!result) sched_yield();
    quit = 1;
    pthread_join(t, &r);
    SAY("  what it did", result);
    SAY("  how its thread's call ended", (long)r);
    if (handlers[i / 2] != waits_for_byte) read(ends[0], &(char){0}, 1);
    if (handlers[i / 2] != waits_for_sem) wait_sem(&go);
  }

  // The main thread handles a signal for the process.
  install(SIGALRM, waits_for_sem, 0);
  block(SIGALRM);
  pthread_t t;
  quit = result = 0;
  pthread_create(&t, NULL, computes, NULL);
  wait_sem(&entered);
  setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 1000}}, NULL);
  sem_post(&go);
  SAY("main's sleep, ended by a timer", sleep_open());
  SAY("  what its handler did", result);
  limit();
  wait_sem(&entered), wait_sem(&entered);
  quit = 1;
  pthread_join(t, NULL);
  close(ends[0]), close(ends[1]);
}

// --- the call that was interrupted ---

static volatile int nested_blocked;
static void suspends_again(int s) {
  sigset_t open;
  sigfillset(&open);
  sigdelset(&open, SIGUSR2);
  sem_post(&entered);
  result = sigsuspend(&open) == -1 && errno == EINTR;
  nested_blocked = blocks_signal(SIGUSR1) * 10 + blocks_signal(SIGUSR2);
}
static void* suspends(void* p) {
  sigset_t mask;
  block(SIGUSR1), block(SIGHUP);
  sem_post(&entered);
  sigemptyset(&mask);
  long r = sigsuspend(&mask);
  int error = errno;
  return (void*)(long)(r == -1 && error == EINTR && blocks_signal(SIGUSR1) &&
                       blocks_signal(SIGHUP) && !blocks_signal(SIGUSR2));
}

static sigjmp_buf back;
static void jumps(int s) {
  sem_post(&entered);
  wait_sem(&go);
  siglongjmp(back, 1);
}
static void* suspends_and_is_left(void* p) {
  volatile long left = 0;
  sigset_t mask, after;
  sigemptyset(&mask);
  block(SIGUSR1);
  for (volatile int i = 0; i < 3; i++) {
    if (sigsetjmp(back, 1) == 0) {
      sem_post(&entered);
      sigsuspend(&mask);
    } else {
      left++;
    }
  }
  struct timespec none = {0, 0};
  sigaddset(&mask, SIGHUP);
  ppoll(NULL, 0, &none, &mask);
  pthread_sigmask(SIG_BLOCK, NULL, &after);
  return (void*)(left * 10 + sigismember(&after, SIGHUP) + sigismember(&after, SIGUSR1));
}

static void restarts(int s) {
  struct timespec moment = {0, 1000};
  nanosleep(&moment, NULL);
  sem_post(&entered);
}
static void* reads(void* p) {
  char c = 0;
  sem_post(&entered);
  long r = read(ends[0], &c, 1);
  return (void*)(r < 0 ? -(long)errno : c);
}

static void interrupted(void) {
  printf("-- the call that was interrupted\n");
  pthread_t t;
  void* r;
  install(SIGUSR1, suspends_again, SA_RESTART);
  install(SIGUSR2, go_on, SA_RESTART);
  pthread_create(&t, NULL, suspends, NULL);
  wait_sem(&entered);
  pthread_kill(t, SIGUSR1);
  wait_sem(&entered);
  pthread_kill(t, SIGUSR2);
  pthread_join(t, &r);
  SAY("sigsuspend in a handler in sigsuspend", result);
  SAY("  what the handler blocks afterwards", nested_blocked);
  SAY("  the thread's own mask comes back", (long)r);

  install(SIGUSR1, jumps, SA_RESTART);
  pthread_create(&t, NULL, suspends_and_is_left, NULL);
  for (int i = 0; i < 3; i++) {
    wait_sem(&entered);
    pthread_kill(t, SIGUSR1);
    wait_sem(&entered);
    sem_post(&go);
  }
  pthread_join(t, &r);
  SAY("left by siglongjmp after it has waited", (long)r);

  MUST(pipe(ends));
  install(SIGUSR1, restarts, SA_RESTART);
  pthread_create(&t, NULL, reads, NULL);
  wait_sem(&entered);
  for (int i = 0; i < 3; i++) {
    pthread_kill(t, SIGUSR1);
    wait_sem(&entered);
  }
  write(ends[1], "r", 1);
  pthread_join(t, &r);
  SAY("a read goes on after handlers that sleep", (long)r == 'r');

  install(SIGUSR2, restarts, 0);
  pthread_create(&t, NULL, sleeps_long, NULL);
  wait_sem(&entered);
  pthread_kill(t, SIGUSR2);
  wait_sem(&entered);
  pthread_join(t, &r);
  SAY("a sleep ends after one", (long)r);
  close(ends[0]), close(ends[1]);
}

// --- signals that come at any moment, mostly while the threads give way to each other ---

static void* keeps_errno(void* unused) {
  long changed = 0;
  while (handled < 1000) {
    errno = EDOM;
    sched_yield();
    changed += errno != EDOM;
  }
  return (void*)changed;
}
static void at_any_moment(void) {
  on_signal(SIGUSR1, SA_RESTART);
  take_handled();
  pid_t parent = getpid();
  if (peer()) {
    while (getppid() == parent && kill(parent, SIGUSR1) == 0) sched_yield();
    leave();
  }
  pthread_t id[2];
  void* changed[2];
  for (int i = 0; i < 2; i++) pthread_create(&id[i], NULL, keeps_errno, NULL);
  for (int i = 0; i < 2; i++) pthread_join(id[i], &changed[i]);
  SAY("how often signals changed errno", (long)changed[0] + (long)changed[1]);
  kill(peer_pid, SIGKILL);
  MUST(waitpid(peer_pid, NULL, 0));
}

// --- caught writes, by which garbage collectors note the pages that change ---

static void lets_write(int signal, siginfo_t* info, void* context) {
  mprotect((void*)((uintptr_t)info->si_addr & ~4095ul), 4096, PROT_READ | PROT_WRITE);
}
static void* is_caught(void* unused) {
  char* page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  long blocked = 0;
  for (int i = 0; i < 3000; i++) {
    *(volatile char*)page = 1;
    mprotect(page, 4096, PROT_READ);
  }
  sigset_t now;
  pthread_sigmask(SIG_BLOCK, NULL, &now);
  for (int s = 1; s < 32; s++) blocked += sigismember(&now, s);
  munmap(page, 4096);
  return (void*)blocked;
}
static void writes(void) {
  struct sigaction a = {.sa_sigaction = lets_write, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigaddset(&a.sa_mask, SIGUSR2);
  MUST(sigaction(SIGSEGV, &a, NULL));
  pthread_t id[THREADS];
  void* blocks;
  long blocked = 0;
  for (int i = 0; i < THREADS; i++) pthread_create(&id[i], NULL, is_caught, NULL);
  for (int i = 0; i < THREADS; i++) pthread_join(id[i], &blocks), blocked += (intptr_t)blocks;
  SAY("what threads block whose writes were caught", blocked);
}

int main(void) {
  writes();
  at_any_moment();
  collector();
  waits();
  interrupted();
}
