// A task that sleeps for longer than anybody waits: wait_for cancels it when its time is over, and
// it cleans up.
//
//   eternity [SECONDS]   how long it is waited for: 1; it sleeps for three times as long

#include <cstdio>
#include <cstdlib>
#include <tendril/wait.hpp>

namespace {

void eternity(std::chrono::duration<double> sleeps) {
  // What Python's finally does.
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
