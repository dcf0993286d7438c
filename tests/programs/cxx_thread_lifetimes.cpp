// C++'s per-thread objects, and how threads end: thread_local objects and their destructors,
// call_once, statics that several threads initialise at once, exceptions within a thread and passed
// to another, the unwinding of pthread_exit and pthread_cancel.
#include <cxxabi.h>
#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>

#include <exception>
#include <latch>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "cases.hpp"

namespace {

notes seen;

struct noted {
  explicit noted(const char* n) : name(n) { seen.add(std::string("+") + name); }
  ~noted() { seen.add(std::string("-") + name); }
  const char* name;
};

thread_local noted first("first");
thread_local std::string text = "initial";
thread_local std::unique_ptr<noted> owned;

struct comes_back {
  ~comes_back();
  int value = 0;
};
thread_local comes_back again;

// Its destructor uses objects that are already destroyed, or not constructed yet.
struct uses_others {
  ~uses_others() {
    thread_local noted late("late");
    static_cast<void>(&late);
    again.value = 7;
    seen.add("-uses_others");
  }
};
thread_local uses_others user;
comes_back::~comes_back() { seen.add("-again:" + std::to_string(value)); }

template <class F>
void in_thread(F f) {
  std::thread(f).join();
}

template <class F>
void* call(void* f) {
  (*static_cast<F*>(f))();
  return nullptr;
}

void objects() {
  std::printf("-- thread_local\n");
  in_thread([] { seen.add("nothing used"); });
  say("made when used", seen.take());
  in_thread([] {
    owned = std::make_unique<noted>("owned");
    static_cast<void>(first.name);
    thread_local noted local("local");
    seen.add(local.name);
  });
  say("destroyed in reverse order", seen.take());
  in_thread([] {
    again.value = 1;
    static_cast<void>(&user);
  });
  say("destructors use others", seen.take());
  std::latch all(4);
  std::atomic<int> right = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++) {
    threads.emplace_back([&, i] {
      text += std::to_string(i);
      all.arrive_and_wait();
      right += text == "initial" + std::to_string(i);
    });
  }
  for (auto& t : threads) t.join();
  say("each has its own", right.load());
  say("  and main", text);
  // The storage of an ended thread is reused by the next.
  int fresh = 0;
  for (int i = 0; i < 100; i++) {
    in_thread([&] {
      thread_local int count = 0;
      fresh += ++count == 1 && text == "initial";
      text = "changed";
    });
  }
  seen.take();
  say("a hundred, one after another, find theirs new", fresh);
  std::atomic<int*> address = nullptr;
  thread_local int plain = 3;
  in_thread([&] { address = &plain, plain = 4; });
  say("another address than main's", address != &plain && plain == 3);
}

// A key's destructor runs after those of thread_local objects, and may make new ones.
void keys_and_objects() {
  std::printf("-- thread_local and keys\n");
  static pthread_key_t key;
  pthread_key_create(&key, [](void* p) {
    seen.add("key");
    thread_local noted in_destructor("in_destructor");
    static_cast<void>(&in_destructor);
    int* rounds = static_cast<int*>(p);
    if (--*rounds) pthread_setspecific(key, p);
    else delete rounds;
  });
  in_thread([] {
    thread_local noted object("object");
    pthread_setspecific(key, new int(2));
    seen.add(object.name);
  });
  say("order", seen.take());
  pthread_key_delete(key);
}

struct once_thrown {};

