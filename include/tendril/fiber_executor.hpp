// A pool of kernel threads, each with a hub, that make calls in fibers: a program's tasks on all
// cores.
//
//   tendril::fiber_executor cores;              // a kernel thread for each processor
//   auto page = cores.submit(fetch, url);       // a fiber on one of them; may wait as any fiber
//   use(page.get());                            // this fiber waits; the others run
//
// Each call runs in a fiber of its own, on one of the kernel threads (a worker) from its beginning
// to its end: fibers never move. What moves is a call that has not begun:
//
// * A call is given to the worker with the fewest calls that have not ended.
// * A call that a fiber of the executor submits stays on that fiber's worker, unless one that has
//   no more calls sleeps.
// * A worker that has nothing to run takes calls from the others, the oldest first: at once from
//   one that has more calls; from another if it has begun none for half a millisecond, since that
//   one may be about to.
//
// A worker begins the calls that came from elsewhere in the order of submission. Of those that its
// own fibers submit, it begins the newest first, so that a tree of calls is walked depth first, in
// little memory; each 16th time the oldest goes first, so that none waits for ever. Between two
// beginnings, all its fibers that can run do so once.
//
// Fibers of one worker share its kernel thread: one that computes without waiting or yielding keeps
// its others waiting, but no call that has not begun, if another worker has nothing to do. Workers
// block all signals, so that handlers run on the program's own threads. Any kernel thread may use
// the executor, and so may its own fibers. (Go's scheduler, Photon's WorkPool, Boost.Fiber's
// work_stealing; concurrent.futures.Executor)
#pragma once

#include "detail/cxx20.hpp"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "detail/biased_lock.hpp"
#include "detail/processors.hpp"
#include "detail/remote_wait.hpp"
#include "detail/work_deque.hpp"
#include "executor.hpp"
#include "task.hpp"

namespace tendril {

struct fiber_executor_options {
  // The kernel threads get its first 15 characters.
  std::string name = "tendril-fibers";
  // The size of the fibers' stacks, as fiber_options::stack_size.
  std::size_t stack_size = 0;
};

class fiber_executor : public executor<fiber_executor> {
 public:
  // Makes `workers` kernel threads; 0: one for each processor that the calling thread may use. They
  // are kernel threads also where the program's threads are fibers (the preload library). Throws
  // std::system_error if they cannot be created.
  explicit fiber_executor(unsigned workers = 0, fiber_executor_options o = {})
      : state_(std::make_shared<state>(workers ? workers : detail::usable_processors(),
                                       std::move(o))) {
    threads_.reserve(state_->workers.size());
    for (auto& w : state_->workers) {
      std::unique_ptr<beginning> begins(new beginning{state_, w.get()});
      state_->add_live(1);
      unsigned long id;
      if (int e = core::start_kernel_thread(id, serve, begins.get())) {
        state_->add_live(-1);
        close(false);
        await_end(true);
        throw std::system_error(e, std::generic_category(), "a worker of a fiber_executor");
      }
      (void)begins.release();  // the thread's
      threads_.push_back(id);
    }
  }
  fiber_executor(const fiber_executor&) = delete;
  // Waits until all calls have ended, including those that have not begun, then until the kernel
  // threads have. A kill does not end that wait. In a call of the executor, and in the child of a
  // fork, it does not wait. Tasks that calls have spawned, and that are unfinished then, are
  // killed.
  ~fiber_executor() {
    if (is_parents()) {
      // Other kernel threads of the parent may have held its locks.
      (void)new std::shared_ptr<state>(std::move(state_));
      return;
    }
    bool in_call = my_worker();
    close(false);
    if (!in_call) await_end(true);
    for (unsigned long id : threads_) core::detach_kernel_thread(id);
  }

  // Calls f(args...) in a new fiber on one of the kernel threads, and returns its future. f and
  // args are moved or copied. Never waits. Throws `error` if the executor was shut down or belongs
  // to the parent process of a fork, and std::bad_alloc. If there is no memory for the fiber when
  // its turn comes, the future throws std::bad_alloc. (Executor.submit)
  template <class F, class... A>
    requires std::invocable<std::decay_t<F>, std::decay_t<A>...>
  auto submit(F&& f, A&&... args) {
    auto made = detail::make_call(std::forward<F>(f), std::forward<A>(args)...);
    add(std::move(made.first));
    return std::move(made.second);
  }

