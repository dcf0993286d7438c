// The current event loop. get_running_loop() returns the running loop, and throws if none runs.
// In place of Python's get_event_loop(): in a task it is get_running_loop(); outside,
// `tendril::event_loop loop;`, which always makes a new one.

#include <cstdio>
#include <tendril/event_loop.hpp>

namespace {

void ask(const char* where) {
  try {
    tendril::get_running_loop();
    std::printf("%s: there is a running event loop\n", where);
  } catch (const tendril::error& e) {
    std::printf("%s: %s\n", where, e.what());
  }
}

}  // namespace

int main() {
  ask("outside");
  tendril::event_loop loop;
  ask("beside a loop that does not run");
  loop.run_until_complete([&] {
    ask("in a task");
    std::puts(&tendril::get_running_loop() == &loop ? "it is this one" : "it is another one");
  });
  loop.call_soon([] { ask("in a callback"); });
  loop.call_soon([&] { loop.stop(); });
  loop.run_forever();
  ask("afterwards");
}
