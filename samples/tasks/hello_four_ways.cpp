// Hello world in four ways, by three callers at a time that wait for 0, 1 and 2 seconds: threads,
// tasks of an event loop, functions that wait (Python: async functions), and tasks that call
// blocking functions with the C library's calls interposed (gevent: monkey.patch_all()).
//
//   hello_four_ways [WAY [SECONDS]]   threads, asyncio, async, gevent (default, as in the tutorial) or all; the length of a second (1)
//
// The program is linked against libtendril-preload.so, so the waits overlap in all four, on one
// kernel thread: the threads of the first way are fibers too.
//
// Python fixes the order of gevent's lines: of the hellos by the order of spawning, of the byes by
// the waits. (The tutorial shows gevent's last two byes exchanged; gevent itself prints 0, 1, 2.)
// Threads that are the kernel's may say hello in any order, and so may the tasks of asyncio.wait(),
// which are a set. Here all four print in the order of their numbers.

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <tendril/event_loop.hpp>
#include <thread>
#include <vector>

#include "../python_text.hpp"

namespace {

std::chrono::duration<double> second(1);

// The kernel's id of the thread that runs this: /proc/thread-self is "1234/task/1234".
std::string kernel_thread_id() {
  char name[64];
  ssize_t n = ::readlink("/proc/thread-self", name, sizeof name);
  std::string path(name, n > 0 ? static_cast<std::size_t>(n) : 0);
  return path.substr(path.rfind('/') + 1);
}

void say_hello(int num) {
  std::printf("Hello %d now = %s serve thread id = %s\n", num, python::now().c_str(),
              kernel_thread_id().c_str());
}
void say_bye(int num) { std::printf("Bye.. %d now = %s\n", num, python::now().c_str()); }

// Does not know fibers.
void blocking_hello(int num) {
  say_hello(num);
  ::usleep(static_cast<useconds_t>(num * second.count() * 1e6));
  say_bye(num);
}
// In Python an async function, which marks its waits by await; here any function may wait.
void hello(int num) {
  say_hello(num);
  tendril::sleep(num * second);
  say_bye(num);
}

void thread_test() {
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; i++) threads.emplace_back(blocking_hello, i);
  for (std::thread& t : threads) t.join();
}
void asyncio_test() {
  tendril::event_loop loop;
  std::vector<tendril::task<void>> tasks;
  for (int i = 1; i < 4; i++) tasks.push_back(loop.create_task(hello, i));
  loop.run_until_complete([tasks] { tendril::joinall(tasks); });
  loop.close();
}
void async_test() {
  tendril::event_loop::run([] {
    std::vector<tendril::task<void>> tasks;
    for (int i = 0; i < 3; i++) tasks.push_back(tendril::spawn(hello, i));
    tendril::joinall(tasks);
  });
}
void gevent_test() {
  std::vector<tendril::task<void>> tasks;
  for (int i = 0; i < 3; i++) tasks.push_back(tendril::spawn(blocking_hello, i));
  tendril::joinall(tasks);
}

}  // namespace

int main(int argc, char** argv) {
  std::string way = argc > 1 ? argv[1] : "gevent";
  if (argc > 2) second = std::chrono::duration<double>(std::atof(argv[2]));
  struct {
    const char* name;
    void (*run)();
  } ways[] = {{"threads", thread_test},
              {"asyncio", asyncio_test},
              {"async", async_test},
              {"gevent", gevent_test}};
  bool known = false;
  for (auto& w : ways) {
    if (way != "all" && way != w.name) continue;
    known = true;
    w.run();
  }
  if (!known) std::fprintf(stderr, "hello_four_ways: no such way: %s\n", way.c_str());
  return known ? 0 : 2;
}
