// read(2), write(2), readv(2) and related calls on pipes, FIFOs, event and timer descriptors,
// inotify, devices, files.
#include "cases.h"

#include <limits.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>

static char buf[1 << 17];

static void take(int fd, long n) {
  while (n > 0) {
    ssize_t r = read(fd, buf, n < (long)sizeof buf ? (size_t)n : sizeof buf);
    if (r <= 0) return;
    n -= r;
  }
}

static void pipes(void) {
  int p[2];
  MUST(pipe(p));
  SAY("a read of no bytes from an empty pipe", read(p[0], buf, 0));
  SAY("a write of no bytes", write(p[1], buf, 0));
  SAY("a write", write(p[1], "hello", 5));
  SAY("a read to a bad address", read(p[0], NOWHERE, 5));
  SAY("a short read", read(p[0], buf, 2));
  SAY("the rest", read(p[0], buf, 100));
  SAY("a write from a bad address", write(p[1], NOWHERE, 5));
  SAY("reading the write end", read(p[1], buf, 1));
  SAY("writing the read end", write(p[0], buf, 1));
  SAY("pread from a pipe", pread(p[0], buf, 1, 0));
  SAY("pwrite to a pipe", pwrite(p[1], buf, 1, 0));
  if (peer()) {
    await_blocked();
    write(p[1], "ab", 2);
    leave();
  }
  SAY("a read waits for the first bytes", read(p[0], buf, 100));
  peer_ends();
  SAY_INTERRUPTED("a read of a pipe", read(p[0], buf, 100), write(p[1], "abc", 3));

  set_nonblocking(p[0], 1);
  SAY("a non-blocking read of an empty pipe", read(p[0], buf, 1));
  SAY("it stays non-blocking", is_nonblocking(p[0]));
  SAY("the other end stays blocking", is_nonblocking(p[1]));
  set_nonblocking(p[1], 1);
  SAY("a non-blocking write of more than fits", write(p[1], buf, 100000));
  SAY("a non-blocking write to a full pipe", write(p[1], buf, 1));
  SAY("a page is read", read(p[0], buf, 4096));
  SAY("a non-blocking write of a page and one byte", write(p[1], buf, 4097));
  set_nonblocking(p[0], 0);
  set_nonblocking(p[1], 0);
  if (peer()) {
    await_blocked();
    read(p[0], buf, 8192);
    leave();
  }
  SAY("a write to a full pipe waits for room", write(p[1], buf, 4096));
  peer_ends();
  close(p[0]);
  on_signal(SIGPIPE, 0);
  SAY("a write without a reader", write(p[1], buf, 1));
  SAY("  SIGPIPE came", take_handled());
  SAY("writing nothing without a reader", write(p[1], buf, 0));
  SAY("  SIGPIPE came", take_handled());
  close(p[1]);

  MUST(pipe(p));
  close(p[1]);
  SAY("a read without a writer", read(p[0], buf, 1));
  close(p[0]);
  SAY("a read of a closed descriptor", read(p[0], buf, 1));
  SAY("a write of a closed descriptor", write(p[0], buf, 1));
  SAY("a read of descriptor -1", read(-1, buf, 1));
  SAY("a read of descriptor 1000000", read(1000000, buf, 1));

  pipe_to_peer(p, 0);
  SAY("a write while a peer has the read end", write(p[1], buf, 100));
  SAY("the rest of a large write when the peer ends", write(p[1], buf, sizeof buf) >= 60000);
  SAY("  SIGPIPE came", take_handled());
  peer_ends();
  close(p[1]);
}

static void sigpipe_ends(void) {
  int p[2];
  MUST(pipe(p));
  close(p[0]);
  if (peer()) {
    signal(SIGPIPE, SIG_DFL);
    write(p[1], buf, 1);
    leave();
  }
  int status;
  MUST(waitpid(peer_pid, &status, 0));
  SAY("SIGPIPE ends a process that does not handle it",
      WIFSIGNALED(status) ? WTERMSIG(status) : -2);
  close(p[1]);
}

static void interrupted_writes(void) {
  int p[2];
  MUST(pipe(p));
  SAY_INTERRUPTED("a large write", write(p[1], buf, 70000), take(p[0], 73728));
  close(p[0]);
  close(p[1]);
  MUST(pipe(p));
  set_nonblocking(p[1], 1);
  while (write(p[1], buf, 65536) > 0) {}
  set_nonblocking(p[1], 0);
  SAY_INTERRUPTED("a write to a full pipe", write(p[1], buf, 5000), read(p[0], buf, 65536));
  close(p[0]);
  close(p[1]);
}

