// send(2), recv(2) and their families: flags, time-outs, datagrams, control messages, several
// messages at once.
#include "cases.h"
#include "tcp_pair.h"

#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

static char buf[1 << 17];

static void close_pair(int s[2]) {
  close(s[0]);
  close(s[1]);
}

static void time_out(int fd, int option, int ms) {
  struct timeval t = {ms / 1000, ms % 1000 * 1000};
  MUST(setsockopt(fd, SOL_SOCKET, option, &t, sizeof t));
}

static void buffers(int fd, int n) {
  MUST(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof n));
  MUST(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &n, sizeof n));
}

// Waits until `n` bytes are there to be read.
static void await_bytes(int fd, int n) {
  for (;;) {
    ssize_t have = recv(fd, buf, sizeof buf, MSG_PEEK | MSG_DONTWAIT);
    if (have >= n) return;
    sched_yield();
  }
}

// TCP's buffers grow for a while: repeats the call until it is refused.
#define UNTIL_REFUSED(call)      \
  ({                             \
    long last_;                  \
    while ((last_ = (call)) > 0) \
      ;                          \
    last_;                       \
  })
// Whether a part was sent, or nothing: with TCP, either is possible.
static long partly(long sent) {
  long fine = sent > 0 || errno == EINTR;
  if (fine) errno = 0;
  return fine;
}

