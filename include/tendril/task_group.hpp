// Structured concurrency: tasks that do not outlive a scope. What trio calls a nursery, and asyncio
// a TaskGroup.
//
//   tendril::with_task_group([&](tendril::task_group& group) {
//     group.spawn(fetch, "a");
//     group.spawn(fetch, "b");
//   });   // here both have ended; if one failed, the other was killed, and its exception comes out here
//
// The first exception that leaves a task of the group, or the body, kills the other tasks, and
// interrupts the body where it waits. When all have ended, that exception is thrown. fiber_exit is
// no error: a task that is killed leaves the others alone. All on one kernel thread.
#pragma once

#include <list>
#include <memory>

#include "task.hpp"

namespace tendril {

class task_group {
 public:
  // The running fiber is the one that will join() it.
  task_group() : owner_(current_fiber()) {}
  task_group(const task_group&) = delete;
  task_group& operator=(const task_group&) = delete;
  // Kills what has not ended, and waits for that; nothing interrupts this. Errors are lost: see
  // join().
  ~task_group() {
    detail::uninterrupted guard;
    cancel();
    wait_for_all();
  }

  // Runs f(args...) in a new task of the group. Tasks of the group may spawn more. error if the
  // group has been cancelled.
  template <class F, class... A>
    requires std::invocable<std::decay_t<F>, std::decay_t<A>...>
  auto spawn(F&& f, A&&... args) {
    if (cancelled_) throw error("the task_group has been cancelled");
    auto t = tendril::spawn(std::forward<F>(f), std::forward<A>(args)...);
    tasks_.push_back(t);
    t.link([this, place = std::prev(tasks_.end())](const any_task& ended) {
      if (ended.exception()) fail(ended.exception());
      tasks_.erase(place);
    });
    return t;
  }

  // Kills all tasks; does not wait for their end.
  void cancel() {
    cancelled_ = true;
    for (auto& t : tasks_) {
      if (!t.ready()) t.request_kill();
    }
  }
  bool cancelled() const noexcept { return cancelled_; }
  // Tasks that have not ended.
  std::size_t size() const noexcept { return tasks_.size(); }

  // Waits until all tasks have ended, those too that they spawn meanwhile; throws the first error.
  // If this wait is interrupted, all are killed and waited for first.
  void join() {
    // While it waits here, an error needs no interruption: the wait ends by itself.
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
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  template <class F>
  friend void with_task_group(F&& body);
  // Ends the wait of the body: no error of its own.
  struct body_cancelled {};

  void wait_for_all() {
    while (!tasks_.empty()) any_task(tasks_.front()).join();
  }
  void fail(std::exception_ptr e) {
    if (error_) return;
    error_ = std::move(e);
    cancel();
    if (in_body_ && !joining_)
      detail::interrupt(owner_.handle(), std::make_exception_ptr(body_cancelled{}));
  }

  any_fiber owner_;
  std::list<any_task> tasks_;
  std::exception_ptr error_;
  bool cancelled_ = false;
  bool joining_ = false;
  bool in_body_ = false;
};

// Calls body(group), then waits until all tasks of the group have ended, and throws the first error
// of them all.
template <class F>
void with_task_group(F&& body) {
  static_assert(std::is_invocable_v<F&, task_group&>, "the body takes a task_group&");
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
