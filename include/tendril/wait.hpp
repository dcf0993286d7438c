// Waiting for several objects: tasks, events, async_results, semaphores and latches, in any
// combination.
//
//   for (auto& t : tendril::as_completed(tasks)) use(t.get());
//   auto ready = tendril::wait(std::vector<tendril::waitable>{task, event, semaphore}, 1s, 1);
//   auto [a, b] = tendril::gather(tendril::spawn(f), tendril::spawn(g));
//
// Waiting for an object does not take it: a semaphore is not acquired. Elements of a range may be
// handles of tasks, pointers (also smart ones), std::reference_wrappers, or waitables. Objects must
// outlive the wait; other kernel threads may use them meanwhile. Tasks must belong to the calling
// kernel thread. Every wait is a cancellation point: it throws what kill() or a timeout delivers,
// and loop_exit if nothing can end it.
#pragma once

#include "detail/cxx20.hpp"

#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <tuple>
#include <vector>

#include "detail/next_iterator.hpp"
#include "detail/waiting.hpp"
#include "task.hpp"

namespace tendril {

// Something to wait for: a handle of a task, or a reference to another object.
class waitable {
 public:
  waitable(const any_task& t) : task_(t) {}
  template <detail::watchable T>
    requires(!std::derived_from<T, any_task> && !std::same_as<std::remove_const_t<T>, waitable>)
  waitable(T& object)
      : object_(std::addressof(object)),
        watch_(
            [](void* o, detail::waiter& w) -> bool { return static_cast<T*>(o)->watch_ready(w); }),
        unwatch_(
            [](void* o, detail::waiter& w) noexcept { static_cast<T*>(o)->unwatch_ready(w); }) {}
  // The object that an element of a range points or refers to.
  template <class P>
    requires(!std::derived_from<P, any_task> && !std::same_as<P, waitable> &&
             !detail::watchable<P> && requires(const P& p) { waitable(*p); })
  waitable(const P& pointer) : waitable(*pointer) {}
  template <class T>
  waitable(std::reference_wrapper<T> object) : waitable(object.get()) {}

  // Whether both refer to the same task or object.
  friend bool operator==(const waitable& a, const waitable& b) noexcept {
    return a.object_ == b.object_ && a.task_ == b.task_;
  }
  // Whether this is a handle of a task.
  bool is_task() const noexcept { return !object_; }
  bool watch_ready(detail::waiter& w) const {
    return object_ ? watch_(object_, w) : task_.watch_ready(w);
  }
  void unwatch_ready(detail::waiter& w) const noexcept {
    if (object_) unwatch_(object_, w);
    else task_.unwatch_ready(w);
  }

 private:
  any_task task_;
  void* object_ = nullptr;
  bool (*watch_)(void*, detail::waiter&) = nullptr;
  void (*unwatch_)(void*, detail::waiter&) noexcept = nullptr;
};

namespace detail {

// The objects that a fiber waits for, and those among them that have become ready.
class watch_set {
 public:
  explicit watch_set(std::vector<waitable> on)
      : on_(std::move(on)), watches_(new watch[on_.size()]) {
    what_ = waits_for(core::wait_kind::other);
    what_.wakeable_by_threads = !std::ranges::all_of(on_, &waitable::is_task);
    try {
      for (; watched_ < on_.size(); watched_++) {
        watch& w = watches_[watched_];
        w.set = this;
        w.notify = note;
        w.listed = on_[watched_].watch_ready(w);
        if (!w.listed) note(w);
      }
    } catch (...) {
      unwatch();
      throw;
    }
  }
  watch_set(const watch_set&) = delete;
  ~watch_set() { unwatch(); }

  std::size_t left() const noexcept { return on_.size() - taken_; }
  // Waits for the next object that is ready, in the order in which they became ready, and returns
  // its index; none if all have been returned or the deadline has passed.
  std::optional<std::size_t> next(clock::time_point deadline) {
    if (left() == 0) return std::nullopt;
    waiter w;
    w.who = core::fiber_current();
    {
      held h(lock_);
      if (first_) return take();
      sleepers_.push(w);
    }
    suspend(lock_, sleepers_, w, deadline, what_, [] {});
    held h(lock_);
    if (first_) return take();
    return std::nullopt;
  }