static void stream(const char* kind, int s[2]) {
  printf("-- a %s stream\n", kind);
  SAY("send", send(s[0], "0123456789", 10, 0));
  await_bytes(s[1], 10);
  SAY("recv of nothing", recv(s[1], buf, 0, 0));
  SAY("recv peeks", recv(s[1], buf, 4, MSG_PEEK));
  SAY("recv", recv(s[1], buf, 4, 0));
  SAY("recv with MSG_TRUNC", recv(s[1], buf, 2, MSG_TRUNC));
  SAY("recv to a bad address", recv(s[1], NOWHERE, 4, 0));
  SAY("recv without waiting", recv(s[1], buf, sizeof buf, MSG_DONTWAIT) > 0);
  SAY("recv without waiting, which would block", recv(s[1], buf, sizeof buf, MSG_DONTWAIT));
  SAY("the descriptor stays blocking", is_nonblocking(s[1]));
  SAY("send from a bad address", send(s[0], NOWHERE, 4, 0));
  SAY("send of nothing", send(s[0], buf, 0, 0));
  SAY("sendmsg of a bad message", sendmsg(s[0], NOWHERE, 0));
  SAY("recvmsg of a bad message", recvmsg(s[1], NOWHERE, 0));
  SAY("sendmsg of a bad message, without waiting", sendmsg(s[0], NOWHERE, MSG_DONTWAIT));
  if (peer()) {
    await_blocked();
    send(s[0], "ab", 2, 0);
    leave();
  }
  SAY("recv waits", recv(s[1], buf, 100, 0));
  peer_ends();
  if (peer()) {
    await_blocked();
    send(s[0], "abcd", 4, 0);
    await_blocked();
    send(s[0], "efghij", 6, 0);
    leave();
  }
  SAY("recv of all", recv(s[1], buf, 10, MSG_WAITALL));
  peer_ends();
  if (peer()) {
    await_blocked();
    send(s[0], "abcd", 4, 0);
    await_blocked();
    send(s[0], "efghij", 6, 0);
    leave();
  }
  char a[3], b[9];
  struct iovec v[2] = {{a, 3}, {b, 7}};
  struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
  SAY("recvmsg of all, in two parts", recvmsg(s[1], &m, MSG_WAITALL));
  printf("  %.3s %.7s\n", a, b);
  peer_ends();
  SAY_INTERRUPTED("recv", recv(s[1], buf, 100, 0), send(s[0], "abc", 3, 0));
  SAY_INTERRUPTED("read", read(s[1], buf, 100), send(s[0], "abc", 3, 0));
  if (peer()) {
    await_blocked();
    send(s[0], "abcd", 4, 0);
    await_blocked();
    kill(getppid(), SIGUSR2);
    leave();
  }
  on_signal(SIGUSR2, 0);
  SAY("recv of all is ended by a handler", recv(s[1], buf, 10, MSG_WAITALL));
  peer_ends();

  time_out(s[1], SO_RCVTIMEO, 30);
  struct timespec begun, ended;
  clock_gettime(CLOCK_MONOTONIC, &begun);
  SAY("recv with a time-out", recv(s[1], buf, 10, 0));
  clock_gettime(CLOCK_MONOTONIC, &ended);
  // (The kernel counts such times in its ticks.)
  SAY("  it has waited",
      (ended.tv_sec - begun.tv_sec) * 1000 + (ended.tv_nsec - begun.tv_nsec) / 1000000 >= 20);
  SAY("read with a time-out", read(s[1], buf, 10));
  MUST(send(s[0], "abc", 3, 0));
  await_bytes(s[1], 3);
  SAY("recv of all with a time-out", recv(s[1], buf, 10, MSG_WAITALL));
  time_out(s[1], SO_RCVTIMEO, 3600000);
  on_signal(SIGUSR1, SA_RESTART);
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  SAY("SA_RESTART does not go with a time-out", recv(s[1], buf, 10, 0));
  peer_ends();
  time_out(s[1], SO_RCVTIMEO, 0);

  int on = 1, off = 0, there = 0;
  SAY("FIONBIO", ioctl(s[1], FIONBIO, &on));
  SAY("  recv", recv(s[1], buf, 10, 0));
  SAY("FIONBIO off", ioctl(s[1], FIONBIO, &off));
  if (peer()) {
    await_blocked();
    send(s[0], "abcde", 5, 0);
    leave();
  }
  SAY("  recv waits", recv(s[1], buf, 2, 0));
  peer_ends();
  SAY("FIONREAD", ioctl(s[1], FIONREAD, &there));
  SAY("  the bytes there", there);
  SAY("  recv", recv(s[1], buf, 10, 0));
  SAY("FIONBIO at a bad address", ioctl(s[1], FIONBIO, NOWHERE));

  set_nonblocking(s[1], 1);
  SAY("a non-blocking recv", recv(s[1], buf, 10, 0));
  SAY("a non-blocking recv of all", recv(s[1], buf, 10, MSG_WAITALL));
  MUST(send(s[0], "abc", 3, 0));
  await_bytes(s[1], 3);
  SAY("a non-blocking recv of all", recv(s[1], buf, 10, MSG_WAITALL));
  set_nonblocking(s[1], 0);

  SAY("send without waiting when it is full",
      UNTIL_REFUSED(send(s[0], buf, 1 << 16, MSG_DONTWAIT)));
  set_nonblocking(s[0], 1);
  SAY("a non-blocking send when it is full", UNTIL_REFUSED(send(s[0], buf, 1 << 16, 0)));
  SAY("a non-blocking write when it is full", UNTIL_REFUSED(write(s[0], buf, 1 << 16)));
  set_nonblocking(s[0], 0);
  time_out(s[0], SO_SNDTIMEO, 30);
  SAY("send with a time-out", UNTIL_REFUSED(send(s[0], buf, 1 << 16, 0)));
  SAY("write with a time-out", UNTIL_REFUSED(write(s[0], buf, 1 << 16)));
  time_out(s[0], SO_SNDTIMEO, 0);
  SAY_INTERRUPTED("send", partly(send(s[0], buf, 1 << 16, 0)),
                  while (recv(s[1], buf, sizeof buf, MSG_DONTWAIT) > 0){});
  if (peer()) {
    while (recv(s[1], buf, sizeof buf, MSG_DONTWAIT) > 0) {}
    leave();
  }
  peer_ends();
  if (peer()) {
    shutdown(s[0], SHUT_WR);
    leave();
  }
  peer_ends();
  while (recv(s[1], buf, sizeof buf, 0) > 0) {}
  SAY("recv at the end", recv(s[1], buf, 10, 0));
  SAY("recv of all at the end", recv(s[1], buf, 10, MSG_WAITALL));
  on_signal(SIGPIPE, 0);
  take_handled();
  SAY("send when shut down", send(s[0], buf, 10, 0));
  SAY("  SIGPIPE came", take_handled());
  SAY("send with MSG_NOSIGNAL", send(s[0], buf, 10, MSG_NOSIGNAL));
  SAY("  SIGPIPE came", take_handled());
  SAY("write", write(s[0], buf, 10));
  SAY("  SIGPIPE came", take_handled());
  SAY("sendmsg", sendmsg(s[0], &(struct msghdr){.msg_iov = v, .msg_iovlen = 2}, 0));
  SAY("  SIGPIPE came", take_handled());
  close_pair(s);
}

