// Fibers with an explicit switch, in the manner of greenlet: nothing runs until somebody switches
// to it.
//
//   tendril::fiber<int> doubler([](int x) -> int {
//     for (;;) x = tendril::fiber<int>::current().parent().switch_to(2 * x);  // hands 2x out, waits for the next x
//   });
//   int four = doubler.switch_to(2);
//
// A fiber<T> belongs to the family of fibers that exchange values of type T: switch_to takes a T
// and returns the T that somebody later hands back. One type for both directions, because in a free
// switch there is no caller and callee: whoever switches here next (a child, a parent, a stranger)
// must hand over something that the waiting switch_to can return, and a type per pair of fibers
// could not be checked. For several kinds of message use a std::variant; for none, fiber<> (T =
// void). Fibers of different families may be parents and children of each other; a value that
// reaches the wrong family is a fiber_error, never a wrong value.
//
// A fiber that ends hands over to its parent, which must be waiting in a switch_to: if the parent
// is parked in the hub instead (it sleeps, reads, joins), the process aborts with a line that says
// so. So a fiber that a task is to run is best made in that task.
//
// All fibers of a kernel thread stay on it. Unless said otherwise, a function here must be called
// on the kernel thread where the fiber was made, and throws fiber_error elsewhere. Copies of a
// fiber<T> are handles of the same fiber. When the last handle of a suspended fiber goes away, the
// fiber is unwound by fiber_exit. A child holds its parent: so a fiber is not unwound while a child
// of its own lives on its stack, nor while it keeps a handle of itself there. An owner that cannot
// rule that out calls throw_() in its destructor. What is still suspended when the kernel thread
// ends is unwound then, whoever holds it.
#pragma once

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

// A fiber whose family is not known: what parent(), current_fiber() and trace callbacks give.
class any_fiber {
 public:
  // No fiber.
  any_fiber() noexcept = default;
  any_fiber(const any_fiber& o) noexcept : core_(o.core_) {
    if (core_) core::fiber_ref(core_);
  }
  any_fiber(any_fiber&& o) noexcept : core_(std::exchange(o.core_, nullptr)) {}
  any_fiber& operator=(const any_fiber& o) noexcept { return *this = any_fiber(o); }
  any_fiber& operator=(any_fiber&& o) noexcept {
    // Not by a parameter that is swapped with: for `f = {}` in a template, clang 14 forgets to
    // destroy that.
    any_fiber gone(std::exchange(core_, std::exchange(o.core_, nullptr)));
    return *this;
  }
  // May switch: the last handle of a suspended fiber unwinds it, here and now, with the running
  // fiber as its parent (on another kernel thread: the next time that the fiber's own kernel thread
  // makes a fiber, or ends).
  ~any_fiber() {
    if (core_) core::fiber_unref(core_);
  }

  // Whether this is a handle of some fiber. Any thread.
  bool valid() const noexcept { return core_ != nullptr; }
  // Whether the fiber has been switched to for the first time. The main fiber always has. Any
  // thread.
  bool started() const noexcept {
    return core_ && core::fiber_state(core_) != core::fiber_status::fresh;
  }
  // Whether the fiber has ended, by returning or by an exception. Any thread.
  bool dead() const noexcept {
    return core_ && core::fiber_state(core_) == core::fiber_status::finished;
  }
  // Started and not dead. (greenlet: bool(g))
  explicit operator bool() const noexcept { return started() && !dead(); }
  // Whether this is its kernel thread's main fiber: the one that the thread began with.
  bool is_main() const noexcept { return core_ && core::fiber_is_main(core_); }
  std::string_view name() const noexcept { return core_ ? core::fiber_name(core_) : ""; }
  void name(const char* n) noexcept {
    if (core_) core::fiber_set_name(core_, n);
  }
  // A number that no other fiber of the process has had. Any thread.
  std::uint64_t id() const noexcept { return core_ ? core::fiber_id(core_) : 0; }

