// A seccomp filter that refuses (EPERM) the system calls which a plain program does not make, but Tendril might: reading,
// writing and sleeping go on, with and without other threads.
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define REFUSED(n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, n, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

static void filter(void) {
  struct sock_filter f[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      REFUSED(SYS_epoll_create1), REFUSED(SYS_epoll_ctl), REFUSED(SYS_epoll_pwait), REFUSED(SYS_epoll_pwait2),
      REFUSED(SYS_eventfd2), REFUSED(SYS_preadv2), REFUSED(SYS_pwritev2), REFUSED(SYS_madvise),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog program = {sizeof f / sizeof *f, f};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(77);
}

static void* ends(void* p) { return p; }
static void* stays(void* p) {
  sleep(1000);
  return p;
}

static void use(const char* name, void* (*thread)(void*)) {
  printf("%s: ", name);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    pthread_t t;
    if (thread) pthread_create(&t, NULL, thread, NULL);
    if (thread == ends) pthread_join(t, NULL);
    int p[2];
    char data[10], line[50];
    if (pipe(p) != 0) _exit(1);
    filter();
    ssize_t written = write(p[1], "hello", 5), got = read(p[0], data, sizeof data);
    int length = snprintf(line, sizeof line, "written %zd, read %zd, slept %d\n", written, got, usleep(1000));
    if (write(1, line, (size_t)length) < 0) _exit(2);
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  printf("ended with %d\n", status);
}

int main(void) {
  use("no thread", NULL);
  use("a thread that has ended", ends);
  use("a thread that stays", stays);
  return 0;
}
