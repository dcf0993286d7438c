// A walk through an iovec array, against a plain list of the parts that are left. An input is an
// array, and the sizes of the transfers. Nothing is transferred, so the addresses are just numbers.
#include <limits.h>
#include <string.h>
#include <sys/uio.h>

#include <deque>
#include <vector>

#include "input.hpp"
#include "posix/descriptors/iovec_cursor.hpp"

using fuzz::expect;
using tendril::posix::vector_walk;

namespace {

std::size_t length(fuzz::input& in) {
  switch (in.below(8)) {
    case 0:
      return 0;
    case 1:
      return 1;
    case 2:
      return in.number<std::uint8_t>();
    case 3:
      return in.number<std::uint16_t>();
    case 4:
      return vector_walk::most - in.below(3);
    case 5:
      return vector_walk::most + in.below(3);
    case 6:
      return SIZE_MAX - in.below(3);
    default:
      return in.number<std::size_t>();
  }
}

// The parts that have bytes left, with neighbours kept apart.
using parts = std::deque<iovec>;

void take(parts& from, std::size_t n) {
  while (n) {
    iovec& first = from.front();
    std::size_t part = n < first.iov_len ? n : first.iov_len;
    first.iov_base =
        reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(first.iov_base) + part);
    first.iov_len -= part;
    n -= part;
    if (first.iov_len == 0) from.pop_front();
  }
}

bool shows(const vector_walk& walk, const parts& left) {
  std::size_t at = 0;
  for (const iovec* v = walk.data(); v != walk.data() + walk.size(); v++) {
    if (v->iov_len == 0) continue;
    if (at == left.size() || v->iov_base != left[at].iov_base || v->iov_len != left[at].iov_len)
      return false;
    at++;
  }
  return at == left.size();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::input in(data, size);
  // Few, around the room within the object, or as many as there may be.
  unsigned kind = in.number();
  unsigned n = kind < 64 ? kind % 16 : kind < 128 ? 15 + kind % 4 : kind < 252 ? kind : IOV_MAX;
  std::vector<iovec> array(n);
  unsigned written = in.below(64);  // of how many entries the length is in the input
  for (unsigned i = 0; i < n; i++) {
    array[i].iov_base = reinterpret_cast<void*>(std::uintptr_t(i + 1) << 40);
    array[i].iov_len = i < written ? length(in) : i % 3;
  }
  const std::vector<iovec> before = array;

  parts left;
  std::size_t total = 0;
  for (const iovec& v : array) {
    std::size_t room = vector_walk::most - total;
    iovec part{v.iov_base, v.iov_len < room ? v.iov_len : room};
    total += part.iov_len;
    if (part.iov_len) left.push_back(part);
  }

  vector_walk walk(array.data(), int(n));
  std::size_t done = 0;
  for (;;) {
    expect(walk.total() == total, "the total is that of the parts, up to what one call transfers");
    expect(walk.done() == done && walk.left() == total - done, "what is done and left is counted");
    expect(walk.left() == 0 || shows(walk, left), "the array shows what is left");
    expect(walk.size() >= 0 && walk.size() <= int(n), "the array is no longer than it was");
    if (walk.left() == 0 || in.empty()) break;
    // A part of what is left, up to the end of an entry, or all.
    std::size_t step = in.number<std::uint32_t>();
    switch (in.below(4)) {
      case 0:
        step = left.front().iov_len;
        break;
      case 1:
        step = walk.left();
        break;
      case 2:
        step %= left.front().iov_len + 1;
        break;
      default:
        step %= walk.left() + 1;
    }
    take(left, step);
    done += step;
    expect(walk.advance(step), "there is memory");
  }
  expect(n == 0 || memcmp(array.data(), before.data(), n * sizeof(iovec)) == 0,
         "the program's array is as it was");
  return 0;
}
