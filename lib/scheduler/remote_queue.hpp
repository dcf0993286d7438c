// The remote queue of a hub: other kernel threads push fibers here that the hub must wake.
#pragma once

#include "base/atomic.hpp"
#include "fiber/fiber.hpp"

namespace tendril::core {

class remote_queue {
 public:
  // Any thread. A fiber that is already in the queue is not added again. The queue holds a
  // reference to each fiber in it.
  void push(fiber* f) noexcept {
    if (f->in_remote_queue.exchange(true, std::memory_order_acq_rel)) return;
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
      // From here on another thread may push the fiber again. An exchange, so that what a push that
      // has found the fiber here was for is seen by the fiber.
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
