#include "events/poller.hpp"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#include <utility>

#include "base/fork_handlers.hpp"
#include "events/doorbell.hpp"
#include "events/own_descriptors.hpp"

namespace tendril::core {

namespace {

constexpr std::uint32_t interest = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLRDNORM |
                                   EPOLLRDBAND | EPOLLWRNORM | EPOLLWRBAND | EPOLLMSG | EPOLLET;
constexpr std::uint32_t doorbell_interest = EPOLLIN | EPOLLOUT | EPOLLET;

std::uint64_t tag(int fd, std::uint32_t generation) noexcept {
  return std::uint64_t(generation) << 32 | std::uint32_t(fd);
}

}  // namespace

// --- our own descriptors ---

bool poller::make_doorbell(int epoll, std::atomic<int>& doorbell, bool& has_sources) noexcept {
  int fd = doorbell::open(epoll);
  has_sources = fd >= 0;
  fd = own_descriptors::keep(has_sources ? fd : sys::eventfd(), &doorbell, true);
  if (fd < 0) return false;
  doorbell = fd;
  if (doorbell::watch_edges(epoll, fd, doorbell_interest, doorbell::rung)) return true;
  own_descriptors::release(fd, &doorbell);
  doorbell = -1;
  return false;
}

static bool epoll_is_refused() noexcept {
  return sys::is_refused(SYS_epoll_create1) || sys::is_refused(SYS_epoll_ctl) ||
         (sys::is_refused(SYS_epoll_pwait) && sys::is_refused(SYS_epoll_pwait2));
}

[[gnu::noinline]] bool poller::open_slow() noexcept {
  own_descriptors::raised_limit more;
  bool refused = epoll_is_refused();
  int fd = -1;
  if (!refused) {
    fd = own_descriptors::keep(sys::epoll_create(), &epoll_, true);
    refused = fd < 0 && sys::turns_out_refused(SYS_epoll_create1);
    if (fd < 0 && !refused) return false;
  }
  if (!refused && !make_doorbell(fd, doorbell_, has_sources_)) {
    own_descriptors::release(fd, &epoll_);
    refused = sys::turns_out_refused(SYS_epoll_ctl);
    if (!refused) return false;
  }
  if (refused) {
    go_without_epoll();
    return true;
  }
  made_sure_ = arch::ticks();
  epoll_ = fd;
  register_all();
  return true;
}

void poller::prepare(spare* each, unsigned n) noexcept {
  if (n == 0 || epoll_is_refused()) return;
  own_descriptors::raised_limit more;
  for (spare* s = each; s != each + n; s++) {
    int fd = own_descriptors::keep(sys::epoll_create(), &s->epoll, false);
    if (fd < 0) return;
    s->epoll = fd;
    if (!make_doorbell(fd, s->doorbell, s->has_sources)) drop(*s);
  }
}

void poller::take(spare& s) noexcept {
  int epoll = s.epoll.exchange(-1), bell = s.doorbell.exchange(-1);
  if (epoll < 0) return;
  if (own_descriptors::hand_over(epoll, &s.epoll, &epoll_)) epoll_ = epoll;
  if (own_descriptors::hand_over(bell, &s.doorbell, &doorbell_)) doorbell_ = bell;
  has_sources_ = s.has_sources;
  if (is_whole()) return;
  release_own();  // the program has closed one of them unseen
}

void poller::release_own() noexcept {
  own_descriptors::release(epoll_.exchange(-1), &epoll_);
  own_descriptors::release(doorbell_.exchange(-1), &doorbell_);
}

void poller::drop(spare& s) noexcept {
  own_descriptors::release(s.epoll.exchange(-1), &s.epoll);
  own_descriptors::release(s.doorbell.exchange(-1), &s.doorbell);
}

void poller::go_without_epoll() noexcept {
  without_epoll_ = true;
  ring_.give_up();
  if (ring_.is_open()) lose_ring();
  own_descriptors::release(epoll_, &epoll_);
  own_descriptors::release(doorbell_, &doorbell_);
  epoll_ = -1;
  has_sources_ = false;
  doorbell_ =
      sys::is_refused(SYS_eventfd2) ? -1 : own_descriptors::keep(sys::eventfd(), &doorbell_, true);
  // From now on neither edges nor signals nor clock changes are reported.
  slots_.for_each([](slot& s, int) { s.registered.store(0), s.received = 0, s.stream.give_up(); });
  wake_all(source::signals);
  wake_all(source::clock);
}

// Checks both descriptors by an epoll_ctl that changes nothing. The poller makes such calls anyway;
// a sandbox might refuse others.
bool poller::is_whole() const noexcept {
  // Another hub's may have come to the numbers of ours.
  if (!own_descriptors::is_listed(epoll_, &epoll_) ||
      !own_descriptors::is_listed(doorbell_, &doorbell_))
    return false;
  epoll_event none{};
  int r = sys::epoll_ctl(epoll_, EPOLL_CTL_ADD, doorbell_, &none);
  // this is an epoll instance of the program's: undo it
  if (r == 0) sys::epoll_ctl(epoll_, EPOLL_CTL_DEL, doorbell_, &none);
  return r == -EEXIST;
}

bool poller::lost_descriptors() const noexcept {
  return epoll_.load(std::memory_order_relaxed) >= 0 &&
         !without_epoll_.load(std::memory_order_relaxed) && !sys::is_refused(SYS_epoll_ctl) &&
         !is_whole();
}

void poller::make_sure_now() noexcept {
  made_sure_ = arch::ticks();
  if (sys::is_refused(SYS_epoll_ctl)) return go_without_epoll();
  if (is_whole()) return;
  if (sys::turns_out_refused(SYS_epoll_ctl)) go_without_epoll();
  else rebuild();
}

inline void poller::make_sure() noexcept {
  if (arch::ticks() - made_sure_ >= arch::ticks_per_tenth_ms()) [[unlikely]]
    make_sure_now();
}

void poller::rebuild() noexcept {
  release_own();
  ring_.watch_another();  // the ring still watches the old one
  slots_.for_each([](slot& s, int) { s.registered.store(0, std::memory_order_relaxed); });
  open();
  // Events may have gone unreported meanwhile.
  wake_all(source::signals);
  wake_all(source::clock);
  kept.for_each_lost([this](int fd) { was_replaced(fd); });
}

// Registers everything that is waited for with a new epoll instance.
void poller::register_all() noexcept {
  if (waiting_ == 0) return;
  slots_.for_each([this](slot& s, int fd) {
    io_waiter* w = s.waiters.front();
    while (w && !w->events) w = s.waiters.after(*w);
    if (!w) return;
    epoll_event e{.events = interest, .data = {.u64 = tag(fd, w->generation)}};
    int r = sys::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &e);
    if (r == 0) return s.registered.store(w->generation + 1);
    // The program has closed this one unseen, too.
    if (r == -EBADF) return was_replaced(fd);
    // Wake the waiters: each tries again, and gets the error itself.
    for (; w; w = s.waiters.front()) remove(*w), report_.wake(w->who, wake::unparked);
  });
}

