// Fibers with an explicit switch, in the manner of greenlet: a fiber runs only when another one
// switches to it.
//
//   tendril::fiber<int> doubler([](int x) -> int {
//     for (;;) x = tendril::fiber<int>::current().parent().switch_to(2 * x);  // hands 2x out, waits for the next x
//   });
//   int four = doubler.switch_to(2);
//
// All fiber<T> exchange values of type T: switch_to() takes a T and returns the T that another
// fiber hands back later. Both directions have the same type, because an explicit switch has no
// caller and callee: any fiber (a child, a parent, an unrelated one) may be the next to switch
// here, and must hand over a value that the waiting switch_to() can return. A type for each pair of
// fibers could not be checked. Use a std::variant for several kinds of message, and fiber<> (T =
// void) for none. Fibers of different types may be parents and children of each other; a value of
// the wrong type is reported as fiber_error and never delivered.
//
// A fiber that ends switches to its parent, which must be waiting in a switch_to(). If the parent
// is parked in the hub instead (it sleeps, reads, joins), the process aborts with a message. So
// make a fiber in the task that runs it.
//
// A fiber stays on the kernel thread that made it. Unless said otherwise, only that kernel thread
// may call the functions here; on another one they throw fiber_error. Copies of a fiber<T> are
// handles of the same fiber. When the last handle of a suspended fiber is destroyed, fiber_exit
// unwinds the fiber. A child holds its parent, so a fiber is not unwound while a child of its own,
// or a handle of itself, lives on its stack. An owner that cannot rule that out calls throw_() in
// its destructor. Fibers that are still suspended when their kernel thread ends are unwound then,
// even if handles exist.
#pragma once

#include "detail/cxx20.hpp"

#include <concepts>
#include <exception>
#include <string_view>
#include <type_traits>
#include <utility>

#include "detail/core.hpp"
#include "detail/exchange.hpp"
#include "error.hpp"

namespace tendril {

template <class T = void>
class fiber;

// Settings of a new fiber.
struct fiber_options {
  std::size_t stack_size = 0;  // bytes, rounded up to whole pages; 0: the default
  const char* name = "";       // for reports; the first 23 characters are kept
};

// A fiber of any value type: what parent(), current_fiber() and trace callbacks give.
class any_fiber {
 public:
  // A handle of no fiber.
  any_fiber() noexcept = default;
  any_fiber(const any_fiber& o) noexcept : core_(o.core_) {
    if (core_) core::fiber_ref(core_);
  }
  any_fiber(any_fiber&& o) noexcept : core_(std::exchange(o.core_, nullptr)) {}
  any_fiber& operator=(const any_fiber& o) noexcept { return *this = any_fiber(o); }
  any_fiber& operator=(any_fiber&& o) noexcept {
    // Not by copy and swap with the parameter: for `f = {}` in a template, clang 14 fails to
    // destroy the parameter.
    any_fiber gone(std::exchange(core_, std::exchange(o.core_, nullptr)));
    return *this;
  }
  // May switch: if this is the last handle of a suspended fiber, the fiber is unwound here and now,
  // with the running fiber as its parent. If the handle is destroyed on another kernel thread, the
  // fiber is unwound when its own kernel thread next makes a fiber, or ends.
  ~any_fiber() {
    if (core_) core::fiber_unref(core_);
  }

  // Whether this is a handle of a fiber. Any kernel thread may ask.
  bool valid() const noexcept { return core_ != nullptr; }
  // Whether the fiber has ever been switched to; true for a main fiber. Any kernel thread may ask.
  bool started() const noexcept {
    return core_ && core::fiber_state(core_) != core::fiber_status::fresh;
  }
  // Whether the fiber has ended, by returning or by an exception. Any kernel thread may ask.
  bool dead() const noexcept {
    return core_ && core::fiber_state(core_) == core::fiber_status::finished;
  }
  // Whether the fiber has started and not ended. Any kernel thread may ask. (greenlet: bool(g))
  explicit operator bool() const noexcept { return started() && !dead(); }
  // Whether this is the main fiber of its kernel thread: the one that the thread began with.
  bool is_main() const noexcept { return core_ && core::fiber_is_main(core_); }
  // The name for reports, at most 23 characters; empty if none was given. The setter copies `n`.
  std::string_view name() const noexcept { return core_ ? core::fiber_name(core_) : ""; }
  void name(const char* n) noexcept {
    if (core_) core::fiber_set_name(core_, n);
  }
  // A number that no other fiber of the process has or had; 0 for a handle of no fiber. Any kernel
  // thread may ask.
  std::uint64_t id() const noexcept { return core_ ? core::fiber_id(core_) : 0; }

  // The fiber that runs on when this one ends: initially the fiber that made it. A handle of no
  // fiber for a main fiber or a task. (greenlet: parent)
  any_fiber parent() const& noexcept {
    core::fiber* p = core_ ? core::fiber_parent(core_) : nullptr;
    return p ? adopt_ref(p) : any_fiber();
  }
  // On a temporary, releases this handle first: in current().parent().switch_to(), the suspended
  // fiber would otherwise hold itself and never be unwound.
  any_fiber parent() && noexcept {
    any_fiber p = std::as_const(*this).parent();
    any_fiber gone = std::move(*this);
    return p;
  }
  // Sets the parent. Throws fiber_error if this is a main fiber or a task, or if `p` is on another
  // kernel thread or is a descendant of this fiber.
  void parent(const any_fiber& p) const& {
    if (!core_ || !p.core_) throw fiber_error("no fiber");
    if (!core::fiber_parent(core_)) throw fiber_error("a main fiber or a task has no parent");
    if (!core::fiber_on_this_thread(core_) || !core::fiber_on_this_thread(p.core_))
      throw fiber_error("the parent is on another kernel thread");
    for (core::fiber* a = p.core_; a; a = core::fiber_parent(a)) {
      if (a == core_) throw fiber_error("the chain of parents would be cyclic");
    }
    core::fiber_set_parent(core_, p.core_);
  }