static void partial_then_gone(const char* kind, int s[2], int by_write) {
  // The peer closes when we are blocked in the middle: the bytes sent are returned, and there is no
  // SIGPIPE.
  static char large[4 << 20];
  take_handled();
  if (peer()) {
    close(s[0]);
    await_blocked();
    leave();
  }
  close(s[1]);
  printf("-- %s\n", kind);
  SAY("a large send to a peer that goes",
      (by_write ? write(s[0], large, sizeof large) : send(s[0], large, sizeof large, 0)) > 1000);
  SAY("  SIGPIPE came", take_handled());
  peer_ends();
  SAY("the next fails", send(s[0], buf, 10, 0) == -1 && (errno == EPIPE || errno == ECONNRESET));
  close(s[0]);
  take_handled();
}

static void partial_then_shut_down(int by_write) {
  // The same when another process that shares the socket shuts it down for writing.
  static char large[4 << 20];
  int s[2];
  tcp_pair(s);
  take_handled();
  if (peer()) {
    await_blocked();
    shutdown(s[0], SHUT_WR);
    leave();
  }
  SAY("a large send on a socket that is shut down meanwhile",
      (by_write ? write(s[0], large, sizeof large) : send(s[0], large, sizeof large, 0)) > 1000);
  SAY("  SIGPIPE came", take_handled());
  peer_ends();
  SAY("  the next fails", send(s[0], buf, 10, 0));
  take_handled();
  close_pair(s);
}

static void oob(void) {
  int s[2];
  tcp_pair(s);
  SAY("no urgent byte", recv(s[1], buf, 1, MSG_OOB));
  MUST(send(s[0], "abc", 3, MSG_OOB));
  struct pollfd p = {.fd = s[1], .events = POLLPRI};
  SAY("poll reports it", poll(&p, 1, -1));
  SAY("  as POLLPRI", p.revents == POLLPRI);
  SAY("the urgent byte", recv(s[1], buf, 10, MSG_OOB));
  SAY("  is", buf[0]);
  SAY("again", recv(s[1], buf, 10, MSG_OOB));
  SAY("the other bytes", recv(s[1], buf, 10, 0));
  MUST(send(s[0], "abc", 3, MSG_OOB));
  MUST(send(s[0], "def", 3, 0));
  await_bytes(s[1], 2);
  SAY("recv of all stops at the urgent byte", recv(s[1], buf, 5, MSG_WAITALL));
  SAY("and goes on behind it", recv(s[1], buf, 3, MSG_WAITALL));
  if (peer()) {
    await_blocked();
    send(s[0], "ab", 2, MSG_OOB);
    await_blocked();
    send(s[0], "cdef", 4, 0);
    leave();
  }
  long first = recv(s[1], buf, 5, MSG_WAITALL);
  SAY("recv of all, with an urgent byte on the way", first);
  peer_ends();
  close_pair(s);
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  SAY("no urgent byte, unix", recv(s[1], buf, 1, MSG_OOB));
  close_pair(s);
}

