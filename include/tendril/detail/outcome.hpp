// How a task's result is stored and waited for: the part of lib/scheduler/park.cpp that throws. Not
// for programs.
#pragma once

#include <atomic>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "../error.hpp"
#include "../lost_exception.hpp"
#include "core.hpp"
#include "exchange.hpp"
#include "waiting.hpp"

namespace tendril::detail {

// What every task stores, whatever its result type. Only the task's kernel thread may use it,
// except that any kernel thread may call ended() and then read the result.
class outcome_base {
 public:
  // Whether the task has run to its end: its result is stored and its callable destroyed.
  bool ended() const noexcept { return ended_.load(std::memory_order_acquire); }
  bool failed() const noexcept { return error_ && !exited_; }
  std::exception_ptr failure() const noexcept { return failed() ? error_ : nullptr; }
  // Somebody knows now how the task has ended: see lost_exception.hpp. Any kernel thread.
  void note_asked() const noexcept { asked_.store(true, std::memory_order_relaxed); }

  // For wait(). add_joiner() requires that the task has not ended.
  bool watch_ready(waiter& w) noexcept {
    if (ended()) return false;
    add_joiner(w);
    return true;
  }
  void add_joiner(waiter& w) noexcept { joiners_.push(w); }
  void unwatch_ready(waiter& w) noexcept {
    if (!w.is_granted()) joiners_.remove(w);
  }

  // The callbacks of link(), which are called in that order when the task has ended.
  using callback = std::function<void(core::fiber*)>;
  std::size_t add_link(callback f) {
    if (!links_) links_.reset(new links);
    return add_link(std::move(f), ++links_->last);
  }
  std::size_t add_link(callback f, std::size_t id) {
    if (!links_) links_.reset(new links);
    links_->left.push_back({id, std::move(f)});
    return id;
  }
  // A number for a link that another kernel thread adds. Any kernel thread may call it.
  static std::size_t remote_link_id() noexcept {
    static constinit std::atomic<std::size_t> last{~(~std::size_t(0) >> 1)};
    return last.fetch_add(1, std::memory_order_relaxed);
  }
  bool remove_link(std::size_t id) noexcept {
    return links_ && std::erase_if(links_->left, [id](const link& l) { return l.id == id; }) != 0;
  }
  static void call_link(const callback& f, core::fiber* task) noexcept {
    auto report = [task](const char* what) {
      std::fprintf(stderr, "tendril: a link callback of task %llu '%s' threw %s; ignored\n",
                   static_cast<unsigned long long>(core::fiber_id(task)), core::fiber_name(task),
                   what);
    };
    no_waiting guard("a link callback");
    try {
      f(task);
    } catch (const std::exception& e) {
      report(e.what());
    } catch (...) {
      report("something other than a std::exception");
    }
  }

 protected:
  outcome_base() noexcept = default;
  ~outcome_base() {
    if (failed() && !asked_.load(std::memory_order_relaxed)) [[unlikely]]
      lose_error();
  }
  void end(core::fiber* self) noexcept {
    ended_.store(true, std::memory_order_release);
    grant_all(joiners_);
    if (links_) [[unlikely]]
      call_links(self);
  }
  std::exception_ptr error_;
  bool exited_ = false;   // error_ is a fiber_exit: the task ended on request
  bool callable_ = true;  // the task's callable exists
  mutable std::atomic<bool> asked_{false};

 private:
  struct link {
    std::size_t id;
    callback call;
  };
  struct links {
    std::vector<link> left;
    std::size_t last = 0;
  };
  void call_links(core::fiber* self) noexcept {
    // A callback may add another, which is called at once, or remove one.
    while (!links_->left.empty()) {
      callback f = std::move(links_->left.front().call);
      links_->left.erase(links_->left.begin());
      call_link(f, self);
    }
  }
  [[gnu::noinline, gnu::cold]] void lose_error() noexcept {
    core::fiber* task = core::fiber_of_payload(this);
    lose("task", core::fiber_id(task), core::fiber_name(task), std::move(error_));
  }
  std::atomic<bool> ended_{false};
  wait_list joiners_;
  struct delete_links {
    // out of line: few tasks have links
    [[gnu::noinline]] void operator()(links* l) const noexcept { delete l; }
  };
  std::unique_ptr<links, delete_links> links_;
};

template <class R>
class outcome : public outcome_base {
 public:
  // The result of an ended task; throws its exception.
  std::add_lvalue_reference_t<R> get() {
    if (error_) {
      note_asked();
      std::rethrow_exception(error_);
    }
    if (!value_) throw error("the task belongs to the parent process of a fork");
    if constexpr (!std::is_void_v<R>) return *value_;
  }

