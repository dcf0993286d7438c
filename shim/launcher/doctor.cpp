#include "doctor.hpp"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <sstream>

#include "base/arch/arch.hpp"
#include "elf.hpp"
#include "failure.hpp"
#include "image.hpp"
#include "preload.hpp"

namespace tendril::launcher {

namespace {

enum verdict : int {
  all_fibers = 0,
  some_kernel_threads = 1,
};

std::string_view base_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

std::string read_all(int fd) {
  std::string text;
  char buffer[4096];
  for (;;) {
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text.append(buffer, (std::size_t)n);
  }
  close(fd);
  return text;
}

int status_of(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  return status;
}

// Runs f in a child process, which it may change or crash. Returns what f writes to the descriptor,
// and the wait status.
std::pair<std::string, int> run_in_child(const std::function<void(int)>& f) {
  int ends[2];
  if (pipe(ends) != 0) throw failure{own_failure, std::string("pipe: ") + strerror(errno)};
  pid_t pid = fork();
  if (pid < 0) throw failure{own_failure, std::string("fork: ") + strerror(errno)};
  if (pid == 0) {
    f(ends[1]);
    _exit(0);
  }
  close(ends[1]);
  std::string text = read_all(ends[0]);
  return {text, status_of(pid)};
}

void write_text(int fd, const char* text) {
  [[maybe_unused]] ssize_t ignored = write(fd, text, strlen(text));
}

// --- the libraries ---

struct libraries {
  std::vector<std::string> paths;
  std::string missing;
};

// The libraries as the dynamic loader finds them. `ld.so --list` runs no code of the program, not
// even of a setuid one, which would ignore LD_TRACE_LOADED_OBJECTS.
libraries libraries_of(const program& p) {
  auto [text, status] = run_in_child([&](int fd) {
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    execl(p.loader.c_str(), p.loader.c_str(), "--list", p.file.c_str(), nullptr);
    _exit(127);
  });
  libraries found;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    // With --list, the loader stops at the first library that it does not find.
    constexpr std::string_view failed = ": error while loading shared libraries: ";
    if (std::size_t at = line.find(failed); at != line.npos) {
      at += failed.size();
      found.missing = line.substr(at, line.find(": ", at) - at);
      break;
    }
    std::size_t arrow = line.find(" => ");
    std::size_t from = arrow == line.npos ? line.find_first_not_of(" \t") : arrow + 4;
    if (from == line.npos) continue;
    std::string path = line.substr(from, line.rfind(" (") - from);
    if (path == "not found") {
      found.missing =
          line.substr(line.find_first_not_of(" \t"), arrow - line.find_first_not_of(" \t"));
    } else if (path[0] == '/') {
      found.paths.push_back(path);
    }
  }
  return found;
}

// The C library, the loader, and Tendril itself, which are not examined.
bool part_of_system(std::string_view name) {
  return name.starts_with("libc.so.") || name.starts_with("ld-linux") ||
         name.starts_with("libtendril") || name.starts_with("libpthread.so.") ||
         name.starts_with("libdl.so.") || name.starts_with("librt.so.");
}

// --- what can block ---

// The C library's functions that may wait, besides those that the shim exports.
const char* const may_block[] = {
    // stdio
    "fgetc", "fgets", "fgetwc", "fgetws", "fread", "fread_unlocked", "fscanf", "__isoc99_fscanf",
    "__isoc23_fscanf", "__isoc99_scanf", "__isoc23_scanf", "getc", "getc_unlocked", "getchar",
    "getdelim", "__getdelim", "getline", "getwc", "scanf", "vfscanf", "__fgets_chk", "__fread_chk",
    "_IO_getc", "__uflow", "__underflow",
    // threads
    "pthread_barrier_wait", "pthread_create", "pthread_once", "pthread_rwlock_rdlock",
    "pthread_rwlock_wrlock", "pthread_rwlock_timedrdlock", "pthread_rwlock_timedwrlock",
    "pthread_rwlock_clockrdlock", "pthread_rwlock_clockwrlock", "pthread_spin_lock", "pthread_join",
    "pthread_mutex_lock", "pthread_cond_wait", "sem_wait", "sem_timedwait", "thrd_create",
    "thrd_join", "mtx_lock", "mtx_timedlock", "cnd_wait", "cnd_timedwait", "call_once", "flockfile",
    "sem_clockwait", "pthread_cond_timedwait", "pthread_mutex_timedlock",
    // names and accounts
    "getpwnam", "getpwnam_r", "getpwuid", "getpwuid_r", "getgrnam", "getgrnam_r", "getgrgid",
    "getgrgid_r", "getgrouplist", "initgroups", "getservbyname", "getservbyname_r", "getservbyport",
    "getspnam", "res_query", "__res_query", "res_search", "__res_search", "__res_nquery",
    "__res_nsearch", "getaddrinfo_a", "gai_suspend",
    // messages, queues, the rest
    "mq_receive", "mq_send", "mq_timedreceive", "mq_timedsend", "msgrcv", "msgsnd", "semop",
    "semtimedop", "aio_suspend", "io_getevents", "lio_listio", "syslog", "vsyslog", "__syslog_chk",
    "syscall", "tcdrain", "wait4", "posix_spawn", "__poll_chk", "__ppoll_chk", "__read_chk",
    "__recv_chk", "__recvfrom_chk", "__pread_chk", "__pread64_chk", "clock_nanosleep"};

// --- what the kernel allows ---

struct needed_call {
  const char* name;
  long number;
  long arguments[4];
};

// Calls that the hub makes, each in a form without effect.
const needed_call needed_calls[] = {
    {"epoll_create1", SYS_epoll_create1, {}},        {"epoll_ctl", SYS_epoll_ctl, {-1, 1, -1, 0}},
    {"epoll_pwait", SYS_epoll_pwait, {-1, 0, 1, 0}}, {"eventfd2", SYS_eventfd2, {}},
    {"madvise", SYS_madvise, {0, 0, 4, 0}},          {"preadv2", SYS_preadv2, {-1, 0, 0, 0}},
    {"pwritev2", SYS_pwritev2, {-1, 0, 0, 0}},       {"nanosleep", SYS_nanosleep, {}},
    {"tgkill", SYS_tgkill, {-1, -1, 0, 0}},
};

std::string seccomp() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line) && line.rfind("Seccomp:", 0) != 0) {}
  if (line.find('1') != line.npos) return "strict mode, in which no program can be executed";
  if (line.find('2') == line.npos) return "no filter";
  std::string forbidden;
  for (const needed_call& c : needed_calls) {
    auto [text, status] = run_in_child([&](int fd) {
      long r =
          syscall(c.number, c.arguments[0], c.arguments[1], c.arguments[2], c.arguments[3], 0, 0);
      write_text(fd,
                 r < 0 && (errno == EPERM || errno == ENOSYS || errno == EACCES) ? "no" : "yes");
    });
    if (text != "yes") forbidden += std::string(forbidden.empty() ? "" : " ") + c.name;
  }
  return forbidden.empty() ? "a filter that allows all calls that the hub makes"
                           : "a filter that forbids " + forbidden;
}