void once() {
  std::printf("-- call_once, statics\n");
  std::once_flag flag;
  std::atomic<int> calls = 0, returned = 0, caught = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; i++) {
    threads.emplace_back([&] {
      try {
        std::call_once(flag, [&] {
          int n = ++calls;
          std::this_thread::sleep_for(std::chrono::microseconds(300));
          if (n <= 3) throw once_thrown();
        });
        returned++;
      } catch (const once_thrown&) {
        caught++;
      }
    });
  }
  for (auto& t : threads) t.join();
  say("calls, of which three throw", calls.load());
  say("  callers that returned", returned.load());
  say("  callers that caught", caught.load());
  threads.clear();
  static std::atomic<int> made = 0, attempts = 0;
  struct slow {
    slow() {
      if (++attempts == 1) throw std::runtime_error("at first");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      made++;
    }
    int value = 5;
  };
  static auto get = []() -> slow& {
    static slow s;
    return s;
  };
  std::latch together(6);
  std::atomic<int> good = 0, failed = 0;
  for (int i = 0; i < 6; i++) {
    threads.emplace_back([&] {
      together.arrive_and_wait();
      try {
        good += get().value == 5 && made == 1;
      } catch (const std::runtime_error&) {
        failed++;
      }
    });
  }
  for (auto& t : threads) t.join();
  say("a static's constructor that throws runs again", attempts.load());
  say("  made", made.load());
  say("  threads that saw it whole", good.load());
  say("  and that saw it fail", failed.load());
}

int deep(int n) {
  noted* none = nullptr;
  std::string held(200, 'x');
  if (n == 0) throw std::runtime_error("deep");
  return deep(n - 1) + int(held.size()) + (none ? 1 : 0);
}

void exceptions() {
  std::printf("-- exceptions\n");
  std::atomic<int> right = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; i++) {
    threads.emplace_back([&, i] {
      for (int k = 0; k < 20; k++) {
        try {
          deep(10 + i);
        } catch (const std::runtime_error&) {
          // Other threads run while this exception is handled, and handle their own.
          std::this_thread::yield();
          if (k % 5 == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
          try {
            throw i * 100 + k;
          } catch (int n) {
            std::this_thread::yield();
            right += n == i * 100 + k && std::uncaught_exceptions() == 0;
          }
          try {
            throw;
          } catch (const std::exception& e) {
            right += std::string(e.what()) == "deep";
          }
        }
      }
    });
  }
  for (auto& t : threads) t.join();
  say("handled while others handle theirs", right.load());
  threads.clear();
  struct yields_in_destructor {
    std::atomic<int>& right;
    ~yields_in_destructor() {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
      right += std::uncaught_exceptions() == 1;
    }
  };
  right = 0;
  for (int i = 0; i < 5; i++) {
    threads.emplace_back([&] {
      try {
        yields_in_destructor y{right};
        throw 1;
      } catch (int) {
        right += std::uncaught_exceptions() == 0;
      }
    });
  }
  for (auto& t : threads) t.join();
  say("waiting while the stack is unwound", right.load());
  std::exception_ptr carried;
  in_thread([&] {
    try {
      throw std::out_of_range("from there");
    } catch (...) {
      carried = std::current_exception();
    }
  });
  std::string what;
  threads.clear();
  for (int i = 0; i < 4; i++) {
    threads.emplace_back([&, i] {
      try {
        std::rethrow_exception(carried);
      } catch (const std::out_of_range& e) {
        std::this_thread::yield();
        if (i == 0) what = e.what();
        right++;
      }
    });
  }
  for (auto& t : threads) t.join();
  say("exception_ptr, thrown in four others", right.load());
  say("  what", what);
  try {
    std::rethrow_exception(std::exchange(carried, nullptr));
  } catch (const std::exception& e) {
    say("  and in main", e.what());
  }
  std::exception_ptr outer;
  in_thread([&] {
    try {
      try {
        throw std::runtime_error("inner");
      } catch (...) {
        std::throw_with_nested(std::logic_error("outer"));
      }
    } catch (...) {
      outer = std::current_exception();
    }
  });
  try {
    std::rethrow_exception(outer);
  } catch (const std::logic_error& e) {
    try {
      std::rethrow_if_nested(e);
    } catch (const std::runtime_error& inner) {
      say("nested", std::string(e.what()) + ", " + inner.what());
    }
  }
}

struct unwinds {
  const char* name;
  ~unwinds() { seen.add(std::string("~") + name); }
};

