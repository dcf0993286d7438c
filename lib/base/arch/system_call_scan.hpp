// Finds code that makes system calls with a variable number, as generic stubs (syscall(2)) do, by
// decoding the instructions around each system call instruction.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tendril::arch {

#if defined(__x86_64__)

// One instruction that ends at `end`, if it is of a kind that precedes a system call: it moves an
// argument into place, or decides whether to make the call. Reads up to 8 bytes back. Length 0: it
// is of no such kind. `prefixed`: decode it with a REX prefix; both decodings may be possible if
// the byte before it looks like a prefix.
struct setup_instruction {
  int length = 0;
  enum { other, number_constant, number_variable } sets = other;
};
inline setup_instruction setup_instruction_before(const unsigned char* end,
                                                  bool prefixed) noexcept {
  auto is_prefix = [](unsigned char c) { return (c & 0xf0) == 0x40; };
  int p = prefixed ? 1 : 0;
  auto known = [&](int length, int register_number, bool extended, bool constant) {
    setup_instruction i;
    i.length = length + p;
    if (prefixed && !is_prefix(end[-i.length])) return setup_instruction{};
    if (register_number == 0 && !extended) {
      i.sets = constant ? setup_instruction::number_constant : setup_instruction::number_variable;
    }
    return i;
  };
  auto extension = [&](int length, unsigned char bit) {
    return prefixed && (end[-length - 1] & bit);
  };
  // Register to register.
  if (end[-1] >= 0xc0) {
    int reg = end[-1] >> 3 & 7, rm = end[-1] & 7;
    switch (end[-2]) {
      case 0x89:
        return known(2, rm, extension(2, 1), false);
      case 0x8b:
      case 0x63:
        return known(2, reg, extension(2, 4), false);
      case 0x31:
      case 0x33:
        if (reg == rm) return known(2, rm, extension(2, 1), true);
        break;
      case 0x85:
        return known(2, -1, false, false);
    }
  }
  // Memory to register.
  auto loads = [](unsigned char c) { return c == 0x8b || c == 0x63 || c == 0x8d; };
  auto from = [&](int length, unsigned char modrm) {
    return known(length, modrm >> 3 & 7, extension(length, 4), false);
  };
  if (loads(end[-2]) && end[-1] < 0x40 && (end[-1] & 7) != 4 && (end[-1] & 7) != 5)
    return from(2, end[-1]);
  if (loads(end[-3]) && (end[-2] & 0xc0) == 0x40 && (end[-2] & 7) != 4) return from(3, end[-2]);
  if (loads(end[-4]) && (end[-3] & 0xc7) == 0x44 && end[-2] == 0x24) return from(4, end[-3]);
  if (loads(end[-6]) && (end[-5] & 0xc7) == 0x05 /* from the program counter on */)
    return from(6, end[-5]);
  if (loads(end[-6]) && (end[-5] & 0xc0) == 0x80 && (end[-5] & 7) != 4) return from(6, end[-5]);
  if (loads(end[-7]) && (end[-6] & 0xc7) == 0x84 && end[-5] == 0x24) return from(7, end[-6]);
  // Register or constant to memory.
  if (end[-3] == 0x89 && (end[-2] & 0xc0) == 0x40 && (end[-2] & 7) != 4)
    return known(3, -1, false, false);
  if (end[-4] == 0x89 && (end[-3] & 0xc7) == 0x44 && end[-2] == 0x24)
    return known(4, -1, false, false);
  if (end[-7] == 0xc7 && (end[-6] & 0xf8) == 0x40 && (end[-6] & 7) != 4)
    return known(7, -1, false, false);
  // Constants.
  if ((end[-5] & 0xf8) == 0xb8) return known(5, end[-5] & 7, extension(5, 1), true);
  if (prefixed && end[-6] == 0xc7 && (end[-5] & 0xf8) == 0xc0)
    return known(6, end[-5] & 7, extension(6, 1), true);
  if (end[-3] == 0x83 && end[-2] >= 0xc0) return known(3, -1, false, false);
  // Deciding whether to make the call: a comparison, a test, a jump.
  if ((end[-2] & 0xf0) == 0x70 && !prefixed) return known(2, -1, false, false);
  if (end[-6] == 0x0f && (end[-5] & 0xf0) == 0x80 && !prefixed) return known(6, -1, false, false);
  if (end[-4] == 0x83 && (end[-3] & 0xf8) == 0x78) return known(4, -1, false, false);
  if (end[-7] == 0xf7 && (end[-6] & 0xf8) == 0x40) return known(7, -1, false, false);
  if ((end[-1] & 0xf8) == 0x50) return known(1, -1, false, false);
  return {};
}
// Whether the number of the system call instruction at `at` is not a constant, as far as the
// instructions before it show.
inline bool number_varies(const unsigned char* start, const unsigned char* at,
                          int most = 14) noexcept {
  if (most == 0 || at - start < 16) return false;
  for (int prefix = 1; prefix >= 0; prefix--) {
    setup_instruction i = setup_instruction_before(at, prefix != 0);
    if (!i.length || i.sets == setup_instruction::number_constant) continue;
    if (i.sets == setup_instruction::number_variable ||
        number_varies(start, at - i.length, most - 1))
      return true;
  }
  return false;
}
// Whether the bytes at `p` may follow a system call: a return, a test of the result, or a move of
// it. (Otherwise what looked like a system call instruction is probably something else.)
inline bool follows_system_call(const unsigned char* p) noexcept {
  switch (p[0]) {
    case 0xc3:
    case 0xc9:
    case 0xeb:
    case 0x8b:
      return true;
    case 0x41:
      return (p[1] & 0xf8) == 0x58;
    case 0x48:
      return p[1] == 0x3d || p[1] == 0x85 || p[1] == 0x89 || p[1] == 0x8b || p[1] == 0x83 ||
             p[1] == 0x98 || p[1] == 0x63;
    case 0x31:
    case 0x89:
    case 0x85:
      return p[1] >= 0xc0;
    default:
      return (p[0] & 0xf8) == 0x58;
  }
}
// Whether the code makes system calls whose number is not a constant.
inline bool makes_any_system_call(const char* code, std::size_t size) noexcept {
  const auto* start = reinterpret_cast<const unsigned char*>(code);
  const unsigned char* end = start + size;
  for (const unsigned char* p = start;
       end - p > 4 &&
       (p = static_cast<const unsigned char*>(__builtin_memchr(p, 0x0f, std::size_t(end - p - 4))));
       p++) {
    if (p[1] == 0x05 && follows_system_call(p + 2) && number_varies(start, p)) return true;
  }
  return false;
}

#elif defined(__aarch64__)

// Whether the code makes system calls whose number is not a constant: x8 is loaded from a register
// or from memory.
inline bool makes_any_system_call(const char* code, std::size_t size) noexcept {
  const std::uint32_t* words = reinterpret_cast<const std::uint32_t*>(code);
  for (std::size_t i = 16; i < size / 4; i++) {
    if (words[i] != 0xd4000001 /* svc #0 */) continue;
    for (std::size_t k = 1; k <= 16; k++) {
      std::uint32_t w = words[i - k];
      if ((w & 0x1f) != 8) continue;
      std::uint32_t moves = w & 0x7fe0ffe0, loads = w & 0xbfc00000, pair = w & 0x7fc00000;
      if (moves == 0x2a0003e0 || loads == 0xb9400000 || pair == 0x29400000) return true;
      if ((w & 0x7f800000) == 0x52800000 /* movz */) break;
    }
  }
  return false;
}

#endif

}  // namespace tendril::arch
