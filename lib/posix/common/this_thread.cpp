#include "posix/common/this_thread.hpp"

#include "base/sys.hpp"
#include "thread/tls.hpp"

namespace tendril::posix {

__thread thread* this_thread __attribute__((tls_model("initial-exec"))) = nullptr;
__thread int known_tid __attribute__((tls_model("initial-exec"))) = 0;
constinit std::atomic<bool> threads_are_fibers{false};
constinit std::atomic<bool> locks_are_ours{false};
constinit std::atomic<bool> locks_were_ours{false};
constinit const void* renumbered = nullptr;

int look_up_own_tid() noexcept {
  int tid = this_thread ? *core::tls::tid(arch::thread_pointer()) : sys::gettid();
  // Not cached in a child of a bare clone(2): the program may still correct the number that the C
  // library keeps (Firefox does).
  return renumbered == arch::thread_pointer() ? tid : known_tid = tid;
}

}  // namespace tendril::posix