void leaving() {
  std::printf("-- pthread_exit, pthread_cancel\n");
  pthread_t t;
  void* result;
  auto exits = [](void*) -> void* {
    thread_local noted object("object");
    static_cast<void>(&object);
    unwinds a{"a"};
    [] {
      unwinds b{"b"};
      pthread_exit(reinterpret_cast<void*>(8));
    }();
    return nullptr;
  };
  pthread_create(&t, nullptr, exits, nullptr);
  pthread_join(t, &result);
  say("pthread_exit", seen.take());
  say("  result", long(result));
  auto catches = [](void*) -> void* {
    unwinds a{"a"};
    try {
      unwinds b{"b"};
      pthread_exit(nullptr);
    } catch (abi::__forced_unwind&) {
      seen.add("forced");
      throw;
    }
    return nullptr;
  };
  pthread_create(&t, nullptr, catches, nullptr);
  pthread_join(t, nullptr);
  say("caught and thrown on", seen.take());
  auto in_handler = [](void*) -> void* {
    unwinds a{"a"};
    try {
      throw std::runtime_error("handled");
    } catch (const std::exception&) {
      unwinds b{"b"};
      pthread_exit(nullptr);
    }
    return nullptr;
  };
  pthread_create(&t, nullptr, in_handler, nullptr);
  pthread_join(t, nullptr);
  say("in a catch block", seen.take());
  int fds[2];
  if (pipe(fds)) return;
  auto waits = [](void* fd) -> void* {
    thread_local noted object("object");
    static_cast<void>(&object);
    unwinds a{"a"};
    char c;
    try {
      unwinds b{"b"};
      return reinterpret_cast<void*>(read(*static_cast<int*>(fd), &c, 1));
    } catch (...) {
      seen.add("any");
      throw;
    }
  };
  pthread_create(&t, nullptr, waits, fds);
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  pthread_cancel(t);
  pthread_join(t, &result);
  say("cancelled in read", seen.take());
  say("  result", result == PTHREAD_CANCELED);
  // A lock guard, not std::condition_variable: its wait is noexcept, so no thread can be unwound
  // through it.
  auto keeps_lock = [](void*) -> void* {
    static std::mutex m;
    {
      std::lock_guard lock(m);
      unwinds a{"a"};
      if (seen.take().find("locked") == std::string::npos) {
        seen.add("locked");
        pthread_exit(nullptr);
      }
    }
    return nullptr;
  };
  pthread_create(&t, nullptr, keeps_lock, nullptr);
  pthread_join(t, nullptr);
  say("a guard unlocks", seen.take());
  pthread_create(&t, nullptr, keeps_lock, nullptr);
  pthread_join(t, nullptr);
  say("  and the next one locks", seen.take());
}

// How the process ends when a thread runs f: the signal, or the status.
template <class F>
int ends_with(F f) {
  std::fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    std::set_terminate([] { _exit(70); });
    f();
    _exit(1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

void terminating() {
  std::printf("-- terminate\n");
  say("an exception leaves a thread", ends_with([] { in_thread([] { throw 1; }); }));
  say("an exception leaves a noexcept function of a thread",
      ends_with([] { in_thread([] { []() noexcept { deep(3); }(); }); }));
  say("a thread_local's destructor throws", ends_with([] {
        in_thread([] {
          struct throws {
            ~throws() noexcept(false) { throw 1; }
          };
          thread_local throws t;
          static_cast<void>(&t);
        });
      }));
  say("a thread object goes while it is joinable", ends_with([] { std::thread t([] {}); }));
  say("pthread_exit in a noexcept function",
      ends_with([] { in_thread([]() noexcept { pthread_exit(nullptr); }); }));
  say("forced unwinding is swallowed", ends_with([] {
        in_thread([] {
          try {
            pthread_exit(nullptr);
          } catch (...) {}
        });
      }));
}

}  // namespace

int main() {
  objects();
  keys_and_objects();
  once();
  exceptions();
  leaving();
  terminating();
}