// 64 MB through `in` to a child at `out`.
static void large(const char* what, int in, int out, int twice) {
  size_t n = (size_t)64 << 20;
  unsigned char* all = malloc(n);
  fill(all, n, 0);
  if (peer()) {
    close(in);
    long got = drain(out, n + 1, 300000);
    _exit(got != (long)n);
  }
  close(out);
  printf("64 MB through %s", what);
  if (!twice) {
    SAY("", write(in, all, n));
  } else {
    struct iovec v[3] = {{all, 1}, {all + 1, n - 1001}, {all + n - 1000, 1000}};
    SAY(" in three parts", writev(in, v, 3));
  }
  close(in);
  peer_ends();
  free(all);
}

static void vectors(void) {
  int p[2];
  MUST(pipe(p));
  struct iovec many[1025];
  for (int i = 0; i < 1025; i++) many[i] = (struct iovec){buf + i, 1};
  SAY("writev of 1024 parts", writev(p[1], many, 1024));
  SAY("readv of 1024 parts", readv(p[0], many, 1024));
  SAY("writev of 1025 parts", writev(p[1], many, 1025));
  SAY("readv of 1025 parts", readv(p[0], many, 1025));
  volatile int minus = -1;
  SAY("writev of -1 parts", writev(p[1], many, minus));
  SAY("readv of no parts", readv(p[0], many, 0));
  SAY("writev of no parts", writev(p[1], many, 0));
  SAY("writev of no parts to a closed descriptor", writev(-1, many, 0));
  SAY("writev from a bad array", writev(p[1], NOWHERE, 1));
  SAY("readv into a bad array", readv(p[0], NOWHERE, 1));
  struct iovec bad[2] = {{buf, 3}, {NOWHERE, 5}};
  SAY("writev with a bad second part", writev(p[1], bad, 2));
  struct iovec too_long[2] = {{buf, 3}, {buf, (size_t)-1}};
  SAY("writev of a negative length", writev(p[1], too_long, 2));
  struct iovec empty[2] = {{buf, 0}, {NULL, 0}};
  SAY("readv of empty parts", readv(p[0], empty, 2));
  memcpy(buf, "0123456789", 10);
  struct iovec parts[3] = {{buf, 3}, {NULL, 0}, {buf + 3, 7}};
  SAY("writev with an empty part", writev(p[1], parts, 3));
  char a[4] = "", b[20] = "";
  struct iovec into[2] = {{a, 3}, {b, sizeof b}};
  ssize_t n = readv(p[0], into, 2);
  printf("readv scatters %zd: %.3s %.20s\n", n, a, b);
  SAY("preadv of a pipe", preadv(p[0], into, 2, 0));
  SAY("preadv2 of a pipe at -1 without waiting", preadv2(p[0], into, 2, -1, RWF_NOWAIT));
  SAY("pwritev2 of a pipe at -1", pwritev2(p[1], parts, 3, -1, 0));
  SAY("preadv2 of a pipe at -1", preadv2(p[0], into, 2, -1, 0));
  SAY("preadv2 at -2", preadv2(p[0], into, 2, -2, 0));
  SAY("preadv2 with an unknown flag", preadv2(p[0], into, 2, -1, 0x4000));
  close(p[0]);
  close(p[1]);
}

// The sizes are volatile to hide them from the compiler, which would warn of such calls.
static void too_much(void) {
  volatile size_t most = SIZE_MAX, three_gb = (size_t)3 << 30;
  int fd = MUST(open("/dev/zero", O_RDWR));
  int null = MUST(open("/dev/null", O_RDWR));
  int p[2];
  MUST(pipe(p));
  SAY("a read of SIZE_MAX bytes", read(fd, buf, most));
  SAY("a write of SIZE_MAX bytes", write(fd, buf, most));
  SAY("a read of SIZE_MAX bytes of a pipe", read(p[0], buf, most));
  SAY("a write of SIZE_MAX bytes to a pipe", write(p[1], buf, most));
  SAY("a write of 3 GB is cut", write(null, buf, three_gb));
  SAY("a read of /dev/zero", read(fd, buf, 100000));
  SAY("a write to /dev/null", write(null, buf, 100000));
  SAY("a read of /dev/null", read(null, buf, 10));
  close(fd);
  close(null);
  close(p[0]);
  close(p[1]);
  fd = MUST(open("/dev/full", O_RDWR));
  SAY("a write to /dev/full", write(fd, buf, 10));
  close(fd);
}

