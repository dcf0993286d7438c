// The search for system calls in machine code. An input is code: the search touches nothing outside
// it (AddressSanitizer tells), and finds what a simpler search finds.
#include <string.h>

#include <vector>

#include "base/arch/arch.hpp"
#include "base/arch/system_call_scan.hpp"
#include "input.hpp"

using namespace tendril::arch;
using fuzz::expect;

namespace {

#if defined(__x86_64__)
constexpr std::size_t alignment = 1;
const std::vector<unsigned char> nothing(32, 0x90);  // nop
bool finds(const std::vector<unsigned char>& code, std::uint32_t number) {
  for (std::size_t i = 1; i + 4 <= code.size(); i++) {
    if ((code[i - 1] & 0xf8) != 0xb8 || memcmp(&code[i], &number, 4) != 0) continue;
    for (std::size_t k = i + 4; k < i + 48 && k + 2 <= code.size(); k++) {
      if (code[k] == 0x0f && code[k + 1] == 0x05) return true;
    }
  }
  return false;
}
#elif defined(__aarch64__)
constexpr std::size_t alignment = 4;
const std::vector<unsigned char> nothing(128, 0);
bool finds(const std::vector<unsigned char>& code, std::uint32_t number) {
  return makes_system_call(reinterpret_cast<const char*>(code.data()), code.size(), number);
}
#endif

bool makes(const std::vector<unsigned char>& code, std::uint32_t number) {
  return makes_system_call(reinterpret_cast<const char*>(code.data()), code.size(), number);
}
bool makes_any(const std::vector<unsigned char>& code) {
  return makes_any_system_call(reinterpret_cast<const char*>(code.data()), code.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // Exactly as large as the code, so that a byte more is an error.
  std::vector<unsigned char> code(data, data + size / alignment * alignment);
  std::vector<unsigned char> within = nothing;
  within.insert(within.end(), code.begin(), code.end());
  within.insert(within.end(), nothing.begin(), nothing.end());
  for (std::uint32_t number : {202U, 98U, 426U}) {
    expect(makes(code, number) == finds(code, number), "the two searches agree");
    expect(!makes(code, number) || makes(within, number), "what is found is found within more");
  }
  expect(!makes_any(code) || makes_any(within), "a stub is found within more code");
  return 0;
}
