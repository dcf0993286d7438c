// Sandboxes (seccomp filters) that do not allow the calls by which Tendril waits: they refuse them
// by any errno, by SIGSYS, or by ending the process. The program's own calls go on, next to threads
// that wait. The program sees none of the refusals: neither an errno, nor a SIGSYS for a call that
// it did not make.
#include "tcp_pair.h"
#include "threads.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>

enum { ends = 0, traps = -1 };  // instead of an errno

static volatile int trapped;  // the number of SIGSYS that the program got
static void on_trap(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)info;
  trapped++;
#ifdef __x86_64__
  ((ucontext_t*)context)->uc_mcontext.gregs[REG_RAX] = -ENOSYS;
#else
  ((ucontext_t*)context)->uc_mcontext.regs[0] = -ENOSYS;
#endif
}

static const int reads[] = {SYS_preadv2, SYS_pwritev2, 0};
static const int sends[] = {
    SYS_preadv2, SYS_pwritev2, SYS_recvfrom, SYS_recvmsg, SYS_sendto, SYS_sendmsg, 0};
static const int waits[] = {SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait,
                            SYS_epoll_pwait2,  SYS_eventfd2,  0};
static const int looks[] = {SYS_fcntl,  SYS_fstat,         SYS_getsockopt, SYS_prlimit64,
                            SYS_tgkill, SYS_rt_sigpending, SYS_nanosleep,  SYS_sigaltstack,
                            SYS_kcmp,   SYS_pidfd_open,    SYS_signalfd4,  SYS_timerfd_create,
                            0};
static const int others[] = {SYS_membarrier,   SYS_process_vm_readv, SYS_process_vm_writev,
                             SYS_epoll_pwait2, SYS_accept4,          0};

static void refuse(const int* calls, int how) {
  struct sock_filter f[32];
  unsigned short n = 0;
  unsigned action = how == ends    ? SECCOMP_RET_KILL_PROCESS
                    : how == traps ? SECCOMP_RET_TRAP
                                   : SECCOMP_RET_ERRNO | (unsigned)how;
  f[n++] =
      (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (; *calls; calls++) {
    f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)*calls, 0, 1);
    f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
  }
  f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = {n, f};
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_sigaction = on_trap;
  a.sa_flags = SA_SIGINFO | SA_NODEFER;
  if (how == traps) MUST(sigaction(SIGSYS, &a, NULL));
  MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program));
}

// Echoes data until the end.
struct ends_of {
  int in, out;
};
static void* echoes(void* p) {
  struct ends_of* e = p;
  char data[5000];
  ssize_t n;
  while ((n = read(e->in, data, sizeof data)) > 0) {
    if (write(e->out, data, (size_t)n) != n) return (void*)1;
  }
  return (void*)n;
}

static const size_t much = 300000;
static void* writes_much(void* p) {
  unsigned char* data = malloc(much);
  fill(data, much, 0);
  ssize_t n = write(*(int*)p, data, much);
  free(data);
  close(*(int*)p);
  return n == (ssize_t)much ? NULL : p;
}
static void* naps(void* p) {
  for (int i = 0; i < 20; i++) usleep(1000);
  return p;
}

static void* puts_line(void* f) { return fputs("line\n", f) < 0 ? f : NULL; }

