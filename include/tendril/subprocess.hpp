// Child processes with pipes.
//
//   auto done = tendril::subprocess::run({"sort", "-u"}, {.input = lines, .capture = true});
//   done.check();                                   // throws if it failed
//   use(done.output);
//
//   tendril::subprocess p({"grep", "x"}, {.in = tendril::redirect::pipe, .out = tendril::redirect::pipe});
//   auto [out, err] = p.communicate(text, 5s);
//
// Waits park the fiber and are cancellation points. One kernel thread at a time may use a
// subprocess. (subprocess.Popen, gevent.subprocess)
#pragma once

#include "detail/cxx20.hpp"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "detail/descriptor.hpp"
#include "stream.hpp"
#include "task.hpp"

namespace tendril {

// What a child's standard descriptors can be connected to, besides a descriptor of the parent (an
// int).
namespace redirect {
struct inherit_t {};
struct pipe_t {};
struct null_t {};
struct output_t {};
inline constexpr inherit_t inherit;  // the parent's
inline constexpr pipe_t pipe;        // a pipe; the parent has the other end
inline constexpr null_t null;        // /dev/null
inline constexpr output_t output;    // for `err` only: the same as the child's output
}  // namespace redirect
using redirection =
    std::variant<redirect::inherit_t, redirect::pipe_t, redirect::null_t, redirect::output_t, int>;

struct subprocess_options {
  redirection in = redirect::inherit, out = redirect::inherit, err = redirect::inherit;
  // The program's file; empty: args[0]. It is searched for in PATH if it contains no slash.
  std::string executable = {};
  // The working directory; empty: the parent's.
  std::string directory = {};
  // The environment; none: the parent's.
  std::optional<std::map<std::string, std::string>> environment = std::nullopt;
  // Whether the child gets a session, or a process group, of its own, and so does not receive the
  // terminal's signals for the parent.
  bool new_session = false, new_group = false;
};

// A child ended with a status other than 0. (subprocess.CalledProcessError)
class subprocess_error : public error {
 public:
  subprocess_error(const std::string& program, int status)
      : error(program + (status < 0 ? " was ended by signal " + std::to_string(-status)
                                    : " ended with status " + std::to_string(status))),
        status_(status) {}
  // The exit status, or minus the number of the signal that ended the child.
  int status() const noexcept { return status_; }

 private:
  int status_;
};

// How a child of run() ended, and what it wrote.
struct [[nodiscard("it tells whether the program failed: see check()")]] completed_subprocess {
  std::string program;
  int status = 0;  // minus the signal's number if a signal ended it
  std::string output, errors;
  // Throws subprocess_error if the status is not 0; otherwise returns this object.
  // (check_returncode)
  const completed_subprocess& check() const {
    if (status) throw subprocess_error(program, status);
    return *this;
  }
};

struct run_options {
  // The child's input; none: the parent's input.
  std::optional<std::string> input = std::nullopt;
  // Whether output and errors are collected.
  bool capture = false;
  // After this time the child is killed and std::errc::timed_out is thrown. max(): no limit.
  clock::duration timeout = clock::duration::max();
  subprocess_options options = {};
};

class subprocess {
 public:
  // Starts a program with the given arguments, the first of which is its name. The child inherits
  // all other descriptors of the parent that are not closed on exec. It has no blocked signals, and
  // SIGPIPE and SIGXFSZ have their default action. Throws std::system_error if the program cannot
  // be started (no such file, no permission) and std::invalid_argument if there are no arguments.
  explicit subprocess(std::vector<std::string> args, const subprocess_options& o = {})
      : program_(name_of(args, o)) {
    reap_abandoned();
    start(args, o);
  }
  subprocess(subprocess&& o) noexcept
      : in(std::move(o.in)),
        out(std::move(o.out)),
        err(std::move(o.err)),
        program_(std::move(o.program_)),
        pid_(std::exchange(o.pid_, -1)),
        pidfd_(std::move(o.pidfd_)),
        status_(o.status_) {}
  subprocess& operator=(subprocess&&) = delete;
  // Closes the pipes. A child that still runs goes on; it is reaped when the next subprocess is
  // made.
  ~subprocess() {
    if (pid_ < 0 || poll()) return;
    abandoned& a = left_behind();
    std::lock_guard lock(a.mutex);
    a.pids.push_back(pid_);
  }

  // Starts a program and waits until it has ended. If the wait ends by an exception (a kill, a
  // time-out), kills the child and waits for its end. (subprocess.run)
  static completed_subprocess run(std::vector<std::string> args, const run_options& o = {});
  // Runs a program and returns what it wrote. Throws subprocess_error if it failed.
  // (subprocess.check_output)
  static std::string check_output(std::vector<std::string> args, run_options o = {});

