// Waiting for an io_uring, by liburing and by the system call: while one thread waits, the others
// run.
#include "threads.h"

#include <liburing.h>
#include <stddef.h>
#include <sys/syscall.h>

static struct io_uring ring;
static int ends[2];
static char byte[4][1];

static void read_into(int slot) {
  struct io_uring_sqe* e = io_uring_get_sqe(&ring);
  io_uring_prep_read(e, ends[0], byte[slot], 1, 0);
  io_uring_sqe_set_data64(e, (unsigned)slot);
}
static void nothing(unsigned number) {
  struct io_uring_sqe* e = io_uring_get_sqe(&ring);
  io_uring_prep_nop(e);
  io_uring_sqe_set_data64(e, number);
}
static void take_all(void) {
  struct io_uring_cqe* c;
  long results = 0;
  while (io_uring_peek_cqe(&ring, &c) == 0) {
    results += c->res;
    io_uring_cqe_seen(&ring, c);
  }
  SAY("  completed", results);
}

// The thread that waits; the others write the data that it waits for once it waits.
static int (*wait_for)(void);
static void* waits(void* unused) {
  int r = wait_for();
  printf("  it returned %s\n", r < 0 ? strerrorname_np(-r) : r == 0 ? "0" : r == 1 ? "1" : "2");
  fflush(stdout);
  return unused;
}
static void while_others_run(const char* what, int (*f)(void), int writes) {
  printf("%s\n", what);
  fflush(stdout);
  struct worker w;
  wait_for = f;
  start(&w, waits, NULL);
  for (int i = 0; i < writes; i++) {
    await_waiting(&w);
    MUST(write(ends[1], "x", 1));
  }
  end_of(&w);
  if (ring.ring_fd >= 0) take_all();
}

static struct io_uring_cqe* got;
static struct __kernel_timespec soon = {0, 30000000}, late = {3600, 0};

static int wait_cqe(void) {
  read_into(0);
  io_uring_submit(&ring);
  return io_uring_wait_cqe(&ring, &got);
}
static int wait_two(void) {
  read_into(0);
  read_into(1);
  io_uring_submit(&ring);
  return io_uring_wait_cqe_nr(&ring, &got, 2);
}
static int submit_and_wait(void) {
  read_into(0);
  return io_uring_submit_and_wait(&ring, 1);
}
static int submit_and_wait_for_two(void) {
  read_into(0);
  read_into(1);
  return io_uring_submit_and_wait(&ring, 2);
}
static int wait_late(void) {
  read_into(0);
  io_uring_submit(&ring);
  return io_uring_wait_cqe_timeout(&ring, &got, &late);
}
static int submit_and_wait_late(void) {
  read_into(0);
  return io_uring_submit_and_wait_timeout(&ring, &got, 1, &late, NULL);
}
static int wait_soon(void) { return io_uring_wait_cqe_timeout(&ring, &got, &soon); }
static int submit_and_wait_soon(void) {
  nothing(7);
  return io_uring_submit_and_wait_timeout(&ring, &got, 2, &soon, NULL) < 0 ? -ETIME : 0;
}
static int wait_for_both_soon(void) { return io_uring_wait_cqes(&ring, &got, 2, &soon, NULL); }
static int enter(void) {
  read_into(0);
  io_uring_submit(&ring);
  long r =
      syscall(SYS_io_uring_enter, ring.ring_fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, KERNEL_SET);
  return r < 0 ? -errno : (int)r;
}
static int enter_soon(void) {
  struct io_uring_getevents_arg a = {.ts = (uintptr_t)&soon};
  long r = syscall(SYS_io_uring_enter, ring.ring_fd, 0, 1,
                   IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &a, sizeof a);
  return r < 0 ? -errno : (int)r;
}

static int read_one(void) { return (int)read(ends[0], byte, 1); }

int main(void) {
  if (io_uring_queue_init(8, &ring, 0) < 0) {
    printf("no io_uring here\n");
    return 77;
  }
  MUST(pipe(ends));
  while_others_run("io_uring_wait_cqe", wait_cqe, 1);
  while_others_run("io_uring_wait_cqe_nr", wait_two, 2);
  while_others_run("io_uring_submit_and_wait", submit_and_wait, 1);
  while_others_run("io_uring_submit_and_wait for two", submit_and_wait_for_two, 2);
  while_others_run("io_uring_wait_cqe_timeout", wait_late, 1);
  while_others_run("io_uring_submit_and_wait_timeout", submit_and_wait_late, 1);
  while_others_run("io_uring_wait_cqe_timeout, until its time-out", wait_soon, 0);
  while_others_run("io_uring_submit_and_wait_timeout, with less than wanted", submit_and_wait_soon,
                   0);
  while_others_run("io_uring_wait_cqes, until its time-out", wait_for_both_soon, 0);
  while_others_run("io_uring_enter", enter, 1);
  while_others_run("io_uring_enter with a time-out, until that", enter_soon, 0);

  nothing(1);
  nothing(2);
  SAY("io_uring_submit_and_wait for operations that complete at once",
      io_uring_submit_and_wait(&ring, 2));
  SAY("io_uring_wait_cqe of an available completion", io_uring_wait_cqe(&ring, &got));
  SAY("  its number", (long)got->user_data);
  SAY("io_uring_wait_cqe_nr of available completions", io_uring_wait_cqe_nr(&ring, &got, 2));
  take_all();
  SAY("io_uring_submit_and_wait for none", io_uring_submit_and_wait(&ring, 0));
  SAY("io_uring_enter on a pipe",
      syscall(SYS_io_uring_enter, ends[0], 0, 1, IORING_ENTER_GETEVENTS, NULL, KERNEL_SET));
  SAY("io_uring_enter with a bad argument",
      syscall(SYS_io_uring_enter, ring.ring_fd, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
              NOWHERE, sizeof(struct io_uring_getevents_arg)));
  on_signal(SIGUSR1, SA_RESTART);
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  SAY("a handler ends it", io_uring_wait_cqe(&ring, &got));
  SAY("  which ran", take_handled());
  peer_ends();

  // Another file takes the ring's number.
  int number = ring.ring_fd;
  io_uring_queue_exit(&ring);
  ring.ring_fd = -1;
  int other = (int)MUST(fcntl(ends[0], F_DUPFD, number));
  SAY("its number is free", other == number);
  ends[0] = other;
  while_others_run("read from what has its number now", read_one, 1);
  return 0;
}
