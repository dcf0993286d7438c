// The options that say how a program is to be run, which `tendril run` and `tendril doctor` share:
// words on the command line, or variables in the environment, from which the shim reads them.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <utility>
#include <vector>

namespace tendril::launcher {

class options {
 public:
  void add_to(CLI::App& command);
  // What was given, as the shim reads it.
  std::vector<std::pair<const char*, std::string>> variables() const;
  bool io_uring() const { return poller_ == "io_uring"; }
  bool kernel_threads() const { return threads_ == "kernel"; }

 private:
  std::string threads_, stack_size_, poller_, cooperate_;
};

}  // namespace tendril::launcher
