// Runs a shell command and shows its output: shared by the two programs of asyncio's subprocesses.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <tendril/subprocess.hpp>
#include <tendril/task.hpp>

#include "../python_text.hpp"

// `pause`: the time to wait before showing the output. (In Python an async function.)
inline void run(const std::string& cmd, std::chrono::duration<double> pause) {
  namespace redirect = tendril::redirect;
  tendril::subprocess proc({"/bin/sh", "-c", cmd}, {.out = redirect::pipe, .err = redirect::pipe});
  auto [out, err] = proc.communicate();
  std::printf("[%s exited with %d]\n", python::repr(cmd).c_str(), proc.wait());
  tendril::sleep(pause);
  if (!out.empty()) std::printf("[stdout]\n%s\n", out.c_str());
  if (!err.empty()) std::printf("[stderr]\n%s\n", err.c_str());
}

// The program's argument: the SECONDS of that wait; 1 by default.
inline std::chrono::duration<double> pause_of(int argc, char** argv) {
  return std::chrono::duration<double>(argc > 1 ? std::atof(argv[1]) : 1);
}
