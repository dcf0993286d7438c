// getaddrinfo(3), getnameinfo(3), gethostbyname(3) and related functions, as far as no network is
// needed.
#include "cases.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>

static const char* eai(int e) {
  switch (e) {
    case 0:
      return "0";
    case EAI_ADDRFAMILY:
      return "EAI_ADDRFAMILY";
    case EAI_AGAIN:
      return "no address";  // .invalid: the error depends on whether there is a name server
    case EAI_BADFLAGS:
      return "EAI_BADFLAGS";
    case EAI_FAIL:
      return "EAI_FAIL";
    case EAI_FAMILY:
      return "EAI_FAMILY";
    case EAI_MEMORY:
      return "EAI_MEMORY";
    case EAI_NODATA:
      return "EAI_NODATA";
    case EAI_NONAME:
      return "no address";
    case EAI_SERVICE:
      return "EAI_SERVICE";
    case EAI_SOCKTYPE:
      return "EAI_SOCKTYPE";
    case EAI_SYSTEM:
      return "EAI_SYSTEM";
    case EAI_OVERFLOW:
      return "EAI_OVERFLOW";
  }
  return "?";
}

static void look_up(const char* sentence, const char* node, const char* service, int family,
                    int type, int protocol, int flags) {
  struct addrinfo hints, *found = (struct addrinfo*)7;
  memset(&hints, 0, sizeof hints);
  hints.ai_family = family;
  hints.ai_socktype = type;
  hints.ai_protocol = protocol;
  hints.ai_flags = flags;
  int e = getaddrinfo(node, service, &hints, &found);
  printf("%s: %s\n", sentence, eai(e));
  if (e) return;
  for (struct addrinfo* a = found; a; a = a->ai_next) {
    char host[100], port[50];
    int n = getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof host, port, sizeof port,
                        NI_NUMERICHOST | NI_NUMERICSERV);
    printf("  family %d type %d protocol %d flags %x: %s %s %s canonical %s\n", a->ai_family,
           a->ai_socktype, a->ai_protocol, (unsigned)a->ai_flags, eai(n), host, port,
           a->ai_canonname ? a->ai_canonname : "none");
  }
  freeaddrinfo(found);
}

static void say_host(const char* sentence, struct hostent* h) {
  if (!h) {
    printf("%s: null, h_errno %d\n", sentence, h_errno);
    return;
  }
  printf("%s: %s family %d length %d", sentence, h->h_name, h->h_addrtype, h->h_length);
  for (char** a = h->h_addr_list; *a; a++) {
    char text[100];
    printf(" %s", inet_ntop(h->h_addrtype, *a, text, sizeof text));
  }
  for (char** a = h->h_aliases; *a; a++) printf(" alias %s", *a);
  printf("\n");
}

