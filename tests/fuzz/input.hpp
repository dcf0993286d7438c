// Takes an input of a fuzz target apart: numbers from its front. At its end all numbers are 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace fuzz {

class input {
 public:
  input(const std::uint8_t* p, std::size_t n) : p_(p), left_(n) {}
  template <class T = std::uint8_t>
  T number() {
    T value{};
    std::size_t n = left_ < sizeof value ? left_ : sizeof value;
    if (n) std::memcpy(&value, p_, n);
    p_ += n;
    left_ -= n;
    return value;
  }
  // A number below `end`, from one byte.
  unsigned below(unsigned end) { return number() % end; }
  bool empty() const { return left_ == 0; }

 private:
  const std::uint8_t* p_;
  std::size_t left_;
};

// Ends the process, as a fuzz target tells that it has found a fault, if `holds` is false.
inline void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

}  // namespace fuzz
