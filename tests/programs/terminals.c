// Terminals: canonical and raw reads, what VMIN and VTIME wait for, flow control, hang-up, jobs in
// the background.
#include "cases.h"

#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <termios.h>

static char buf[1 << 17];

static void raw(int fd) {
  struct termios t;
  MUST(tcgetattr(fd, &t));
  cfmakeraw(&t);
  MUST(tcsetattr(fd, TCSANOW, &t));
}

static void lines(void) {
  int m, s;
  MUST(openpty(&m, &s, NULL, NULL, NULL));
  struct termios t;
  MUST(tcgetattr(s, &t));
  t.c_lflag &= ~(tcflag_t)ECHO;
  MUST(tcsetattr(s, TCSANOW, &t));
  SAY("a write to the master", write(m, "hello\nyou", 9));
  SAY("a line", read(s, buf, 100));
  SAY("a read of nothing", read(s, buf, 0));
  set_nonblocking(s, 1);
  SAY("the rest is no line", read(s, buf, 100));
  set_nonblocking(s, 0);
  if (peer()) {
    await_blocked();
    write(m, "\n", 1);
    leave();
  }
  SAY("a read waits for the line", read(s, buf, 100));
  peer_ends();
  MUST(write(m, "long line\n", 10));
  SAY("a line in parts", read(s, buf, 4));
  SAY("a line in parts", read(s, buf, 100));
  MUST(write(m, "\004", 1));
  SAY("end of file", read(s, buf, 100));
  SAY_INTERRUPTED("a read of a terminal", read(s, buf, 100), write(m, "a\n", 2));
  SAY("a write with a newline", write(s, "a\nb\n", 4));
  SAY("is translated", read(m, buf, 100));
  SAY("a bad address", write(s, NOWHERE, 4));
  if (peer()) {
    await_blocked();
    write(s, "xyz", 3);
    leave();
  }
  SAY("the master waits", read(m, buf, 100));
  peer_ends();
  SAY_INTERRUPTED("a read of the master", read(m, buf, 100), write(s, "ab", 2));
  MUST(tcflow(s, TCOOFF));
  set_nonblocking(s, 1);
  SAY("stopped, without waiting", write(s, "a", 1));
  set_nonblocking(s, 0);
  SAY_INTERRUPTED("a write to a stopped terminal", write(s, "abc", 3), tcflow(s, TCOON));
  close(s);
  while (read(m, buf, 100) > 0) {}
  SAY("no slave", read(m, buf, 100));
  close(m);
  MUST(openpty(&m, &s, NULL, NULL, NULL));
  close(m);
  SAY("no master", read(s, buf, 100));
  SAY("no master, writing", write(s, "a", 1));
  close(s);
}

static void large(void) {
  int m, s;
  enum { n = 1 << 20 };
  unsigned char* all = malloc(n);
  fill(all, n, 0);
  MUST(openpty(&m, &s, NULL, NULL, NULL));
  raw(s);
  if (peer()) _exit(drain(m, n, 1000) != n);
  SAY("1 MB to a terminal", write(s, all, n));
  peer_ends();
  if (peer()) _exit(drain(s, n, 1000) != n);
  SAY("1 MB from a terminal", write(m, all, n));
  peer_ends();
  free(all);
  close(m);
  close(s);
}

static void waits_for(int fd, int least, int tenths) {
  struct termios t;
  MUST(tcgetattr(fd, &t));
  cfmakeraw(&t);
  t.c_cc[VMIN] = (cc_t)least;
  t.c_cc[VTIME] = (cc_t)tenths;
  MUST(tcsetattr(fd, TCSANOW, &t));
}

// Writes to the terminal byte by byte, each when the parent waits.
#define TYPED(m, text)                    \
  if (peer()) {                           \
    for (const char* c = text; *c; c++) { \
      await_blocked();                    \
      write(m, c, 1);                     \
    }                                     \
    leave();                              \
  }

