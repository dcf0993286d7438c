// A group: tasks that are waited for, killed, and mapped over together. (gevent.pool.Group)
//
//   tendril::group crowd;
//   crowd.spawn(work, 1);
//   for (auto& page : crowd.imap_unordered(fetch, urls)) use(page);
//   crowd.join();
//
// A task leaves the group when it ends. Destroying a group does not affect its tasks;
// task_group.hpp has one that waits for them. Only one kernel thread may use a group, the one of
// its tasks. Waits are cancellation points: they throw what kill() or a timeout delivers, and
// loop_exit if nothing can end them.
#pragma once

#include "detail/cxx20.hpp"

#include <map>
#include <memory>
#include <optional>
#include <ranges>
#include <unordered_map>
#include <variant>
#include <vector>

#include "detail/next_iterator.hpp"
#include "event.hpp"
#include "queue.hpp"
#include "semaphore.hpp"
#include "task.hpp"

namespace tendril {

template <class R>
class mapped;

class group {
 public:
  group() : state_(std::make_shared<state>()) {}
  group(const group&) = delete;
  group& operator=(const group&) = delete;
  virtual ~group() = default;

  // Adds a task until it ends. Does nothing if it has ended or is in the group already. In a full
  // pool, waits for a free place first. (gevent: add)
  void add(const any_task& t) {
    if (contains(t)) return;
    reserve();
    admit(t);
  }
  // Removes a task; it goes on running. (gevent: discard)
  void discard(const any_task& t) {
    if (state_->remove(t.id())) vacate(1);
  }
  // Whether the task is in the group.
  bool contains(const any_task& t) const noexcept { return state_->tasks.contains(t.id()); }
  // The number of tasks in the group.
  std::size_t size() const noexcept { return state_->tasks.size(); }
  // Whether the group has no tasks.
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  // The tasks of the group, in any order.
  std::vector<any_task> tasks() const {
    std::vector<any_task> all;
    for (auto& [id, t] : state_->tasks) all.push_back(t);
    return all;
  }

  // Runs f(args...) in a new task of the group and returns the task. In a full pool, waits for a
  // free place first. (gevent: spawn)
  template <class F, class... A>
    requires std::invocable<std::decay_t<F>, std::decay_t<A>...>
  auto spawn(F&& f, A&&... args) {
    reserve();
    try {
      auto t = tendril::spawn(std::forward<F>(f), std::forward<A>(args)...);
      admit(t);
      return t;
    } catch (...) {
      vacate(1);
      throw;
    }
  }

  // Waits until the group is empty. (gevent: join)
  void join() {
    while (!empty()) state_->none.wait();
  }
  // The same, for at most `timeout`. Returns whether the group is empty.
  template <class Rep, class Period>
  bool join(std::chrono::duration<Rep, Period> timeout) {
    clock::time_point end = detail::later(timeout);
    while (!empty()) {
      if (!state_->none.wait_until(end)) return empty();
    }
    return true;
  }
  // Waits until the group is empty, then throws the first exception that ended one of its tasks
  // since the group was last empty. (gevent: join(raise_error=True))
  void join_and_raise() {
    join();
    if (state_->failure) std::rethrow_exception(std::exchange(state_->failure, nullptr));
  }

  // Kills all tasks of the group, including those added meanwhile, and waits for their end. A task
  // of the group that calls this is killed too, after the others have ended. (gevent: kill)
  void kill() { kill(fiber_exit{}); }
  template <class E>
    requires(!detail::is_duration<E>)
  void kill(const E& exception) {
    while (!empty()) {
      bool others = false;
      for (auto& t : tasks()) {
        t.request_kill(exception);
        others |= t.as_fiber() != current_fiber();
      }
      if (!others) break;
      for (auto& t : tasks()) {
        if (t.as_fiber() != current_fiber()) t.join();
      }
    }
    detail::throw_if_interrupted();
  }
  // Kills the tasks and waits for at most `timeout`. Returns whether the group is empty.
  template <class Rep, class Period>
  bool kill(std::chrono::duration<Rep, Period> timeout) {
    for (auto& t : tasks()) t.request_kill();
    return join(timeout);
  }