 private:
  struct watch : waiter {
    watch_set* set = nullptr;
    watch* next_ready = nullptr;
    bool listed = false;
  };
  static void note(waiter& w) noexcept {
    watch& mine = static_cast<watch&>(w);
    watch_set& set = *mine.set;
    held h(set.lock_);
    (set.last_ ? set.last_->next_ready : set.first_) = &mine;
    set.last_ = &mine;
    grant_all(set.sleepers_);
  }
  std::size_t take() noexcept {
    watch* w = first_;
    first_ = w->next_ready;
    if (!first_) last_ = nullptr;
    taken_++;
    return std::size_t(w - watches_.get());
  }
  void unwatch() noexcept {
    // Unwatch ready objects too: another thread may be in the middle of notifying.
    for (std::size_t i = 0; i < watched_; i++) {
      if (watches_[i].listed) on_[i].unwatch_ready(watches_[i]);
    }
  }

  std::vector<waitable> on_;
  std::unique_ptr<watch[]> watches_;
  std::size_t watched_ = 0;
  std::size_t taken_ = 0;
  core::wait_info what_;
  biased_lock lock_;
  watch* first_ = nullptr;
  watch* last_ = nullptr;
  wait_list sleepers_;
};

}  // namespace detail

// What iwait() returns: the elements as they become ready, each once. Only the fiber that made it
// may use it.
template <class Item>
class [[nodiscard("nothing is waited for until it is iterated over")]] ready_items {
 public:
  ready_items(std::vector<Item> items, clock::time_point deadline, std::size_t count)
      : items_(std::move(items)),
        set_(std::vector<waitable>(items_.begin(), items_.end())),
        deadline_(deadline),
        count_(count) {}

  // Waits for the next element and returns it; returns an empty optional if there are no more or
  // the time-out has passed. A cancellation point if it has to wait.
  std::optional<Item> next() {
    if (count_ == 0) return std::nullopt;
    auto i = set_.next(deadline_);
    if (!i) return std::nullopt;
    count_--;
    return items_[*i];
  }

  // For a range-based for loop.
  auto begin() { return detail::next_iterator<ready_items, Item>(*this); }
  std::default_sentinel_t end() const noexcept { return {}; }

