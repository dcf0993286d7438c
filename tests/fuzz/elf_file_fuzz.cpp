// The launcher reads program files that it does not trust. An input is a file: reading it touches
// nothing beyond its end (AddressSanitizer tells), and what is found is in the file.
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "elf.hpp"
#include "image.hpp"
#include "input.hpp"

using namespace tendril::launcher;
using fuzz::expect;

namespace {

// A file in memory with these bytes.
int file_of(const std::uint8_t* data, std::size_t size) {
  static int fd = memfd_create("input", MFD_CLOEXEC);
  expect(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == ssize_t(size), "a file is written");
  return fd;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<std::uint32_t> numbers{202, 426};
  // Exactly as large as the file, so that a byte more is an error.
  std::vector<char> bytes(data, data + size);
  std::string_view all(bytes.data(), size);
  auto is_text = [&](const std::string& s) {
    return !s.empty() && all.find(s + '\0') != std::string_view::npos;
  };

  int fd = file_of(data, size);
  elf_file elf = read_elf(fd);
  bool native = elf.damage.empty() && elf.foreign.empty();
  if (native && !elf.loader.empty())
    expect(is_text(elf.loader), "the loader's path is in the file");

  image found = parse_image(bytes.data(), size, numbers);
  expect(found.symbols || (found.imports.empty() && found.exports.empty()),
         "names come from a symbol table");
  for (const std::string& s : found.imports) expect(is_text(s), "an import's name is in the file");
  for (const std::string& s : found.exports) expect(is_text(s), "an export's name is in the file");
  for (std::uint32_t n : found.system_calls)
    expect(std::count(numbers.begin(), numbers.end(), n) == 1, "only these numbers are looked for");

  image read = read_image("/proc/self/fd/" + std::to_string(fd), numbers);
  expect(read.symbols == (native && found.symbols), "only a native file is looked into");
  expect(!native || (read.imports == found.imports && read.exports == found.exports &&
                     read.system_calls == found.system_calls &&
                     read.any_system_call == found.any_system_call),
         "the file has what its bytes have");
  return 0;
}
