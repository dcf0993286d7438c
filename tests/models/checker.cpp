#include "checker.hpp"

#include <algorithm>
#include <cstring>

__thread tendril::core::fiber* tendril::core::current = nullptr;

namespace models {

namespace {

// The program's argument: see checker.hpp.
bool is_broken = false;
unsigned factor = 1;

using order = std::memory_order;

// What the running mutant changes; `line` 0: nothing.
struct {
  const char* file = nullptr;
  unsigned line = 0;
  bool takes_out = false;
  order from = order::relaxed, to = order::relaxed;
  const char* without = nullptr;
} changed;

// The operations that the shipped code has executed. (Relacy executes them on memory of its own, so
// they are not kept in a container.)
struct use {
  const char* file;
  unsigned line;
  order as_written;
  bool loads, stores;
};
use uses[256];
unsigned used = 0;
bool collects = false;

void note(const use& u) {
  for (unsigned i = 0; i < used; i++) {
    const use& o = uses[i];
    if (o.line == u.line && o.as_written == u.as_written && !std::strcmp(o.file, u.file)) return;
  }
  if (used < std::size(uses)) uses[used++] = u;
}

std::string base(const std::string& file) { return file.substr(file.rfind('/') + 1); }

// The line of the operation and the next one. (The compiler names files from the build directory.)
std::string text_of(const use& u) {
  std::string path = u.file, text, line;
  while (path.starts_with("../")) path.erase(0, 3);
  std::ifstream in(path.starts_with("/") ? path : TREE "/" + path);
  for (unsigned i = 1; i <= u.line + 1 && std::getline(in, line); i++) {
    if (i >= u.line) text += line.substr(std::min(line.find_first_not_of(' '), line.size())) + "\n";
  }
  return text;
}
std::string line_of(const use& u) {
  std::string text = text_of(u);
  return text.substr(0, text.find('\n'));
}
std::string place_of(const use& u) {
  return base(u.file) + ":" + std::to_string(u.line) + " " + line_of(u);
}
bool has(const use& u, const std::string& code) {
  bool two = code.find('\n') != std::string::npos;
  return (two ? text_of(u) : line_of(u)).find(code) != std::string::npos;
}

const char* name_of(order o) {
  switch (o) {
    case order::relaxed:
      return "relaxed";
    case order::acquire:
      return "acquire";
    case order::release:
      return "release";
    case order::acq_rel:
      return "acq_rel";
    default:
      return "seq_cst";
  }
}

// The orders next weaker than the one that is written.
std::vector<order> weaker(const use& u) {
  if (u.as_written == order::seq_cst)
    return {u.loads && u.stores ? order::acq_rel : u.loads ? order::acquire : order::release};
  if (u.as_written == order::acq_rel) return {order::acquire, order::release};
  if (u.as_written == order::relaxed) return {};
  return {order::relaxed};
}

// Prints what the threads did, in order; Relacy goes on with each thread for itself.
void print(const std::string& history) {
  auto begin = history.find("[BEFORE END]"), end = history.find("\nthread 0:");
  if (begin == std::string::npos) begin = 0;
  std::printf("%s\n", history.substr(begin, end - begin).c_str());
}

std::string said(const result& r) {
  switch (r.what) {
    case rl::test_result_success:
      return "no fault";
    case rl::test_result_deadlock:
      return "a thread sleeps for ever";
    case rl::test_result_livelock:
      return "threads spin for ever";
    case rl::test_result_data_race:
      return "a data race";
    case rl::test_result_user_assert_failed: {
      auto at = r.history.find("USER ASSERT FAILED (");
      if (at == std::string::npos) return "a false state";
      at += 20;
      return r.history.substr(at, r.history.find(")\n", at) - at);
    }
    default:
      return rl::test_result_str(r.what);
  }
}

}  // namespace

order order_of(order as_written, bool loads, bool stores, const source_location& at) noexcept {
  if (collects) note({at.file_name(), at.line(), as_written, loads, stores});
  if (!changed.line || changed.takes_out || changed.line != at.line() ||
      changed.from != as_written || std::strcmp(changed.file, at.file_name()) != 0)
    return as_written;
  return changed.to;
}

bool is_taken_out(const source_location& at) noexcept {
  return changed.takes_out && changed.line == at.line() &&
         !std::strcmp(changed.file, at.file_name());
}

bool without(const char* what) noexcept {
  return changed.without && !std::strcmp(changed.without, what);
}

bool check(const settings& of, const std::function<result(unsigned, unsigned)>& execute) {
  auto run = [&](unsigned runs, unsigned depth) { return execute(runs * factor, depth); };
  changed = {};
  if (is_broken) {
    result r = run(of.runs, of.depth);
    std::printf("%s: %s, run %llu\n", of.name.c_str(), said(r).c_str(), r.runs);
    return r.what != rl::test_result_success;
  }
  bool good = true;
  used = 0;
  collects = true;
  result r = run(of.runs / 20 + 1, of.depth);
  collects = false;
  if (r.what == rl::test_result_success) r = run(of.runs, of.depth);
  std::printf("%s: %llu runs, %s\n", of.name.c_str(), r.runs, said(r).c_str());
  if (r.what != rl::test_result_success) {
    print(r.history);
    if (raced_at) std::printf("the code: addr2line -ife PROGRAM %#zx\n", raced_at);
    return false;
  }
  auto report = [&](const std::string& what, bool may_pass, const std::string& why) {
    result m = run(may_pass ? of.runs / 10 : of.runs, of.depth);
    bool found = m.what != rl::test_result_success;
    if (found) std::printf("  %s: %s, run %llu\n", what.c_str(), said(m).c_str(), m.runs);
    else if (may_pass) std::printf("  %s: no fault (%s)\n", what.c_str(), why.c_str());
    else std::printf("  %s: NOT FOUND\n", what.c_str());
    std::fflush(stdout);
    if (found == may_pass) {
      if (may_pass) std::printf("    a fault, although it is listed as stronger than needed\n");
      good = false;
    }
    changed = {};
  };
  for (const mutant& m : of.taken_out) {
    if (m.file.empty()) {
      changed.without = m.what.c_str();
      report("without " + m.what, false, "");
      continue;
    }
    bool seen = false;
    for (unsigned i = 0; i < used; i++) {
      const use& u = uses[i];
      if (!u.loads || base(u.file) != m.file || !has(u, m.what)) continue;
      seen = true;
      changed.file = u.file;
      changed.line = u.line;
      changed.takes_out = true;
      report("without the load in " + place_of(u), false, "");
    }
    if (!seen) good = false, std::printf("  %s has no load '%s'\n", m.file.c_str(), m.what.c_str());
  }
  std::vector<bool> needed(of.allowed.size());
  for (unsigned i = 0; i < used; i++) {
    const use& u = uses[i];
    if (std::ranges::find(of.files, base(u.file)) == of.files.end()) continue;
    for (order o : weaker(u)) {
      const stronger* may = nullptr;
      for (const stronger& a : of.allowed) {
        if (a.file != base(u.file) || !has(u, a.code) || (!a.to.empty() && a.to != name_of(o)))
          continue;
        may = &a;
        needed[std::size_t(&a - of.allowed.data())] = true;
      }
      changed.file = u.file;
      changed.line = u.line;
      changed.from = u.as_written;
      changed.to = o;
      report(place_of(u) + ": " + name_of(u.as_written) + " -> " + name_of(o), may,
             may ? may->why : "");
    }
  }
  for (std::size_t i = 0; i < needed.size(); i++) {
    if (needed[i]) continue;
    std::printf("  %s has no operation '%s'\n", of.allowed[i].file.c_str(),
                of.allowed[i].code.c_str());
    good = false;
  }
  return good;
}

}  // namespace models

int main(int arguments, char** argument) {
  using namespace models;
  is_broken = arguments > 1 && !std::strcmp(argument[1], "broken");
  if (arguments > 1 && !is_broken) factor = unsigned(std::stoul(argument[1]));
  bool good = check_all();
  // Not by exit(): a run that found a fault was abandoned in the middle, and has left variables of
  // the process behind that cannot be destroyed.
  std::fflush(stdout);
  _exit(good ? 0 : 1);
}