bool poller::interrupt() noexcept {
  if (without_epoll_) [[unlikely]] {
    std::uint64_t one = 1;
    if (int fd = doorbell_; own_descriptors::is_kept(fd, &doorbell_))
      sys::write(fd, &one, sizeof one);
    return true;
  }
  for (int tries = 0; tries < 2; tries++) {
    int epoll = epoll_, bell = doorbell_;
    if (epoll < 0 || bell < 0) return true;  // the poller naps and wakes by itself
    epoll_event e{.events = doorbell_interest, .data = {.u64 = doorbell::rung}};
    if (own_descriptors::is_listed(bell, &doorbell_) &&
        sys::epoll_ctl(epoll, EPOLL_CTL_MOD, bell, &e) == 0)
      return true;
    if (epoll == epoll_ && bell == doorbell_) break;
  }
  return false;
}

void poller::make_way(int fd) noexcept {
  if (fd < 0) return;
  if (fd == epoll_ && own_descriptors::is_kept(fd, &epoll_)) {
    int other = own_descriptors::move(fd, &epoll_, fd);
    if (other < 0) return;  // it is made again when it is needed
    epoll_ = other;
    ring_.watch_another();
  } else if (fd == doorbell_ && own_descriptors::is_kept(fd, &doorbell_)) {
    int other = own_descriptors::move(fd, &doorbell_, fd);
    if (other < 0) return;
    epoll_event none{};
    doorbell::watch_edges(epoll_, other, doorbell_interest, doorbell::rung);
    doorbell_ = other;
    sys::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, &none);
  } else {
    return;
  }
  own_descriptors::give_up(fd);
  sys::close(fd);
}