  // The parent's ends of the requested pipes. Call in.end_writing() to tell the child that no more
  // input will come.
  stream in, out, err;

  // The child's process id.
  pid_t pid() const noexcept { return pid_; }
  // The exit status, or minus the number of the signal that ended the child; none while it runs.
  // Never waits. (subprocess: poll)
  std::optional<int> poll() noexcept {
    if (!status_ && pid_ >= 0) reap();
    return status_;
  }
  // Waits until the child has ended and returns its status. A child that blocks on a full pipe
  // never ends: see communicate(). (subprocess: wait)
  int wait() { return *wait_until(clock::time_point::max()); }
  // The same, for at most `timeout`. Returns none if the child still runs.
  template <class Rep, class Period>
  std::optional<int> wait(std::chrono::duration<Rep, Period> timeout) {
    return wait_until(detail::later(timeout));
  }

  // Writes `input` to the child's input and closes it, reads output and errors to their ends, all
  // concurrently, and waits for the child's end. Returns what was read from the pipes. A child that
  // does not read all of its input is not an error. (subprocess: communicate)
  std::pair<std::string, std::string> communicate(std::string_view input = {}) {
    return communicate_until(input, clock::time_point::max());
  }
  // The same, for at most `timeout`: then throws std::errc::timed_out, and the child goes on. It
  // may be called again, without input; no data is lost.
  template <class Rep, class Period>
  std::pair<std::string, std::string> communicate(std::string_view input,
                                                  std::chrono::duration<Rep, Period> timeout) {
    return communicate_until(input, detail::later(timeout));
  }

  // Sends a signal; does nothing if the child has ended. Throws std::system_error if that is not
  // permitted. (send_signal, terminate, kill)
  void send_signal(int signal) {
    if (poll()) return;
    detail::checked_call("kill", [&] { return ::kill(pid_, signal); });
  }
  void terminate() { send_signal(SIGTERM); }
  void kill() { send_signal(SIGKILL); }

  // The program's name, as in messages.
  const std::string& program() const noexcept { return program_; }

 private:
  // Children whose subprocess object is gone. They are reaped later.
  struct abandoned {
    std::mutex mutex;
    std::vector<pid_t> pids;
  };
  static abandoned& left_behind() {
    static abandoned a;
    return a;
  }
  static void reap_abandoned() {
    abandoned& a = left_behind();
    std::lock_guard lock(a.mutex);
    std::erase_if(a.pids, [](pid_t p) { return posix::waitpid(p, nullptr, WNOHANG) != 0; });
  }

  // The arguments of posix_spawn.
  struct actions {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    actions() {
      posix_spawn_file_actions_init(&files);
      posix_spawnattr_init(&attributes);
    }
    ~actions() {
      posix_spawn_file_actions_destroy(&files);
      posix_spawnattr_destroy(&attributes);
    }
    actions(const actions&) = delete;
  };
  static void check(int e, const std::string& what) {
    if (e) throw std::system_error(e, std::generic_category(), what);
  }
  static std::string name_of(const std::vector<std::string>& args, const subprocess_options& o) {
    if (args.empty())
      throw std::invalid_argument("a subprocess needs at least one argument, its name");
    return o.executable.empty() ? args[0] : o.executable;
  }