static void work(const int* calls, int how, int before) {
  int local[2], tcp[2], there[2], back[2];
  struct ends_of e[3];
  struct worker w[4];
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, local));
  tcp_pair(tcp);
  MUST(pipe(there));
  MUST(pipe(back));
  FILE *file = tmpfile(), *locked = tmpfile();
  e[0] = (struct ends_of){local[1], local[1]};
  e[1] = (struct ends_of){tcp[1], tcp[1]};
  e[2] = (struct ends_of){there[0], back[1]};
  if (before) refuse(calls, how);
  for (int i = 0; i < 3; i++) start(&w[i], echoes, &e[i]);
  start(&w[3], naps, NULL);
  if (!before) {
    for (int i = 0; i < 3; i++) await_waiting(&w[i]);
    refuse(calls, how);
  }
  const int to[] = {local[0], tcp[0], there[1]}, from[] = {local[0], tcp[0], back[0]};
  long good = 0;
  char data[100];
  for (int round = 0; round < 50; round++) {
    for (int i = 0; i < 3; i++)
      good += write(to[i], "hello", 5) == 5 && read(from[i], data, 100) == 5;
  }
  SAY("came back", good);
  struct iovec v[2] = {{"he", 2}, {"llo", 3}}, r[2] = {{data, 1}, {data + 10, 10}};
  for (int i = 0; i < 3; i++) {
    SAY("written in parts", writev(to[i], v, 2));
    SAY("read in parts", readv(from[i], r, 2));
  }
  MUST(write(to[2], "x", 1));
  struct pollfd p = {from[2], POLLIN, 0};
  SAY("polled", poll(&p, 1, -1));
  struct worker puts;
  flockfile(locked);
  start(&puts, puts_line, locked);
  for (int i = 0; i < 100; i++) sched_yield();
  funlockfile(locked);
  SAY("a thread waited for a stream's lock", end_of(&puts) == NULL);
  fclose(locked);
  SAY("a bad address", read(from[2], NOWHERE, 1));
  SAY("a bad address to write", write(to[2], NOWHERE, 5));
  SAY("a bad array", writev(to[2], NOWHERE, 2));
  SAY("the wrong end", read(to[2], data, 1));
  SAY("the wrong end to write to", write(from[2], "a", 1));
  SAY("a pipe has no places", pread(from[2], data, 1, 3));
  SAY("a socket has none", pwrite(to[0], "a", 1, 3));
  int full[2];
  MUST(pipe(full));
  set_nonblocking(full[1], 1);
  while (write(full[1], data, sizeof data) > 0) {}
  set_nonblocking(full[1], 0);
  SAY("a full pipe has none either", pwrite(full[1], "a", 1, 3));
  close(full[0]);
  close(full[1]);
  set_nonblocking(from[2], 1);
  SAY("read there", read(from[2], data, 100));
  SAY("nothing is there", read(from[2], data, 1));
  struct timeval soon = {0, 30000};
  MUST(setsockopt(from[0], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon));
  SAY("nothing comes", read(from[0], data, 1));
  int f = fileno(file);
  SAY("to a file", write(f, "hello", 5));
  SAY("from it", pread(f, data, 100, 2));
  SAY("from its end", read(f, data, 100));
  int socks[2], pipes[2];
  struct worker writer;
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
  start(&writer, writes_much, &socks[1]);
  SAY("much by a socket", drain(socks[0], much, 3000));
  SAY("  all was written", end_of(&writer) == NULL);
  MUST(pipe(pipes));
  start(&writer, writes_much, &pipes[1]);
  SAY("much by a pipe", drain(pipes[0], much, 3000));
  SAY("  all was written", end_of(&writer) == NULL);
  shutdown(local[0], SHUT_WR);
  shutdown(tcp[0], SHUT_WR);
  close(there[1]);
  for (int i = 0; i < 4; i++) SAY("ended", end_of(&w[i]) == NULL);
  signal(SIGPIPE, SIG_IGN);
  SAY("no thread reads", write(back[1], "a", 1));
  close(back[0]);
  SAY("the reading end is closed", write(back[1], "a", 1));
  SAY("the handler ran", trapped);
}

static void in_child(const char* name, const int* calls, int how, int before) {
  printf("%s, %s, %s\n", name,
         how == ends    ? "ends"
         : how == traps ? "traps"
                        : strerrorname_np(how),
         before ? "before" : "beside threads that wait");
  fflush(stdout);
  pid_t child = MUST(fork());
  if (child == 0) {
    work(calls, how, before);
    exit(0);
  }
  int status;
  MUST(waitpid(child, &status, 0));
  printf("ended with %d\n", status);
}

int main(void) {
  const struct {
    const char* name;
    const int* calls;
  } sets[] = {{"reads and writes", reads},
              {"those and messages", sends},
              {"waits", waits},
              {"what tells of descriptors and signals", looks},
              {"others", others}};
  const int ways[] = {EPERM, ENOSYS, EACCES, EINVAL, traps, ends};
  for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
      for (int before = 0; before < (ways[w] > EPERM ? 1 : 2); before++)
        in_child(sets[s].name, sets[s].calls, ways[w], before);
    }
  }
  return 0;
}
