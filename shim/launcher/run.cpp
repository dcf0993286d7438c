#include "run.hpp"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <charconv>
#include <iostream>
#include <optional>
#include <utility>
#include <vector>

#include "failure.hpp"
#include "preload.hpp"
#include "program.hpp"

namespace tendril::launcher {

namespace {

constexpr std::uint64_t smallest_stack = 16 << 10;
constexpr std::uint64_t largest_stack = 1 << 30;

std::optional<std::uint64_t> bytes(std::string_view text) {
  std::uint64_t n = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  std::string_view unit = text.substr((std::size_t)(end - text.data()));
  if (error != std::errc() || unit.size() > 1 || n > largest_stack) return std::nullopt;
  switch (unit.empty() ? 'b' : unit[0]) {
    case 'b':
      return n;
    case 'k':
    case 'K':
      return n << 10;
    case 'm':
    case 'M':
      return n << 20;
    case 'g':
    case 'G':
      return n << 30;
    default:
      return std::nullopt;
  }
}

std::string check_threads(const std::string& value) {
  if (value == "kernel") return {};
  if (value == "fibers") return "'fibers' is not available yet; 'kernel' is";
  return "must be 'kernel', not '" + value + "'";
}

std::string check_cooperate(const std::string& value) {
  return value == "auto" || value == "always" ? "" : "must be 'auto' or 'always', not '" + value + "'";
}

// The shim reads plain bytes.
std::string to_bytes(std::string& value) {
  auto n = bytes(value);
  if (!n || *n < smallest_stack || *n > largest_stack) {
    return "must be a size from 16k to 1024m, not '" + value + "'";
  }
  value = std::to_string(*n);
  return {};
}

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
    "Options come before the program; whatever follows its name is passed on to it. An option wins over its\n"
    "variable in the environment. What was in LD_PRELOAD stays there, behind the shim.\n"
    "\n"
    "The shim cannot get into a program that is statically linked, setuid, or made for another architecture "
    "or\n"
    "C library: that is an error. With an explicit --threads=kernel such a program is simply executed "
    "instead,\n"
    "since a program without fibers behaves then exactly as it does without Tendril.\n"
    "\n"
    "The exit status is the program's, or 125 if the launcher fails, 126 if the program cannot be executed,\n"
    "127 if it is not found.\n";

}  // namespace

run_command::run_command(CLI::App& tendril)
    : command_(tendril.add_subcommand("run", "Run a program, with its blocking calls made cooperative.")) {
  command_->footer(notes);
  auto option = [&](const char* name, std::string& value, const char* text, const char* variable,
                    const char* help) {
    return command_->add_option(name, value, help)->option_text(text)->envname(variable)->take_last();
  };
  option("--threads", threads_, "=MODE", "TENDRIL_THREADS",
         "kernel: threads stay threads of the kernel, beside\n"
         "the fibers (the default, and all there is so far)")
      ->check(CLI::Validator(check_threads, {}));
  option("--stack-size", stack_size_, "=SIZE", "TENDRIL_STACK_SIZE", "Size of a fiber's stack, 16k to 1024m")
      ->transform(CLI::Validator(to_bytes, {}));
  option("--cooperate", cooperate_, "=WHEN", "TENDRIL_COOPERATE",
         "auto: the main thread waits in the hub only when\n"
         "there are fibers to run meanwhile (the default)\n"
         "always: even when there are none, for tests")
      ->check(CLI::Validator(check_cooperate, {}));
  command_->add_flag("--print-env", print_env_, "Print the variables that would be set; run nothing");
}

int run_command::operator()(char** argv) const {
  std::vector<std::pair<const char*, std::string>> variables;
  auto pass_on = [&](const char* name, const std::string& value) {
    if (!value.empty()) variables.emplace_back(name, value);
  };
  pass_on("TENDRIL_THREADS", threads_);
  pass_on("TENDRIL_STACK_SIZE", stack_size_);
  pass_on("TENDRIL_COOPERATE", cooperate_);
  std::string preload = preload_list(find_preload_library());

  if (print_env_) {
    pass_on("LD_PRELOAD", preload);
    for (auto& [name, value] : variables) std::cout << name << '=' << value << '\n';
    return 0;
  }
  if (!*argv) throw failure{own_failure, "run: no program given (see 'tendril run --help')"};
  program p = find_program(*argv);
  if (!p.obstacle.empty() && threads_ != "kernel") {
    throw failure{cannot_execute, p.obstacle + (p.runs_without ? " (--threads=kernel runs it without)" : "")};
  }
  if (p.reach != preload_for::nobody) pass_on("LD_PRELOAD", preload);
  for (auto& [name, value] : variables) setenv(name, value.c_str(), 1);
  execute(p, argv);
}

}  // namespace tendril::launcher
