// The variables that the process has once: the list of them, and what a forked child resets.
// (tests/layering compares the list with the objects. Per-thread variables and constants are not
// listed.)
//
// Reset in a child by begin_as_child():
//
//   base/runtime_signal: lock
//   scheduler/hub_registry: hubs
//   scheduler/kernel_threads: known_threads
//   scheduler/signal_delivery: chunks
//   scheduler/helper_pool: helpers
//   posix/common/futex: table
//   posix/common/kernel_futex: all
//   posix/common/cooperate: ticking
//   posix/common/this_thread: renumbered
//   posix/threads/thread: living, all_living
//   scheduler/crew: crew
//   fiber/thread_stacks: shared
//   posix/threads/thread_memory: idle
//   posix/threads/preempt: watching, naps_long
//   posix/locks/static_guard: under_way_lock
//   posix/time/timer: cpu_timers, thread_timers, thread_timers_used
//   posix/time/clock: living_clocks, known
//   posix/descriptors/stdio: waiting
//   posix/processes/process: systems
//   thread/tls: amid_loader, last_tid, list_lock
//
// Still valid in the child: what the program asked for, or what the process has become.
//
//   base/runtime_signal: callbacks, before, before_blocks
//   thread/tls: switches_carry, concurrent
//   thread/identity: common_identity
//   fiber/signal_stack: programs_own
//   fiber/stack_protection: hold_code
//   events/descriptors: chunks_, modes_, sharing_
//   events/stream_state: plain_
//   scheduler/home: end_of_thread, kept_memory
//   posix/common/cooperate: always
//   posix/common/futex: used
//   posix/common/this_thread: threads_are_fibers, locks_are_ours, locks_were_ours
//   posix/threads/thread: main_thread, threads_begun, hooks
//   posix/threads/interruption: program_handles
//   posix/signals/handlers: handlers, interrupting
//   posix/descriptors/close: may_linger
//   posix/descriptors/socket: low_marks
//   posix/locks/static_guard: under_way
//   posix/names: in_charge
//
// Determined once, from the C library, the kernel, the program's files or the environment; counters
// that only grow; what was reported once.
//
//   base/fork_handlers: prepares, continues, begins, shares_descriptors
//   base/membarrier: known
//   base/refused: refused_calls, has_filter
//   base/symbols: loaded
//   base/sys: clock_of_kernel
//   libc/elf_scan: cache, seen
//   libc/real: real
//   thread/glibc_probe: c, cancels, looked
//   fiber/fiber: next_block, no_exceptions
//   fiber/stack: size, way_to_guard
//   fiber/stack_protection: looked_at
//   events/descriptors: looked, shim_is_first_
//   events/receive_ring: wanted
//   events/stream_state: asked
//   scheduler/signal_stacks: size
//   posix/threads/attributes: all, known
//   posix/threads/create: explained
//   posix/threads/preempt: tick_missed
//   posix/time/timer: known
//   posix/locks/once: call_once_variables
//   posix/locks/shared_condition: answer
//   posix/locks/shared_rwlock: answer
//   posix/descriptors/stdio: looked, read_file, write_file, underflow_file, underflow_wide_file
//   posix/processes/process: known
//   posix/names: behind
#include "base/fork_handlers.hpp"
#include "base/runtime_signal.hpp"
#include "events/descriptors.hpp"
#include "fiber/thread_stacks.hpp"
#include "posix/common/futex.hpp"
#include "posix/common/kernel_futex.hpp"
#include "posix/descriptors/stdio.hpp"
#include "posix/locks/static_guard.hpp"
#include "posix/processes/process.hpp"
#include "posix/threads/preempt.hpp"
#include "posix/threads/thread_memory.hpp"
#include "posix/time/clock.hpp"
#include "posix/time/timer.hpp"
#include "scheduler/crew.hpp"
#include "scheduler/helper_pool.hpp"
#include "scheduler/home.hpp"

namespace tendril::posix {

namespace {

// What other kernel threads may be changing while the process forks: the child finds it whole. The
// fork is inside the runtime, so that no tick takes the processor from the thread that has the
// locks.
void lock_for_fork() noexcept {
  core::descriptors::shared();
  if (!core::current) return;
  core::current->enter_runtime();
  lock_threads_for_fork();
  core::thread_stacks::lock_for_fork();
  core::tls::lock_list();
}
void unlock_after_fork() noexcept {
  core::tls::unlock_list();
  core::thread_stacks::unlock_after_fork();
  unlock_threads_after_fork();
}
void continue_as_parent() noexcept {
  if (!core::current) return;
  unlock_after_fork();
  core::current->leave_runtime();
}

// Bottom up: each step finds the layers below it already reset.
void begin_as_child() noexcept {
  if (core::current) unlock_after_fork();
  core::runtime_signal::after_fork();
  core::hubs_after_fork();
  core::crew.after_fork(core::current ? core::hub::of(core::current) : nullptr);
  core::helpers_after_fork();
  futex::after_fork();
  kernel_futex::after_fork();
  threads_after_fork();
  thread_memory_after_fork();
  preemption_after_fork();
  static_guards_after_fork();
  timers_are_not_inherited();
  clocks_are_not_inherited();
  streams_after_fork();
  system_after_fork();
}

// As early as possible, because the C library calls these handlers in the order of registration: a
// handler of the program's that closes descriptors in the child must not find the parent's epoll
// instance.
__attribute__((constructor(101))) void register_fork_handler() noexcept {
  core::at_fork(lock_for_fork, continue_as_parent, begin_as_child);
}

}  // namespace

}  // namespace tendril::posix
