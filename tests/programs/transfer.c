// sendfile(2), splice(2), tee(2), vmsplice(2), copy_file_range(2).
#include "cases.h"

#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

static char buf[1 << 20];
enum { large = 4 << 20 };

static int file_of(size_t n) {
  int fd = MUST(open("file", O_RDWR | O_CREAT | O_TRUNC, 0600));
  unsigned char* all = malloc(n);
  fill(all, n, 0);
  MUST(write(fd, all, n));
  MUST(lseek(fd, 0, SEEK_SET));
  free(all);
  return fd;
}

static void fill_up(int fd) {
  set_nonblocking(fd, 1);
  while (write(fd, buf, sizeof buf) > 0) {}
  set_nonblocking(fd, 0);
}
static void empty(int fd) {
  set_nonblocking(fd, 1);
  while (read(fd, buf, sizeof buf) > 0) {}
  set_nonblocking(fd, 0);
}

static void sendfiles(void) {
  int f = file_of(large), s[2], p[2];
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  MUST(pipe(p));
  off_t at = 10;
  SAY("sendfile at an offset", sendfile(s[0], f, &at, 100));
  SAY("  the offset", at);
  SAY("  the position", lseek(f, 0, SEEK_CUR));
  SAY("received", read(s[1], buf, 200));
  SAY("  begins with", buf[0] == (char)pattern(10));
  SAY("sendfile at the position", sendfile(s[0], f, NULL, 100));
  SAY("  the position", lseek(f, 0, SEEK_CUR));
  empty(s[1]);
  at = large - 5;
  SAY("sendfile at the end", sendfile(s[0], f, &at, 100));
  SAY("sendfile beyond the end", sendfile(s[0], f, &at, 100));
  SAY("  the offset", at);
  at = -1;
  SAY("sendfile at a negative offset", sendfile(s[0], f, &at, 100));
  SAY("sendfile of nothing", sendfile(s[0], f, NULL, 0));
  SAY("sendfile with a bad offset", sendfile(s[0], f, NOWHERE, 100));
  SAY("sendfile from a socket", sendfile(s[0], s[1], NULL, 100));
  SAY("sendfile from a bad descriptor", sendfile(s[0], -1, NULL, 100));
  SAY("sendfile to a bad descriptor", sendfile(-1, f, NULL, 100));
  SAY("sendfile to a file", ({
        int g = open("copy", O_WRONLY | O_CREAT, 0600);
        at = 0;
        long r = sendfile(g, f, &at, 1000);
        close(g);
        r;
      }));
  int w = MUST(open("copy", O_WRONLY));
  SAY("sendfile from a file open for writing", sendfile(s[0], w, NULL, 10));
  close(w);
  empty(s[1]);
  MUST(lseek(f, 0, SEEK_SET));
  if (peer()) {
    _exit(drain(s[1], large, 70000) != large);
  }
  SAY("sendfile of 4 MB", sendfile(s[0], f, NULL, large + 1000));
  peer_ends();
  SAY("  the position", lseek(f, 0, SEEK_CUR));
  fill_up(s[0]);
  set_nonblocking(s[0], 1);
  at = 0;
  SAY("sendfile to a full socket without waiting", sendfile(s[0], f, &at, 100000));
  set_nonblocking(s[0], 0);
  SAY_INTERRUPTED("sendfile to a full socket", (at = 0, sendfile(s[0], f, &at, 100)), empty(s[1]));
  struct timeval t = {0, 30000};
  MUST(setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t));
  fill_up(s[0]);
  SAY("sendfile with a time-out", (at = 0, sendfile(s[0], f, &at, 100000)));
  close(s[1]);
  on_signal(SIGPIPE, 0);
  take_handled();
  SAY("sendfile to a closed peer", (at = 0, sendfile(s[0], f, &at, 100)));
  SAY("  SIGPIPE came", take_handled());
  close(s[0]);

  SAY("sendfile to a pipe", (at = 0, sendfile(p[1], f, &at, 1000)));
  SAY("received", read(p[0], buf, 2000));
  fill_up(p[1]);
  set_nonblocking(p[1], 1);
  SAY("sendfile to a full pipe without waiting", (at = 0, sendfile(p[1], f, &at, 1000)));
  set_nonblocking(p[1], 0);
  if (peer()) {
    await_blocked();
    read(p[0], buf, 8192);
    leave();
  }
  SAY("sendfile to a full pipe waits", (at = 0, sendfile(p[1], f, &at, 1000)));
  peer_ends();
  fill_up(p[1]);
  SAY_INTERRUPTED("sendfile to a full pipe", (at = 0, sendfile(p[1], f, &at, 1000)),
                  read(p[0], buf, 65536));
  close(p[0]);
  take_handled();
  SAY("sendfile to a pipe without a reader", (at = 0, sendfile(p[1], f, &at, 1000)));
  SAY("  SIGPIPE came", take_handled());
  close(p[1]);
  close(f);
}

