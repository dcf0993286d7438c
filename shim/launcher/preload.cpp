#include "preload.hpp"

#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "elf.hpp"
#include "failure.hpp"
#include "file.hpp"

namespace tendril::launcher {

namespace {

constexpr char file_name[] = "libtendril-preload.so";
constexpr char separators[] = ": ";  // LD_PRELOAD's, with no way to quote them

std::string real_path(const char* path) {
  char buffer[PATH_MAX];
  return realpath(path, buffer) ? buffer : "";
}

// Through every symbolic link, so that a link in ~/bin finds the library as well.
std::string own_directory() {
  std::string self = real_path("/proc/self/exe");
  if (self.empty()) self = real_path((const char*)getauxval(AT_EXECFN));  // no /proc here
  return self.substr(0, self.rfind('/'));
}

void check(const std::string& library) {
  auto fail = [&](const std::string& why) {
    throw failure{own_failure, "the preload library " + library + " " + why};
  };
  struct stat st;
  if (stat(library.c_str(), &st) != 0) fail(std::string("cannot be used: ") + strerror(errno));
  if (!S_ISREG(st.st_mode)) fail("is not a regular file");
  file f(library.c_str());
  if (!f.is_open()) fail(std::string("cannot be read: ") + strerror(errno));
  elf_file elf = read_elf(f.descriptor());
  if (!elf.damage.empty()) fail("is not a valid ELF file: " + elf.damage);
  if (!elf.foreign.empty()) fail("is built for " + elf.foreign);
  if (elf.type != ET_DYN || !elf.dynamic) fail("is not a shared library");
  if (library.find_first_of(separators) != library.npos) {
    fail("cannot be preloaded: LD_PRELOAD has no way to name a path with a space or a colon");
  }
}

std::string beside_launcher() {
  std::string directory = own_directory();
  const std::string places[] = {
      directory,          // unpacked into one directory
      directory + "/..",  // the build tree
      TENDRIL_LIBDIR[0] == '/' ? TENDRIL_LIBDIR : directory + "/../" TENDRIL_LIBDIR,  // installed
  };
  std::string tried;
  for (const std::string& place : places) {
    std::string library = place + "/" + file_name;
    if (access(library.c_str(), F_OK) == 0) return library;
    tried += (tried.empty() ? "" : ", ") + place;
  }
  throw failure{own_failure, std::string(file_name) + " is missing: it is not in " + tried +
                                 " (TENDRIL_PRELOAD=path says where else)"};
}

}  // namespace

std::string find_preload_library() {
  const char* given = getenv("TENDRIL_PRELOAD");
  std::string library = given && *given ? given : beside_launcher();
  check(library);
  return real_path(library.c_str());  // programs change their directory
}

std::string preload_list(const std::string& library) {
  std::string list = library;
  const char* old = getenv("LD_PRELOAD");
  std::string_view rest = old ? old : "";
  while (!rest.empty()) {
    std::string_view entry = rest.substr(0, rest.find_first_of(separators));
    if (!entry.empty() && entry != library) list.append(":").append(entry);
    rest.remove_prefix(entry.size() == rest.size() ? rest.size() : entry.size() + 1);
  }
  return list;
}

}  // namespace tendril::launcher
