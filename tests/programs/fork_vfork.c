// fork(2), vfork(2), posix_spawn(3), exec(3): the child's calls are the C library's, and the parent
// is not affected.
#include "cases.h"

#include <sys/resource.h>

#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/socket.h>

extern char** environ;
static const struct timespec instant = {0, 1000000};
static const struct timespec hour = {3600, 0};
static int p[2];

static int status_of(pid_t c) {
  int s;
  MUST(waitpid(c, &s, 0));
  return WIFEXITED(s) ? WEXITSTATUS(s) : WIFSIGNALED(s) ? 1000 + WTERMSIG(s) : -2;
}

// The calls that must work in every process.
static int works(void) {
  int q[2], s[2], good = 0;
  char b[4];
  if (pipe(q) || socketpair(AF_UNIX, SOCK_STREAM, 0, s)) return -1;
  good += nanosleep(&instant, NULL) == 0;
  good += write(q[1], "ab", 2) == 2 && read(q[0], b, 4) == 2;
  struct pollfd f = {.fd = q[0], .events = POLLIN};
  good += poll(&f, 1, 1) == 0;
  good += send(s[0], "x", 1, 0) == 1 && recv(s[1], b, 4, 0) == 1;
  int ep = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event e = {.events = EPOLLIN};
  good += epoll_ctl(ep, EPOLL_CTL_ADD, s[1], &e) == 0 && epoll_wait(ep, &e, 1, 1) == 0;
  good += system("exit 3") == 3 << 8;
  pid_t c = fork();
  if (c == 0) {
    usleep(1000);
    _exit(write(q[1], "c", 1));
  }
  good += read(q[0], b, 1) == 1;
  int st;
  good += waitpid(c, &st, 0) == c && st == 1 << 8;
  struct addrinfo* a = NULL;
  if (getaddrinfo("localhost", NULL, NULL, &a) == 0) good++, freeaddrinfo(a);
  FILE* o = popen("echo x", "r");
  good += o && fgetc(o) == 'x' && pclose(o) == 0;
  close(ep), close(q[0]), close(q[1]), close(s[0]), close(s[1]);
  return good;
}

static void forks(void) {
  SAY("before the first fork", works());
  fflush(stdout);
  pid_t c = MUST(fork());
  if (c == 0) {
    SAY("in a child", works());
    c = MUST(fork());
    if (c == 0) {
      SAY("in a grandchild", works());
      exit(4);
    }
    SAY("the grandchild's status", status_of(c));
    SAY("in the child again", works());
    exit(5);
  }
  SAY("the child's status", status_of(c));
  SAY("in the parent again", works());
  for (int i = 0; i < 20; i++) {
    if ((c = MUST(fork())) == 0) _exit(works());
    int s = status_of(c);
    if (s != works()) printf("child %d works less\n", i);
  }
  // A child and its parent talk, each waiting for the other.
  int up[2], down[2];
  MUST(pipe(up));
  MUST(pipe(down));
  if ((c = MUST(fork())) == 0) {
    char b;
    for (int i = 0; i < 100; i++) {
      if (read(down[0], &b, 1) != 1 || write(up[1], &b, 1) != 1) _exit(1);
    }
    _exit(0);
  }
  int back = 0;
  for (int i = 0; i < 100; i++) {
    char b = (char)i, r;
    back += write(down[1], &b, 1) == 1 && read(up[0], &r, 1) == 1 && r == b;
  }
  SAY("a hundred questions and answers", back);
  SAY("the child", status_of(c));
  // A pending signal is not inherited, handlers are.
  on_signal(SIGUSR1, 0);
  if ((c = MUST(fork())) == 0) {
    take_handled();
    int r = nanosleep(&hour, NULL);
    _exit(r == -1 && errno == EINTR && handled == 1 ? 7 : 8);
  }
  await_blocked_pid(c);
  kill(c, SIGUSR1);
  SAY("a handler ends a child's sleep", status_of(c));
  SAY("  not the parent's", take_handled());
  SAY("in the parent again", works());
}

// Tests vfork() where no more processes can be made.
static void vfork_fails(void) {
  fflush(stdout);
  pid_t child = MUST(fork());
  if (child == 0) {
    struct rlimit none = {0, 0};
    MUST(setrlimit(RLIMIT_NPROC, &none));
    if (geteuid() == 0) MUST(setresuid(65534, 65534, 65534));
    errno = 0;
    pid_t c = vfork();
    if (c == 0) _exit(0);
    say("a vfork that fails", c, errno);
    errno = 0;
    c = fork();
    if (c == 0) _exit(0);
    say("a fork that fails", c, errno);
    SAY("goes on", usleep(10));
    fflush(stdout);
    _exit(0);
  }
  SAY("status", status_of(child));
}

