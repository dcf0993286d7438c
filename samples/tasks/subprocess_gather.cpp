// Runs two shell commands at once and shows their output: asyncio.gather over its subprocesses.
//
// In Python run by asyncio.run(), from an async function; here main() itself may wait.
//
//   subprocess_gather [SECONDS]   the time that each waits before it shows its command's output: 1

#include <tendril/wait.hpp>

#include "run_command.hpp"

int main(int argc, char** argv) {
  auto pause = pause_of(argc, argv);
  auto zzz = tendril::spawn(run, "ls /zzz", pause);
  auto zzas = tendril::spawn(run, "ls /zzas", pause);
  tendril::gather(zzz, zzas);
}
