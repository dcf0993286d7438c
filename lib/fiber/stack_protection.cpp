#include "fiber/stack_protection.hpp"

#include <link.h>
#include <sys/auxv.h>

#include <atomic>

namespace tendril::core {

namespace {

std::atomic<bool> hold_code{false};
std::atomic<unsigned long long> looked_at{0};  // dl_phdr_info::dlpi_adds

// Stops at the first module that needs executable stacks, or at once if no module was loaded since
// the last look.
int look_into(dl_phdr_info* info, size_t, void* data) {
  bool& looks = *static_cast<bool*>(data);
  if (!looks && stack_protection_is_current(info->dlpi_adds)) return 1;
  looks = true;
  looked_at.store(info->dlpi_adds, std::memory_order_relaxed);
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr)& p = info->dlpi_phdr[i];
    if (p.p_type != PT_GNU_STACK) continue;
    if (p.p_flags & PF_X) hold_code.store(true, std::memory_order_relaxed);
    return hold_code.load(std::memory_order_relaxed);
  }
  // Without such a header stacks are executable by default, on x86-64 and aarch64. The vDSO has
  // none, but does not count.
  auto kernels = getauxval(AT_SYSINFO_EHDR);
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr)& p = info->dlpi_phdr[i];
    if (p.p_type == PT_LOAD && info->dlpi_addr + p.p_vaddr == kernels) return 0;
  }
  hold_code.store(true, std::memory_order_relaxed);
  return 1;
}

}  // namespace

bool stacks_hold_code() noexcept { return hold_code.load(std::memory_order_relaxed); }

bool stack_protection_is_current(unsigned long long adds) noexcept {
  return looked_at.load(std::memory_order_relaxed) == adds;
}

void look_at_stack_protection() noexcept {
  if (stacks_hold_code()) return;  // once set, it stays
  bool looks = false;
  dl_iterate_phdr(look_into, &looks);
}

}  // namespace tendril::core
