#include "run.hpp"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <iostream>
#include <tendril/detail/explain.hpp>
#include <vector>

#include "doctor.hpp"
#include "failure.hpp"
#include "preload.hpp"
#include "program.hpp"

namespace tendril::launcher {

namespace {

[[noreturn]] void execute(const program& p, char** argv) {
  execve(p.path.c_str(), argv, environ);
  int error = errno;
  if (error == ENOEXEC && p.for_shell) {
    std::vector<char*> words = {const_cast<char*>(shell), const_cast<char*>(p.path.c_str())};
    for (char** a = argv + 1; *a; a++) words.push_back(*a);
    words.push_back(nullptr);
    execve(shell, words.data(), environ);
    error = errno;
  }
  if (!p.obstacle.empty()) throw failure{cannot_execute, p.obstacle};
  throw exec_failure(p.path, error);
}

constexpr char notes[] =
    "Options come before the program; all words after its name are passed on to it. An option\n"
    "overrides its environment variable. Entries of LD_PRELOAD stay there, after the shim;\n"
    "libraries that change the program's time (libfaketime), and sanitizers, go before it.\n"
    "\n"
    "The shim cannot be loaded into a program that is statically linked, setuid, or made for\n"
    "another architecture or C library. Such a program runs without it, and its threads stay\n"
    "kernel threads. So do threads of a program whose C library Tendril does not know, or\n"
    "that makes futex system calls itself. One line reports this and the reason, but only if\n"
    "standard error is a terminal, or with --explain: scripts and logs see exactly what the\n"
    "program writes. 'tendril doctor PROGRAM' reports it beforehand.\n"
    "\n"
    "The exit status is the program's, or 125 if the launcher fails, 126 if the program\n"
    "cannot be executed, 127 if it is not found.\n";

}  // namespace

run_command::run_command(CLI::App& tendril)
    : command_(tendril.add_subcommand(
          "run", "Run a program with its threads as fibers and its blocking calls cooperative.")) {
  command_->footer(notes);
  options_.add_to(*command_);
  command_->add_flag("--explain", explain_,
                     "First report on standard error what is interposed, as\n'tendril doctor' "
                     "does, and later what is not\n[" +
                         std::string(explain_variable) + "]");
  command_->add_flag("--print-env", print_env_,
                     "Print the variables that would be set; run nothing");
}

int run_command::operator()(char** argv) const {
  auto variables = options_.variables();
  if (explain_) variables.emplace_back(explain_variable, "1");
  std::string preload = preload_list(find_preload_library());

  if (print_env_) {
    variables.emplace_back("LD_PRELOAD", preload);
    for (auto& [name, value] : variables) std::cout << name << '=' << value << '\n';
    return 0;
  }
  if (!*argv) throw failure{own_failure, "run: no program given (see 'tendril run --help')"};
  program p = find_program(*argv);
  if (explain_) examine(p, options_).print(STDERR_FILENO);
  if (!p.obstacle.empty()) {
    if (!p.may_run) throw failure{cannot_execute, p.obstacle};
    // With --threads=kernel, the user gets what was requested, so nothing is reported.
    if (!explain_ && !options_.kernel_threads() && explanations_wanted()) {
      print_message(p.obstacle + "; it runs without the shim, and its threads stay kernel threads");
    }
  }
  if (p.reach != preload_for::nobody) variables.emplace_back("LD_PRELOAD", preload);
  for (auto& [name, value] : variables) setenv(name, value.c_str(), 1);
  execute(p, argv);
}

}  // namespace tendril::launcher
