#include "thread/tls.hpp"

#include <dlfcn.h>
#include <locale.h>
#include <netdb.h>
#include <resolv.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>

#include "base/futex_lock.hpp"
#include "base/signals_blocked.hpp"
#include "base/sys.hpp"

namespace tendril::core {

constinit std::atomic<unsigned char> switches_carry{0};

namespace tls {

constinit std::atomic<bool> concurrent{false};

namespace {

// Each process starts at a different number, since locks in shared memory hold the owner's number.
std::atomic<unsigned> last_tid{0};

// Fills in the descriptor and the C library's variables as pthread_create does.
void set_up(void* tp) noexcept {
  void* d = descriptor(tp);
  arch::fill_thread_header(header(d), header(descriptor(arch::thread_pointer())));
  constexpr unsigned above_kernels = 1u << 22;  // the largest pid_max
  // the limit of what a CPU clock's id can hold, see pthread_getcpuclockid
  constexpr unsigned end = 1u << 28;
  *tid(tp) = int(above_kernels + 1 +
                 last_tid.fetch_add(1, std::memory_order_relaxed) % (end - above_kernels - 1));
  *reinterpret_cast<void**>(at(d, std::ptrdiff_t(c.specific))) =
      at(d, std::ptrdiff_t(c.specific - c.level2 * sizeof(key_data)));
  if (c.robust) {
    char* head = at(d, std::ptrdiff_t(c.robust));
    void* self = head;
    memcpy(head, &self, sizeof self);
    memcpy(head + sizeof self, &c.futex_offset, sizeof c.futex_offset);
    memcpy(head - sizeof self, &self, sizeof self);  // robust_prev
  }
  if (c.rseq) {
    // RSEQ_CPU_ID_REGISTRATION_FAILED: sched_getcpu() asks the kernel
    std::uint32_t failed = std::uint32_t(-2);
    memcpy(at(tp, c.rseq) + 4, &failed, sizeof failed);
  }
}

// The C library's list of threads changes under this lock. No handler runs meanwhile: it could wait
// for the lock that it interrupted. (With one hub, nothing else changes the list.)
constinit spin_lock list_lock;

class list_guard {
 public:
  list_guard() noexcept {
    if (locks_) list_lock.lock();
  }
  ~list_guard() {
    if (locks_) list_lock.unlock();
  }
  list_guard(const list_guard&) = delete;

