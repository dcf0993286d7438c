// A TCP connection of the program with itself.
#pragma once

#include "cases.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static inline void tcp_pair(int s[2]) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof a;
  int l = MUST(socket(AF_INET, SOCK_STREAM, 0));
  MUST(bind(l, (struct sockaddr*)&a, sizeof a));
  MUST(listen(l, 1));
  MUST(getsockname(l, (struct sockaddr*)&a, &len));
  s[0] = MUST(socket(AF_INET, SOCK_STREAM, 0));
  MUST(connect(s[0], (struct sockaddr*)&a, sizeof a));
  s[1] = MUST(accept(l, NULL, NULL));
  close(l);
}
