// The remote queue of a hub: other kernel threads push fibers here that the hub must wake, and
// threads that it is to run from now on.
//
// A fiber is in at most one such queue. Whoever wants to push it claims it first, and looks for its
// hub only then: the hub's own thread, too, must claim a fiber before it gives it to another hub.
// So the hub does not change between the look and the push.
#pragma once

#include "base/atomic.hpp"
#include "fiber/fiber.hpp"

namespace tendril::core {

class remote_queue {
 public:
  // Any thread. False: the fiber is in a queue already, whose hub will find what the caller has
  // stored before; or somebody is about to push it.
  static bool claim(fiber* f) noexcept {
    return !f->in_remote_queue.exchange(true, std::memory_order_acq_rel);
  }
  // Any thread that has claimed the fiber. The queue holds a reference to each fiber in it.
  void push(fiber* f) noexcept {
    fiber_ref(f);
    fiber* head = head_.load(std::memory_order_relaxed);
    do f->next_in_remote_queue = head;
    while (!head_.compare_exchange_weak(head, f, std::memory_order_seq_cst));
  }
  bool empty() const noexcept { return head_.load(std::memory_order_seq_cst) == nullptr; }
  // To be called by the hub's own thread: calls wake(fiber) for each, in the order of their
  // arrival.
  template <class F>
  void drain(F wake) noexcept {
    fiber* f = head_.exchange(nullptr, std::memory_order_acquire);
    fiber* in_order = nullptr;
    while (f) {
      fiber* next = f->next_in_remote_queue;
      f->next_in_remote_queue = in_order;
      in_order = f;
      f = next;
    }
    while (in_order) {
      fiber* next = in_order->next_in_remote_queue;
      // From here on another thread may push the fiber again. One that could not has stored what it
      // wakes the fiber for before, and wake() sees that: a plain store would not do, since later
      // loads may overtake it.
      in_order->in_remote_queue.exchange(false, std::memory_order_acq_rel);
      wake(in_order);
      fiber_unref(in_order);
      in_order = next;
    }
  }
  void clear() noexcept { head_ = nullptr; }

 private:
  atomic<fiber*> head_{nullptr};
};

}  // namespace tendril::core
