#include "base/symbols.hpp"

#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#include <atomic>
#include <cstdint>

#include "base/sys.hpp"

namespace tendril::core {

namespace {

// What look-ups need of a loaded module: the dynamic section of the gABI, and the hash table of the
// GNU linkers.
struct module {
  std::uintptr_t base = 0, first = 0, end = 0;  // `first` to `end`: its mapped addresses
  // of the kernel thread that listed the modules, the main one
  std::uintptr_t thread_local_block = 0;
  const ElfW(Sym) * symbols = nullptr;
  const char* strings = nullptr;
  const std::uint32_t* gnu_hash = nullptr;
  const std::uint32_t* hash = nullptr;  // ELF's own
  const ElfW(Half) * versions = nullptr;

  explicit module(const dl_phdr_info& info) noexcept;
  void* find(const char* name, std::uint32_t hash_of_name) const noexcept;
  bool has(const void* p) const noexcept {
    auto at = reinterpret_cast<std::uintptr_t>(p);
    return at >= first && at < end;
  }

 private:
  bool is(std::uint32_t i, const char* name) const noexcept;
  void* address(std::uint32_t i) const noexcept;
};

struct modules {
  std::size_t count = 0, room = 0;
  module* at() noexcept { return reinterpret_cast<module*>(this + 1); }
};

module::module(const dl_phdr_info& info) noexcept :base(info.dlpi_addr),
    thread_local_block(reinterpret_cast<std::uintptr_t>(info.dlpi_tls_data)) {
  const ElfW(Dyn)* d = nullptr;
  for (int i = 0; i < info.dlpi_phnum; i++) {
    const ElfW(Phdr)& p = info.dlpi_phdr[i];
    if (p.p_type == PT_DYNAMIC) d = reinterpret_cast<const ElfW(Dyn)*>(base + p.p_vaddr);
    if (p.p_type != PT_LOAD) continue;
    if (!end || base + p.p_vaddr < first) first = base + p.p_vaddr;
    if (base + p.p_vaddr + p.p_memsz > end) end = base + p.p_vaddr + p.p_memsz;
  }
  // The loader has made these addresses absolute, except in the vDSO, which is left out.
  for (; d && d->d_tag != DT_NULL; d++) {
    auto p = reinterpret_cast<const void*>(d->d_un.d_ptr);
    switch (d->d_tag) {
      case DT_SYMTAB:
        symbols = static_cast<const ElfW(Sym)*>(p);
        break;
      case DT_STRTAB:
        strings = static_cast<const char*>(p);
        break;
      case DT_GNU_HASH:
        gnu_hash = static_cast<const std::uint32_t*>(p);
        break;
      case DT_HASH:
        hash = static_cast<const std::uint32_t*>(p);
        break;
      case DT_VERSYM:
        versions = static_cast<const ElfW(Half)*>(p);
        break;
    }
  }
}

bool module::is(std::uint32_t i, const char* name) const noexcept {
  const ElfW(Sym)& s = symbols[i];
  int bind = ELF64_ST_BIND(s.st_info), type = ELF64_ST_TYPE(s.st_info);
  bool visible = bind == STB_GLOBAL || bind == STB_WEAK || bind == STB_GNU_UNIQUE;
  bool usable =
      type == STT_NOTYPE || type == STT_OBJECT || type == STT_FUNC || type == STT_GNU_IFUNC;
  if (type == STT_TLS) usable = thread_local_block != 0;
  else if (!s.st_value) usable = false;
  if (s.st_shndx == SHN_UNDEF || !visible || !usable || strcmp(strings + s.st_name, name) != 0)
    return false;
  constexpr ElfW(Half) hidden = 0x8000;  // an older version, for programs that were linked to it
  return !versions || !(versions[i] & hidden);
}

void* module::address(std::uint32_t i) const noexcept {
  if (ELF64_ST_TYPE(symbols[i].st_info) == STT_TLS)
    return reinterpret_cast<void*>(thread_local_block + symbols[i].st_value);
  std::uintptr_t p = base + symbols[i].st_value;
  if (ELF64_ST_TYPE(symbols[i].st_info) != STT_GNU_IFUNC) return reinterpret_cast<void*>(p);
  return reinterpret_cast<void* (*)(unsigned long)>(p)(getauxval(AT_HWCAP));
}

void* module::find(const char* name, std::uint32_t h) const noexcept {
  if (!symbols || !strings) return nullptr;
  if (gnu_hash) {
    std::uint32_t buckets = gnu_hash[0], first_symbol = gnu_hash[1], words = gnu_hash[2],
                  shift = gnu_hash[3];
    auto* bloom = reinterpret_cast<const std::uint64_t*>(gnu_hash + 4);
    auto* bucket = reinterpret_cast<const std::uint32_t*>(bloom + words);
    auto* chain = bucket + buckets;
    std::uint64_t mask = 1ULL << (h % 64) | 1ULL << ((h >> shift) % 64);
    if ((bloom[h / 64 % words] & mask) != mask) return nullptr;
    std::uint32_t i = bucket[h % buckets];
    if (i < first_symbol) return nullptr;
    for (;; i++) {
      std::uint32_t other = chain[i - first_symbol];
      if ((other | 1) == (h | 1) && is(i, name)) return address(i);
      if (other & 1) return nullptr;
    }
  }
  for (std::uint32_t i = 0; hash && i < hash[1]; i++) {
    if (is(i, name)) return address(i);
  }
  return nullptr;
}

std::uint32_t hash_of(const char* name) noexcept {
  std::uint32_t h = 5381;
  for (; *name; name++) h = h * 33 + static_cast<unsigned char>(*name);
  return h;
}

bool is_vdso(const dl_phdr_info& info) noexcept {
  return info.dlpi_addr == getauxval(AT_SYSINFO_EHDR);
}

modules* list_modules() noexcept {
  auto count = [](dl_phdr_info*, size_t, void* n) { return ++*static_cast<std::size_t*>(n), 0; };
  auto add = [](dl_phdr_info* info, size_t, void* to) {
    modules& all = *static_cast<modules*>(to);
    if (all.count < all.room && !is_vdso(*info)) all.at()[all.count++] = module(*info);
    return 0;
  };
  std::size_t n = 0;
  dl_iterate_phdr(count, &n);
  auto* all = static_cast<modules*>(sys::map(sizeof(modules) + n * sizeof(module)));
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
  for (std::uint32_t h = hash_of(name); i < all.count; i++) {
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
        wanted.found = module(*info).find(wanted.name, hash_of(wanted.name));
        return wanted.found ? 1 : 0;
      },
      &s);
  return s.found;
}

}  // namespace tendril::core
