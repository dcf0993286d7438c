// An intrusive doubly linked list: nodes live in the objects that are listed, so linking never
// allocates and unlinking needs no search.
#pragma once

namespace tendril::core {

struct list_node {
  list_node* next = nullptr;
  list_node* prev = nullptr;

  bool linked() const noexcept { return next != nullptr; }
  void unlink() noexcept {
    if (!next) return;
    prev->next = next;
    next->prev = prev;
    next = prev = nullptr;
  }
};

// T derives from list_node. A list that is all zero bytes is empty too (it is set up by its first
// push), which lets tables of lists come straight from the kernel's zeroed pages.
template <class T>
class list {
 public:
  bool empty() const noexcept { return !head_.next || head_.next == &head_; }
  void push_back(T& item) noexcept {
    if (!head_.next) head_.next = head_.prev = &head_;
    list_node& n = item;
    n.next = &head_;
    n.prev = head_.prev;
    head_.prev->next = &n;
    head_.prev = &n;
  }
  T* front() const noexcept { return empty() ? nullptr : static_cast<T*>(head_.next); }
  // The item after `item`, or null at the end.
  T* after(const T& item) const noexcept {
    return item.next == &head_ ? nullptr : static_cast<T*>(item.next);
  }
  T* pop_front() noexcept {
    T* item = front();
    if (item) item->unlink();
    return item;
  }
  // Forgets all items without touching them (after fork, when they belong to the parent process).
  void abandon() noexcept { head_.next = head_.prev = nullptr; }

 private:
  list_node head_;
};

}  // namespace tendril::core
