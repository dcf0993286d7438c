#include "thread/glibc_probe.hpp"

#include <link.h>
#include <pthread.h>
#include <string.h>
#include <sys/auxv.h>

#include "base/symbols.hpp"
#include "base/sys.hpp"

// Defined if the program, or one of its libraries, was built with the thread sanitizer.
extern "C" void __tsan_init() __attribute__((weak));

namespace tendril::core::tls {

constinit cancel_facts cancels;
constinit facts c;

namespace {

template <class T>
bool find(T*& to, const char* name) noexcept {
  to = reinterpret_cast<T*>(find_symbol(name));
  return to;
}

// A field as it is described to debuggers: its size in bits, the number of elements, the offset.
bool field(const char* name, std::uint32_t bits, std::size_t& offset,
           std::size_t* count = nullptr) noexcept {
  const std::uint32_t* d;
  if (!find(d, name) || d[0] != bits) return false;
  offset = d[2];
  if (count) *count = d[1];
  return true;
}

int find_libc_tls(dl_phdr_info* info, size_t size, void* an_address) {
  if (size < offsetof(dl_phdr_info, dlpi_tls_data) + sizeof info->dlpi_tls_data ||
      !info->dlpi_tls_data)
    return 0;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr)& p = info->dlpi_phdr[i];
    char* start = static_cast<char*>(info->dlpi_tls_data);
    if (p.p_type != PT_TLS || an_address < start || an_address >= start + p.p_memsz) continue;
    c.libc_start = start - static_cast<char*>(arch::thread_pointer());
    c.libc_size = p.p_memsz;
    return 1;
  }
  return 0;
}

// The word in the C library's own thread-local storage that changes when a destructor is
// registered; 0 if none or several change. The two destructors registered here run when the main
// thread ends, and do nothing.
std::ptrdiff_t find_destructors() noexcept {
  int (*note)(void (*)(void*), void*, void*);
  if (!find(note, "__cxa_thread_atexit_impl")) return 0;
  const char* own = at(arch::thread_pointer(), c.libc_start);
  char before[most_libc_tls];
  note([](void*) {}, nullptr, &c);  // allocates what is allocated only once
  memcpy(before, own, c.libc_size);
  note([](void*) {}, nullptr, &c);
  std::ptrdiff_t found = 0;
  for (std::size_t i = 0; i + sizeof(void*) <= c.libc_size; i += sizeof(void*)) {
    if (memcmp(before + i, own + i, sizeof(void*)) == 0) continue;
    if (found) return 0;
    found = c.libc_start + std::ptrdiff_t(i);
  }
  return found;
}

// The bits in the running thread's descriptor that `change` changes; 0 if there are none, or if
// they are in several bytes.
template <class F>
cancel_facts::flag changed_bits(void* d, F change) noexcept {
  char before[8192];
  cancel_facts::flag found;
  if (c.descriptor_size > sizeof before) return found;
  memcpy(before, d, c.descriptor_size);
  change();
  for (std::size_t i = 0; i < c.descriptor_size; i++) {
    char bits = char(static_cast<char*>(d)[i] ^ before[i]);
    if (!bits) continue;
    if (found.bits) return {};
    found = {static_cast<char*>(d) + i - static_cast<char*>(arch::thread_pointer()), bits};
  }
  return found;
}

