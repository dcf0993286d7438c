// The file behind a command name, and whether the shim gets into what it runs.
#pragma once

#include <string>

namespace tendril::launcher {

// Who would read LD_PRELOAD, when the program itself does not.
enum class preload_for {
  the_program,
  its_children,  // a static program takes no notice; what it starts may
  nobody,        // a foreign dynamic loader, which would complain about our library or fail on it
};

struct program {
  std::string path;  // what execve is given
  bool for_shell =
      false;  // neither ELF nor #!: if the kernel refuses it, the shell gets it, as execvp(3) does
  preload_for reach = preload_for::the_program;
  std::string obstacle;  // why the shim does not get in, as a line for the user
  // the obstacle need not hinder the program without the shim: the kernel will say
  bool may_run = true;
  // what is executed in the end: a script's interpreter, else the program itself
  std::string file;
  std::string loader;  // its dynamic loader, if that is the one the shim can rely on
};

constexpr char shell[] = "/bin/sh";

// Finds `name` as execvp(3) would. Throws failure if there is nothing that could be executed.
program find_program(const std::string& name);

}  // namespace tendril::launcher
