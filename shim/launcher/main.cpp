// The command `tendril`. Each subcommand is in a file of its own. Here is what they share:
// separating Tendril's words from the program's, help, version, and the report of failures.
#include <string.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <string>
#include <tendril/version.hpp>
#include <vector>

#include "doctor.hpp"
#include "failure.hpp"
#include "run.hpp"

namespace tendril::launcher {

namespace {

class help_text : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App* app, std::string) const override {
    if (!app->get_parent())
      return "Usage: tendril COMMAND [ARGS]...\n       tendril --help | --version\n";
    return "Usage: tendril " + app->get_name() + " [OPTIONS] [--] PROGRAM [ARGS]...\n";
  }
  std::string make_option_opts(const CLI::Option* o) const override { return o->get_option_text(); }
  std::string make_option_desc(const CLI::Option* o) const override {
    const std::string& variable = o->get_envname();
    return o->get_description() + (variable.empty() ? "" : "\n[" + variable + "]");
  }
};

struct words {
  std::vector<std::string> ours;
  char** programs;
};

std::string hint(const CLI::App& command) {
  return " (see 'tendril " + (command.get_parent() ? command.get_name() + " " : "") + "--help')";
}

// Whether the next word is the value of this option.
bool value_follows(const CLI::App& command, const std::string& word, bool last) {
  std::size_t equals = word.find('=');
  const CLI::Option* option = command.get_option_no_throw(word.substr(0, equals));
  if (!option) throw failure{own_failure, "unknown option '" + word + "'" + hint(command)};
  if (option->get_items_expected_min() == 0) return false;
  if (equals == word.npos ? last : equals == word.size() - 1) {
    throw failure{own_failure, option->get_name() + " needs a value" + hint(command)};
  }
  return equals == word.npos;
}

// CLI11 gets only Tendril's words: in the program's, it would interpret some ('++', '[a,b]',
// another '--').
words split(const CLI::App& tendril, char** argv) {
  std::vector<std::string> ours;
  const CLI::App* command = &tendril;
  char** word = argv;
  while (*++word) {
    if (strcmp(*word, "--") == 0 && command != &tendril) return {ours, word + 1};
    bool is_option = (*word)[0] == '-' && (*word)[1];
    if (!is_option && command != &tendril) break;
    ours.push_back(*word);
    if (is_option) {
      if (value_follows(*command, *word, !word[1])) ours.push_back(*++word);
      continue;
    }
    auto found = tendril.get_subcommands([&](const CLI::App* c) { return c->get_name() == *word; });
    if (found.empty()) {
      throw failure{own_failure, "unknown command '" + ours.back() + "'" + hint(tendril)};
    }
    command = found.front();
  }
  return {ours, word};
}

int start(char** argv) {
  CLI::App tendril("Green threads for unmodified programs.", "tendril");
  tendril.formatter(std::make_shared<help_text>());
  tendril.set_version_flag("--version", "tendril " TENDRIL_VERSION, "Print the version and exit");
  tendril.footer("'tendril COMMAND --help' describes a command.");
  run_command run(tendril);
  doctor_command doctor(tendril);

  auto [ours, programs] = split(tendril, argv);
  try {
    tendril.parse(std::vector<std::string>(ours.rbegin(), ours.rend()));
  } catch (const CLI::Error& e) {
    if (e.get_exit_code() == 0) return tendril.exit(e);  // --help, --version
    throw failure{own_failure, e.what()};
  }
  if (run.chosen()) return run(programs);
  if (doctor.chosen()) return doctor(programs);
  throw failure{own_failure, "no command given" + hint(tendril)};
}

}  // namespace

}  // namespace tendril::launcher

int main(int, char** argv) {
  using namespace tendril::launcher;
  try {
    int status = start(argv);
    if (!std::cout.flush()) throw failure{own_failure, "cannot write to standard output"};
    return status;
  } catch (const failure& f) {
    print_message(f.message);
    return f.status;
  } catch (const std::exception& e) {
    print_message(e.what());
    return own_failure;
  }
}
