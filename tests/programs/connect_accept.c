// connect(2) and accept(2): TCP and unix sockets, refused, full, in progress, inherited,
// interrupted.
#include "cases.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

static char buf[100];
static struct sockaddr_in here;
static struct sockaddr_un path = {.sun_family = AF_UNIX, .sun_path = "listener"};
#define HERE (struct sockaddr*)&here, sizeof here
#define PATH (struct sockaddr*)&path, sizeof path

static int listen_tcp(void) {
  here = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof here;
  int on = 1, l = MUST(socket(AF_INET, SOCK_STREAM, 0));
  MUST(setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
  MUST(bind(l, HERE));
  MUST(listen(l, 5));
  MUST(getsockname(l, (struct sockaddr*)&here, &len));
  return l;
}
static int tcp(void) { return (int)MUST(socket(AF_INET, SOCK_STREAM, 0)); }
static int unix_socket(void) { return (int)MUST(socket(AF_UNIX, SOCK_STREAM, 0)); }
static void time_out(int fd, int option, int ms) {
  struct timeval t = {ms / 1000, ms % 1000 * 1000};
  MUST(setsockopt(fd, SOL_SOCKET, option, &t, sizeof t));
}

static void connecting(void) {
  int l = listen_tcp(), s = tcp();
  SAY("connect", connect(s, HERE));
  SAY("it stays blocking", is_nonblocking(s));
  SAY("connect once more", connect(s, HERE));
  SAY("no error is left", ({
        int e = 0;
        socklen_t n = sizeof e;
        getsockopt(s, SOL_SOCKET, SO_ERROR, &e, &n);
        e;
      }));
  struct sockaddr_in from;
  socklen_t len = sizeof from;
  int a = accept(l, (struct sockaddr*)&from, &len);
  SAY("accepted, with an address of length", len);
  SAY("  from", from.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
  SAY("it blocks", is_nonblocking(a));
  SAY("and stays open on exec", fcntl(a, F_GETFD));
  close(a);
  close(s);
  s = tcp();
  MUST(connect(s, HERE));
  a = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  SAY("accept4: it does not block", is_nonblocking(a));
  SAY("and is closed on exec", fcntl(a, F_GETFD));
  close(a);
  close(s);
  SAY("accept4 with unknown flags", accept4(l, NULL, NULL, 0x10));
  time_out(l, SO_RCVTIMEO, 30);
  SAY("accept with a time-out", accept(l, NULL, NULL));
  time_out(l, SO_RCVTIMEO, 0);
  set_nonblocking(l, 1);
  SAY("accept without waiting", accept(l, NULL, NULL));
  set_nonblocking(l, 0);
  if (peer()) {
    await_blocked();
    int c = tcp();
    connect(c, HERE);
    write(c, "x", 1);
    leave();
  }
  a = accept(l, NULL, NULL);
  SAY("accept waits; a byte", read(a, buf, 10));
  SAY("and the end", read(a, buf, 10));
  close(a);
  peer_ends();
  s = tcp();
  a = -1;
  SAY_INTERRUPTED("accept", (a = accept(l, NULL, NULL)) >= 0 ? 1 : -1, connect(s, HERE));
  close(s);
  close(a);
  // In the other direction: the listener is inherited.
  if (peer()) {
    int got = accept(l, NULL, NULL);
    write(got, "abc", 3);
    leave();
  }
  s = tcp();
  SAY("connect to a child's listener", connect(s, HERE));
  SAY("and hear from it", read(s, buf, 10));
  peer_ends();
  close(s);
  s = tcp();
  MUST(connect(s, HERE));
  len = sizeof from;
  SAY("accept to a bad address", accept(l, NOWHERE, &len));
  close(s);
  s = tcp();
  MUST(connect(s, HERE));
  // AddressSanitizer's own accept() would follow the pointer.
  if (!getenv("SANITIZED"))
    SAY("accept with a bad length", accept(l, (struct sockaddr*)&from, NOWHERE));
  close(s);
  s = tcp();
  MUST(connect(s, HERE));
  len = (socklen_t)-1;
  SAY("accept with a negative length", accept(l, (struct sockaddr*)&from, &len));
  close(s);
  close(l);
  s = tcp();
  SAY("connect to a port without listener", connect(s, HERE));
  SAY("once more", connect(s, HERE));
  l = tcp();
  int on = 1;
  MUST(setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
  MUST(bind(l, HERE));
  MUST(listen(l, 5));
  SAY("connect when there is a listener", connect(s, HERE));
  SAY("it stays blocking", is_nonblocking(s));
  close(s);
  s = tcp();
  SAY("the address is taken", bind(s, HERE));
  set_nonblocking(s, 1);
  SAY("connect without waiting", connect(s, HERE));
  struct pollfd p = {.fd = s, .events = POLLOUT};
  SAY("poll reports when", poll(&p, 1, -1));
  SAY("  as POLLOUT", p.revents);
  SAY("connect again", connect(s, HERE));
  SAY("and again", connect(s, HERE));
  close(s);
  s = tcp();
  fflush(stdout);
  int status;
  pid_t child = MUST(fork());
  if (child == 0) _exit(connect(s, HERE) == 0 ? 0 : 1);
  MUST(waitpid(child, &status, 0));
  SAY("a child connects an inherited socket", status);
  SAY("the parent finds it connected", connect(s, HERE));
  SAY("and blocking", is_nonblocking(s));
  close(s);
  close(l);
}

// The number of connections in a listener's queue, and its maximum; the kernel admits one more.
static int queued(int listener, int* room) {
  struct tcp_info i;
  socklen_t n = sizeof i;
  MUST(getsockopt(listener, IPPROTO_TCP, TCP_INFO, &i, &n));
  *room = (int)i.tcpi_sacked;
  return (int)i.tcpi_unacked;
}

// A connection attempt that stays pending because the listener's queue is full.
static void pending(void) {
  int l = listen_tcp();
  MUST(listen(l, 0));
  int s[9], n = 0, room;
  for (; n < 8 && queued(l, &room) <= room; n++) {
    MUST(connect(s[n] = tcp(), HERE));
    while (queued(l, &room) <= n) sched_yield();
  }
  SAY("some connection is not made", n < 8);
  int t = s[n] = tcp();
  set_nonblocking(t, 1);
  connect(t, HERE);
  SAY("connect, under way, without waiting", connect(t, HERE));
  set_nonblocking(t, 0);
  time_out(t, SO_SNDTIMEO, 30);
  SAY("connect, under way, with a time-out", connect(t, HERE));
  close(t);
  t = tcp();
  time_out(t, SO_SNDTIMEO, 30);
  SAY("connect with a time-out", connect(t, HERE));
  SAY("connect again, with a time-out", connect(t, HERE));
  SAY("it stays blocking", is_nonblocking(t));
  time_out(t, SO_SNDTIMEO, 0);
  on_signal(SIGUSR1, 0);
  take_handled();
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  SAY("connect, under way, is ended by a handler", connect(t, HERE));
  peer_ends();
  close(t);
  t = tcp();
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  SAY("connect is ended by a handler", connect(t, HERE));
  peer_ends();
  set_nonblocking(t, 1);
  SAY("the attempt goes on", connect(t, HERE));
  close(t);
  for (int i = 0; i < n; i++) close(s[i]);
  close(l);
}

static void unix_listener(void) {
  int s = unix_socket(), l = unix_socket();
  SAY("connect to a path that does not exist", connect(s, PATH));
  close(open(path.sun_path, O_CREAT | O_WRONLY, 0600));
  SAY("connect to a file", connect(s, PATH));
  unlink(path.sun_path);
  MUST(bind(l, PATH));
  SAY("connect to a port without listener", connect(s, PATH));
  MUST(listen(l, 1));
  SAY("connect", connect(s, PATH));
  SAY("connect once more", connect(s, PATH));
  MUST(listen(l, 0));
  int t = unix_socket();
  set_nonblocking(t, 1);
  SAY("connect to a full queue without waiting", connect(t, PATH));
  set_nonblocking(t, 0);
  time_out(t, SO_SNDTIMEO, 30);
  SAY("connect to a full queue with a time-out", connect(t, PATH));
  time_out(t, SO_SNDTIMEO, 0);
  if (peer()) {
    await_blocked();
    accept(l, NULL, NULL);
    leave();
  }
  SAY("connect to a full queue waits", connect(t, PATH));
  peer_ends();
  close(t);
  t = unix_socket();
  on_signal(SIGUSR1, 0);
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  SAY("connect to a full queue is ended by a handler", connect(t, PATH));
  peer_ends();
  if (peer()) {
    accept(l, NULL, NULL);
    leave();
  }
  peer_ends();
  set_nonblocking(l, 1);
  SAY("nothing of it was left", accept(l, NULL, NULL));
  set_nonblocking(l, 0);
  SAY("connect after that", connect(t, PATH));
  SAY("it stays blocking", is_nonblocking(t));
  close(t);
  close(s);
  int a = accept(l, NULL, NULL);
  SAY("a connection that was closed is accepted", a >= 0);
  SAY("and at its end", read(a, buf, 1));
  close(a);
  close(l);
  SAY("connect to a path whose listener has been closed", connect(unix_socket(), PATH));
  unlink(path.sun_path);
}

static void datagrams(void) {
  int s = MUST(socket(AF_INET, SOCK_DGRAM, 0));
  here = (struct sockaddr_in){
      .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  SAY("connect a datagram socket", connect(s, HERE));
  SAY("and once more", connect(s, HERE));
  struct sockaddr none = {.sa_family = AF_UNSPEC};
  SAY("and dissolve it", connect(s, &none, sizeof none));
  SAY("accept on a datagram socket", accept(s, NULL, NULL));
  close(s);
}

// The runtime knows the settings of a socket that it made; later changes by any means must take
// effect.
static void changed_since_made(void) {
  int l = listen_tcp(), s = tcp(), pair[2];
  MUST(fcntl(s, F_SETFL, O_ASYNC));
  SAY("connect with O_ASYNC", connect(s, HERE));
  SAY("that flag and no other outlasts it", fcntl(s, F_GETFL) == (O_RDWR | O_ASYNC));
  int a = MUST(accept(l, NULL, NULL));
  SAY("the server speaks first", send(a, "hello", 5, 0));
  SAY("and is heard", recv(s, buf, sizeof buf, 0));
  set_nonblocking(s, 1);
  SAY("made non-blocking, nothing there", recv(s, buf, sizeof buf, 0));
  set_nonblocking(s, 0);
  time_out(s, SO_RCVTIMEO, 30);
  SAY("given a time-out, nothing there", recv(s, buf, sizeof buf, 0));
  close(s);
  close(a);

  s = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
  int connected = connect(s, HERE) == 0 || errno == EINPROGRESS;
  SAY("made as non-blocking, it does not wait for the peer", connected);
  SAY("it is connected soon", poll(&(struct pollfd){s, POLLOUT, 0}, 1, -1));
  SAY("nothing there", recv(s, buf, sizeof buf, 0));
  close(s);

  s = tcp();
  MUST(pipe(pair));
  MUST(dup2(pair[0], s));
  SAY("a pipe in a socket's place: connect", connect(s, HERE));
  SAY("recv", recv(s, buf, sizeof buf, 0));
  MUST(write(pair[1], "abc", 3));
  SAY("read", read(s, buf, sizeof buf));
  close(s);
  int u = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
  SAY("a datagram socket takes the number", u == s);
  SAY("connect returns at once", connect(u, HERE));
  close(u);
  close(pair[0]);
  close(pair[1]);
  close(l);
}

static void errors(void) {
  int f = MUST(open("/dev/null", O_RDWR)), s = tcp(), pair[2];
  here = (struct sockaddr_in){
      .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  SAY("connect a bad descriptor", connect(-1, HERE));
  SAY("connect a descriptor that is not a socket", connect(f, HERE));
  SAY("connect with a short address", connect(s, (struct sockaddr*)&here, 2));
  SAY("connect with a long address", connect(s, (struct sockaddr*)&here, 1000));
  SAY("connect to a bad address", connect(s, NOWHERE, sizeof here));
  SAY("connect to another family", connect(s, PATH));
  SAY("accept on a bad descriptor", accept(-1, NULL, NULL));
  SAY("accept on a descriptor that is not a socket", accept(f, NULL, NULL));
  SAY("accept on what does not listen", accept(s, NULL, NULL));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  SAY("accept on a connection", accept(pair[0], NULL, NULL));
  close(pair[0]);
  close(pair[1]);
  if (peer()) {
    SAY("a child: connect an inherited socket to a bad address", connect(s, NOWHERE, sizeof here));
    SAY("a child: connect it to another family", connect(s, PATH));
    leave();
  }
  peer_ends();
  int l = listen_tcp();
  SAY("connect a listener", connect(l, HERE));
  struct sockaddr none = {.sa_family = AF_UNSPEC};
  SAY("dissolving a socket that is not connected", connect(s, &none, sizeof none));
  MUST(connect(s, HERE));
  SAY("dissolving a connection", connect(s, &none, sizeof none));
  SAY("and connecting it again", connect(s, HERE));
  MUST(shutdown(l, SHUT_RDWR));
  SAY("accept on a listener that was shut down", accept(l, NULL, NULL));
  close(l);
  l = listen_tcp();
  if (peer()) {
    await_blocked();
    shutdown(l, SHUT_RDWR);
    leave();
  }
  SAY("the listener is shut down while accept waits", accept(l, NULL, NULL));
  peer_ends();
  close(l);
  close(s);
  close(f);
}

int main(void) {
  connecting();
  pending();
  unix_listener();
  datagrams();
  changed_since_made();
  errors();
}
