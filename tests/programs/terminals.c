// Terminals: canonical and raw reads, flow control, hang-up, jobs in the background.
#include "cases.h"

#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
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
  while (read(m, buf, 100) > 0) {
  }
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

// In a session of its own: a reader in the background is stopped.
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
      SAY(writing ? "a writer in the background is stopped by" : "a reader in the background is stopped by",
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
  jobs();
}
