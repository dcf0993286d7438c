// include/tendril/detail/biased_lock.hpp: the lock's owner, which uses no atomic operation, and
// other kernel threads, which make it a lock for all, never hold it at once.
//
// membarrier(2) is a fence that each other thread executes between two of its instructions while
// the caller waits.
#include <tendril/detail/biased_lock.hpp>

#include "checker.hpp"

using namespace tendril;

namespace {

constexpr unsigned threads = 3;
// The threads that must execute a fence before they go on, and those that do nothing now.
bool is_to_fence[threads], rests[threads];

void fence() {
  models::let_others_see();
  rl::atomic_thread_fence(rl::mo_seq_cst, models::info_of({}));
}

void fence_if_asked() noexcept {
  unsigned me = rl::thread_index();
  if (!is_to_fence[me]) return;
  fence();
  is_to_fence[me] = false;
}
void rest(bool begins) {
  fence();
  rests[rl::thread_index()] = begins;
  is_to_fence[rl::thread_index()] = false;
}

struct by_model {
  static std::uintptr_t me() noexcept { return 16 + rl::thread_index(); }
};
using word = models::atomic<std::uint32_t>;

}  // namespace

namespace tendril::core {

bool barrier_available() noexcept { return true; }
void barrier_all() noexcept {
  if (models::without("the barrier")) return;
  fence();
  unsigned me = rl::thread_index();
  for (unsigned i = 0; i < threads; i++) is_to_fence[i] = i != me && !rests[i];
  for (unsigned i = 0; i < threads; i++) {
    while (is_to_fence[i]) models::give_way();
  }
  fence();
}
void processor_yield() noexcept { models::give_way(); }
void futex_sleep(const void* w, std::uint32_t expected) noexcept {
  rest(true);
  static_cast<const word*>(w)->sleep_while(expected);
  rest(false);
}
void futex_wake_one(const void* w) noexcept { static_cast<const word*>(w)->wake(1); }

}  // namespace tendril::core

namespace {

struct model : models::suite<model, threads> {
  detail::biased_lock_by<by_model, models::atomic> lock;
  models::plain<int> shared;

  void before() {
    for (bool& b : is_to_fence) b = false;
    for (bool& b : rests) b = false;
    models::before_each = fence_if_asked;
  }
  void run(unsigned) {
    for (int i = 0; i < 2; i++) {
      detail::held h(lock);
      shared++;
    }
    rest(true);
  }
  void after() {
    models::before_each = nullptr;
    models::expect(shared == 6, "an increment is lost");
  }
};

}  // namespace

bool models::check_all() {
  return check<model>({
      .name = "biased_lock",
      .files = {"biased_lock.hpp"},
      .taken_out =
          {
              {"the barrier"},
              {"== me) [[likely]]\nreturn false;", "biased_lock.hpp"},
              {"while (busy_.load(std::memory_order_acquire))", "biased_lock.hpp"},
          },
      .allowed =
          {
              {"biased_lock.hpp", "compare_exchange_strong(owner, first,",
               "the first holder takes over nothing"},
              {"biased_lock.hpp", "compare_exchange_strong(owner, nobody,",
               "the barrier orders more"},
              {"biased_lock.hpp", "busy_.store(false, std::memory_order_release);\n}",
               "nothing was done meanwhile"},
          },
  });
}
