// A fiber recurses beyond its stack: in a fiber, in a task, on another kernel thread. The message
// has its name and size.
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

// A stack frame of that size; its lower end is accessed first.
template <std::size_t Size>
[[gnu::noinline]] void big_frame() {
  char room[Size];
  for (std::size_t i = 0; i < 2000; i++) static_cast<volatile char*>(room)[i] = 'X';
  asm volatile("" ::"r"(room) : "memory");
}

}  // namespace

int main(int, char** argv) {
  using namespace tendril;
  if (!std::strcmp(argv[1], "fiber")) {
    fiber<>(overflow, {.name = "deep"}).switch_to();
  } else if (!std::strcmp(argv[1], "sized")) {
    fiber<>(overflow, {.stack_size = 200 * 1024}).switch_to();
  } else if (!std::strcmp(argv[1], "wide")) {
    spawn({.name = "deep"}, big_frame<80'000>).get();
  } else if (!std::strcmp(argv[1], "wider")) {
    spawn({.name = "deep"}, big_frame<120'000>).get();
  } else if (!std::strcmp(argv[1], "task")) {
    spawn({.name = "deep"}, overflow).get();
  } else {
    std::thread([] { fiber<>(overflow, {.name = "deep"}).switch_to(); }).join();
  }
}
