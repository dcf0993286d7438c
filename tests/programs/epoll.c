// The program's own epoll(7) instances: level- and edge-triggered, one-shot, exclusive, nested,
// several.
#include "cases.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static char buf[1 << 17];
static struct epoll_event got[8];

static int watch(int ep, int op, int fd, uint32_t events, uint64_t mark) {
  struct epoll_event e = {.events = events, .data.u64 = mark};
  return epoll_ctl(ep, op, fd, &e);
}

static void say_events(const char* sentence, int ep, int most, int timeout) {
  memset(got, 0, sizeof got);
  errno = 0;
  long r = epoll_wait(ep, got, most, timeout);
  say(sentence, r, errno);
  for (long i = 0; i < r; i++) printf("  %#x of %d\n", got[i].events, (int)got[i].data.u64);
}

static void put(int fd, const char* what) { MUST(write(fd, what, strlen(what))); }

static void triggers(void) {
  int ep = MUST(epoll_create1(0)), p[2], q[2];
  MUST(pipe(p));
  MUST(pipe(q));
  SAY("add", watch(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 1));
  SAY("add once more", watch(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 1));
  SAY("modify a descriptor that is not watched", watch(ep, EPOLL_CTL_MOD, q[0], EPOLLIN, 1));
  SAY("delete a descriptor that is not watched", watch(ep, EPOLL_CTL_DEL, q[0], 0, 0));
  say_events("nothing", ep, 8, 0);
  say_events("nothing for a while", ep, 8, 20);
  if (peer()) {
    await_blocked();
    put(p[1], "ab");
    leave();
  }
  say_events("waited for", ep, 8, -1);
  peer_ends();
  say_events("level-triggered: still there", ep, 8, -1);
  MUST(read(p[0], buf, 1));
  say_events("and still", ep, 8, 3600000);
  MUST(read(p[0], buf, 1));
  say_events("and no longer", ep, 8, 20);

  MUST(watch(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 2));
  if (peer()) {
    await_blocked();
    put(p[1], "ab");
    leave();
  }
  say_events("edge-triggered", ep, 8, -1);
  peer_ends();
  say_events("reported once", ep, 8, 20);
  MUST(read(p[0], buf, 1));
  say_events("not for the rest", ep, 8, 20);
  if (peer()) {
    await_blocked();
    put(p[1], "c");
    leave();
  }
  say_events("but for more", ep, 8, -1);
  peer_ends();
  MUST(read(p[0], buf, 10));

  MUST(watch(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 3));
  if (peer()) {
    await_blocked();
    put(p[1], "ab");
    leave();
  }
  say_events("one shot", ep, 8, -1);
  peer_ends();
  put(p[1], "ab");
  say_events("and no more", ep, 8, 20);
  MUST(watch(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 4));
  say_events("armed again", ep, 8, -1);
  MUST(watch(ep, EPOLL_CTL_DEL, p[0], 0, 0));
  MUST(watch(ep, EPOLL_CTL_ADD, p[1], EPOLLOUT, 5));
  MUST(watch(ep, EPOLL_CTL_ADD, q[1], EPOLLOUT, 6));
  say_events("one event at a time", ep, 1, -1);
  say_events("and the other", ep, 1, -1);
  say_events("both", ep, 8, -1);
  close(q[1]);
  say_events("one is closed", ep, 8, -1);
  MUST(watch(ep, EPOLL_CTL_DEL, p[1], 0, 0));
  MUST(watch(ep, EPOLL_CTL_ADD, q[0], 0, 7));
  say_events("a hang-up is reported unasked", ep, 8, -1);
  close(q[0]);
  // Added by another process while this one waits.
  if (peer()) {
    await_blocked();
    watch(ep, EPOLL_CTL_ADD, p[1], EPOLLOUT, 8);
    leave();
  }
  say_events("added meanwhile", ep, 8, -1);
  peer_ends();
  close(p[0]);
  say_events("an error", ep, 8, -1);
  close(p[1]);
  close(ep);
}

