#include "program.hpp"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "elf.hpp"
#include "failure.hpp"
#include "file.hpp"
#include "privilege.hpp"

namespace tendril::launcher {

namespace {

constexpr int max_scripts = 5;  // the kernel follows this many `#!` lines, then fails with ELOOP
// BINPRM_BUF_SIZE - 1: the bytes that the kernel reads
constexpr std::size_t script_line_limit = 255;

// The interpreter in a `#!` line, parsed as the kernel does; empty if there is none.
std::string interpreter_of(std::string_view start) {
  if (start.substr(0, 2) != "#!") return {};
  std::string_view line = start.substr(2, start.find('\n') - 2);
  std::size_t from = line.find_first_not_of(" \t");
  if (from == line.npos) return {};
  line.remove_prefix(from);
  std::size_t length = line.find_first_of(std::string_view(" \t\0", 3));
  return std::string(line.substr(0, length));
}

std::string_view base_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

bool same_file(const struct stat& a, const char* path) {
  struct stat b;
  return stat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

// Why execve would refuse this file: an errno, and words where the errno is not specific enough.
struct refusal {
  int error = 0;
  const char* words = nullptr;
};

refusal why_not_executable(const char* path, struct stat& st) {
  if (stat(path, &st) != 0) return {errno};
  if (S_ISDIR(st.st_mode)) return {EACCES, "is a directory"};
  if (!S_ISREG(st.st_mode)) return {EACCES, "is not a regular file"};
  if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) != 0) return {errno};
  return {};
}

[[noreturn]] void refuse(const std::string& subject, const refusal& r) {
  failure f = exec_failure(subject, r.error);
  if (r.words) f.message = subject + ": " + r.words;
  throw failure(f);
}

std::string search_path(const std::string& name) {
  if (name.empty() || name.find('/') != name.npos) return name;
  const char* path = getenv("PATH");
  std::string_view rest = path ? path : "/bin:/usr/bin";  // the C library's default
  std::string refused;
  for (;;) {
    std::string_view directory = rest.substr(0, rest.find(':'));
    std::string candidate(directory);
    if (!candidate.empty()) candidate += '/';
    candidate += name;
    struct stat st;
    switch (why_not_executable(candidate.c_str(), st).error) {
      case ENOENT:
      case ENOTDIR:
      case ESTALE:
      case ENODEV:
      case ETIMEDOUT:
        break;
      case EACCES:  // reported if no later directory has the program
        if (refused.empty()) refused = candidate;
        break;
      default:
        return candidate;
    }
    if (directory.size() == rest.size()) {
      if (refused.empty()) throw exec_failure(name, ENOENT);
      return refused;
    }
    rest.remove_prefix(directory.size() + 1);
  }
}

void inspect_elf(program& p, const std::string& subject, int fd, const struct stat& st) {
  elf_file elf = read_elf(fd);
  auto set_obstacle = [&](const std::string& why, preload_for reach, bool may_run) {
    p.obstacle = subject + ": " + why;
    p.reach = reach;
    p.may_run = may_run;
  };
  if (!elf.damage.empty())
    return set_obstacle("not a valid ELF file: " + elf.damage, preload_for::nobody, false);
  if (!elf.foreign.empty()) {
    // An x86_64 kernel runs i386 programs; an emulator may be registered for other machines.
    return set_obstacle("built for " + elf.foreign + ", and the shim is not", preload_for::nobody,
                        true);
  }
  if (!elf.entry || (elf.type != ET_EXEC && elf.type != ET_DYN)) {
    return set_obstacle("an ELF file, but not a program", preload_for::nobody, false);
  }
  std::string privilege = privilege_raised(fd, st);
  if (!privilege.empty()) {
    return set_obstacle(privilege + ", so the dynamic loader ignores the shim",
                        preload_for::its_children, true);
  }
  // `ld.so program`: the loader loads the shim into the program that it is given
  if (same_file(st, own_loader())) return;
  if (elf.loader.empty()) {
    return set_obstacle("statically linked, so no dynamic loader can load the shim",
                        preload_for::its_children, true);
  }
  struct stat ignored;
  refusal r = why_not_executable(elf.loader.c_str(), ignored);
  if (r.error) refuse(subject + ": its dynamic loader " + elf.loader, r);
  if (base_name(elf.loader) != base_name(own_loader())) {
    return set_obstacle("made for another C library (its dynamic loader is " + elf.loader + ")",
                        preload_for::nobody, true);
  }
  p.loader = elf.loader;
}

void inspect(program& p, const std::string& path, const std::string& subject, int scripts) {
  struct stat st;
  refusal r = why_not_executable(path.c_str(), st);
  if (r.error) refuse(subject, r);

  p.file = path;
  file f(path.c_str());
  if (!f.is_open() && errno != EACCES)
    throw failure{cannot_execute, subject + ": " + strerror(errno)};
  char start[script_line_limit];
  ssize_t length = f.is_open() ? pread(f.descriptor(), start, sizeof start, 0) : -1;
  if (length < 0) {
    // A file may be executable without being readable, so this is an obstacle for the shim only.
    p.obstacle = subject + ": cannot be read, so it is unknown whether the shim can be loaded: " +
                 strerror(errno);
    p.reach = preload_for::its_children;
  } else if (is_elf(start, (std::size_t)length)) {
    inspect_elf(p, subject, f.descriptor(), st);
  } else if (std::string interpreter = interpreter_of({start, (std::size_t)length});
             !interpreter.empty()) {
    if (scripts == max_scripts) refuse(subject, {ELOOP});
    inspect(p, interpreter, p.path + ": its interpreter " + interpreter, scripts + 1);
  } else if (!p.for_shell) {
    p.for_shell = true;
    inspect(p, shell, p.path + ": its interpreter " + shell, max_scripts);
  }
}

}  // namespace

program find_program(const std::string& name) {
  program p;
  p.path = search_path(name);
  std::string subject = p.path.empty() ? "''" : p.path;
  inspect(p, p.path, subject, 0);
  return p;
}

}  // namespace tendril::launcher
