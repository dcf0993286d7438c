// Work that would block all fibers is done elsewhere: reading a file in the default thread pool and
// in a pool of the program's own, and a computation in a process. The example of asyncio's
// loop.run_in_executor().
//
// In Python an async function, pool_exec(), with a `with` for each pool; here main() itself may
// wait, and a pool's destructor waits for its workers.

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <tendril/process_pool_executor.hpp>
#include <tendril/thread_pool_executor.hpp>

#include "../python_text.hpp"

namespace {

// File operations can block; in a thread pool they do not block other fibers.
std::string blocking_io() {
  std::string bytes(100, '\0');
  std::ifstream random("/dev/urandom", std::ios::binary);
  if (!random.read(bytes.data(), 100)) throw std::runtime_error("cannot read /dev/urandom");
  return bytes;
}

// A sum that needs more than 64 bits: high * 10^18 + low.
struct big {
  std::uint64_t high, low;
};

// The sum of the squares below ten million, which occupies a core for a while.
big cpu_bound() {
  constexpr std::uint64_t ten_to_18 = 1'000'000'000'000'000'000;
  big sum{0, 0};
  for (std::uint64_t i = 0; i < 10'000'000; i++) {
    sum.low += i * i;
    if (sum.low >= ten_to_18) sum.high++, sum.low -= ten_to_18;
  }
  return sum;
}

}  // namespace

int main() {
  // first, so that its processes are forked before there are other threads
  tendril::process_pool_executor processes;

  std::string bytes = tendril::run_in_executor(blocking_io);
  std::printf("default thread pool %s\n", python::bytes_repr(bytes).c_str());

  tendril::thread_pool_executor threads;
  bytes = tendril::run_in_executor(threads, blocking_io);
  std::printf("custom thread pool %s\n", python::bytes_repr(bytes).c_str());

  big sum = tendril::run_in_executor(processes, cpu_bound);
  std::printf("custom process pool %llu%018llu\n", static_cast<unsigned long long>(sum.high),
              static_cast<unsigned long long>(sum.low));
}