static volatile int touched;
static void vforks(void) {
  for (int round = 0; round < 3; round++) {
    touched = 0;
    pid_t c = vfork();
    if (c == 0) {
      touched = 1;
      _exit(11);
    }
    SAY("vfork and _exit", status_of(c));
    SAY("  in the same memory", touched);
    c = vfork();
    if (c == 0) {
      execl("/bin/sh", "sh", "-c", "exit 12", (char*)NULL);
      _exit(1);
    }
    SAY("vfork and exec", status_of(c));
    c = vfork();
    if (c == 0) {
      execl("/no/such/program", "x", (char*)NULL);
      _exit(errno == ENOENT ? 13 : 1);
    }
    SAY("vfork and exec that fails", status_of(c));
    // As shells do: redirections, signals, then exec.
    int q[2];
    MUST(pipe(q));
    c = vfork();
    if (c == 0) {
      close(q[0]);
      dup2(q[1], 1);
      close(q[1]);
      signal(SIGINT, SIG_IGN);
      signal(SIGUSR1, SIG_DFL);
      struct sigaction a;
      sigaction(SIGUSR1, NULL, &a);
      execl("/bin/sh", "sh", "-c", "echo from the child", (char*)NULL);
      _exit(1);
    }
    close(q[1]);
    char b[100];
    ssize_t n = read(q[0], b, sizeof b), m;
    while (n > 0 && n < 20 && (m = read(q[0], b + n, sizeof b - (size_t)n)) > 0) n += m;
    printf("its output: %.*s", (int)n, b);
    SAY("  its status", status_of(c));
    close(q[0]);
    struct sigaction a;
    MUST(sigaction(SIGUSR1, NULL, &a));
    SAY("the parent's handler is still there", a.sa_handler == count_signal);
    // Blocking calls in the child: the parent is suspended, so a third process acts.
    MUST(pipe(q));
    pid_t other = MUST(fork());
    if (other == 0) {
      nanosleep(&instant, NULL);
      write(q[1], "z", 1);
      _exit(0);
    }
    c = vfork();
    if (c == 0) {
      char z = 0;
      ssize_t r = read(q[0], &z, 1);
      struct timespec t = {0, 1000000};
      int s = nanosleep(&t, NULL);
      struct pollfd f = {.fd = q[0], .events = POLLIN};
      int w = poll(&f, 1, 2);
      for (int i = 0; i < 300; i++) write(q[1], "y", 1), read(q[0], &z, 1);
      close(q[0]);
      close(q[1]);
      _exit(r == 1 && s == 0 && w == 0 ? 14 : 1);
    }
    SAY("a vfork child that waits", status_of(c));
    SAY("  whose descriptors are its own", write(q[1], "z", 1));
    SAY("  and ours go on", read(q[0], b, 1));
    SAY("the other child", status_of(other));
    close(q[0]);
    close(q[1]);
    SAY("in the parent again", works());
  }
}

static void spawns(void) {
  pid_t c;
  char* arguments[] = {"sh", "-c", "read x; exit $x", NULL};
  int q[2];
  MUST(pipe(q));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, q[0], 0);
  posix_spawn_file_actions_addclose(&actions, q[1]);
  SAY("posix_spawn", posix_spawn(&c, "/bin/sh", &actions, NULL, arguments, environ));
  write(q[1], "21\n", 3);
  SAY("its status", status_of(c));
  SAY("posix_spawn of nothing",
      posix_spawn(&c, "/no/such/program", NULL, NULL, arguments, environ) == ENOENT);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t set;
  sigfillset(&set);
  posix_spawnattr_setsigdefault(&attributes, &set);
  sigemptyset(&set);
  posix_spawnattr_setsigmask(&attributes, &set);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  arguments[2] = "kill -USR1 $$; exit 1";
  SAY("posix_spawnp with default signals",
      posix_spawnp(&c, "sh", NULL, &attributes, arguments, environ));
  SAY("its status", status_of(c));
  signal(SIGUSR1, SIG_IGN);
  arguments[2] = "kill -USR1 $$; exit 2";
  SAY("posix_spawn, the child inherits ignored signals",
      posix_spawn(&c, "/bin/sh", NULL, NULL, arguments, environ));
  SAY("its status", status_of(c));
  on_signal(SIGUSR1, 0);
  SAY("posix_spawn, does not inherit handlers",
      posix_spawn(&c, "/bin/sh", NULL, NULL, arguments, environ));
  SAY("its status", status_of(c));
  close(q[0]);
  close(q[1]);
  SAY("in the parent again", works());
}

static void* thread(void* arg) {
  (void)arg;
  pid_t c = fork();
  if (c == 0) _exit(works());
  return (void*)(long)status_of(c);
}

static void threads(void) {
  pthread_t t[4];
  void* r;
  for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, thread, NULL);
  for (int i = 0; i < 4; i++) {
    pthread_join(t[i], &r);
    SAY("a thread's child", (long)r);
  }
}

int main(int argc, char** argv) {
  if (argc > 1) {
    // After exec.
    SAY("after exec", works());
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    int blocked = 0;
    for (int s = 1; s < 65; s++) blocked += sigismember(&mask, s) == 1;
    SAY("  no signal is blocked", blocked);
    int fds = 0;
    for (int i = 3; i < 100; i++) fds += fcntl(i, F_GETFD) >= 0;
    SAY("  descriptors beyond the standard ones", fds);
    return 0;
  }
  MUST(pipe2(p, O_CLOEXEC));
  on_signal(SIGUSR1, 0);
  forks();
  vforks();
  vfork_fails();
  spawns();
  threads();
  fflush(stdout);
  execl("/proc/self/exe", argv[0], "again", (char*)NULL);
}
