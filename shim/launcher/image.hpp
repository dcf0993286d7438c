// What stands in the file of a program or library: the names it imports and exports, the system
// calls that its code makes by instructions of its own.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace tendril::launcher {

struct image {
  // has a table of symbols that could be read; else it is not known what follows
  bool symbols = false;
  std::set<std::string> imports, exports;
  std::vector<std::uint32_t> system_calls;  // those of the numbers asked for that were found
  // it has a stub for calls by whatever number, if any were asked for
  bool any_system_call = false;
};

image read_image(const std::string& path, const std::vector<std::uint32_t>& numbers = {});

}  // namespace tendril::launcher
