// Queues between fibers: queue (first in, first out), lifo_queue, priority_queue, joinable_queue.
// (gevent.queue, Python's queue)
//
//   tendril::queue<std::string> lines(100);          // at most a hundred; then put() waits
//   auto reader = tendril::spawn([&] { while (...) lines.put(read_line()); lines.shutdown(); });
//   for (auto& line : lines) use(line);               // until shutdown
//
// Any kernel thread may use them. Waiters are served in the order of their arrival; a later caller
// cannot overtake. If a getter is killed after an item was handed to it, the item goes to the next
// getter, or back into the queue. Waits are cancellation points: they throw what kill() or a
// timeout delivers, and loop_exit if nothing can end them. Operations that do not have to wait are
// not.
//
// When a time-out passes, get() returns an empty optional and put() returns false, where gevent
// throws Empty and Full; the item stays with the caller. For a queue without room, a rendezvous,
// see channel.hpp.
#pragma once

#include "detail/cxx20.hpp"

#include <algorithm>
#include <deque>
#include <functional>
#include <iterator>
#include <limits>
#include <optional>
#include <vector>

#include "detail/next_iterator.hpp"
#include "detail/waiting.hpp"

namespace tendril {

// Thrown when an item is put after shutdown(), or requested from a queue that is shut down and
// empty. (Python: queue.ShutDown)
class queue_shutdown : public error {
 public:
  queue_shutdown() : error("the queue has been shut down") {}
};

namespace detail {

// The order in which items leave the queue.
template <class T>
struct fifo_order {
  std::deque<T> items;
  void push(T&& item) { items.push_back(std::move(item)); }
  const T& top() const { return items.front(); }
  T pop() {
    T item = std::move(items.front());
    items.pop_front();
    return item;
  }
  void put_back(T&& item) { items.push_front(std::move(item)); }
};
template <class T>
struct lifo_order {
  std::vector<T> items;
  void push(T&& item) { items.push_back(std::move(item)); }
  const T& top() const { return items.back(); }
  T pop() {
    T item = std::move(items.back());
    items.pop_back();
    return item;
  }
  void put_back(T&& item) { push(std::move(item)); }
};
template <class T, class Less>
struct least_first {
  std::vector<T> items;
  static bool later(const T& a, const T& b) { return Less{}(b, a); }
  void push(T&& item) {
    items.push_back(std::move(item));
    std::ranges::push_heap(items, later);
  }
  const T& top() const { return items.front(); }
  T pop() {
    std::ranges::pop_heap(items, later);
    T item = std::move(items.back());
    items.pop_back();
    return item;
  }
  void put_back(T&& item) { push(std::move(item)); }
};

}  // namespace detail

// The interface of all queues. `Order` determines the order in which items leave.
template <class T, class Order>
class basic_queue {
  static_assert(std::movable<T>, "the values of a queue must be movable");

 public:
  using value_type = T;
  static constexpr std::size_t unbounded = std::numeric_limits<std::size_t>::max();

  // A queue for at most `bound` items; throws `error` for 0.
  explicit basic_queue(std::size_t bound = unbounded) : bound_(bound) {
    if (bound == 0) throw error("a queue needs room for at least one item; see channel");
  }
  basic_queue(const basic_queue&) = delete;
  basic_queue& operator=(const basic_queue&) = delete;

  // The number of items that can be got now. Items of fibers that wait in put() are not counted.
  // (gevent: qsize)
  std::size_t size() const noexcept {
    detail::held h(lock_);
    return stored();
  }
  // Whether there is no item that could be got now.
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  // Whether put() would wait.
  bool full() const noexcept { return size() >= bound_; }
  // The maximum number of items.
  std::size_t bound() const noexcept { return bound_; }

  // Puts an item in; waits while the queue is full. Throws queue_shutdown after shutdown(). If the
  // fiber is killed while it waits, the item may or may not have been taken. (gevent: put)
  void put(const T& item) { put(T(item)); }
  [[gnu::always_inline]] void put(T&& item) { put_until(item, detail::never); }
  // The same, for at most `timeout`. Returns whether the item was taken.
  template <class Rep, class Period>
  [[nodiscard("it tells whether the item was taken")]] bool put(
      const T& item, std::chrono::duration<Rep, Period> timeout) {
    return put(T(item), timeout);
  }
  template <class Rep, class Period>
  [[nodiscard("it tells whether the item was taken")]] bool put(
      T&& item, std::chrono::duration<Rep, Period> timeout) {
    return try_put(std::move(item)) || put_until(item, detail::later(timeout));
  }
  // Puts the item in if there is room, and returns whether it did. Never waits. Throws
  // queue_shutdown. (gevent: put_nowait)
  [[nodiscard("it tells whether the item was taken")]] bool try_put(const T& item) {
    return try_put(T(item));
  }
  [[nodiscard("it tells whether the item was taken")]] bool try_put(T&& item) {
    detail::held h(lock_);
    return put_now(item);
  }

