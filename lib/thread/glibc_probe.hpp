// How the C library lays out its threads.
//
// The C library documents none of this. What it publishes for debuggers (the symbols _thread_db_*)
// is read from there; the rest is checked once against the main thread, and obstacle() reports any
// difference.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/arch/arch.hpp"

namespace tendril::core::tls {

// Where the cancellation state is in a thread's descriptor, as offsets from the thread pointer.
struct cancel_facts {
  struct flag {
    std::ptrdiff_t at = 0;
    char bits = 0;
    bool is_set(const void* pointer) const noexcept {
      return static_cast<const char*>(pointer)[at] & bits;
    }
  };
  static constexpr std::uint32_t cancelled = 1 << 3, exiting = 1 << 4, terminated = 1 << 5;
  static constexpr std::uint32_t all = cancelled | exiting | terminated;

  std::ptrdiff_t requests = 0;
  flag disabled, asynchronous;  // PTHREAD_CANCEL_DISABLE, PTHREAD_CANCEL_ASYNCHRONOUS
  std::atomic_ref<std::uint32_t> requested(void* pointer) const noexcept {
    return std::atomic_ref(
        *reinterpret_cast<std::uint32_t*>(static_cast<char*>(pointer) + requests));
  }
};
[[gnu::visibility("hidden")]] extern cancel_facts cancels;

// Why blocks cannot be made with this C library, in words; null if they can. The first call
// examines the running thread, which must be the main one.
const char* obstacle() noexcept;
// Whether the thread pointer can be set, which each switch to another thread needs. Where the
// processor has no instruction for it, a seccomp filter may forbid the system call, or is expected
// to.
bool may_set_pointer() noexcept;
// Whether a sanitizer (in this build or in the program) or valgrind must see each thread begin.
// This obstacle is known from the start.
bool watcher_sees_threads() noexcept;

// The C library's struct list_t.
struct link {
  link* next;
  link* prev;
};

// An entry of the table that pthread_getspecific() reads.
struct key_data {
  std::uintptr_t sequence;
  void* data;
};
struct key {
  std::uintptr_t sequence;
  void (*destructor)(void*);
};

// What the C library publishes, and what was found by examining it.
struct facts {
  const char* obstacle = "not examined yet";
  // Looked up by name.
  void* (*allocate)(void*) = nullptr;
  void (*deallocate)(void*, bool) = nullptr;
  void (*call_destructors)() = nullptr;
  void (*init_ctype)() = nullptr;
  key* keys = nullptr;
  char* single = nullptr;   // __libc_single_threaded
  link* threads = nullptr;  // the list of threads on stacks that the C library did not make
  // Offsets in a descriptor, and sizes.
  std::size_t descriptor_size = 0, tid = 0, list = 0, specific = 0, level1 = 0, level2 = 0,
              robust = 0;
  std::size_t static_size = 0, static_align = 0;
  long futex_offset = 0;
  std::ptrdiff_t rseq = 0;  // offset from the thread pointer; 0: none
  std::ptrdiff_t resolver = 0, libc_start = 0;
  std::size_t libc_size = 0;
  // offset from the thread pointer: the list of thread_local objects' destructors
  std::ptrdiff_t destructors = 0;
};
[[gnu::visibility("hidden")]] extern facts c;

inline constexpr std::size_t most_libc_tls = 1024;

inline char* at(void* base, std::ptrdiff_t offset) noexcept {
  return static_cast<char*>(base) + offset;
}

inline arch::thread_header& header(void* descriptor) noexcept {
  return *static_cast<arch::thread_header*>(descriptor);
}

// The pthread_t, which is the descriptor's address.
inline void* descriptor(void* pointer) noexcept {
  return arch::descriptor_before_tls ? at(pointer, -std::ptrdiff_t(c.descriptor_size)) : pointer;
}
inline void* pointer_of(void* descriptor) noexcept {
  return arch::descriptor_before_tls ? at(descriptor, std::ptrdiff_t(c.descriptor_size))
                                     : descriptor;
}

}  // namespace tendril::core::tls
