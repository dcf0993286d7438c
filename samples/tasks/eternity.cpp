// A task that sleeps for longer than the caller waits: wait_for cancels it when the time is over,
// and it cleans up.
//
// In Python both are async functions, run by asyncio.run(); here any function may wait, main() too.
//
//   eternity [SECONDS]   how long the caller waits: 1; the task sleeps for three times as long

#include <cstdio>
#include <cstdlib>
#include <tendril/wait.hpp>

namespace {

void eternity(std::chrono::duration<double> sleeps) {
  // The equivalent of Python's finally.
  struct finally {
    ~finally() { std::puts("cancel_me(): after sleep"); }
  } at_the_end;
  try {
    tendril::sleep(sleeps);
  } catch (const tendril::fiber_exit&) {
    std::puts("cancel_me(): cancel sleep");
    throw;
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::chrono::duration<double> limit(argc > 1 ? std::atof(argv[1]) : 1);
  auto task = tendril::spawn(eternity, 3 * limit);
  try {
    tendril::wait_for(task, limit);
  } catch (const tendril::timeout_error&) {
    task.kill();
  }
  try {
    task.get();
  } catch (const tendril::fiber_exit&) {
    std::puts("cancel ended");
  }
}