  // Accepts no more calls. Calls that have not begun are cancelled if `cancel_futures`, else they
  // are still made. If `wait`, waits for the end of all calls (a cancellation point); throws
  // `error` if a call of this executor asks for that. May be called again. In the child of a fork
  // it does nothing. (Executor.shutdown)
  void shutdown(bool wait = true, bool cancel_futures = false) {
    if (is_parents()) return;
    if (wait && my_worker())
      throw error("a call of an executor cannot wait for the end of that executor");
    close(cancel_futures);
    if (wait) await_end(false);
  }

  // The number of kernel threads that the executor was made with.
  unsigned workers() const noexcept { return unsigned(state_->workers.size()); }
  // The process that made the executor. Children of a fork do not have its threads.
  pid_t process() const noexcept { return pid_; }

 private:
  using call = detail::submitted_call;
  class worker;

  // What the workers share; they use it also after the executor is gone.
  struct state {
    state(unsigned n, fiber_executor_options o)
        : options(std::move(o)), sleepers(new std::atomic<std::uint64_t>[(n + 63) / 64]()) {
      options.name.resize(std::min<std::size_t>(options.name.size(), 15));
      for (unsigned i = 0; i < n; i++) workers.push_back(std::make_unique<worker>(*this, i));
    }
    void add_live(int n) {
      std::lock_guard lock(mutex);
      live += n;
      end.notify_all();
    }
    // Of the workers that sleep, the one with the fewest calls; null: none sleeps.
    worker* sleeper() const noexcept {
      worker* best = nullptr;
      for (std::size_t word = 0; word < (workers.size() + 63) / 64; word++) {
        std::uint64_t bits = sleepers[word].load(std::memory_order_seq_cst);
        for (; bits; bits &= bits - 1) {
          worker* w = workers[word * 64 + unsigned(std::countr_zero(bits))].get();
          if (w->sleeps() && (!best || w->load() < best->load())) best = w;
        }
      }
      return best;
    }
    // The worker with the fewest calls, one that sleeps before another.
    worker* least_loaded() const noexcept {
      worker* best = sleeper();
      for (auto& w : workers) {
        if (!best || w->load() < best->load()) best = w.get();
      }
      return best;
    }
    // A call was added for a worker that did not sleep: lets one that does look for it.
    void offer() noexcept {
      worker* w = sleeper();
      if (w && !w->will_look() && w->claim()) w->invite();
    }
    // What the others have for a worker that has nothing to run.
    enum class surplus { none, of_equals, of_busier };
    surplus surplus_beside(const worker& mine) const noexcept {
      surplus found = surplus::none;
      for (auto& w : workers) {
        if (w.get() == &mine || !w->has_surplus()) continue;
        if (w->load() > mine.load()) return surplus::of_busier;
        found = surplus::of_equals;
      }
      return found;
    }
    // Takes a call of another worker: of one that has more calls, or of any.
    call* take_beside(const worker& mine, bool of_any) noexcept {
      for (std::size_t i = 1; i < workers.size(); i++) {
        worker& w = *workers[(mine.index + i) % workers.size()];
        if (!of_any && w.load() <= mine.load()) continue;
        if (call* c = w.take_surplus()) return c;
      }
      return nullptr;
    }
    void drop_calls() {
      for (auto& w : workers) {
        for (;;) {
          detail::call_handle c(w->own.take_oldest());
          if (!c) c.reset(w->take_handed());
          if (!c) break;
          c->cancel();
        }
      }
    }

    fiber_executor_options options;
    std::vector<std::unique_ptr<worker>> workers;
    // A bit for each worker that sleeps, at least.
    std::unique_ptr<std::atomic<std::uint64_t>[]> sleepers;
    std::atomic<bool> closed{false};
    std::mutex mutex;
    detail::remote_wait end;
    int live = 0;  // kernel threads
  };

