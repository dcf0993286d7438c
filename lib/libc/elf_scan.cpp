#include "libc/elf_scan.hpp"

#include <link.h>

#include <atomic>
#include <cstdint>

#include "base/arch/system_call_scan.hpp"
#include "base/loaded_module.hpp"
#include "base/sys.hpp"

namespace tendril::posix {

namespace {

struct search {
  const char* name;
  bool found;
  bool only_first = false;  // stop after the first module, which is the program
};

int look_into(dl_phdr_info* info, size_t, void* data) {
  search& s = *static_cast<search*>(data);
  s.found = core::loaded_module(*info).imports(s.name);
  return s.found || s.only_first;
}

struct module {
  const char* address;  // an address in its code
  std::uintptr_t base = 0;
  const char* code = nullptr;
  std::size_t size = 0;
};

std::atomic<unsigned long long> seen{0};

int find_module(dl_phdr_info* info, size_t, void* data) {
  seen.store(info->dlpi_adds, std::memory_order_relaxed);
  module& m = *static_cast<module*>(data);
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr)& p = info->dlpi_phdr[i];
    const char* start = reinterpret_cast<const char*>(info->dlpi_addr + p.p_vaddr);
    if (p.p_type != PT_LOAD || !(p.p_flags & PF_X) || m.address < start ||
        m.address >= start + p.p_filesz)
      continue;
    m.base = info->dlpi_addr;
    m.code = start;
    m.size = p.p_filesz;
    return 1;
  }
  return 0;
}

}  // namespace

unsigned long long modules_seen() noexcept { return seen.load(std::memory_order_relaxed); }

const char* waits_inline(const void* address) noexcept {
  // Few modules create threads; the result for a module stays true as long as it is loaded.
  struct known {
    std::atomic<const char*> code{nullptr};
    std::atomic<const char*> how{nullptr};
  };
  static constinit known cache[16];
  module m{static_cast<const char*>(address)};
  if (!dl_iterate_phdr(find_module, &m)) return nullptr;
  known& k = cache[reinterpret_cast<std::uintptr_t>(m.code) / 4096 % 16];
  if (k.code.load(std::memory_order_acquire) == m.code)
    return k.how.load(std::memory_order_relaxed);
  const char* how = nullptr;
  if (arch::makes_system_call(m.code, m.size, SYS_futex))
    how = "it makes futex system calls itself";
  else if (arch::makes_any_system_call(m.code, m.size))
    how = "it makes system calls by any number itself";
  k.how.store(how, std::memory_order_relaxed);
  k.code.store(m.code, std::memory_order_release);
  return how;
}

bool program_imports(const char* name) noexcept {
  search s{name, false};
  dl_iterate_phdr(look_into, &s);
  return s.found;
}

bool program_itself_imports(const char* name) noexcept {
  search s{name, false, true};
  dl_iterate_phdr(look_into, &s);
  return s.found;
}

}  // namespace tendril::posix
