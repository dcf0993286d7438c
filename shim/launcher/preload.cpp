#include "preload.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
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
constexpr char separators[] = ": ";  // of LD_PRELOAD, which has no way to quote them

std::string real_path(const char* path) {
  char buffer[PATH_MAX];
  return realpath(path, buffer) ? buffer : "";
}

// Resolves every symbolic link, so that a link in ~/bin finds the library too.
std::string own_directory() {
  std::string self = real_path("/proc/self/exe");
  if (self.empty()) self = real_path((const char*)getauxval(AT_EXECFN));  // /proc is not mounted
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
    fail("cannot be preloaded: LD_PRELOAD cannot contain a path with a space or a colon");
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
                                 " (set TENDRIL_PRELOAD to its path)"};
}

// Whether the library itself defines the function, rather than a library that it needs.
bool defines(void* library, const char* function) {
  Dl_info where;
  link_map* self;
  void* found = dlsym(library, function);
  return found && dladdr(found, &where) && dlinfo(library, RTLD_DI_LINKMAP, &self) == 0 &&
         where.dli_fbase == reinterpret_cast<void*>(self->l_addr);
}

// Whether an entry of LD_PRELOAD must go before the shim: a library that changes the program's time
// (libfaketime), which has to translate the deadlines before the shim gets them; or a sanitizer,
// which interposes the same functions. The launcher was started with the same LD_PRELOAD, so the
// library is loaded here.
bool goes_before_shim(const std::string& entry) {
  void* library = dlopen(entry.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (!library) return false;
  bool tells_time = defines(library, "clock_gettime") || defines(library, "gettimeofday") ||
                    defines(library, "time");
  bool is_shim = defines(library, "tendril_shim");
  dlclose(library);
  return tells_time && !is_shim;
}

}  // namespace

std::string find_preload_library() {
  const char* given = getenv("TENDRIL_PRELOAD");
  std::string library = given && *given ? given : beside_launcher();
  check(library);
  return real_path(library.c_str());  // absolute, since programs change their directory
}

std::string preload_list(const std::string& library) {
  std::string before, behind;
  const char* old = getenv("LD_PRELOAD");
  std::string_view rest = old ? old : "";
  while (!rest.empty()) {
    std::string entry(rest.substr(0, rest.find_first_of(separators)));
    if (!entry.empty() && entry != library) {
      if (goes_before_shim(entry)) before.append(entry).append(":");
      else behind.append(":").append(entry);
    }
    rest.remove_prefix(entry.size() == rest.size() ? rest.size() : entry.size() + 1);
  }
  return before + library + behind;
}

}  // namespace tendril::launcher
