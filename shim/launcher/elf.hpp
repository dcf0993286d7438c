// The few facts in an ELF file that determine which dynamic loader loads it.
#pragma once

#include <cstdint>
#include <string>

namespace tendril::launcher {

struct elf_file {
  std::string damage;  // why the file is invalid; if set, the rest is not
  // the platform that it is built for, if that is not the launcher's; if set, the rest is not
  std::string foreign;
  std::uint16_t type = 0;  // ET_EXEC, ET_DYN, ...
  bool entry = false;      // has an entry point; a library has none
  bool dynamic = false;    // has a dynamic section, so it can be loaded as a library
  std::string loader;      // its dynamic loader; empty for a static program
};

bool is_elf(const char* start, std::size_t length);
elf_file read_elf(int fd);

// The launcher's own dynamic loader, which is the one that can load the shim.
const char* own_loader();

}  // namespace tendril::launcher
