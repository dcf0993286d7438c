// Receiving, in a thread that waits, from a connection that was just emptied: whatever comes next,
// and with whatever other events, ends the wait and is received in full.
#include "tcp_pair.h"
#include "threads.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { room = 10, most = 4 };
static long by_recv(int fd, char* to) { return recv(fd, to, room, 0); }
static long by_read(int fd, char* to) { return read(fd, to, room); }
static long by_readv(int fd, char* to) {
  struct iovec v[2] = {{to, 4}, {to + 4, room - 4}};
  return readv(fd, v, 2);
}
static long by_recvmsg(int fd, char* to) {
  struct iovec v[2] = {{to, 4}, {to + 4, room - 4}};
  struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
  return recvmsg(fd, &m, 0);
}
static long by_peeking(int fd, char* to) {
  long n = recv(fd, to, room, MSG_PEEK);
  return n > 0 ? recv(fd, to, room, 0) == n ? n : -2 : n;
}
static long by_poll(int fd, char* to) {
  struct pollfd p = {.fd = fd, .events = POLLIN};
  return poll(&p, 1, -1) == 1 ? recv(fd, to, room, 0) : -2;
}
static long by_select(int fd, char* to) {
  fd_set in;
  FD_ZERO(&in);
  FD_SET(fd, &in);
  return select(fd + 1, &in, NULL, NULL, NULL) == 1 ? recv(fd, to, room, 0) : -2;
}
static const struct {
  const char* name;
  long (*receive)(int fd, char* to);
} ways[] = {{"recv", by_recv},
            {"read", by_read},
            {"readv", by_readv},
            {"recvmsg", by_recvmsg},
            {"a peek and recv", by_peeking},
            {"poll", by_poll},
            {"select", by_select}};

static struct {
  int fd, calls, emptied;
  long (*receive)(int fd, char* to);
  long got[most];
  int error[most];
  char bytes[most][room + 1];
} reader;

// Reads one byte, which is all there is, then as often as the case requires.
static void* reads(void* unused) {
  char first[room];
  if (reader.receive(reader.fd, first) != 1) exit(95);
  __atomic_store_n(&reader.emptied, 1, __ATOMIC_RELEASE);
  for (int i = 0; i < reader.calls; i++) {
    errno = 0;
    reader.got[i] = reader.receive(reader.fd, reader.bytes[i]);
    reader.error[i] = errno;
  }
  return unused;
}

// `act` gets both ends; the thread waits for the second.
static void received(const char* what, int way, int calls, void (*act)(int s[2])) {
  int s[2];
  tcp_pair(s);
  memset(&reader, 0, sizeof reader);
  reader.fd = s[1], reader.calls = calls, reader.receive = ways[way].receive;
  struct worker w;
  start(&w, reads, NULL);
  await_waiting(&w);
  MUST(send(s[0], "x", 1, 0));
  while (!__atomic_load_n(&reader.emptied, __ATOMIC_ACQUIRE)) sched_yield();
  await_waiting(&w);
  act(s);
  end_of(&w);
  printf("%s, by %s\n", what, ways[way].name);
  for (int i = 0; i < calls; i++) {
    say("  got", reader.got[i], reader.error[i]);
    if (reader.got[i] > 0) printf("  %s\n", reader.bytes[i]);
  }
  if (s[0] >= 0) close(s[0]);
  close(s[1]);
}