 protected:
  std::optional<std::conditional_t<std::is_void_v<R>, std::monostate, R>> value_;
};

template <class R, class F>
class task_payload : public outcome<R> {
 public:
  explicit task_payload(F&& f) : run_(std::move(f)) {}
  ~task_payload() {
    if (this->callable_) run_.~F();
  }

  static core::message* body(core::fiber* self, core::message*) noexcept {
    auto& p = *static_cast<task_payload*>(core::fiber_payload(self));
    if (core::head(core::head(self).home).to_reap) core::reap();
    p.call(self);
    p.run_.~F();
    p.callable_ = false;
    drop_locals(self);
    if (core::head(self).needs_slow_path) [[unlikely]] {
      if (void* late = core::fiber_take_pending(self))
        delete static_cast<std::exception_ptr*>(late);
    }
    p.end(self);
    return nullptr;
  }
  static void destroy(void* payload) noexcept {
    static_cast<task_payload*>(payload)->~task_payload();
  }
  static constexpr core::body ops{body, destroy, eh_globals};

 private:
  void call(core::fiber* self) noexcept {
    try {
      // the task was killed before it began
      if (core::head(self).needs_slow_path) [[unlikely]]
        throw_if_interrupted(self);
      if constexpr (std::is_void_v<R>) {
        run_();
        this->value_.emplace();
      } else {
        this->value_.emplace(run_());
      }
      // Its code is a C function, perhaps, that a kill has ended, and that reports it by a value.
      if (core::head(self).needs_slow_path) [[unlikely]] {
        if (take_kill(self)) this->value_.reset();
      }
    } catch (const fiber_exit&) {
      this->error_ = std::current_exception();
      this->exited_ = true;
    } catch (...) {
      this->error_ = std::current_exception();
      take_kill(self);
    }
  }
  // If a cooperative call failed with ECANCELED because of a kill, the kill's exception is the
  // result, whatever the code made of that.
  bool take_kill(core::fiber* self) noexcept {
    if (!core::fiber_extras(self).pending_ended_wait) return false;
    auto* p = static_cast<std::exception_ptr*>(core::fiber_take_pending(self));
    if (!p) return false;
    this->error_ = std::move(*p);
    delete p;
    this->exited_ = is_exit(this->error_);
    return true;
  }
  // Exists while `callable_`. (Not a std::optional, whose flag would take one more cache line.)
  union {
    F run_;
  };
};

// Unfinished tasks get a fiber_exit at the end of their kernel thread.
inline void reap_task(core::fiber* f) noexcept {
  interrupt(f, std::make_exception_ptr(fiber_exit{}));
}

template <class R, class F>
core::fiber* make_task(std::size_t stack_size, const char* name, F&& run) {
  using payload = task_payload<R, F>;
  bool plain = stack_size == 0 && (!name || !*name);
  core::fiber* f = plain ? core::plain_task_new(sizeof(payload), payload::ops)
                         : core::task_new(sizeof(payload), payload::ops, stack_size, name);
  if (!f) throw std::bad_alloc();
  new (core::fiber_payload(f)) payload(std::move(run));
  [[maybe_unused]] static const bool reaped = (core::set_reaper(reap_task), true);
  if (!core::start(f)) {
    core::fiber_unref(f);
    throw std::bad_alloc();
  }
  return f;
}

// The slow path of join(): the wait has not simply ended with the task's end.
[[gnu::noinline]] inline bool joined(core::fiber* f, outcome_base& o, waiter& w,
                                     clock::time_point deadline, const core::wait_info& what,
                                     core::wake why) {
  struct leave {
    outcome_base& o;
    waiter& w;
    ~leave() { o.unwatch_ready(w); }
  } guard{o, w};
  for (;; why = park_once(w.who, deadline, what)) {
    why = checked(to_the_end(why, deadline, what), &what);
    // A task of the parent process of a fork is finished without having ended.
    bool ended = o.ended() || core::fiber_state(f) == core::fiber_status::finished;
    if (ended || why == core::wake::timeout) return ended;
  }
}
// Makes `self`, the running fiber, wait until f, which has not ended, has ended, or until the
// deadline. Returns whether it has ended. Always inline: see core::arrival.
[[gnu::always_inline]] inline bool join(core::fiber* self, core::fiber* f, outcome_base& o,
                                        clock::time_point deadline) {
  waiter w(self);
  o.add_joiner(w);
  core::wait_info what;
  what.kind = core::wait_kind::task;
  what.target = f;
  core::wake why = park_once(self, deadline, what);
  if (why != core::wake::interrupted && w.is_granted()) [[likely]]
    return true;
  return joined(f, o, w, deadline, what, why);
}

}  // namespace tendril::detail
