// The C and C++ libraries' own locks in tasks, in a program that links libtendril without the shim:
// the owner of a lock is a task, and a task that waits for one lets the others run. (With a
// sanitizer, the locks are the C library's.)
#include <doctest/doctest.h>
#include <pthread.h>
#include <semaphore.h>
#include <threads.h>
#include <tendril/task.hpp>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <condition_variable>
#include <latch>
#include <mutex>
#include <semaphore>
#include <shared_mutex>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

using namespace tendril;
using namespace std::chrono_literals;

namespace {

// The maximum number of tasks between enter() and leave() at the same time.
template <class Enter, class Leave>
int most_inside(int n, Enter enter, Leave leave) {
  int inside = 0, most = 0;
  std::vector<task<void>> tasks;
  for (int i = 0; i < n; i++) {
    tasks.push_back(spawn([&] {
      enter();
      most = std::max(most, ++inside);
      for (int turn = 0; turn < 5; turn++) yield();
      --inside;
      leave();
    }));
  }
  joinall(tasks);
  return most;
}
template <class Mutex>
int most_inside(Mutex& m) {
  return most_inside(
      4, [&] { m.lock(); }, [&] { m.unlock(); });
}

template <int Type>
struct pthread_lock {
  pthread_mutex_t m;
  pthread_lock() {
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, Type);
    pthread_mutex_init(&m, &a);
  }
  ~pthread_lock() { pthread_mutex_destroy(&m); }
  void lock() { CHECK(pthread_mutex_lock(&m) == 0); }
  void unlock() { CHECK(pthread_mutex_unlock(&m) == 0); }
};

}  // namespace

TEST_CASE_TEMPLATE("a mutex lets one task in at a time, and the others run while it is held", Mutex,
                   std::mutex, std::timed_mutex, std::recursive_mutex, std::recursive_timed_mutex,
                   std::shared_mutex, std::shared_timed_mutex, pthread_lock<PTHREAD_MUTEX_NORMAL>,
                   pthread_lock<PTHREAD_MUTEX_RECURSIVE>, pthread_lock<PTHREAD_MUTEX_ERRORCHECK>,
                   pthread_lock<PTHREAD_MUTEX_ADAPTIVE_NP>) {
  Mutex m;
  CHECK(most_inside(m) == 1);
}

TEST_CASE("C11's mutexes and spin locks do, too") {
  mtx_t m;
  for (int type : {int(mtx_plain), int(mtx_timed), mtx_plain | mtx_recursive}) {
    mtx_init(&m, type);
    CHECK(most_inside(
              4, [&] { mtx_lock(&m); }, [&] { mtx_unlock(&m); }) == 1);
    mtx_destroy(&m);
  }
  pthread_spinlock_t s;
  pthread_spin_init(&s, PTHREAD_PROCESS_PRIVATE);
  CHECK(most_inside(
            4, [&] { pthread_spin_lock(&s); }, [&] { pthread_spin_unlock(&s); }) == 1);
  std::atomic_flag f;
  auto spins = [&] {
    while (f.test_and_set()) std::this_thread::yield();
  };
  CHECK(most_inside(4, spins, [&] { f.clear(); }) == 1);
}