static void exclusive(void) {
  int e = MUST(eventfd(0, 0)), a = MUST(epoll_create1(0)), b = MUST(epoll_create1(0));
  SAY("exclusive in one", watch(a, EPOLL_CTL_ADD, e, EPOLLIN | EPOLLEXCLUSIVE, 1));
  SAY("exclusive in another", watch(b, EPOLL_CTL_ADD, e, EPOLLIN | EPOLLEXCLUSIVE, 2));
  SAY("exclusive cannot be modified to", watch(a, EPOLL_CTL_MOD, e, EPOLLIN | EPOLLEXCLUSIVE, 1));
  SAY("exclusive with one shot",
      watch(a, EPOLL_CTL_ADD, 0, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 1));
  if (peer()) {
    uint64_t one = 1;
    await_blocked();
    write(e, &one, 8);
    leave();
  }
  say_events("an event", a, 8, -1);
  peer_ends();
  close(a);
  close(b);
  close(e);
}

static void nested(void) {
  int inner = MUST(epoll_create1(0)), outer = MUST(epoll_create1(0)), p[2];
  MUST(pipe(p));
  MUST(watch(inner, EPOLL_CTL_ADD, p[0], EPOLLIN, 1));
  SAY("an instance in an instance", watch(outer, EPOLL_CTL_ADD, inner, EPOLLIN, 2));
  SAY("not in itself", watch(outer, EPOLL_CTL_ADD, outer, EPOLLIN, 2));
  SAY("not in a circle", watch(inner, EPOLL_CTL_ADD, outer, EPOLLIN, 2));
  if (peer()) {
    await_blocked();
    put(p[1], "a");
    leave();
  }
  say_events("the outer tells", outer, 8, -1);
  peer_ends();
  say_events("of the inner", inner, 8, -1);
  MUST(read(p[0], buf, 1));
  say_events("gone", outer, 8, 20);
  MUST(watch(outer, EPOLL_CTL_MOD, inner, EPOLLIN | EPOLLET, 3));
  if (peer()) {
    await_blocked();
    put(p[1], "a");
    leave();
  }
  say_events("by edges", outer, 8, -1);
  peer_ends();
  say_events("once", outer, 8, 20);
  put(p[1], "a");
  say_events("and again", outer, 8, 3600000);
  MUST(read(p[0], buf, 10));
  // Nested as deeply as the kernel allows.
  int deep[6];
  deep[0] = inner;
  for (int i = 1; i < 6; i++) {
    deep[i] = MUST(epoll_create1(0));
    SAY("deeper", watch(deep[i], EPOLL_CTL_ADD, deep[i - 1], EPOLLIN, (uint64_t)i));
  }
  if (peer()) {
    await_blocked();
    put(p[1], "a");
    leave();
  }
  say_events("from the bottom", deep[4], 8, -1);
  peer_ends();
  MUST(read(p[0], buf, 10));
  on_signal(SIGUSR1, 0);
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  say_events("interrupted at the bottom", deep[4], 8, -1);
  peer_ends();
  say_events("nothing at the bottom", deep[4], 8, 20);
  for (int i = 1; i < 6; i++) close(deep[i]);
  close(inner);
  close(outer);
  close(p[0]);
  close(p[1]);
}

static void errors(void) {
  int ep = MUST(epoll_create1(0)), f = MUST(open("file", O_RDWR | O_CREAT, 0600)), p[2];
  MUST(pipe(p));
  SAY("a file", watch(ep, EPOLL_CTL_ADD, f, EPOLLIN, 1));
  SAY("a closed descriptor", watch(ep, EPOLL_CTL_ADD, 999, EPOLLIN, 1));
  SAY("waiting on a file", epoll_wait(f, got, 8, 20));
  SAY("waiting on a closed descriptor", epoll_wait(999, got, 8, 20));
  SAY("waiting on a pipe", epoll_wait(p[0], got, 8, -1));
  volatile int none = 0, less = -1, more = 1 << 30;
  SAY("for no events", epoll_wait(ep, got, none, 20));
  SAY("for less than none", epoll_wait(ep, got, less, 20));
  SAY("for more than there can be", epoll_wait(ep, got, more, 20));
  SAY("nothing, into a bad place", epoll_wait(ep, NOWHERE, 8, 20));
  MUST(watch(ep, EPOLL_CTL_ADD, p[1], EPOLLOUT, 1));
  SAY("an event, into a bad place", epoll_wait(ep, NOWHERE, 8, 20));
  close(p[0]);
  close(p[1]);
  close(f);
  close(ep);
}