static void errqueue(void) {
  int s = MUST(socket(AF_INET, SOCK_DGRAM, 0));
  int on = 1;
  MUST(setsockopt(s, SOL_IP, IP_RECVERR, &on, sizeof on));
  SAY("an empty error queue", recv(s, buf, 10, MSG_ERRQUEUE));
  SAY("an empty error queue of all", recv(s, buf, 10, MSG_ERRQUEUE | MSG_WAITALL));
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof a;
  // A port that is certainly closed.
  int other = MUST(socket(AF_INET, SOCK_DGRAM, 0));
  MUST(bind(other, (struct sockaddr*)&a, sizeof a));
  MUST(getsockname(other, (struct sockaddr*)&a, &len));
  close(other);
  SAY("a datagram to a closed port", sendto(s, "abc", 3, 0, (struct sockaddr*)&a, sizeof a));
  struct pollfd p = {.fd = s, .events = 0};
  SAY("poll reports the error", poll(&p, 1, -1));
  SAY("  as POLLERR", p.revents == POLLERR);
  char control[256];
  struct iovec v = {buf, 100};
  struct msghdr m = {
      .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  SAY("the error's datagram", recvmsg(s, &m, MSG_ERRQUEUE));
  SAY("  its flags", m.msg_flags == MSG_ERRQUEUE);
  struct cmsghdr* c = CMSG_FIRSTHDR(&m);
  SAY("  its error", c ? (long)((struct sock_extended_err*)CMSG_DATA(c))->ee_errno : -2);
  SAY("  recv reports nothing more", recv(s, buf, 10, MSG_DONTWAIT));
  MUST(connect(s, (struct sockaddr*)&a, sizeof a));
  SAY("send to a closed port", send(s, "abc", 3, 0));
  SAY("recv reports it", recv(s, buf, 10, 0));
  close(s);
  int t[2];
  tcp_pair(t);
  SAY("a connection's error queue", recv(t[0], buf, 10, MSG_ERRQUEUE));
  m.msg_controllen = sizeof control;
  SAY("a connection's error queue by recvmsg", recvmsg(t[0], &m, MSG_ERRQUEUE));
  close_pair(t);
}

static void datagrams(const char* kind, int s[2]) {
  printf("-- %s\n", kind);
  SAY("a datagram", send(s[0], "0123456789", 10, 0));
  SAY("an empty one", send(s[0], "", 0, 0));
  SAY("a third", send(s[0], "abc", 3, 0));
  SAY("peeked", recv(s[1], buf, 3, MSG_PEEK));
  SAY("peeked with its length", recv(s[1], buf, 3, MSG_PEEK | MSG_TRUNC));
  struct iovec v = {buf, 4};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
  SAY("cut", recvmsg(s[1], &m, 0));
  SAY("  and reported", m.msg_flags & MSG_TRUNC ? 1 : 0);
  SAY("the empty one", recv(s[1], buf, 10, 0));
  SAY("the third, of all", recv(s[1], buf, 10, MSG_WAITALL));
  MUST(send(s[0], "0123456789", 10, 0));
  SAY("cut, with its length", recv(s[1], buf, 3, MSG_TRUNC));
  MUST(send(s[0], "0123456789", 10, 0));
  SAY("by read", read(s[1], buf, 3));
  SAY("without waiting", recv(s[1], buf, 10, MSG_DONTWAIT));
  if (peer()) {
    await_blocked();
    send(s[0], "ab", 2, 0);
    leave();
  }
  SAY("waited for", recv(s[1], buf, 10, 0));
  peer_ends();
  if (peer()) {
    await_blocked();
    send(s[0], "ab", 2, 0);
    leave();
  }
  SAY("waited for, of all", recv(s[1], buf, 10, MSG_WAITALL));
  peer_ends();
  if (peer()) {
    await_blocked();
    send(s[0], "ab", 2, 0);
    leave();
  }
  SAY("a read of nothing", read(s[1], buf, 0));
  SAY("waited for by readv", readv(s[1], &v, 1));
  peer_ends();
  SAY_INTERRUPTED("recv", recv(s[1], buf, 10, 0), send(s[0], "ab", 2, 0));
  time_out(s[1], SO_RCVTIMEO, 30);
  SAY("a time-out", recv(s[1], buf, 10, 0));
  time_out(s[1], SO_RCVTIMEO, 0);

  struct mmsghdr many[5];
  struct iovec parts[5];
  static char into[5][16];
  for (int i = 0; i < 5; i++) {
    parts[i] = (struct iovec){into[i], sizeof into[i]};
    snprintf(into[i], sizeof into[i], "%.*s", i + 1, "abcde");
    parts[i].iov_len = (size_t)i + 1;
    many[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &parts[i], .msg_iovlen = 1}};
  }
  SAY("sendmmsg of none", sendmmsg(s[0], many, 0, 0));
  SAY("sendmmsg of five", sendmmsg(s[0], many, 5, 0));
  SAY("  the last one's length", many[4].msg_len);
  for (int i = 0; i < 5; i++) parts[i].iov_len = sizeof into[i], many[i].msg_len = 99;
  SAY("recvmmsg of two", recvmmsg(s[1], many, 2, 0, NULL));
  SAY("  the second one's length", many[1].msg_len);
  SAY("recvmmsg of none", recvmmsg(s[1], many, 0, 0, NULL));
  SAY("recvmmsg for one", recvmmsg(s[1], many, 5, MSG_WAITFORONE, NULL));
  SAY("recvmmsg without waiting", recvmmsg(s[1], many, 5, MSG_DONTWAIT, NULL));
  if (peer()) {
    await_blocked();
    send(s[0], "a", 1, 0);
    await_blocked();
    send(s[0], "bc", 2, 0);
    await_blocked();
    send(s[0], "def", 3, 0);
    leave();
  }
  SAY("recvmmsg waits for three", recvmmsg(s[1], many, 3, 0, NULL));
  SAY("  the third one's length", many[2].msg_len);
  peer_ends();
  if (peer()) {
    await_blocked();
    send(s[0], "a", 1, 0);
    leave();
  }
  SAY("recvmmsg waits for one", recvmmsg(s[1], many, 3, MSG_WAITFORONE, NULL));
  peer_ends();
  MUST(send(s[0], "a", 1, 0));
  struct timespec none = {0, 0}, bad = {0, -1}, little = {0, 1};
  SAY("recvmmsg with no time", recvmmsg(s[1], many, 3, 0, &none));
  MUST(send(s[0], "a", 1, 0));
  SAY("recvmmsg with little time", recvmmsg(s[1], many, 3, 0, &little));
  SAY("recvmmsg with a bad time", recvmmsg(s[1], many, 3, 0, &bad));
  SAY("recvmmsg with a bad address for it", recvmmsg(s[1], many, 3, 0, NOWHERE));
  MUST(send(s[0], "a", 1, 0));
  SAY("recvmmsg into a bad place", recvmmsg(s[1], NOWHERE, 3, 0, NULL));
  SAY("the datagram is still there", recv(s[1], buf, 10, MSG_DONTWAIT));
  on_signal(SIGUSR2, 0);
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR2);
    leave();
  }
  SAY("recvmmsg is ended by a handler", recvmmsg(s[1], many, 3, 0, NULL));
  peer_ends();
  if (peer()) {
    await_blocked();
    send(s[0], "a", 1, 0);
    await_blocked();
    kill(getppid(), SIGUSR2);
    leave();
  }
  SAY("recvmmsg is ended by a handler after one", recvmmsg(s[1], many, 3, 0, NULL));
  peer_ends();
  // Natively, the error that ended recvmmsg() remains as the socket's error. It is cleared here, so
  // that the next call is the same in both runs.
  int kept;
  socklen_t len = sizeof kept;
  getsockopt(s[1], SOL_SOCKET, SO_ERROR, &kept, &len);
  many[1].msg_hdr.msg_iov = NOWHERE;
  SAY("sendmmsg with a bad second", sendmmsg(s[0], many, 3, 0));
  SAY("sendmmsg with a bad first", sendmmsg(s[0], many + 1, 2, 0));
  SAY("sendmmsg from a bad place", sendmmsg(s[0], NOWHERE, 2, 0));
  SAY("received", recv(s[1], buf, 100, MSG_DONTWAIT) >= 0);
  SAY("sendmmsg to a bad descriptor", sendmmsg(-1, many, 1, 0));
  SAY("recvmmsg from a bad descriptor", recvmmsg(-1, many, 1, 0, NULL));
  close_pair(s);
}

