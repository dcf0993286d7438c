// Asynchronous input and output with threads: aio_suspend(3) and lio_listio(3) wait for operations
// that another thread completes.
#include "threads.h"

#include <aio.h>

static int pipes[2][2];
static char text[2][8];
static struct aiocb request[2];
static struct aiocb* list[4];

static void begin(void) {
  for (int i = 0; i < 2; i++) {
    MUST(pipe(pipes[i]));
    memset(&request[i], 0, sizeof request[i]);
    memset(text[i], 0, sizeof text[i]);
    request[i].aio_fildes = pipes[i][0];
    request[i].aio_buf = text[i];
    request[i].aio_nbytes = sizeof text[i];
    request[i].aio_lio_opcode = LIO_READ;
    list[i] = &request[i];
  }
  list[2] = NULL, list[3] = NULL;
}
static void end(void) {
  for (int i = 0; i < 2; i++) close(pipes[i][0]), close(pipes[i][1]);
}
static void supply(void) {
  MUST(write(pipes[0][1], "one", 3));
  MUST(write(pipes[1][1], "three", 5));
}
// A wait's result and errno.
struct outcome {
  int result, error;
};
static const struct timespec hour = {3600, 0};
static void* all_together(void* p) {
  struct outcome* o = p;
  errno = 0;
  o->result = lio_listio(LIO_WAIT, list, 4, NULL);
  o->error = errno;
  return NULL;
}
static void* either(void* p) {
  struct outcome* o = p;
  errno = 0;
  o->result = aio_suspend((const struct aiocb* const*)list, 2, NULL);
  o->error = errno;
  return NULL;
}

static void* either_in_time(void* p) {
  struct outcome* o = p;
  errno = 0;
  o->result = aio_suspend((const struct aiocb* const*)list, 2, &hour);
  o->error = errno;
  return NULL;
}

// In the given time, nothing ends.
static void* either_soon(void* p) {
  struct outcome* o = p;
  errno = 0;
  static const struct timespec soon = {0, 3000000};
  o->result = aio_suspend((const struct aiocb* const*)list, 2, &soon);
  o->error = errno;
  return NULL;
}
static void in_vain(void) {
  printf("-- a time-out of aio_suspend\n");
  struct worker w;
  struct outcome o;
  begin();
  MUST(aio_read(&request[0]));
  MUST(aio_read(&request[1]));
  start(&w, either_soon, &o);
  end_of(&w);
  say("nothing ends in time", o.result, o.error);
  supply();
  for (int i = 0; i < 2; i++) {
    while (aio_error(&request[i]) == EINPROGRESS) usleep(100);
    SAY("  read", aio_return(&request[i]));
  }
  end();
}

static void together(void) {
  printf("-- lio_listio\n");
  struct worker w;
  struct outcome o;
  begin();
  start(&w, all_together, &o);
  await_waiting(&w);
  MUST(write(pipes[0][1], "one", 3));
  await_waiting(&w);
  MUST(write(pipes[1][1], "three", 5));
  end_of(&w);
  say("two reads", o.result, o.error);
  SAY("  of one", aio_return(&request[0]));
  SAY("  and the other", aio_return(&request[1]));
  end();

  begin();
  struct aiocb bad = request[0], nothing = request[0];
  bad.aio_fildes = 9999;
  nothing.aio_lio_opcode = LIO_NOP;
  list[2] = &bad, list[3] = &nothing;
  start(&w, all_together, &o);
  await_waiting(&w);
  supply();
  end_of(&w);
  say("a request that fails", o.result, o.error);
  ERR("  with an error of its own", aio_error(&bad));
  ERR("  and not the others", aio_error(&request[0]));
  aio_return(&bad), aio_return(&request[0]), aio_return(&request[1]);
  end();

  struct aiocb* none[1] = {&nothing};
  SAY("nothing to do", lio_listio(LIO_WAIT, none, 1, NULL));
  SAY("no list", lio_listio(LIO_WAIT, none, 0, NULL));
  SAY("an odd mode", lio_listio(77, none, 1, NULL));
}

static void interrupted(const char* what, void* (*wait)(void*)) {
  printf("-- a handler during %s\n", what);
  struct worker w;
  struct outcome o;
  for (int restarts = 0; restarts < 2; restarts++) {
    on_signal(SIGUSR1, restarts ? SA_RESTART : 0);
    begin();
    if (wait != all_together) {
      MUST(aio_read(&request[0]));
      MUST(aio_read(&request[1]));
    }
    start(&w, wait, &o);
    await_waiting(&w);
    pthread_kill(w.id, SIGUSR1);
    int goes_on = restarts && wait != either_in_time;
    if (goes_on) {
      await_waiting(&w);
      supply();
    }
    end_of(&w);
    say(restarts ? "with SA_RESTART" : "without SA_RESTART", o.result, o.error);
    SAY("  ran", take_handled());
    if (!goes_on) supply();
    for (int i = 0; i < 2; i++) {
      while (aio_error(&request[i]) == EINPROGRESS) usleep(100);
      SAY("  read", aio_return(&request[i]));
    }
    end();
  }
}

int main(void) {
  together();
  in_vain();
  interrupted("lio_listio", all_together);
  interrupted("aio_suspend", either);
  interrupted("aio_suspend with a time-out", either_in_time);
  return 0;
}