  // A kernel thread and its calls.
  //
  // No wake-up is lost: who adds a call looks for workers that sleep after that, and a worker that
  // is about to sleep looks for calls after it has told so.
  class alignas(64) worker : public core::sleep_observer {
   public:
    worker(state& s, unsigned i)
        : core::sleep_observer{before_sleep, after_sleep}, index(i), all_(s) {}
    state& all() const noexcept { return all_; }

    // --- any kernel thread may call these ---

    // How many calls it has, begun or not.
    std::size_t load() const noexcept {
      return running_.load(std::memory_order_relaxed) + handed_.load(std::memory_order_relaxed) +
             own.size();
    }
    bool sleeps() const noexcept {
      condition c = now_.load(std::memory_order_seq_cst);
      return c == condition::asleep || c == condition::dozes;
    }
    // Whether it sleeps, and will soon wake to look for calls of others.
    bool will_look() const noexcept {
      return now_.load(std::memory_order_seq_cst) == condition::dozes;
    }
    // Returns whether it slept, and nobody else has claimed it: then the caller must wake it, by
    // hand() or invite().
    bool claim() noexcept {
      condition was = now_.load(std::memory_order_seq_cst);
      return (was == condition::asleep || was == condition::dozes) &&
             now_.compare_exchange_strong(was, condition::claimed, std::memory_order_seq_cst);
    }
    // Gives it a call. Throws `error` if the executor was shut down.
    void hand(detail::call_handle c) {
      detail::held h(lock_);
      bool open = !all_.closed.load(std::memory_order_relaxed);
      if (open) {
        call* added = c.release();
        (first_ ? last_->next : first_) = added;
        last_ = added;
        count_handed(1);
      }
      wake();
      h.release();
      if (!open) throw error("the executor was shut down");
    }
    // Lets it take calls of other workers.
    void invite() noexcept {
      detail::held h(lock_);
      invited_ = true;
      wake();
    }
    // Lets it see that the executor was shut down.
    void notify() noexcept {
      detail::held h(lock_);
      wake();
    }
    // Whether it has calls that others may take. One that was handed to it while it slept is left
    // to it.
    bool has_surplus() const noexcept {
      return !own.empty() || handed_.load(std::memory_order_seq_cst) > reserved();
    }
    call* take_surplus() noexcept {
      if (call* c = own.take_oldest()) return c;
      return take_handed(reserved());
    }
    // The oldest of more than `besides` calls that were handed to it; null: there is none.
    call* take_handed(std::size_t besides = 0) noexcept {
      if (handed_.load(std::memory_order_relaxed) <= besides) return nullptr;
      detail::held h(lock_);
      if (handed_.load(std::memory_order_relaxed) <= besides) return nullptr;
      count_handed(-1);
      return std::exchange(first_, first_->next);
    }

    // --- its own kernel thread ---

    // Begins calls until the executor has ended.
    void serve() noexcept {
      main_ = core::fiber_current();
      now_.store(condition::awake, std::memory_order_seq_cst);
      if (all_.workers.size() > 1) core::set_sleep_observer(this);
      for (unsigned turn = 1;; turn++) {
        if (call* c = next(turn)) begin(detail::call_handle(c));
        else if (!await_calls()) break;
      }
      core::set_sleep_observer(nullptr);
    }
    // Adds a call of one of its fibers. Throws `error` if the executor was shut down.
    void add(detail::call_handle c) {
      if (all_.closed.load(std::memory_order_relaxed)) throw error("the executor was shut down");
      worker* other = all_.sleeper();
      if (other && other->load() <= load() && other->claim()) return other->hand(std::move(c));
      own.push(c.get());
      (void)c.release();
      if (awaits_) core::unpark(main_);
      all_.offer();
    }
    // A fiber of one of its calls is gone.
    void ended() noexcept {
      count_running(-1);
      if (all_.closed.load(std::memory_order_relaxed)) [[unlikely]]
        notify();
    }
    // Whether begin() is making a fiber.
    bool is_spawning() const noexcept { return spawning_; }

