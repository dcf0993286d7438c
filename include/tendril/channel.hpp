// Channels between fibers and select() over several of them, as in Go and curio. A channel without
// capacity is a rendezvous: send() waits until a receiver takes the value. A channel of capacity n
// buffers n values.
//
//   tendril::channel<int> numbers, quit;
//   tendril::select(tendril::on_receive(numbers, [&](std::optional<int> n) { if (n) sum += *n; }),
//                   tendril::on_receive(quit, [&](auto) { done = true; }),
//                   tendril::after(1s, [&] { complain(); }));
//
// Any kernel thread may use them. Waiters are served in the order of their arrival. Waits are
// cancellation points: they throw what kill() or a timeout delivers, and loop_exit if nothing can
// end them. If a receiver is killed after a value was handed to it, the value goes to the next
// receiver.
#pragma once

#include "detail/cxx20.hpp"

#include <algorithm>
#include <array>
#include <deque>
#include <functional>
#include <optional>
#include <tuple>

#include "detail/next_iterator.hpp"
#include "detail/waiting.hpp"

namespace tendril {

// Thrown by a send to a closed channel.
class channel_closed : public error {
 public:
  channel_closed() : error("the channel is closed") {}
};

namespace detail {

// A select() that waits. Whoever claims it first (a peer, or the select() itself) decides which
// case happens.
struct selection {
  core::fiber* who = nullptr;
  std::atomic<bool> claimed{false};
  std::size_t chosen = 0;
  bool claim() noexcept { return !claimed.exchange(true, std::memory_order_acq_rel); }
};

// A waiting sender or receiver: on its own, or as one case of a select().
template <class T>
struct channel_party : waiter {
  explicit channel_party(core::fiber* f = nullptr) noexcept : waiter(f) {}

  union {
    std::optional<T>* into;  // a receiver's; stays empty if the channel is closed
    T* from;                 // a sender's
  };
  bool closed = false;
  selection* of = nullptr;
  std::size_t place;  // of the case in the select(), if `of` is set

  // For a case of a select(): claims the select(); false if another case has claimed it.
  bool claim() noexcept {
    if (!of->claim()) return false;
    of->chosen = place;
    who = of->who;
    return true;
  }
};

}  // namespace detail

template <class T>
class channel {
  static_assert(std::movable<T>, "the values of a channel must be movable");
  using party = detail::channel_party<T>;

 public:
  using value_type = T;

  // A channel that buffers `capacity` values; 0: a rendezvous.
  explicit channel(std::size_t capacity = 0) : capacity_(capacity) {}
  channel(const channel&) = delete;
  channel& operator=(const channel&) = delete;

  // The number of values that it can buffer.
  std::size_t capacity() const noexcept { return capacity_; }
  // The number of buffered values.
  std::size_t size() const noexcept {
    detail::held h(lock_);
    return buffer_.size();
  }
  // Whether close() was called.
  bool closed() const noexcept {
    detail::held h(lock_);
    return closed_;
  }

  // Sends a value: waits until a receiver takes it or the buffer has room. Throws channel_closed if
  // the channel is closed, before or during the wait. If the fiber is killed while it waits, the
  // value may or may not have been received.
  [[gnu::always_inline]] void send(const T& value) { send(T(value)); }
  [[gnu::always_inline]] void send(T&& value) { send_until(value, detail::never); }
  // The same, for at most `timeout`. Returns whether the value was sent; if not, `value` is
  // unchanged.
  template <class Rep, class Period>
  [[nodiscard("it tells whether the value was sent")]] bool send(
      const T& value, std::chrono::duration<Rep, Period> timeout) {
    return send(T(value), timeout);
  }
  template <class Rep, class Period>
  [[nodiscard("it tells whether the value was sent")]] bool send(
      T&& value, std::chrono::duration<Rep, Period> timeout) {
    return send_until(value, detail::later(timeout));
  }
  // Sends the value if that is possible without waiting, and returns whether it was; if not,
  // `value` is unchanged. Throws channel_closed.
  [[nodiscard("it tells whether the value was sent")]] bool try_send(const T& value) {
    return try_send(T(value));
  }
  [[nodiscard("it tells whether the value was sent")]] bool try_send(T&& value) {
    detail::held h(lock_);
    return send_now(value);
  }