// --- what the shim can do here ---

// The obstacle that a function of the shim reports in this environment; empty if there is none.
std::string obstacle(const std::string& library, const char* function) {
  auto [text, status] = run_in_child([&](int fd) {
    unsetenv("TENDRIL_COOPERATE");
    void* shim = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    auto ask = shim ? (const char* (*)())dlsym(shim, function) : nullptr;
    if (!ask) return write_text(fd, "the preload library cannot be queried");
    const char* why = ask();
    write_text(fd, why ? why : "none");
  });
  if (text == "none") return {};
  return text.empty() ? "the check crashed" : text;
}

std::string real_path(const std::string& path) {
  char buffer[PATH_MAX];
  return realpath(path.c_str(), buffer) ? buffer : path;
}

std::string own_c_library() {
  Dl_info info;
  return dladdr((void*)&getauxval, &info) && info.dli_fname ? info.dli_fname : "";
}

// --- the text ---

class page {
 public:
  explicit page(std::string title) : text_(std::move(title) + "\n") {}

  // A line with a name; words that do not fit continue below.
  void line(std::string_view name, const std::string& words) {
    std::string out = "  " + std::string(name);
    out.resize(std::max(out.size() + 1, indent), ' ');
    std::size_t column = out.size();
    std::istringstream all(words);
    bool first = true;
    for (std::string word; all >> word; first = false) {
      if (!first && column + 1 + word.size() > width) {
        out += "\n" + std::string(indent, ' ');
        column = indent;
      } else if (!first) {
        out += ' ';
        column++;
      }
      out += word;
      column += word.size();
    }
    text_ += out + "\n";
  }
  const std::string& text() const { return text_; }

