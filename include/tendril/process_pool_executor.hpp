// A pool of processes that make calls: for work that uses much CPU time and must not share memory,
// or may crash.
//
//   tendril::process_pool_executor pool(4);         // early in main, before other threads are made
//   auto f = pool.submit(count_primes, 10'000'000);
//   auto g = pool.submit([base](int n) { return base + n; }, 1);
//
// The function, its arguments and its result are sent as bytes (serializer.hpp). A lambda's
// captures are copied as they are, so they may be numbers and plain structures, but not references,
// pointers or strings. What a call throws is thrown by its future: the standard exceptions,
// std::system_error and tendril::error with their own type, others as remote_error.
//
// The constructor forks a server process, which forks the workers, so they see the program's memory
// as it was at the time of construction. Workers have the standard descriptors (with /dev/null as
// input) and none of the program's others, and they do not have code that was loaded later
// (dlopen). If a worker dies during a call, the pool is broken: that call and those that have not
// begun fail with broken_process_pool; calls in other workers end normally. Any kernel thread may
// use the pool. (concurrent.futures.ProcessPoolExecutor, multiprocessing's forkserver)
#pragma once

#include "detail/cxx20.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "detail/worker_process.hpp"
#include "executor.hpp"
#include "serializer.hpp"
#include "task.hpp"

namespace tendril {

// A worker process died before its call had ended. The pool accepts no more calls.
class broken_process_pool : public error {
 public:
  broken_process_pool() : error("a process of the pool died before its call had ended") {}
};

class process_pool_executor : public executor<process_pool_executor> {
 public:
  // Makes a pool of at most `max_workers` processes, which are created when there is work for them;
  // 0: as many as there are cores. Throws std::system_error if no process or thread can be created.
  explicit process_pool_executor(unsigned max_workers = 0)
      : state_(std::make_shared<state>(
            max_workers ? max_workers : std::max(1u, std::thread::hardware_concurrency()))) {
    // A separate kernel thread talks to the workers, with a fiber for each. It blocks all signals,
    // so that handlers run on the program's own threads.
    detail::signals_blocked quiet;
    manager_ = std::thread(manage, state_);
  }
  process_pool_executor(const process_pool_executor&) = delete;
  // Waits until all calls have ended, including those that have not begun, then until the processes
  // have. A kill does not end that wait. In the child of a fork, it does not wait.
  ~process_pool_executor() {
    if (pid_ != ::getpid()) {
      manager_.detach();
      return;
    }
    close(*state_, false);
    await_end(true);
    if (manager_.joinable()) manager_.join();
  }

  // Calls f(args...) in a process of the pool, in the order of submission, and returns its future.
  // Never waits. Throws `error` if the pool was shut down or belongs to the parent process of a
  // fork, and broken_process_pool. (Executor.submit)
  template <class F, class... A>
    requires std::invocable<std::decay_t<F>, std::decay_t<A>...>
  auto submit(F&& f, A&&... args) {
    using function = std::decay_t<F>;
    using result = std::decay_t<std::invoke_result_t<function, std::decay_t<A>...>>;
    static_assert(detail::copied_as_bytes<function> && !std::is_member_pointer_v<function>,
                  "the function must be trivially copyable and hold no pointers to objects");
    static_assert((serializable<std::decay_t<A>> && ...), "the arguments must be serializable");
    static_assert(std::is_void_v<result> || serializable<result>,
                  "the result must be serializable");
    byte_sink request;
    detail::call_from_bytes call = make_call<result, function, std::decay_t<A>...>;
    request << call << static_cast<const function&>(f);
    (void)(request << ... << static_cast<const std::decay_t<A>&>(args));
    auto j = std::make_unique<call_job<result>>();
    j->request = std::move(request).bytes();
    future<result> answer = j->outcome.get_future();
    add(std::move(j));
    return answer;
  }

  // Accepts no more calls. Calls that have not begun are cancelled if `cancel_futures`, else they
  // are still made. If `wait`, waits for the end of all calls and processes (a cancellation point).
  // May be called again. (Executor.shutdown)
  void shutdown(bool wait = true, bool cancel_futures = false) {
    close(*state_, cancel_futures);
    if (wait) await_end(false);
  }

  // The maximum number of worker processes.
  unsigned max_workers() const noexcept { return state_->max_workers; }
  // The number of worker processes that exist now.
  unsigned workers() const {
    std::lock_guard lock(state_->mutex);
    return state_->live;
  }