  // Receives a value, and waits for one if necessary. Returns an empty optional if the channel is
  // closed and empty.
  [[gnu::always_inline]] std::optional<T> receive() { return receive_until(detail::never); }
  // The same, for at most `timeout`: then throws timeout_error.
  template <class Rep, class Period>
  std::optional<T> receive(std::chrono::duration<Rep, Period> timeout) {
    return receive_until(detail::later(timeout));
  }
  // Receives a value if that is possible without waiting. Returns an empty optional if no value is
  // available now, also if the channel is closed and empty.
  [[nodiscard("it has the value, which has left the channel")]] std::optional<T> try_receive() {
    std::optional<T> value;
    detail::held h(lock_);
    receive_now(value);
    return value;
  }

  // Closes the channel: waiting senders get channel_closed; receivers get the buffered values, then
  // an empty optional. A second close has no effect. Never waits.
  void close() noexcept {
    detail::held h(lock_);
    closed_ = true;
    for (auto* list : {&senders_, &receivers_}) {
      while (party* p = first(*list)) {
        p->closed = true;
        done(*list, *p);
      }
    }
  }

  // For `for (T& value : channel)`: receives until the channel is closed and empty.
  auto begin() { return detail::next_iterator<channel, T>(*this); }
  std::default_sentinel_t end() const noexcept { return {}; }
  // receive(), for iteration.
  std::optional<T> next() { return receive(); }

 private:
  template <class U, class F>
  friend class receive_case;
  template <class U, class F>
  friend class send_case;

  // Returns the first party of the list that can be served, claimed if it belongs to a select().
  // done() takes it off the list and wakes it.
  [[gnu::always_inline]] static party* first(detail::wait_list& list) noexcept {
    party* p = static_cast<party*>(list.front());
    return !p || !p->of ? p : first_claimed(list);
  }
  [[gnu::noinline]] static party* first_claimed(detail::wait_list& list) noexcept {
    while (detail::waiter* w = list.front()) {
      party* p = static_cast<party*>(w);
      if (!p->of || p->claim()) return p;
      list.pop();
      p->granted.store(true, std::memory_order_release);  // off the list
    }
    return nullptr;
  }
  [[gnu::always_inline]] static void done(detail::wait_list& list, party& p) noexcept {
    list.remove_first(p);
    detail::grant_fiber(p);
  }

  [[gnu::always_inline]] bool give(T& value) {
    party* r = first(receivers_);
    if (!r) return false;
    r->into->emplace(std::move(value));
    done(receivers_, *r);
    return true;
  }
  // Both return whether the operation is complete. The rendezvous path is inline and the buffer's
  // is not: inlining both took a quarter of a hand-over's time.
  [[gnu::always_inline]] bool send_now(T& value) {
    if (closed_) [[unlikely]]
      throw_closed();
    if (give(value)) return true;
    return capacity_ != 0 && keep(value);
  }
  [[gnu::always_inline]] bool receive_now(std::optional<T>& value) {
    if (!buffer_.empty()) return take(value);
    if (party* s = first(senders_)) {
      value.emplace(std::move(*s->from));
      done(senders_, *s);
      return true;
    }
    return closed_;
  }
  [[gnu::noinline]] bool keep(T& value) {
    if (buffer_.size() >= capacity_) return false;
    buffer_.push_back(std::move(value));
    return true;
  }
  [[gnu::noinline]] bool take(std::optional<T>& value) {
    value.emplace(std::move(buffer_.front()));
    buffer_.pop_front();
    if (buffer_.size() < capacity_) {
      if (party* s = first(senders_)) {
        buffer_.push_back(std::move(*s->from));
        done(senders_, *s);
      }
    }
    return true;
  }
  [[noreturn, gnu::noinline]] static void throw_closed() { throw channel_closed(); }
  [[noreturn, gnu::noinline]] static void throw_timed_out() {
    throw timeout_error("receive() from a channel timed out");
  }
  void put_back(T& value) {
    detail::held h(lock_);
    if (!give(value)) buffer_.push_front(std::move(value));
  }
  // Inline: see core::arrival.
  [[gnu::always_inline]] bool send_until(T& value, clock::time_point t) {
    detail::held h(lock_);
    if (send_now(value)) return true;
    party p(core::fiber_current());
    p.from = &value;
    senders_.push(p);
    h.release();
    static constexpr auto what = detail::waits_for(core::wait_kind::queue);
    bool sent = detail::suspend(lock_, senders_, p, t, what, [] {});
    if (p.closed) [[unlikely]]
      throw_closed();
    return sent;
  }
  [[gnu::always_inline]] std::optional<T> receive_until(clock::time_point t) {
    std::optional<T> value;
    detail::held h(lock_);
    if (receive_now(value)) return value;
    party p(core::fiber_current());
    p.into = &value;
    receivers_.push(p);
    h.release();
    static constexpr auto what = detail::waits_for(core::wait_kind::queue);
    bool got = detail::suspend(lock_, receivers_, p, t, what, [&] {
      if (value) put_back(*value);
    });
    if (!got) [[unlikely]]
      throw_timed_out();
    return value;
  }

