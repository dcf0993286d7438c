// A child made by clone(2) without CLONE_VM, which jumps out of the function that it began in, or
// is made by the system call's number. It is a separate process, as a child of fork is, and what it
// does with the parent's threads, locks and descriptors does not affect the parent. (Browsers start
// their sandboxes in this way.)
#include "tcp_pair.h"
#include "threads.h"

#include <sched.h>
#include <setjmp.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

static jmp_buf goes_on;
static int jumps(void* unused) {
  (void)unused;
  longjmp(goes_on, 1);
}
__attribute__((noinline)) static pid_t clone_and_jump(int flags, char* stack_end) {
  if (setjmp(goes_on) == 0) return clone(jumps, stack_end, flags | SIGCHLD, NULL);
  return 0;
}

enum { by_jump, by_jump_sharing_descriptors, by_number, by_clone3, by_function, ways };
static const char* const names[] = {"by a jump", "by a jump, with the parent's descriptors",
                                    "by number", "by clone3", "in a function"};

static pthread_mutex_t recursive;
static int there[2], back[2];

static void* reads(void* p) {
  char c;
  ssize_t n = read(*(int*)p, &c, 1);
  return n == 1 ? p : NULL;
}

// As whom a recursive mutex knows the caller.
static int owner_now(void) {
  pthread_mutex_lock(&recursive);
  int owner = recursive.__data.__owner;
  pthread_mutex_unlock(&recursive);
  return owner;
}

static int child(void) {
  char c;
  int own[2];
  struct worker w;
  SAY("  it is its first thread", gettid() == getpid());
  SAY("  by number", syscall(SYS_gettid) == getpid());
  SAY("  a mutex that it held before", pthread_mutex_unlock(&recursive));
  SAY("  locked twice", pthread_mutex_lock(&recursive) || pthread_mutex_lock(&recursive));
  SAY("  unlocked twice", pthread_mutex_unlock(&recursive) || pthread_mutex_unlock(&recursive));
  // What the C library still takes for its number is the parent's; programs correct it where it is.
  int* number = (int*)pthread_self();
  int* end = number + 512;
  while (number < end && *number != owner_now()) number++;
  if (number < end) *number = (int)getpid();
  SAY("  a mutex knows it by its own number", owner_now() == getpid());
  SAY("  a word from the parent", read(there[0], &c, 1));
  MUST(pipe(own));
  start(&w, reads, &own[0]);
  await_waiting(&w);  // looks for its kernel thread, and leaves ENOENT in errno if there is none
  SAY("  its own threads", write(own[1], "a", 1));
  SAY("  read", end_of(&w) == &own[0]);
  SAY("  slept", usleep(1000));
  pid_t grandchild = fork();
  if (grandchild == 0) _exit(gettid() == getpid() ? 5 : 6);
  int status = 0;
  SAY("  waited", waitpid(grandchild, &status, 0) == grandchild);
  SAY("  for a child of its own", WEXITSTATUS(status));
  SAY("  raised", raise(0));
  write(back[1], "b", 1);
  _exit(3);
}
static int child_function(void* unused) { return (void)unused, child(); }

static void* makes_child(void* p) {
  int way = *(int*)p;
  enum { size = 256 * 1024 };
  char* stack = malloc(size);
  char c;
  int status = 0;
  struct worker w;
  int tcp[2];
  tcp_pair(tcp);
  start(&w, reads, &tcp[1]);
  await_waiting(&w);
  printf("%s\n", names[way]);
  fflush(stdout);
  pthread_mutex_lock(&recursive);
  pid_t pid = 0;
  struct {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
  } arguments = {.exit_signal = SIGCHLD};
  switch (way) {
    case by_jump:
      pid = clone_and_jump(0, stack + size);
      break;
    case by_jump_sharing_descriptors:
      pid = clone_and_jump(CLONE_FILES, stack + size);
      break;
    case by_number:
      pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
      break;
    case by_clone3:
      pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
      break;
    case by_function:
      pid = clone(child_function, stack + size, SIGCHLD, NULL);
      break;
  }
  if (pid == 0) child();
  pthread_mutex_unlock(&recursive);
  await_blocked_pid(pid);
  write(there[1], "a", 1);
  SAY("  the parent reads", read(back[0], &c, 1));
  MUST(waitpid(pid, &status, 0));
  SAY("  the child ended", WIFEXITED(status) ? WEXITSTATUS(status) : -status);
  SAY("  sent to a thread that has waited all the time", write(tcp[0], "x", 1));
  SAY("  it has got it", end_of(&w) == &tcp[1]);
  free(stack);
  return p;
}

int main(void) {
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
  pthread_mutex_init(&recursive, &a);
  MUST(pipe(there));
  MUST(pipe(back));
  for (int way = 0; way < ways; way++) {
    makes_child(&way);
    struct worker w;
    printf("in a thread, ");
    start(&w, makes_child, &way);
    end_of(&w);
  }
  return 0;
}
