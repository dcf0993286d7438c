// A fiber ends while its parent waits in the hub, where it cannot take the result.
#include <tendril/task.hpp>

int main() {
  tendril::fiber<> child([] {}, {.name = "child"});  // a child of the main fiber
  tendril::spawn([&] { child.switch_to(); }).join();
}
