// Two countdowns alternate: generators that yield after each step, and a loop that is their whole
// scheduler.
//
//   countdown [SECONDS]   the duration of each step: 1

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string>
#include <tendril/generator.hpp>
#include <tendril/task.hpp>

namespace {

using countdown_task = tendril::generator<int>;

countdown_task countdown(std::string rocket, int from, std::chrono::duration<double> count) {
  return countdown_task([rocket, from, count] {
    for (int n = from; n > 0; n--) {
      std::printf("%s 倒计时: %d秒\n", rocket.c_str(), n);
      std::fflush(stdout);
      tendril::sleep(count);
      countdown_task::yield(n);
    }
    std::printf("%s 发射\n", rocket.c_str());
  });
}

// Runs one step of each task in turn, until all have ended.
void run(std::deque<countdown_task> tasks) {
  while (!tasks.empty()) {
    countdown_task task = std::move(tasks.front());
    tasks.pop_front();
    if (task.next()) tasks.push_back(std::move(task));
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::chrono::duration<double> count(argc > 1 ? std::atof(argv[1]) : 1);
  std::deque<countdown_task> rockets;
  rockets.push_back(countdown("神州十一号", 5, count));
  rockets.push_back(countdown("天宫二号", 10, count));
  run(std::move(rockets));
}