    const unsigned index;
    detail::work_deque<call> own;  // what its fibers have submitted

   private:
    // dozes: asleep, for half a millisecond at most. claimed: being woken.
    enum class condition : std::uint8_t { awake, asleep, dozes, claimed };

    std::size_t reserved() const noexcept {
      return now_.load(std::memory_order_seq_cst) == condition::claimed ? 1 : 0;
    }
    // Under the lock.
    void count_handed(int n) noexcept {
      handed_.store(handed_.load(std::memory_order_relaxed) + std::size_t(n),
                    std::memory_order_seq_cst);
    }
    void wake() noexcept {
      if (waits_) waits_ = false, core::unpark(main_);
    }
    void count_running(int n) noexcept {
      running_.store(running_.load(std::memory_order_relaxed) + std::size_t(n),
                     std::memory_order_relaxed);
    }

    call* next(unsigned turn) noexcept {
      call* c = nullptr;
      if (turn % fair_turn == 0 && !(c = take_handed())) c = own.take_oldest();
      if (!c) c = own.pop();
      if (!c) c = take_handed();
      if (c) return c;
      if (all_.closed.load(std::memory_order_relaxed)) return all_.take_beside(*this, true);
      if (std::exchange(insists_, false)) return all_.take_beside(*this, true);
      if (looks_around_) c = all_.take_beside(*this, false);
      looks_around_ = c != nullptr;
      return c;
    }
    void begin(detail::call_handle c) noexcept;
    // Waits until there may be a call. Returns false when the executor has ended.
    bool await_calls() noexcept {
      {
        detail::held h(lock_);
        if (!first_ && !invited_) {
          if (all_.closed.load(std::memory_order_relaxed) &&
              running_.load(std::memory_order_relaxed) == 0)
            return false;
          waits_ = awaits_ = true;
        }
      }
      if (awaits_) {
        core::wait_info what;
        what.kind = core::wait_kind::queue;
        what.wakeable_by_system = true;
        what.uninterruptible = true;
        limited_ = std::exchange(will_insist_, false);
        std::int64_t until = limited_ ? core::now_ns() + grace_ns : INT64_MAX;
        insists_ = core::park(until, what, true) == core::wake::timeout;
        awaits_ = limited_ = false;
      }
      detail::held h(lock_);
      waits_ = false;
      if (std::exchange(invited_, false)) looks_around_ = true;
      return true;
    }
    static bool before_sleep(core::sleep_observer& o) noexcept {
      auto& w = static_cast<worker&>(o);
      w.now_.store(condition::asleep, std::memory_order_seq_cst);
      w.sleepers().fetch_or(w.bit(), std::memory_order_seq_cst);
      if (!w.awaits_) return true;
      auto found = w.all_.surplus_beside(w);
      if (found == state::surplus::none) return true;
      if (found == state::surplus::of_equals && w.limited_) {
        condition was = condition::asleep;  // unless it has been claimed by now
        w.now_.compare_exchange_strong(was, condition::dozes, std::memory_order_seq_cst);
        return true;
      }
      after_sleep(o);
      (found == state::surplus::of_busier ? w.looks_around_ : w.will_insist_) = true;
      core::unpark(w.main_);
      return false;
    }
    static void after_sleep(core::sleep_observer& o) noexcept {
      auto& w = static_cast<worker&>(o);
      w.sleepers().fetch_and(~w.bit(), std::memory_order_relaxed);
      w.now_.store(condition::awake, std::memory_order_seq_cst);
    }
    std::atomic<std::uint64_t>& sleepers() const noexcept { return all_.sleepers[index / 64]; }
    std::uint64_t bit() const noexcept { return std::uint64_t(1) << index % 64; }

    static constexpr unsigned fair_turn = 16;
    static constexpr std::int64_t grace_ns = 500'000;

