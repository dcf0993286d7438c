// A task is cancelled at its wait, and cleans up: the example of asyncio's Task.cancel(). Then the
// same by a time-out, as asyncio.wait_for does it.

#include <cstdio>
#include <tendril/event.hpp>
#include <tendril/wait.hpp>

using namespace std::chrono_literals;

namespace {

void cancel_me(tendril::event& begun) {
  struct finally {
    ~finally() { std::puts("cancel_me(): after sleep"); }
  } at_the_end;
  std::puts("cancel_me(): before sleep");
  begun.set();
  try {
    tendril::sleep(1h);
  } catch (const tendril::fiber_exit&) {
    std::puts("cancel_me(): cancel sleep");
    throw;
  }
}

}  // namespace

int main() {
  tendril::event begun;
  auto task = tendril::spawn(cancel_me, std::ref(begun));
  begun.wait();
  task.kill();
  try {
    task.get();
  } catch (const tendril::fiber_exit&) {
    std::puts("main(): cancel_me is cancelled now");
  }

  try {
    tendril::wait_for(tendril::spawn(cancel_me, std::ref(begun)), 50ms);
  } catch (const tendril::timeout_error&) {
    std::puts("main(): timeout!");
  }
}
