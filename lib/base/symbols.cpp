#include "base/symbols.hpp"

#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#include <atomic>
#include <cstdint>

#include "base/loaded_module.hpp"
#include "base/sys.hpp"

namespace tendril::core {

namespace {

struct modules {
  std::size_t count = 0, room = 0;
  loaded_module* at() noexcept { return reinterpret_cast<loaded_module*>(this + 1); }
};

bool is_vdso(const dl_phdr_info& info) noexcept {
  return info.dlpi_addr == getauxval(AT_SYSINFO_EHDR);
}

modules* list_modules() noexcept {
  auto count = [](dl_phdr_info*, size_t, void* n) { return ++*static_cast<std::size_t*>(n), 0; };
  auto add = [](dl_phdr_info* info, size_t, void* to) {
    modules& all = *static_cast<modules*>(to);
    if (all.count < all.room && !is_vdso(*info)) all.at()[all.count++] = loaded_module(*info);
    return 0;
  };
  std::size_t n = 0;
  dl_iterate_phdr(count, &n);
  auto* all = static_cast<modules*>(sys::map(sizeof(modules) + n * sizeof(loaded_module)));
  if (!all) sys::die("no memory for the list of libraries");
  all->room = n;
  dl_iterate_phdr(add, all);
  return all;
}

constinit std::atomic<modules*> loaded{nullptr};

modules& at_start() noexcept {
  if (modules* known = loaded.load(std::memory_order_acquire)) return *known;
  modules *mine = list_modules(), *none = nullptr;
  // If two threads get here at once, one list is lost, which does no harm.
  return loaded.compare_exchange_strong(none, mine) ? *mine : *none;
}

__attribute__((constructor)) void look_at_modules() noexcept { at_start(); }

}  // namespace

void* find_symbol(const char* name, const void* behind) noexcept {
  modules& all = at_start();
  std::size_t i = 0;
  if (behind) {
    while (i < all.count && !all.at()[i].has(behind)) i++;
    i++;
  }
  for (std::uint32_t h = loaded_module::hash_of(name); i < all.count; i++) {
    if (void* found = all.at()[i].find(name, h)) return found;
  }
  return nullptr;
}

void* find_symbol_in(const char* library, const char* name) noexcept {
  struct search {
    const char *library, *name;
    void* found;
  } s{library, name, nullptr};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* p) {
        search& wanted = *static_cast<search*>(p);
        const char* file = strrchr(info->dlpi_name, '/');
        if (strcmp(file ? file + 1 : info->dlpi_name, wanted.library) != 0) return 0;
        wanted.found = loaded_module(*info).find(wanted.name, loaded_module::hash_of(wanted.name));
        return wanted.found ? 1 : 0;
      },
      &s);
  return s.found;
}

}  // namespace tendril::core