const char* look() noexcept {
  if (watcher_sees_threads())
    return "it runs under a sanitizer or valgrind, which must see each thread begin";
  void* tp = arch::thread_pointer();
  const std::uint32_t* size;
  if (!find(size, "_thread_db_sizeof_pthread"))
    return "it does not publish the layout of its threads to debuggers";
  c.descriptor_size = *size;
  std::size_t rtld_user = 0, ignored = 0;
  void* const* rtld = nullptr;
  void (*static_info)(std::size_t*, std::size_t*) = nullptr;
  std::size_t requests = 0;
  if (!field("_thread_db_pthread_tid", 32, c.tid) ||
      !field("_thread_db_pthread_cancelhandling", 32, requests) ||
      !field("_thread_db_pthread_list", 128, c.list) ||
      !field("_thread_db_pthread_specific", 2048, c.specific) ||
      !field("_thread_db_rtld_global__dl_stack_user", 128, rtld_user) ||
      !field("_thread_db_pthread_key_data_level2_data", 8 * sizeof(key_data), ignored, &c.level2) ||
      !find(rtld, "__nptl_rtld_global")) {
    return "its threads are not laid out as expected";
  }
  if (!find(c.allocate, "_dl_allocate_tls") || !find(c.deallocate, "_dl_deallocate_tls") ||
      !find(static_info, "_dl_get_tls_static_info") ||
      !find(c.call_destructors, "__call_tls_dtors") || !find(c.init_ctype, "__ctype_init") ||
      !find(c.keys, "__pthread_keys")) {
    return "it does not export the functions that make thread-local storage";
  }
  static_info(&c.static_size, &c.static_align);
  c.level1 = 32;
  c.threads = reinterpret_cast<link*>(at(*rtld, std::ptrdiff_t(rtld_user)));

  // The running thread's descriptor must agree with all of this.
  void* d = descriptor(tp);
  if (!arch::known_thread_header(header(d)) ||
      *reinterpret_cast<int*>(at(d, std::ptrdiff_t(c.tid))) != sys::gettid()) {
    return "the main thread's descriptor is not where it should be";
  }
  if (*reinterpret_cast<void**>(at(d, std::ptrdiff_t(c.specific))) !=
      at(d, std::ptrdiff_t(c.specific - c.level2 * sizeof(key_data)))) {
    return "the main thread's keys are not where they should be";
  }
  bool listed = false;
  int n = 0;
  for (link* l = c.threads->next; l && l != c.threads && n < 100'000; l = l->next, n++) {
    listed |= reinterpret_cast<char*>(l) == at(d, std::ptrdiff_t(c.list));
  }
  if (!listed) return "the main thread is not in the list of threads";
  struct {
    void* list;
    long futex_offset;
    void* pending;
  }* robust = nullptr;
  std::size_t robust_size = 0;
  if (sys::is_refused(SYS_get_robust_list) ||
      sys::call(SYS_get_robust_list, 0, &robust, &robust_size) < 0 ||
      robust_size != sizeof *robust) {
    return "the kernel has no robust mutexes";
  }
  if (robust) {
    c.robust = std::size_t(reinterpret_cast<char*>(robust) - static_cast<char*>(d));
    if (c.robust >= c.descriptor_size)
      return "the list of robust mutexes is not in the main thread's descriptor";
    c.futex_offset = robust->futex_offset;
  }
  // Start from a known state. Cancellation is disabled while the type changes, so that a pending
  // request is not acted upon.
  int state, type;
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
  cancels.requests = static_cast<char*>(d) + requests - static_cast<char*>(tp);
  cancels.disabled =
      changed_bits(d, [] { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr); });
  pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
  cancels.asynchronous =
      changed_bits(d, [] { pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, nullptr); });
  pthread_setcanceltype(type, nullptr);
  pthread_setcancelstate(state, nullptr);
  if (!cancels.disabled.bits || !cancels.asynchronous.bits)
    return "it does not cancel threads in the expected way";
  find(c.single, "__libc_single_threaded");
  const std::ptrdiff_t* rseq;
  if (find(rseq, "__rseq_offset")) c.rseq = *rseq;
  char* resolver;
  if (!find(resolver, "__resp")) return "it does not export the resolver's state";
  c.resolver = resolver - static_cast<char*>(tp);
  dl_iterate_phdr(find_libc_tls, __errno_location());
  if (!c.libc_size || c.libc_size > most_libc_tls)
    return "its own thread-local storage is not where it should be";
  c.destructors = find_destructors();
  if (!c.destructors)
    return "it does not keep destructors of thread-local objects in the expected way";
  return nullptr;
}

}  // namespace

bool may_set_pointer() noexcept {
#if defined(__x86_64__)
  bool by_instruction = arch::thread_pointer_by_instruction(getauxval(AT_HWCAP2));
  return by_instruction || (!sys::is_refused(SYS_arch_prctl) &&
                            arch::set_thread_pointer(arch::thread_pointer(), false));
#else
  return true;
#endif
}

bool watcher_sees_threads() noexcept {
#if defined(TENDRIL_ASAN) || defined(TENDRIL_TSAN)
  return true;
#else
  return __tsan_init || arch::runs_on_valgrind();
#endif
}

const char* obstacle() noexcept {
  static std::atomic<bool> looked{false};
  if (!looked.load(std::memory_order_acquire)) {
    c.obstacle = look();
    looked.store(true, std::memory_order_release);
  }
  return c.obstacle;
}

}  // namespace tendril::core::tls
