// Two hellos at once in an event loop: while one waits, the loop runs the other, in one thread.
//
//   hello_twice [SECONDS]   the wait: 1

#include <pthread.h>

#include <cstdio>
#include <cstdlib>
#include <tendril/event_loop.hpp>
#include <vector>

namespace {

std::chrono::duration<double> wait_time(1);

// Prints the main thread as Python does, with its pthread_t.
void say(const char* what) {
  std::printf("%s (<_MainThread(MainThread, started %lu)>)\n", what,
              static_cast<unsigned long>(pthread_self()));
}

// In Python an async function; here any function may wait.
void hello() {
  say("Hello world!");
  tendril::sleep(wait_time);
  say("Hello again!");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) wait_time = std::chrono::duration<double>(std::atof(argv[1]));
  tendril::event_loop loop;
  std::vector tasks{loop.create_task(hello), loop.create_task(hello)};
  loop.run_until_complete([tasks] { tendril::joinall(tasks); });
  loop.close();
}