static void sends(int s[2]) { MUST(send(s[0], "abc", 3, 0)); }
static void sends_much(int s[2]) { MUST(send(s[0], "0123456789abcdefghijklmno", 25, 0)); }
static void sends_and_ends(int s[2]) {
  sends(s);
  MUST(shutdown(s[0], SHUT_WR));
}
static void ends(int s[2]) { MUST(shutdown(s[0], SHUT_WR)); }
static void stops_receiving(int s[2]) { MUST(shutdown(s[1], SHUT_RD)); }
static void sends_and_resets(int s[2]) {
  struct linger reset = {1, 0};
  sends(s);
  MUST(setsockopt(s[0], SOL_SOCKET, SO_LINGER, &reset, sizeof reset));
  MUST(close(s[0]));
  s[0] = -1;
}
static void sends_urgently(int s[2]) {
  MUST(send(s[0], "ab!", 3, MSG_OOB));
  MUST(send(s[0], "cd", 2, 0));
}
static void sends_and_no_more_waiting(int s[2]) {
  set_nonblocking(s[1], 1);
  sends(s);
}
static void sends_and_less_waiting(int s[2]) {
  struct timeval t = {0, 30000};
  MUST(setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
  sends(s);
}

// A question and an answer, repeatedly; each side finds the connection emptied.
static void* answers(void* p) {
  int fd = (int)(intptr_t)p;
  char byte[2];
  while (recv(fd, byte, sizeof byte, 0) == 1 && send(fd, byte, 1, 0) == 1) {}
  return NULL;
}
static void converse(void) {
  int s[2];
  tcp_pair(s);
  struct worker w;
  start(&w, answers, (void*)(intptr_t)s[1]);
  long right = 0;
  for (int i = 0; i < 700; i++) {
    char asked = (char)i, got[room] = {0};
    MUST(send(s[0], &asked, 1, 0));
    right += ways[i % 7].receive(s[0], got) == 1 && got[0] == asked;
  }
  SAY("answers that were right", right);
  MUST(shutdown(s[0], SHUT_WR));
  end_of(&w);
  close(s[0]);
  close(s[1]);
}

static void* sends_twice(void* p) {
  for (int i = 0; i < 2; i++) MUST(send((int)(intptr_t)p, "abc", 3, 0)), sched_yield();
  return NULL;
}

// Reading zero bytes does not wait.
static void read_nothing(void) {
  int s[2];
  tcp_pair(s);
  char to[room];
  for (int i = 0; i < 3; i++) {
    struct worker w;
    start(&w, sends_twice, (void*)(intptr_t)s[0]);
    long got = 0;
    while (got < 6) got += MUST(recv(s[1], to, room, 0));
    end_of(&w);
    SAY("no bytes of an emptied connection", read(s[1], to, 0));
  }
  close(s[0]), close(s[1]);
}

// Urgent data that was read leaves a mark at which receiving stops.
static void* sends_to(void* p) {
  int s[2] = {(int)(intptr_t)p, -1};
  sends_urgently(s);
  return NULL;
}
static void take_urgent(void) {
  int s[2];
  tcp_pair(s);
  char to[room];
  struct worker w;
  MUST(send(s[0], "x", 1, 0));
  SAY("one byte", recv(s[1], to, room, 0));
  start(&w, sends_to, (void*)(intptr_t)s[0]);
  struct pollfd p = {.fd = s[1], .events = POLLPRI};
  SAY("urgent data", poll(&p, 1, -1));
  SAY("is taken out", recv(s[1], to, room, MSG_OOB));
  SAY("what was before it", recv(s[1], to, room, 0));
  SAY("what was behind it", recv(s[1], to, room, 0));
  end_of(&w);
  close(s[0]);
  close(s[1]);
}

// Two descriptors of one connection, read alternately.
static void duplicate(void) {
  int s[2];
  tcp_pair(s);
  char to[room];
  MUST(send(s[0], "x", 1, 0));
  SAY("one byte", recv(s[1], to, room, 0));
  int other = (int)MUST(dup(s[1]));
  struct worker w;
  start(&w, sends_twice, (void*)(intptr_t)s[0]);
  long got = 0;
  for (int i = 0; got < 6; i++) {
    long n = recv(i % 2 ? other : s[1], to, 3, 0);
    if (n <= 0) break;
    got += n;
  }
  SAY("by two descriptors", got);
  end_of(&w);
  set_nonblocking(other, 1);
  SAY("which is non-blocking for both", recv(s[1], to, room, 0));
  close(s[0]), close(s[1]), close(other);
}

// A connection that outlives the descriptor by which it was waited for, next to another connection
// that has that number now.
static void* receives(void* p) {
  reader.got[0] = recv((int)(intptr_t)p, reader.bytes[0], room, 0);
  return NULL;
}
static void heard(const char* what, int to, int fd, const char* text, int beside) {
  memset(&reader, 0, sizeof reader);
  struct worker w;
  start(&w, receives, (void*)(intptr_t)fd);
  await_waiting(&w);
  if (beside >= 0) MUST(send(beside, "beside", 6, 0));
  await_waiting(&w);
  MUST(send(to, text, strlen(text), 0));
  end_of(&w);
  printf("%s: %ld, %s\n", what, reader.got[0], reader.bytes[0]);
}
static void outlive(void) {
  struct sockaddr_in a;
  int l = tcp_listener(&a);
  int number = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
  MUST(connect(number, (struct sockaddr*)&a, sizeof a));
  int peer = (int)MUST(accept(l, NULL, NULL));
  heard("a connection", peer, number, "abc", -1);
  int other = (int)MUST(dup(number));
  close(number);
  SAY("another has its number", socket(AF_INET, SOCK_STREAM, 0) == number);
  MUST(connect(number, (struct sockaddr*)&a, sizeof a));
  int second = (int)MUST(accept(l, NULL, NULL));
  heard("it hears its own peer", second, number, "def", peer);
  char to[room];
  SAY("and the first its own", recv(other, to, room, 0));
  heard("by its new number", peer, other, "ghi", second);
  MUST(dup2(other, number));
  heard("and by its old one again", peer, number, "jkl", -1);
  close(l), close(number), close(other), close(peer), close(second);
}

// Several connections at once, one of which has data.
static void poll_several(void) {
  int a[2], b[2];
  tcp_pair(a), tcp_pair(b);
  struct worker w;
  for (int round = 0; round < 3; round++) {
    struct pollfd p[] = {{a[1], POLLIN, -1}, {-1, POLLIN, -1}, {b[1], POLLIN | POLLRDNORM, -1}};
    start(&w, sends_twice, (void*)(intptr_t)b[0]);
    SAY("of three, so many are ready", poll(p, 3, -1));
    printf("the first: %x, none: %x, the last: %x\n", p[0].revents, p[1].revents, p[2].revents);
    end_of(&w);
    char to[room];
    SAY("it has", recv(b[1], to, room, 0));
    start(&w, sends_twice, (void*)(intptr_t)a[0]);
    SAY("of three, so many are ready then", poll(p, 3, -1));
    printf("the first: %x, none: %x, the last: %x\n", p[0].revents, p[1].revents, p[2].revents);
    end_of(&w);
    SAY("it has", recv(a[1], to, room, 0));
  }
  struct pollfd p[] = {{a[1], POLLIN, -1}, {b[1], POLLIN | POLLOUT, -1}};
  SAY("with room to send", poll(p, 2, -1));
  printf("the first: %x, the last: %x\n", p[0].revents, p[1].revents);
  close(a[0]), close(a[1]), close(b[0]), close(b[1]);
}
static void* polls_several(void* unused) {
  poll_several();
  return unused;
}

// The settings by which calls on a connection wait are its own, except the time-outs, which it
// inherits from its listener when the peer connects.
static int accepted_from(int l, struct sockaddr_in* to, int flags) {
  int c = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
  MUST(connect(c, (struct sockaddr*)to, sizeof *to));
  SAY("a connection", send(c, "x", 1, 0));
  int s = (int)MUST(accept4(l, NULL, NULL, flags));
  char byte;
  SAY("has", recv(s, &byte, 1, 0));
  return s;
}
static void* waits_for_byte(void* p) {
  char byte;
  return recv((int)(intptr_t)p, &byte, 1, 0) == 1 ? p : NULL;
}
static void inherit(void) {
  int pair[2];
  tcp_pair(pair);
  struct worker w;
  start(&w, waits_for_byte, (void*)(intptr_t)pair[1]);
  struct sockaddr_in a;
  int l = tcp_listener(&a);
  char byte;
  int s = accepted_from(l, &a, SOCK_NONBLOCK);
  SAY("made non-blocking", recv(s, &byte, 1, 0));
  struct timeval soon = {0, 1000}, never = {0, 0};
  MUST(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon));
  int c = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
  MUST(connect(c, (struct sockaddr*)&a, sizeof a));
  MUST(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof never));
  int t = (int)MUST(accept(l, NULL, NULL));
  SAY("with its listener's time-out", recv(t, &byte, 1, 0));
  MUST(setsockopt(t, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof never));
  MUST(send(c, "y", 1, 0));
  SAY("and without", recv(t, &byte, 1, 0));
  set_nonblocking(l, 1);
  SAY("no peer connects", accept(l, NULL, NULL));
  int u = accepted_from(l, &a, 0);
  SAY("blocking beside a listener that is not", fcntl(u, F_GETFL) & O_NONBLOCK);
  MUST(send(pair[0], "z", 1, 0));
  end_of(&w);
  close(pair[0]), close(pair[1]), close(l), close(s), close(c), close(t), close(u);
}

