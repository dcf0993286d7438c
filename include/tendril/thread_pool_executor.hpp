// A pool of kernel threads that make calls: for work that uses much CPU time, or blocks where a
// fiber cannot wait (files, libraries).
//
//   tendril::thread_pool_executor pool(4);
//   for (auto& page : pool.map(render, documents)) ...
//
// A call runs on the worker's own main fiber and may use fibers itself; they belong to that worker.
// Workers block all signals, so that handlers run on the program's own threads. Any kernel thread
// may use the pool. (concurrent.futures.ThreadPoolExecutor, gevent.threadpool)
#pragma once

#include "detail/cxx20.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <string>
#include <thread>

#include "executor.hpp"

namespace tendril {

class thread_pool_executor : public executor<thread_pool_executor> {
 public:
  // Makes a pool of at most `max_workers` threads, which are created when there is work for them;
  // 0: four more than there are cores, at most 32. The threads get the first 15 characters of
  // `name`.
  explicit thread_pool_executor(unsigned max_workers = 0, std::string name = "tendril-pool")
      : max_workers_(max_workers ? max_workers
                                 : std::min(32u, std::thread::hardware_concurrency() + 4)),
        name_(name.substr(0, 15)) {}
  thread_pool_executor(const thread_pool_executor&) = delete;
  // Waits until all calls have ended, including those that have not begun, then until the threads
  // have. A kill does not end that wait. On a thread of the pool, and in the child of a fork, it
  // does not wait.
  ~thread_pool_executor() {
    bool own_thread = on_worker();
    close(*state_, false);
    if (!own_thread && pid_ == ::getpid()) await_end(true);
    for (auto& t : threads_) {
      if (t.joinable()) t.detach();
    }
  }

  // Calls f(args...) on a thread of the pool, in the order of submission, and returns its future. f
  // and args are moved or copied. Never waits. Throws `error` if the pool was shut down or belongs
  // to the parent process of a fork, and std::system_error if there is no thread and none can be
  // created. (Executor.submit)
  template <class F, class... A>
    requires std::invocable<std::decay_t<F>, std::decay_t<A>...>
  auto submit(F&& f, A&&... args) {
    auto made = detail::make_call(std::forward<F>(f), std::forward<A>(args)...);
    add(std::move(made.first));
    return std::move(made.second);
  }

  // Accepts no more calls. Calls that have not begun are cancelled if `cancel_futures`, else they
  // are still made. If `wait`, waits for the end of all calls (a cancellation point); throws
  // `error` if a call of this pool asks for that. May be called again. (Executor.shutdown)
  void shutdown(bool wait = true, bool cancel_futures = false) {
    if (wait && on_worker()) throw error("a call of a pool cannot wait for the end of that pool");
    close(*state_, cancel_futures);
    if (wait) await_end(false);
  }

  // The maximum number of threads.
  unsigned max_workers() const noexcept { return max_workers_; }
  // The number of threads that exist now.
  unsigned workers() const {
    std::lock_guard lock(state_->mutex);
    return state_->live;
  }
  // The process that made the pool. Children of a fork do not have its threads.
  pid_t process() const noexcept { return pid_; }

 private:
  // State that the threads use, also after the pool is gone.
  struct state {
    std::mutex mutex;
    detail::remote_wait work, end;
    std::deque<detail::call_handle> jobs;
    unsigned idle = 0, live = 0;
    bool closed = false;
  };

  static const state*& served() noexcept {
    static thread_local const state* s = nullptr;
    return s;
  }
  bool on_worker() const noexcept { return served() == state_.get(); }

  static void serve(std::shared_ptr<state> s) {
    served() = s.get();
    std::unique_lock lock(s->mutex);
    for (;;) {
      s->idle++;
      s->work.wait(lock, std::chrono::steady_clock::time_point::max(),
                   [&] { return !s->jobs.empty() || s->closed; },
                   {.kind = core::wait_kind::queue, .in_front = true});
      s->idle--;
      if (s->jobs.empty()) break;
      auto j = std::move(s->jobs.front());
      s->jobs.pop_front();
      lock.unlock();
      if (j->start()) j->run();
      j.reset();
      lock.lock();
    }
    s->live--;
    s->end.notify_all();
  }

  void add(detail::call_handle j) {
    if (pid_ != ::getpid()) throw error("the executor belongs to the parent process of a fork");
    std::lock_guard lock(state_->mutex);
    if (state_->closed) throw error("the executor was shut down");
    state_->jobs.push_back(std::move(j));
    if (state_->jobs.size() > state_->idle && state_->live < max_workers_) {
      try {
        add_thread();
      } catch (const std::system_error&) {
        if (state_->live == 0) {
          state_->jobs.pop_back();
          throw;
        }
      }
    }
    state_->work.notify_one();
  }
  void add_thread() {
    detail::signals_blocked quiet;
    threads_.emplace_back(serve, state_);
    pthread_setname_np(threads_.back().native_handle(), name_.c_str());
    state_->live++;
  }
  void await_end(bool whatever_comes) {
    std::unique_lock lock(state_->mutex);
    state_->end.wait(lock, std::chrono::steady_clock::time_point::max(),
                     [&] { return state_->live == 0; }, {.uninterruptible = whatever_comes});
    std::vector<std::thread> ended = std::exchange(threads_, {});
    lock.unlock();
    for (auto& t : ended) t.join();  // they have no work left
  }

  const unsigned max_workers_;
  const std::string name_;
  const pid_t pid_ = ::getpid();
  std::shared_ptr<state> state_ = std::make_shared<state>();
  std::vector<std::thread> threads_;
};

// The pool that run_in_executor() uses by default. It is made at first use, and again in the child
// of a fork. Calls that still run at the process's exit are abandoned. Any kernel thread may call
// it.
inline thread_pool_executor& default_executor() {
  static std::mutex mutex;
  static thread_pool_executor* pool = nullptr;
  std::lock_guard lock(mutex);
  if (!pool || pool->process() != ::getpid())
    pool = new thread_pool_executor;  // never destroyed, so that exit() does not wait
  return *pool;
}

// Runs f(args...) in default_executor(): see run_in_executor() in executor.hpp. (asyncio.to_thread)
template <class F, class... A>
  requires std::invocable<std::decay_t<F>, std::decay_t<A>...>
auto run_in_executor(F&& f, A&&... args) {
  return run_in_executor(default_executor(), std::forward<F>(f), std::forward<A>(args)...);
}

}  // namespace tendril
