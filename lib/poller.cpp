#include "poller.hpp"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "hub.hpp"

namespace tendril::core {

namespace {

constexpr std::uint32_t interest = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLRDNORM | EPOLLRDBAND | EPOLLWRNORM |
                                   EPOLLWRBAND | EPOLLMSG | EPOLLET;
constexpr std::uint64_t own_event = ~0ULL;

std::uint64_t tag(int fd, std::uint32_t generation) noexcept {
  return std::uint64_t(generation) << 32 | std::uint32_t(fd);
}

// Out of the way of programs that count on low numbers. Numbers above the soft limit's reach stay as they are.
int moved_up(int fd) noexcept {
  constexpr int f_dupfd_cloexec = 1030;
  int high = (int)sys::call(SYS_fcntl, fd, f_dupfd_cloexec, 500);
  if (high < 0) return fd;
  sys::close(fd);
  return high;
}

bool is_tcp(int fd) noexcept {
  int protocol = 0;
  socklen_t n = sizeof protocol;
  return sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &n) == 0 && protocol == IPPROTO_TCP;
}

// Whether fd is a TCP connection without anything between it and its reader. (What the program puts there later is
// noticed: see streams_may_stop().)
bool is_plain_tcp(int fd) noexcept {
  if (descriptors::is_inet_stream(fd)) {
    // A system may make all of them something else (MPTCP, SMC): asked once.
    static std::atomic<int> asked{0};
    int known = asked.load(std::memory_order_relaxed);
    if (!known) asked.store(known = is_tcp(fd) ? 1 : -1, std::memory_order_relaxed);
    return known > 0;
  }
  if (!is_tcp(fd)) return false;
  char layer[16];
  socklen_t n = sizeof layer;
  return sys::call(SYS_getsockopt, fd, IPPROTO_TCP, TCP_ULP, layer, &n) == 0 && n == 0;
}

}  // namespace

constinit std::atomic<bool> poller::plain_streams_{true};

bool poller::watch_own_event() noexcept {
  epoll_event e{.events = EPOLLIN | EPOLLET, .data = {.u64 = own_event}};
  return sys::epoll_ctl(epoll_, EPOLL_CTL_ADD, event_, &e) == 0;
}

bool poller::open() noexcept {
  if (epoll_ >= 0) return true;
  if (event_ < 0) {
    event_ = sys::eventfd();
    if (event_ < 0) return false;
    event_ = moved_up(event_);
  }
  epoll_ = sys::epoll_create();
  if (epoll_ < 0) return false;
  epoll_ = moved_up(epoll_);
  return watch_own_event();
}

void poller::rebuild() noexcept {
  epoll_ = event_ = -1;
  if (!open()) sys::die("no descriptors left for the hub's epoll instance");
  for_each_slot([this](slot& s, int fd) {
    if (!s.registered.exchange(0)) return;
    io_waiter* w = s.waiters.front();
    if (!w) return;
    epoll_event e{.events = interest, .data = {.u64 = tag(fd, w->generation)}};
    if (sys::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &e) == 0) s.registered = w->generation + 1;
    // What cannot be registered any more was closed behind our back as well.
    else for (; w; w = s.waiters.front()) remove(*w), hub::wake(w->who, wake::unparked);
  });
}

void poller::move_away(int fd) noexcept {
  int& own = fd == epoll_ ? epoll_ : event_;
  int other = (int)sys::call(SYS_fcntl, fd, 1030 /* F_DUPFD_CLOEXEC */, fd + 1);
  if (other < 0) return;
  if (fd == event_) {
    epoll_event e{};
    sys::epoll_ctl(epoll_, EPOLL_CTL_DEL, event_, &e);
    own = other;
    watch_own_event();
  } else {
    own = other;
  }
  sys::close(fd);
}

template <class F>
void poller::for_each_slot(F f) noexcept {
  for (int c = 0; c < descriptors::limit / per_chunk; c++) {
    slot* s = chunks_[c].load(std::memory_order_acquire);
    for (int i = 0; s && i < per_chunk; i++) f(s[i], c * per_chunk + i);
  }
}

poller::~poller() {
  if (epoll_ >= 0) sys::close(epoll_);
  if (event_ >= 0) sys::close(event_);
  for (auto& c : chunks_) {
    if (slot* s = c.load()) sys::unmap(s, per_chunk * sizeof(slot));
  }
}

[[gnu::noinline]] poller::slot* poller::make_chunk(int i) noexcept {
  auto* s = static_cast<slot*>(sys::map(per_chunk * sizeof(slot)));
  if (s) chunks_[i].store(s, std::memory_order_release);
  return s;
}

