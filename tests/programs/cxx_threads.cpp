// The threads, locks and futures of C++20's standard library. Its semaphores, latches, barriers and
// atomic waits make futex system calls themselves.
#include <barrier>
#include <chrono>
#include <condition_variable>
#include <future>
#include <latch>
#include <numeric>
#include <semaphore>
#include <shared_mutex>
#include <stop_token>
#include <system_error>
#include <thread>
#include <vector>

#include "cases.hpp"

using namespace std::chrono_literals;

namespace {

template <class F>
void in_threads(int n, F f) {
  std::vector<std::thread> threads;
  for (int i = 0; i < n; i++) threads.emplace_back(f, i);
  for (std::thread& t : threads) t.join();
}

void threads() {
  std::printf("-- thread\n");
  std::thread nobody;
  say("a thread object without a thread is joinable", nobody.joinable());
  try {
    nobody.join();
  } catch (const std::system_error& e) {
    say("  join", e.code() == std::errc::invalid_argument);
  }
  std::thread::id inside;
  std::string text = "moved";
  std::size_t length = 0;
  std::thread t([&inside](std::string s,
                          std::size_t& n) { inside = std::this_thread::get_id(), n = s.size(); },
                std::move(text), std::ref(length));
  std::thread::id id = t.get_id();
  std::thread moved = std::move(t);
  say("the old name is joinable after a move", t.joinable());
  moved.join();
  say("the arguments' length", length);
  say("get_id is the thread's own", id == inside && id != std::this_thread::get_id());
  say("joinable after join", moved.joinable());
  try {
    std::thread self;
    std::mutex m;
    m.lock();
    self = std::thread([&] {
      m.lock();
      try {
        self.join();
      } catch (const std::system_error& e) {
        say("join of oneself is a deadlock", e.code() == std::errc::resource_deadlock_would_occur);
      }
    });
    m.unlock();
    self.join();
  } catch (const std::exception& e) {
    say("unexpected", e.what());
  }
  std::promise<void> detached;
  std::thread([&] { detached.set_value_at_thread_exit(); }).detach();
  detached.get_future().wait();
  std::atomic<long> sum = 0;
  in_threads(50, [&](int i) {
    for (int k = 0; k < 100; k++) {
      sum += i;
      if (k % 10 == 0) std::this_thread::yield();
      if (k % 50 == 0) std::this_thread::sleep_for(100us);
    }
  });
  say("fifty threads add", sum.load());
  say("hardware_concurrency is known", std::thread::hardware_concurrency() > 0);
}

void stopping() {
  std::printf("-- jthread, stop_token\n");
  notes seen;
  {
    std::jthread t([&](std::stop_token stop) {
      std::mutex m;
      std::condition_variable_any c;
      std::unique_lock lock(m);
      bool done = c.wait(lock, stop, [] { return false; });
      seen.add(done ? "done" : "stopped");
    });
  }  // requests the stop, and joins
  say("the end of a jthread", seen.take());
  std::stop_source source;
  std::thread::id asker, caller;
  std::latch waits(1);
  std::jthread waiter([&] {
    std::stop_callback called(source.get_token(), [&] { caller = std::this_thread::get_id(); });
    waits.count_down();
    while (!source.stop_requested()) std::this_thread::sleep_for(50us);
  });
  std::jthread asks([&] {
    asker = std::this_thread::get_id();
    waits.wait();
    seen.add(source.request_stop() ? "first" : "late");
    seen.add(source.request_stop() ? "first" : "late");
  });
  asks.join();
  waiter.join();
  say("asked", seen.take());
  say("callbacks run where the stop is asked for", asker == caller);
  // The destructor of a callback waits for its call on another thread to return.
  std::stop_source other;
  std::atomic<int> stage = 0;
  std::jthread calls;
  {
    std::stop_callback slow(other.get_token(), [&] {
      stage = 1;
      stage.notify_all();
      std::this_thread::sleep_for(2ms);
      stage = 2;
    });
    calls = std::jthread([&] { other.request_stop(); });
    stage.wait(0);
  }
  say("destroying a callback waits for it", stage == 2);
  say("a token without a source", std::stop_token().stop_possible());
}

void mutexes() {
  std::printf("-- mutexes\n");
  std::mutex m;
  std::recursive_mutex r;
  std::timed_mutex t;
  std::recursive_timed_mutex rt;
  long counted = 0;
  in_threads(8, [&](int) {
    for (int i = 0; i < 500; i++) {
      std::scoped_lock both(m, t);  // deadlock-free, in any order
      long before = counted;
      if (i % 100 == 0) std::this_thread::yield();
      counted = before + 1;
    }
  });
  say("scoped_lock of two", counted);
  std::scoped_lock hold(m, t);
  r.lock(), r.lock(), rt.lock(), rt.lock();
  std::thread([&] {
    say("try_lock of another's mutex", m.try_lock());
    say("  recursive", r.try_lock());
    say("  timed", t.try_lock());
    say("  timed for a while", t.try_lock_for(1ms));
    say("  until a time of the steady clock",
        t.try_lock_until(std::chrono::steady_clock::now() + 1ms));
    say("  until a time of the system's", t.try_lock_until(std::chrono::system_clock::now() + 1ms));
    say("  until a time in the past", t.try_lock_until(std::chrono::system_clock::time_point{}));
    say("  recursive timed", rt.try_lock_for(1ms));
    say("std::try_lock returns which", std::try_lock(r, m));
  }).join();
  r.unlock(), rt.unlock();
  say("one's own recursive one", r.try_lock() && rt.try_lock_for(1h));
  try {
    std::unique_lock<std::mutex> none;
    none.lock();
  } catch (const std::system_error& e) {
    say("unique_lock without a mutex", e.code() == std::errc::operation_not_permitted);
  }
  try {
    std::mutex own;
    std::unique_lock lock(own);
    lock.lock();
  } catch (const std::system_error& e) {
    say("unique_lock twice", e.code() == std::errc::resource_deadlock_would_occur);
  }
  r.unlock(), r.unlock(), rt.unlock(), rt.unlock();
}

void shared_mutexes() {
  std::printf("-- shared_mutex\n");
  std::shared_timed_mutex m;
  std::shared_mutex s;
  std::latch inside(5);
  in_threads(5, [&](int) {
    std::shared_lock lock(m);
    std::shared_lock again(s);
    inside.arrive_and_wait();  // all five at once
  });
  say("five readers at once", inside.try_wait());
  m.lock_shared();
  std::thread([&] {
    say("try_lock beside a reader", m.try_lock());
    say("  for a while", m.try_lock_for(1ms));
    say("try_lock_shared beside a reader", m.try_lock_shared());
    m.unlock_shared();
  }).join();
  m.unlock_shared();
  m.lock();
  std::thread([&] {
    say("try_lock_shared beside a writer", m.try_lock_shared());
    say("  for a while", m.try_lock_shared_for(1ms));
    say("  until", m.try_lock_shared_until(std::chrono::steady_clock::now() + 1ms));
  }).join();
  m.unlock();
  long a = 0, b = 0;
  std::atomic<long> torn = 0;
  in_threads(8, [&](int i) {
    for (int k = 0; k < 300; k++) {
      if (i < 2) {
        std::unique_lock lock(s);
        a++;
        if (k % 30 == 0) std::this_thread::yield();
        b++;
      } else {
        std::shared_lock lock(s);
        if (k % 50 == 0) std::this_thread::yield();
        torn += a != b;
      }
    }
  });
  say("two writers", a + b);
  say("readers that saw half of it", torn.load());
}

void conditions() {
  std::printf("-- condition_variable\n");
  std::mutex m;
  std::condition_variable c;
  std::condition_variable_any any;
  std::unique_lock lock(m);
  say("wait_for times out", c.wait_for(lock, 1ms) == std::cv_status::timeout);
  say("wait_until, steady",
      c.wait_until(lock, std::chrono::steady_clock::now() + 1ms) == std::cv_status::timeout);
  say("wait_until, system",
      c.wait_until(lock, std::chrono::system_clock::now() + 1ms) == std::cv_status::timeout);
  say("wait_until, over",
      c.wait_until(lock, std::chrono::steady_clock::time_point{}) == std::cv_status::timeout);
  say("wait_for a predicate", c.wait_for(lock, 1ms, [] { return false; }));
  say("any: wait_for times out", any.wait_for(lock, 1ms) == std::cv_status::timeout);
  lock.unlock();
  std::vector<int> queue;
  bool closed = false;
  long taken = 0;
  std::vector<std::thread> consumers;
  for (int i = 0; i < 6; i++) {
    consumers.emplace_back([&] {
      std::unique_lock l(m);
      for (;;) {
        c.wait(l, [&] { return closed || !queue.empty(); });
        if (queue.empty()) return;
        taken += queue.back();
        queue.pop_back();
      }
    });
  }
  in_threads(3, [&](int i) {
    for (int k = 1; k <= 200; k++) {
      std::lock_guard l(m);
      queue.push_back(k * (i + 1));
      c.notify_one();
      if (k % 40 == 0) std::this_thread::yield();
    }
  });
  {
    std::lock_guard l(m);
    closed = true;
  }
  c.notify_all();
  for (auto& t : consumers) t.join();
  say("six take what three make", taken);
  std::shared_mutex sm;
  bool ready = false;
  std::latch waiting(1);
  std::thread waiter([&] {
    std::shared_lock l(sm);
    waiting.count_down();
    any.wait(l, [&] { return ready; });
  });
  waiting.wait();
  {
    std::lock_guard l(sm);
    ready = true;
  }
  any.notify_all();
  waiter.join();
  say("any: with a shared lock", ready);
  // The thread that notifies at its exit has destroyed its thread-local objects by then.
  static bool alive = false;
  struct lives {
    lives() { alive = true; }
    ~lives() { alive = false; }
  };
  bool over = false;
  std::thread last([&] {
    thread_local lives here;
    static_cast<void>(&here);
    std::unique_lock l(m);
    over = true;
    std::notify_all_at_thread_exit(c, std::move(l));
  });
  lock.lock();
  c.wait(lock, [&] { return over; });
  say("notify_all_at_thread_exit comes after the destructors", !alive);
  lock.unlock();
  last.join();
}

int throws(int n) {
  if (n < 0) throw std::out_of_range("below zero");
  return n * 2;
}

void futures() {
  std::printf("-- future\n");
  say("async", std::async(std::launch::async, throws, 21).get());
  say("deferred",
      std::async(std::launch::deferred, throws, 4).wait_for(0s) == std::future_status::deferred);
  try {
    std::async(std::launch::async, throws, -1).get();
  } catch (const std::out_of_range& e) {
    say("an exception comes through", e.what());
  }
  std::vector<std::future<int>> many;
  for (int i = 0; i < 40; i++)
    many.push_back(std::async(std::launch::async, [i] {
      std::this_thread::sleep_for(std::chrono::microseconds(i * 37 % 500));
      return i;
    }));
  say("forty",
      std::accumulate(many.begin(), many.end(), 0, [](int sum, auto& f) { return sum + f.get(); }));
  std::promise<std::string> p;
  std::shared_future<std::string> f = p.get_future().share();
  say("not yet", f.wait_for(1ms) == std::future_status::timeout);
  std::atomic<int> got = 0;
  std::vector<std::thread> readers;
  for (int i = 0; i < 5; i++) readers.emplace_back([&, f] { got += f.get() == "value"; });
  p.set_value("value");
  for (auto& t : readers) t.join();
  say("five share one", got.load());
  try {
    p.set_value("again");
  } catch (const std::future_error& e) {
    say("set twice", e.code() == std::future_errc::promise_already_satisfied);
  }
  std::future<int> broken;
  std::thread([&] { broken = std::promise<int>().get_future(); }).join();
  try {
    broken.get();
  } catch (const std::future_error& e) {
    say("a promise that is broken", e.code() == std::future_errc::broken_promise);
  }
  std::packaged_task<int(int)> task(throws);
  std::future<int> result = task.get_future();
  std::thread(std::move(task), 8).join();
  say("packaged_task", result.get());
  std::packaged_task<int()> at_exit([] { return 5; });
  std::future<int> later = at_exit.get_future();
  std::atomic<bool> go = false;
  std::thread t([&] {
    at_exit.make_ready_at_thread_exit();
    go = later.wait_for(0s) == std::future_status::timeout;
  });
  say("make_ready_at_thread_exit", later.get());
  t.join();
  say("  and not before", go.load());
}

void coordination() {
  std::printf("-- latch, barrier, semaphore\n");
  std::latch l(6);
  std::atomic<int> before = 0, wrong = 0;
  in_threads(6, [&](int) {
    before++;
    l.arrive_and_wait();
    wrong += before != 6;
  });
  say("latch", wrong.load());
  int phases = 0;
  auto at_phase = [&]() noexcept { phases++; };
  std::barrier b(5, at_phase);
  std::atomic<int> inside = 0;
  in_threads(5, [&](int i) {
    for (int phase = 0; phase < 20; phase++) {
      inside++;
      if (i == 0 && phase == 10) std::this_thread::sleep_for(1ms);
      b.arrive_and_wait();
      wrong += inside < (phase < 10 ? (phase + 1) * 5 : 50 + (phase - 9) * 4);
      if (i == 4 && phase == 9) {
        b.arrive_and_drop();
        return;
      }
    }
  });
  say("barrier, whose last member leaves half way", phases);
  say("  early", wrong.load());
  std::counting_semaphore<3> s(3);
  std::atomic<int> now = 0, most = 0;
  in_threads(12, [&](int) {
    for (int i = 0; i < 30; i++) {
      s.acquire();
      int n = ++now;
      for (int m = most; n > m && !most.compare_exchange_weak(m, n);) {}
      if (i % 10 == 0) std::this_thread::sleep_for(50us);
      now--;
      s.release();
    }
  });
  say("at most three at a time", most <= 3);
  std::binary_semaphore one(0);
  say("try_acquire", one.try_acquire());
  say("try_acquire_for", one.try_acquire_for(1ms));
  say("try_acquire_until", one.try_acquire_until(std::chrono::system_clock::now() + 1ms));
  std::thread releases([&] { one.release(); });
  say("try_acquire_for, released meanwhile", one.try_acquire_for(30s));
  releases.join();
  std::atomic<int> value = 0;
  std::atomic_flag flag;
  std::atomic<long> wide = 0;
  std::thread waiter([&] {
    for (int v = 0; v < 100; v += 2) {
      value.wait(v);
      value++;
      value.notify_all();
    }
    flag.wait(false);
    wide.wait(0);
  });
  for (int v = 0; v < 100; v += 2) {
    value++;
    value.notify_one();
    value.wait(v + 1);
  }
  flag.test_and_set();
  flag.notify_all();
  wide = 1L << 40;
  wide.notify_one();
  waiter.join();
  say("atomic wait and notify, in turns", value.load());
}

}  // namespace

int main() {
  threads();
  stopping();
  mutexes();
  shared_mutexes();
  conditions();
  futures();
  coordination();
}
