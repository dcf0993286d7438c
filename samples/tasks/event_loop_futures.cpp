// Futures in an event loop: a callback completes the first, a task completes the second, and the
// third calls back.

#include <cstdio>
#include <string>
#include <tendril/event_loop.hpp>

using namespace std::chrono_literals;

namespace {

using text_future = tendril::loop_future<std::string>;

void mark_done(const text_future& future, const std::string& result) {
  std::printf("setting future result to '%s'\n", result.c_str());
  future.set_result(result);
}

void set_after(const text_future& future, std::chrono::milliseconds delay,
               const std::string& value) {
  tendril::sleep(delay);
  future.set_result(value);
}

void say_hello() {
  tendril::event_loop& loop = tendril::get_running_loop();
  auto future = loop.create_future<std::string>();
  loop.create_task(set_after, future, 50ms, "... world");
  std::puts("hello ...");
  std::puts(future.get().c_str());  // the task waits, and others run
}

void call_back(const tendril::future<std::string>& done, int n) {
  std::printf("%d: future done: %s\n", n, done.get().c_str());
}

}  // namespace

int main() {
  {
    tendril::event_loop loop;
    auto all_done = loop.create_future<std::string>();
    std::puts("scheduling mark_done");
    loop.call_soon(mark_done, all_done, "the result");
    std::puts("entering event loop");
    std::string result = loop.run_until_complete(all_done);
    std::printf("returned result: '%s'\n", result.c_str());
    std::puts("closing event loop");
    loop.close();
    std::printf("future result: '%s'\n", all_done.get().c_str());
  }

  tendril::event_loop::run(say_hello);

  tendril::event_loop loop;
  auto all_done = loop.create_future<std::string>();
  std::puts("registering callbacks on future");
  for (int n : {1, 2}) all_done.add_done_callback([n](auto& done) { call_back(done, n); });
  loop.run_until_complete([all_done] {
    std::puts("setting result of future");
    all_done.set_result("the result");
    tendril::yield();
  });
}