// Sees to it that edges of the waiter's descriptor are told. 0, or -errno of epoll_ctl.
[[gnu::noinline]] int poller::watch(slot& s, const io_waiter& w, bool known) noexcept {
  epoll_event e{.events = interest, .data = {.u64 = tag(w.fd, w.generation)}};
  int r = sys::epoll_ctl(epoll_, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, w.fd, &e);
  if (r == -EEXIST) r = sys::epoll_ctl(epoll_, EPOLL_CTL_MOD, w.fd, &e);
  else if (r == -ENOENT) r = sys::epoll_ctl(epoll_, EPOLL_CTL_ADD, w.fd, &e);
  if (r < 0) return r;
  if (!known) s.set(is_plain_tcp(w.fd) ? input::told : input::unknown);
  s.registered.store(w.generation + 1, std::memory_order_release);
  return 0;
}

int poller::add(io_waiter& w) noexcept {
  if (!open()) return -EMFILE;
  slot* s = make(w.fd);
  if (!s) return w.fd < 0 ? -EBADF : -ENOMEM;
  w.generation = descriptors::settled_generation(w.fd);
  bool known = s->registered.load(std::memory_order_relaxed) == w.generation + 1;
  if (!known || !descriptors::sees_all(w.fd)) [[unlikely]] {
    if (int r = watch(*s, w, known); r < 0) return r;
  }
  s->waiters.push_back(w);
  waiting_++;
  return 0;
}

void poller::remove(io_waiter& w) noexcept {
  if (!w.linked()) return;
  w.unlink();
  waiting_--;
}

// From an event it is three steps through cold memory to the fiber that waits. So they are taken for several at a time.
void poller::fetch_ahead(int i, int n) noexcept {
  auto fd_of = [&](int k) noexcept { return k >= 0 && k < n ? int(std::uint32_t(events_[k].data.u64)) : -1; };
  if (int fd = fd_of(i + 3 * ahead); slot* s = at(fd)) {
    __builtin_prefetch(s);
    __builtin_prefetch(descriptors::at(fd));
  }
  if (slot* s = at(fd_of(i + 2 * ahead))) {
    const char* w = reinterpret_cast<const char*>(s->waiters.front());
    __builtin_prefetch(w);
    __builtin_prefetch(w + 64);
  }
  if (slot* s = at(fd_of(i + ahead))) {
    if (io_waiter* w = s->waiters.front()) __builtin_prefetch(w->who);
  }
}

bool poller::poll(const timespec* timeout, const std::uint64_t* mask) noexcept {
  if (!open()) {
    // No descriptors left, so nobody waits for one; and nobody can ring, so naps are short.
    timespec nap{.tv_sec = 0, .tv_nsec = 5'000'000};
    if (timeout && timeout->tv_sec == 0 && timeout->tv_nsec < nap.tv_nsec) nap = *timeout;
    return sys::call(SYS_ppoll, nullptr, 0, &nap, mask, 8) == 0;
  }
  int n = sys::epoll_wait(epoll_, events_, sizeof events_ / sizeof *events_, timeout, mask);
  if (n == -EINTR) return false;
  if (n < 0) rebuild();
  for (int i = -3 * ahead; i < n; i++) {
    fetch_ahead(i, n);
    if (i < 0) continue;
    const epoll_event& e = events_[i];
    if (e.data.u64 == own_event) {
      std::uint64_t count;
      sys::read(event_, &count, sizeof count);
      continue;
    }
    int fd = int(std::uint32_t(e.data.u64));
    slot* s = at(fd);
    if (!s || s->registered.load(std::memory_order_relaxed) != std::uint32_t(e.data.u64 >> 32) + 1) continue;
    s->tell(e.events);
    for (io_waiter* w = s->waiters.front(); w;) {
      io_waiter* next = s->waiters.after(*w);
      if (e.events & (w->events | EPOLLERR | EPOLLHUP)) {
        remove(*w);
        w->told = e.events;
        hub::wake(w->who, wake::unparked);
      }
      w = next;
    }
  }
  return true;
}

void poller::forget(int fd, std::uint32_t generation, bool ends) noexcept {
  slot* s = at(fd);
  if (!s) return;
  std::uint32_t expected = generation + 1;
  if (!s->registered.compare_exchange_strong(expected, 0, std::memory_order_acq_rel) || ends) return;
  epoll_event e{};
  sys::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, &e);
}

void poller::wake_closed(int fd) noexcept {
  slot* s = at(fd);
  if (!s) return;
  std::uint32_t g = descriptors::generation(fd);
  for (io_waiter* w = s->waiters.front(); w;) {
    io_waiter* next = s->waiters.after(*w);
    if (w->generation != g) {
      remove(*w);
      hub::wake(w->who, wake::closed);
    }
    w = next;
  }
}

void poller::wake_all_closed() noexcept {
  for_each_slot([this](slot&, int fd) { wake_closed(fd); });
}

void poller::interrupt() noexcept {
  std::uint64_t one = 1;
  if (event_ >= 0) sys::write(event_, &one, sizeof one);
}

void poller::after_fork() noexcept {
  if (epoll_ >= 0) sys::close(epoll_);
  if (event_ >= 0) sys::close(event_);
  epoll_ = event_ = -1;
  waiting_ = 0;
  for (auto& c : chunks_) {
    if (slot* s = c.load()) sys::unmap(s, per_chunk * sizeof(slot));
    c = nullptr;
  }
}

}  // namespace tendril::core