static void least_and_time(void) {
  int m, s;
  MUST(openpty(&m, &s, NULL, NULL, NULL));
  waits_for(s, 0, 0);
  SAY("no least, no time, nothing there", read(s, buf, 10));
  MUST(write(m, "abc", 3));
  SAY("no least, no time, some there", read(s, buf, 2));
  SAY("the rest", read(s, buf, 10));
  struct iovec v[2] = {{buf, 2}, {buf + 10, 10}};
  SAY("nothing there, in parts", readv(s, v, 2));
  MUST(write(m, "abc", 3));
  SAY("some there, in parts", readv(s, v, 2));
  set_nonblocking(s, 1);
  SAY("the same without waiting", read(s, buf, 10));
  waits_for(s, 0, 1);
  SAY("a time, without waiting", read(s, buf, 10));
  waits_for(s, 2, 0);
  SAY("a least, without waiting", read(s, buf, 10));
  MUST(write(m, "a", 1));
  SAY("less than the least, without waiting", read(s, buf, 10));
  set_nonblocking(s, 0);
  waits_for(s, 0, 2);
  SAY("a time that passes", read(s, buf, 10));
  waits_for(s, 0, 255);
  MUST(write(m, "abc", 3));
  SAY("a time, some there", read(s, buf, 10));
  TYPED(m, "a");
  SAY("a time in which one comes", read(s, buf, 10));
  peer_ends();
  waits_for(s, 3, 0);
  TYPED(m, "abc");
  SAY("at least three", read(s, buf, 10));
  peer_ends();
  TYPED(m, "ab");
  SAY("at least three, asked for two", read(s, buf, 2));
  peer_ends();
  MUST(write(m, "abcde", 5));
  SAY("at least three, and there are", read(s, buf, 10));
  TYPED(m, "abc");
  SAY("at least three, in parts", readv(s, v, 2));
  peer_ends();
  waits_for(s, 3, 2);
  TYPED(m, "a");
  SAY("at least three, but for a time after the first", read(s, buf, 10));
  peer_ends();
  waits_for(s, 3, 255);
  TYPED(m, "abc");
  SAY("at least three, each in time", read(s, buf, 10));
  peer_ends();
  SAY_INTERRUPTED("a read of at least three", read(s, buf, 10), write(m, "abc", 3));
  on_signal(SIGUSR1, SA_RESTART);
  if (peer()) {
    write(m, "ab", 2);
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  SAY("a handler after the second of three", read(s, buf, 10));
  peer_ends();
  waits_for(s, 0, 255);
  SAY_INTERRUPTED("a read that waits for a time", read(s, buf, 10), write(m, "a", 1));
  waits_for(s, 0, 0);
  TYPED(s, "a");
  SAY("the master waits all the same", read(m, buf, 10));
  peer_ends();
  waits_for(s, 3, 0);
  struct pollfd p = {s, POLLIN, 0};
  MUST(write(m, "a", 1));
  SAY("one of three, polled", poll(&p, 1, 0));
  MUST(write(m, "bc", 2));
  SAY("three of three, polled", poll(&p, 1, -1));
  SAY("  are there", read(s, buf, 10));
  if (peer()) {
    close(s);
    await_blocked();
    close(m);
    leave();
  }
  close(m);
  SAY("the master closes while at least three are waited for", read(s, buf, 10));
  peer_ends();
  close(s);
}

// In a separate session: a reader in the background is stopped.
static void jobs(void) {
  int m, s;
  MUST(openpty(&m, &s, NULL, NULL, NULL));
  fflush(stdout);
  pid_t leader = MUST(fork());
  if (leader == 0) {
    MUST(setsid());
    MUST(ioctl(s, TIOCSCTTY, 0));
    for (int writing = 0; writing < 2; writing++) {
      struct termios t;
      MUST(tcgetattr(s, &t));
      t.c_lflag |= TOSTOP;
      MUST(tcsetattr(s, TCSANOW, &t));
      fflush(stdout);
      pid_t child = MUST(fork());
      if (child == 0) {
        setpgid(0, 0);
        if (writing) write(s, "a", 1);
        else read(s, buf, 10);
        _exit(0);
      }
      setpgid(child, child);
      int status;
      MUST(waitpid(child, &status, WUNTRACED));
      SAY(writing ? "a writer in the background is stopped by"
                  : "a reader in the background is stopped by",
          WIFSTOPPED(status) ? WSTOPSIG(status) : -2);
      kill(child, SIGKILL);
      MUST(waitpid(child, &status, 0));
    }
    _exit(0);
  }
  int status;
  MUST(waitpid(leader, &status, 0));
  SAY("the session ended", status);
  close(m);
  close(s);
}

int main(void) {
  lines();
  large();
  least_and_time();
  jobs();
}
