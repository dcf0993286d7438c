// The contents of a program's or library's file: the names it imports and exports, and the system
// calls that its code makes by its own instructions.
#pragma once

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

image read_image(const std::string& path, const std::vector<std::uint32_t>& numbers = {});

}  // namespace tendril::launcher