// If the program's descriptor numbers have come close to ours: moves ours up, as far as its limit
// allows.
void poller::keep_above(int fd) noexcept {
  constexpr int near = 64;
  int lower = epoll_ < doorbell_ ? epoll_ : doorbell_;
  if (fd + near < lower || unsigned(lower) + near >= own_descriptors::highest(fd)) return;
  make_way(epoll_);
  make_way(doorbell_);
}

// --- sources ---

bool poller::add(source_waiter& w, source s) noexcept {
  if (open() && epoll_ >= 0) make_sure();
  bool reports = epoll_ >= 0 && has_sources_;
  on_source_[int(s)].push_back(w);
  waiting_++;
  return reports;
}

void poller::remove(source_waiter& w) noexcept {
  if (!w.linked()) return;
  w.unlink();
  waiting_--;
}

void poller::wake_all(source s) noexcept {
  for (source_waiter* w = on_source_[int(s)].front(); w; w = on_source_[int(s)].front()) {
    remove(*w);
    report_.wake(w->who, wake::unparked);
  }
}

// --- waits for descriptors ---

poller::~poller() {
  own_descriptors::release(epoll_, &epoll_);
  own_descriptors::release(doorbell_, &doorbell_);
}

// Makes sure that edges of the waiter's descriptor are reported. Returns 0, or -errno of epoll_ctl.
[[gnu::noinline]] int poller::watch(slot& s, const io_waiter& w, bool known) noexcept {
  epoll_event e{.events = interest, .data = {.u64 = tag(w.fd, w.generation)}};
  int r = sys::epoll_ctl(epoll_, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, w.fd, &e);
  if (r == -EEXIST) r = sys::epoll_ctl(epoll_, EPOLL_CTL_MOD, w.fd, &e);
  if (r < 0 && r != -EBADF && r != -ENOENT && sys::turns_out_refused(SYS_epoll_ctl)) {
    go_without_epoll();
    return 0;
  }
  if (r < 0) return r;
  if (!known) s.stream.begin(w.fd);
  s.registered.store(w.generation + 1, std::memory_order_release);
  return 0;
}

[[gnu::noinline]] void poller::was_replaced(int fd) noexcept {
  report_.forget(fd);
  report_.wake_closed(fd);
}

// The same where the program may have closed the descriptor, or the epoll instance, unseen.
[[gnu::noinline]] int poller::watch_anew(slot& s, io_waiter& w, bool known) noexcept {
  if (epoll_ >= 0) make_sure();
  if (epoll_ >= 0 && !known) keep_above(w.fd);
  for (int tries = 0; epoll_ >= 0; tries++) {
    int r = watch(s, w, known);
    if (r == -ENOENT && known) {
      // The registered file is gone: wake those who wait for it.
      was_replaced(w.fd);
      bool settled;
      w.generation = descriptors::settled_generation(w.fd, settled);
      s.unsettled |= !settled;
      known = false;
      continue;
    }
    if ((r != -EBADF && r != -EINVAL) || tries > 1 || is_whole()) return r;
    rebuild();
    known = false;
  }
  // Without an epoll instance the poller asks ppoll(2) now and then; just check that fd is open.
  if (sys::is_refused(SYS_fcntl)) return 0;
  long flags = sys::call(SYS_fcntl, w.fd, F_GETFD);
  return flags < 0 && !sys::turns_out_refused(SYS_fcntl) ? int(flags) : 0;
}

int poller::add(io_waiter& w) noexcept {
  slot* s = slots_.make(w.fd);
  if (!s) return w.fd < 0 ? -EBADF : -ENOMEM;
  bool settled;
  w.generation = descriptors::settled_generation(w.fd, settled);
  bool known = s->is_registered(w.generation) && !s->unsettled;
  if (!known || !settled || !descriptors::sees_all(w.fd)) [[unlikely]] {
    open();
    s->unsettled |= !settled;
    if (int r = watch_anew(*s, w, known); r < 0) return r;
  }
  enlist(*s, w);
  return 0;
}