static void events(void) {
  int fd = MUST(eventfd(3, 0));
  uint64_t v = 0;
  SAY("an event counter into too little", read(fd, &v, 4));
  SAY("an event counter into nothing", read(fd, &v, 0));
  SAY("an event counter", read(fd, &v, 8));
  SAY("  its value", (long)v);
  v = UINT64_MAX;
  SAY("the largest number is refused", write(fd, &v, 8));
  SAY("too few bytes are refused", write(fd, &v, 7));
  if (peer()) {
    uint64_t five = 5;
    await_blocked();
    write(fd, &five, 8);
    leave();
  }
  SAY("a read waits for the event", read(fd, &v, 8));
  SAY("  its value", (long)v);
  peer_ends();
  uint64_t one = 1;
  SAY_INTERRUPTED("a read of an event counter", read(fd, &v, 8), write(fd, &one, 8));
  v = UINT64_MAX - 1;
  SAY("as much as goes in", write(fd, &v, 8));
  if (peer()) {
    await_blocked();
    read(fd, &v, 8);
    leave();
  }
  SAY("a write that waits for a read", write(fd, &one, 8));
  peer_ends();
  set_nonblocking(fd, 1);
  SAY("without waiting", read(fd, &v, 8));
  SAY("without waiting again", read(fd, &v, 8));
  v = UINT64_MAX - 1;
  SAY("as much as goes in", write(fd, &v, 8));
  SAY("and one more", write(fd, &one, 8));
  close(fd);
  fd = MUST(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
  SAY("a semaphore", read(fd, &v, 8));
  SAY("a semaphore", read(fd, &v, 8));
  SAY("a semaphore", read(fd, &v, 8));
  close(fd);
}

static void timers(void) {
  int fd = MUST(timerfd_create(CLOCK_MONOTONIC, 0));
  uint64_t v = 0;
  struct itimerspec soon = {{0, 0}, {0, 20000000}};
  MUST(timerfd_settime(fd, 0, &soon, NULL));
  SAY("a timer into too little", read(fd, &v, 4));
  SAY("a timer", read(fd, &v, 8));
  SAY("  ran out", (long)v);
  SAY("a timer cannot be written", write(fd, &v, 8));
  SAY_INTERRUPTED("a read of a timer", read(fd, &v, 8), timerfd_settime(fd, 0, &soon, NULL));
  set_nonblocking(fd, 1);
  SAY("without waiting", read(fd, &v, 8));
  close(fd);
}

static void watches(void) {
  MUST(mkdir("watched", 0700));
  int fd = MUST(inotify_init());
  MUST(inotify_add_watch(fd, "watched", IN_CREATE));
  if (peer()) {
    await_blocked();
    close(open("watched/a", O_CREAT | O_WRONLY, 0600));
    leave();
  }
  ssize_t n = read(fd, buf, sizeof buf);
  peer_ends();
  printf("inotify tells of %s, %zd bytes\n", n > 0 ? ((struct inotify_event*)buf)->name : "nothing",
         n);
  close(open("watched/b", O_CREAT | O_WRONLY, 0600));
  SAY("inotify into too little", read(fd, buf, 4));
  SAY("inotify", read(fd, buf, sizeof buf));
  SAY("inotify cannot be written", write(fd, buf, 8));
  SAY_INTERRUPTED("a read of inotify", read(fd, buf, sizeof buf),
                  close(open("watched/c", O_CREAT | O_WRONLY, 0600)));
  set_nonblocking(fd, 1);
  SAY("without waiting", read(fd, buf, sizeof buf));
  close(fd);
}

static void fifos(void) {
  MUST(mkfifo("fifo", 0600));
  SAY("opening for writing without a reader", open("fifo", O_WRONLY | O_NONBLOCK));
  if (peer()) {
    await_blocked();
    int w = open("fifo", O_WRONLY);
    write(w, "hello", 5);
    close(w);
    leave();
  }
  int r = MUST(open("fifo", O_RDONLY));
  SAY("the open has waited for a writer; a read", read(r, buf, 100));
  peer_ends();
  SAY("the writer has closed", read(r, buf, 100));
  int w = MUST(open("fifo", O_WRONLY));
  if (peer()) {
    await_blocked();
    write(w, "abc", 3);
    leave();
  }
  SAY("a read of a FIFO waits", read(r, buf, 100));
  peer_ends();
  SAY("no bytes", read(r, buf, 0));
  SAY("a bad address", write(w, NOWHERE, 8));
  SAY_INTERRUPTED("a read of a FIFO", read(r, buf, 100), write(w, "abc", 3));
  SAY_INTERRUPTED("a large write to a FIFO", write(w, buf, 70000), take(r, 73728));
  SAY("the rest", read(r, buf, sizeof buf) > 0);
  set_nonblocking(r, 1);
  set_nonblocking(w, 1);
  while (read(r, buf, sizeof buf) > 0) {}
  SAY("without waiting", read(r, buf, 1));
  SAY("a large write without waiting", write(w, buf, 100000));
  SAY("a write to a full FIFO without waiting", write(w, buf, 1));
  set_nonblocking(w, 0);
  close(r);
  SAY("a FIFO without a reader", write(w, buf, 10));
  SAY("  SIGPIPE came", take_handled());
  close(w);
  r = MUST(open("fifo", O_RDONLY | O_NONBLOCK));
  w = MUST(open("fifo", O_WRONLY));
  set_nonblocking(r, 0);
  large("a FIFO", w, r, 0);
}

static void files(void) {
  int fd = MUST(open("file", O_RDWR | O_CREAT | O_TRUNC, 0600));
  SAY("a write to a file", write(fd, "0123456789", 10));
  SAY("a read at its end", read(fd, buf, 10));
  SAY("a read into an unmapped page", pread(fd, NOWHERE, 4, 0));
  SAY("pread", pread(fd, buf, 4, 2));
  SAY("pread across the end", pread(fd, buf, 10, 8));
  SAY("pread at the end", pread(fd, buf, 10, 10));
  SAY("pread beyond", pread(fd, buf, 10, 1000));
  SAY("pread at -1", pread(fd, buf, 10, -1));
  SAY("pwrite at -1", pwrite(fd, buf, 10, -1));
  SAY("the position has not moved", lseek(fd, 0, SEEK_CUR));
  SAY("pwrite beyond the end", pwrite(fd, "x", 1, 20));
  MUST(lseek(fd, 4, SEEK_SET));
  struct iovec v[2] = {{buf, 3}, {buf + 3, 100}};
  SAY("readv over a hole", readv(fd, v, 2));
  SAY("the position has moved", lseek(fd, 0, SEEK_CUR));
  SAY("preadv", preadv(fd, v, 2, 1));
  SAY("preadv2 at the position", preadv2(fd, v, 2, -1, 0));
  SAY("preadv2 with an unknown flag", preadv2(fd, v, 2, 0, 0x4000));
  SAY("pwritev2 that appends", pwritev2(fd, v, 1, 0, RWF_APPEND));
  SAY("the end", lseek(fd, 0, SEEK_END));
  SAY("pwritev2 that goes to the disk", pwritev2(fd, v, 1, 0, RWF_DSYNC));
  SAY("readv of a negative length", readv(fd, &(struct iovec){buf, (size_t)-1}, 1));
  int readonly = MUST(open("file", O_RDONLY));
  SAY("writing to a file open for reading", write(readonly, buf, 1));
  SAY("pwriting to a file open for reading", pwrite(readonly, buf, 1, 0));
  close(readonly);
  close(fd);
  fd = MUST(open("file", O_WRONLY | O_APPEND));
  SAY("reading from a file open for writing", read(fd, buf, 1));
  SAY("pwrite to a file that appends", pwrite(fd, "y", 1, 0));
  SAY("  the end", lseek(fd, 0, SEEK_END));
  close(fd);
  fd = MUST(open("file", O_PATH));
  SAY("reading a path", read(fd, buf, 1));
  close(fd);
  fd = MUST(open(".", O_RDONLY | O_DIRECTORY));
  SAY("reading a directory", read(fd, buf, 1));
  SAY("writing a directory", write(fd, buf, 1));
  close(fd);
  fd = MUST(open("/proc/sys/kernel/ostype", O_RDONLY));
  SAY("a read of /proc", read(fd, buf, 100));
  SAY("and its end", read(fd, buf, 100));
  close(fd);
  fd = MUST(open("/proc/self/environ", O_RDONLY));
  SAY("a read of /proc in pieces", read(fd, buf, 3));
  SAY("a read of /proc in pieces", read(fd, buf, 3));
  SAY("a read of /proc at a place", pread(fd, buf, 3, 2));
  close(fd);

  struct rlimit small = {1000, RLIM_INFINITY}, old;
  getrlimit(RLIMIT_FSIZE, &old);
  on_signal(SIGXFSZ, 0);
  fd = MUST(open("small", O_RDWR | O_CREAT, 0600));
  MUST(setrlimit(RLIMIT_FSIZE, &small));
  ssize_t written = write(fd, buf, 5000), more = write(fd, buf, 10);
  int error = errno;
  setrlimit(RLIMIT_FSIZE, &(struct rlimit){old.rlim_max, old.rlim_max});
  SAY("a write up to the largest file size", written);
  say("a write beyond it", more, error);
  SAY("  SIGXFSZ came", take_handled());
  close(fd);

  unsigned char* all = malloc(3000000);
  fill(all, 3000000, 0);
  fd = MUST(open("large", O_RDWR | O_CREAT, 0600));
  SAY("3 MB to a file", write(fd, all, 3000000));
  MUST(fsync(fd));
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  MUST(lseek(fd, 0, SEEK_SET));
  memset(all, 0, 3000000);
  SAY("3 MB from the disk", read(fd, all, 3000000));
  long wrong = 0;
  for (size_t i = 0; i < 3000000; i++) wrong += all[i] != pattern(i);
  SAY("  bytes that are wrong", wrong);
  posix_fadvise(fd, 1 << 20, 0, POSIX_FADV_DONTNEED);
  SAY("across a cold place", pread(fd, all, 2000000, 500000));
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  MUST(lseek(fd, 2999990, SEEK_SET));
  SAY("a cold end", read(fd, all, 100));
  SAY("  the position", lseek(fd, 0, SEEK_CUR));
  close(fd);
  free(all);
}

// A file of which only the beginning is cached: the rest is read from the disk, to the right place.
static void half_cached(void) {
  enum { n = 1 << 20, head = 8192 };
  unsigned char *all = malloc(n), *got = malloc(n);
  fill(all, n, 0);
  int fd = (int)MUST(open("half-cached", O_RDWR | O_CREAT | O_TRUNC, 0600));
  for (int way = 0; way < 4; way++) {
    MUST(pwrite(fd, all, n, 0));
    MUST(fsync(fd));
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    MUST(pread(fd, got, head, 0));
    memset(got, 0, n);
    struct iovec v[3] = {{got, 5000}, {got + 5000, 10000}, {got + 15000, n - 15000}};
    long r = 0, from = way == 1 ? 100 : 0;
    MUST(lseek(fd, 0, SEEK_SET));
    switch (way) {
      case 0:
        r = pread(fd, got, n, 0);
        break;
      case 1:
        r = pread(fd, got, n, 100);
        break;
      case 2:
        r = read(fd, got, n);
        break;
      case 3:
        r = preadv(fd, v, 3, 0);
        break;
    }
    SAY("half cached", r);
    SAY("  the right bytes", memcmp(got, all + from, n - (size_t)from));
    SAY("  the position", lseek(fd, 0, SEEK_CUR));
  }
  close(fd);
  unlink("half-cached");
  free(all);
  free(got);
}

static void positioned_parts(void) {
  char text[20] = "";
  struct iovec v[2] = {{"abc", 3}, {"de", 2}};
  int fd = MUST(open("parts", O_RDWR | O_CREAT | O_TRUNC, 0600)), ends[2];
  MUST(pipe(ends));
  SAY("pwritev", pwritev(fd, v, 2, 4));
  SAY("  the position", lseek(fd, 0, SEEK_CUR));
  SAY("  the file", pread(fd, text, sizeof text, 0));
  SAY("  has the parts at that place", !memcmp(text, "\0\0\0\0abcde", 9));
  SAY("pwritev at -1", pwritev(fd, v, 2, -1));
  SAY("pwritev to a pipe", pwritev(ends[1], v, 2, 0));
  SAY("pwritev to a file open for reading", pwritev(open("parts", O_RDONLY), v, 2, 0));
  close(fd);
  close(ends[0]);
  close(ends[1]);
}

int main(void) {
  pipes();
  sigpipe_ends();
  interrupted_writes();
  int p[2];
  MUST(pipe(p));
  large("a pipe", p[1], p[0], 0);
  MUST(pipe(p));
  large("a pipe", p[1], p[0], 1);
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
  large("a socket", p[1], p[0], 0);
  vectors();
  too_much();
  events();
  timers();
  watches();
  fifos();
  files();
  half_cached();
  positioned_parts();
}
