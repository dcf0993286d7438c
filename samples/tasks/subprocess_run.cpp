// Runs a shell command that fails and shows its output: the example of asyncio's subprocesses.
//
// In Python run by asyncio.run(), from an async function; here main() itself may wait.
//
//   subprocess_run [SECONDS]   the time that it waits before it shows the output: 1

#include "run_command.hpp"

int main(int argc, char** argv) { run("ls /rrr", pause_of(argc, argv)); }
