// An echo server as in textbooks: a thread for each connection, and blocking calls. It does not
// know Tendril.
//
//   threaded_echo_server [PORT]
//
// On SIGUSR1 it prints the number of its connections, and their cost according to the kernel.
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int connections;

static void count(int change) {
  pthread_mutex_lock(&lock);
  connections += change;
  pthread_mutex_unlock(&lock);
}

static void* serve(void* argument) {
  int connection = (int)(intptr_t)argument;
  char data[1024];
  ssize_t n;
  while ((n = read(connection, data, sizeof data)) > 0) {
    for (ssize_t done = 0, part; done < n; done += part) {
      if ((part = write(connection, data + done, (size_t)(n - done))) < 0) goto end;
    }
  }
end:
  close(connection);
  count(-1);
  return NULL;
}

static void* tell(void* signals) {
  for (int signal; sigwait(signals, &signal) == 0;) {
    char line[256];
    printf("%d connections\n", connections);
    FILE* status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status)) {
      if (!strncmp(line, "VmRSS:", 6) || !strncmp(line, "VmPTE:", 6) ||
          !strncmp(line, "Threads:", 8))
        fputs(line, stdout);
    }
    if (status) fclose(status);
    fflush(stdout);
  }
  return NULL;
}

static void fail(const char* what) {
  fprintf(stderr, "threaded_echo_server: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void thread(void* (*start)(void*), void* argument) {
  pthread_t t;
  if ((errno = pthread_create(&t, NULL, start, argument))) fail("no more threads");
  pthread_detach(t);
}

int main(int argc, char** argv) {
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);

  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &signals, NULL);
  thread(tell, &signals);

  int server = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(server, (struct sockaddr*)&address, size) != 0 || listen(server, 4096) != 0)
    fail("cannot listen");
  getsockname(server, (struct sockaddr*)&address, &size);
  printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
  fflush(stdout);

  for (;;) {
    int connection = accept(server, NULL, NULL);
    if (connection < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      fail("accept");
    }
    count(1);
    thread(serve, (void*)(intptr_t)connection);
  }
}