 private:
  static constexpr std::size_t indent = 20, width = 110;
  std::string text_;
};

std::string joined(const std::vector<std::string>& words) {
  std::string all;
  for (const std::string& w : words) all += (all.empty() ? "" : " ") + w;
  return all;
}

constexpr const char* changes_one_thread[] = {
#define CHANGES_ONE_THREAD(name) #name,
#include "libc/one_thread.def"
};

constexpr char notes[] =
    "Runs nothing of the program. After the verdict and its reasons, the report lists the C\n"
    "library's functions that the program and each of its libraries import: those that the\n"
    "shim interposes, and those that may block the kernel thread with all its fibers. The\n"
    "options are those of 'tendril run', whose --explain writes the same report to standard\n"
    "error. Libraries that the program loads only while it runs (by dlopen) are not examined\n"
    "here; the shim examines them when they are loaded. 'context switch' tells whose code\n"
    "switches between fibers: if it is Tendril's own, the version of Boost.Context does not\n"
    "matter.\n"
    "\n"
    "The exit status is 0 if all threads of the program would become fibers, 1 if some or all\n"
    "would stay kernel threads, 125 if the launcher fails, 126 if the program cannot be\n"
    "executed, 127 if the program or one of its libraries is not found.\n";

}  // namespace

report examine(const program& p, const options& o) {
  std::string shim = find_preload_library();
  page out(p.path);
  int status = all_fibers;
  std::vector<std::string> reasons;  // why not all threads become fibers
  if (p.file != p.path) out.line("interpreter", p.file);

  if (!p.obstacle.empty()) {
    std::string why =
        p.obstacle.starts_with(p.path + ": ") ? p.obstacle.substr(p.path.size() + 2) : p.obstacle;
    if (!p.may_run) {
      out.line("verdict", "cannot be executed: " + why);
      return {cannot_execute, out.text()};
    }
    out.line("verdict", "runs without the shim; its threads stay kernel threads: " + why);
    if (p.reach == preload_for::its_children)
      out.line("", "(the shim is passed on to the programs that it starts)");
    return {some_kernel_threads, out.text()};
  }
  if (p.loader.empty()) {
    out.line("verdict",
             "the dynamic loader itself; it loads the shim into the program that it runs");
    return {status, out.text()};
  }

  libraries all = libraries_of(p);
  if (!all.missing.empty()) {
    out.line("verdict", "cannot be executed: it needs " + all.missing + ", which is not found");
    return {not_found, out.text()};
  }

  // For each module: what it imports, and which system calls it makes itself.
  std::set<std::string> exported = read_image(shim).exports;
  std::string c_library;
  bool only_its = true;  // whether the reasons concern only the threads of some modules
  std::vector<std::pair<std::string, std::string>> lines;
  std::vector<std::string> modules = {p.file};
  for (const std::string& path : all.paths) {
    if (base_name(path).starts_with("libc.so.")) c_library = path;
    if (!part_of_system(base_name(path))) modules.push_back(path);
  }
  for (const std::string& path : modules) {
    image i = read_image(path, {SYS_futex, SYS_io_uring_enter});
    std::string name(base_name(path));
    auto has = [&](std::uint32_t number) {
      return std::find(i.system_calls.begin(), i.system_calls.end(), number) !=
             i.system_calls.end();
    };
    for (const char* call : changes_one_thread) {
      if (path != p.file || !i.imports.count(call)) continue;
      lines.emplace_back(
          "identity",
          name + ": " + call + " changes one thread for good; threads stay kernel threads");
      reasons.push_back("it calls " + std::string(call) + ", which changes one thread for good");
      only_its = false;
      break;
    }
    bool creates_threads = i.imports.count("pthread_create") || i.imports.count("thrd_create");
    if (has(SYS_futex) && creates_threads) {
      lines.emplace_back(
          "waits unseen",
          name + ": makes futex system calls itself; threads that it creates stay kernel threads");
      reasons.push_back(name + " makes futex system calls itself");
    } else if (i.any_system_call && creates_threads) {
      lines.emplace_back("waits unseen", name +
                                             ": makes system calls by any number itself; threads "
                                             "that it creates stay kernel threads");
      reasons.push_back(name + " makes system calls by any number itself");
    } else if (has(SYS_futex)) {
      lines.emplace_back(
          "waits unseen",
          name + ": makes futex system calls itself; no other fiber runs during these");
    }
    // liburing's own waiting functions are interposed.
    if (has(SYS_io_uring_enter) && !i.exports.count("io_uring_submit_and_wait")) {
      lines.emplace_back(
          "waits unseen",
          name + ": makes io_uring_enter system calls itself; no other fiber runs during these");
    }
    if (!i.symbols) {
      lines.emplace_back(name, "(has no symbol table)");
      continue;
    }
    std::vector<std::string> taken, left;
    for (const std::string& symbol : i.imports) {
      if (exported.count(symbol) && symbol != "__libc_start_main") taken.push_back(symbol);
      else if (std::find(std::begin(may_block), std::end(may_block), symbol) != std::end(may_block))
        left.push_back(symbol);
    }
    bool library = path != p.file;
    if (!taken.empty()) {
      std::string which =
          library ? std::to_string(taken.size()) + (taken.size() == 1 ? " call" : " calls")
                  : joined(taken);
      lines.emplace_back(name, "interposed: " + which);
    }
    if (!left.empty()) lines.emplace_back(taken.empty() ? name : "", "may block: " + joined(left));
  }

  std::string why_not;
  if (c_library.empty()) why_not = "the program has none";
  else if (real_path(c_library) != real_path(own_c_library())) {
    why_not = "not the launcher's; examined when the program creates its first thread";
  } else {
    why_not = obstacle(shim, "tendril_shim_obstacle");  // of this C library
    if (!why_not.empty())
      reasons.push_back("Tendril does not know this C library (" + why_not + ")");
  }
  if (o.kernel_threads()) reasons = {"--threads=kernel"};

  if (reasons.empty()) {
    std::string kernel_threads = o.cores() == 1
                                     ? "one kernel thread"
                                     : "up to " + std::to_string(o.cores()) + " kernel threads";
    out.line("verdict", "its threads become fibers of " + kernel_threads);
  } else {
    status = some_kernel_threads;
    std::string which =
        o.kernel_threads() || !only_its || reasons.back().starts_with("Tendril does")
            ? "its threads stay kernel threads: "
            : "some of its threads stay kernel threads: ";
    for (std::size_t i = 0; i < reasons.size(); i++) which += (i ? ", and " : "") + reasons[i];
    out.line("verdict", which);
  }
  out.line("dynamic loader", p.loader);
  out.line("C library", (c_library.empty() ? "" : c_library + ": ") +
                            (why_not.empty() ? "threads can become fibers" : why_not));
#ifdef __x86_64__
  out.line("thread pointer",
           arch::thread_pointer_by_instruction(getauxval(AT_HWCAP2))
               ? "set by wrfsbase"
               : "set by arch_prctl: one system call for each switch between threads");
#else
  out.line("thread pointer", "set by an instruction");
#endif
  out.line("context switch", arch::context_switch);
  out.line("seccomp", seccomp());
  std::string no_ring = obstacle(shim, "tendril_shim_io_uring_obstacle");
  std::string ring = no_ring.empty() ? "io_uring would work as well" : "no io_uring: " + no_ring;
  out.line("poller", o.io_uring() && no_ring.empty() ? "io_uring" : "epoll (" + ring + ")");
  out.line("shim", shim);
  std::string given;
  for (auto& [name, value] : o.variables())
    given += std::string(given.empty() ? "" : " ") + name + "=" + value;
  out.line("options", given.empty() ? "none" : given);
  for (auto& [name, text] : lines) out.line(name, text);
  return {status, out.text()};
}

void report::print(int fd) const {
  std::string_view rest = text;
  while (!rest.empty()) {
    ssize_t n = write(fd, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      // An error on standard error cannot be reported there.
      if (fd == STDERR_FILENO) return;
      throw failure{own_failure,
                    std::string("cannot write to standard output: ") + strerror(errno)};
    }
    rest.remove_prefix((std::size_t)n);
  }
}

doctor_command::doctor_command(CLI::App& tendril)
    : command_(tendril.add_subcommand(
          "doctor", "Report what would be interposed in a program, what would not, and why.")) {
  command_->footer(notes);
  options_.add_to(*command_);
}

int doctor_command::operator()(char** argv) const {
  if (!*argv) throw failure{own_failure, "doctor: no program given (see 'tendril doctor --help')"};
  report r = examine(find_program(*argv), options_);
  r.print(STDOUT_FILENO);
  return r.status;
}

}  // namespace tendril::launcher
