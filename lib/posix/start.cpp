// How a program under the shim starts: its threads become fibers, and the families of calls
// register for the begin and end of threads.
#include <tendril/pthread.hpp>

#include "posix/descriptors/stdio.hpp"
#include "posix/locks/robust.hpp"
#include "posix/signals/inherited_pending.hpp"
#include "posix/threads/thread.hpp"
#include "posix/time/clock.hpp"
#include "posix/time/timer.hpp"

namespace tendril::posix {

namespace {

constexpr thread_hooks for_threads{
    .first = replace_stream_functions,
    .begin = adopt_pending,
    .leaves = [](thread&) noexcept { leave_streams(); },
    .ends =
        [](thread& t) noexcept {
          robust::thread_ends();
          timers_lose_thread(*core::current->storage);
          clocks_lose_thread(t);
        },
};

}  // namespace

void threads_become_fibers() noexcept {
  hooks.store(&for_threads, std::memory_order_release);
  // Decide before any lock is taken: glibc cannot unlock a mutex that we locked.
  threads_are_fibers = !core::tls::watcher_sees_threads();
  locks_are_ours = threads_are_fibers.load();
}

}  // namespace tendril::posix
