// Closing a socket with SO_LINGER, by whichever call, waits for unsent data while other threads go
// on.
#include "tcp_pair.h"
#include "threads.h"

#include <linux/close_range.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

static _Atomic long ran;
static _Atomic int over;
static void* counts(void* p) {
  for (; !over; usleep(1000)) ran++;
  return p;
}

// A connection with more to send than its peer takes.
static int stuffed(int seconds, int* peer) {
  struct sockaddr_in at;
  int small = 4096, some = 20000, l = tcp_listener(&at), s[2];
  struct linger lingers = {1, seconds};
  static char data[100000];
  setsockopt(l, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  s[0] = MUST(socket(AF_INET, SOCK_STREAM, 0));
  setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &some, sizeof some);
  MUST(connect(s[0], (struct sockaddr*)&at, sizeof at));
  s[1] = MUST(accept(l, NULL, NULL));
  close(l);
  while (send(s[0], data, sizeof data, MSG_DONTWAIT) > 0) {}
  MUST(setsockopt(s[0], SOL_SOCKET, SO_LINGER, &lingers, sizeof lingers));
  *peer = s[1];
  return s[0];
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

enum { by_close, by_dup2, by_dup3, by_close_range, by_fclose, by_freopen, ways };
static const char* const names[] = {"close", "dup2", "dup3", "close_range", "fclose", "freopen"};

static void closes(int way) {
  int peer, s = stuffed(1, &peer);
  FILE* f = way == by_fclose || way == by_freopen ? fdopen(s, "w") : NULL;
  long before = ran;
  double begin = now();
  printf("%s\n", names[way]);
  switch (way) {
    case by_close:
      SAY("  says", close(s));
      break;
    case by_dup2:
      SAY("  says", dup2(1, s) == s);
      break;
    case by_dup3:
      SAY("  says", dup3(1, s, O_CLOEXEC) == s);
      break;
    case by_close_range:
      SAY("  says", close_range((unsigned)s, (unsigned)s, 0));
      break;
    case by_fclose:
      SAY("  says", fclose(f));
      break;
    case by_freopen:
      SAY("  says", freopen("/dev/null", "r", f) == f);
      break;
  }
  SAY("  after a second", now() - begin > 0.9);
  SAY("  in which others ran", ran - before > 10);
  if (way == by_freopen) fclose(f);
  else close(s);
  close(peer);
}

static void* reads_all(void* p) {
  int peer = *(int*)p;
  char data[10000];
  int room = 1 << 20;
  setsockopt(peer, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  while (read(peer, data, sizeof data) > 0) {}
  close(peer);
  return p;
}

static pthread_t closer;
static void* signals(void* p) {
  // (a fiber may run on the main thread's kernel thread, which is awake then)
  await_all_waiting();
  pthread_kill(closer, SIGUSR1);
  return p;
}

int main(void) {
  struct worker counter, other;
  start(&counter, counts, NULL);
  for (int way = 0; way < ways; way++) closes(way);
  int peer, s = stuffed(50, &peer);
  start(&other, reads_all, &peer);
  SAY("a peer that reads ends the wait", close(s));
  end_of(&other);
  s = stuffed(50, &peer);
  on_signal(SIGUSR1, SA_RESTART);
  over = 1;
  end_of(&counter);
  closer = pthread_self();
  start(&other, signals, NULL);
  SAY("a handler ends it, but the call has closed", close(s));
  SAY("  which ran", take_handled());
  end_of(&other);
  SAY("closed", close(s));
  close(peer);
  s = stuffed(50, &peer);
  int copy = dup(s);
  SAY("another number keeps it open: no wait", close(s));
  struct linger none = {0, 0};
  setsockopt(copy, SOL_SOCKET, SO_LINGER, &none, sizeof none);
  SAY("without SO_LINGER", close(copy));
  close(peer);
  s = stuffed(0, &peer);
  SAY("no time to linger: a reset", close(s));
  return 0;
}
