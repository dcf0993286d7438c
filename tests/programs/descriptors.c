// close(2), dup2(2), close_range(2), fclose(3), freopen(3): their results, and the waits that they
// end.
#include "cases.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

static char buf[100];

static long is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

int main(void) {
  int p[2], q[2];
  MUST(pipe(p));
  MUST(pipe(q));
  SAY("the first descriptor", p[0]);
  SAY("close", close(q[0]));
  SAY("close once more", close(q[0]));
  SAY("close -1", close(-1));
  SAY("the lowest number is taken", dup(p[0]));
  SAY("dup2", dup2(p[1], 20));
  SAY("works", write(20, "abc", 3));
  SAY("read", read(p[0], buf, 10));
  SAY("dup2 to itself", dup2(20, 20));
  SAY("dup2 of a closed one to itself", dup2(21, 21));
  SAY("dup2 of a closed one", dup2(21, 20));
  SAY("which leaves the other open", is_open(20));
  SAY("dup2 to a bad number", dup2(20, -1));
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  SAY("dup2 beyond the limit", dup2(20, (int)limit.rlim_cur));
  SAY("dup3", dup3(20, 22, O_CLOEXEC));
  SAY("closes on exec", fcntl(22, F_GETFD));
  SAY("dup3 to itself", dup3(20, 20, 0));
  SAY("dup3 with unknown flags", dup3(20, 23, 1));
  SAY("fcntl(F_DUPFD)", fcntl(20, F_DUPFD, 30));
  SAY("fcntl(F_DUPFD_CLOEXEC)", fcntl(20, F_DUPFD_CLOEXEC, 30));
  SAY("closes on exec", fcntl(31, F_GETFD));
  SAY("fcntl(F_DUPFD) below zero", fcntl(20, F_DUPFD, -1));
  SAY("close_range", close_range(30, 31, 0));
  SAY("it is closed", is_open(30));
  SAY("close_range of nothing", close_range(30, 31, 0));
  SAY("close_range the wrong way", close_range(31, 30, 0));
  SAY("close_range with unknown flags", close_range(22, 22, 0x100));
  SAY("which leaves it open", is_open(22));
  SAY("close_range to close on exec", close_range(20, 20, CLOSE_RANGE_CLOEXEC));
  SAY("closes on exec", fcntl(20, F_GETFD));
  SAY("close_range to the end", close_range(20, ~0U, 0));
  SAY("it is closed", is_open(20));

  // The runtime's knowledge of a closed file does not apply to the next file of the same number.
  for (int round = 0; round < 3; round++) {
    int s[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    if (peer()) {
      await_blocked();
      write(s[1], "a", 1);
      leave();
    }
    SAY("a socket", recv(s[0], buf, 10, 0));
    peer_ends();
    int number = s[0], r[2];
    close(s[0]);
    close(s[1]);
    MUST(pipe(r));
    SAY("its number is a pipe", r[0] == number);
    if (peer()) {
      await_blocked();
      write(r[1], "ab", 2);
      leave();
    }
    SAY("which works", read(number, buf, 10));
    peer_ends();
    int t[2];
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, t));
    MUST(dup2(t[0], number));
    if (peer()) {
      await_blocked();
      send(t[1], "abc", 3, 0);
      leave();
    }
    SAY("and now it is a datagram socket", recv(number, buf, 10, 0));
    peer_ends();
    close(t[0]);
    close(t[1]);
    close(number);
    close(r[1]);
  }

  FILE* f = fdopen(dup(p[1]), "w");
  int number = fileno(f);
  fprintf(f, "hello");
  SAY("fclose", fclose(f));
  SAY("what it wrote", read(p[0], buf, 10));
  SAY("it is closed", is_open(number));
  f = fdopen(MUST(open("/dev/full", O_WRONLY)), "w");
  fprintf(f, "hello");
  SAY("fclose that cannot write", fclose(f));
  f = fopen("a", "w");
  fprintf(f, "hello");
  f = freopen("a", "r", f);
  SAY("freopen", f != NULL);
  SAY("reads what was written", fgetc(f));
  f = freopen("missing", "r", f);
  SAY("freopen of a missing file", f == NULL ? -1 : 0);

  // A pipe ends when its last write end is closed, by whichever call.
  MUST(pipe(q));
  MUST(dup2(q[1], 40));
  MUST(dup2(q[1], 41));
  MUST(dup2(q[1], 42));
  f = fdopen(q[1], "w");
  fclose(f);
  close(40);
  dup2(p[0], 41);
  close_range(42, 42, 0);
  SAY("no writer is left", read(q[0], buf, 10));
  close(41);

  // A child closes its own descriptor.
  MUST(pipe(p));
  if (peer()) {
    await_blocked();
    close(p[0]);
    write(p[1], "abc", 3);
    leave();
  }
  SAY("a child closes what its parent reads", read(p[0], buf, 10));
  peer_ends();
  closefrom(3);
  SAY("closefrom", is_open(3));
  MUST(pipe(p));
  if (peer()) {
    await_blocked();
    write(p[1], "abc", 3);
    leave();
  }
  SAY("and then", read(p[0], buf, 10));
  peer_ends();
  return 0;
}