  // Where control goes when this fiber ends: at first the fiber that made it. None for a main fiber
  // or a task.
  any_fiber parent() const& noexcept {
    core::fiber* p = core_ ? core::fiber_parent(core_) : nullptr;
    return p ? adopt_ref(p) : any_fiber();
  }
  // On a temporary, lets go of the fiber first: current().parent().switch_to() would else leave the
  // suspended fiber holding itself, and so never be unwound.
  any_fiber parent() && noexcept {
    any_fiber p = std::as_const(*this).parent();
    any_fiber gone = std::move(*this);
    return p;
  }
  // Sets the parent. fiber_error: this is a main fiber or a task, `p` is on another kernel thread,
  // or is a descendant of this fiber.
  void parent(const any_fiber& p) const& {
    if (!core_ || !p.core_) throw fiber_error("no fiber");
    if (!core::fiber_parent(core_)) throw fiber_error("a main fiber or a task has no parent");
    if (!core::fiber_on_this_thread(core_) || !core::fiber_on_this_thread(p.core_))
      throw fiber_error("parent on another kernel thread");
    for (core::fiber* a = p.core_; a; a = core::fiber_parent(a)) {
      if (a == core_) throw fiber_error("cyclic parent chain");
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
  // Takes over a reference that the caller owns.
  explicit any_fiber(core::fiber* owned) noexcept : core_(owned) {}

 protected:
  core::fiber* core_ = nullptr;
};

// The running fiber. Never throws; a kernel thread that has no fibers yet becomes its own main
// fiber.
inline any_fiber current_fiber() noexcept { return any_fiber::adopt_ref(core::fiber_current()); }

// A fiber of the family that exchanges values of type T.
template <class T>
class fiber : public any_fiber {
  static_assert(std::is_void_v<T> || (std::is_object_v<T> && std::move_constructible<T>),
                "a fiber family exchanges void or a movable object type");
  static_assert(std::is_void_v<T> || std::default_initializable<T>,
                "T{} is what a parent gets when its child ended by fiber_exit");

 public:
  using value_type = T;

  // No fiber.
  fiber() noexcept = default;

  // A new fiber that will call run(value) with the first value switched to it; what it returns goes
  // to the parent. The callable may also take no argument, and must return something convertible to
  // T. The parent is the running fiber. Nothing runs yet. std::bad_alloc if there is no memory.
  template <class F>
    requires(!std::derived_from<std::remove_cvref_t<F>, any_fiber>)
  explicit fiber(F&& run, const fiber_options& o = {})
      : any_fiber(detail::make_explicit<T>(std::forward<F>(run), o.stack_size, o.name)) {}
  template <class F>
    requires(!std::derived_from<std::remove_cvref_t<F>, any_fiber>)
  fiber(F&& run, const any_fiber& p, const fiber_options& o = {}) : fiber(std::forward<F>(run), o) {
    parent(p);
  }

  // Treats a fiber of unknown family (a parent, a current_fiber()) as one of this family. If it is
  // not, a switch to it throws fiber_error.
  explicit fiber(const any_fiber& f) noexcept : any_fiber(f) {}
  explicit fiber(any_fiber&& f) noexcept : any_fiber(std::move(f)) {}

  // The running fiber, as one of this family.
  static fiber current() noexcept { return fiber(current_fiber()); }
  // Its parent, as one of this family.
  fiber parent() const& noexcept { return fiber(any_fiber::parent()); }
  fiber parent() && noexcept { return fiber(static_cast<any_fiber&&>(*this).parent()); }
  using any_fiber::parent;  // and the one that sets it

  // Runs this fiber, handing it `value` (a T; nothing for void): an unstarted one is called with
  // it, a suspended one gets it from the switch_to in which it waits. Returns what is handed back
  // when somebody switches to the running fiber, or when a child of it ends. A dead fiber hands the
  // value on to its first living ancestor, so one whose ancestor is the running fiber returns it at
  // once; a switch to the running fiber itself returns the value too. Throws what a child threw and
  // did not catch, what throw_() was given, and fiber_error: no fiber, wrong kernel thread, another
  // family, or the fiber is parked in the hub (only an event can wake it there). (greenlet: switch)
  template <class... V>
    requires((std::is_void_v<T> && sizeof...(V) == 0) ||
             (!std::is_void_v<T> && sizeof...(V) <= 1 &&
              std::constructible_from<detail::slot<T>, V...>))
  [[gnu::always_inline]] T switch_to(V&&... value) const {
    detail::slot<T> s(std::forward<V>(value)...);
    return detail::exchange<T>(core_, s);
  }

  // Raises an exception in this fiber: a suspended one gets it from its switch_to; an unstarted one
  // ends without running; a dead one hands it on to its first living ancestor. An exception that
  // the fiber does not catch travels to its parent. fiber_exit (the default) ends the fiber, and
  // its parent gets T{}; so does the first living ancestor of a dead one. Returns and throws as
  // switch_to. (greenlet: throw)
  T throw_(std::exception_ptr e) const {
    if (dead() && detail::is_exit(e)) return switch_to();
    core::message m;
    m.error = &e;
    return detail::receive<T>(detail::exchange(core_, m, detail::family<T>()));
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
fiber(F) -> fiber<detail::family_of<F>>;
template <class F>
fiber(F, const fiber_options&) -> fiber<detail::family_of<F>>;
template <class F>
fiber(F, const any_fiber&) -> fiber<detail::family_of<F>>;
template <class F>
fiber(F, const any_fiber&, const fiber_options&) -> fiber<detail::family_of<F>>;

}  // namespace tendril