  // Calls f(args...) in a task of the group and returns its result. A task of the group itself
  // calls f directly, since it could otherwise wait for its own place. (gevent: apply)
  template <class F, class... A>
  auto apply(F&& f, A&&... args) {
    if (state_->tasks.contains(current_fiber().id()))
      return std::invoke(std::forward<F>(f), std::forward<A>(args)...);
    return spawn(std::forward<F>(f), std::forward<A>(args)...).get();
  }
  // The same, but returns the task at once. Never waits: in a full pool, the returned task waits
  // for a place. The group must outlive that task. (gevent: apply_async)
  template <class F, class... A>
    requires std::invocable<std::decay_t<F>, std::decay_t<A>...>
  auto apply_async(F&& f, A&&... args) {
    if (!full()) return spawn(std::forward<F>(f), std::forward<A>(args)...);
    return tendril::spawn(
        [this, call = std::decay_t<F>(std::forward<F>(f)),
         bound = std::tuple<std::decay_t<A>...>(std::forward<A>(args)...)]() mutable {
          return std::apply(
              [&](auto&... a) { return spawn(std::move(call), std::move(a)...).get(); }, bound);
        });
  }

  // Calls f(x) for each x of the range, each in a task of the group. Returns the results in the
  // order of the range (nothing if f returns nothing). When all tasks have ended, throws the
  // exception of the first x that had one. (gevent: map)
  template <class F, std::ranges::input_range R>
  auto map(const F& f, R&& range) {
    using element = std::ranges::range_value_t<R>;
    using result = std::invoke_result_t<F, element>;
    std::vector<task<result>> tasks;
    for (auto&& x : range) tasks.push_back(spawn(f, element(std::forward<decltype(x)>(x))));
    joinall(tasks);
    if constexpr (std::is_void_v<result>) {
      for (auto& t : tasks) t.get();
    } else {
      std::vector<result> results;
      for (auto& t : tasks) results.push_back(std::move(t).get());
      return results;
    }
  }
  // The same, but returns the results one by one, in the order of the range. An exception is thrown
  // in place of its result, and the iteration can go on after it. At most `ahead` results wait to
  // be taken. The range is copied. The group must outlive the returned object, whose destructor
  // kills the remaining tasks. (gevent: imap)
  template <class F, std::ranges::input_range R>
  auto imap(F f, R&& range, std::size_t ahead = queue<int>::unbounded) {
    return make_mapped(std::move(f), std::forward<R>(range), ahead, true);
  }
  // The same, but in the order in which the results become available. (gevent: imap_unordered)
  template <class F, std::ranges::input_range R>
  auto imap_unordered(F f, R&& range, std::size_t ahead = queue<int>::unbounded) {
    return make_mapped(std::move(f), std::forward<R>(range), ahead, false);
  }

  // Whether spawn() would wait. Only a pool can be full.
  virtual bool full() const noexcept { return false; }

 protected:
  // State that may outlive the group, since the tasks may.
  struct state {
    std::unordered_map<std::uint64_t, any_task> tasks;
    event none;
    std::exception_ptr failure;
    std::shared_ptr<semaphore> places;  // a pool's free places
    bool remove(std::uint64_t id) {
      if (tasks.erase(id) == 0) return false;
      if (tasks.empty()) none.set();
      return true;
    }
  };
  std::shared_ptr<state> state_;