static void splices(void) {
  int p[2], q[2], s[2], f = file_of(100000);
  MUST(pipe(p));
  MUST(pipe(q));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  loff_t at = 0;
  SAY("splice from a file", splice(f, &at, p[1], NULL, 1000, 0));
  SAY("  the offset", at);
  SAY("splice from pipe to pipe", splice(p[0], NULL, q[1], NULL, 5000, 0));
  SAY("tee", tee(q[0], p[1], 300, 0));
  SAY("splice from a pipe to a socket", splice(q[0], NULL, s[0], NULL, 5000, 0));
  SAY("received", read(s[1], buf, 5000));
  SAY("splice from the pipe with the copy", splice(p[0], NULL, s[0], NULL, 5000, 0));
  SAY("splice from a socket", splice(s[1], NULL, p[1], NULL, 5000, 0));
  SAY("received", read(p[0], buf, 5000));
  SAY("splice of nothing", splice(p[0], NULL, q[1], NULL, 0, 0));
  SAY("splice without a pipe", splice(s[0], NULL, s[1], NULL, 10, 0));
  SAY("splice with an offset of a pipe", splice(p[0], &at, q[1], NULL, 10, 0));
  SAY("splice with unknown flags", splice(p[0], NULL, q[1], NULL, 10, 0x100));
  SAY("splice from a pipe to itself", splice(p[0], NULL, p[1], NULL, 10, SPLICE_F_NONBLOCK));
  SAY("splice from a bad descriptor", splice(-1, NULL, q[1], NULL, 10, 0));
  SAY("splice to a bad descriptor", splice(p[0], NULL, -1, NULL, 10, 0));
  SAY("splice the wrong way", splice(p[1], NULL, q[0], NULL, 10, 0));
  SAY("splice without waiting", splice(p[0], NULL, q[1], NULL, 10, SPLICE_F_NONBLOCK));
  SAY("splice to a socket without waiting", splice(p[0], NULL, s[0], NULL, 10, SPLICE_F_NONBLOCK));
  SAY("tee without waiting", tee(p[0], q[1], 10, SPLICE_F_NONBLOCK));
  SAY("tee from a socket", tee(s[0], q[1], 10, 0));
  SAY("tee of nothing", tee(p[0], q[1], 0, 0));
  set_nonblocking(p[0], 1);
  SAY("splice from a non-blocking pipe", splice(p[0], NULL, q[1], NULL, 10, 0));
  SAY("tee from a non-blocking pipe", tee(p[0], q[1], 10, 0));
  set_nonblocking(p[0], 0);
  if (peer()) {
    await_blocked();
    write(p[1], "abc", 3);
    leave();
  }
  SAY("splice waits", splice(p[0], NULL, q[1], NULL, 10, 0));
  peer_ends();
  if (peer()) {
    await_blocked();
    write(p[1], "abc", 3);
    leave();
  }
  SAY("splice to a socket waits", splice(p[0], NULL, s[0], NULL, 10, 0));
  peer_ends();
  if (peer()) {
    await_blocked();
    write(s[0], "abc", 3);
    leave();
  }
  empty(s[1]);
  SAY("splice from a socket waits", splice(s[1], NULL, p[1], NULL, 10, 0));
  peer_ends();
  empty(p[0]);
  if (peer()) {
    await_blocked();
    write(p[1], "abc", 3);
    leave();
  }
  SAY("tee waits", tee(p[0], q[1], 10, 0));
  peer_ends();
  empty(p[0]);
  SAY_INTERRUPTED("splice", splice(p[0], NULL, q[1], NULL, 10, 0), write(p[1], "abc", 3));
  SAY_INTERRUPTED("splice to a socket", splice(p[0], NULL, s[0], NULL, 10, 0),
                  write(p[1], "abc", 3));
  SAY_INTERRUPTED("tee", tee(p[0], q[1], 10, 0), write(p[1], "abc", 3));
  empty(p[0]);
  fill_up(q[1]);
  MUST(write(p[1], "abc", 3));
  SAY_INTERRUPTED("splice to a full pipe", splice(p[0], NULL, q[1], NULL, 10, 0), empty(q[0]));
  fill_up(s[0]);
  MUST(write(p[1], "abc", 3));
  SAY_INTERRUPTED("splice to a full socket", splice(p[0], NULL, s[0], NULL, 10, 0), empty(s[1]));
  empty(s[1]);
  set_nonblocking(s[0], 1);
  fill_up(s[0]);
  set_nonblocking(s[0], 1);
  MUST(write(p[1], "abc", 3));
  SAY("splice to a full socket without waiting", splice(p[0], NULL, s[0], NULL, 10, 0));
  set_nonblocking(s[0], 0);
  SAY("the rest", read(p[0], buf, 10));
  close(p[1]);
  SAY("splice at the end", splice(p[0], NULL, q[1], NULL, 10, 0));
  SAY("tee at the end", tee(p[0], q[1], 10, 0));
  close(p[0]);
  on_signal(SIGPIPE, 0);
  take_handled();
  MUST(pipe(p));
  MUST(write(p[1], "abc", 3));
  close(q[0]);
  SAY("splice without a reader", splice(p[0], NULL, q[1], NULL, 10, 0));
  SAY("  SIGPIPE came", take_handled());
  SAY("tee without a reader", tee(p[0], q[1], 10, 0));
  SAY("  SIGPIPE came", take_handled());
  close(q[1]);

  struct iovec v[2] = {{buf, 100}, {buf + 100, 200}};
  int nobodys[2];
  loff_t start = 0;
  MUST(pipe(nobodys));
  close(nobodys[0]);
  SAY("splice of a file without a reader", splice(f, &start, nobodys[1], NULL, 10, 0));
  SAY("  SIGPIPE came", take_handled());
  SAY("splice of a socket without a reader", splice(s[1], NULL, nobodys[1], NULL, 10, 0));
  SAY("  SIGPIPE came", take_handled());
  SAY("vmsplice without a reader", vmsplice(nobodys[1], v, 2, 0));
  SAY("  SIGPIPE came", take_handled());
  close(nobodys[1]);
  empty(p[0]);
  SAY("vmsplice", vmsplice(p[1], v, 2, 0));
  SAY("received", read(p[0], buf + 1000, 1000));
  SAY("vmsplice of a bad array", vmsplice(p[1], NOWHERE, 2, 0));
  SAY("vmsplice to a file", vmsplice(f, v, 2, 0));
  SAY("vmsplice to a bad descriptor", vmsplice(-1, v, 2, 0));
  fill_up(p[1]);
  SAY("vmsplice without waiting", vmsplice(p[1], v, 2, SPLICE_F_NONBLOCK));
  SAY_INTERRUPTED("vmsplice to a full pipe", vmsplice(p[1], v, 2, 0), empty(p[0]));
  empty(p[0]);
  if (peer()) {
    await_blocked();
    write(p[1], "abc", 3);
    leave();
  }
  SAY("vmsplice out of a pipe waits", vmsplice(p[0], v, 2, 0));
  peer_ends();
  struct iovec whole = {buf, 200000};
  if (peer()) {
    await_blocked();
    long n = 0;
    while (n < 200000) {
      long r = read(p[0], buf, 65536);
      if (r <= 0) break;
      n += r;
    }
    leave();
  }
  SAY("vmsplice of more than fits", vmsplice(p[1], &whole, 1, 0));
  kill(peer_pid, SIGKILL);
  int status;
  waitpid(peer_pid, &status, 0);

  int g = MUST(open("copy", O_RDWR | O_CREAT | O_TRUNC, 0600));
  SAY("copy_file_range", copy_file_range(f, NULL, g, NULL, 50000, 0));
  at = 99000;
  SAY("copy_file_range at the end", copy_file_range(f, &at, g, NULL, 50000, 0));
  SAY("  the offset", at);
  SAY("copy_file_range beyond", copy_file_range(f, &at, g, NULL, 50000, 0));
  SAY("copy_file_range with flags", copy_file_range(f, &at, g, NULL, 50000, 1));
  SAY("copy_file_range to a pipe", copy_file_range(f, NULL, p[1], NULL, 5, 0));
  SAY("copy_file_range to a bad descriptor", copy_file_range(f, NULL, -1, NULL, 5, 0));
  SAY("the copy's length", lseek(g, 0, SEEK_END));
  close(g);
  close(f);
  close(p[0]);
  close(p[1]);
  close(s[0]);
  close(s[1]);
}

int main(void) {
  sendfiles();
  splices();
}
