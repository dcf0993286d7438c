// pthread_create(3), pthread_exit(3): how a thread begins and ends.
#include <dlfcn.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <initializer_list>
#include <tendril/detail/explain.hpp>

#include "fiber/lifetime.hpp"
#include "fiber/stack_protection.hpp"
#include "fiber/thread_stacks.hpp"
#include "libc/elf_scan.hpp"
#include "posix/common/futex.hpp"
#include "posix/threads/attributes.hpp"
#include "posix/threads/preempt.hpp"
#include "posix/threads/thread_memory.hpp"
#include "scheduler/crew.hpp"
#include "scheduler/home.hpp"
#include "thread/identity.hpp"

extern "C" {
// How the C library stops the unwinding of pthread_exit and pthread_cancel at a frame.
void __pthread_register_cancel(__pthread_unwind_buf_t*);
void __pthread_unwind_next(__pthread_unwind_buf_t*) __attribute__((noreturn));
int __sigsetjmp(struct __jmp_buf_tag*, int) noexcept __attribute__((returns_twice));
}

namespace tendril::posix {

namespace {

// Calls run() on the thread. When run() has returned, or was left by pthread_exit or
// pthread_cancel, calls the destructors of the thread's own data; if one of them is left in the
// same way, the others still run.
template <class F>
__attribute__((noinline)) void run_to_end(thread* t, F run) noexcept {
  __pthread_unwind_buf_t here;
  if (__sigsetjmp(reinterpret_cast<struct __jmp_buf_tag*>(here.__cancel_jmp_buf), 0) == 0) {
    __pthread_register_cancel(&here);
    run();
  } else {
    // There were never fibers: the C library made this thread, and ends it.
    if (!threads_begun.load(std::memory_order_relaxed)) __pthread_unwind_next(&here);
    if (!t->exits) t->result = PTHREAD_CANCELED;
  }
  const thread_hooks& others = *hooks.load(std::memory_order_acquire);
  others.leaves(*t);
  core::tls::end();
  int ignored;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
  others.ends(*t);
}

// The number that an environment variable holds; `otherwise` if there is none.
unsigned long number_in(const char* variable, unsigned long otherwise) noexcept {
  const char* s = getenv(variable);
  return s ? strtoul(s, nullptr, 10) : otherwise;
}

// How many hubs may run threads: TENDRIL_CORES, or one.
unsigned hubs_wanted() noexcept {
  unsigned long n = number_in("TENDRIL_CORES", 1);
  return n < 1 ? 1 : n > core::hub_crew::most ? core::hub_crew::most : unsigned(n);
}

void one_less() noexcept {
  std::uint32_t were = living.fetch_sub(1);
  if (were == 2) watcher_may_end(), core::crew.dissolve();
  if (were == 1) futex::wake(&living, INT32_MAX);
}

// Runs the handlers of signals that were sent to the running thread before it ran first.
void handle_what_has_come(hub& h) noexcept {
  if (!core::current->storage->signals.due) return;
  core::handlers_deferred quiet;
  h.look_for_handlers();
}

core::message* body_run(fiber* f, core::message*) noexcept {
  thread* t = *static_cast<thread**>(core::fiber_payload(f));
  f->movable = false;
  core::reap();
  core::tls::begin();
  run_to_end(t, [t, f] {
    handle_what_has_come(*hub::of(f));
    t->result = t->start(t->argument);
  });
  tidy_up();  // frees memory of ended threads that nobody joins
  count_ended(*t);
  hub::of(f)->signals.thread_ends(t->storage);
  // A joiner checks `life` when it runs; by then the fiber has left its stack.
  futex::wake(&t->life, INT32_MAX);
  one_less();
  return nullptr;
}

// The fiber has left its stack, which the next thread may use from now on.
void left_stack(fiber* f) noexcept {
  hub::of(f)->trim.note_left();
  thread* t = *static_cast<thread**>(core::fiber_payload(f));
  if (t->life.fetch_or(thread::ended, std::memory_order_acq_rel) & thread::detached) recycle(t);
  // The object may already be another thread's, but only its address is used.
  else futex::wake(&t->life, INT32_MAX);
}

constexpr core::body thread_body{body_run, fiber_is_gone};

// The call by which the program gives up capabilities for one thread, irreversibly, if the program
// itself imports such a call; null: none. (Imports of libraries do not count: many programs load
// libraries that could do so and never do.)
const char* imported_capability_call() noexcept {
  for (const char* name : {
#define CHANGES_ONE_THREAD(name) #name,
#include "libc/one_thread.def"
       }) {
    if (program_itself_imports(name)) return name;
  }
  return nullptr;
}

// Whether threads can be fibers in this process. If not, the C library handles threads and locks
// from now on: its cancellation cannot reach waiters in our table.
bool possible() noexcept {
  if (!threads_are_fibers.load(std::memory_order_relaxed)) return false;
  if (threads_begun.load(std::memory_order_relaxed) || sys::gettid() != sys::getpid()) return true;
  const char* why = core::tls::obstacle();
  bool ticks = tick_installed() && tick_can_be_sent();
  bool switches = why || core::tls::may_set_pointer();
  const char* call = why ? nullptr : imported_capability_call();
  if (!why && ticks && switches && !call) return true;
  threads_are_fibers = false;
  if (locks_are_ours) locks_were_ours = true;
  locks_are_ours = false;
  if (!explanations_wanted()) return false;
  if (why)
    sys::say("threads stay kernel threads: Tendril does not know this C library (", why, ")");
  else if (!switches)
    sys::say(
        "threads stay kernel threads: a filter (seccomp) forbids to set the thread pointer, or "
        "may");
  else if (call)
    sys::say("threads stay kernel threads: the program calls ", call,
             ", which changes one of them for good");
  else
    sys::say(
        "threads stay kernel threads: signal 32, by which they would take turns, cannot be sent or "
        "handled here");
  return false;
}

// The C library aborts if it has no memory for its notes on a first thread (destructors of
// thread_local objects), so check for memory beforehand.
bool memory_left() noexcept {
  constexpr std::size_t plenty = 16 * 1024;
  void* volatile p = malloc(plenty);  // volatile, or compilers would remove it
  free(p);
  return p;
}

// Prepares for the first thread: from now on there are fibers. False: threads stay kernel threads.
bool begin_threads() noexcept {
  if (threads_begun.load(std::memory_order_acquire)) {
    if (among_threads()) watch();  // in a forked child there is no watcher yet
    return true;
  }
  if (sys::gettid() != sys::getpid() || !(core::current || core::try_to_make_home())) return false;
  look_up_real_calls();
  hooks.load(std::memory_order_acquire)->first();
  hub* h = &core::hub_here();
  core::crew.begin(*h, hubs_wanted(), number_in("TENDRIL_CHAOS", 0));
  // Start the watcher first: it is a real thread, and the C library notices that there are several
  // threads only while that is not already set.
  watch();
  main_thread.id = pthread_self();
  main_thread.runs = &h->main;
  main_thread.storage.pointer = arch::thread_pointer();
  this_thread = &main_thread;
  core::tls::several();
  core::look_at_stack_protection();
  h->trim.of_threads = trim_idle;
  h->signals.begin_threads();
  hooks.load(std::memory_order_acquire)->begin(*h);
  count_living(main_thread);
  threads_begun.store(true, std::memory_order_release);
  return true;
}

// Whether the caller of pthread_create needs a kernel thread; explains why, the first time.
bool needs_kernels(const void* caller) noexcept {
  const char* why = caller ? waits_inline(caller) : nullptr;
  if (!why) return false;
  static constinit std::atomic<bool> explained{false};
  if (!explained.exchange(true, std::memory_order_relaxed) && explanations_wanted()) {
    Dl_info module{};
    dladdr(caller, &module);
    sys::say("threads created by ", module.dli_fname ? module.dli_fname : "some code",
             " stay kernel threads: ", why);
  }
  return true;
}

// A thread object with a stack, the program's or ours; null: no memory.
thread* object_for(const attributes& a) noexcept {
  if (!core::stack_protection_is_current(modules_seen())) core::look_at_stack_protection();
  if (core::stacks_hold_code() && !core::thread_stacks::allows_code())
    core::thread_stacks::allow_code();
  auto make = [&] {
    return a.stack ? make_beside(a.stack, a.stack_size) : make_on_stack(a.stack_size, a.guard_size);
  };
  if (thread* t = make()) return t;
  let_others_run();  // threads that end leave memory
  return make();
}

// Sets what the thread gets from its attributes and its creator. 0, or an error number.
int inherit(thread& t, const attributes& a) noexcept {
  t.guard_size = a.stack ? 0 : a.guard_size;
  t.explicit_scheduling = a.explicit_scheduling;
  t.policy = a.policy;
  t.priority = a.priority;
  // Our stack begins right above the guard, as the C library's does.
  t.stack_address = a.stack ? a.stack : t.stack.bottom();
  t.stack_size = a.stack_size;
  if (this_thread && this_thread->processors &&
      (t.processors = static_cast<cpu_set_t*>(malloc(sizeof(cpu_set_t))))) {
    *t.processors = *this_thread->processors;
  }
  if (a.has_processors) {
    if (int r = set_processors(&t, sizeof a.processors, &a.processors))
      return r == ENOMEM ? EAGAIN : r;
  }
  // After set_processors(), because nothing after this step can fail.
  const core::identity* creators = core::current->storage->identity;
  if (creators && !(t.storage.identity = copy_of(*creators))) return EAGAIN;
  t.storage.bound = creators ? 1 : 0;
  t.storage.moved_at = 0;
  return 0;
}

// Makes the thread's fiber, with its storage, on its stack.
fiber* fiber_for(thread& t, const attributes& a) noexcept {
  t.storage.current = core::tls::other(t.storage.pointer, &core::current);
  *core::tls::other(t.storage.pointer, &this_thread) = &t;
  core::fiber_options o;
  o.kind = core::fiber_kind::task;
  fiber* f = core::fiber_new_at(fiber_place(&t), sizeof(void*), thread_body, o);
  t.life = a.detached ? std::uint32_t(thread::detached) : 0;
  *static_cast<thread**>(core::fiber_payload(f)) = &t;
  t.runs = f;
  name_after_creator(t);
  f->storage = &t.storage;
  f->stk = t.stack;
  f->left_stack = left_stack;
  if (!t.allocated) {
    f->stk.size = a.stack_size;  // what the report of an overflow shows
    // Below the object and the storage. (On the program's own stack, all of it is the fiber's.)
    f->stk.top = reinterpret_cast<std::byte*>(&t);
  }
  return f;
}

// Starts the thread, on this hub or another. False: no memory.
bool set_out(thread& t, const attributes& a) noexcept {
  hub& h = my_hub();
  living.fetch_add(1);
  watch();  // the watcher may just have ended because there were no threads
  {
    core::handlers_deferred quiet;
    t.storage.float_flags = arch::float_flags();
    if (core::switches_carry_any(core::protection_rights))
      t.storage.protection = arch::protection_rights();
    h.signals.thread_begins(t.storage, t.runs, a.has_mask ? a.mask : h.signals.own_mask());
  }
  fiber* f = t.runs;
  count_living(t);
  if (core::crew.give(f)) return true;
  bool started;
  {
    core::handlers_deferred quiet;
    started = h.begin_thread(f);
  }
  if (!started) count_ended(t);
  core::fiber_unref(f);
  return started;
}

}  // namespace

const char* threads_obstacle() noexcept { return core::tls::obstacle(); }

int pthread_create(pthread_t* id, const pthread_attr_t* attr, void* (*start)(void*), void* argument,
                   const void* caller) {
  bool first = threads_are_fibers.load(std::memory_order_relaxed) &&
               !threads_begun.load(std::memory_order_relaxed);
  if (first && !memory_left()) return EAGAIN;
  bool may = possible() && !needs_kernels(caller) && begin_threads();
  // A kernel thread that is none of the crew's was made by code that needs kernel threads, and so
  // are the threads that it makes.
  if (!may || !among_threads() || !in_hubs_process()) {
    return real.pthread_create(id, attr, start, argument);
  }
  attributes a;
  attributes_for(attr, a);
  if (int r = a.stack ? 0 : refused_sizes(a)) return r;
  if (a.explicit_scheduling) {
    sched_param p{};
    p.sched_priority = a.priority;
    if (int r = scheduling_allowed(a.policy, &p)) return r;
  }
  int saved = errno;
  tidy_up();
  thread* t = object_for(a);
  if (!t) return EAGAIN;
  t->id = reinterpret_cast<pthread_t>(core::tls::descriptor(t->storage.pointer));
  t->start = start;
  t->argument = argument;
  if (int r = inherit(*t, a)) {
    recycle(t);
    return r;
  }
  fiber_for(*t, a);
  *id = t->id;
  bool started = set_out(*t, a);
  errno = saved;
  if (started) return 0;
  recycle(t);
  one_less();
  return EAGAIN;
}

void pthread_exit(void* result) {
  if (thread* t = this_thread) {
    t->result = result;
    t->exits = true;
  }
  real.pthread_exit(result);
  __builtin_unreachable();
}

void run_main(int (*main)(int, char**, char**), int argc, char** argv, char** envp) noexcept {
  // Nothing may run between main and exit, as in the C library: Free Pascal programs end by jumping
  // to main's return address, on whatever stack they are.
  run_to_end(&main_thread, [&] { exit(main(argc, argv, envp)); });
  // The main thread has ended by itself; the process ends with its last thread.
  my_hub().signals.thread_ends(my_hub().storage);
  count_ended(main_thread);
  main_thread.life.fetch_or(thread::ended);
  futex::wake(&main_thread.life, INT32_MAX);
  one_less();
  while (std::uint32_t n = living.load())
    futex::wait(&living, n, deadline::never(), futex::ends::by_wake);
  exit(0);
}

}  // namespace tendril::posix
