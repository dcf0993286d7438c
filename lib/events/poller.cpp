#include "events/poller.hpp"

#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fork_handlers.hpp"
#include "scheduler/hub.hpp"

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
  if (epoll_ >= 0 || without_epoll_) return true;
  bool refused = sys::is_refused(SYS_eventfd2) || sys::is_refused(SYS_epoll_create1) || sys::is_refused(SYS_epoll_ctl) ||
                 (sys::is_refused(SYS_epoll_pwait) && sys::is_refused(SYS_epoll_pwait2));
  if (!refused && event_ < 0) {
    event_ = sys::eventfd();
    if (event_ >= 0) event_ = moved_up(event_);
    else if (!sys::turns_out_refused(SYS_eventfd2)) return false;
  }
  if (!refused && event_ >= 0) {
    epoll_ = sys::epoll_create();
    if (epoll_ >= 0) {
      epoll_ = moved_up(epoll_);
      if (watch_own_event()) return true;
    } else if (!sys::turns_out_refused(SYS_epoll_create1)) {
      return false;
    }
    if (epoll_ >= 0 && !sys::turns_out_refused(SYS_epoll_ctl)) return false;
  }
  go_without_epoll();
  return true;
}

void poller::go_without_epoll() noexcept {
  without_epoll_ = without_ring_ = true;
  if (ring_.is_open()) lose_ring();
  if (epoll_ >= 0) sys::close(epoll_);
  epoll_ = -1;
  // Nobody tells of edges any more.
  for_each_slot([](slot& s, int) { s.registered.store(0), s.received = 0, s.set(input::unknown); });
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

void poller::begin_to_learn(slot& s, int fd) noexcept { s.set(is_plain_tcp(fd) ? input::told : input::unknown); }

// Sees to it that edges of the waiter's descriptor are told. 0, or -errno of epoll_ctl.
[[gnu::noinline]] int poller::watch(slot& s, const io_waiter& w, bool known) noexcept {
  epoll_event e{.events = interest, .data = {.u64 = tag(w.fd, w.generation)}};
  int r = sys::epoll_ctl(epoll_, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, w.fd, &e);
  if (r == -EEXIST) r = sys::epoll_ctl(epoll_, EPOLL_CTL_MOD, w.fd, &e);
  else if (r == -ENOENT) r = sys::epoll_ctl(epoll_, EPOLL_CTL_ADD, w.fd, &e);
  if (r < 0 && r != -EBADF && sys::turns_out_refused(SYS_epoll_ctl)) {
    go_without_epoll();
    return 0;
  }
  if (r < 0) return r;
  if (!known) begin_to_learn(s, w.fd);
  s.registered.store(w.generation + 1, std::memory_order_release);
  return 0;
}

int poller::add(io_waiter& w) noexcept {
  if (!open()) return -EMFILE;
  slot* s = make(w.fd);
  if (!s) return w.fd < 0 ? -EBADF : -ENOMEM;
  w.generation = descriptors::settled_generation(w.fd);
  bool known = s->registered.load(std::memory_order_relaxed) == w.generation + 1;
  if ((!known || !descriptors::sees_all(w.fd)) && !without_epoll_) [[unlikely]] {
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
  if (without_epoll_) [[unlikely]] return poll_by_ppoll(timeout, mask);
  return under_way_ ? poll_ring(timeout, mask) : poll_epoll(timeout, mask);
}

bool poller::poll_by_ppoll(const timespec* timeout, const std::uint64_t* mask) noexcept {
  std::size_t most = waiting_ + 1, n = 0;
  constexpr std::size_t few = 64;
  pollfd own[few], *fds = most <= few ? own : static_cast<pollfd*>(sys::map(most * sizeof(pollfd)));
  if (event_ >= 0 && fds) fds[n++] = {.fd = event_, .events = POLLIN, .revents = 0};
  for_each_slot([&](slot& s, int fd) {
    short events = 0;
    bool any = false;
    for (io_waiter* w = s.waiters.front(); w; w = s.waiters.after(*w)) events |= short(w->events), any = true;
    if (any && fds && n < most) fds[n++] = {.fd = fd, .events = events, .revents = 0};
  });
  // Nobody can ring without an eventfd, so naps are short.
  timespec nap{.tv_sec = 0, .tv_nsec = 5'000'000};
  if (event_ < 0 && (!timeout || timeout->tv_sec || timeout->tv_nsec > nap.tv_nsec)) timeout = &nap;
  long r;
  if (!sys::is_refused(SYS_ppoll)) {
    r = sys::call(SYS_ppoll, fds, n, timeout, mask, 8);
    if (r < 0 && r != -EINTR) sys::turns_out_refused(SYS_ppoll);
  } else {
    r = sys::poll_now(fds, n);
    bool blocks = !timeout || timeout->tv_sec || timeout->tv_nsec;
    if (r == 0 && blocks) sys::futex_wait(&nap, 0, &nap);  // (The mask stays as it is: there is no other call.)
  }
  for (std::size_t i = 0; r > 0 && i < n; i++) {
    if (!fds[i].revents) continue;
    std::uint64_t count;
    if (fds[i].fd == event_) sys::read(event_, &count, sizeof count);
    else if (slot* s = at(fds[i].fd)) tell_waiters(*s, std::uint32_t(std::uint16_t(fds[i].revents)));
  }
  if (fds != own && fds) sys::unmap(fds, most * sizeof(pollfd));
  return r != -EINTR;
}

void poller::tell_waiters(slot& s, std::uint32_t events) noexcept {
  constexpr std::uint32_t always_told = EPOLLERR | EPOLLHUP | POLLNVAL;
  for (io_waiter* w = s.waiters.front(); w;) {
    io_waiter* next = s.waiters.after(*w);
    if (w->events && (events & (w->events | always_told))) {
      remove(*w);
      w->told = events;
      hub::wake(w->who, wake::unparked);
    }
    w = next;
  }
}

bool poller::poll_epoll(const timespec* timeout, const std::uint64_t* mask) noexcept {
  int n = sys::epoll_wait(epoll_, events_, sizeof events_ / sizeof *events_, timeout, mask);
  if (n == -EINTR) return false;
  if (n < 0 && sys::turns_out_refused(SYS_epoll_pwait)) go_without_epoll();
  else if (n < 0) rebuild();
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
    tell_waiters(*s, e.events);
  }
  return true;
}

// --- receiving by io_uring ---

namespace {

// Marks of what is no receive.
constexpr std::uint64_t nobody = 0, epoll_mark = 1;

bool asked_for_ring() noexcept {
  static constinit std::atomic<int> wanted{-1};  // not read yet; by several threads at once is all the same
  if (int known = wanted.load(std::memory_order_relaxed); known >= 0) return known;
  const char* s = getenv("TENDRIL_POLLER");
  bool yes = s && strcmp(s, "io_uring") == 0;
  if (s && *s && !yes && strcmp(s, "epoll") != 0) sys::say("TENDRIL_POLLER=", s, " is neither epoll nor io_uring; using epoll");
  wanted.store(yes, std::memory_order_relaxed);
  return yes;
}

}  // namespace

const char* poller::ring_obstacle() noexcept {
  ring trial;
  return trial.open();
}

bool poller::is_ring_wanted() noexcept {
  without_ring_ = !asked_for_ring();
  return !without_ring_;
}

bool poller::seems_empty(int fd) noexcept {
  std::uint32_t known = descriptors::generation(fd) + 1;
  slot* s = at(fd);
  if (!s || (s->received != known && s->registered.load(std::memory_order_relaxed) != known)) return descriptors::is_connection(fd);
  return s->state() == input::drained;
}

bool poller::begin(ring_receive& r) noexcept {
  if (!ring_.is_open() && ring_.open()) {
    without_ring_ = true;
    return false;
  }
  slot* s = open() ? make(r.fd) : nullptr;
  if (!s) return false;
  r.generation = descriptors::settled_generation(r.fd);
  if (s->received != r.generation + 1 && s->registered.load(std::memory_order_relaxed) != r.generation + 1) {
    begin_to_learn(*s, r.fd);
    s->received = r.generation + 1;
  }
  if (ring_.full()) {
    enter_ring(0, nullptr, nullptr);
    if (!ring_.is_open() || ring_.full()) return false;
  }
  io_uring_sqe& e = ring_.add(reinterpret_cast<std::uintptr_t>(&r));
  e.opcode = IORING_OP_RECV;
  e.fd = r.fd;
  e.addr = reinterpret_cast<std::uintptr_t>(r.to);
  e.len = r.room;
  s->waiters.push_back(r);
  waiting_++;
  under_way_++;
  return true;
}

void poller::finish(ring_receive& r, long result) noexcept {
  r.result = result;
  under_way_--;
  remove(r);
  hub::wake(r.who, wake::unparked);
}

void poller::end(ring_receive& r) noexcept {
  for (bool asked = false; r.result == ring_receive::under_way;) {
    if (!asked && !ring_.full()) {
      io_uring_sqe& e = ring_.add(nobody);
      e.opcode = IORING_OP_ASYNC_CANCEL;
      e.addr = reinterpret_cast<std::uintptr_t>(&r);
      e.flags = IOSQE_CQE_SKIP_SUCCESS;
      asked = true;
    }
    enter_ring(asked, nullptr, nullptr);
  }
  remove(r);
}

// The kernel forbids it from now on (a seccomp filter). What is under way will not be carried out any more: that would
// take a call.
void poller::lose_ring() noexcept {
  ring_.close();
  without_ring_ = true;
  epoll_is_watched_ = false;
  for_each_slot([this](slot& s, int) {
    for (io_waiter* w = s.waiters.front(); w;) {
      io_waiter* next = s.waiters.after(*w);
      if (!w->events) finish(static_cast<ring_receive&>(*w), -ECANCELED);
      w = next;
    }
  });
}

// False: a signal has ended the wait.
bool poller::enter_ring(unsigned least, const timespec* timeout, const std::uint64_t* mask) noexcept {
  if (forgot_.load(std::memory_order_relaxed) && forgot_.exchange(false, std::memory_order_acquire)) {
    // The number may stand for another file by now.
    ring_.each_added([](io_uring_sqe& e) {
      if (e.opcode != IORING_OP_RECV) return;
      auto r = reinterpret_cast<const ring_receive*>(e.user_data);
      if (r->generation != descriptors::generation(r->fd)) e.fd = -1;
    });
  }
  long entered = ring_.enter(least, timeout, mask);
  if (entered < 0 && entered != -EINTR && entered != -ETIME && entered != -EAGAIN && entered != -EBUSY) {
    lose_ring();
    return true;
  }
  int n = int(ring_.ended());
  auto receive_of = [&](int i) noexcept {
    std::uint64_t mark = i >= 0 && i < n ? ring_.ended(unsigned(i)).mark : nobody;
    return reinterpret_cast<ring_receive*>(mark == epoll_mark ? nobody : mark);
  };
  for (int i = -2 * ahead; i < n; i++) {
    // As in fetch_ahead().
    if (auto r = reinterpret_cast<const char*>(receive_of(i + 2 * ahead))) {
      __builtin_prefetch(r);
      __builtin_prefetch(r + 64);
    }
    if (ring_receive* r = receive_of(i + ahead)) __builtin_prefetch(r->who), __builtin_prefetch(at(r->fd));
    if (i < 0) continue;
    if (ring_receive* r = receive_of(i)) finish(*r, ring_.ended(unsigned(i)).result);
    else if (ring_.ended(unsigned(i)).mark == epoll_mark) epoll_is_ready_ = true, epoll_is_watched_ = false;
  }
  ring_.done_with(unsigned(n));
  return entered != -EINTR;
}

bool poller::poll_ring(const timespec* timeout, const std::uint64_t* mask) noexcept {
  if (!epoll_is_watched_ && !ring_.full()) {
    io_uring_sqe& e = ring_.add(epoll_mark);
    e.opcode = IORING_OP_POLL_ADD;
    e.fd = epoll_;
    e.poll32_events = EPOLLIN;
    epoll_is_watched_ = true;
  }
  bool block = !timeout || timeout->tv_sec || timeout->tv_nsec;
  bool quiet = enter_ring(block && epoll_is_watched_, block ? timeout : nullptr, mask);
  if (epoll_is_ready_) {
    epoll_is_ready_ = false;
    timespec none{};
    poll_epoll(&none, nullptr);
  }
  return quiet;
}

void poller::forget(int fd, std::uint32_t generation, bool ends) noexcept {
  slot* s = at(fd);
  if (!s) return;
  forgot_.store(true, std::memory_order_release);
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
      if (!w->events) {
        // The file is closed in earnest when no operation has to do with it any more. (Others may end meanwhile.)
        end(static_cast<ring_receive&>(*w));
        next = s->waiters.front();
      }
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
  bool ours = !child_shares_descriptors();
  if (ours && epoll_ >= 0) sys::close(epoll_);
  if (ours && event_ >= 0) sys::close(event_);
  epoll_ = event_ = -1;
  waiting_ = 0;
  ring_.abandon();
  under_way_ = 0;
  without_ring_ = epoll_is_watched_ = epoll_is_ready_ = without_epoll_ = false;
  for (auto& c : chunks_) {
    if (slot* s = c.load()) sys::unmap(s, per_chunk * sizeof(slot));
    c = nullptr;
  }
}

}  // namespace tendril::core