TEST_CASE("a task that only tries for a lock lets its owner release it") {
  pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_t robust;
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&robust, &a);
  pthread_rwlock_t l = PTHREAD_RWLOCK_INITIALIZER;
  pthread_spinlock_t s;
  pthread_spin_init(&s, PTHREAD_PROCESS_PRIVATE);
  auto passes = [](auto lock, auto tries, auto unlock) {
    auto owner = spawn([&] {
      CHECK(lock() == 0);
      yield();
      CHECK(unlock() == 0);
    });
    yield();
    while (int e = tries()) CHECK(e == EBUSY);
    CHECK(unlock() == 0);
    owner.join();
  };
  passes([&] { return pthread_mutex_lock(&m); }, [&] { return pthread_mutex_trylock(&m); },
         [&] { return pthread_mutex_unlock(&m); });
  passes([&] { return pthread_mutex_lock(&robust); },
         [&] { return pthread_mutex_trylock(&robust); },
         [&] { return pthread_mutex_unlock(&robust); });
  passes([&] { return pthread_spin_lock(&s); }, [&] { return pthread_spin_trylock(&s); },
         [&] { return pthread_spin_unlock(&s); });
  auto unlock = [&] { return pthread_rwlock_unlock(&l); };
  passes([&] { return pthread_rwlock_wrlock(&l); }, [&] { return pthread_rwlock_tryrdlock(&l); },
         unlock);
  passes([&] { return pthread_rwlock_rdlock(&l); }, [&] { return pthread_rwlock_trywrlock(&l); },
         unlock);
}

TEST_CASE(
    "a recursive mutex can be taken repeatedly by its owner, and by no other task meanwhile") {
  std::recursive_mutex m;
  m.lock();
  m.lock();
  auto other = spawn([&] { return m.try_lock(); });
  CHECK_FALSE(other.get());
  m.unlock();
  auto waits = spawn([&] { m.lock(), m.unlock(); });
  yield();
  CHECK_FALSE(waits.ready());
  m.unlock();
  waits.join();
}

TEST_CASE("an error-checking mutex knows its owner among the tasks") {
  pthread_lock<PTHREAD_MUTEX_ERRORCHECK> m;
  auto owner = spawn([&] {
    m.lock();
    CHECK(pthread_mutex_lock(&m.m) == EDEADLK);
    yield(), yield();
    m.unlock();
  });
  yield();
  CHECK(pthread_mutex_unlock(&m.m) == EPERM);
  CHECK(pthread_mutex_trylock(&m.m) == EBUSY);
  m.lock();
  CHECK(owner.ready());
  m.unlock();
}

TEST_CASE("waits for a mutex end at their time-out") {
  std::timed_mutex t;
  std::recursive_timed_mutex r;
  std::shared_timed_mutex s;
  bool tried = false;
  auto holder = spawn([&] {
    std::scoped_lock all(t, r, s);
    while (!tried) yield();
  });
  yield();
  CHECK_FALSE(t.try_lock_for(1ms));
  CHECK_FALSE(r.try_lock_for(1ms));
  CHECK_FALSE(s.try_lock_for(1ms));
  CHECK_FALSE(s.try_lock_shared_for(1ms));
  tried = true;
  CHECK(t.try_lock_for(10s));
  CHECK(r.try_lock_for(10s));
  CHECK(s.try_lock_shared_for(10s));
  t.unlock(), r.unlock(), s.unlock_shared();
}

TEST_CASE("readers share a lock, and a writer is alone") {
  std::shared_mutex m;
  CHECK(most_inside(
            4, [&] { m.lock_shared(); }, [&] { m.unlock_shared(); }) == 4);
  m.lock();
  auto writer = spawn([&] { m.lock(), m.unlock(); });
  auto reader = spawn([&] { m.lock_shared(), m.unlock_shared(); });
  yield();
  CHECK_FALSE((writer.ready() || reader.ready()));
  m.unlock();
  writer.join(), reader.join();
}

TEST_CASE_TEMPLATE("a condition variable wakes as many tasks as it is asked to", Condition,
                   std::condition_variable, std::condition_variable_any) {
  std::mutex m;
  Condition c;
  int waiting = 0, tokens = 0, taken = 0;
  std::vector<task<void>> tasks;
  for (int i = 0; i < 3; i++) {
    tasks.push_back(spawn([&] {
      std::unique_lock hold(m);
      waiting++;
      while (tokens == 0) c.wait(hold);
      tokens--, taken++;
    }));
  }
  while (waiting < 3) yield();
  m.lock(), tokens = 1, c.notify_one(), m.unlock();
  while (taken < 1) yield();
  m.lock(), tokens = 2, c.notify_all(), m.unlock();
  joinall(tasks);
  std::unique_lock hold(m);
  CHECK(c.wait_for(hold, 1ms) == std::cv_status::timeout);
}

