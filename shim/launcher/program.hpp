// The file behind a command name, and whether the shim can be loaded into it.
#pragma once

#include <string>

namespace tendril::launcher {

// Which processes may get LD_PRELOAD.
enum class preload_for {
  the_program,
  its_children,  // a static program ignores it; the programs that it starts may not
  nobody,        // a foreign dynamic loader would report an error, or fail, on the library
};

struct program {
  std::string path;  // the path for execve
  // neither ELF nor #!: if the kernel refuses it, the shell executes it, as in execvp(3)
  bool for_shell = false;
  preload_for reach = preload_for::the_program;
  std::string obstacle;  // why the shim cannot be loaded, as a message for the user
  // the program may run without the shim: the kernel decides
  bool may_run = true;
  // what is executed in the end: a script's interpreter, or the program itself
  std::string file;
  std::string loader;  // its dynamic loader, if it is one that can load the shim
};

constexpr char shell[] = "/bin/sh";

// Finds `name` as execvp(3) does. Throws failure if no file can be executed.
program find_program(const std::string& name);

}  // namespace tendril::launcher