void poller::remove(io_waiter& w) noexcept {
  if (!w.linked()) return;
  w.unlink();
  waiting_--;
  slots_.at(w.fd)->listed.one_less();
}

bool poller::still_stands(const io_waiter& w) noexcept {
  if (w.generation != descriptors::generation(w.fd)) return false;
  slot* s = slots_.at(w.fd);
  if (epoll_ < 0 || !s || !s->is_registered(w.generation)) return true;
  epoll_event e{.events = interest, .data = {.u64 = tag(w.fd, w.generation)}};
  int r = sys::epoll_ctl(epoll_, EPOLL_CTL_MOD, w.fd, &e);
  if (r != -ENOENT && r != -EBADF) return true;
  if (!is_whole()) return true;
  was_replaced(w.fd);
  return false;
}

// From an event to the waiting fiber it takes three dependent loads of cold memory. So they are
// prefetched for several events at a time.
void poller::fetch_ahead(int i, int n) noexcept {
  auto fd_of = [&](int k) noexcept {
    return k >= 0 && k < n ? int(std::uint32_t(events_[k].data.u64)) : -1;
  };
  if (int fd = fd_of(i + 3 * ahead); slot* s = slots_.at(fd)) {
    __builtin_prefetch(s);
    __builtin_prefetch(descriptors::at(fd));
  }
  if (slot* s = slots_.at(fd_of(i + 2 * ahead))) {
    const char* w = reinterpret_cast<const char*>(s->waiters.front());
    __builtin_prefetch(w);
    __builtin_prefetch(w + 64);
  }
  if (slot* s = slots_.at(fd_of(i + ahead))) {
    if (io_waiter* w = s->waiters.front()) __builtin_prefetch(w->who);
  }
}

bool poller::poll(const timespec* timeout, const std::uint64_t* mask) noexcept {
  if (!open()) return poll_by_ppoll(timeout, mask);
  if (epoll_ >= 0 && (!timeout || timeout->tv_sec || timeout->tv_nsec)) make_sure();
  if (epoll_ < 0) [[unlikely]]
    return poll_by_ppoll(timeout, mask);
  return ring_.has_under_way() ? poll_ring(timeout, mask) : poll_epoll(timeout, mask);
}

// For when ppoll(2) cannot take the descriptors (it takes none with RLIMIT_NOFILE 0): sleeps, then
// wakes all waiters to try again.
bool poller::nap(const timespec* timeout, const std::uint64_t* mask) noexcept {
  std::uint32_t word = 0;
  long r = sys::is_refused(SYS_ppoll) ? sys::futex_wait(&word, word, timeout)
                                      : sys::call(SYS_ppoll, nullptr, 0, timeout, mask, 8);
  slots_.for_each([this](slot& s, int) { wake_waiters(s, ~0u); });
  return r != -EINTR;
}

bool poller::poll_by_ppoll(const timespec* timeout, const std::uint64_t* mask) noexcept {
  if (doorbell_ >= 0 && !own_descriptors::is_kept(doorbell_, &doorbell_)) doorbell_ = -1;
  std::size_t most = waiting_ + 1, n = 0;
  constexpr std::size_t few = 64;
  pollfd own[few], *fds = most <= few ? own : static_cast<pollfd*>(sys::map(most * sizeof(pollfd)));
  int ring = doorbell_;
  if (ring >= 0 && fds) fds[n++] = {.fd = ring, .events = POLLIN, .revents = 0};
  slots_.for_each([&](slot& s, int fd) {
    short events = 0;
    bool any = false;
    for (io_waiter* w = s.waiters.front(); w; w = s.waiters.after(*w))
      events |= short(w->events), any = true;
    if (any && fds && n < most) fds[n++] = {.fd = fd, .events = events, .revents = 0};
  });
  // Without a doorbell no other thread can notify us, so naps are short.
  timespec short_nap{.tv_sec = 0, .tv_nsec = 2'000'000};
  bool blocks = !timeout || timeout->tv_sec || timeout->tv_nsec;
  if (!timeout || timeout->tv_sec || timeout->tv_nsec > short_nap.tv_nsec) {
    if (ring < 0) timeout = &short_nap;
  } else {
    short_nap = *timeout;
  }
  long r;
  if (!sys::is_refused(SYS_ppoll)) {
    r = sys::call(SYS_ppoll, fds, n, timeout, mask, 8);
    if (r < 0 && r != -EINTR) sys::turns_out_refused(SYS_ppoll);
  } else {
    r = sys::poll_now(fds, n);
    std::uint32_t word = 0;
    // (The mask stays as it is: no other call could set it.)
    if (r == 0 && blocks) sys::futex_wait(&word, word, &short_nap);
  }
  for (std::size_t i = 0; r > 0 && i < n; i++) {
    if (!fds[i].revents) continue;
    std::uint64_t count;
    if (fds[i].fd == ring) sys::read(ring, &count, sizeof count);
    else if (slot* s = slots_.at(fds[i].fd))
      wake_waiters(*s, std::uint32_t(std::uint16_t(fds[i].revents)));
  }
  if (fds != own && fds) sys::unmap(fds, most * sizeof(pollfd));
  if (r < 0 && r != -EINTR) return nap(&short_nap, mask);
  return r != -EINTR;
}

