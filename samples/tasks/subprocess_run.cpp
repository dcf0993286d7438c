// A shell command that fails, with what it writes: the example of asyncio's subprocesses.
//
//   subprocess_run [SECONDS]   how long it waits before it shows what the command wrote: 1

#include "run_command.hpp"

int main(int argc, char** argv) { run("ls /rrr", pause_of(argc, argv)); }