 private:
  void reserve() {
    if (state_->places) state_->places->acquire();
  }
  void vacate(std::ptrdiff_t n) {
    if (state_->places) state_->places->release(n);
  }
  void admit(const any_task& t) {
    if (t.ready()) return vacate(1);
    if (empty()) {
      state_->none.clear();
      state_->failure = nullptr;
    }
    state_->tasks.emplace(t.id(), t);
    t.link([s = state_](const any_task& ended) {
      if (!s->tasks.contains(ended.id())) return;
      if (ended.exception() && !s->failure) s->failure = ended.exception();
      s->remove(ended.id());
      if (s->places) s->places->release();
    });
  }
  template <class F, class R>
  auto make_mapped(F f, R&& range, std::size_t ahead, bool ordered) {
    using element = std::ranges::range_value_t<R>;
    using result = std::decay_t<std::invoke_result_t<F&, element>>;
    std::vector<element> all;
    for (auto&& x : range) all.push_back(std::forward<decltype(x)>(x));
    return mapped<result>(*this, std::move(f), std::move(all), ahead, ordered);
  }
};

// The results of imap() and imap_unordered(). Only the fiber that made it may use it.
template <class R>
class [[nodiscard("the remaining tasks are killed when the results are dropped")]] mapped {
  static_assert(!std::is_void_v<R>, "imap() needs a function that returns a value; see map()");

 public:
  template <class F, class X>
  mapped(group& in, F f, std::vector<X> range, std::size_t ahead, bool ordered)
      : state_(std::make_shared<state>(ahead)), ordered_(ordered), left_(range.size()) {
    if (ahead == 0) throw error("imap(): `ahead` must be at least 1");
    feeder_ = spawn([&in, s = state_, f = std::move(f), range = std::move(range)]() mutable {
      for (std::size_t i = 0; i < range.size(); i++) {
        s->room.acquire();
        s->work.push_back(in.spawn(f, std::move(range[i])));
        s->work.back().link([s, i](const task<R>& ended) { (void)s->ended.try_put({i, ended}); });
      }
    });
    // If the feeder fails, end the consumer's wait: the remaining calls never begin.
    feeder_.link([s = state_](const any_task& t) {
      if (t.exception()) s->ended.shutdown();
    });
  }
  mapped(const mapped&) = delete;
  mapped& operator=(const mapped&) = delete;
  // Kills the tasks that remain.
  ~mapped() {
    detail::uninterrupted guard;
    feeder_.kill();
    for (auto& t : state_->work) {
      if (!t.ready()) t.request_kill();
    }
  }

  // Waits for the next result and returns it; returns an empty optional at the end. Throws what
  // that call of f threw; next() may be called again after that.
  std::optional<R> next() {
    if (left_ == 0) return std::nullopt;
    task<R> t = take();
    left_--;
    state_->room.release();
    return std::move(t).get();
  }

  // For a range-based for loop.
  auto begin() { return detail::next_iterator<mapped, R>(*this); }
  std::default_sentinel_t end() const noexcept { return {}; }

 private:
  struct item {
    std::size_t place;
    task<R> ended;
  };
  struct state {
    explicit state(std::size_t ahead)
        : room(std::ptrdiff_t(
              std::min<std::size_t>(ahead, std::numeric_limits<std::ptrdiff_t>::max()))) {}
    semaphore room;  // for results that have not been taken yet
    queue<item> ended;
    std::vector<task<R>> work;
  };

  task<R> take() {
    for (;;) {
      if (auto it = early_.find(next_); it != early_.end()) {
        next_++;
        return std::move(early_.extract(it).mapped());
      }
      item i = get_ended();
      if (!ordered_) return i.ended;
      early_.emplace(i.place, i.ended);
    }
  }
  item get_ended() {
    try {
      return state_->ended.get();
    } catch (const queue_shutdown&) {
      std::rethrow_exception(feeder_.exception());
    }
  }

  std::shared_ptr<state> state_;
  bool ordered_;
  std::size_t left_;
  std::size_t next_ = 0;
  std::map<std::size_t, task<R>> early_;
  task<void> feeder_;
};

}  // namespace tendril