  std::size_t capacity_;
  mutable detail::biased_lock lock_;
  std::deque<T> buffer_;
  bool closed_ = false;
  detail::wait_list senders_;
  detail::wait_list receivers_;
};

// One alternative of a select(). Made by the functions below for a single call.
class [[nodiscard("a case does nothing by itself: pass it to select()")]] select_case {
 public:
  virtual ~select_case() = default;
  virtual detail::biased_lock* biased_lock() noexcept = 0;
  // now() and enlist() are called with the biased_lock held. now(): performs the operation if it
  // can happen at once. enlist(): waits for it from now on.
  virtual bool now() = 0;
  virtual void enlist(detail::selection& s, std::size_t place) = 0;
  virtual void delist() noexcept = 0;  // stops waiting for it
  virtual void put_back() = 0;         // it happened, but the fiber has been killed: undoes it
  virtual void run() = 0;              // it happened: calls the program's function
  // For a case without a channel: the time at which it happens, unless another case happens first.
  virtual clock::time_point deadline() const noexcept { return detail::never; }
};

template <class T, class F>
class [[nodiscard("a case does nothing by itself: pass it to select()")]] receive_case final
    : public select_case {
 public:
  receive_case(channel<T>& from, F f) : channel_(from), call_(std::move(f)) {}
  detail::biased_lock* biased_lock() noexcept override { return &channel_.lock_; }
  bool now() override { return channel_.receive_now(value_); }
  void enlist(detail::selection& s, std::size_t place) override {
    party_.of = &s;
    party_.place = place;
    party_.into = &value_;
    channel_.receivers_.push(party_);
  }
  void delist() noexcept override {
    detail::held h(channel_.lock_);
    if (!party_.is_granted()) channel_.receivers_.remove(party_);
  }
  void put_back() override {
    if (value_) channel_.put_back(*value_);
  }
  void run() override { call_(std::move(value_)); }

 private:
  channel<T>& channel_;
  F call_;
  std::optional<T> value_;
  detail::channel_party<T> party_;
};

template <class T, class F>
class [[nodiscard("a case does nothing by itself: pass it to select()")]] send_case final
    : public select_case {
 public:
  send_case(channel<T>& to, T value, F f)
      : channel_(to), value_(std::move(value)), call_(std::move(f)) {}
  detail::biased_lock* biased_lock() noexcept override { return &channel_.lock_; }
  bool now() override { return channel_.send_now(value_); }
  void enlist(detail::selection& s, std::size_t place) override {
    party_.of = &s;
    party_.place = place;
    party_.from = &value_;
    channel_.senders_.push(party_);
  }
  void delist() noexcept override {
    detail::held h(channel_.lock_);
    if (!party_.is_granted()) channel_.senders_.remove(party_);
  }
  void put_back() override {}
  void run() override {
    if (party_.closed) throw channel_closed();
    call_();
  }

 private:
  channel<T>& channel_;
  T value_;
  F call_;
  detail::channel_party<T> party_;
};

template <class F>
class [[nodiscard("a case does nothing by itself: pass it to select()")]] after_case final
    : public select_case {
 public:
  after_case(clock::time_point t, F f) : deadline_(t), call_(std::move(f)) {}
  detail::biased_lock* biased_lock() noexcept override { return nullptr; }
  bool now() override { return false; }
  void enlist(detail::selection&, std::size_t) override {}
  void delist() noexcept override {}
  void put_back() override {}
  void run() override { call_(); }
  clock::time_point deadline() const noexcept override { return deadline_; }

 private:
  clock::time_point deadline_;
  F call_;
};

// A case that receives from the channel and calls f(std::optional<T>); the optional is empty if the
// channel is closed. The channel must outlive the select().
template <class T, class F>
  requires std::invocable<F&, std::optional<T>>
receive_case<T, F> on_receive(channel<T>& from, F f) {
  return {from, std::move(f)};
}
// A case that sends the value and calls f(). If the channel is closed, select() throws
// channel_closed.
template <class T, std::invocable F>
send_case<T, F> on_send(channel<T>& to, std::type_identity_t<T> value, F f) {
  return {to, std::move(value), std::move(f)};
}
// A case that calls f() if no other case has happened within `d`. (Go: time.After)
template <class Rep, class Period, std::invocable F>
after_case<F> after(std::chrono::duration<Rep, Period> d, F f) {
  return {detail::later(d), std::move(f)};
}
// A case that calls f() if no other case can happen at once, so that select() does not wait. (Go:
// default)
template <std::invocable F>
after_case<F> otherwise(F f) {
  return {clock::time_point::min(), std::move(f)};
}

namespace detail {

// Holds the biased_locks of several channels, each locked once, in address order to avoid deadlock.
template <std::size_t N>
class held_all {
 public:
  explicit held_all(const std::array<select_case*, N>& cases) noexcept {
    for (auto* c : cases) {
      if (biased_lock* x = c->biased_lock()) held_[count_++].first = x;
    }
    std::sort(held_.begin(), held_.begin() + count_,
              [](auto& a, auto& b) { return std::less<>()(a.first, b.first); });
    count_ = std::unique(held_.begin(), held_.begin() + count_,
                         [](auto& a, auto& b) { return a.first == b.first; }) -
             held_.begin();
    for (std::ptrdiff_t i = 0; i < count_; i++) held_[i].second = held_[i].first->lock();
  }
  ~held_all() {
    while (count_ > 0) count_--, held_[count_].first->unlock(held_[count_].second);
  }
  held_all(const held_all&) = delete;

