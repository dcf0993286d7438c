// For `compare --threads`: reports the kind of a program's threads. As the program ends by exit(),
// it makes one more thread and writes "PID fibers" or "PID kernel" into the file that THREAD_KIND
// names. A fiber's number is above all of the kernel's. The program itself makes the thread, since
// its kind may depend on the module that calls pthread_create.
#pragma once

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void* find_number(void* p) {
  *(pid_t*)p = gettid();
  return NULL;
}

__attribute__((destructor)) static void tell_thread_kind(void) {
  const char* path = getenv("THREAD_KIND");
  if (!path) return;
  enum { kernels_largest = 1 << 22 };
  pid_t number = 0;
  pthread_t t;
  int error = pthread_create(&t, NULL, find_number, &number);
  if (error == 0) pthread_join(t, NULL);
  const char* kind = error ? strerror(error) : number > kernels_largest ? "fibers" : "kernel";
  FILE* f = fopen(path, "a");
  if (!f) return;
  fprintf(f, "%d %s\n", (int)getpid(), kind);
  fclose(f);
}
