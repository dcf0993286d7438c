// Generators as Python's, but each with a stack of its own: a generator may yield from any function
// that it calls.
//
//   void walk(const tree& t) {
//     if (t.left) walk(*t.left);                 // no `yield from`: the calls nest
//     tendril::generator<int>::yield(t.value);
//     if (t.right) walk(*t.right);
//   }
//   for (int x : tendril::generator<int>([&] { walk(root); })) ...
//
// generator<Out, In, Result> yields values of type Out, can be sent values of type In, and returns
// a Result when its body ends. The body runs on a fiber of its own, and only while the consumer is
// in next(), send(), throw_() or close(). The body may wait (sleep(), a cooperative call): then the
// consumer waits too, and other tasks run.
//
// Only the kernel thread that made a generator may use it; elsewhere its functions throw
// fiber_error. Differences from Python: the end is an empty optional instead of StopIteration, and
// returned() has the StopIteration's value. (Python: generator objects, PEP 342, PEP 380)
#pragma once

#include "detail/cxx20.hpp"

#include <concepts>
#include <memory>
#include <optional>
#include <ranges>
#include <type_traits>
#include <utility>
#include <variant>

#include "detail/next_iterator.hpp"
#include "fiber.hpp"

namespace tendril {

// Misuse of a generator: it is running already; a value was sent before it began; it yielded after
// close(); yield() outside a generator of that type. (Python: ValueError, TypeError, RuntimeError)
class generator_error : public error {
 public:
  using error::error;
};

// Raised by close() in the body, at the yield where it is suspended. Catch it only to clean up,
// then rethrow it or return. It is deliberately not a std::exception, like fiber_exit. (Python:
// GeneratorExit)
class generator_exit {
 public:
  const char* what() const noexcept { return "generator_exit"; }
};

template <class Out, class In = void, class Result = void>
class [[nodiscard("the body runs only while next() or send() is called")]] generator {
  static_assert(std::is_object_v<Out> && std::move_constructible<Out>,
                "Out must be a movable object type");
  static_assert(std::is_void_v<In> || (std::is_object_v<In> && std::move_constructible<In>),
                "In must be void or a movable object type");

  struct nothing {};
  using sent = std::conditional_t<std::is_void_v<In>, nothing, In>;

 public:
  using value_type = Out;
  // What yield() returns: the value sent, or an empty optional after next(). void for In = void.
  using received = std::conditional_t<std::is_void_v<In>, void, std::optional<sent>>;

  // Makes a generator that will call body(), which takes no argument and returns a Result. Nothing
  // runs yet. Throws std::bad_alloc if there is no memory.
  template <class F>
    requires(!std::same_as<std::remove_cvref_t<F>, generator> && std::invocable<std::decay_t<F>&>)
  [[nodiscard("the body runs only while next() or send() is called")]] explicit generator(
      F&& body, const fiber_options& o = {}) {
    auto end = std::make_shared<ending>();
    state_ = std::make_shared<state>(
        fiber<message>(
            [run = std::decay_t<F>(std::forward<F>(body)), end](message) mutable -> message {
              if constexpr (std::is_void_v<Result>) {
                run();
                end->result.emplace();
              } else {
                end->result.emplace(run());
              }
              return {};
            },
            o),
        end);
  }
  generator(generator&&) noexcept = default;
  generator& operator=(generator&&) noexcept = default;
  // Closes a suspended generator, which destroys what its body holds. If the body ignores
  // generator_exit, fiber_exit is raised in it. Exceptions that the body throws meanwhile are
  // dropped. (Python: __del__)
  ~generator() = default;

  // Runs the body until its next yield and returns the value; returns an empty optional once the
  // body has ended. Throws what the body throws, which ends it, and generator_error if it is
  // running already. (Python: next)
  std::optional<Out> next() { return resume({}); }

  // The same; the yield at which the body is suspended returns `value`. Throws generator_error if
  // the body has not begun, since no yield waits for the value then. (Python: generator.send)
  std::optional<Out> send(sent value)
    requires(!std::is_void_v<In>)
  {
    check();
    if (!state_->body.started())
      throw generator_error("cannot send a value to a generator that has not begun");
    message l;
    l.in.emplace(std::move(value));
    return resume(std::move(l));
  }

  // Raises an exception at the yield where the body is suspended. Returns the next value that the
  // body yields, or an empty optional if it ends. A body that has not begun ends without running.
  // If the body has not begun or has ended, throw_() throws the exception itself. (Python:
  // generator.throw)
  std::optional<Out> throw_(std::exception_ptr e) {
    check();
    if (state_->body.dead()) std::rethrow_exception(std::move(e));
    asking a(*state_);
    message l = state_->body.throw_(std::move(e));
    return std::move(l.out);
  }
  template <class E>
    requires(!std::same_as<std::remove_cvref_t<E>, std::exception_ptr>)
  std::optional<Out> throw_(E&& e) {
    return throw_(std::make_exception_ptr(std::forward<E>(e)));
  }

  // Ends the body by raising generator_exit at the yield where it is suspended. Does nothing if it
  // has ended; a body that has not begun never runs. Throws what the body throws instead of
  // generator_exit, and generator_error if it yields again or is running. (Python: generator.close)
  void close() {
    check();
    state_->close();
  }

