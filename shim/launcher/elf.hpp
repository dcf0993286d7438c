// The few facts in an ELF file that decide who will load it.
#pragma once

#include <cstdint>
#include <string>

namespace tendril::launcher {

struct elf_file {
  std::string damage;  // what is wrong with the file; the rest means nothing then
  std::string
      // what it is built for, if not for what this launcher is built for; no more is known then
      foreign;
  std::uint16_t type = 0;  // ET_EXEC, ET_DYN, ...
  bool entry = false;      // says where to start; a library does not
  bool dynamic = false;    // has a dynamic section, so that it can be loaded as a library
  std::string loader;      // the dynamic loader it asks for; empty in a static program
};

bool is_elf(const char* start, std::size_t length);
elf_file read_elf(int fd);

// The dynamic loader of the launcher itself: the one that the shim can rely on.
const char* own_loader();

}  // namespace tendril::launcher
