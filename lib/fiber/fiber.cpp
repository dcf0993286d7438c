#include "fiber/fiber.hpp"

#include <string.h>
#include <sys/auxv.h>

namespace tendril::core {

__thread fiber* current __attribute__((tls_model("initial-exec"))) = nullptr;
// head() relies on it
static_assert(offsetof(fiber, sp) == 0 && offsetof(fiber_home, needs_slow_path) == 0);
static_assert(offsetof(fiber, value) == 64);  // the first cache line is full

constinit std::atomic<std::uint64_t> next_block{0};
constinit eh_state no_exceptions;

fiber_home::fiber_home() noexcept : tid(sys::gettid()), pid(sys::getpid()) {
  needs_slow_path = main.needs_slow_path = sanitized;
  main.home = this;
  main.exceptions = &no_exceptions;
  if (!arch::thread_pointer_by_instruction(getauxval(AT_HWCAP2))) switches_carry |= system_call;
  storage.pointer = arch::thread_pointer();
  storage.current = &current;
  main.storage = &storage;
  storage.signals.owner = &main;
  sys::call(SYS_rt_sigprocmask, SIG_BLOCK, 0, &storage.signals.mask, 8);
  main.state = fiber_status::running;
  main.runtime_depth = 0;
  main.id = next_id(*this);
  strcpy(main.name, "main");
  fibers.push_back(main);
}

void fiber_ref(fiber* f) noexcept { f->refs.fetch_add(1, std::memory_order_relaxed); }

bool fiber_is_main(const fiber* f) noexcept { return f == &f->home->main; }
fiber* fiber_parent(const fiber* f) noexcept { return f->parent; }

fiber* fiber_living(fiber* f) noexcept {
  fiber* main = &f->home->main;
  while (f != main && f->state == fiber_status::finished) f = f->parent ? f->parent : main;
  return f;
}

const char* fiber_name(const fiber* f) noexcept { return f->name; }
void fiber_set_name(fiber* f, const char* name) noexcept {
  std::size_t n = strnlen(name, sizeof f->name - 1);
  memcpy(f->name, name, n);
  f->name[n] = 0;
  f->named = n != 0;
}

void fail(const char* what) noexcept { sys::die(what); }

}  // namespace tendril::core
