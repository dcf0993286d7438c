// For `compare --threads`: reports the kind of a program's threads. As the program ends by exit(),
// it makes one more thread and writes "PID fibers" or "PID kernel" into the file that THREAD_KIND
// names. A thread that runs on its creator's kernel thread is a fiber. The program itself makes the
// thread, since its kind may depend on the module that calls pthread_create.
#pragma once

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct kernel_thread {
  char name[64];  // "PID/task/TID"; empty: unknown
};
static inline void* find_kernel_thread(void* p) {
  struct kernel_thread* t = (struct kernel_thread*)p;
  ssize_t n = readlink("/proc/thread-self", t->name, sizeof t->name - 1);
  t->name[n > 0 ? n : 0] = 0;
  return NULL;
}

__attribute__((destructor)) static void tell_thread_kind(void) {
  const char* path = getenv("THREAD_KIND");
  if (!path) return;
  struct kernel_thread mine, others;
  find_kernel_thread(&mine);
  pthread_t t;
  int error = pthread_create(&t, NULL, find_kernel_thread, &others);
  if (error == 0) pthread_join(t, NULL);
  const char* kind = error                            ? strerror(error)
                     : !*mine.name || !*others.name   ? "not known"
                     : strcmp(mine.name, others.name) ? "kernel"
                                                      : "fibers";
  FILE* f = fopen(path, "a");
  if (!f) return;
  fprintf(f, "%d %s\n", (int)getpid(), kind);
  fclose(f);
}
