#include "options.hpp"

#include <charconv>
#include <optional>

namespace tendril::launcher {

namespace {

constexpr std::uint64_t smallest_stack = 16 << 10;
constexpr std::uint64_t largest_stack = 1 << 30;
constexpr int most_cores = 64;

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
  return value == "fibers" || value == "kernel"
             ? ""
             : "must be 'fibers' or 'kernel', not '" + value + "'";
}

std::string check_poller(const std::string& value) {
  return value == "epoll" || value == "io_uring"
             ? ""
             : "must be 'epoll' or 'io_uring', not '" + value + "'";
}

std::string check_cores(const std::string& value) {
  bool number = !value.empty() && value.size() < 3 &&
                value.find_first_not_of("0123456789") == std::string::npos;
  return number && std::stoi(value) >= 1 && std::stoi(value) <= most_cores
             ? ""
             : "must be a number from 1 to " + std::to_string(most_cores) + ", not '" + value + "'";
}

std::string check_cooperate(const std::string& value) {
  return value == "auto" || value == "always" ? ""
                                              : "must be 'auto' or 'always', not '" + value + "'";
}

// The shim reads a plain number of bytes.
std::string to_bytes(std::string& value) {
  auto n = bytes(value);
  if (!n || *n < smallest_stack || *n > largest_stack) {
    return "must be a size from 16k to 1024m, not '" + value + "'";
  }
  value = std::to_string(*n);
  return {};
}

}  // namespace

void options::add_to(CLI::App& command) {
  auto option = [&](const char* name, std::string& value, const char* text, const char* variable,
                    const char* help) {
    return command.add_option(name, value, help)->option_text(text)->envname(variable)->take_last();
  };
  option("--threads", threads_, "=MODE", "TENDRIL_THREADS",
         "fibers: the program's threads become fibers (the\n"
         "default)\n"
         "kernel: they stay kernel threads")
      ->check(CLI::Validator(check_threads, {}));
  option("--stack-size", stack_size_, "=SIZE", "TENDRIL_STACK_SIZE",
         "Size of a fiber's stack, 16k to 1024m; a thread has\nthe size that the program asks for")
      ->transform(CLI::Validator(to_bytes, {}));
  option("--cores", cores_, "=N", "TENDRIL_CORES",
         "How many kernel threads run the program's fibers; by\n"
         "default 1. More is experimental")
      ->check(CLI::Validator(check_cores, {}));
  option("--poller", poller_, "=WHICH", "TENDRIL_POLLER",
         "epoll: wait until a descriptor is ready (the default)\n"
         "io_uring: also let the kernel receive from sockets,\n"
         "where it supports that; elsewhere as epoll")
      ->check(CLI::Validator(check_poller, {}));
  option("--cooperate", cooperate_, "=WHEN", "TENDRIL_COOPERATE",
         "auto: the main thread waits in the hub only when\n"
         "other fibers can run meanwhile (the default)\n"
         "always: even when there are none, for tests")
      ->check(CLI::Validator(check_cooperate, {}));
}

std::vector<std::pair<const char*, std::string>> options::variables() const {
  std::vector<std::pair<const char*, std::string>> all;
  auto pass_on = [&](const char* name, const std::string& value) {
    if (!value.empty()) all.emplace_back(name, value);
  };
  pass_on("TENDRIL_THREADS", threads_);
  pass_on("TENDRIL_STACK_SIZE", stack_size_);
  pass_on("TENDRIL_CORES", cores_);
  pass_on("TENDRIL_POLLER", poller_);
  pass_on("TENDRIL_COOPERATE", cooperate_);
  return all;
}

}  // namespace tendril::launcher
