// The number of kernel threads of the process once its threads have ended: one, after a while at
// most. A call that requires this (unshare(2) with CLONE_NEWUSER) does not fail because of Tendril.
#include "threads.h"

#include <netdb.h>

static int tasks(void) {
  DIR* d = opendir("/proc/self/task");
  int n = 0;
  for (struct dirent* e; d && (e = readdir(d));) n += e->d_name[0] != '.';
  if (d) closedir(d);
  return n;
}
static void await_one_task(void) {
  while (tasks() != 1) {
    struct timespec t = {0, 1000000};
    nanosleep(&t, NULL);
  }
}

static void* ends(void* p) { return p; }
static void* naps(void* p) {
  usleep(1000);
  return p;
}
static volatile int others;
static void* computes(void* p) {
  others++;
  while (others < 2) {}
  return p;
}
// A wait in the C library.
static void* looks_up(void* p) {
  struct addrinfo* a = NULL;
  if (getaddrinfo("localhost", NULL, NULL, &a) == 0) freeaddrinfo(a);
  return p;
}
// A wait in the kernel: a record lock that another process holds.
static void* locks(void* path) {
  int fd = MUST(open(path, O_RDWR));
  struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  MUST(fcntl(fd, F_SETLKW, &l));
  close(fd);
  return NULL;
}

static void run(const char* name, void* (*f)(void*), void* argument, int n) {
  struct worker w[4];
  for (int i = 0; i < n; i++) start(&w[i], f, argument);
  for (int i = 0; i < n; i++) end_of(&w[i]);
  await_one_task();
  printf("%s: one task is left\n", name);
  fflush(stdout);
}

// With TENDRIL_CORES, the runtime starts kernel threads for the program's threads: as many as asked
// for, with the main thread's.
static int carriers(void) {
  DIR* d = opendir("/proc/self/task");
  int n = 0;
  for (struct dirent* e; d && (e = readdir(d));) {
    char path[300], name[20] = "";
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
    FILE* f = fopen(path, "r");
    if (!f) continue;
    n += fgets(name, sizeof name, f) && !strcmp(name, "tendril-hub\n");
    fclose(f);
  }
  if (d) closedir(d);
  return n;
}
static int arrived, may_go;
static void* spins(void* p) {
  __atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
  while (!__atomic_load_n(&may_go, __ATOMIC_SEQ_CST)) {}
  return p;
}
static void many_that_compute(void) {
  struct worker w[6];
  const char* asked = getenv("TENDRIL_CORES");
  for (int i = 0; i < 6; i++) {
    start(&w[i], spins, NULL);
    while (__atomic_load_n(&arrived, __ATOMIC_SEQ_CST) <= i) sched_yield();
  }
  SAY("more carriers than asked for", carriers() > (asked ? atoi(asked) : 1) - 1);
  __atomic_store_n(&may_go, 1, __ATOMIC_SEQ_CST);
  for (int i = 0; i < 6; i++) end_of(&w[i]);
  await_one_task();
}

int main(void) {
  printf("at first: %d\n", tasks());
  run("a thread that ends", ends, NULL, 1);
  run("some that sleep", naps, NULL, 4);
  run("some that compute", computes, NULL, 2);
  many_that_compute();
  run("some that look up a name", looks_up, NULL, 4);
  char path[] = "lock";
  int fd = MUST(open(path, O_RDWR | O_CREAT, 0600)), go[2];
  MUST(pipe(go));
  struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  if (peer()) {
    MUST(fcntl(fd, F_SETLKW, &l));
    MUST(write(go[1], "x", 1));
    await_blocked();
    leave();
  }
  char c;
  MUST(read(go[0], &c, 1));
  run("a thread that waits for a lock", locks, path, 1);
  peer_ends();
  for (int i = 0; i < 3; i++) run("again", i % 2 ? computes : naps, NULL, 2);
  // In a child, since it changes the process; where it is not permitted at all, the child prints
  // that.
  fflush(stdout);
  pid_t child = MUST(fork());
  if (child == 0) {
    run("in a child", naps, NULL, 2);
    long r = unshare(CLONE_NEWUSER);
    for (int tries = 0; r < 0 && errno == EINVAL && tries < 1000; tries++)
      usleep(1000), r = unshare(CLONE_NEWUSER);
    SAY("unshare", r);
    fflush(stdout);
    _exit(0);
  }
  int status;
  MUST(waitpid(child, &status, 0));
  return status;
}