static void udp_pair(int s[2]) {
  struct sockaddr_in a[2];
  for (int i = 0; i < 2; i++) {
    a[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a[i];
    s[i] = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    MUST(bind(s[i], (struct sockaddr*)&a[i], sizeof a[i]));
    MUST(getsockname(s[i], (struct sockaddr*)&a[i], &len));
  }
  MUST(connect(s[0], (struct sockaddr*)&a[1], sizeof a[1]));
  MUST(connect(s[1], (struct sockaddr*)&a[0], sizeof a[0]));
}

static void addresses(void) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from;
  socklen_t len = sizeof a;
  int s = MUST(socket(AF_INET, SOCK_DGRAM, 0)), t = MUST(socket(AF_INET, SOCK_DGRAM, 0));
  MUST(bind(s, (struct sockaddr*)&a, sizeof a));
  MUST(getsockname(s, (struct sockaddr*)&a, &len));
  SAY("send without an address", send(t, "abc", 3, 0));
  SAY("write without an address", write(t, "abc", 3));
  SAY("sendto", sendto(t, "abc", 3, 0, (struct sockaddr*)&a, sizeof a));
  len = sizeof from;
  SAY("recvfrom", recvfrom(s, buf, 10, 0, (struct sockaddr*)&from, &len));
  SAY("  the length of the address", len);
  SAY("  its family", from.sin_family);
  MUST(sendto(t, "abc", 3, 0, (struct sockaddr*)&a, sizeof a));
  len = 4;
  SAY("recvfrom with room for less",
      recvfrom(s, buf, 10, MSG_WAITALL, (struct sockaddr*)&from, &len));
  SAY("  the length of the address", len);
  MUST(sendto(t, "abc", 3, 0, (struct sockaddr*)&a, sizeof a));
  SAY("recvfrom with an address but no length",
      recvfrom(s, buf, 10, 0, (struct sockaddr*)&from, NULL));
  SAY("sendto with an address that is too long",
      sendto(t, "abc", 3, 0, (struct sockaddr*)&a, 1000));
  SAY("sendto with an address that is too short", sendto(t, "abc", 3, 0, (struct sockaddr*)&a, 2));
  SAY("sendto a bad address", sendto(t, "abc", 3, 0, NOWHERE, sizeof a));
  SAY("a datagram that is too large", sendto(t, buf, 70000, 0, (struct sockaddr*)&a, sizeof a));
  struct iovec v[1100];
  for (int i = 0; i < 1100; i++) v[i] = (struct iovec){buf, 1};
  struct msghdr m = {.msg_name = &a, .msg_namelen = sizeof a, .msg_iov = v, .msg_iovlen = 1100};
  SAY("sendmsg of too many parts", sendmsg(t, &m, 0));
  SAY("recvmsg of too many parts", recvmsg(s, &m, 0));
  m.msg_iovlen = 3;
  SAY("sendmsg", sendmsg(t, &m, 0));
  m.msg_namelen = sizeof from;
  m.msg_name = &from;
  SAY("recvmsg", recvmsg(s, &m, 0));
  SAY("  the length of the address", m.msg_namelen);
  if (peer()) {
    await_blocked();
    sendto(t, "abc", 3, 0, (struct sockaddr*)&a, sizeof a);
    leave();
  }
  SAY("MSG_OOB on a datagram socket waits", recv(s, buf, 10, MSG_OOB));
  peer_ends();
  SAY("sending MSG_OOB", sendto(t, buf, 10, MSG_OOB, (struct sockaddr*)&a, sizeof a));
  close(s);
  close(t);

  struct sockaddr_un u = {.sun_family = AF_UNIX, .sun_path = "queue"};
  s = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
  t = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
  SAY("to a socket that does not exist", sendto(t, "abc", 3, 0, (struct sockaddr*)&u, sizeof u));
  MUST(bind(s, (struct sockaddr*)&u, sizeof u));
  int n = 0;
  while (sendto(t, "abc", 3, MSG_DONTWAIT, (struct sockaddr*)&u, sizeof u) == 3) n++;
  SAY("a full queue", sendto(t, "abc", 3, MSG_DONTWAIT, (struct sockaddr*)&u, sizeof u));
  if (peer()) {
    await_blocked();
    recv(s, buf, 10, 0);
    leave();
  }
  SAY("sendto waits for room in the queue", sendto(t, "abc", 3, 0, (struct sockaddr*)&u, sizeof u));
  peer_ends();
  SAY_INTERRUPTED("sendto a full queue", sendto(t, "abc", 3, 0, (struct sockaddr*)&u, sizeof u),
                  recv(s, buf, 10, 0));
  time_out(t, SO_SNDTIMEO, 30);
  SAY("sendto a full queue with a time-out",
      sendto(t, "abc", 3, 0, (struct sockaddr*)&u, sizeof u));
  time_out(t, SO_SNDTIMEO, 0);
  MUST(connect(t, (struct sockaddr*)&u, sizeof u));
  SAY_INTERRUPTED("send to a full queue", send(t, "abc", 3, 0), recv(s, buf, 10, 0));
  SAY_INTERRUPTED("write to a full queue", write(t, "abc", 3), recv(s, buf, 10, 0));
  if (peer()) {
    close(t);
    await_blocked();
    leave();
  }
  close(s);
  SAY("the receiver goes while send waits", send(t, "abc", 3, 0));
  peer_ends();
  close(t);
}

