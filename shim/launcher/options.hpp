// The options that `tendril run` and `tendril doctor` share: words on the command line, or
// environment variables, from which the shim reads them.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <utility>
#include <vector>

namespace tendril::launcher {

class options {
 public:
  void add_to(CLI::App& command);
  // The options that were given, as environment variables for the shim.
  std::vector<std::pair<const char*, std::string>> variables() const;
  bool io_uring() const { return poller_ == "io_uring"; }
  bool kernel_threads() const { return threads_ == "kernel"; }
  int cores() const { return cores_.empty() ? 1 : std::stoi(cores_); }

 private:
  std::string threads_, stack_size_, cores_, poller_, cooperate_;
};

}  // namespace tendril::launcher
