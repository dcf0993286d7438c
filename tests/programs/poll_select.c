// poll(2), ppoll(2), select(2), pselect(2).
#include "tcp_pair.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>

static char buf[1 << 17];

// Prints the result of a poll of one descriptor, and its events.
static void say_poll(const char* sentence, int fd, short events, int timeout) {
  struct pollfd p = {.fd = fd, .events = events, .revents = 0x7fff};
  errno = 0;
  long r = poll(&p, 1, timeout);
  int error = errno;
  printf("%s: ", sentence);
  say("poll", r, error);
  printf("  %#x\n", (unsigned short)p.revents);
}

static void polls(void) {
  int p[2], s[2], f = MUST(open("/dev/null", O_RDWR)),
                  file = MUST(open("file", O_RDWR | O_CREAT, 0600));
  MUST(pipe(p));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  say_poll("nothing to read", p[0], POLLIN, 0);
  say_poll("nothing to read, for a while", p[0], POLLIN, 20);
  say_poll("room to write", p[1], POLLOUT, -1);
  say_poll("asking for nothing", p[0], 0, 20);
  say_poll("a negative descriptor", -1, POLLIN, 20);
  say_poll("another negative descriptor", -77, POLLIN, 20);
  say_poll("a closed descriptor", 999, POLLIN, -1);
  say_poll("a closed descriptor, asking for nothing", 999, 0, -1);
  say_poll("a device", f, POLLIN | POLLOUT, -1);
  say_poll("a file", file, POLLIN | POLLOUT | POLLRDNORM, -1);
  say_poll("a file, for priority", file, POLLPRI, 20);
  MUST(write(p[1], "x", 1));
  say_poll("something to read", p[0], POLLIN, -1);
  say_poll("something to read, in other words", p[0], POLLRDNORM, -1);
  MUST(read(p[0], buf, 1));
  if (peer()) {
    await_blocked();
    write(p[1], "x", 1);
    leave();
  }
  say_poll("waiting", p[0], POLLIN, -1);
  peer_ends();
  MUST(read(p[0], buf, 1));
  if (peer()) {
    await_blocked();
    write(p[1], "x", 1);
    leave();
  }
  say_poll("waiting for POLLRDNORM", p[0], POLLRDNORM, 3600000);
  peer_ends();
  MUST(read(p[0], buf, 1));
  set_nonblocking(p[1], 1);
  while (write(p[1], buf, sizeof buf) > 0) {}
  say_poll("no room", p[1], POLLOUT, 20);
  if (peer()) {
    await_blocked();
    read(p[0], buf, sizeof buf);
    leave();
  }
  say_poll("waiting for POLLWRNORM", p[1], POLLWRNORM, 3600000);
  peer_ends();
  struct pollfd all[4] = {
      {-5, POLLIN, 99}, {p[0], POLLIN, 99}, {s[0], POLLIN, 99}, {s[1], POLLOUT | POLLRDHUP, 99}};
  SAY("several", poll(all, 4, -1));
  printf("  %#x %#x %#x %#x\n", all[0].revents, all[1].revents, all[2].revents, all[3].revents);
  all[1].fd = 999;
  SAY("several, one of them closed", poll(all, 4, -1));
  printf("  %#x %#x %#x %#x\n", all[0].revents, all[1].revents, all[2].revents, all[3].revents);
  all[1].fd = p[0];
  struct pollfd twice[2] = {{s[0], POLLIN, 0}, {s[0], POLLIN, 0}};
  if (peer()) {
    await_blocked();
    write(s[1], "abc", 3);
    leave();
  }
  SAY("the same twice", poll(twice, 2, -1));
  peer_ends();
  MUST(read(s[0], buf, 10));
  struct pollfd two[2] = {{-5, POLLIN, 99}, {s[0], POLLIN, 99}};
  if (peer()) {
    await_blocked();
    write(s[1], "abc", 3);
    leave();
  }
  SAY("a negative one beside one that is waited for", poll(two, 2, -1));
  printf("  %#x %#x\n", two[0].revents, two[1].revents);
  peer_ends();
  MUST(read(s[0], buf, 10));
  if (peer()) {
    close(s[1]);
    close(p[1]);
    await_blocked();
    shutdown(s[0], SHUT_RD);
    leave();
  }
  say_poll("the peer will write no more", s[1], POLLRDHUP | POLLIN, 0);
  say_poll("nor read", s[0], POLLIN | POLLRDHUP, -1);
  peer_ends();
  close(s[1]);
  say_poll("the peer has closed", s[0], POLLIN | POLLOUT | POLLRDHUP, -1);
  say_poll("the peer has closed, no events requested", s[0], 0, -1);
  close(p[1]);
  set_nonblocking(p[0], 1);
  while (read(p[0], buf, sizeof buf) > 0) {}
  say_poll("a pipe at its end, asking for nothing", p[0], 0, -1);
  close(p[0]);
  pipe_to_peer(p, 1);
  say_poll("waiting for the end of a pipe, asking for nothing", p[0], 0, -1);
  peer_ends();
  close(p[0]);
  pipe_to_peer(p, 0);
  say_poll("waiting until a pipe has no reader, asking for priority", p[1], POLLPRI, -1);
  peer_ends();
  close(p[1]);
  MUST(pipe(p));
  close(p[0]);
  say_poll("a pipe without a reader", p[1], POLLOUT, -1);
  close(p[1]);
  close(s[0]);
  SAY("poll of nothing", poll(NULL, 0, 20));
  SAY("poll of a bad place", poll(NOWHERE, 1, 20));
  SAY("poll of a bad place, at once", poll(NOWHERE, 1, 0));
  struct rlimit limit, old;
  getrlimit(RLIMIT_NOFILE, &old);
  limit = old;
  limit.rlim_cur = 10;
  setrlimit(RLIMIT_NOFILE, &limit);
  static struct pollfd many[2000];
  for (int i = 0; i < 2000; i++) many[i].fd = -1;
  SAY("poll of more than the limit", poll(many, 11, 20));
  setrlimit(RLIMIT_NOFILE, &old);
  SAY("poll of a thousand times nothing", poll(many, 1000, 20));
  MUST(pipe(p));
  for (int i = 0; i < 1000; i++) many[i] = (struct pollfd){p[i % 2], POLLIN, 0};
  SAY("poll of a thousand times the same", poll(many, 1000, 20));
  if (peer()) {
    await_blocked();
    write(p[1], "x", 1);
    leave();
  }
  SAY("poll of a thousand times the same", poll(many, 1000, -1));
  peer_ends();
  MUST(read(p[0], buf, 1));
  SAY_INTERRUPTED("poll", poll(many, 1, -1), {});
  SAY_INTERRUPTED("poll of nothing", poll(NULL, 0, -1), {});
  on_signal(SIGUSR1, 0);
  raise(SIGUSR1);
  SAY("a signal that came before", poll(many, 1, 20));
  take_handled();
  close(p[0]);
  close(p[1]);
  close(f);
  close(file);
}

