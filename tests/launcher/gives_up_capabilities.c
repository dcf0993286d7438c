// A thread drops its capabilities; the other threads keep theirs. Prints the number of the
// process's kernel threads.
#include <dirent.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

int capset(struct __user_cap_header_struct* header, const struct __user_cap_data_struct* data);

static void* gives_up(void* unused) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct none[2];
  memset(none, 0, sizeof none);
  int r = capset(&header, none), tasks = 0;
  DIR* folder = opendir("/proc/self/task");
  for (struct dirent* e; (e = readdir(folder));) tasks += e->d_name[0] != '.';
  closedir(folder);
  printf("capset: %d, threads of the kernel: %d\n", r, tasks);
  return unused;
}

int main(void) {
  pthread_t t;
  pthread_create(&t, NULL, gives_up, NULL);
  pthread_join(t, NULL);
}