static void errors(void) {
  int f = MUST(open("/dev/null", O_RDWR)), s = MUST(socket(AF_INET, SOCK_STREAM, 0));
  struct msghdr m = {0};
  SAY("recv of a bad descriptor", recv(-1, buf, 1, 0));
  SAY("send of a bad descriptor", send(-1, buf, 1, 0));
  SAY("recv of no socket", recv(f, buf, 1, 0));
  SAY("send of no socket", send(f, buf, 1, 0));
  SAY("recvfrom of no socket", recvfrom(f, buf, 1, MSG_WAITALL, NULL, NULL));
  SAY("recvmsg of no socket", recvmsg(f, &m, 0));
  SAY("sendmsg of no socket", sendmsg(f, &m, 0));
  SAY("recvmmsg of no socket", recvmmsg(f, (struct mmsghdr*)buf, 1, 0, NULL));
  on_signal(SIGPIPE, 0);
  take_handled();
  SAY("recv when not connected", recv(s, buf, 1, 0));
  SAY("read when not connected", read(s, buf, 1));
  SAY("recv of all when not connected", recv(s, buf, 1, MSG_WAITALL));
  SAY("send when not connected", send(s, buf, 1, 0));
  SAY("write when not connected", write(s, buf, 1));
  SAY("  SIGPIPE came", take_handled());
  close(s);
  s = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
  SAY("recv when not connected, unix", recv(s, buf, 1, 0));
  SAY("send when not connected, unix", send(s, buf, 1, 0));
  close(s);
  s = MUST(socket(AF_UNIX, SOCK_SEQPACKET, 0));
  SAY("recv when not connected, packets", recv(s, buf, 1, 0));
  close(s);
  close(f);
}