static void masks(void) {
  int p[2];
  MUST(pipe(p));
  sigset_t usr1, none, before;
  sigemptyset(&none);
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  on_signal(SIGUSR1, SA_RESTART);
  MUST(sigprocmask(SIG_BLOCK, &usr1, NULL));
  struct pollfd f = {.fd = p[0], .events = POLLIN};
  struct timespec little = {0, 20000000}, zero = {0, 0}, bad = {0, 1000000000}, negative = {-1, 0};
  fd_set r;
  take_handled();
  raise(SIGUSR1);
  SAY("ppoll lets a pending signal in", ppoll(&f, 1, NULL, &none));
  SAY("  which ran", take_handled());
  raise(SIGUSR1);
  SAY("ppoll lets it in at once", ppoll(&f, 1, &zero, &none));
  SAY("  which ran", take_handled());
  MUST(write(p[1], "x", 1));
  raise(SIGUSR1);
  SAY("but returns what is ready", ppoll(&f, 1, NULL, &none));
  SAY("  which ran", take_handled());
  MUST(sigprocmask(SIG_UNBLOCK, &usr1, NULL));
  SAY("  which ran afterwards", take_handled());
  MUST(sigprocmask(SIG_BLOCK, &usr1, NULL));
  MUST(read(p[0], buf, 1));
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  SAY("ppoll lets a signal in while it waits", ppoll(&f, 1, NULL, &none));
  SAY("  which ran", take_handled());
  peer_ends();
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    await_blocked();
    write(p[1], "x", 1);
    leave();
  }
  SAY("ppoll without a mask does not", ppoll(&f, 1, NULL, NULL));
  SAY("  which ran", take_handled());
  peer_ends();
  MUST(read(p[0], buf, 1));
  MUST(sigprocmask(SIG_UNBLOCK, &usr1, NULL));
  SAY("  which ran when unblocked", take_handled());
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    await_blocked();
    write(p[1], "x", 1);
    leave();
  }
  SAY("ppoll keeps a signal out", ppoll(&f, 1, NULL, &usr1));
  SAY("  which ran afterwards", take_handled());
  peer_ends();
  MUST(read(p[0], buf, 1));
  SAY("ppoll with a time", ppoll(&f, 1, &little, &none));
  SAY("  which is kept", little.tv_nsec);
  SAY("ppoll with a bad time", ppoll(&f, 1, &bad, NULL));
  SAY("ppoll with a negative time", ppoll(&f, 1, &negative, NULL));
  MUST(sigprocmask(SIG_BLOCK, &usr1, NULL));
  FD_ZERO(&r);
  FD_SET(p[0], &r);
  raise(SIGUSR1);
  SAY("pselect lets a pending signal in", pselect(p[0] + 1, &r, NULL, NULL, NULL, &none));
  SAY("  which ran", take_handled());
  SAY("  the set is as it was", FD_ISSET(p[0], &r) != 0);
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  SAY("pselect lets a signal in while it waits", pselect(p[0] + 1, &r, NULL, NULL, NULL, &none));
  SAY("  which ran", take_handled());
  peer_ends();
  SAY("pselect with a time", pselect(p[0] + 1, &r, NULL, NULL, &little, &none));
  SAY("  which is kept", little.tv_nsec);
  SAY("  the set is empty", FD_ISSET(p[0], &r));
  SAY("pselect with a bad time", pselect(0, NULL, NULL, NULL, &bad, NULL));
  MUST(sigprocmask(SIG_SETMASK, NULL, &before));
  SAY("the mask is as it was", sigismember(&before, SIGUSR1));
  MUST(sigprocmask(SIG_UNBLOCK, &usr1, NULL));
  close(p[0]);
  close(p[1]);
}

