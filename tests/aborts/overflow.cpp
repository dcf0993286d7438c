// A fiber that recurses beyond its stack: in a fiber, in a task, on another kernel thread; with its name and
// size.
#include <tendril/task.hpp>

#include <cstring>
#include <thread>

namespace {

int recurse(volatile char* above) {
  volatile char room[512];
  room[0] = above ? *above : 0;
  return recurse(room) + room[0];
}
void overflow() { recurse(nullptr); }

}  // namespace

int main(int, char** argv) {
  using namespace tendril;
  if (!std::strcmp(argv[1], "fiber")) {
    fiber<>(overflow, {.name = "deep"}).switch_to();
  } else if (!std::strcmp(argv[1], "sized")) {
    fiber<>(overflow, {.stack_size = 200 * 1024}).switch_to();
  } else if (!std::strcmp(argv[1], "task")) {
    spawn({.name = "deep"}, overflow).get();
  } else {
    std::thread([] { fiber<>(overflow, {.name = "deep"}).switch_to(); }).join();
  }
}
