// Fiber-local storage: a variable with a separate value for each fiber. (gevent.local; contextvars
// are similar)
//
//   tendril::local<int> depth;            // begins as int{} in each fiber
//   tendril::local<session> s([] { return session(user()); });   // begins as the result of this call
//   *depth += 1;
//
// Fibers of any kernel thread may use the same variable; each sees only its own value. A value is
// made at its fiber's first access. It is destroyed with its fiber, or with the variable if that
// ends first; when the variable is destroyed, no fiber of another kernel thread may be using it.
// Main fibers' values are destroyed at the end of their kernel thread, except those of the
// process's first thread, which are never destroyed.
#pragma once

#include "detail/cxx20.hpp"

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include "detail/biased_lock.hpp"
#include "detail/exchange.hpp"

namespace tendril {

namespace detail {

struct local_value;

// Shared by a variable and its values; the last of them to go destroys it.
struct local_variable {
  biased_lock guard;
  local_value* first = nullptr;
};

// A value. It is on its fiber's list, and on its variable's list until the fiber or the variable
// ends.
struct local_value {
  explicit local_value(std::shared_ptr<local_variable> v) : variable(std::move(v)) {}
  virtual ~local_value() = default;
  virtual void end() noexcept = 0;

  std::shared_ptr<local_variable> variable;
  local_value* next_in_fiber = nullptr;
  local_value* next = nullptr;
  local_value* prev = nullptr;
  bool listed = false;
  std::atomic<bool> ended{false};  // destroyed, and no longer used by the thread that did it

  // Takes the value off the variable's list. Only the caller that gets `true` may end it.
  bool delist() noexcept {
    held h(variable->guard);
    if (!listed) return false;
    listed = false;
    (prev ? prev->next : variable->first) = next;
    if (next) next->prev = prev;
    return true;
  }
  void enlist() noexcept {
    held h(variable->guard);
    listed = true;
    next = variable->first;
    if (next) next->prev = this;
    variable->first = this;
  }
};

inline void drop_local_values(void* locals) noexcept {
  auto* v = static_cast<local_value*>(locals);
  while (v) {
    local_value* next = v->next_in_fiber;
    if (v->delist()) v->end();
    // The variable's destructor is ending it on another kernel thread.
    else
      while (!v->ended.load(std::memory_order_acquire)) core::processor_yield();
    delete v;
    v = next;
  }
}

}  // namespace detail

template <class T>
class local {
 public:
  local()
    requires std::default_initializable<T>
      : local([] { return T{}; }) {}
  // A variable whose value in each fiber begins as what make() returns at the fiber's first access.
  template <std::invocable F>
    requires std::convertible_to<std::invoke_result_t<F&>, T>
  explicit local(F make)
      : make_(std::move(make)), variable_(std::make_shared<detail::local_variable>()) {}
  local(const local&) = delete;
  local& operator=(const local&) = delete;
  // Destroys the values of all fibers.
  ~local() {
    for (;;) {
      detail::local_value* v;
      {
        detail::held h(variable_->guard);
        v = variable_->first;
        if (!v) return;
        v->listed = false;
        variable_->first = v->next;
        if (v->next) v->next->prev = nullptr;
      }
      v->end();
    }
  }

  // The running fiber's value; the reference is valid as long as the value. Throws what making the
  // value throws.
  T& get() {
    core::fiber_extra& x = core::fiber_extras(core::fiber_current());
    if (value* v = find(x)) return *v->value_;
    auto made = std::make_unique<value>(variable_, make_);
    made->next_in_fiber = static_cast<detail::local_value*>(x.locals);
    made->enlist();
    x.drop_locals = detail::drop_local_values;
    x.locals = static_cast<detail::local_value*>(made.get());
    return *made.release()->value_;
  }
  T& operator*() { return get(); }
  T* operator->() { return &get(); }
  // Whether the running fiber has a value.
  bool has_value() const noexcept {
    return find(core::fiber_extras(core::fiber_current())) != nullptr;
  }
  // Destroys the running fiber's value; the next access makes a new one. (gevent: del local.x)
  void reset() noexcept {
    core::fiber_extra& x = core::fiber_extras(core::fiber_current());
    value* v = find(x);
    if (v && v->delist()) v->end();
  }

 private:
  struct value final : detail::local_value {
    value(std::shared_ptr<detail::local_variable> v, std::function<T()>& make)
        : local_value(std::move(v)), value_(std::make_unique<T>(make())) {}
    void end() noexcept override {
      value_.reset();
      ended.store(true, std::memory_order_release);
    }
    std::unique_ptr<T> value_;
  };

  // Also deletes the entries whose variable has ended.
  value* find(core::fiber_extra& x) const noexcept {
    auto* at = static_cast<detail::local_value*>(x.locals);
    detail::local_value* before = nullptr;
    while (at) {
      detail::local_value* next = at->next_in_fiber;
      bool listed;
      {
        detail::held h(at->variable->guard);
        listed = at->listed;
      }
      if (listed && at->variable == variable_) return static_cast<value*>(at);
      if (listed || !at->ended.load(std::memory_order_acquire)) {
        before = at;
      } else {
        if (before) before->next_in_fiber = next;
        else x.locals = next;
        delete at;
      }
      at = next;
    }
    return nullptr;
  }

  std::function<T()> make_;
  std::shared_ptr<detail::local_variable> variable_;
};

}  // namespace tendril
