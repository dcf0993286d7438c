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

// A file mapped into memory. at() and text() return null for ranges that reach beyond its end.
class mapping {
 public:
  explicit mapping(const std::string& path) {
    file f(path.c_str());
    struct stat st;
    if (!f.is_open() || fstat(f.descriptor(), &st) != 0 || st.st_size == 0) return;
    void* p = mmap(nullptr, (std::size_t)st.st_size, PROT_READ, MAP_PRIVATE, f.descriptor(), 0);
    if (p == MAP_FAILED) return;
    start_ = (const char*)p;
    size_ = (std::size_t)st.st_size;
    elf_file elf = read_elf(f.descriptor());
    native_ = elf.damage.empty() && elf.foreign.empty();
  }
  ~mapping() {
    if (start_) munmap((void*)start_, size_);
  }
  mapping(const mapping&) = delete;
  mapping& operator=(const mapping&) = delete;

  bool native() const { return native_; }
  template <class T>
  const T* at(std::uint64_t offset, std::uint64_t count = 1) const {
    if (offset > size_ || count > (size_ - offset) / sizeof(T) || offset % alignof(T))
      return nullptr;
    return (const T*)(start_ + offset);
  }
  // A string that ends within [offset, offset + size); null otherwise.
  const char* text(std::uint64_t offset, std::uint64_t size, std::uint64_t from) const {
    const char* table = at<char>(offset, size);
    return table && from < size && memchr(table + from, 0, size - from) ? table + from : nullptr;
  }

 private:
  const char* start_ = nullptr;
  std::size_t size_ = 0;
  bool native_ = false;
};

}  // namespace

image read_image(const std::string& path, const std::vector<std::uint32_t>& numbers) {
  image found;
  mapping m(path);
  const auto* h = m.native() ? m.at<ElfW(Ehdr)>(0) : nullptr;
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

}  // namespace tendril::launcher
