// The contents of a program's or library's file: the names it imports and exports, and the system
// calls that its code makes by its own instructions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace tendril::launcher {

struct image {
  // it has a readable symbol table; if not, imports and exports are unknown
  bool symbols = false;
  std::set<std::string> imports, exports;
  std::vector<std::uint32_t> system_calls;  // the requested numbers that were found
  // it has a stub for system calls by any number (looked for only if numbers were requested)
  bool any_system_call = false;
};

// The image of a file, or an empty one if it cannot be read or is for another platform.
image read_image(const std::string& path, const std::vector<std::uint32_t>& numbers = {});
// The same of a file's bytes, which must be as aligned as ELF's structures and are not trusted:
// what reaches beyond the end is left out.
image parse_image(const char* start, std::size_t size,
                  const std::vector<std::uint32_t>& numbers = {});

}  // namespace tendril::launcher
