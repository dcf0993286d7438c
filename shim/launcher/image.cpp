#include "image.hpp"

#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/arch/arch.hpp"
#include "base/arch/system_call_scan.hpp"
#include "elf.hpp"
#include "file.hpp"

namespace tendril::launcher {

namespace {

// The bytes of a file. at() and text() return null for ranges that reach beyond its end.
struct contents {
  const char* start;
  std::size_t size;

  template <class T>
  const T* at(std::uint64_t offset, std::uint64_t count = 1) const {
    if (offset > size || count > (size - offset) / sizeof(T) || offset % alignof(T)) return nullptr;
    return (const T*)(start + offset);
  }
  // A string that ends within [offset, offset + length); null otherwise.
  const char* text(std::uint64_t offset, std::uint64_t length, std::uint64_t from) const {
    const char* table = at<char>(offset, length);
    return table && from < length && memchr(table + from, 0, length - from) ? table + from
                                                                            : nullptr;
  }
};

}  // namespace

image parse_image(const char* start, std::size_t size, const std::vector<std::uint32_t>& numbers) {
  image found;
  contents m{start, size};
  const auto* h = m.at<ElfW(Ehdr)>(0);
  if (!h) return found;

  const auto* p = m.at<ElfW(Phdr)>(h->e_phoff, h->e_phnum);
  for (std::uint32_t number : numbers) {
    for (int i = 0; p && i < h->e_phnum; i++) {
      if (p[i].p_type != PT_LOAD || !(p[i].p_flags & PF_X)) continue;
      const char* code = m.at<char>(p[i].p_offset, p[i].p_filesz);
      if (!code || !arch::makes_system_call(code, p[i].p_filesz, number)) continue;
      found.system_calls.push_back(number);
      break;
    }
  }

  for (int i = 0; p && !numbers.empty() && i < h->e_phnum; i++) {
    if (p[i].p_type != PT_LOAD || !(p[i].p_flags & PF_X)) continue;
    const char* code = m.at<char>(p[i].p_offset, p[i].p_filesz);
    if (code && arch::makes_any_system_call(code, p[i].p_filesz)) found.any_system_call = true;
  }

  const auto* s = m.at<ElfW(Shdr)>(h->e_shoff, h->e_shnum);
  for (int i = 0; s && i < h->e_shnum; i++) {
    if (s[i].sh_type != SHT_DYNSYM || s[i].sh_link >= h->e_shnum) continue;
    const auto& strings = s[s[i].sh_link];
    std::size_t count = s[i].sh_size / sizeof(ElfW(Sym));
    const auto* symbols = m.at<ElfW(Sym)>(s[i].sh_offset, count);
    if (!symbols) continue;
    found.symbols = true;
    for (std::size_t k = 0; k < count; k++) {
      const char* name = m.text(strings.sh_offset, strings.sh_size, symbols[k].st_name);
      if (!name || !*name) continue;
      (symbols[k].st_shndx == SHN_UNDEF ? found.imports : found.exports).insert(name);
    }
  }
  return found;
}

image read_image(const std::string& path, const std::vector<std::uint32_t>& numbers) {
  file f(path.c_str());
  struct stat st;
  if (!f.is_open() || fstat(f.descriptor(), &st) != 0 || st.st_size == 0) return {};
  elf_file elf = read_elf(f.descriptor());
  if (!elf.damage.empty() || !elf.foreign.empty()) return {};
  std::size_t size = (std::size_t)st.st_size;
  void* p = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, f.descriptor(), 0);
  if (p == MAP_FAILED) return {};
  image found = parse_image((const char*)p, size, numbers);
  munmap(p, size);
  return found;
}

}  // namespace tendril::launcher