TEST_CASE("a condition releases and retakes a recursive mutex completely") {
  pthread_lock<PTHREAD_MUTEX_RECURSIVE> m;
  pthread_cond_t c = PTHREAD_COND_INITIALIZER;
  bool turned = false;
  auto waits = spawn([&] {
    m.lock();
    while (!turned) CHECK(pthread_cond_wait(&c, &m.m) == 0);
    m.unlock();
  });
  yield();
  m.lock();
  turned = true;
  pthread_cond_signal(&c);
  m.unlock();
  waits.join();
}

TEST_CASE("a routine runs once, and later callers wait for its end; one that throws runs again") {
  std::once_flag once;
  int runs = 0, after = 0;
  std::vector<task<void>> tasks;
  for (int i = 0; i < 3; i++) {
    tasks.push_back(spawn([&] {
      try {
        std::call_once(once, [&] {
          yield();
          if (++runs == 1) throw 1;
        });
        after++;
        CHECK(runs == 2);
      } catch (int) {}
    }));
  }
  joinall(tasks);
  CHECK(runs == 2);
  CHECK(after == 2);
}

namespace {

std::atomic<int> made_by_threads;
int made_once() {
  static const int value = [] {
    std::this_thread::sleep_for(1ms);
    return ++made_by_threads;
  }();
  return value;
}

}  // namespace

TEST_CASE("kernel threads and tasks wait for one another's local static variables") {
  std::vector<std::thread> threads;
  std::vector<task<void>> tasks;
  for (int i = 0; i < 3; i++) {
    threads.emplace_back([] { made_once(); });
    tasks.push_back(spawn([] { CHECK(made_once() == 1); }));
  }
  joinall(tasks);
  for (auto& t : threads) t.join();
  CHECK(made_by_threads == 1);
}

TEST_CASE("a barrier at which a task waits is not destroyed") {
  pthread_barrier_t b;
  pthread_barrier_init(&b, nullptr, 2);
  auto waits = spawn([&] { pthread_barrier_wait(&b); });
  yield();
  CHECK(pthread_barrier_destroy(&b) == EBUSY);
  pthread_barrier_wait(&b);
  waits.join();
  CHECK(pthread_barrier_destroy(&b) == 0);
}

namespace {

int initialisations;
int initialised_by_sleeping() {
  static const int value = [] {
    initialisations++;
    tendril::sleep(std::chrono::milliseconds(1));
    if (initialisations == 1) throw 1;
    return initialisations;
  }();
  return value;
}

}  // namespace

TEST_CASE(
    "a local static variable is initialised once, and other tasks wait for it; if that throws, the "
    "next one initialises it") {
  int thrown = 0, got = 0;
  std::vector<task<void>> tasks;
  for (int i = 0; i < 5; i++) {
    tasks.push_back(spawn([&] {
      try {
        int value = initialised_by_sleeping();
        CHECK(value == 2);
        got++;
      } catch (int) {
        thrown++;
      }
    }));
  }
  joinall(tasks);
  CHECK(initialisations == 2);
  CHECK(thrown == 1);
  CHECK(got == 4);
}