  // Takes the next item out; waits while there is none. Throws queue_shutdown if the queue is shut
  // down and empty. (gevent: get)
  [[gnu::always_inline]] T get() { return std::move(*required(get_until(detail::never, false))); }
  // The same, for at most `timeout`. Returns an empty optional if no item came.
  template <class Rep, class Period>
  [[nodiscard("it has the item, which has left the queue")]] std::optional<T> get(
      std::chrono::duration<Rep, Period> timeout) {
    return get_until(detail::later(timeout), false);
  }
  // Takes the next item if there is one. Never waits. (gevent: get_nowait)
  [[nodiscard("it has the item, which has left the queue")]] std::optional<T> try_get() {
    return get_until(at_once, false);
  }

  // Returns a copy of the item that get() would take, and leaves it in the queue. Waits and throws
  // as get(), with a time-out or try_ likewise. (gevent: peek)
  [[nodiscard]] T peek()
    requires std::copy_constructible<T>
  {
    return std::move(*required(get_until(detail::never, true)));
  }
  template <class Rep, class Period>
    requires std::copy_constructible<T>
  [[nodiscard]] std::optional<T> peek(std::chrono::duration<Rep, Period> timeout) {
    return get_until(detail::later(timeout), true);
  }
  [[nodiscard]] std::optional<T> try_peek()
    requires std::copy_constructible<T>
  {
    return get_until(at_once, true);
  }

  // Refuses further items. Items in the queue can still be got, unless `immediate` drops them.
  // Fibers that wait in put(), or in get() of an empty queue, get queue_shutdown. Never waits.
  // (Python 3.13: Queue.shutdown)
  void shutdown(bool immediate = false) {
    Order dropped;  // destroyed outside the biased_lock, since an item's destructor may do anything
    detail::held h(lock_);
    shut_ = true;
    if (immediate) {
      std::swap(dropped, order_);
      finished(dropped.items.size());
    }
    while (detail::waiter* w = putters_.pop()) refuse<putter>(*w);
    while (detail::waiter* w = getters_.pop()) refuse<getter>(*w);
  }
  // Whether shutdown() was called.
  bool is_shutdown() const noexcept {
    detail::held h(lock_);
    return shut_;
  }

  // For `for (T& item : queue)`: gets items until the queue is shut down and empty.
  auto begin() { return detail::next_iterator<basic_queue, T>(*this); }
  std::default_sentinel_t end() const noexcept { return {}; }
  // Waits for the next item; returns an empty optional if the queue is shut down and empty.
  std::optional<T> next() {
    try {
      return get_until(detail::never, false);
    } catch (const queue_shutdown&) {
      return std::nullopt;
    }
  }

 protected:
  // Counts for joinable_queue: items that were put and for which task_done() has not been called.
  void finished(std::size_t n) noexcept {
    unfinished_ -= n;
    if (unfinished_ == 0) detail::grant_all(joiners_);
  }
  mutable detail::biased_lock lock_;
  std::size_t unfinished_ = 0;
  detail::wait_list joiners_;

 private:
  struct putter : detail::waiter {
    T* item = nullptr;
    bool refused = false;
  };
  struct getter : detail::waiter {
    std::optional<T> item;
    bool peeks = false;
    bool refused = false;
  };
  static constexpr auto at_once = clock::time_point::min();

  template <class W>
  static void refuse(detail::waiter& w) noexcept {
    static_cast<W&>(w).refused = true;
    detail::grant(w);
  }
  static std::optional<T>&& required(std::optional<T>&& item) {
    if (!item) throw queue_shutdown();
    return std::move(item);
  }
  std::size_t stored() const noexcept { return order_.items.size(); }