  // The descriptor that becomes the child's descriptor `number`, and the parent's end of a pipe.
  // Owned descriptors are numbered 3 and up, so that none is overwritten before it has been
  // duplicated.
  struct end {
    int child = -1;  // -1: inherited
    detail::owned_fd owned;
    stream parent;
  };
  static detail::owned_fd above_standard(int fd) {
    detail::owned_fd given(fd);
    if (fd < 0 || fd > 2) return given;
    return detail::owned_fd(
        detail::checked_call("fcntl", [&] { return ::fcntl(fd, F_DUPFD_CLOEXEC, 3); }));
  }
  static end make_end(const redirection& r, int number) {
    end e;
    if (std::holds_alternative<redirect::pipe_t>(r)) {
      int p[2];
      detail::checked_call("pipe2", [&] { return ::pipe2(p, O_CLOEXEC); });
      detail::owned_fd reads(p[0]), writes(p[1]);
      reads = above_standard(reads.release());
      writes = above_standard(writes.release());
      e.owned = std::move(number == 0 ? reads : writes);
      e.parent = stream(std::make_unique<pipe_end>((number == 0 ? writes : reads).release()));
      e.child = e.owned.get();
    } else if (std::holds_alternative<redirect::null_t>(r)) {
      e.owned = above_standard(detail::checked_call("/dev/null", [&] {
        return ::open("/dev/null", (number == 0 ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
      }));
      e.child = e.owned.get();
    } else if (auto* fd = std::get_if<int>(&r)) {
      if (*fd > 2 || *fd == number) {
        e.child = *fd;
      } else {
        e.owned = detail::owned_fd(
            detail::checked_call("fcntl", [&] { return ::fcntl(*fd, F_DUPFD_CLOEXEC, 3); }));
        e.child = e.owned.get();
      }
    }
    return e;
  }
  // The writing end of a pipe whose reader may be gone: throws EPIPE without raising SIGPIPE.
  class pipe_end : public descriptor_transport {
   public:
    using descriptor_transport::descriptor_transport;
    void write_all(std::string_view data) override {
      sigset_t only, before, pending;
      sigemptyset(&only);
      sigaddset(&only, SIGPIPE);
      while (!data.empty()) {
        // Block SIGPIPE only around the write, which does not wait: during a wait, other fibers
        // would run with it blocked.
        pollfd p{descriptor(), POLLOUT, 0};
        detail::checked_call("poll", [&] { return posix::poll(&p, 1, -1); });
        if (p.revents & POLLNVAL) errno = EBADF, detail::throw_errno("write");
        sigpending(&pending);
        bool was_pending = sigismember(&pending, SIGPIPE);
        pthread_sigmask(SIG_BLOCK, &only, &before);
        // If poll reports POLLOUT, at least PIPE_BUF bytes can be written.
        ssize_t n = ::syscall(SYS_write, descriptor(), data.data(),
                              std::min<std::size_t>(data.size(), PIPE_BUF));
        int e = errno;
        if (n < 0 && e == EPIPE && !was_pending) {
          timespec none{};
          while (::syscall(SYS_rt_sigtimedwait, &only, nullptr, &none, 8) < 0 && errno == EINTR) {}
        }
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        errno = e;
        if (n < 0 && e != EINTR) detail::throw_errno("write");
        if (n > 0) data.remove_prefix(std::size_t(n));
      }
    }
  };

  void start(const std::vector<std::string>& args, const subprocess_options& o) {
    if (std::holds_alternative<redirect::output_t>(o.in) ||
        std::holds_alternative<redirect::output_t>(o.out))
      throw std::invalid_argument("redirect::output is possible for errors only");
    end ends[3] = {make_end(o.in, 0), make_end(o.out, 1), make_end(o.err, 2)};
    actions a;
    for (int n = 0; n < 3; n++) {
      if (ends[n].child >= 0)
        check(posix_spawn_file_actions_adddup2(&a.files, ends[n].child, n), "dup2");
    }
    if (std::holds_alternative<redirect::output_t>(o.err))
      check(posix_spawn_file_actions_adddup2(&a.files, 1, 2), "dup2");
    if (!o.directory.empty())
      check(posix_spawn_file_actions_addchdir_np(&a.files, o.directory.c_str()), "chdir");

    // The same signals as Python restores. Caught signals get the default action at exec; ignored
    // ones (nohup) stay ignored.
    sigset_t none, restored;
    sigemptyset(&none);
    sigemptyset(&restored);
    for (int signal : {SIGPIPE, SIGXFSZ}) sigaddset(&restored, signal);
    posix_spawnattr_setsigmask(&a.attributes, &none);
    posix_spawnattr_setsigdefault(&a.attributes, &restored);
    int flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    if (o.new_session) flags |= POSIX_SPAWN_SETSID;
    if (o.new_group && !o.new_session) flags |= POSIX_SPAWN_SETPGROUP;
    posix_spawnattr_setflags(&a.attributes, short(flags));

    std::vector<char*> argv, envp;
    for (auto& s : args) argv.push_back(const_cast<char*>(s.c_str()));
    argv.push_back(nullptr);
    std::vector<std::string> pairs;
    if (o.environment) {
      for (auto& [k, v] : *o.environment) pairs.push_back(k + "=" + v);
      for (auto& s : pairs) envp.push_back(s.data());
      envp.push_back(nullptr);
    }
    check(posix_spawnp(&pid_, program_.c_str(), &a.files, &a.attributes, argv.data(),
                       o.environment ? envp.data() : environ),
          program_);
    pidfd_ = detail::owned_fd(int(::syscall(SYS_pidfd_open, pid_, 0)));
    in = std::move(ends[0].parent);
    out = std::move(ends[1].parent);
    err = std::move(ends[2].parent);
  }

  void reap() noexcept {
    int s = 0;
    pid_t r;
    do r = posix::waitpid(pid_, &s, WNOHANG);
    while (r < 0 && errno == EINTR);
    if (r == pid_) status_ = WIFSIGNALED(s) ? -WTERMSIG(s) : WEXITSTATUS(s);
    else if (r < 0)
      // another part of the program reaped it: the status is unknown (0, as in Python)
      status_ = 0;
    if (status_) pidfd_.reset();
  }
  std::optional<int> wait_until(clock::time_point deadline) {
    while (!poll()) {
      if (!pidfd_) {  // no descriptor was free: poll periodically
        if (clock::now() >= deadline) return {};
        sleep(std::chrono::milliseconds(5));
        continue;
      }
      auto left = std::chrono::ceil<std::chrono::milliseconds>(
          std::max(deadline - clock::now(), clock::duration::zero()));
      constexpr long longest = 1'000'000;
      pollfd p{pidfd_.get(), POLLIN, 0};
      int r = posix::poll(&p, 1, int(std::min<long>(left.count(), longest)));
      if (r < 0 && errno == EBADF) continue;  // another fiber has reaped it
      if (r < 0 && errno != EINTR) detail::throw_errno("poll");
      if (r == 0 && clock::now() >= deadline) return poll();
    }
    return status_;
  }

  std::pair<std::string, std::string> communicate_until(std::string_view input,
                                                        clock::time_point deadline) {
    auto collect = [](stream& from, std::string& into) {
      if (!from) return;
      for (std::string s; !(s = from.read_some()).empty();) into += s;
    };
    if (!input.empty()) unsent_ += input;
    task<void> tasks[3] = {
        spawn([this] { feed(); }),
        spawn([&] { collect(out, output_); }),
        spawn([&] { collect(err, errors_); }),
    };
    struct stop {
      task<void>* tasks;
      ~stop() {
        for (int i = 0; i < 3; i++) {
          // the tasks use local variables, so they must have ended
          while (!tasks[i].ready()) {
            try {
              tasks[i].kill();
            } catch (...) {}
          }
        }
      }
    } guard{tasks};
    for (auto& t : tasks) {
      if (!t.join(deadline == clock::time_point::max()
                      ? clock::duration::max()
                      : std::max(deadline - clock::now(), clock::duration::zero()))) {
        throw std::system_error(std::make_error_code(std::errc::timed_out), program_);
      }
    }
    for (auto& t : tasks) t.get();
    if (!wait_until(deadline))
      throw std::system_error(std::make_error_code(std::errc::timed_out), program_);
    return {std::exchange(output_, {}), std::exchange(errors_, {})};
  }
  void feed() {
    if (!in) return;
    try {
      while (!unsent_.empty()) {
        // Write in pieces, so that after a time-out `sent_` tells what is left.
        std::size_t n = std::min<std::size_t>(unsent_.size() - sent_, PIPE_BUF);
        in.write(std::string_view(unsent_).substr(sent_, n));
        in.flush();
        sent_ += n;
        if (sent_ == unsent_.size()) unsent_.clear(), sent_ = 0;
      }
      in.close();
    } catch (const std::system_error& e) {
      if (e.code().value() != EPIPE) throw;
    }
    in = stream();
  }

  std::string program_;
  pid_t pid_ = -1;
  detail::owned_fd pidfd_;  // -1: the child has ended, or no descriptor was free
  std::optional<int> status_;
  // State between calls of communicate(): input not yet written, output read so far.
  std::string unsent_, output_, errors_;
  std::size_t sent_ = 0;
};

inline completed_subprocess subprocess::run(std::vector<std::string> args, const run_options& o) {
  subprocess_options options = o.options;
  if (o.input) options.in = redirect::pipe;
  if (o.capture) options.out = options.err = redirect::pipe;
  subprocess p(std::move(args), options);
  try {
    auto [out, err] = p.communicate(o.input.value_or(std::string()), o.timeout);
    return {p.program(), *p.poll(), std::move(out), std::move(err)};
  } catch (...) {
    p.kill();
    while (!p.poll()) {  // SIGKILL cannot be ignored
      try {
        p.wait();
      } catch (...) {}
    }
    throw;
  }
}

inline std::string subprocess::check_output(std::vector<std::string> args, run_options o) {
  o.options.out = redirect::pipe;
  completed_subprocess c = run(std::move(args), o);
  c.check();
  return std::move(c.output);
}

}  // namespace tendril
