// A thread drops the privileges that it would need to restore its identity, while another thread
// runs. The program does not know Tendril.
#define _GNU_SOURCE
#include <linux/capability.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static void* gives_up_user(void* unused) {
  syscall(SYS_setresuid, 1001, 1001, 1001);
  sleep(1);
  return unused;
}
static void* gives_up_capabilities(void* unused) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct none[2];
  memset(none, 0, sizeof none);
  syscall(SYS_capset, &header, none);
  sleep(1);
  return unused;
}

int main(int argc, char** argv) {
  pthread_t t;
  const struct rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  int all = argc > 1 && strcmp(argv[1], "capabilities") == 0;
  pthread_create(&t, NULL, all ? gives_up_capabilities : gives_up_user, NULL);
  pthread_join(t, NULL);
  return 0;
}
