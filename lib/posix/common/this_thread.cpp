#include "posix/common/this_thread.hpp"

#include "base/sys.hpp"
#include "thread/tls.hpp"

namespace tendril::posix {

__thread thread* this_thread __attribute__((tls_model("initial-exec"))) = nullptr;
__thread int known_tid __attribute__((tls_model("initial-exec"))) = 0;
constinit std::atomic<bool> threads_are_fibers{false};
constinit std::atomic<bool> locks_are_ours{false};

int look_up_own_tid() noexcept {
  return known_tid = this_thread ? *core::tls::tid(arch::thread_pointer()) : sys::gettid();
}

}  // namespace tendril::posix