static void masks(void) {
  int ep = MUST(epoll_create1(0)), p[2];
  MUST(pipe(p));
  MUST(watch(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 1));
  SAY_INTERRUPTED("epoll_wait", epoll_wait(ep, got, 8, -1), {});
  SAY_INTERRUPTED("epoll_wait with a time", epoll_wait(ep, got, 8, 3600000), {});
  sigset_t usr1, none;
  sigemptyset(&none);
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  MUST(sigprocmask(SIG_BLOCK, &usr1, NULL));
  take_handled();
  raise(SIGUSR1);
  SAY("epoll_pwait lets a pending signal in", epoll_pwait(ep, got, 8, -1, &none));
  SAY("  which ran", take_handled());
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  SAY("epoll_pwait lets a signal in while it waits", epoll_pwait(ep, got, 8, -1, &none));
  SAY("  which ran", take_handled());
  peer_ends();
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    await_blocked();
    put(p[1], "a");
    leave();
  }
  SAY("epoll_pwait without a mask does not", epoll_pwait(ep, got, 8, -1, NULL));
  SAY("  which ran", take_handled());
  peer_ends();
  SAY("epoll_pwait returns what is ready", epoll_pwait(ep, got, 8, -1, &none));
  MUST(read(p[0], buf, 1));
  MUST(sigprocmask(SIG_UNBLOCK, &usr1, NULL));
  SAY("  which ran", take_handled());
  struct timespec little = {0, 20000000}, bad = {0, 1000000000}, zero = {0, 0};
  SAY("epoll_pwait2", epoll_pwait2(ep, got, 8, &little, NULL));
  SAY("epoll_pwait2 at once", epoll_pwait2(ep, got, 8, &zero, &none));
  SAY("epoll_pwait2 with a bad time", epoll_pwait2(ep, got, 8, &bad, NULL));
  SAY("epoll_pwait2 with a bad place for it", epoll_pwait2(ep, got, 8, NOWHERE, NULL));
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  SAY("epoll_pwait2 is ended by a handler", epoll_pwait2(ep, got, 8, NULL, &none));
  peer_ends();
  if (peer()) {
    await_blocked();
    put(p[1], "a");
    leave();
  }
  SAY("epoll_pwait2 waits", epoll_pwait2(ep, got, 8, NULL, NULL));
  peer_ends();
  close(p[0]);
  close(p[1]);
  close(ep);
}

// A server of many connections in one loop.
static void many(void) {
  enum { count = 100 };
  int ep = MUST(epoll_create1(0)), s[count][2];
  for (int i = 0; i < count; i++) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s[i]));
    set_nonblocking(s[i][0], 1);
    MUST(watch(ep, EPOLL_CTL_ADD, s[i][0], EPOLLIN | EPOLLET | EPOLLRDHUP, (uint64_t)i));
  }
  if (peer()) {
    for (int round = 0; round < 50; round++) {
      for (int i = 0; i < count; i++) put(s[i][1], "hello");
    }
    for (int i = 0; i < count; i++) shutdown(s[i][1], SHUT_WR);
    leave();
  }
  long bytes = 0, ends = 0;
  while (ends < count) {
    int n = epoll_wait(ep, got, 8, -1);
    for (int i = 0; i < n; i++) {
      ssize_t r;
      while ((r = read(s[got[i].data.u64][0], buf, 3)) > 0) bytes += r;
      if (r == 0) {
        ends++;
        close(s[got[i].data.u64][0]);
      }
    }
  }
  peer_ends();
  SAY("a loop over many connections reads", bytes);
  for (int i = 0; i < count; i++) close(s[i][1]);
  close(ep);
}

int main(void) {
  triggers();
  exclusive();
  nested();
  errors();
  masks();
  many();
}
