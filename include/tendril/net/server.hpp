// What servers have in common: they take what comes, and handle each in a task of its own.
// (gevent.baseserver)
//
// A server takes at most max_accept connections (or datagrams) before it lets others run; none
// while max_connections handlers run; and rests for a while when the system has no descriptors or
// memory left. What a handler throws is reported, and the server goes on.
//
// A server and its handlers belong to the kernel thread where it was started; fiber_error
// elsewhere.
#pragma once

#include <fcntl.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "../detail/remote_wait.hpp"
#include "../task.hpp"
#include "socket.hpp"

namespace tendril::net {

struct server_options {
  // How many may wait in the system to be accepted: listen(2).
  int backlog = 256;
  // How many handlers may run at once; what comes then waits in the system. 0: any number.
  std::size_t max_connections = 0;
  // How many are taken before others run.
  unsigned max_accept = 100;
  // How long to rest when the system has no descriptors or memory left: doubled each time, up to
  // the longest.
  clock::duration min_delay = std::chrono::milliseconds(10), max_delay = std::chrono::seconds(1);
  // The handlers' stacks: fiber_options::stack_size.
  std::size_t stack_size = 0;
  // What a handler threw, or ended the server. Must not throw. Empty: a line on standard error.
  std::function<void(std::exception_ptr)> on_error = {};
  // Makes the stream of a connection, in its handler's task: where TLS begins. Empty:
  // open_stream().
  std::function<stream(socket)> wrap = {};
};

class base_server {
 public:
  base_server(const base_server&) = delete;

  // Begins to take what comes, in a task. Nothing if it has begun. `error`: the server was stopped.
  void start() {
    if (closed()) throw error("the server was stopped");
    if (!accepting_.valid() || accepting_.ready())
      accepting_ = spawn({.name = "server"}, [this] { run(); });
  }
  // Takes nothing more; handlers go on, and what comes waits in the system, until start().
  void pause() {
    if (accepting_.valid()) accepting_.kill();
  }
  // Takes nothing more, closes its socket, waits for the handlers until they end or `timeout` has
  // passed, and kills those that are left. A handler that stops its own server is not waited for.
  // May be called again. (stop(timeout))
  template <class Rep, class Period>
  void stop(std::chrono::duration<Rep, Period> timeout) {
    auto until = detail::later(timeout);
    pause();
    socket_.close();
    end(until);
  }
  void stop() { stop(std::chrono::seconds(1)); }
  // Starts, and waits until the server is stopped; what ends that wait by an exception stops it. A
  // cancellation point.
  void serve_forever() {
    start();
    struct stops {
      base_server& s;
      bool armed = true;
      ~stops() {
        if (armed) s.abandon();
      }
    } guard{*this};
    std::unique_lock lock(handlers_->mutex);
    handlers_->changed.wait(
        lock, clock::time_point::max(), [&] { return handlers_->stopped; }, local);
    guard.armed = false;
  }

  // Where it listens; the port that the system chose, if that was 0.
  const address& where() const noexcept { return where_; }
  // Whether it takes what comes.
  bool started() const noexcept { return accepting_.valid() && !accepting_.ready(); }
  // Whether it was stopped.
  bool closed() const noexcept { return !socket_; }
  // How many handlers run.
  std::size_t connections() const noexcept { return handlers_->running.size(); }

 protected:
  base_server(socket s, server_options o)
      : socket_(std::move(s)), where_(socket_.local_address()), options_(std::move(o)) {
    // It is ours now, and shall wait.
    int flags = posix::fcntl(socket_.descriptor(), F_GETFL);
    if (flags & O_NONBLOCK)
      posix::fcntl(socket_.descriptor(), F_SETFL,
                   reinterpret_cast<void*>(long(flags & ~O_NONBLOCK)));
  }
  // Not of this class: its handlers use the whole server. See abandon().
  ~base_server() = default;