  // Whether the body has ended.
  bool done() const noexcept { return !state_ || state_->body.dead(); }
  // Whether the body is running, or waits in the hub. (Python: gi_running)
  bool running() const noexcept { return state_ && state_->running; }
  // What the body returned; for Result = void, whether it returned. Empty (false) before the end,
  // and after an end by an exception or close(). (Python: StopIteration.value)
  const auto& returned() const noexcept
    requires(!std::is_void_v<Result>)
  {
    return state_->end->result;
  }
  bool returned() const noexcept
    requires(std::is_void_v<Result>)
  {
    return state_ && state_->end->result.has_value();
  }

  // In the body of a generator of this type, or in a function that the body calls: hands `value` to
  // the consumer and waits until it asks for the next one. Returns what the consumer sent (nothing
  // for In = void). Throws what throw_() and close() raise, and generator_error outside such a
  // generator.
  static received yield(Out value) {
    detail::slot<message> l{message{std::move(value), {}}};
    message back = detail::exchange<message>(asker(), l);
    if constexpr (!std::is_void_v<In>) return std::move(back.in);
  }

  // In the body: yields all values of `inner` and returns what `inner` returns. Values sent and
  // exceptions raised here are passed on to `inner`; closing this generator closes `inner` first.
  // (Python: yield from, PEP 380)
  template <class R>
  static R yield_from(generator<Out, In, R>& inner) {
    std::optional<Out> value = inner.next();
    while (value) {
      std::optional<sent> reply;
      std::exception_ptr raised;
      try {
        if constexpr (std::is_void_v<In>) yield(std::move(*value));
        else reply = yield(std::move(*value));
      } catch (const generator_exit&) {
        inner.close();
        throw;
      } catch (const fiber_exit&) {
        throw;
      } catch (...) {
        raised = std::current_exception();
      }
      if (raised) {
        value = inner.throw_(std::move(raised));
      } else if constexpr (std::is_void_v<In>) {
        value = inner.next();
      } else {
        value = reply ? inner.send(std::move(*reply)) : inner.next();
      }
    }
    if constexpr (!std::is_void_v<R>) return *inner.returned();
  }
  template <class R>
  static R yield_from(generator<Out, In, R>&& inner) {
    return yield_from(inner);
  }
  // In the body: yields every element of a range.
  template <std::ranges::input_range Range>
    requires std::convertible_to<std::ranges::range_reference_t<Range>, Out>
  static void yield_from(Range&& values) {
    for (auto&& v : values) yield(static_cast<Out>(std::forward<decltype(v)>(v)));
  }

  // For `for (auto& x : g)`: calls next() until the end. The loop may be left and resumed later.
  auto begin() { return detail::next_iterator<generator, Out>(*this); }
  std::default_sentinel_t end() const noexcept { return {}; }

 private:
  // What the body and the consumer hand to each other.
  struct message {
    std::optional<Out> out;
    std::optional<sent> in;
  };
  // What remains when the body has returned. It is separate from the state, so that the body does
  // not hold its own fiber.
  struct ending {
    std::optional<std::conditional_t<std::is_void_v<Result>, std::monostate, Result>> result;
  };
  struct state {
    state(fiber<message> f, std::shared_ptr<ending> e) : body(std::move(f)), end(std::move(e)) {}
    // Close explicitly: the last handle of `body` may not be here, because the generators that the
    // body uses hold it as their parent.
    ~state() {
      try {
        close();
      } catch (...) {}
      try {
        if (body) {
          body.parent(current_fiber());
          body.throw_();
        }
      } catch (...) {}
    }
    void close() {
      if (body.dead()) return;
      asking a(*this);
      message l;
      try {
        l = body.started() ? body.throw_(generator_exit{}) : body.throw_(fiber_exit{});
      } catch (const generator_exit&) {
        return;
      }
      if (l.out) throw generator_error("the generator ignored generator_exit");
    }

    fiber<message> body;
    std::shared_ptr<ending> end;
    bool running = false;
  };
  // While the consumer is in a call, its fiber is the body's parent. Afterwards the body must not
  // hold that fiber: an explicit fiber that owns a suspended generator could otherwise never be
  // unwound.
  class asking {
   public:
    explicit asking(state& s) : state_(s) {
      if (s.running) throw generator_error("the generator is running already");
      s.body.parent(current_fiber());
      s.running = true;
    }
    ~asking() {
      state_.running = false;
      if (state_.body.dead()) return;
      any_fiber root = current_fiber();
      while (any_fiber up = std::as_const(root).parent()) root = up;
      state_.body.parent(root);
    }
    asking(const asking&) = delete;

   private:
    state& state_;
  };

  void check() const {
    if (!state_) throw generator_error("no generator");
  }
  std::optional<Out> resume(message l) {
    check();
    auto held = state_;  // the body may destroy this object
    if (held->body.dead()) return {};
    asking a(*held);
    return std::move(held->body.switch_to(std::move(l)).out);
  }
  // The fiber that resumed the running generator: the body's parent, which must wait for a message
  // of this type. Returns no handle, since a suspended body must not hold its last consumer.
  static core::fiber* asker() {
    core::fiber* a = core::fiber_parent(core::fiber_current());
    if (!a || core::fiber_awaits(a) != detail::value_type_id<message>() ||
        core::fiber_state(a) != core::fiber_status::switched)
      throw generator_error("yield outside a generator of this type");
    return a;
  }

  std::shared_ptr<state> state_;
};

}  // namespace tendril
