// Two shell commands at once, with what they write: asyncio.gather over its subprocesses.
//
//   subprocess_gather [SECONDS]   how long each waits before it shows what its command wrote: 1

#include <tendril/wait.hpp>

#include "run_command.hpp"

int main(int argc, char** argv) {
  auto pause = pause_of(argc, argv);
  auto zzz = tendril::spawn(run, "ls /zzz", pause);
  auto zzas = tendril::spawn(run, "ls /zzas", pause);
  tendril::gather(zzz, zzas);
}