void poller::wake_waiters(slot& s, std::uint32_t events) noexcept {
  constexpr std::uint32_t always_reported = EPOLLERR | EPOLLHUP | POLLNVAL;
  for (io_waiter* w = s.waiters.front(); w;) {
    io_waiter* next = s.waiters.after(*w);
    if (w->events && (events & (w->events | always_reported))) {
      remove(*w);
      w->reported = events;
      if (w->alone) w->who->movable = true;
      report_.wake(w->who, wake::unparked);
    }
    w = next;
  }
}

bool poller::poll_epoll(const timespec* timeout, const std::uint64_t* mask) noexcept {
  if (sys::is_refused(SYS_epoll_pwait) && sys::is_refused(SYS_epoll_pwait2)) [[unlikely]] {
    if (epoll_ >= 0) go_without_epoll();
    return true;
  }
  int n = sys::epoll_wait(epoll_, events_, sizeof events_ / sizeof *events_, timeout, mask);
  if (n == -EINTR) return false;
  if (n < 0 && sys::turns_out_refused(SYS_epoll_pwait)) go_without_epoll();
  else if (n < 0) rebuild();
  for (int i = -3 * ahead; i < n; i++) {
    fetch_ahead(i, n);
    if (i < 0) continue;
    const epoll_event& e = events_[i];
    if (e.data.u64 >= doorbell::clock) [[unlikely]] {
      if (e.data.u64 != doorbell::rung)
        wake_all(e.data.u64 == doorbell::signals ? source::signals : source::clock);
      continue;
    }
    int fd = int(std::uint32_t(e.data.u64));
    slot* s = slots_.at(fd);
    if (!s || !s->is_registered(std::uint32_t(e.data.u64 >> 32))) continue;
    s->stream.tell(e.events);
    wake_waiters(*s, e.events);
    if (shares_ && s->waiters.empty()) [[unlikely]]
      drop_unwanted(*s, fd);
  }
  return true;
}

// An edge has come that may have been for nobody. If nobody waits for the descriptor for some edges
// on, its thread has probably moved, and each edge wakes this hub for nothing.
void poller::drop_unwanted(slot& s, int fd) noexcept {
  constexpr unsigned patience = 4;
  if (++s.unwanted < patience) return;
  s.unwanted = 0;
  if (s.registered.exchange(0, std::memory_order_acq_rel) == 0) return;
  s.stream.give_up();
  epoll_event e{};
  sys::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, &e);
}

// --- receiving by io_uring ---

bool poller::seems_empty(int fd) noexcept {
  std::uint32_t known = descriptors::generation(fd) + 1;
  slot* s = slots_.at(fd);
  if (!s || (s->received != known && s->registered.load(std::memory_order_relaxed) != known))
    return descriptors::is_connection(fd);
  return s->stream.is_drained();
}