static size_t with_descriptor(struct msghdr* m, char* control, size_t n, int fd) {
  m->msg_control = control;
  m->msg_controllen = n;
  struct cmsghdr* c = CMSG_FIRSTHDR(m);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(c), &fd, sizeof fd);
  return m->msg_controllen = CMSG_SPACE(sizeof fd);
}

static int descriptor_of(struct msghdr* m) {
  struct cmsghdr* c = CMSG_FIRSTHDR(m);
  int fd = -1;
  if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
    memcpy(&fd, CMSG_DATA(c), sizeof fd);
  return fd;
}

static void control(void) {
  int s[2], p[2];
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  MUST(pipe(p));
  static _Alignas(8) char room[256];
  struct iovec v = {(char*)"abc", 3}, into = {buf, 100};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1}, r = {.msg_iov = &into, .msg_iovlen = 1};
  with_descriptor(&m, room, sizeof room, p[1]);
  SAY("a descriptor is sent", sendmsg(s[0], &m, 0));
  r.msg_control = room;
  r.msg_controllen = sizeof room;
  SAY("and received", recvmsg(s[1], &r, MSG_CMSG_CLOEXEC));
  int got = descriptor_of(&r);
  SAY("  closed on exec", fcntl(got, F_GETFD));
  SAY("  it works", write(got, "x", 1));
  close(got);
  if (peer()) {
    await_blocked();
    send(s[0], "abc", 3, 0);
    await_blocked();
    with_descriptor(&m, room, sizeof room, p[1]);
    sendmsg(s[0], &m, 0);
    await_blocked();
    send(s[0], "defghijk", 8, 0);
    leave();
  }
  r.msg_control = room;
  r.msg_controllen = sizeof room;
  into.iov_len = 8;
  SAY("recvmsg of all ends with a descriptor", recvmsg(s[1], &r, MSG_WAITALL));
  got = descriptor_of(&r);
  SAY("  which came", got >= 0);
  SAY("  the flags", r.msg_flags);
  if (got >= 0) close(got);
  peer_ends();
  while (recv(s[1], buf, 100, MSG_DONTWAIT) > 0) {}
  into.iov_len = 100;
  with_descriptor(&m, room, sizeof room, p[1]);
  MUST(sendmsg(s[0], &m, 0));
  r.msg_controllen = 0;
  SAY("a descriptor without room for it", recvmsg(s[1], &r, 0));
  SAY("  is reported", r.msg_flags);
  with_descriptor(&m, room, sizeof room, 999);
  SAY("a descriptor that is not open", sendmsg(s[0], &m, 0));
  m.msg_control = NOWHERE;
  SAY("bad control messages", sendmsg(s[0], &m, 0));
  int on = 1;
  MUST(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  m.msg_control = NULL;
  m.msg_controllen = 0;
  MUST(sendmsg(s[0], &m, 0));
  r.msg_control = room;
  r.msg_controllen = sizeof room;
  SAY("with credentials", recvmsg(s[1], &r, 0));
  struct cmsghdr* c = CMSG_FIRSTHDR(&r);
  struct ucred who = {0, 0, 0};
  if (c && c->cmsg_type == SCM_CREDENTIALS) memcpy(&who, CMSG_DATA(c), sizeof who);
  SAY("  which are ours", who.pid == getpid() && who.uid == getuid());
  // Messages of different processes are not merged; those of one process are.
  MUST(send(s[0], "ab", 2, 0));
  MUST(send(s[0], "cd", 2, 0));
  if (peer()) {
    send(s[0], "ef", 2, 0);
    leave();
  }
  peer_ends();
  r.msg_controllen = sizeof room;
  into.iov_len = 6;
  SAY("recvmsg of all, from two processes", recvmsg(s[1], &r, MSG_WAITALL));
  SAY("the rest", recv(s[1], buf, 100, 0));
  close_pair(s);
  close_pair(p);
}

