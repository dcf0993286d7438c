#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <linux/capability.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <tendril/version.hpp>
#include <vector>

namespace fs = std::filesystem;

namespace {

using strings = std::vector<std::string>;

std::string given(const char* variable) {
  const char* value = getenv(variable);
  if (!value)
    throw std::runtime_error(std::string(variable) + " is not set: run this by `meson test`");
  return value;
}

const std::string launcher = given("LAUNCHER"), marker = given("MARKER");
const std::string dynamic_program = given("DYNAMIC"), static_program = given("STATIC");
const std::string static_pie_program = given("STATIC_PIE");
const std::string waits_inline = given("WAITS_INLINE"), waits_by_stub = given("WAITS_BY_STUB"),
                  shim = given("SHIM");
const std::string fake_time = given("FAKE_TIME"), waits_until = given("WAITS_UNTIL");
const std::string gives_up = given("GIVES_UP");
const bool sanitized = given("SANITIZE") != "none";
const std::string marked = "[shim]\n";

struct result {
  int status;  // as in the shell: 128 + n for signal n
  std::string out, err;
};

std::string content(int fd) {
  std::string text((std::size_t)lseek(fd, 0, SEEK_END), 0);
  CHECK(pread(fd, text.data(), text.size(), 0) == (ssize_t)text.size());
  close(fd);
  return text;
}

std::vector<char*> pointers(strings& words) {
  std::vector<char*> all;
  for (std::string& w : words) all.push_back(w.data());
  all.push_back(nullptr);
  return all;
}

// The text written to a terminal whose other end is closed now.
std::string shown(int terminal) {
  std::string text;
  char buffer[4096];
  ssize_t n;
  while ((n = read(terminal, buffer, sizeof buffer)) > 0) text.append(buffer, (std::size_t)n);
  close(terminal);
  std::erase(text, '\r');
  return text;
}

// Runs a command; with on_terminal, its standard error is a terminal.
result execute(strings command, strings environment, const std::string& directory,
               bool on_terminal = false) {
  int out = memfd_create("out", MFD_CLOEXEC), err, terminal = -1;
  if (on_terminal) {
    terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    REQUIRE(grantpt(terminal) == 0);
    REQUIRE(unlockpt(terminal) == 0);
    err = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
  } else {
    err = memfd_create("err", MFD_CLOEXEC);
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addchdir_np(&actions, directory.c_str());
  posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
  pid_t pid;
  int error = posix_spawn(&pid, command[0].c_str(), &actions, nullptr, pointers(command).data(),
                          pointers(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  REQUIRE(error == 0);
  int status;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  if (on_terminal) close(err);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), content(out),
          on_terminal ? shown(terminal) : content(err)};
}

// An empty directory, in which the launcher runs too.
class sandbox {
 public:
  // The path is short, so that the path of a file in it fits in place of a dynamic loader's.
  sandbox() {
    char name[] = "/tmp/tl.XXXXXX";
    REQUIRE(mkdtemp(name));
    path_ = name;
    chmod(name, 0755);
  }
  ~sandbox() { fs::remove_all(path_); }
  sandbox(const sandbox&) = delete;
  sandbox& operator=(const sandbox&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

  std::string write(const std::string& name, const std::string& text, mode_t mode = 0755) const {
    std::string file = *this / name;
    fs::create_directories(fs::path(file).parent_path());
    std::ofstream(file) << text;
    REQUIRE(chmod(file.c_str(), mode) == 0);
    return file;
  }

  result tendril(strings args, strings environment = {}, bool on_terminal = false) const {
    args.insert(args.begin(), launcher);
    return execute(args, with_defaults(environment), path_, on_terminal);
  }
  result run(strings args, strings environment = {}, bool on_terminal = false) const {
    args.insert(args.begin(), "run");
    return tendril(args, environment, on_terminal);
  }
  // Uses the real shim, which the doctor queries.
  result doctor(strings args, strings environment = {}) const {
    args.insert(args.begin(), "doctor");
    environment.push_back("TENDRIL_PRELOAD=" + shim);
    return tendril(args, environment);
  }
  // Runs as a user without privileges, who may have no access to the build directory, so the
  // launcher is copied.
  result run_as_nobody(strings args) const {
    write("bin/tendril", file(launcher));
    std::string library = write("bin/libtendril-preload.so", file(marker));
    strings command = {"/usr/bin/setpriv", "--reuid=65534",       "--regid=65534",
                       "--clear-groups",   *this / "bin/tendril", "run"};
    command.insert(command.end(), args.begin(), args.end());
    return execute(command, {"PATH=/usr/bin:/bin", "TENDRIL_PRELOAD=" + library}, path_);
  }

  static std::string file(const std::string& path) {
    std::ifstream in(path);
    REQUIRE(in);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }

 private:
  static strings with_defaults(strings environment) {
    auto add = [&](const std::string& name, const std::string& value) {
      for (const std::string& e : environment) {
        if (e.starts_with(name + "=")) return;
      }
      environment.push_back(name + "=" + value);
    };
    add("PATH", "/usr/bin:/bin");
    add("TENDRIL_PRELOAD", marker);
    add("ASAN_OPTIONS",
        "verify_asan_link_order=0");  // the launcher may run a sanitized launcher
    return environment;
  }

  std::string path_;
};

// The launcher failed: no program ran, and one line states the reason.
void check_failure(const result& r, int status, const std::string& reason) {
  CAPTURE(reason);
  CHECK(r.status == status);
  CHECK(r.out == "");
  CHECK(r.err.starts_with("tendril: "));
  CHECK(r.err.find('\n') == r.err.size() - 1);
  CHECK_MESSAGE(r.err.find(reason) != std::string::npos, r.err);
}

constexpr char without[] = "; it runs without the shim, and its threads stay kernel threads\n";

// The shim cannot be loaded: the program runs without it, and the reason is reported only on a
// terminal or with --explain.
void check_runs_without(const sandbox& here, const std::string& program, const std::string& reason,
                        const std::string& out, const strings& environment = {}) {
  CAPTURE(program);
  for (strings options : {strings{}, strings{"--threads=kernel"}}) {
    options.push_back(program);
    result r = here.run(options, environment);
    CHECK(r.status == 7);
    CHECK(r.out == out);
    CHECK(r.err == "");
    CHECK(here.run(options, environment, true).err ==
          (options.size() == 1 ? "tendril: " + reason + without : ""));
  }
  result r = here.run({"--explain", program}, environment);
  CHECK(r.status == 7);
  CHECK(r.out == out);
  CHECK_MESSAGE(r.err.find("runs without the shim") != std::string::npos, r.err);
  CHECK(here.doctor({program}).status == 1);
}

ElfW(Ehdr) & header(std::string& image) { return *(ElfW(Ehdr)*)image.data(); }

std::string with_loader(std::string image, const std::string& loader) {
  auto p = (ElfW(Phdr)*)(image.data() + header(image).e_phoff);
  while (p->p_type != PT_INTERP) p++;
  REQUIRE(loader.size() < p->p_filesz);
  image.replace(p->p_offset, p->p_filesz, loader + std::string(p->p_filesz - loader.size(), 0));
  return image;
}

std::string loader_of(const std::string& image) {
  auto p = (const ElfW(Phdr)*)(image.data() + ((const ElfW(Ehdr)*)image.data())->e_phoff);
  while (p->p_type != PT_INTERP) p++;
  return image.c_str() + p->p_offset;
}

// Reports a skip in the form that tests/run counts.
void skip(const std::string& why) {
  std::printf("skipped: %s: %s\n", doctest::getContextOptions()->currentTest->m_name, why.c_str());
}

// Whether we are root and may become another user, which a private user namespace may not allow.
bool can_become_nobody(const sandbox& here) {
  return geteuid() == 0 && execute({"/usr/bin/setpriv", "--reuid=65534", "--regid=65534",
                                    "--clear-groups", "/bin/true"},
                                   {}, here.path())
                                   .status == 0;
}

bool setuid_counts_in(const sandbox& here) {
  struct statvfs mount;
  return statvfs(here.path().c_str(), &mount) == 0 && !(mount.f_flag & ST_NOSUID) &&
         prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1;
}

}  // namespace

TEST_CASE("it prints its version") {
  sandbox here;
  result r = here.tendril({"--version"});
  CHECK(r.status == 0);
  CHECK(r.out == "tendril " TENDRIL_VERSION "\n");
  CHECK(r.err == "");
}

TEST_CASE("help is given at both levels, on standard output") {
  sandbox here;
  result r = here.tendril({"--help"});
  CHECK(r.status == 0);
  CHECK(r.out.find("Usage: tendril COMMAND") != std::string::npos);
  CHECK(r.err == "");
  r = here.run({"--help"});
  CHECK(r.status == 0);
  CHECK(r.out.find("Usage: tendril run [OPTIONS] [--] PROGRAM") != std::string::npos);
  CHECK(r.out.find("statically linked") != std::string::npos);
  CHECK(r.err == "");
}

TEST_CASE("help that cannot be written is a failure") {
  sandbox here;
  result r = execute({"/bin/sh", "-c", launcher + " --help >/dev/full"}, {}, here.path());
  check_failure(r, 125, "cannot write");
}

TEST_CASE("the program runs with the shim, and with its name as typed") {
  sandbox here;
  result r = here.run({dynamic_program, "a"});
  CHECK(r.status == 7);
  CHECK(r.out == dynamic_program + " 2 " + marker + "\n");
  CHECK(r.err == marked);

  fs::create_symlink(dynamic_program, here / "prog");
  r = here.run({"--", "prog"}, {"PATH=/nonexistent:" + here.path()});
  CHECK(r.out == "prog 1 " + marker + "\n");
  CHECK(r.err == marked);
}

TEST_CASE("words after the program's name are passed to the program") {
  sandbox here;
  for (strings separator : {strings{}, strings{"--"}}) {
    strings command = separator;
    for (auto w : {"echo", "--threads=fibers", "--", "--help", "++", "[a,b]", "", "-x"})
      command.push_back(w);
    result r = here.run(command);
    CHECK(r.status == 0);
    CHECK(r.out == "--threads=fibers -- --help ++ [a,b]  -x\n");
  }
  check_failure(here.run({"--", "--help"}), 127, "--help: No such file");
}

TEST_CASE("the exit status is the program's, also after a signal") {
  sandbox here;
  CHECK(here.run({"sh", "-c", "exit 3"}).status == 3);
  CHECK(here.run({"sh", "-c", "kill -9 $$"}).status == 128 + SIGKILL);
}

TEST_CASE("the program replaces the launcher's process") {
  sandbox here;
  result r = execute({"/bin/sh", "-c", "echo $$; exec " + launcher + " run sh -c 'echo $$'"},
                     {"TENDRIL_PRELOAD=" + marker}, here.path());
  std::istringstream lines(r.out);
  int before = 0, after = 0;
  lines >> before >> after;
  CHECK(before > 0);
  CHECK(before == after);
}

TEST_CASE("the shim comes first in LD_PRELOAD, once, and the rest stays") {
  sandbox here;
  auto preload = [&](const std::string& old) {
    return here.run({"--print-env"}, {"LD_PRELOAD=" + old}).out;
  };
  CHECK(preload("") == "LD_PRELOAD=" + marker + "\n");
  CHECK(preload("a.so") == "LD_PRELOAD=" + marker + ":a.so\n");
  CHECK(preload("a.so b.so:/c/d.so") == "LD_PRELOAD=" + marker + ":a.so:b.so:/c/d.so\n");
  CHECK(preload(marker) == "LD_PRELOAD=" + marker + "\n");
  CHECK(preload("a.so:" + marker + " b.so") == "LD_PRELOAD=" + marker + ":a.so:b.so\n");
}

TEST_CASE(
    "a library that changes the program's time stays before the shim, and clocks and waits "
    "agree") {
  sandbox here;
  auto preload = [&](const std::string& old) {
    return here.run({"--print-env"}, {"LD_PRELOAD=" + old}).out;
  };
  CHECK(preload(fake_time) == "LD_PRELOAD=" + fake_time + ":" + marker + "\n");
  CHECK(preload("a.so:" + fake_time + ":b.so") ==
        "LD_PRELOAD=" + fake_time + ":" + marker + ":a.so:b.so\n");
  CHECK(preload(marker + ":" + fake_time) == "LD_PRELOAD=" + fake_time + ":" + marker + "\n");
  // The shim interposes the same calls, but does not change the time.
  CHECK(preload(shim) == "LD_PRELOAD=" + marker + ":" + shim + "\n");
  if (sanitized) return skip("a sanitizer's run-time library cannot be loaded into this program");
  result r = execute({launcher, "run", waits_until},
                     {"LD_PRELOAD=" + fake_time, "TENDRIL_PRELOAD=" + shim}, here.path());
  CHECK(r.out == "in time\n");
  CHECK(r.status == 0);
}

TEST_CASE("tendril run within tendril run preloads the shim once") {
  sandbox here;
  result r = here.run({launcher, "run", dynamic_program});
  CHECK(r.out == dynamic_program + " 1 " + marker + "\n");
  CHECK(r.err == marked + marked);
}

TEST_CASE("the given options, and only those, become variables") {
  sandbox here;
  auto printed = [&](strings options, strings environment = {}) {
    options.push_back("--print-env");
    result r = here.run(options, environment);
    CHECK(r.status == 0);
    CHECK(r.out.ends_with("LD_PRELOAD=" + marker + "\n"));
    return r.out.substr(0, r.out.find("LD_PRELOAD"));
  };
  CHECK(printed({}) == "");
  CHECK(printed({"--threads=kernel"}) == "TENDRIL_THREADS=kernel\n");
  CHECK(printed({"--threads", "kernel"}) == "TENDRIL_THREADS=kernel\n");
  CHECK(printed({"--cores=2"}) == "TENDRIL_CORES=2\n");
  CHECK(printed({}, {"TENDRIL_CORES=64"}) == "TENDRIL_CORES=64\n");
  CHECK(printed({"--poller=io_uring"}) == "TENDRIL_POLLER=io_uring\n");
  CHECK(printed({"--cooperate=always"}) == "TENDRIL_COOPERATE=always\n");
  CHECK(printed({"--stack-size=16k"}) == "TENDRIL_STACK_SIZE=16384\n");
  CHECK(printed({"--stack-size=1M"}) == "TENDRIL_STACK_SIZE=1048576\n");
  CHECK(printed({"--stack-size=1024m"}) == "TENDRIL_STACK_SIZE=1073741824\n");
  CHECK(printed({"--stack-size=1g"}) == "TENDRIL_STACK_SIZE=1073741824\n");
  CHECK(printed({"--stack-size=65536"}) == "TENDRIL_STACK_SIZE=65536\n");
  CHECK(printed({"--stack-size=64k", "--stack-size=32k"}) == "TENDRIL_STACK_SIZE=32768\n");
  CHECK(printed({}, {"TENDRIL_STACK_SIZE=64k"}) == "TENDRIL_STACK_SIZE=65536\n");
  CHECK(printed({"--stack-size=32k"}, {"TENDRIL_STACK_SIZE=64k"}) == "TENDRIL_STACK_SIZE=32768\n");

  result r = here.run({"--threads=kernel", "--cooperate=auto", "sh", "-c",
                       "echo $TENDRIL_THREADS $TENDRIL_COOPERATE"});
  CHECK(r.out == "kernel auto\n");
}

TEST_CASE("a program without threads waits in the hub only with --cooperate=always") {
  if (sanitized) return;  // the shim would need the sanitizer's library before it
  sandbox here;
  // The hub has two descriptors. The shell makes them when it waits for the first command.
  auto descriptors = [&](strings options) {
    for (const char* word : {"/bin/sh", "-c", "sleep 0.01; ls /proc/$$/fd >list; wc -l <list"})
      options.push_back(word);
    result r = here.run(options, {"TENDRIL_PRELOAD=" + shim});
    CHECK(r.err == "");
    return std::stoi("0" + r.out);
  };
  int usually = descriptors({});
  CHECK(usually > 0);
  CHECK(descriptors({"--cooperate=auto"}) == usually);
  CHECK(descriptors({"--cooperate=always"}) == usually + 2);
}

TEST_CASE("a wrong command line fails with 125 and a line that states the error") {
  sandbox here;
  const struct {
    strings args;
    const char* reason;
  } cases[] = {
      {{}, "no command given"},
      {{"walk"}, "unknown command 'walk'"},
      {{"--fast", "run", "true"}, "unknown option '--fast'"},
      {{"run"}, "no program given"},
      {{"run", "--"}, "no program given"},
      {{"run", "--threads=kernel"}, "no program given"},
      {{"doctor"}, "no program given"},
      {{"doctor", "--explain", "true"}, "unknown option '--explain'"},
      {{"doctor", "--threads=green", "true"}, "'green'"},
      {{"run", "--fast", "true"}, "unknown option '--fast'"},
      {{"run", "-x", "true"}, "unknown option '-x'"},

      {{"run", "--threads=green", "true"}, "'green'"},
      {{"run", "--threads", "true"}, "'true'"},
      {{"run", "--threads=", "true"}, "--threads needs a value"},
      {{"run", "--threads"}, "--threads needs a value"},
      {{"run", "--cores=0", "true"}, "from 1 to 64, not '0'"},
      {{"run", "--cores=65", "true"}, "from 1 to 64, not '65'"},
      {{"run", "--cores=all", "true"}, "from 1 to 64, not 'all'"},
      {{"run", "--poller=select", "true"}, "'select'"},
      {{"run", "--cooperate=never", "true"}, "'never'"},
      {{"run", "--stack-size=15k", "true"}, "16k to 1024m, not '15k'"},
      {{"run", "--stack-size=1025m", "true"}, "16k to 1024m"},
      {{"run", "--stack-size=2g", "true"}, "16k to 1024m"},
      {{"run", "--stack-size=64kk", "true"}, "16k to 1024m"},
      {{"run", "--stack-size=-1", "true"}, "16k to 1024m"},
      {{"run", "--stack-size=lots", "true"}, "16k to 1024m"},
      {{"run", "--stack-size=99999999999999999999", "true"}, "16k to 1024m"},
      {{"run", "--stack-size=18014398509481984k", "true"}, "16k to 1024m"},  // 0 in 64 bits
  };
  for (auto& c : cases) check_failure(here.tendril(c.args), 125, c.reason);
  check_failure(here.run({"true"}, {"TENDRIL_STACK_SIZE=5"}), 125, "16k to 1024m, not '5'");
}

TEST_CASE("the doctor reports what would be interposed, and runs no code of the program") {
  sandbox here;
  result r = here.doctor({dynamic_program});
  CHECK(r.err == "");
  if (sanitized) {
    CHECK(r.status == 1);
    CHECK_MESSAGE(r.out.find("it runs under a sanitizer") != std::string::npos, r.out);
  } else {
    CHECK(r.status == 0);
    CHECK(r.out.starts_with(
        dynamic_program +
        "\n  verdict           its threads become fibers of one kernel thread\n"));
  }
  for (std::string words :
       {"  dynamic loader    " + loader_of(sandbox::file(dynamic_program)),
        std::string("  C library "), std::string("  thread pointer    set by "),
        std::string("  context switch    "), std::string("  seccomp "),
        "  shim              " + shim, std::string("  options           none\n")}) {
    CHECK_MESSAGE(r.out.find(words) != std::string::npos, words);
  }

  r = here.doctor({"--threads=kernel", "--stack-size=32k", dynamic_program});
  CHECK(r.status == 1);
  CHECK(r.out.find("its threads stay kernel threads: --threads=kernel\n") != std::string::npos);
  CHECK(r.out.find("options           TENDRIL_THREADS=kernel TENDRIL_STACK_SIZE=32768\n") !=
        std::string::npos);
  if (sanitized) return;
  r = here.doctor({"--cores=4", dynamic_program});
  CHECK(r.out.find("its threads become fibers of up to 4 kernel threads\n") != std::string::npos);
}

TEST_CASE("the doctor reports which poller would be used, and why not io_uring") {
  if (sanitized) return skip("the doctor does not run a sanitized shim");
  sandbox here;
  strings real = {"TENDRIL_PRELOAD=" + shim, "PATH=/usr/bin:/bin"};
  auto poller = [&](strings options) {
    strings command = {launcher, "doctor"};
    command.insert(command.end(), options.begin(), options.end());
    command.push_back(dynamic_program);
    std::string out = execute(command, real, here.path()).out;
    std::size_t at = out.find("  poller            ");
    REQUIRE_MESSAGE(at != std::string::npos, out);
    return out.substr(at + 20, out.find('\n', at) - at - 20);
  };
  std::string plain = poller({});
  bool possible = plain == "epoll (io_uring would work as well)";
  if (!possible) CHECK_MESSAGE(plain.starts_with("epoll (no io_uring: "), plain);
  CHECK(poller({"--poller=io_uring"}) == (possible ? "io_uring" : plain));
}

TEST_CASE("the doctor reports what each library imports") {
  sandbox here;
  if (here.tendril({"doctor", "/usr/bin/python3"}).status == 127)
    return skip("not installed: python3");
  result r = here.doctor({"/usr/bin/python3"});
  auto line = [&](const std::string& start) {
    std::size_t from = r.out.find("\n  " + start + " ");
    REQUIRE_MESSAGE(from != std::string::npos, start);
    std::size_t to = from + 1;
    do to = r.out.find('\n', to + 1);
    while (r.out.compare(to + 1, 20, std::string(20, ' ')) == 0);
    return r.out.substr(from + 1, to - from);
  };
  std::istringstream broken(line("python3"));  // into lines, at any word
  std::string own;
  for (std::string word; broken >> word;) own += word + " ";
  CHECK(own.find("interposed: ") != std::string::npos);
  for (std::string name : {" accept4 ", " pthread_create ", " read ", " select "})
    CHECK(own.find(name) != std::string::npos);
  line("libz.so.1");
}

TEST_CASE("the doctor looks for system calls in code, not in data") {
  sandbox here;
  result r = here.doctor({dynamic_program});
  CHECK_MESSAGE(r.out.find("waits unseen") == std::string::npos, r.out);
}

TEST_CASE(
    "the doctor and the shim report a program that makes futex, or arbitrary, system calls "
    "itself") {
  struct kind {
    std::string program, doctor_says, shim_says;
  };
  for (const kind& k :
       {kind{waits_inline, "makes futex system calls itself", "it makes futex system calls itself"},
        kind{waits_by_stub, "makes system calls by any number itself",
             "it makes system calls by any number itself"}}) {
    sandbox here;
    result r = here.doctor({k.program});
    CHECK(r.status == 1);
    CHECK_MESSAGE(r.out.find("waits unseen      " + fs::path(k.program).filename().string() + ": " +
                             k.doctor_says + "; threads that it creates") != std::string::npos,
                  r.out);
    if (sanitized) return;

    const std::string line =
        "tendril: threads created by " + k.program + " stay kernel threads: " + k.shim_says + "\n";
    strings real = {"TENDRIL_PRELOAD=" + shim};
    r = here.run({k.program}, real);
    CHECK(r.status == 7);
    CHECK(r.out == "a kernel thread\na kernel thread\n");
    CHECK(r.err == "");
    CHECK(here.run({k.program}, real, true).err == line);
    CHECK(here.run({"--threads=kernel", k.program}, real, true).err == "");
    r = here.run({"--explain", k.program}, real);
    CHECK(r.status == 7);
    CHECK(r.err.ends_with(line));
    CHECK(r.err.starts_with(k.program +
                            "\n  verdict           some of its threads stay kernel threads: "));
  }
}

TEST_CASE("the doctor and the shim report a program that drops capabilities of one thread") {
  sandbox here;
  result r = here.doctor({gives_up});
  CHECK(r.status == 1);
  CHECK_MESSAGE(r.out.find("its threads stay kernel threads: it calls capset") != std::string::npos,
                r.out);
  if (sanitized) return;

  strings real = {"TENDRIL_PRELOAD=" + shim};
  r = here.run({gives_up}, real);
  CHECK(r.status == 0);
  CHECK(r.out == "capset: 0, threads of the kernel: 2\n");
  CHECK(here.run({gives_up}, real, true).err ==
        "tendril: threads stay kernel threads: the program calls capset, which changes one of them "
        "for good\n");
}

TEST_CASE("the doctor fails as tendril run does") {
  sandbox here;
  here.write("head", sandbox::file(dynamic_program).substr(0, 20));
  check_failure(here.doctor({"no-such-program"}), 127, "no-such-program: No such file");
  result r = here.doctor({"./head"});
  CHECK(r.status == 126);
  CHECK(r.out ==
        "./head\n  verdict           cannot be executed: not a valid ELF file: "
        "it is shorter than its header\n");
  r = execute({"/bin/sh", "-c", launcher + " doctor true >/dev/full"},
              {"TENDRIL_PRELOAD=" + shim, "PATH=/usr/bin:/bin"}, here.path());
  check_failure(r, 125, "cannot write");
}

TEST_CASE("a missing program gives 127, a file that is not a program 126, as in env(1)") {
  sandbox here;
  here.write("plain", "text", 0644);
  here.write("dir/prog", "text", 0644);
  REQUIRE(mkfifo((here / "fifo").c_str(), 0755) == 0);
  const struct {
    const char* program;
    int status;
    const char* reason;
  } cases[] = {
      {"no-such-program", 127, "no-such-program: No such file"},
      {"./missing", 127, "./missing: No such file"},
      {"", 127, "'': No such file"},
      {"./plain", 126, "./plain: Permission denied"},
      {"./plain/prog", 126, "Not a directory"},
      {"plain", 127, "plain: No such file"},  // not in PATH
      {"./dir", 126, "./dir: is a directory"},
      {"./fifo", 126, "./fifo: is not a regular file"},
  };
  for (auto& c : cases) {
    check_failure(here.run({c.program}), c.status, c.reason);
    check_failure(here.run({"--threads=kernel", c.program}), c.status, c.reason);
    CHECK(execute({"/usr/bin/env", c.program}, {"PATH=/usr/bin:/bin"}, here.path()).status ==
          c.status);
  }
}

TEST_CASE("PATH is searched as in execvp") {
  sandbox here;
  here.write("1/prog", "#!/bin/sh\necho 1\n", 0644);
  fs::create_directories(here / "2/prog");
  here.write("3/prog", "#!/bin/sh\necho 3\n");
  here.write("prog", "#!/bin/sh\necho here\n");
  auto out = [&](const std::string& path) { return here.run({"prog"}, {"PATH=" + path}).out; };
  CHECK(out(here / "0" + ":" + here / "1" + ":" + here / "2" + ":" + here / "3") == "3\n");
  CHECK(out("") == "here\n");
  CHECK(out(":/usr/bin") == "here\n");
  CHECK(out("/usr/bin:") == "here\n");
  check_failure(here.run({"prog"}, {"PATH=" + here / "1" + ":/usr/bin"}), 126,
                "1/prog: Permission denied");
  CHECK(execute({launcher, "run", "true"}, {"TENDRIL_PRELOAD=" + marker}, here.path()).status == 0);
}

TEST_CASE("a static program runs without the shim, which is reported only on a terminal") {
  sandbox here;
  for (const std::string& program : {static_program, static_pie_program}) {
    check_runs_without(here, program,
                       program + ": statically linked, so no dynamic loader can load the shim",
                       program + " 1 " + marker + "\n");  // for its children
    result r = here.run({program}, {"TENDRIL_EXPLAIN=1"});
    CHECK(r.err == "tendril: " + program +
                       ": statically linked, so no dynamic loader can load the shim" + without);
    CHECK(here.run({program}, {"TENDRIL_EXPLAIN=0"}, true).err == "");
  }
}

TEST_CASE("a program for another processor is an error where the kernel refuses it") {
  sandbox here;
  std::string image = sandbox::file(dynamic_program);
  bool other = header(image).e_machine == EM_AARCH64;
  header(image).e_machine = other ? EM_X86_64 : EM_AARCH64;
  here.write("prog", image);
  const char* reason =
      other ? "./prog: built for 64-bit x86_64" : "./prog: built for 64-bit aarch64";
  check_failure(here.run({"./prog"}), 126, reason);

  header(image).e_ident[EI_CLASS] = ELFCLASS32;
  header(image).e_machine = EM_386;
  here.write("prog32", image);
  check_failure(here.run({"./prog32"}), 126, "./prog32: built for 32-bit i386");

  header(image).e_ident[EI_CLASS] = ELFCLASS64;
  header(image).e_ident[EI_DATA] = ELFDATA2MSB;
  header(image).e_machine = __builtin_bswap16(EM_PPC64);
  here.write("prog-be", image);
  check_failure(here.run({"./prog-be"}), 126, "./prog-be: built for 64-bit big-endian ppc64");
}

TEST_CASE("a damaged ELF file is an error") {
  sandbox here;
  const std::string whole = sandbox::file(dynamic_program);
  here.write("head", whole.substr(0, 20));
  here.write("headers", whole.substr(0, 100));
  here.write("half", whole.substr(0, whole.size() / 4));
  for (std::string name : {"./head", "./headers", "./half"}) {
    check_failure(here.run({name}), 126, name + ": not a valid ELF file: it");
  }
  // execvp would pass it to the shell, which would report a syntax error.
  check_failure(here.run({"--threads=kernel", "./head"}), 126, "./head: not a valid ELF file");

  std::string image = whole;
  header(image).e_type = ET_REL;
  here.write("object", image);
  check_failure(here.run({"./object"}), 126, "./object: an ELF file, but not a program");
  here.write("library.so", sandbox::file(marker));
  check_failure(here.run({"./library.so"}), 126, "./library.so: an ELF file, but not a program");

  image = whole;
  header(image).e_phentsize = 1;
  here.write("phentsize", image);
  check_failure(here.run({"./phentsize"}), 126, "program headers have the wrong size");
}

TEST_CASE("the doctor reports a library that is missing, and ends with 127") {
  sandbox here;
  std::string image = sandbox::file(dynamic_program);
  for (std::size_t at = 0; (at = image.find("libc.so.6", at)) != image.npos;) image[at + 3] = '-';
  here.write("needs", image);
  result r = here.doctor({"./needs"});
  CHECK(r.status == 127);
  CHECK_MESSAGE(r.out.find("it needs lib-.so.6, which is not found") != std::string::npos, r.out);
}

TEST_CASE("a program for another C library runs without the shim") {
  sandbox here;
  std::string image = sandbox::file(dynamic_program);
  here.write("missing", with_loader(image, here / "gone.so"));
  check_failure(here.run({"./missing"}), 127,
                "./missing: its dynamic loader " + here / "gone.so" + ": No such file");

  // It is the same loader under another name.
  here.write("m.so", sandbox::file(loader_of(image)));
  here.write("prog", with_loader(image, here / "m.so"));
  check_runs_without(
      here, "./prog",
      "./prog: made for another C library (its dynamic loader is " + here / "m.so" + ")",
      "./prog 1 -\n");
}

TEST_CASE("the dynamic loader itself may be run, with a program") {
  sandbox here;
  result r = here.run({loader_of(sandbox::file(dynamic_program)), dynamic_program});
  CHECK(r.status == 7);
  CHECK(r.err == marked);
}

TEST_CASE("a script is examined by its interpreter") {
  sandbox here;
  here.write("sh", "#! /bin/sh \necho \"$0 $1\"\n");
  here.write("env", "#!/usr/bin/env sh\necho \"$0 $1\"\n");
  for (std::string name : {"./sh", "./env"}) {
    result r = here.run({name, "a b"});
    CHECK(r.status == 0);
    CHECK(r.out == name + " a b\n");
    CHECK(r.err.starts_with(marked));
  }

  here.write("missing", "#!/no/such/interpreter -x\n");
  check_failure(here.run({"./missing"}), 127,
                "./missing: its interpreter /no/such/interpreter: No such file");
  here.write("dos", "#!/bin/sh\r\necho\r\n");
  check_failure(here.run({"./dos"}), 127, "./dos: its interpreter /bin/sh\\x0d: No such file");
  here.write("directory", "#!/tmp\n");
  check_failure(here.run({"./directory"}), 126,
                "./directory: its interpreter /tmp: is a directory");

  here.write("static", "#!" + static_program + "\n");
  const std::string reason = ": its interpreter " + static_program +
                             ": statically linked, so no dynamic loader can load the shim";
  check_runs_without(here, "./static", "./static" + reason, static_program + " 2 " + marker + "\n");
  here.write("nested", "#!./static\n");
  check_runs_without(here, "./nested", "./nested" + reason, static_program + " 3 " + marker + "\n");

  here.write("loop", "#!./loop\n");
  check_failure(here.run({"./loop"}), 126, "Too many levels");
}

TEST_CASE("scripts may nest as deeply as the kernel allows") {
  sandbox here;
  here.write("0", "#!/bin/sh\necho run\n");
  for (int i = 1; i < 7; i++) here.write(std::to_string(i), "#!./" + std::to_string(i - 1) + "\n");
  for (int i = 0; i < 7; i++) {
    std::string name = "./" + std::to_string(i);
    CAPTURE(name);
    result native = execute({"/usr/bin/env", name}, {}, here.path());
    result r = here.run({name});
    CHECK(r.status == native.status);
    CHECK(r.out == native.out);
  }
}

TEST_CASE("a file that is neither ELF nor #! is run by the shell, as in env(1)") {
  sandbox here;
  here.write("plain", "echo \"$0 $1\"; exit 5\n");
  here.write("empty", "");
  here.write("bare", "#!\nexit 6\n");
  result r = here.run({"./plain", "a b"});
  CHECK(r.status == 5);
  CHECK(r.out == "./plain a b\n");
  CHECK(r.err == marked);
  for (std::string name : {"./plain", "./empty", "./bare"}) {
    CHECK(here.run({name}).status == execute({"/usr/bin/env", name}, {}, here.path()).status);
  }
}

TEST_CASE(
    "a program that raises privileges runs without the shim, which the dynamic loader ignores") {
  sandbox here;
  if (!setuid_counts_in(here)) return skip("setuid has no effect here");
  if (geteuid() != 0) {
    std::string program = "/usr/bin/passwd";
    struct stat st;
    if (stat(program.c_str(), &st) != 0 || !(st.st_mode & S_ISUID))
      return skip("no setuid program here");
    result r = here.doctor({program});
    CHECK(r.status == 1);
    CHECK_MESSAGE(r.out.find("setuid to user 0") != std::string::npos, r.out);
    return;
  }
  if (!can_become_nobody(here)) return skip("needs more than one user");

  std::string program = here.write("prog", sandbox::file(dynamic_program));
  auto own = [&](uid_t user, gid_t group, mode_t mode) {
    REQUIRE(chown(program.c_str(), user, group) == 0);
    REQUIRE(chmod(program.c_str(), mode) == 0);
  };
  own(65534, 0, 04755);
  auto ignored = [](const std::string& why) {
    return why + ", so the dynamic loader ignores the shim";
  };
  check_runs_without(here, program, program + ": " + ignored("setuid to user 65534"),
                     program + " 1 " + "-" + "\n");
  here.write("script", "#!" + program + "\n");
  CHECK(here.run({"./script"}, {}, true).err == "tendril: ./script: its interpreter " + program +
                                                    ": " + ignored("setuid to user 65534") +
                                                    without);
  own(0, 65534, 02755);
  CHECK(here.run({program}, {}, true).err ==
        "tendril: " + program + ": " + ignored("setgid to group 65534") + without);
  CHECK(here.run({program}).err == "");
  INFO("without permission for the group, the bit means mandatory locking");
  own(0, 65534, 02745);
  CHECK(here.run({program}).err == marked);

  INFO(
      "no privilege is raised: root runs a setuid-root program, a user one that is setuid to the "
      "same user");
  own(0, 0, 06755);
  CHECK(here.run({program}).err == marked);
  CHECK(here.run_as_nobody({"--explain", program}).err.find("setuid to user 0") !=
        std::string::npos);
  own(65534, 65534, 06755);
  CHECK(here.run_as_nobody({program}).err == marked);

  INFO("no_new_privs makes setuid files ordinary");
  result r = execute({"/usr/bin/setpriv", "--no-new-privs", launcher, "run", program},
                     {"TENDRIL_PRELOAD=" + marker}, here.path());
  CHECK(r.err == marked);
}

TEST_CASE("a program with file capabilities runs without the shim for users") {
  sandbox here;
  if (!can_become_nobody(here) || !setuid_counts_in(here))
    return skip("needs root and a mount without nosuid");
  std::string program = here.write("prog", sandbox::file(dynamic_program));
  vfs_cap_data caps = {};
  caps.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE;
  caps.data[0].permitted = 1 << CAP_NET_BIND_SERVICE;
  if (setxattr(program.c_str(), "security.capability", &caps, XATTR_CAPS_SZ_2, 0) != 0) {
    return skip("no file capabilities here");
  }
  CHECK(here.run_as_nobody({"--explain", program}).err.find("has file capabilities") !=
        std::string::npos);
  CHECK(here.run_as_nobody({program}).status == 7);
  CHECK(here.run_as_nobody({program}).err == "");
  CHECK(here.run({program}).err == marked);
}

TEST_CASE("a program that may be executed but not read is executed, although its kind is unknown") {
  sandbox here;
  if (!can_become_nobody(here)) return skip("needs root");
  std::string program = here.write("prog", sandbox::file(dynamic_program), 0711);
  CHECK(here.run_as_nobody({"--explain", program}).err.find("cannot be read") != std::string::npos);
  CHECK(here.run_as_nobody({program}).status == 7);
}

TEST_CASE("an unusable preload library is a failure of the launcher") {
  sandbox here;
  std::string image = sandbox::file(marker);
  here.write("text.so", "text");
  here.write("a b.so", image);
  here.write("a:b.so", image);
  header(image).e_machine = EM_S390;
  here.write("s390.so", image);
  auto with = [&](const std::string& library) {
    return here.run({"--threads=kernel", "true"}, {"TENDRIL_PRELOAD=" + library});
  };
  check_failure(with("/no/such.so"), 125,
                "the preload library /no/such.so cannot be used: No such file");
  check_failure(with("/tmp"), 125, "the preload library /tmp is not a regular file");
  check_failure(with("./text.so"), 125, "is not a valid ELF file");
  check_failure(with("./s390.so"), 125, "is built for 64-bit s390");
  check_failure(with(static_program), 125, "is not a shared library");
  check_failure(with("./a b.so"), 125, "a space or a colon");
  check_failure(with("./a:b.so"), 125, "a space or a colon");
}

TEST_CASE("TENDRIL_PRELOAD may be relative; the program gets an absolute path") {
  sandbox here;
  here.write("shim.so", sandbox::file(marker));
  CHECK(here.run({"--print-env"}, {"TENDRIL_PRELOAD=./shim.so"}).out ==
        "LD_PRELOAD=" + here / "shim.so" + "\n");
}

TEST_CASE(
    "the library is found next to the launcher: in its directory, a build tree, an installation") {
  for (std::string place : {"bin/", "", TENDRIL_LIBDIR "/"}) {
    CAPTURE(place);
    sandbox here;
    std::string copy = here.write("bin/tendril", sandbox::file(launcher));
    if (place[0] == '/') continue;  // the test must not write to an absolute libdir
    std::string library = here.write(place + "libtendril-preload.so", sandbox::file(marker));
    fs::create_symlink(copy, here / "link");
    for (const std::string& command : {copy, here / "link"}) {
      result r = execute({command, "run", dynamic_program}, {}, here.path());
      CHECK(r.status == 7);
      CHECK(r.out == dynamic_program + " 1 " + library + "\n");
      CHECK(r.err == marked);
    }
  }
}

TEST_CASE("a launcher without its library reports where it looked") {
  sandbox here;
  std::string copy = here.write("bin/tendril", sandbox::file(launcher));
  check_failure(execute({copy, "run", "true"}, {}, here.path()), 125,
                "libtendril-preload.so is missing");
}

TEST_CASE("a failure is reported in one line whatever the file's name contains") {
  sandbox here;
  check_failure(here.run({"./a\nb\033[31m"}), 127, "./a\\x0ab\\x1b[31m: No such file");
}
