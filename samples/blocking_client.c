/* A blocking client that knows nothing of Tendril: connects, sends a line, prints the answer until its end.
 *
 *   blocking_client HOST PORT [LINE]
 *
 * It is not linked against anything of ours. Run it as it is, or under the shim: tendril run --
 * blocking_client ... */

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int connect_to(const char* host, const char* port) {
  struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found;
  int error = getaddrinfo(host, port, &hints, &found);
  if (error) {
    fprintf(stderr, "blocking_client: %s: %s\n", host, gai_strerror(error));
    return -1;
  }
  int fd = -1;
  for (struct addrinfo* a = found; a && fd < 0; a = a->ai_next) {
    fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
    if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0) break;
    error = errno;
    if (fd >= 0) close(fd);
    fd = -1;
  }
  if (fd < 0) fprintf(stderr, "blocking_client: %s: %s\n", host, strerror(error));
  freeaddrinfo(found);
  return fd;
}

int main(int argc, char** argv) {
  if (argc < 3) {
    fputs("usage: blocking_client HOST PORT [LINE]\n", stderr);
    return 2;
  }
  int fd = connect_to(argv[1], argv[2]);
  if (fd < 0) return 1;

  char line[1024];
  int size = snprintf(line, sizeof line, "%s\n", argc > 3 ? argv[3] : "hello");
  if (size >= (int)sizeof line || send(fd, line, (size_t)size, MSG_NOSIGNAL) != size) {
    perror("blocking_client: send");
    return 1;
  }
  shutdown(fd, SHUT_WR); /* so that the server sees the end, and ends too */

  char answer[4096];
  ssize_t n;
  while ((n = read(fd, answer, sizeof answer)) > 0) fwrite(answer, 1, (size_t)n, stdout);
  if (n < 0) perror("blocking_client: read");
  close(fd);
  return n < 0;
}
