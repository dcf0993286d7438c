// `tendril doctor`: reports which functions of a program the shim would interpose, which not, and
// why.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "options.hpp"
#include "program.hpp"

namespace tendril::launcher {

// What doctor has found.
struct report {
  int status;  // the exit status of the command
  std::string text;

  void print(int fd) const;
};

report examine(const program& p, const options& o);

class doctor_command {
 public:
  // Adds the command and its options to `tendril`.
  explicit doctor_command(CLI::App& tendril);

  bool chosen() const { return command_->parsed(); }
  int operator()(char** argv) const;

 private:
  CLI::App* command_;
  options options_;
};

}  // namespace tendril::launcher
