// Fiber-local storage: each fiber has its own value, which is destroyed with it.
#include <doctest/doctest.h>
#include <tendril/local.hpp>
#include <tendril/task.hpp>

#include <memory>
#include <string>
#include <thread>
#include <vector>

using namespace tendril;

namespace {

struct counted {
  static inline int alive = 0;
  counted() { alive++; }
  counted(const counted&) { alive++; }
  ~counted() { alive--; }
  int value = 0;
};

}  // namespace

TEST_CASE("each fiber has its own value, which begins anew") {
  local<int> n;
  *n = 1;
  std::vector<task<int>> tasks;
  for (int i = 10; i < 13; i++) {
    tasks.push_back(spawn([&, i] {
      CHECK_FALSE(n.has_value());
      CHECK(*n == 0);
      *n += i;
      yield();
      return *n;
    }));
  }
  for (int i = 0; i < 3; i++) CHECK(tasks[std::size_t(i)].get() == 10 + i);
  CHECK(*n == 1);
  fiber<> f([&] { CHECK(*n == 0); });
  f.switch_to();
}

TEST_CASE("a value may begin as the result of a call in its fiber") {
  local<std::string> name([] { return std::string(current_fiber().name()); });
  CHECK(*name == "main");
  spawn({.name = "worker"}, [&] { CHECK(*name == "worker"); }).get();
  CHECK(name->size() == 4);
}

TEST_CASE("a value is destroyed with its fiber, however the fiber ends, before its waiters run") {
  local<counted> v;
  for (int how = 0; how < 3; how++) {
    auto t = spawn([&] {
      v->value = 1;
      CHECK(counted::alive == 1);
      yield();
      if (how == 1) throw 1;
      if (how == 2) yield();
    });
    yield();
    if (how == 2) t.kill();
    t.join();
    CHECK(counted::alive == 0);
  }
  {
    fiber<> f([&] {
      v->value = 1;
      any_fiber parent = current_fiber().parent();
      fiber<>(parent).switch_to();
    });
    f.switch_to();
    CHECK(counted::alive == 1);
  }
}

TEST_CASE("values are destroyed with their variable, and a variable in its place begins anew") {
  auto v = std::make_unique<local<counted>>();
  auto t = spawn([&] {
    (*v)->value = 1;
    yield();
    CHECK((*v)->value == 0);
  });
  yield();
  CHECK(counted::alive == 1);
  v = std::make_unique<local<counted>>();
  CHECK(counted::alive == 0);
  t.get();
  CHECK(counted::alive == 0);
}

TEST_CASE("a variable that ends destroys the values of all fibers") {
  auto v = std::make_unique<local<counted>>();
  (*v)->value = 1;
  bool ends = false;
  std::vector<task<void>> tasks;
  for (int i = 0; i < 5; i++) {
    tasks.push_back(spawn([&] {
      (*v)->value = 2;
      while (!ends) yield();
    }));
  }
  yield();
  CHECK(counted::alive == 6);
  v.reset();
  CHECK(counted::alive == 0);
  ends = true;
  for (auto& t : tasks) t.join();
  CHECK(counted::alive == 0);
}

TEST_CASE("reset destroys the running fiber's value") {
  local<counted> v;
  v->value = 3;
  v.reset();
  CHECK(counted::alive == 0);
  CHECK_FALSE(v.has_value());
  CHECK(v->value == 0);
  v.reset();
  v.reset();
}

TEST_CASE("a destructor of a value may use other variables") {
  local<counted> inner;
  struct uses {
    local<counted>* other = nullptr;
    ~uses() {
      if (other) (*other)->value++;
    }
  };
  local<uses> outer;
  spawn([&] { outer->other = &inner; }).get();
  CHECK(counted::alive == 0);
}

TEST_CASE(
    "a kernel thread's main fiber has its own value too, which is destroyed with the thread") {
  local<counted> v;
  v->value = 1;
  std::thread([&] {
    CHECK(v->value == 0);
    v->value = 2;
    spawn([&] { CHECK(v->value == 0); }).get();
  }).join();
  CHECK(v->value == 1);
  CHECK(counted::alive == 1);
  v.reset();
}