 private:
  std::array<std::pair<biased_lock*, bool>, N> held_{};
  std::ptrdiff_t count_ = 0;
};

template <std::size_t N>
std::size_t select_any(const std::array<select_case*, N>& cases) {
  selection s;
  s.who = core::fiber_current();
  std::size_t timed = N;  // index of the case with the earliest deadline
  for (std::size_t i = 0; i < N; i++) {
    if (cases[i]->biased_lock()) continue;
    if (timed == N || cases[i]->deadline() < cases[timed]->deadline()) timed = i;
  }
  clock::time_point deadline = timed == N ? never : cases[timed]->deadline();
  {
    held_all<N> h(cases);
    for (std::size_t i = 0; i < N; i++) {
      if (cases[i]->biased_lock() && cases[i]->now()) return i;
    }
    if (deadline == clock::time_point::min()) return timed;
    for (std::size_t i = 0; i < N; i++) cases[i]->enlist(s, i);
  }
  struct delist_all {
    const std::array<select_case*, N>& cases;
    bool active = true;
    void operator()() noexcept {
      if (!std::exchange(active, false)) return;
      for (auto* c : cases) c->delist();
    }
    ~delist_all() { (*this)(); }
  } delist{cases};
  static constexpr auto what = waits_for(core::wait_kind::queue);
  for (;;) {
    core::wake why = park_raw(s.who, deadline, what);
    if (why == core::wake::unparked && !s.claimed.load(std::memory_order_acquire)) continue;
    bool mine = s.claim();  // else a peer has decided
    delist();               // and has finished with our cases by now
    if (why == core::wake::interrupted) {
      if (!mine) cases[s.chosen]->put_back();
      checked(why, &what);
    }
    if (!mine) return s.chosen;
    if (why == core::wake::timeout) return timed;
    checked(why, &what);
  }
}

}  // namespace detail

// Waits until one of the cases can happen, performs it, calls its function, and returns its index
// in the argument list. If several can happen at once, the first of them does. The function may
// wait; what it throws leaves select(). Throws channel_closed for a send to a closed channel. (Go:
// select; curio: select)
template <std::derived_from<select_case>... Cases>
  requires(sizeof...(Cases) > 0)
std::size_t select(Cases&&... cases) {
  std::array<select_case*, sizeof...(Cases)> all{&cases...};
  std::size_t chosen = detail::select_any(all);
  all[chosen]->run();
  return chosen;
}

}  // namespace tendril