int main(void) {
  look_up("nothing", NULL, NULL, 0, 0, 0, 0);
  look_up("only a service", NULL, "80", AF_INET, SOCK_STREAM, 0, 0);
  look_up("AI_PASSIVE", NULL, "80", AF_INET, SOCK_STREAM, 0, AI_PASSIVE);
  look_up("AI_PASSIVE, IPv6", NULL, "80", AF_INET6, SOCK_DGRAM, 0, AI_PASSIVE);
  look_up("a numeric host", "127.0.0.1", "80", 0, SOCK_STREAM, 0, 0);
  look_up("a numeric host of all types", "127.0.0.1", NULL, 0, 0, 0, 0);
  look_up("a numeric IPv6 host", "::1", "80", 0, SOCK_STREAM, 0, AI_NUMERICHOST);
  look_up("AI_NUMERICHOST with a name", "localhost", "80", 0, SOCK_STREAM, 0, AI_NUMERICHOST);
  look_up("IPv4 text, IPv6 family", "127.0.0.1", "80", AF_INET6, SOCK_STREAM, 0, 0);
  look_up("IPv6 text, IPv4 family", "::1", "80", AF_INET, SOCK_STREAM, 0, 0);
  look_up("AI_V4MAPPED", "127.0.0.1", "80", AF_INET6, SOCK_STREAM, 0, AI_V4MAPPED);
  look_up("short text", "127.1", "80", AF_INET, SOCK_STREAM, 0, 0);
  look_up("localhost", "localhost", "80", AF_INET, SOCK_STREAM, 0, 0);
  look_up("localhost, canonical", "localhost", NULL, AF_INET, SOCK_DGRAM, 0, AI_CANONNAME);
  look_up("a numeric host, canonical", "127.0.0.1", NULL, AF_INET, SOCK_DGRAM, 0, AI_CANONNAME);
  look_up("AI_CANONNAME without a host", NULL, "80", AF_INET, SOCK_STREAM, 0, AI_CANONNAME);
  look_up("an unknown host", "no-such-host.invalid", "80", AF_INET, SOCK_STREAM, 0, 0);
  look_up("an unknown host of any family", "no-such-host.invalid", NULL, 0, 0, 0, 0);
  look_up("an empty host", "", "80", AF_INET, SOCK_STREAM, 0, 0);
  look_up("a named service", "localhost", "domain", AF_INET, SOCK_DGRAM, 0, 0);
  look_up("an unknown service", "localhost", "no-such-service", AF_INET, SOCK_STREAM, 0, 0);
  look_up("AI_NUMERICSERV with a name", "localhost", "domain", AF_INET, SOCK_STREAM, 0,
          AI_NUMERICSERV);
  look_up("a service of another type", "localhost", "tftp", AF_INET, SOCK_STREAM, 0, 0);
  look_up("a service for a raw socket", "localhost", "80", AF_INET, SOCK_RAW, 0, 0);
  look_up("a port out of range", "localhost", "99999", AF_INET, SOCK_STREAM, 0, 0);
  look_up("a bad family", "localhost", "80", 99, SOCK_STREAM, 0, 0);
  look_up("a bad type", "localhost", "80", AF_INET, 99, 0, 0);
  look_up("type and protocol that do not match", "localhost", "80", AF_INET, SOCK_STREAM,
          IPPROTO_UDP, 0);
  look_up("bad flags", "localhost", "80", AF_INET, SOCK_STREAM, 0, 0x4000000);
  struct addrinfo* found = NULL;
  printf("no hints: %s\n", eai(getaddrinfo("127.0.0.1", "80", NULL, &found)));
  int n = 0;
  for (struct addrinfo* a = found; a; a = a->ai_next) n++;
  printf("  answers %d\n", n);
  freeaddrinfo(found);
  char* long_name = malloc(2000);
  memset(long_name, 'a', 1999);
  long_name[1999] = 0;
  look_up("a name that is too long", long_name, "80", AF_INET, SOCK_STREAM, 0, 0);

  struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(53)};
  in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  char host[100], port[50];
#define NAME(sentence, a, len, hl, pl, flags)                                        \
  do {                                                                               \
    host[0] = port[0] = 0;                                                           \
    int e_ = getnameinfo((struct sockaddr*)(a), len, host, hl, port, pl, flags);     \
    printf("%s: %s '%s' '%s'\n", sentence, eai(e_), e_ ? "" : host, e_ ? "" : port); \
  } while (0)
  NAME("getnameinfo, numeric", &in, sizeof in, 100, 50, NI_NUMERICHOST | NI_NUMERICSERV);
  NAME("getnameinfo", &in, sizeof in, 100, 50, 0);
  NAME("getnameinfo, datagrams", &in, sizeof in, 100, 50, NI_DGRAM | NI_NUMERICHOST);
  NAME("getnameinfo, no host wanted", &in, sizeof in, 0, 50, NI_NUMERICSERV);
  NAME("getnameinfo, nothing wanted", &in, sizeof in, 0, 0, 0);
  NAME("getnameinfo, no room for the host", &in, sizeof in, 4, 50, NI_NUMERICHOST);
  NAME("getnameinfo, no room for the name", &in, sizeof in, 4, 50, 0);
  NAME("getnameinfo, no room for the service", &in, sizeof in, 100, 2, NI_NUMERICHOST);
  NAME("getnameinfo, a short address", &in, 4, 100, 50, 0);
  NAME("getnameinfo, bad flags", &in, sizeof in, 100, 50, 0x10000);
  in.sin_family = 99;
  NAME("getnameinfo, a bad family", &in, sizeof in, 100, 50, 0);
  in.sin_family = AF_INET;
  in.sin_addr.s_addr = inet_addr("192.0.2.7");
  NAME("getnameinfo, NI_NAMEREQD, numeric", &in, sizeof in, 100, 50, NI_NAMEREQD | NI_NUMERICHOST);

  say_host("gethostbyname", gethostbyname("localhost"));
  say_host("gethostbyname of an address", gethostbyname("127.0.0.1"));
  h_errno = 77;
  struct hostent* h = gethostbyname("no-such-host.invalid");
  printf("gethostbyname of an unknown host: %s, h_errno %s\n", h ? "found" : "null",
         h_errno == HOST_NOT_FOUND || h_errno == TRY_AGAIN || h_errno == NO_DATA
             ? "says so"
             : "says something else");
  say_host("gethostbyname2", gethostbyname2("localhost", AF_INET));
  say_host("gethostbyname2 of an IPv6 address", gethostbyname2("::1", AF_INET6));
  say_host("gethostbyname2 of another family's address", gethostbyname2("127.0.0.1", 99));
  struct in_addr loop = {htonl(INADDR_LOOPBACK)};
  say_host("gethostbyaddr", gethostbyaddr(&loop, sizeof loop, AF_INET));
  say_host("gethostbyaddr with a bad length", gethostbyaddr(&loop, 3, AF_INET));
  say_host("gethostbyaddr with a bad family", gethostbyaddr(&loop, sizeof loop, 99));

  struct hostent e;
  char buf[2000];
  int error;