static void peeking(void) {
  int s[2];
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  MUST(send(s[0], "abc", 3, 0));
  SAY("peeking at all there is, unix", recv(s[1], buf, 10, MSG_PEEK | MSG_WAITALL));
  close_pair(s);
  tcp_pair(s);
  MUST(send(s[0], "abc", 3, 0));
  await_bytes(s[1], 3);
  if (peer()) {
    await_blocked();
    send(s[0], "defghijk", 8, 0);
    leave();
  }
  SAY("peeking at all there is, TCP", recv(s[1], buf, 10, MSG_PEEK | MSG_WAITALL));
  peer_ends();
  SAY("it is still there", recv(s[1], buf, 100, 0));
  MUST(send(s[0], "abc", 3, 0));
  await_bytes(s[1], 3);
  time_out(s[1], SO_RCVTIMEO, 30);
  SAY("peeking with a time-out", recv(s[1], buf, 10, MSG_PEEK | MSG_WAITALL));
  time_out(s[1], SO_RCVTIMEO, 0);
  MUST(shutdown(s[0], SHUT_WR));
  SAY("peeking at all before the end", recv(s[1], buf, 10, MSG_PEEK | MSG_WAITALL));
  SAY("discarding it", recv(s[1], NULL, 3, MSG_TRUNC | MSG_WAITALL));
  SAY("the end", recv(s[1], buf, 3, MSG_WAITALL));
  close_pair(s);
  tcp_pair(s);
  int lowest = 5;
  MUST(setsockopt(s[1], SOL_SOCKET, SO_RCVLOWAT, &lowest, sizeof lowest));
  MUST(send(s[0], "ab", 2, 0));
  await_bytes(s[1], 2);
  if (peer()) {
    await_blocked();
    send(s[0], "cdefg", 5, 0);
    leave();
  }
  SAY("recv waits for SO_RCVLOWAT", recv(s[1], buf, 10, 0));
  peer_ends();
  close_pair(s);
}

// A message that does not fit the buffer is received in parts; its descriptor comes with the first
// part, once.
static void large_with_descriptor(void) {
  enum { n = 1 << 20 };
  int s[2], p[2];
  char* all = malloc(n);
  static _Alignas(8) char control[256];
  memset(all, 'x', n);
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  MUST(pipe(p));
  if (peer()) {
    close(s[0]);
    long got = 0, came = 0, first = 0;
    ssize_t r;
    do {
      struct iovec v = {all, 5000};
      struct msghdr m = {
          .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
      r = recvmsg(s[1], &m, 0);
      int fd = r > 0 ? descriptor_of(&m) : -1;
      if (fd >= 0) came++, first = got == 0, close(fd);
      if (r > 0) got += r;
    } while (r > 0);
    _exit(got == n && came == 1 && first ? 0 : 1);
  }
  close(s[1]);
  struct iovec v[2] = {{all, n / 2}, {all + n / 2, n / 2}};
  struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
  with_descriptor(&m, control, sizeof control, p[1]);
  SAY("a large message with a descriptor", sendmsg(s[0], &m, 0));
  close(s[0]);
  peer_ends();
  close(p[0]);
  close(p[1]);
  free(all);
}

int main(void) {
  int s[2];
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  stream("unix", s);
  tcp_pair(s);
  buffers(s[0], 65536);
  buffers(s[1], 65536);
  stream("TCP", s);
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  partial_then_gone("unix, send", s, 0);
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  partial_then_gone("unix, write", s, 1);
  tcp_pair(s);
  partial_then_gone("TCP, send", s, 0);
  tcp_pair(s);
  partial_then_gone("TCP, write", s, 1);
  for (int by_write = 0; by_write < 2; by_write++) partial_then_shut_down(by_write);
  MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
  datagrams("unix datagrams", s);
  MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s));
  datagrams("unix packets", s);
  udp_pair(s);
  datagrams("UDP", s);
  oob();
  errqueue();
  addresses();
  errors();
  large_with_descriptor();
  control();
  peeking();
}