TEST_CASE("tasks wait for the libraries' semaphores, latches and barriers") {
  sem_t s;
  sem_init(&s, 0, 0);
  std::counting_semaphore<> c(0);
  std::latch l(3);
  std::barrier b(3);
  pthread_barrier_t p;
  pthread_barrier_init(&p, nullptr, 3);
  std::atomic<int> word{0};
  std::vector<task<void>> tasks;
  for (int i = 0; i < 3; i++) {
    tasks.push_back(spawn([&] {
      sem_wait(&s);
      c.acquire();
      l.arrive_and_wait();
      b.arrive_and_wait();
      pthread_barrier_wait(&p);
      word.wait(0);
    }));
  }
  yield();
  for (int i = 0; i < 3; i++) sem_post(&s), c.release();
  l.wait();
  for (int i = 0; i < 10; i++) yield();
  word = 1;
  word.notify_all();
  joinall(tasks);
  pthread_barrier_destroy(&p);
}

TEST_CASE("kernel threads and tasks exclude each other and signal each other") {
  std::mutex m;
  std::recursive_mutex r;
  std::condition_variable c;
  long counted = 0, turn = 0;
  auto counts = [&] {
    for (int i = 0; i < 1000; i++) {
      std::scoped_lock both(m, r);
      long n = counted;
      if (i % 100 == 0) std::this_thread::yield();
      counted = n + 1;
    }
  };
  auto plays = [&](long mine) {
    std::unique_lock hold(m);
    while (turn < 400) {
      if (turn % 4 == mine) turn++, c.notify_all();
      else c.wait(hold);
    }
  };
  std::thread a(counts), b([&] { spawn(counts).join(); }), d(plays, 0);
  auto t = spawn(counts), u = spawn(counts), v = spawn([&] { plays(1); }),
       w = spawn([&] { plays(2); });
  plays(3);
  t.join(), u.join(), v.join(), w.join();
  a.join(), b.join(), d.join();
  CHECK(counted == 4000);
  CHECK(turn == 400);
}

TEST_CASE("a kernel thread without tasks is cancelled in its waits") {
  static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
  static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
  static sem_t s;
  static std::atomic<int> waiting, unlocked;
  sem_init(&s, 0, 0);
  waiting = unlocked = 0;
  auto in_condition = [](void*) -> void* {
    pthread_mutex_lock(&m);
    pthread_cleanup_push([](void*) { unlocked += pthread_mutex_unlock(&m) == 0; }, nullptr);
    waiting++;
    for (;;) pthread_cond_wait(&c, &m);
    pthread_cleanup_pop(0);
  };
  auto in_semaphore = [](void*) -> void* {
    waiting++;
    sem_wait(&s);
    return nullptr;
  };
  pthread_t t[2];
  pthread_create(&t[0], nullptr, in_condition, nullptr);
  pthread_create(&t[1], nullptr, in_semaphore, nullptr);
  while (waiting < 2) std::this_thread::yield();
  pthread_mutex_lock(&m);
  pthread_mutex_unlock(&m);
  for (pthread_t each : t) {
    void* result = nullptr;
    pthread_cancel(each);
    pthread_join(each, &result);
    CHECK(result == PTHREAD_CANCELED);
  }
  CHECK(unlocked == 1);
  CHECK(pthread_mutex_trylock(&m) == 0);
  pthread_mutex_unlock(&m);
  sem_post(&s);
  CHECK(sem_trywait(&s) == 0);
}

TEST_CASE("a wait for a condition without its mutex leaves the next signal to the next waiter") {
  pthread_lock<PTHREAD_MUTEX_ERRORCHECK> m;
  pthread_cond_t c = PTHREAD_COND_INITIALIZER;
  CHECK(pthread_cond_wait(&c, &m.m) == EPERM);
  auto waits = spawn([&] {
    m.lock();
    CHECK(pthread_cond_wait(&c, &m.m) == 0);
    m.unlock();
  });
  yield();
  pthread_cond_signal(&c);
  waits.join();
}

TEST_CASE("posting a full semaphore fails") {
  sem_t s;
  sem_init(&s, 0, SEM_VALUE_MAX);
  CHECK(sem_post(&s) == -1);
  CHECK(errno == EOVERFLOW);
  int value;
  sem_getvalue(&s, &value);
  CHECK(value == SEM_VALUE_MAX);
}