    state& all_;
    core::fiber* main_ = nullptr;  // begins the calls
    bool awaits_ = false;          // main_ is parked until there is a call
    bool looks_around_ = false;    // main_ is to take calls of workers that have more
    bool will_insist_ = false;     // the next wait of main_ is to be limited, then it insists
    bool insists_ = false;         // main_ is to take a call of whatever worker
    bool limited_ = false;         // main_ is parked for a limited time
    bool spawning_ = false;
    std::atomic<std::size_t> running_{0};  // calls that have begun and not ended
    alignas(64) detail::biased_lock lock_;
    // Under the lock: calls that were handed to it, and what it is to be told.
    call* first_ = nullptr;
    call* last_ = nullptr;
    std::atomic<std::size_t> handed_{0};  // how many; it may be read without the lock
    bool waits_ = false;                  // main_ must be woken
    bool invited_ = false;
    std::atomic<condition> now_{condition::claimed};  // until its kernel thread has begun
  };

  // The code of a call's fiber.
  class begun_call {
   public:
    begun_call(worker& w, detail::call_handle c) noexcept : worker_(&w), call_(std::move(c)) {}
    begun_call(begun_call&& o) noexcept
        : worker_(std::exchange(o.worker_, nullptr)), call_(std::move(o.call_)) {}
    ~begun_call() {
      if (!worker_) return;
      // It never ran: there is no memory, or somebody found the fiber and killed it.
      if (call_ && call_->start()) {
        call_->fail(worker_->is_spawning() ? std::make_exception_ptr(std::bad_alloc())
                                           : std::make_exception_ptr(fiber_exit()));
      }
      call_.reset();
      worker_->ended();
    }
    void operator()() {
      if (call_->start()) call_->run();
      call_.reset();
    }

   private:
    worker* worker_;
    detail::call_handle call_;
  };

  struct beginning {
    std::shared_ptr<state> all;
    worker* mine;
  };
  static void* serve(void* p) {
    std::unique_ptr<beginning> b(static_cast<beginning*>(p));
    std::shared_ptr<state> all = std::move(b->all);
    detail::signals_blocked quiet;
    ::pthread_setname_np(::pthread_self(), all->options.name.c_str());
    served() = b->mine;
    b->mine->serve();
    served() = nullptr;
    all->add_live(-1);
    return nullptr;
  }
  static worker*& served() noexcept {
    static thread_local worker* w = nullptr;
    return w;
  }
  // The worker in whose call this is, or null.
  worker* my_worker() const noexcept {
    worker* w = served();
    return w && &w->all() == state_.get() ? w : nullptr;
  }
  bool is_parents() const noexcept { return generation_ != core::process_generation(); }

  void add(detail::call_handle c) {
    if (is_parents()) throw error("the executor belongs to the parent process of a fork");
    if (worker* mine = my_worker()) return mine->add(std::move(c));
    // the call may destroy the executor as soon as it is given
    std::shared_ptr<state> all = state_;
    worker* to = all->least_loaded();
    bool slept = to->claim();
    to->hand(std::move(c));
    if (!slept) all->offer();
  }
  void close(bool cancel_futures) {
    state_->closed.store(true);
    if (cancel_futures) state_->drop_calls();
    for (auto& w : state_->workers) w->notify();
  }
  void await_end(bool whatever_comes) {
    std::unique_lock lock(state_->mutex);
    state_->end.wait(lock, clock::time_point::max(), [&] { return state_->live == 0; },
                     {.uninterruptible = whatever_comes});
    std::vector<unsigned long> ended = std::exchange(threads_, {});
    lock.unlock();
    for (unsigned long id : ended) core::join_kernel_thread(id);  // they have no work left
  }

  const pid_t pid_ = ::getpid();
  const unsigned generation_ = core::process_generation();
  std::shared_ptr<state> state_;
  std::vector<unsigned long> threads_;
};

inline void fiber_executor::worker::begin(detail::call_handle c) noexcept {
  count_running(1);
  spawning_ = true;
  try {
    spawn({.stack_size = all_.options.stack_size}, begun_call(*this, std::move(c)));
  } catch (const std::bad_alloc&) {  // the call has failed with it
  }
  spawning_ = false;
  core::yield();
}

}  // namespace tendril
