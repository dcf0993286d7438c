// Two rockets count down in turns: generators that give way at each yield, and a loop that is all the scheduler
// they need.

#include <cstdio>
#include <deque>
#include <string>
#include <tendril/generator.hpp>

namespace {

using countdown_task = tendril::generator<int>;

countdown_task countdown(std::string rocket, int from) {
  return countdown_task([rocket, from] {
    for (int n = from; n > 0; n--) {
      std::printf("%s: T-minus %d\n", rocket.c_str(), n);
      countdown_task::yield(n);
    }
    std::printf("%s: Blastoff!\n", rocket.c_str());
  });
}

// Gives each task a step in turn, until all have ended.
void round_robin(std::deque<countdown_task> tasks) {
  while (!tasks.empty()) {
    countdown_task task = std::move(tasks.front());
    tasks.pop_front();
    if (task.next()) tasks.push_back(std::move(task));
  }
}

}  // namespace

int main() {
  std::deque<countdown_task> rockets;
  rockets.push_back(countdown("Vostok", 5));
  rockets.push_back(countdown("Saturn", 3));
  round_robin(std::move(rockets));
}