bool poller::begin(ring_receive& r) noexcept {
  slot* s = ring_.open() && open() ? slots_.make(r.fd) : nullptr;
  if (!s) return false;
  bool settled;
  r.generation = descriptors::settled_generation(r.fd, settled);
  if (!settled) return false;
  if (s->received != r.generation + 1 && !s->is_registered(r.generation)) {
    s->stream.begin(r.fd);
    s->received = r.generation + 1;
  }
  if (ring_.is_full()) enter_ring(0, nullptr, nullptr);
  if (!ring_.add(r)) return false;
  enlist(*s, r);
  return true;
}

void poller::finish(ring_receive& r, long result) noexcept {
  r.result = result;
  remove(r);
  report_.wake(r.who, wake::unparked);
}

void poller::end(ring_receive& r) noexcept {
  for (bool asked = false; r.result == under_way;) {
    asked = asked || ring_.cancel(r);
    enter_ring(asked, nullptr, nullptr);
  }
  remove(r);
}

// The kernel forbids io_uring from now on (a seccomp filter). Operations under way will not be
// carried out any more, since that requires a call.
void poller::lose_ring() noexcept {
  ring_.lose();
  slots_.for_each([this](slot& s, int) {
    for (io_waiter* w = s.waiters.front(); w;) {
      io_waiter* next = s.waiters.after(*w);
      if (!w->events) finish(static_cast<ring_receive&>(*w), -ECANCELED);
      w = next;
    }
  });
}

// Returns false if a signal ended the wait.
bool poller::enter_ring(unsigned least, const timespec* timeout,
                        const std::uint64_t* mask) noexcept {
  long entered = ring_.enter(
      least, timeout, mask, [this](ring_receive& r, long result) { finish(r, result); },
      [this](const ring_receive& r) {
        __builtin_prefetch(r.who), __builtin_prefetch(slots_.at(r.fd));
      });
  if (entered == ring_lost) lose_ring();
  return entered != -EINTR;
}

bool poller::poll_ring(const timespec* timeout, const std::uint64_t* mask) noexcept {
  ring_.watch(epoll_);
  bool block = !timeout || timeout->tv_sec || timeout->tv_nsec;
  bool quiet = enter_ring(block && ring_.watches(), block ? timeout : nullptr, mask);
  if (ring_.has_seen_events()) {
    timespec none{};
    poll_epoll(&none, nullptr);
  }
  return quiet;
}

void poller::forget(int fd, std::uint32_t generation, bool ends) noexcept {
  slot* s = slots_.at(fd);
  if (!s) return;
  ring_.note_forgotten();
  std::uint32_t expected = generation + 1;
  if (!s->registered.compare_exchange_strong(expected, 0, std::memory_order_acq_rel) || ends)
    return;
  epoll_event e{};
  sys::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, &e);
}

void poller::wake_closed(int fd) noexcept {
  slot* s = slots_.at(fd);
  if (!s) return;
  std::uint32_t g = descriptors::generation(fd);
  // The registered file may be gone, and its registration with it: all waiters must try again.
  bool again = std::exchange(s->unsettled, false);
  if (again) s->registered.store(0, std::memory_order_relaxed);
  for (io_waiter* w = s->waiters.front(); w;) {
    io_waiter* next = s->waiters.after(*w);
    if (w->generation != g || (again && w->events)) {
      remove(*w);
      report_.wake(w->who, w->generation != g ? wake::closed : wake::unparked);
      if (!w->events) {
        // The kernel closes the file only when no operation uses it any more, so end this one.
        // (Others may end meanwhile, so start over.)
        end(static_cast<ring_receive&>(*w));
        next = s->waiters.front();
      }
    }
    w = next;
  }
}

void poller::wake_all_closed() noexcept {
  slots_.for_each([this](slot&, int fd) { wake_closed(fd); });
}

void poller::close_inherited() noexcept {
  if (child_shares_descriptors()) return;
  own_descriptors::release(epoll_, &epoll_);
  own_descriptors::release(doorbell_, &doorbell_);
  kept.close_inherited();
}

void poller::after_fork() noexcept {
  close_inherited();
  epoll_ = doorbell_ = -1;
  has_sources_ = false;
  kept.after_fork();
  for (auto& l : on_source_) l.abandon();
  waiting_ = 0;
  ring_.after_fork();
  without_epoll_ = false;
  slots_.drop();
}

}  // namespace tendril::core
