// A seccomp filter that refuses (EPERM) the system calls that an ordinary program does not make,
// but Tendril might: reading, writing and sleeping go on, with and without other threads. So does a
// receive, whichever poller it waits by.
#include "tcp_pair.h"
#include "threads.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define REFUSED(n) \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, n, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

static void install(struct sock_filter* f, size_t n) {
  struct sock_fprog program = {(unsigned short)n, f};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(77);
}
static void filter(void) {
  struct sock_filter f[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                            REFUSED(SYS_epoll_create1),
                            REFUSED(SYS_epoll_ctl),
                            REFUSED(SYS_epoll_pwait),
                            REFUSED(SYS_epoll_pwait2),
                            REFUSED(SYS_eventfd2),
                            REFUSED(SYS_preadv2),
                            REFUSED(SYS_pwritev2),
                            REFUSED(SYS_madvise),
                            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  install(f, sizeof f / sizeof *f);
}
static void filter_rings(void) {
  struct sock_filter f[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                            REFUSED(SYS_io_uring_setup), REFUSED(SYS_io_uring_enter),
                            REFUSED(SYS_io_uring_register),
                            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  install(f, sizeof f / sizeof *f);
}

static void* ends(void* p) { return p; }
static void* stays(void* p) {
  sleep(1000);
  return p;
}

static void use(const char* name, void* (*thread)(void*)) {
  printf("%s: ", name);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    pthread_t t;
    if (thread) pthread_create(&t, NULL, thread, NULL);
    if (thread == ends) pthread_join(t, NULL);
    int p[2];
    char data[10], line[50];
    if (pipe(p) != 0) _exit(1);
    filter();
    ssize_t written = write(p[1], "hello", 5), got = read(p[0], data, sizeof data);
    int length = snprintf(line, sizeof line, "written %zd, read %zd, slept %d\n", written, got,
                          usleep(1000));
    if (write(1, line, (size_t)length) < 0) _exit(2);
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  printf("ended with %d\n", status);
}

static int times_received;
static void* receives(void* p) {
  char data[10];
  for (int i = 1; i <= 2; i++) {
    SAY("received", recv(*(int*)p, data, sizeof data, 0));
    __atomic_store_n(&times_received, i, __ATOMIC_RELEASE);
  }
  return p;
}
static void receive(const char* name, int begun) {
  printf("%s: ", name);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    int s[2];
    tcp_pair(s);
    struct worker w;
    if (!begun) filter_rings();
    start(&w, receives, &s[1]);
    await_waiting(&w);
    if (begun) filter_rings();
    MUST(send(s[0], "hello", 5, 0));
    while (!__atomic_load_n(&times_received, __ATOMIC_ACQUIRE)) sched_yield();
    MUST(send(s[0], "hello", 5, 0));
    end_of(&w);
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  printf("ended with %d\n", status);
}

// The filter allows no signal handler: threads take turns nevertheless, each waiting for the other
// without a call.
static void filter_handlers(void) {
  struct sock_filter f[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                            REFUSED(SYS_rt_sigaction),
                            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  install(f, sizeof f / sizeof *f);
}
static volatile int turn;
static void* takes_turns(void* p) {
  for (int i = 0; i < 10; i++) {
    while (turn % 2 == 0) {}
    turn++;
  }
  return p;
}
// Held while the first thread begins, and let go of beside it.
static pthread_mutex_t held[3];
static pthread_rwlock_t read_held, write_held;
static void hold(void) {
  for (int type = PTHREAD_MUTEX_NORMAL; type <= PTHREAD_MUTEX_ERRORCHECK; type++) {
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, type);
    pthread_mutex_init(&held[type], &a);
    pthread_mutex_lock(&held[type]);
  }
  pthread_mutex_lock(&held[PTHREAD_MUTEX_RECURSIVE]);
  pthread_rwlock_rdlock(&read_held);
  pthread_rwlock_wrlock(&write_held);
}
static void* wants_held(void* p) {
  for (int i = 0; i < 3; i++) pthread_mutex_lock(&held[i]), pthread_mutex_unlock(&held[i]);
  pthread_rwlock_wrlock(&read_held);
  pthread_rwlock_unlock(&read_held);
  pthread_rwlock_rdlock(&write_held);
  pthread_rwlock_unlock(&write_held);
  return p;
}
static void let_go(pthread_t wants) {
  ERR("a read lock beside a read lock", pthread_rwlock_tryrdlock(&read_held));
  ERR("  let go", pthread_rwlock_unlock(&read_held));
  ERR("a read lock beside a write lock", pthread_rwlock_tryrdlock(&write_held));
  ERR("the recursive one", pthread_mutex_unlock(&held[PTHREAD_MUTEX_RECURSIVE]));
  for (int i = 0; i < 3; i++) ERR("a mutex", pthread_mutex_unlock(&held[i]));
  ERR("the read lock", pthread_rwlock_unlock(&read_held));
  ERR("the write lock", pthread_rwlock_unlock(&write_held));
  pthread_join(wants, NULL);
  for (int i = 0; i < 3; i++) ERR("a mutex ends", pthread_mutex_destroy(&held[i]));
  ERR("it is free", pthread_rwlock_trywrlock(&read_held));
  ERR("and this one", pthread_rwlock_trywrlock(&write_held));
}
static void without_handlers(void) {
  printf("no handlers: ");
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    pthread_t t, wants;
    hold();
    filter_handlers();
    if (pthread_create(&t, NULL, takes_turns, NULL)) _exit(2);
    if (pthread_create(&wants, NULL, wants_held, NULL)) _exit(3);
    for (int i = 0; i < 10; i++) {
      while (turn % 2) {}
      turn++;
    }
    pthread_join(t, NULL);
    printf("%d turns\n", turn);
    let_go(wants);
    fflush(stdout);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (status) printf("status %x\n", status);
  fflush(stdout);
}

int main(void) {
  without_handlers();
  receive("forbidden before a receive", 0);
  receive("forbidden during a receive", 1);
  use("no thread", NULL);
  use("a thread that has ended", ends);
  use("a thread that stays", stays);
  return 0;
}