  // Takes one, and handle()s it. Throws std::system_error as the call does.
  virtual void take_one() = 0;
  // Calls f() in a task that counts as one of the server's.
  template <class F>
  void handle(F f) {
    auto at = handlers_->running.emplace(handlers_->running.end());
    // The first capture is the last to go: by then the connection has been closed.
    auto run = [in = place(handlers_, at), on_error = options_.on_error,
                f = std::move(f)]() mutable {
      try {
        f();
      } catch (const fiber_exit&) {
        throw;
      } catch (...) {
        report(on_error);
      }
    };
    task<void> t = spawn({.stack_size = options_.stack_size, .name = "handler"}, std::move(run));
    *at = std::move(t);
  }
  // For destructors: as stop(0), whatever comes, and without exceptions.
  void abandon() noexcept {
    try {
      if (accepting_.valid()) accepting_.request_kill();
      socket_.close();
      for (auto& t : std::vector(handlers_->running.begin(), handlers_->running.end())) {
        if (!is_current(t)) t.request_kill();
      }
      std::unique_lock lock(handlers_->mutex);
      handlers_->stopped = true;
      handlers_->changed.notify_all();
      handlers_->changed.wait(lock, clock::time_point::max(),
                              [&] { return only_me() && !started(); },
                              {.remote = false, .uninterruptible = true});
    } catch (...) {  // another kernel thread, or nothing else can run: they stay as they are
    }
  }

  socket socket_;
  address where_;
  server_options options_;

 private:
  static constexpr detail::remote_wait::manner local{.remote = false};
  // What handlers need at their end, when the server may have gone.
  struct handlers {
    std::mutex mutex;
    detail::remote_wait changed;  // a handler has ended, or all is over
    std::list<task<void>> running;
    bool stopped = false;
  };

  // A handler's place among those that run, which it leaves when its task has ended, or never
  // begins.
  class place {
   public:
    place(std::shared_ptr<handlers> h, std::list<task<void>>::iterator at) noexcept
        : handlers_(std::move(h)), at_(at) {}
    place(place&&) noexcept = default;
    ~place() {
      if (!handlers_) return;
      std::lock_guard lock(handlers_->mutex);
      handlers_->running.erase(at_);
      handlers_->changed.notify_all();
    }

   private:
    std::shared_ptr<handlers> handlers_;
    std::list<task<void>>::iterator at_;
  };

  static void report(const std::function<void(std::exception_ptr)>& to) noexcept {
    if (to) return to(std::current_exception());
    try {
      throw;
    } catch (const std::exception& e) {
      std::fprintf(stderr, "tendril: a server's handler: %s\n", e.what());
    } catch (...) {
      std::fputs("tendril: a server's handler threw\n", stderr);
    }
  }
  static bool is_current(const task<void>& t) { return t.as_fiber() == current_fiber(); }
  bool only_me() const {
    return std::all_of(handlers_->running.begin(), handlers_->running.end(), is_current);
  }
  static bool lacks_room(int error) {
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
  }
  // What ends a server; everything else concerns one connection (ECONNABORTED, EPROTO, ENETDOWN,
  // ...).
  static bool is_fatal(int error) {
    return error == EBADF || error == EINVAL || error == ENOTSOCK || error == EOPNOTSUPP ||
           error == EFAULT;
  }

  void run() {
    struct over {
      std::shared_ptr<handlers> h;
      ~over() {
        std::lock_guard lock(h->mutex);
        h->changed.notify_all();
      }
    } guard{handlers_};
    clock::duration delay = options_.min_delay;
    for (unsigned taken = 1;; taken++) {
      wait_for_room();
      int failed = 0;
      try {
        take_one();
        delay = options_.min_delay;
      } catch (const std::system_error& e) {
        failed = e.code().value();
        if (is_fatal(failed)) {
          if (!closed()) report(options_.on_error);
          return;
        }
      }
      if (lacks_room(failed)) {
        sleep(delay);
        delay = std::min(2 * delay, options_.max_delay);
      } else if (taken % std::max(options_.max_accept, 1u) == 0) {
        yield();
      }
    }
  }
  void wait_for_room() {
    if (!options_.max_connections) return;
    std::unique_lock lock(handlers_->mutex);
    handlers_->changed.wait(
        lock, clock::time_point::max(),
        [&] { return handlers_->running.size() < options_.max_connections; }, local);
  }
  void end(clock::time_point until) {
    auto h = handlers_;
    std::unique_lock lock(h->mutex);
    h->changed.wait(
        lock, until, [&] { return only_me(); }, local);
    std::vector<task<void>> left(h->running.begin(), h->running.end());
    lock.unlock();
    std::erase_if(left, is_current);
    for (auto& t : left) t.request_kill();
    joinall(left);
    lock.lock();
    h->stopped = true;
    h->changed.notify_all();
  }

  std::shared_ptr<handlers> handlers_ = std::make_shared<handlers>();
  task<void> accepting_;
};

}  // namespace tendril::net