 private:
  std::vector<Item> items_;
  detail::watch_set set_;
  clock::time_point deadline_;
  std::size_t count_;
};

inline constexpr std::size_t all = std::numeric_limits<std::size_t>::max();
inline constexpr auto forever = clock::duration::max();

// Returns the elements as they become ready, at most `count`, until `timeout` has passed: first
// those that are ready already, in the order of the range, then the others in the order of becoming
// ready. (gevent.iwait)
template <std::ranges::input_range R, class Rep = clock::rep, class Period = clock::period>
auto iwait(R&& objects, std::chrono::duration<Rep, Period> timeout = forever,
           std::size_t count = all) {
  std::vector<std::ranges::range_value_t<R>> items;
  for (auto&& o : objects) items.push_back(o);
  return ready_items(std::move(items), detail::later(timeout), count);
}
// Waits until `count` of the elements are ready, for at most `timeout`. Returns the ready ones in
// the order of iwait(). (gevent.wait; concurrent.futures.wait, whose FIRST_COMPLETED is count = 1)
template <std::ranges::input_range R, class Rep = clock::rep, class Period = clock::period>
auto wait(R&& objects, std::chrono::duration<Rep, Period> timeout = forever,
          std::size_t count = all) {
  std::vector<std::ranges::range_value_t<R>> ready;
  for (auto& o : iwait(objects, timeout, count)) ready.push_back(o);
  return ready;
}
// Returns the tasks in the order of their end. (as_completed in asyncio and concurrent.futures)
template <std::ranges::input_range R>
  requires std::derived_from<std::ranges::range_value_t<R>, any_task>
auto as_completed(R&& tasks) {
  return iwait(std::forward<R>(tasks));
}

// Options of joinall().
struct join_options {
  // The maximum time to wait.
  clock::duration timeout = forever;
  // Whether to throw the exception of the first task that fails, as soon as it does.
  bool raise_error = false;
  // The number of ended tasks that is enough.
  std::size_t count = all;
};
// Waits until all tasks have ended, or as the options say. Returns the ended tasks in the order of
// their end. (gevent.joinall)
template <std::ranges::input_range Tasks>
auto joinall(Tasks&& tasks, const join_options& o) {
  std::vector<std::ranges::range_value_t<Tasks>> ended;
  for (auto& t : iwait(tasks, o.timeout, o.count)) {
    if (o.raise_error && t.exception()) std::rethrow_exception(t.exception());
    ended.push_back(t);
  }
  return ended;
}

namespace detail {

template <class Task>
void gather_all(const std::vector<Task>& tasks) {
  auto ended = iwait(tasks);
  for (;;) {
    std::optional<Task> t;
    try {
      t = ended.next();
    } catch (...) {
      for (auto& left : tasks) left.request_kill();
      throw;
    }
    if (!t) return;
    if (t->exception()) std::rethrow_exception(t->exception());
  }
}

}  // namespace detail

// Waits for all tasks and returns their results in the given order: a std::vector for a range, a
// std::tuple for several arguments (with std::monostate for a task<void>). Throws the exception of
// the first task that fails, as soon as it does; the others run on. If the wait is interrupted, the
// tasks are killed. (asyncio.gather)
template <std::ranges::input_range Tasks>
auto gather(Tasks&& tasks) {
  using handle = std::ranges::range_value_t<Tasks>;
  std::vector<handle> all_tasks;
  for (auto&& t : tasks) all_tasks.push_back(t);
  detail::gather_all(all_tasks);
  if constexpr (std::is_void_v<typename handle::result_type>) {
    for (auto& t : all_tasks) t.get();
  } else {
    std::vector<typename handle::result_type> results;
    for (auto& t : all_tasks) results.push_back(std::move(t).get());
    return results;
  }
}
template <class... R>
auto gather(task<R>... tasks) {
  detail::gather_all(std::vector<any_task>{tasks...});
  auto result = [](auto t) {
    if constexpr (std::is_void_v<typename decltype(t)::result_type>)
      return t.get(), std::monostate{};
    else return std::move(t).get();
  };
  return std::tuple{result(tasks)...};
}

// Marks a task that wait_for() must not kill. (asyncio.shield)
template <class R>
struct [[nodiscard("it protects the task in wait_for() only")]] shielded {
  task<R> inner;
};
template <class R>
shielded<R> shield(task<R> t) {
  return {std::move(t)};
}
// Returns f(), and defers kills and time-outs of the running fiber meanwhile: they take effect at
// its next wait after that. (trio: CancelScope(shield=True))
template <std::invocable F>
decltype(auto) shield(F&& f) {
  detail::uninterrupted guard;
  return std::invoke(std::forward<F>(f));
}

// Waits for the task's end and returns its result, for at most `timeout`: then kills the task,
// waits for its end, and throws timeout_error. If the wait is interrupted, the task is killed too.
// A shielded task runs on in both cases. (asyncio.wait_for, asyncio.shield)
template <class R, class Rep, class Period>
R wait_for(task<R> t, std::chrono::duration<Rep, Period> timeout) {
  bool ended = false;
  try {
    ended = t.join(timeout);
  } catch (...) {
    detail::uninterrupted guard;
    t.kill();
    throw;
  }
  if (!ended) {
    t.kill();
    throw timeout_error("wait_for() timed out");
  }
  return std::move(t).get();
}
template <class R, class Rep, class Period>
R wait_for(shielded<R> t, std::chrono::duration<Rep, Period> timeout) {
  return std::move(t.inner).get(timeout);
}

}  // namespace tendril