 private:
  struct job {
    virtual ~job() = default;
    virtual bool start() = 0;
    virtual void finish(byte_source& response) = 0;
    virtual void fail(std::exception_ptr e) = 0;
    virtual void cancel() = 0;
    std::string request;
  };
  template <class R>
  struct call_job : job {
    bool start() override { return outcome.start(); }
    void finish(byte_source& response) override {
      try {
        if (!response.read<bool>()) return outcome.set_exception(detail::read_error(response));
        if constexpr (std::is_void_v<R>) return outcome.set_value();
        else return outcome.set_value(response.read<R>());
      } catch (...) {
        fail(std::current_exception());
      }
    }
    void fail(std::exception_ptr e) override {
      if (!outcome.get_future().done()) outcome.set_exception(std::move(e));
    }
    void cancel() override { outcome.get_future().cancel(); }
    promise<R> outcome;
  };
  struct state {
    explicit state(unsigned n) : max_workers(n), server(std::make_unique<detail::fork_server>()) {}
    const unsigned max_workers;
    std::mutex mutex;
    detail::remote_wait work, end;
    std::deque<std::unique_ptr<job>> jobs;
    unsigned live = 0;
    bool closed = false, broken = false, ended = false;
    std::unique_ptr<detail::fork_server> server;  // the manager's
  };

  // Runs in the worker.
  template <class R, class F, class... A>
  static void make_call(byte_source& from, byte_sink& to) {
    F f = from.read<F>();
    std::tuple<A...> args{from.read<A>()...};
    if constexpr (std::is_void_v<R>) std::apply(std::move(f), std::move(args));
    else to << static_cast<const R&>(std::apply(std::move(f), std::move(args)));
  }

  // The manager's fibers. Each has one worker at a time, created at its first call.
  static void manage(std::shared_ptr<state> s) {
    std::vector<task<void>> tasks;
    for (unsigned i = 0; i < s->max_workers; i++) tasks.push_back(spawn([&s = *s] { direct(s); }));
    joinall(tasks);
    s->server.reset();
    std::lock_guard lock(s->mutex);
    s->ended = true;
    s->end.notify_all();
  }
  static void direct(state& s) {
    detail::owned_fd worker;
    std::unique_lock lock(s.mutex);
    for (;;) {
      // A fiber that already has a process goes before one that would create it.
      s.work.wait(lock, clock::time_point::max(),
                  [&] { return !s.jobs.empty() || s.closed || s.broken; },
                  {.kind = core::wait_kind::queue, .in_front = bool(worker)});
      if (s.jobs.empty()) break;
      std::unique_ptr<job> j = std::move(s.jobs.front());
      s.jobs.pop_front();
      lock.unlock();
      bool good = !j->start() || make(s, worker, *j);
      if (!good) break_pool(s, *j);
      j.reset();
      lock.lock();
      if (!good) break;
    }
    s.live -= bool(worker);
  }
  static bool make(state& s, detail::owned_fd& worker, job& j) {
    if (!worker) {
      try {
        worker = s.server->new_worker();
      } catch (const std::system_error&) {  // no descriptors: this call fails, the next may not
        j.fail(std::current_exception());
        return true;
      }
      if (!worker) return false;
      std::lock_guard lock(s.mutex);
      s.live++;
    }
    std::string response;
    if (!detail::send_frame(worker.get(), j.request) ||
        !detail::receive_frame(worker.get(), response))
      return false;
    byte_source from(response);
    j.finish(from);
    return true;
  }
  static void break_pool(state& s, job& running) {
    std::deque<std::unique_ptr<job>> never;
    {
      std::lock_guard lock(s.mutex);
      s.broken = true;
      never.swap(s.jobs);
      s.work.notify_all();
    }
    auto e = std::make_exception_ptr(broken_process_pool());
    running.fail(e);
    for (auto& j : never) j->fail(e);
  }

  void add(std::unique_ptr<job> j) {
    if (pid_ != ::getpid()) throw error("the executor belongs to the parent process of a fork");
    std::lock_guard lock(state_->mutex);
    if (state_->broken) throw broken_process_pool();
    if (state_->closed) throw error("the executor was shut down");
    state_->jobs.push_back(std::move(j));
    state_->work.notify_one();
  }
  void await_end(bool whatever_comes) {
    std::unique_lock lock(state_->mutex);
    state_->end.wait(lock, clock::time_point::max(), [&] { return state_->ended; },
                     {.uninterruptible = whatever_comes});
  }

  const pid_t pid_ = ::getpid();
  std::shared_ptr<state> state_;
  std::thread manager_;
};

}  // namespace tendril