  // Invariant: getters wait only while nothing is stored, putters only while there is no room.
  bool give_to_getter(T& item) {
    while (!getters_.empty()) {
      getter& g = *static_cast<getter*>(getters_.front());
      if constexpr (std::copy_constructible<T>) {
        if (g.peeks) {
          g.item.emplace(std::as_const(item));
          detail::grant(*getters_.pop());
          continue;
        }
      }
      g.item.emplace(std::move(item));
      detail::grant(*getters_.pop());
      return true;
    }
    return false;
  }
  bool put_now(T& item) {
    if (shut_) throw queue_shutdown();
    if (stored() >= bound_) return false;
    if (!give_to_getter(item)) order_.push(std::move(item));
    unfinished_++;
    return true;
  }
  // Returns true if the item was put; otherwise w has been added to the waiters.
  bool put_or_enlist(putter& w, T& item) {
    detail::held h(lock_);
    if (put_now(item)) return true;
    w.item = &item;
    w.who = core::fiber_current();
    putters_.push(w);
    return false;
  }
  // Inline: see core::arrival.
  [[gnu::always_inline]] bool put_until(T& item, clock::time_point t) {
    putter w;
    if (put_or_enlist(w, item)) return true;
    static constexpr auto what = detail::waits_for(core::wait_kind::queue);
    bool taken = detail::suspend(lock_, putters_, w, t, what, [] {});
    if (w.refused) throw queue_shutdown();
    return taken;
  }
  std::optional<T> take() {
    std::optional<T> item(order_.pop());
    while (stored() < bound_ && !putters_.empty()) {
      order_.push(std::move(*static_cast<putter*>(putters_.front())->item));
      unfinished_++;
      detail::grant(*putters_.pop());
    }
    return item;
  }
  void put_back(T& item) {
    detail::held h(lock_);
    if (!give_to_getter(item)) order_.put_back(std::move(item));
  }
  // The same for a getter. With `at_once`, returns true without an item instead of waiting.
  bool get_or_enlist(getter& w, bool at_once) {
    detail::held h(lock_);
    if (stored() > 0) {
      if constexpr (std::copy_constructible<T>) {
        if (w.peeks) {
          w.item = order_.top();
          return true;
        }
      }
      w.item = take();
      return true;
    }
    if (at_once) return true;
    if (shut_) throw queue_shutdown();
    w.who = core::fiber_current();
    getters_.push(w);
    return false;
  }
  // Returns an empty optional if no item came in time. Inline: see core::arrival.
  [[gnu::always_inline]] std::optional<T> get_until(clock::time_point t, bool peeks) {
    getter w;
    w.peeks = peeks;
    if (get_or_enlist(w, t == at_once)) return std::move(w.item);
    static constexpr auto what = detail::waits_for(core::wait_kind::queue);
    detail::suspend(lock_, getters_, w, t, what, [&] {
      if (!w.peeks && w.item) put_back(*w.item);
    });
    if (w.refused) throw queue_shutdown();
    return std::move(w.item);
  }

  std::size_t bound_;
  Order order_;
  bool shut_ = false;
  detail::wait_list putters_;
  detail::wait_list getters_;
};

// First in, first out. (gevent.queue.Queue)
template <class T>
class queue : public basic_queue<T, detail::fifo_order<T>> {
 public:
  using basic_queue<T, detail::fifo_order<T>>::basic_queue;
};

// Last in, first out. (gevent.queue.LifoQueue)
template <class T>
class lifo_queue : public basic_queue<T, detail::lifo_order<T>> {
 public:
  using basic_queue<T, detail::lifo_order<T>>::basic_queue;
};

// The least item leaves first, as in Python (std::priority_queue returns the greatest). Equal items
// leave in any order. (gevent.queue.PriorityQueue)
template <class T, class Less = std::less<T>>
class priority_queue : public basic_queue<T, detail::least_first<T, Less>> {
 public:
  using basic_queue<T, detail::least_first<T, Less>>::basic_queue;
};

// A queue that counts the items that have not been processed yet. (gevent.queue.JoinableQueue)
template <class T>
class joinable_queue : public basic_queue<T, detail::fifo_order<T>> {
  using base = basic_queue<T, detail::fifo_order<T>>;

 public:
  using base::base;

  // Reports that one item has been processed. Never waits. Throws `error` if it is called more
  // often than items were put. (gevent: task_done)
  void task_done() {
    detail::held h(this->lock_);
    if (this->unfinished_ == 0) throw error("task_done() called more often than items were put");
    this->finished(1);
  }
  // The number of items for which task_done() has not been called.
  std::size_t unfinished() const noexcept {
    detail::held h(this->lock_);
    return this->unfinished_;
  }
  // Waits until task_done() was called for every item that was put. A cancellation point if it has
  // to wait. (gevent: join)
  void join() { join_until(detail::never); }
  // The same, for at most `timeout`. Returns whether that is so.
  template <class Rep, class Period>
  bool join(std::chrono::duration<Rep, Period> timeout) {
    return join_until(detail::later(timeout));
  }

 private:
  bool join_until(clock::time_point t) {
    detail::waiter w;
    {
      detail::held h(this->lock_);
      if (this->unfinished_ == 0) return true;
      w.who = core::fiber_current();
      this->joiners_.push(w);
    }
    static constexpr auto what = detail::waits_for(core::wait_kind::queue);
    return detail::suspend(this->lock_, this->joiners_, w, t, what, [] {});
  }
};

}  // namespace tendril
