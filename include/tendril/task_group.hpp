// Structured concurrency: tasks that do not outlive a scope. (trio's nursery, asyncio.TaskGroup)
//
//   tendril::with_task_group([&](tendril::task_group& group) {
//     group.spawn(fetch, "a");
//     group.spawn(fetch, "b");
//   });   // both have ended here; if one failed, the other was killed, and the first exception is thrown here
//
// The first exception that leaves a task of the group, or the body, kills the other tasks and
// interrupts the body's wait. When all tasks have ended, that exception is thrown. fiber_exit is
// not an error: killing one task does not affect the others. Only one kernel thread may use a
// group, the one of its tasks.
#pragma once

#include "detail/cxx20.hpp"

#include <list>
#include <memory>

#include "task.hpp"

namespace tendril {

class task_group {
 public:
  // Makes a group for the running fiber, which must be the one that calls join().
  task_group() : owner_(current_fiber()) {}
  task_group(const task_group&) = delete;
  task_group& operator=(const task_group&) = delete;
  // Kills the tasks that have not ended and waits for their end; no kill or time-out interrupts
  // this. Call join() to get their first error: here it is reported as lost (lost_exception.hpp).
  ~task_group() {
    detail::uninterrupted guard;
    cancel();
    wait_for_all();
    if (failed_.valid()) lose(failed_);
  }

  // Runs f(args...) in a new task of the group and returns the task. Tasks of the group may spawn
  // more. Never waits. Throws `error` if the group has been cancelled. (trio: start_soon; asyncio:
  // create_task)
  template <class F, class... A>
    requires std::invocable<std::decay_t<F>, std::decay_t<A>...>
  auto spawn(F&& f, A&&... args) {
    if (cancelled_) throw error("the task_group has been cancelled");
    auto t = tendril::spawn(std::forward<F>(f), std::forward<A>(args)...);
    tasks_.push_back(t);
    t.link([this, place = std::prev(tasks_.end())](const any_task& ended) {
      if (ended.exception()) fail(ended);
      tasks_.erase(place);
    });
    return t;
  }

  // Requests the kill of all tasks. Never waits.
  void cancel() {
    cancelled_ = true;
    for (auto& t : tasks_) {
      if (!t.ready()) t.request_kill();
    }
  }
  // Whether the group was cancelled, by cancel() or by an error.
  bool cancelled() const noexcept { return cancelled_; }
  // The number of tasks that have not ended.
  std::size_t size() const noexcept { return tasks_.size(); }

  // Waits until all tasks have ended, including those spawned meanwhile, then throws the first
  // error. A cancellation point: if the wait is interrupted, all tasks are killed, and it throws
  // when they have ended.
  void join() {
    // While this function waits, an error need not interrupt the owner: killing the tasks ends the
    // wait.
    struct joining_scope {
      bool& joining;
      bool before = std::exchange(joining, true);
      ~joining_scope() { joining = before; }
    } scope{joining_};
    try {
      wait_for_all();
    } catch (...) {
      detail::uninterrupted guard;
      cancel();
      wait_for_all();
      throw;
    }
    if (any_task first = std::exchange(failed_, {}); first.valid())
      std::rethrow_exception(first.exception());
  }

 private:
  template <class F>
  friend void with_task_group(F&& body);
  // Ends the body's wait after a task has failed; the task's exception is thrown instead.
  struct body_cancelled {};

  void wait_for_all() {
    while (!tasks_.empty()) any_task(tasks_.front()).join();
  }
  static void lose(const any_task& t) noexcept {
    detail::lose("task", t.id(), t.name().data(), t.exception());
  }
  void fail(const any_task& ended) {
    if (failed_.valid()) return lose(ended);
    failed_ = ended;
    cancel();
    if (in_body_ && !joining_)
      detail::interrupt(owner_.handle(), std::make_exception_ptr(body_cancelled{}));
  }

  any_fiber owner_;
  std::list<any_task> tasks_;
  any_task failed_;  // the task whose exception join() throws: the first that failed
  bool cancelled_ = false;
  bool joining_ = false;
  bool in_body_ = false;
};

// Calls body(group), waits until all tasks of the group have ended, and throws the first error of
// the tasks and the body. A cancellation point.
template <class F>
void with_task_group(F&& body) {
  static_assert(std::is_invocable_v<F&, task_group&>, "the body must take a task_group&");
  task_group group;
  group.in_body_ = true;
  try {
    body(group);
  } catch (const task_group::body_cancelled&) {
    group.in_body_ = false;
  } catch (...) {
    group.in_body_ = false;
    detail::uninterrupted guard;
    group.cancel();
    group.wait_for_all();
    throw;
  }
  group.in_body_ = false;
  group.join();
}

}  // namespace tendril