  friend bool operator==(const any_fiber& a, const any_fiber& b) noexcept {
    return a.core_ == b.core_;
  }

  core::fiber* handle() const noexcept { return core_; }
  static any_fiber adopt_ref(core::fiber* f) noexcept {
    core::fiber_ref(f);
    return any_fiber(f);
  }
  // Adopts a reference that the caller owns.
  explicit any_fiber(core::fiber* owned) noexcept : core_(owned) {}

 protected:
  core::fiber* core_ = nullptr;
};

// The running fiber. Never throws. On a kernel thread without fibers, the thread itself becomes its
// main fiber. Any kernel thread may call it. (greenlet: getcurrent)
inline any_fiber current_fiber() noexcept { return any_fiber::adopt_ref(core::fiber_current()); }

// A fiber that exchanges values of type T.
template <class T>
class [[nodiscard("a fiber runs only when it is switched to")]] fiber : public any_fiber {
  static_assert(std::is_void_v<T> || (std::is_object_v<T> && std::move_constructible<T>),
                "T must be void or a movable object type");
  static_assert(std::is_void_v<T> || std::default_initializable<T>,
                "T{} is what a parent gets when its child ended by fiber_exit");

 public:
  using value_type = T;

  // A handle of no fiber.
  fiber() noexcept = default;

  // Makes a fiber that will call run(value) with the first value that is switched to it; its result
  // goes to the parent. The callable may also take no argument, and must return something
  // convertible to T. The parent is the running fiber, or `p`. Nothing runs yet. Throws
  // std::bad_alloc if there is no memory, and fiber_error if `p` cannot be the parent.
  template <class F>
    requires(!std::derived_from<std::remove_cvref_t<F>, any_fiber>)
  [[nodiscard("a fiber runs only when it is switched to")]] explicit fiber(
      F&& run, const fiber_options& o = {})
      : any_fiber(detail::make_explicit<T>(std::forward<F>(run), o.stack_size, o.name)) {}
  template <class F>
    requires(!std::derived_from<std::remove_cvref_t<F>, any_fiber>)
  [[nodiscard("a fiber runs only when it is switched to")]] fiber(F&& run, const any_fiber& p,
                                                                  const fiber_options& o = {})
      : fiber(std::forward<F>(run), o) {
    parent(p);
  }

  // Treats a fiber of unknown type (a parent, a current_fiber()) as a fiber<T>. If it has another
  // type, a switch to it throws fiber_error.
  explicit fiber(const any_fiber& f) noexcept : any_fiber(f) {}
  explicit fiber(any_fiber&& f) noexcept : any_fiber(std::move(f)) {}

  // The running fiber, as a fiber<T>.
  static fiber current() noexcept { return fiber(current_fiber()); }
  // Its parent, as a fiber<T>.
  fiber parent() const& noexcept { return fiber(any_fiber::parent()); }
  fiber parent() && noexcept { return fiber(static_cast<any_fiber&&>(*this).parent()); }
  using any_fiber::parent;  // and the setter

  // Runs this fiber and hands it `value` (a T; nothing for void). A fiber that has not started is
  // called with the value; a suspended one returns it from its switch_to(). Returns the value that
  // is handed back when a fiber switches to the caller, or when a child of the caller ends. A dead
  // fiber passes the value on to its first living ancestor; if that is the caller, or if the caller
  // switches to itself, the value is returned at once. Throws what a child threw and did not catch,
  // what throw_() was given, and fiber_error: no fiber, another kernel thread, another value type,
  // or the fiber is parked in the hub, where only an event can wake it. (greenlet: switch)
  template <class... V>
    requires((std::is_void_v<T> && sizeof...(V) == 0) ||
             (!std::is_void_v<T> && sizeof...(V) <= 1 &&
              std::constructible_from<detail::slot<T>, V...>))
  [[gnu::always_inline]] T switch_to(V&&... value) const {
    detail::slot<T> s(std::forward<V>(value)...);
    return detail::exchange<T>(core_, s);
  }

  // Raises an exception in this fiber. A suspended fiber gets it from its switch_to(); a fiber that
  // has not started ends without running; a dead one passes it on to its first living ancestor. An
  // exception that the fiber does not catch goes to its parent. fiber_exit (the default) ends the
  // fiber, and its parent gets T{}; for a dead fiber, its first living ancestor does. Returns and
  // throws as switch_to(). (greenlet: throw)
  T throw_(std::exception_ptr e) const {
    if (dead() && detail::is_exit(e)) return switch_to();
    core::message m;
    m.error = &e;
    return detail::receive<T>(detail::exchange(core_, m, detail::value_type_id<T>()));
  }
  template <class E>
    requires(!std::same_as<std::remove_cvref_t<E>, std::exception_ptr>)
  T throw_(E&& e) const {
    return throw_(std::make_exception_ptr(std::forward<E>(e)));
  }
  T throw_() const { return throw_(fiber_exit{}); }

  friend bool operator==(const fiber& a, const fiber& b) noexcept { return a.core_ == b.core_; }
};

template <class F>
  requires(!std::derived_from<F, any_fiber>)
fiber(F) -> fiber<detail::value_type_of<F>>;
template <class F>
fiber(F, const fiber_options&) -> fiber<detail::value_type_of<F>>;
template <class F>
fiber(F, const any_fiber&) -> fiber<detail::value_type_of<F>>;
template <class F>
fiber(F, const any_fiber&, const fiber_options&) -> fiber<detail::value_type_of<F>>;

}  // namespace tendril
