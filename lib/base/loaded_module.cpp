#include "base/loaded_module.hpp"

#include <string.h>
#include <sys/auxv.h>

namespace tendril::core {

loaded_module::loaded_module(const dl_phdr_info& info) noexcept
    : base_(info.dlpi_addr),
      thread_local_block_(reinterpret_cast<std::uintptr_t>(info.dlpi_tls_data)) {
  const ElfW(Dyn)* d = nullptr;
  for (int i = 0; i < info.dlpi_phnum; i++) {
    const ElfW(Phdr)& p = info.dlpi_phdr[i];
    if (p.p_type == PT_DYNAMIC) d = reinterpret_cast<const ElfW(Dyn)*>(base_ + p.p_vaddr);
    if (p.p_type != PT_LOAD) continue;
    if (!end_ || base_ + p.p_vaddr < first_) first_ = base_ + p.p_vaddr;
    if (base_ + p.p_vaddr + p.p_memsz > end_) end_ = base_ + p.p_vaddr + p.p_memsz;
  }
  // The loader has made these addresses absolute, except in the vDSO, which has no relocations, and
  // in which nothing is looked up.
  for (; d && d->d_tag != DT_NULL; d++) {
    auto p = reinterpret_cast<const void*>(d->d_un.d_ptr);
    switch (d->d_tag) {
      case DT_SYMTAB:
        symbols_ = static_cast<const ElfW(Sym)*>(p);
        break;
      case DT_STRTAB:
        strings_ = static_cast<const char*>(p);
        break;
      case DT_GNU_HASH:
        gnu_hash_ = static_cast<const std::uint32_t*>(p);
        break;
      case DT_HASH:
        hash_ = static_cast<const std::uint32_t*>(p);
        break;
      case DT_JMPREL:
        relocations_[0] = static_cast<const ElfW(Rela)*>(p);
        break;
      case DT_PLTRELSZ:
        relocations_size_[0] = d->d_un.d_val;
        break;
      case DT_RELA:
        relocations_[1] = static_cast<const ElfW(Rela)*>(p);
        break;
      case DT_RELASZ:
        relocations_size_[1] = d->d_un.d_val;
        break;
      case DT_VERSYM:
        versions_ = static_cast<const ElfW(Half)*>(p);
        break;
    }
  }
}

bool loaded_module::is(std::uint32_t i, const char* name) const noexcept {
  const ElfW(Sym)& s = symbols_[i];
  int bind = ELF64_ST_BIND(s.st_info), type = ELF64_ST_TYPE(s.st_info);
  bool visible = bind == STB_GLOBAL || bind == STB_WEAK || bind == STB_GNU_UNIQUE;
  bool usable =
      type == STT_NOTYPE || type == STT_OBJECT || type == STT_FUNC || type == STT_GNU_IFUNC;
  if (type == STT_TLS) usable = thread_local_block_ != 0;
  else if (!s.st_value) usable = false;
  if (s.st_shndx == SHN_UNDEF || !visible || !usable || strcmp(strings_ + s.st_name, name) != 0)
    return false;
  constexpr ElfW(Half) hidden = 0x8000;  // an older version, for programs that were linked to it
  return !versions_ || !(versions_[i] & hidden);
}

void* loaded_module::address(std::uint32_t i) const noexcept {
  if (ELF64_ST_TYPE(symbols_[i].st_info) == STT_TLS)
    return reinterpret_cast<void*>(thread_local_block_ + symbols_[i].st_value);
  std::uintptr_t p = base_ + symbols_[i].st_value;
  if (ELF64_ST_TYPE(symbols_[i].st_info) != STT_GNU_IFUNC) return reinterpret_cast<void*>(p);
  return reinterpret_cast<void* (*)(unsigned long)>(p)(getauxval(AT_HWCAP));
}

void* loaded_module::find(const char* name, std::uint32_t h) const noexcept {
  if (!symbols_ || !strings_) return nullptr;
  if (gnu_hash_) {
    std::uint32_t buckets = gnu_hash_[0], first_symbol = gnu_hash_[1], words = gnu_hash_[2],
                  shift = gnu_hash_[3];
    if (buckets == 0 || words == 0) return nullptr;  // it defines nothing
    auto* bloom = reinterpret_cast<const std::uint64_t*>(gnu_hash_ + 4);
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
  for (std::uint32_t i = 0; hash_ && i < hash_[1]; i++) {
    if (is(i, name)) return address(i);
  }
  return nullptr;
}

bool loaded_module::imports(const char* name) const noexcept {
  if (!symbols_ || !strings_) return false;
  for (int t = 0; t < 2; t++) {
    for (std::size_t i = 0; relocations_[t] && i < relocations_size_[t] / sizeof(ElfW(Rela)); i++) {
      const ElfW(Sym)& s = symbols_[ELF64_R_SYM(relocations_[t][i].r_info)];
      if (s.st_shndx == SHN_UNDEF && strcmp(strings_ + s.st_name, name) == 0) return true;
    }
  }
  return false;
}

std::uint32_t loaded_module::hash_of(const char* name) noexcept {
  std::uint32_t h = 5381;
  for (; *name; name++) h = h * 33 + static_cast<unsigned char>(*name);
  return h;
}

}  // namespace tendril::core
