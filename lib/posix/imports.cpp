#include "imports.hpp"

#include <elf.h>
#include <link.h>
#include <string.h>

#include <cstdint>

namespace tendril::posix {

namespace {

struct search {
  const char* name;
  bool found;
};

// The undefined symbols stand before those that DT_GNU_HASH covers.
int look_into(dl_phdr_info* info, size_t, void* data) {
  search& s = *static_cast<search*>(data);
  const ElfW(Dyn)* d = nullptr;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    if (info->dlpi_phdr[i].p_type == PT_DYNAMIC) d = reinterpret_cast<const ElfW(Dyn)*>(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
  }
  const ElfW(Sym)* symbols = nullptr;
  const char* strings = nullptr;
  const std::uint32_t* hash = nullptr;
  // The loader has relocated these addresses, except in the vDSO.
  for (; d && d->d_tag != DT_NULL; d++) {
    if (d->d_un.d_ptr < info->dlpi_addr && (d->d_tag == DT_SYMTAB || d->d_tag == DT_STRTAB || d->d_tag == DT_GNU_HASH)) return 0;
    if (d->d_tag == DT_SYMTAB) symbols = reinterpret_cast<const ElfW(Sym)*>(d->d_un.d_ptr);
    if (d->d_tag == DT_STRTAB) strings = reinterpret_cast<const char*>(d->d_un.d_ptr);
    if (d->d_tag == DT_GNU_HASH) hash = reinterpret_cast<const std::uint32_t*>(d->d_un.d_ptr);
  }
  if (!symbols || !strings || !hash) return 0;
  for (std::uint32_t i = 1; i < hash[1]; i++) {
    if (symbols[i].st_shndx == SHN_UNDEF && strcmp(strings + symbols[i].st_name, s.name) == 0) return s.found = true;
  }
  return 0;
}

}  // namespace

bool program_imports(const char* name) noexcept {
  search s{name, false};
  dl_iterate_phdr(look_into, &s);
  return s.found;
}

}  // namespace tendril::posix