static void selects(void) {
  int p[2], s[2];
  MUST(pipe(p));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  fd_set r, w, x;
#define SETS()        \
  ({                  \
    FD_ZERO(&r);      \
    FD_ZERO(&w);      \
    FD_ZERO(&x);      \
    FD_SET(p[0], &r); \
    FD_SET(s[0], &r); \
    FD_SET(p[1], &w); \
    FD_SET(s[0], &x); \
  })
#define SAY_SETS()                                                                            \
  printf("  %d %d %d %d\n", !!FD_ISSET(p[0], &r), !!FD_ISSET(s[0], &r), !!FD_ISSET(p[1], &w), \
         !!FD_ISSET(s[0], &x))
  int n = (p[1] > s[0] ? p[1] : s[0]) + 1;
  SETS();
  SAY("select", select(n, &r, &w, &x, NULL));
  SAY_SETS();
  MUST(write(s[1], "a", 1));
  MUST(write(p[1], "a", 1));
  SETS();
  SAY("select", select(n, &r, &w, &x, NULL));
  SAY_SETS();
  MUST(read(p[0], buf, 1));
  MUST(read(s[0], buf, 1));
  SETS();
  SAY("select of the first few", select(p[0] + 1, &r, &w, &x, &(struct timeval){0, 20000}));
  SAY_SETS();
  SETS();
  double since = seconds_on(CLOCK_MONOTONIC);
  if (peer()) {
    await_blocked();
    write(s[1], "a", 1);
    leave();
  }
  struct timeval t = {1000, 0};
  SAY("select waits", select(n, &r, NULL, &x, &t));
  SAY("  for part of the time",
      may_be_left((double)t.tv_sec + (double)t.tv_usec / 1e6, 1000, since));
  SAY_SETS();
  peer_ends();
  MUST(read(s[0], buf, 1));
  int u[2];
  tcp_pair(u);
  FD_ZERO(&x);
  FD_SET(u[1], &x);
  if (peer()) {
    await_blocked();
    send(u[0], "a", 1, MSG_OOB);
    leave();
  }
  SAY("select waits for urgent data", select(u[1] + 1, NULL, NULL, &x, NULL));
  SAY("  which is there", FD_ISSET(u[1], &x) != 0);
  peer_ends();
  close(u[0]);
  close(u[1]);
  t = (struct timeval){0, 20000};
  SETS();
  SAY("select with a time", select(n, &r, NULL, &x, &t));
  SAY("  of which is left", t.tv_sec + t.tv_usec);
  SAY_SETS();
  SAY("select of nothing", select(0, NULL, NULL, NULL, &(struct timeval){0, 20000}));
  SAY("select of no sets", select(10, NULL, NULL, NULL, &(struct timeval){0, 20000}));
  SAY("select of less than nothing", select(-1, NULL, NULL, NULL, &(struct timeval){0, 20000}));
  SAY("select with a negative time", select(0, NULL, NULL, NULL, &(struct timeval){0, -1}));
  SAY("select with microseconds in seconds",
      select(0, NULL, NULL, NULL, &(struct timeval){0, 1020000}));
  SAY("select of a bad place", select(1, NOWHERE, NULL, NULL, &(struct timeval){0, 20000}));
  FD_ZERO(&r);
  FD_SET(60, &r);
  SAY("select of a closed descriptor", select(61, &r, NULL, NULL, NULL));
  SAY("  the set is as it was", FD_ISSET(60, &r) != 0);
  FD_ZERO(&r);
  FD_SET(1000, &r);
  SAY("select of a descriptor that never was",
      select(1001, &r, NULL, NULL, &(struct timeval){0, 20000}));
  // Programs pass getdtablesize(), and sets of FD_SETSIZE bits. Behind this set there is nothing.
  char* page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  MUST(mprotect(page + 4096, 4096, PROT_NONE));
  fd_set* last = (fd_set*)(page + 4096) - 1;
  for (int times = 0; times < 2; times++) {
    FD_SET(p[0], last);
    SAY("select of more descriptors than a set has room for",
        select(1 << 20, last, NULL, NULL, &(struct timeval){0, 20000 * times}));
    SAY("  the set", FD_ISSET(p[0], last) != 0);
  }
  FD_SET(p[0], last);
  MUST(write(p[1], "a", 1));
  SAY("select of more descriptors than a set has room for",
      select(1 << 20, last, NULL, NULL, NULL));
  SAY("pselect of more descriptors than a set has room for",
      pselect(1 << 20, last, NULL, NULL, &(struct timespec){0}, NULL));
  SAY("  the set", FD_ISSET(p[0], last) != 0);
  MUST(read(p[0], buf, 1));
  munmap(page, 8192);
  SETS();
  SAY_INTERRUPTED("select", (SETS(), select(n, &r, NULL, &x, NULL)), {});
  SAY_SETS();
  t = (struct timeval){1000, 0};
  since = seconds_on(CLOCK_MONOTONIC);
  SETS();
  on_signal(SIGUSR1, 0);
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  SAY("select with a time is ended by a handler", select(n, &r, NULL, NULL, &t));
  SAY("  the time was changed",
      may_be_left((double)t.tv_sec + (double)t.tv_usec / 1e6, 1000, since));
  SAY_SETS();
  peer_ends();
  SETS();
  close(s[1]);
  SAY("select at the end", select(n, &r, NULL, NULL, NULL));
  SAY_SETS();
  close(p[0]);
  close(p[1]);
  close(s[0]);
}

int main(void) {
  polls();
  masks();
  selects();
}