 private:
  bool locks_ = concurrent.load(std::memory_order_relaxed);
  all_signals_blocked quiet_{locks_};
};

// Adds the block to the C library's list of threads, so that dlopen() initializes a library's
// static TLS in it. A helper thread may walk the list at the same time, in dlopen. It only follows
// `next`, and always finds a complete list.
void enlist(void* tp) noexcept {
  list_guard held;
  link* l = reinterpret_cast<link*>(at(descriptor(tp), std::ptrdiff_t(c.list)));
  l->next = c.threads->next;
  l->prev = c.threads;
  l->next->prev = l;
  std::atomic_ref(c.threads->next).store(l, std::memory_order_release);
}

void delist(void* tp) noexcept {
  list_guard held;
  link* l = reinterpret_cast<link*>(at(descriptor(tp), std::ptrdiff_t(c.list)));
  if (!l->next) return;
  l->next->prev = l->prev;
  std::atomic_ref(l->prev->next).store(l->next, std::memory_order_release);
  l->next = l->prev = nullptr;
}

// Visits a thread's values of pthread keys block by block: f(first key's number, block).
template <class F>
void each_key_block(void* d, F f) noexcept {
  key_data** blocks = reinterpret_cast<key_data**>(at(d, std::ptrdiff_t(c.specific)));
  for (std::size_t i = 0; i < c.level1; i++) {
    if (blocks[i]) f(i * c.level2, blocks[i]);
  }
}

bool key_destructors_once(void* d) noexcept {
  bool any = false;
  each_key_block(d, [&](std::size_t first, key_data* block) {
    for (std::size_t i = 0; i < c.level2; i++) {
      void* data = block[i].data;
      if (!data) continue;
      block[i].data = nullptr;
      key& k = c.keys[first + i];
      if (block[i].sequence != k.sequence || !k.destructor) continue;
      any = true;
      k.destructor(data);
    }
  });
  return any;
}

}  // namespace

int* tid(void* pointer) noexcept {
  return reinterpret_cast<int*>(at(descriptor(pointer), std::ptrdiff_t(c.tid)));
}

void ask_to_cancel(void* pointer) noexcept {
  cancels.requested(pointer).fetch_or(cancel_facts::cancelled, std::memory_order_acq_rel);
}
bool ends_early(void* pointer) noexcept {
  return cancels.requested(pointer).load(std::memory_order_acquire) & cancel_facts::all;
}

constinit std::atomic<int> amid_loader{0};

namespace {
struct at_loader {
  at_loader() noexcept { amid_loader.fetch_add(1, std::memory_order_relaxed); }
  ~at_loader() { amid_loader.fetch_sub(1, std::memory_order_relaxed); }
  at_loader(const at_loader&) = delete;
};
}  // namespace

void lock_list() noexcept { list_lock.lock(); }
void unlock_list() noexcept { list_lock.unlock(); }

void other_tids() noexcept {
  amid_loader = 0;  // the lock is new: the C library's fork has reinitialized it
  last_tid = unsigned(sys::getpid()) * 0x9e3779b1u;
}

void* robust_list(void* pointer) noexcept {
  return c.robust ? at(descriptor(pointer), std::ptrdiff_t(c.robust)) : nullptr;
}

void several() noexcept {
  other_tids();
  if (c.single) *c.single = 0;
  header(descriptor(arch::thread_pointer())).multiple_threads = 1;
}

std::size_t size_on_stack() noexcept {
  return (c.static_size + c.static_align - 1) & ~(c.static_align - 1);
}
std::size_t alignment() noexcept { return c.static_align; }

std::size_t block_size() noexcept {
  // (elsewhere static_size includes it)
  std::size_t descriptor = arch::descriptor_before_tls ? c.descriptor_size : 0;
  return sizeof(struct __res_state) + c.static_size + descriptor + 2 * c.static_align;
}

void* make(void* p) noexcept {
  std::uintptr_t end = reinterpret_cast<std::uintptr_t>(p) + block_size();
  std::uintptr_t tp = arch::descriptor_before_tls
                          ? (end - c.static_size) & ~(c.static_align - 1)
                          : (end - c.descriptor_size) & ~(c.static_align - 1);
  void* pointer = reinterpret_cast<void*>(tp);
  at_loader now;
  if (!c.allocate(pointer)) return nullptr;
  set_up(pointer);
  *reinterpret_cast<void**>(at(pointer, c.resolver)) = p;
  enlist(pointer);
  return pointer;
}

bool renew(void* pointer) noexcept {
  at_loader now;
  void* d = descriptor(pointer);
  char kept[most_libc_tls];
  memcpy(kept, at(pointer, c.libc_start), c.libc_size);
  delist(pointer);
  c.deallocate(pointer, false);
  memset(d, 0, c.descriptor_size);
  if (arch::descriptor_before_tls) memset(pointer, 0, 2 * sizeof(void*));
  if (!c.allocate(pointer)) return false;
  memcpy(at(pointer, c.libc_start), kept, c.libc_size);
  // Objects that were made after the destructors had run are never destroyed.
  memset(at(pointer, c.destructors), 0, sizeof(void*));
  set_up(pointer);
  enlist(pointer);
  return true;
}

void pass_over_in_setuid(void* pointer) noexcept {
  cancels.requested(pointer).fetch_or(cancel_facts::exiting, std::memory_order_acq_rel);
}

void drop(void* pointer) noexcept {
  at_loader now;
  delist(pointer);
  c.deallocate(pointer, false);
}

void begin() noexcept {
  uselocale(LC_GLOBAL_LOCALE);
  c.init_ctype();
  *__errno_location() = 0;
  h_errno = 0;
}

void end() noexcept {
  c.call_destructors();
  void* d = descriptor(arch::thread_pointer());
  for (int round = 0; round < 4 /* PTHREAD_DESTRUCTOR_ITERATIONS */; round++) {
    if (!key_destructors_once(d)) break;
  }
  each_key_block(d, [](std::size_t first, key_data* block) {
    if (first) free(block);
  });
  // The next thread that gets this block must not see this thread's dlerror(). The second call
  // clears it.
  if (dlerror()) dlerror();
}

}  // namespace tls

}  // namespace tendril::core