// A number that was a file's, whose calls do not wait, is a pipe's now.
static char much[200000];
static void* writes_much(void* fd) { return (void*)(intptr_t)write(*(int*)fd, much, sizeof much); }
static void was_a_file(void) {
  int p[2], n = 0;
  struct worker w;
  int number = MUST(open("number", O_RDWR | O_CREAT | O_TRUNC, 0600));
  SAY("written to a file", write(number, much, 10));
  SAY("close", close(number));
  MUST(pipe(p));
  if (p[0] == number) p[0] = (int)MUST(dup(p[0]));
  if (p[1] != number) {
    MUST(dup2(p[1], number));
    close(p[1]);
  }
  start(&w, writes_much, &number);
  await_waiting(&w);
  while (n < (int)sizeof much) n += (int)MUST(read(p[0], much, sizeof much));
  SAY("written to a pipe of the same number", (intptr_t)end_of(&w));
  close(p[0]);
  close(number);
}

int main(void) {
  poll_several();
  struct worker w;
  start(&w, polls_several, NULL);
  end_of(&w);
  inherit();
  for (int way = 0; way < 7; way++) {
    received("some bytes", way, 1, sends);
    received("more than there is room for", way, 3, sends_much);
    received("the end", way, 2, ends);
    received("some bytes and the end", way, 2, sends_and_ends);
    received("some bytes and an error", way, 3, sends_and_resets);
    received("an end of receiving", way, 2, stops_receiving);
  }
  for (int way = 0; way < 4; way++) {
    received("some bytes and no more waiting", way, 2, sends_and_no_more_waiting);
    received("some bytes and less waiting", way, 2, sends_and_less_waiting);
    received("bytes around urgent data", way, 2, sends_urgently);
  }
  converse();
  read_nothing();
  duplicate();
  outlive();
  was_a_file();
  take_urgent();
  converse();
  return 0;
}
