// `tendril run`: executes a program with the shim.
#pragma once

#include <CLI/CLI.hpp>

#include "options.hpp"

namespace tendril::launcher {

class run_command {
 public:
  // Adds the command and its options to `tendril`.
  explicit run_command(CLI::App& tendril);

  bool chosen() const { return command_->parsed(); }
  // Executes argv with the parsed options. Returns a status only with --print-env.
  int operator()(char** argv) const;

 private:
  CLI::App* command_;
  options options_;
  bool explain_ = false, print_env_ = false;
};

}  // namespace tendril::launcher