#define REENTRANT(sentence, call)                                                \
  do {                                                                           \
    h = (struct hostent*)7;                                                      \
    error = 77;                                                                  \
    int r_ = (call);                                                             \
    printf("%s: %s, %s, h_errno %d\n", sentence, r_ ? strerrorname_np(r_) : "0", \
           h ? h->h_name : "null", error);                                       \
  } while (0)
  REENTRANT("gethostbyname_r", gethostbyname_r("localhost", &e, buf, sizeof buf, &h, &error));
  REENTRANT("gethostbyname_r, a small buffer",
            gethostbyname_r("localhost", &e, buf, 8, &h, &error));
  REENTRANT("gethostbyname_r, a tiny buffer", gethostbyname_r("127.0.0.1", &e, buf, 1, &h, &error));
  REENTRANT("gethostbyname2_r",
            gethostbyname2_r("localhost", AF_INET, &e, buf, sizeof buf, &h, &error));
  REENTRANT("gethostbyname2_r, a small buffer",
            gethostbyname2_r("localhost", AF_INET, &e, buf, 8, &h, &error));
  REENTRANT("gethostbyaddr_r",
            gethostbyaddr_r(&loop, sizeof loop, AF_INET, &e, buf, sizeof buf, &h, &error));
  REENTRANT("gethostbyaddr_r, a small buffer",
            gethostbyaddr_r(&loop, sizeof loop, AF_INET, &e, buf, 8, &h, &error));
  // A signal handler does not end a look-up.
  on_signal(SIGALRM, 0);
  struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &often, NULL);
  int good = 0;
  for (int i = 0; i < 50; i++) {
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    if (getaddrinfo("localhost", "80", &hints, &found) == 0) {
      good++;
      freeaddrinfo(found);
    }
  }
  setitimer(ITIMER_REAL, &never, NULL);

  // Numbers only: the C library's threads need no answer from elsewhere.
  struct addrinfo numeric = {.ai_flags = AI_NUMERICHOST, .ai_family = AF_INET};
  struct gaicb one = {.ar_name = "127.0.0.1", .ar_service = "80", .ar_request = &numeric};
  struct gaicb other = {.ar_name = "no number", .ar_service = "80", .ar_request = &numeric};
  struct gaicb* list[] = {&one, NULL, &other};
  SAY("getaddrinfo_a", getaddrinfo_a(GAI_NOWAIT, list, 3, NULL));
  int r;
  while ((r = gai_suspend((const struct gaicb* const*)list, 3, NULL)) == 0 || r == EAI_INTR) {}
  SAY("gai_suspend at the end", r == EAI_ALLDONE);
  SAY("  one was found", gai_error(&one));
  SAY("  the other not", gai_error(&other) == EAI_NONAME);
  SAY("gai_suspend of nothing",
      gai_suspend((const struct gaicb* const*)list, 0, NULL) == EAI_ALLDONE);
  limit();
  SAY("50 look-ups among signals", good);
  free(long_name);
}
