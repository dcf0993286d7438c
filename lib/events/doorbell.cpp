#include "events/doorbell.hpp"

#include <fcntl.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <initializer_list>

#include "base/sys.hpp"

namespace tendril::core::doorbell {

namespace {

// A signalfd for all signals: it reports edges of those that the kernel thread blocks.
int open_signals() noexcept {
  std::uint64_t all = ~0ULL;
  return int(sys::call(SYS_signalfd4, -1, &all, sizeof all, SFD_CLOEXEC | SFD_NONBLOCK));
}

// A timerfd that has expired long ago, and still reports when the clock is set.
int open_clock() noexcept {
  int fd = int(sys::call(SYS_timerfd_create, CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK));
  itimerspec past{.it_interval = {}, .it_value = {.tv_sec = 1, .tv_nsec = 0}};
  if (fd < 0 || sys::call(SYS_timerfd_settime, fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET,
                          &past, 0) == 0)
    return fd;
  sys::close(fd);
  return -1;
}

// Leaves both descriptors, or none, in a message sent by `from`.
bool send_both(int from, int a, int b) noexcept {
  char nothing = 0;
  iovec v{&nothing, 1};
  int both[2] = {a, b};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof both)] = {};
  msghdr m{};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof control;
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof both);
  memcpy(CMSG_DATA(c), both, sizeof both);
  return sys::call(SYS_sendmsg, from, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

}  // namespace

bool watch_edges(int epoll, int fd, std::uint32_t events, std::uint64_t as) noexcept {
  epoll_event e{.events = events | EPOLLET, .data = {.u64 = as}};
  return sys::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) == 0;
}

int open(int epoll) noexcept {
  int ends[2];
  for (long call :
       {SYS_socketpair, SYS_signalfd4, SYS_timerfd_create, SYS_timerfd_settime, SYS_sendmsg}) {
    if (sys::is_refused(call)) return -1;
  }
  if (sys::failed(
          sys::call(SYS_socketpair, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends)))
    return -1;
  int signal_source = open_signals(), clock_source = open_clock();
  bool done = signal_source >= 0 && clock_source >= 0 &&
              send_both(ends[0], signal_source, clock_source) &&
              watch_edges(epoll, signal_source, EPOLLIN, signals) &&
              watch_edges(epoll, clock_source, EPOLLIN, clock);
  if (signal_source >= 0) sys::close(signal_source);
  if (clock_source >= 0) sys::close(clock_source);
  sys::close(ends[0]);
  if (done) return ends[1];
  sys::close(ends[1]);
  return -1;
}

}  // namespace tendril::core::doorbell
