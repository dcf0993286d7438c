// dlerror(3) reports an error whatever is called between the error and dlerror(), and its text
// stays valid until the program's next dl call. Every function here is called for the first time.
#include "threads.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <threads.h>
#include <wchar.h>

static void* ends(void* p) { return p; }

static void call(int i) {
  static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
  static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
  static pthread_rwlock_t l = PTHREAD_RWLOCK_INITIALIZER;
  static sem_t sem;
  char data[64];
  struct timespec t = {0, 1000};
  struct timeval tv = {0, 1000};
  struct pollfd p = {0, 0, 0};
  struct iovec v = {data, 1};
  struct rusage u;
  sigset_t set;
  pthread_t id;
  int fd;
  switch (i) {
    case 0:
      read(0, data, 0);
      break;
    case 1:
      write(2, data, 0);
      break;
    case 2:
      readv(0, &v, 0);
      break;
    case 3:
      pread(0, data, 0, 0);
      break;
    case 4:
      close(-1);
      break;
    case 5:
      fd = open("/dev/null", O_RDWR), close(fd);
      break;
    case 6:
      fd = socket(AF_INET, SOCK_STREAM, 0), send(fd, data, 1, MSG_NOSIGNAL),
      recv(fd, data, 1, MSG_DONTWAIT), close(fd);
      break;
    case 7:
      poll(&p, 1, 0);
      break;
    case 8:
      ppoll(&p, 1, &t, NULL);
      break;
    case 9:
      select(0, NULL, NULL, NULL, &tv);
      break;
    case 10:
      fd = epoll_create1(0), epoll_wait(fd, (struct epoll_event*)data, 1, 0), close(fd);
      break;
    case 11:
      usleep(1);
      break;
    case 12:
      nanosleep(&t, NULL);
      break;
    case 13:
      clock_gettime(CLOCK_MONOTONIC, &t);
      break;
    case 14:
      fflush(stdout);
      break;
    case 15:
      fputs("", stderr);
      break;
    case 16:
      fwprintf(tmpfile(), L"%d", 1);
      break;
    case 17:
      sigemptyset(&set), sigprocmask(SIG_BLOCK, &set, NULL);
      break;
    case 18:
      signal(SIGUSR2, SIG_IGN);
      break;
    case 19:
      kill(getpid(), 0);
      break;
    case 20:
      raise(SIGUSR2);
      break;
    case 21:
      waitpid(-1, NULL, WNOHANG);
      break;
    case 22:
      getrusage(RUSAGE_SELF, &u);
      break;
    case 23:
      pthread_mutex_lock(&m), pthread_mutex_unlock(&m);
      break;
    case 24:
      pthread_cond_signal(&c);
      break;
    case 25:
      pthread_rwlock_rdlock(&l), pthread_rwlock_unlock(&l);
      break;
    case 26:
      sem_init(&sem, 0, 1), sem_wait(&sem), sem_post(&sem);
      break;
    case 27:
      flock(0, LOCK_UN);
      break;
    case 28:
      fcntl(0, F_GETFD);
      break;
    case 29:
      sched_yield();
      break;
    case 30:
      syscall(SYS_getpid);
      break;
    case 31:
      system(":");
      break;
    case 32:
      if (!pthread_create(&id, NULL, ends, NULL)) pthread_join(id, NULL);
      break;
    case 33:
      thrd_yield();
      break;
    case 34:
      if (fork() == 0) _exit(0);
      else wait(NULL);
      break;
    case 35:
      fclose(fopen("/dev/null", "r"));
      break;
    case 36:
      sigaltstack(NULL, (stack_t*)data);
      break;
    case 37:
      pthread_setname_np(pthread_self(), "named");
      break;
  }
}
enum { calls = 38 };

static void* asks(void* unused) {
  char text[200];
  for (int i = 0; i < calls; i++) {
    dlerror();
    dlopen("/there/is/no/such/library.so", RTLD_NOW);
    call(i);
    const char* e = dlerror();
    printf("call %d: %s\n", i, e ? e : "forgotten");
  }
  dlsym(RTLD_DEFAULT, "there_is_no_such_name");
  const char* e = dlerror();
  snprintf(text, sizeof text, "%s", e);
  for (int i = 0; i < calls; i++) call(i);
  printf("the text stays: %s\n", strcmp(e, text) == 0 ? "yes" : "no");
  printf("asked twice: %s\n", dlerror() ? "still there" : "nothing");
  return unused;
}

static void* leaves_an_error(void* unused) {
  dlopen("/there/is/no/such/library.so", RTLD_NOW);
  return unused;
}
static void* looks(void* unused) {
  printf("a new thread finds: %s\n", dlerror() ? "the last one's error" : "nothing");
  return unused;
}

int main(int n, char** arguments) {
  // Natively, the text names the program.
  (void)arguments;
  if (n > 1) return 1;
  asks(NULL);
  struct worker w;
  start(&w, asks, NULL);
  end_of(&w);
  for (int i = 0; i < 3; i++) {
    start(&w, leaves_an_error, NULL);
    end_of(&w);
    start(&w, looks, NULL);
    end_of(&w);
  }
  return 0;
}
