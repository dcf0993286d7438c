// Hello world, a wait, and hello again, twice at once, in four ways: threads, an event loop with tasks, functions that
// wait, and tasks that call what blocks, with the C library's calls taken over (gevent: monkey.patch_all()).
//
// The program is linked against libtendril-preload.so, so the waits overlap in all four, on one kernel thread: the
// threads of the first way are fibers too.

#include <unistd.h>

#include <array>
#include <cstdio>
#include <string>
#include <tendril/event_loop.hpp>
#include <thread>

using namespace std::chrono_literals;

namespace {

// As the kernel sees it: "1234/task/1234".
std::string kernel_thread() {
  char name[64];
  ssize_t n = ::readlink("/proc/thread-self", name, sizeof name);
  return std::string(name, n > 0 ? static_cast<std::size_t>(n) : 0);
}
void say(const char* what) { std::printf("%s (%s)\n", what, kernel_thread().c_str()); }

// Knows nothing of fibers.
void blocking_hello() {
  say("Hello world!");
  ::usleep(200'000);
  say("Hello again!");
}
void hello() {
  say("Hello world!");
  tendril::sleep(200ms);
  say("Hello again!");
}

void threads() {
  std::thread a(blocking_hello), b(blocking_hello);
  a.join();
  b.join();
}
void event_loop_with_tasks() {
  tendril::event_loop loop;
  std::array tasks{loop.create_task(hello), loop.create_task(hello)};
  for (auto& t : tasks) loop.run_until_complete(t);
}
void functions_that_wait() {
  tendril::event_loop::run([] { tendril::gather(tendril::spawn(hello), tendril::spawn(hello)); });
}
void monkey_patching() { tendril::joinall(std::array{tendril::spawn(blocking_hello), tendril::spawn(blocking_hello)}); }

}  // namespace

int main() {
  std::puts("threads");
  threads();
  std::puts("event loop with tasks");
  event_loop_with_tasks();
  std::puts("functions that wait");
  functions_that_wait();
  std::puts("monkey patching");
  monkey_patching();
}
