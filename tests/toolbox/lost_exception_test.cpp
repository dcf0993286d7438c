// Exceptions that nobody asks for are reported, once, and those that somebody asks for are not.
#include <doctest/doctest.h>
#include <tendril/future.hpp>
#include <tendril/lost_exception.hpp>
#include <tendril/task_group.hpp>
#include <tendril/thread_pool_executor.hpp>

#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "written_to.hpp"

using namespace tendril;
using namespace std::chrono_literals;

namespace {

// Collects what is reported meanwhile: "source 'name' what()".
class reports {
 public:
  reports() { before_ = set_lost_exception_handler(add); }
  ~reports() { set_lost_exception_handler(before_); }
  std::vector<std::string> take() {
    std::lock_guard hold(mutex);
    return std::exchange(all, {});
  }

 private:
  static void add(const lost_exception& e) noexcept {
    std::string line = std::string(e.source) + " '" + e.name + "' ";
    try {
      std::rethrow_exception(e.error);
    } catch (const std::exception& thrown) {
      line += thrown.what();
    } catch (...) {
      line += "?";
    }
    std::lock_guard hold(mutex);
    all.push_back(line);
  }
  static inline std::mutex mutex;
  static inline std::vector<std::string> all;
  lost_exception_handler before_;
};

using lines = std::vector<std::string>;
void fails() { throw std::runtime_error("the tank is empty"); }

}  // namespace

TEST_CASE("the exception of a task without handles is reported when the task ends") {
  reports r;
  spawn({.name = "reader"}, fails);
  yield();
  CHECK(r.take() == lines{"task 'reader' the tank is empty"});
}

TEST_CASE("the exception of a task is reported when its last handle goes") {
  reports r;
  {
    auto t = spawn(fails);
    auto same = t;
    t.join();
    t = {};
    CHECK(r.take().empty());
  }
  CHECK(r.take() == lines{"task '' the tank is empty"});
}

TEST_CASE("an exception that is not a std::exception is reported, too") {
  reports r;
  spawn([] { throw 1; });
  yield();
  CHECK(r.take() == lines{"task '' ?"});
}

TEST_CASE("get, exception, successful and link_exception ask for a task's exception") {
  reports r;
  CHECK_THROWS(spawn(fails).get());
  {
    auto t = spawn(fails);
    t.join();
    CHECK(t.exception());
  }
  {
    auto t = spawn(fails);
    t.join();
    CHECK_FALSE(t.successful());
  }
  {
    auto t = spawn(fails);
    bool called = false;
    t.link_exception([&] { called = true; });
    t.join();
    CHECK(called);
  }
  CHECK(r.take().empty());
}

TEST_CASE("join, link_value, and exception before the end, do not ask for a task's exception") {
  reports r;
  {
    auto t = spawn(fails);
    CHECK_FALSE(t.exception());
    CHECK_FALSE(t.successful());
    t.link_value([] {});
    t.join();
  }
  CHECK(r.take().size() == 1);
}

TEST_CASE("a task that returns or is killed loses nothing") {
  reports r;
  spawn([] {}).join();
  spawn([] { sleep(10s); }).kill();
  CHECK(r.take().empty());
}

TEST_CASE("a task_group throws the first error, and reports those that come after it") {
  reports r;
  std::string first;
  try {
    with_task_group([](task_group& g) {
      g.spawn([] {
        try {
          sleep(10s);
        } catch (const fiber_exit&) {
          throw std::runtime_error("second");
        }
      });
      g.spawn([] { throw std::runtime_error("first"); });
      sleep(10s);
    });
  } catch (const std::exception& e) {
    first = e.what();
  }
  CHECK(first == "first");
  CHECK(r.take() == lines{"task '' second"});
}

TEST_CASE("a task_group that is destroyed without join reports its error") {
  reports r;
  {
    task_group g;
    g.spawn(fails);
    yield();
  }
  CHECK(r.take() == lines{"task '' the tank is empty"});
}

TEST_CASE("the exception of a call is reported when the last handle of its future goes") {
  reports r;
  {
    thread_pool_executor pool(1);
    pool.submit(fails);
  }
  CHECK(r.take() == lines{"call '' the tank is empty"});
  {
    thread_pool_executor pool(1);
    auto f = pool.submit(fails);
    f.wait();
    CHECK(r.take().empty());
  }
  CHECK(r.take().size() == 1);
}

TEST_CASE("get and exception ask for a call's exception, and a broken promise is no loss") {
  reports r;
  {
    thread_pool_executor pool(1);
    CHECK_THROWS(pool.submit(fails).get());
    CHECK(pool.submit(fails).exception());
    promise<int> p;
    auto f = p.get_future();
  }
  CHECK(r.take().empty());
}

TEST_CASE("the default handler writes a line that names task and exception, no handler none") {
  auto written = [](lost_exception_handler h, auto f) {
    auto before = set_lost_exception_handler(h);
    std::string text = written_to(2, f);
    set_lost_exception_handler(before);
    return text;
  };
  std::string id;
  auto loses = [&] {
    auto t = spawn({.name = "reader"}, [] { throw std::runtime_error("the tank is empty"); });
    id = std::to_string(t.id());
    t.join();
  };
  std::string line = written(report_lost_exception, loses);
  CHECK(line ==
        "tendril: task " + id +
            " 'reader' ended by std::runtime_error: the tank is empty (nobody asked for it)\n");
  CHECK(written(report_lost_exception, [] {
          spawn([] { throw 5; }).join();
        }).ends_with(" '' ended by int (nobody asked for it)\n"));
  CHECK(written(report_lost_exception, [] {
          thread_pool_executor pool(1);
          auto f = pool.submit([] { throw std::logic_error("no"); });
          f.wait();
        }) == "tendril: a call ended by std::logic_error: no (nobody asked for it)\n");
  CHECK(written(nullptr, loses) == "");
}

TEST_CASE("without a handler nothing is reported, and the one before comes back") {
  reports r;
  auto mine = set_lost_exception_handler(nullptr);
  spawn(fails).join();
  CHECK(r.take().empty());
  set_lost_exception_handler(mine);
  spawn(fails).join();
  CHECK(r.take().size() == 1);
}
