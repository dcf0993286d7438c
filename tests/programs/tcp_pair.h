// TCP connections between two descriptors of the program.
#pragma once

#include "cases.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

// Listens on a free port of the loopback interface; stores its address.
static inline int tcp_listener(struct sockaddr_in* at) {
  *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof *at;
  int l = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
  MUST(bind(l, (struct sockaddr*)at, len));
  MUST(listen(l, 5));
  MUST(getsockname(l, (struct sockaddr*)at, &len));
  return l;
}

static inline void tcp_pair(int s[2]) {
  struct sockaddr_in a;
  int l = tcp_listener(&a);
  s[0] = MUST(socket(AF_INET, SOCK_STREAM, 0));
  MUST(connect(s[0], (struct sockaddr*)&a, sizeof a));
  s[1] = MUST(accept(l, NULL, NULL));
  close(l);
}
