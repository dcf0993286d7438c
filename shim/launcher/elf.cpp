#include "elf.hpp"

#include <elf.h>
#include <limits.h>
#include <link.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vector>

// The linker defines this as the launcher's own ELF header. It tells what "native" means, without a
// table of CPUs.
extern "C" const ElfW(Ehdr) __ehdr_start [[gnu::visibility("hidden")]];

namespace tendril::launcher {

namespace {

std::string machine_name(unsigned machine) {
  switch (machine) {
    case EM_386:
      return "i386";
    case EM_X86_64:
      return "x86_64";
    case EM_ARM:
      return "arm";
    case EM_AARCH64:
      return "aarch64";
    case EM_RISCV:
      return "riscv";
    case EM_PPC:
      return "ppc";
    case EM_PPC64:
      return "ppc64";
    case EM_S390:
      return "s390";
    case EM_MIPS:
      return "mips";
    case EM_LOONGARCH:
      return "loongarch";
    default:
      return "machine number " + std::to_string(machine);
  }
}

// Uses only the fields before the first address, which have the same offsets in both classes.
std::string description(const ElfW(Ehdr) & h) {
  bool swapped = h.e_ident[EI_DATA] != __ehdr_start.e_ident[EI_DATA];
  std::string text = h.e_ident[EI_CLASS] == ELFCLASS32 ? "32-bit " : "64-bit ";
  if (swapped) text += h.e_ident[EI_DATA] == ELFDATA2MSB ? "big-endian " : "little-endian ";
  return text + machine_name(swapped ? __builtin_bswap16(h.e_machine) : h.e_machine);
}

bool read_at(int fd, void* to, std::size_t size, std::uint64_t offset) {
  return pread(fd, to, size, (off_t)offset) == (ssize_t)size;
}

elf_file damaged(const char* how) {
  elf_file file;
  file.damage = how;
  return file;
}

}  // namespace

bool is_elf(const char* start, std::size_t length) {
  return length >= SELFMAG && memcmp(start, ELFMAG, SELFMAG) == 0;
}

elf_file read_elf(int fd) {
  ElfW(Ehdr) h = {};
  struct stat st;
  // A 32-bit header is shorter; the fields beyond its end are not used.
  ssize_t got = pread(fd, &h, sizeof h, 0);
  if (got < (ssize_t)sizeof(Elf32_Ehdr) || fstat(fd, &st) != 0)
    return damaged("it is shorter than its header");
  if (!is_elf((const char*)h.e_ident, SELFMAG)) return damaged("it has no ELF signature");
  if (h.e_ident[EI_CLASS] != ELFCLASS32 && h.e_ident[EI_CLASS] != ELFCLASS64)
    return damaged("its class is unknown");
  if (h.e_ident[EI_DATA] != ELFDATA2LSB && h.e_ident[EI_DATA] != ELFDATA2MSB) {
    return damaged("its byte order is unknown");
  }

  elf_file file;
  if (h.e_machine != __ehdr_start.e_machine ||
      h.e_ident[EI_CLASS] != __ehdr_start.e_ident[EI_CLASS] ||
      h.e_ident[EI_DATA] != __ehdr_start.e_ident[EI_DATA]) {
    file.foreign = description(h);
    return file;
  }
  file.type = h.e_type;
  file.entry = h.e_entry != 0;
  if (h.e_phnum == 0) return file;  // an object file
  if (h.e_phentsize != sizeof(ElfW(Phdr)))
    return damaged("its program headers have the wrong size");
  std::vector<ElfW(Phdr)> headers(h.e_phnum);
  if (!read_at(fd, headers.data(), headers.size() * sizeof headers[0], h.e_phoff)) {
    return damaged("its program headers extend beyond its end");
  }
  for (const ElfW(Phdr) & p : headers) {
    std::uint64_t end;
    if (p.p_type == PT_LOAD &&
        (__builtin_add_overflow(p.p_offset, p.p_filesz, &end) || end > (std::uint64_t)st.st_size)) {
      return damaged("it is cut short");
    }
    if (p.p_type == PT_DYNAMIC) file.dynamic = true;
    if (p.p_type != PT_INTERP || !file.loader.empty()) continue;
    // The same conditions as the kernel's.
    if (p.p_filesz < 2 || p.p_filesz > PATH_MAX)
      return damaged("the path of its dynamic loader has an invalid length");
    file.loader.resize(p.p_filesz);
    if (!read_at(fd, file.loader.data(), p.p_filesz, p.p_offset) || file.loader.back() != 0) {
      return damaged("the path of its dynamic loader is not terminated");
    }
    file.loader.resize(strlen(file.loader.c_str()));
  }
  return file;
}

const char* own_loader() {
  const char* loader = "";
  auto look = [](dl_phdr_info* own, std::size_t, void* found) {
    for (const ElfW(Phdr)* p = own->dlpi_phdr; p != own->dlpi_phdr + own->dlpi_phnum; p++) {
      if (p->p_type == PT_INTERP) *(const char**)found = (const char*)(own->dlpi_addr + p->p_vaddr);
    }
    return 1;  // the program itself comes first; stop after it
  };
  dl_iterate_phdr(look, &loader);
  return loader;
}

}  // namespace tendril::launcher
