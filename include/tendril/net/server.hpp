// What all servers have in common: they accept connections (or datagrams) and handle each in a task
// of its own. (gevent.baseserver)
//
// A server accepts at most max_accept connections before it yields, and none while max_connections
// handlers run. When the system has no descriptors or memory left, it pauses for a while.
// Exceptions of handlers are reported, and the server goes on.
//
// A server accepts on the kernel thread that has called start(), in the order in which the
// connections came. Its handlers run there, too, or with server_options::workers on kernel threads
// of the server's own, each on one from its beginning to its end. Any kernel thread may call the
// functions here, among them handlers. pause(), stop() and the destructor wait for the kernel
// thread that accepts, which must let its fibers run.
#pragma once

#include "../detail/cxx20.hpp"

#include <fcntl.h>

#include <algorithm>
#include <atomic>
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
#include "../fiber_executor.hpp"
#include "../task.hpp"
#include "socket.hpp"

namespace tendril::net {

struct server_options {
  // The maximum number of connections that wait in the system to be accepted: listen(2).
  int backlog = 256;
  // The maximum number of handlers that run at once; further connections wait in the system. 0: no
  // limit.
  std::size_t max_connections = 0;
  // The number of connections that are accepted before other fibers run.
  unsigned max_accept = 100;
  // The pause when the system has no descriptors or memory left. It is doubled each time, up to
  // max_delay.
  clock::duration min_delay = std::chrono::milliseconds(10), max_delay = std::chrono::seconds(1);
  // The size of the handlers' stacks, as fiber_options::stack_size.
  std::size_t stack_size = 0;
  // The number of kernel threads that run the handlers, a fiber_executor (fiber_executor.hpp); 0:
  // one for each processor. 1: none but the one that accepts. With others, handlers, on_error and
  // wrap are called on several kernel threads at once.
  unsigned workers = 1;
  // Called with the exception of a handler, or the one that ended the server. Must not throw.
  // Empty: a line on standard error.
  std::function<void(std::exception_ptr)> on_error = {};
  // Makes the stream of a connection, in its handler's task; used for TLS. Empty: open_stream().
  std::function<stream(socket)> wrap = {};
};

class base_server {
 public:
  base_server(const base_server&) = delete;

  // Begins to accept, in a task of the calling kernel thread. Does nothing if the server is
  // accepting. Throws `error` if the server was stopped, and std::system_error if there are no
  // kernel threads for its workers. (gevent: start)
  void start() {
    std::unique_ptr<fiber_executor> made;
    if (options_.workers != 1 && !workers_) {
      made = std::make_unique<fiber_executor>(
          options_.workers,
          fiber_executor_options{.name = "tendril-server", .stack_size = options_.stack_size});
    }
    std::lock_guard lock(handlers_->mutex);
    if (closed_) throw error("the server was stopped");
    if (!workers_) workers_ = std::move(made);
    if (!accepts()) accepting_ = spawn({.name = "server"}, [this] { run(); });
  }
  // Stops accepting until start(). Handlers go on, and connections wait in the system. (gevent:
  // stop_accepting)
  void pause() {
    if (task<void> t = acceptor(); t.valid()) t.kill();
  }
  // Stops accepting, closes the socket, waits for the handlers for at most `timeout`, and kills
  // those that remain. If a handler stops its own server, that handler is not waited for. May be
  // called again. A cancellation point. (gevent: stop(timeout))
  template <class Rep, class Period>
  void stop(std::chrono::duration<Rep, Period> timeout) {
    auto until = detail::later(timeout);
    closed_ = true;
    pause();
    if (!handlers_use_socket_) close_socket();
    end(until);
    close_socket();
  }
  void stop() { stop(std::chrono::seconds(1)); }
  // Starts, and waits until the server is stopped. If the wait ends by an exception, stops the
  // server. A cancellation point. (gevent: serve_forever)
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
        lock, clock::time_point::max(), [&] { return handlers_->stopped; }, by_threads);
    guard.armed = false;
  }

  // The server's address, with the port that the system chose if it was 0.
  const address& where() const noexcept { return where_; }
  // Whether the server is accepting.
  bool started() const noexcept {
    std::lock_guard lock(handlers_->mutex);
    return accepts();
  }
  // Whether the server was stopped.
  bool closed() const noexcept { return closed_; }
  // The number of handlers that run now.
  std::size_t connections() const noexcept {
    std::lock_guard lock(handlers_->mutex);
    return handlers_->running.size();
  }

 protected:
  base_server(socket s, server_options o)
      : socket_(std::move(s)), where_(socket_.local_address()), options_(std::move(o)) {
    // The socket is ours now and must be a blocking one.
    int flags = posix::fcntl(socket_.descriptor(), F_GETFL);
    if (flags & O_NONBLOCK)
      posix::fcntl(socket_.descriptor(), F_SETFL,
                   reinterpret_cast<void*>(long(flags & ~O_NONBLOCK)));
  }
  // Does not stop the server: the derived class must do so (see abandon()), since handlers use the
  // whole object.
  ~base_server() = default;

  // Accepts one connection (or datagram) and calls handle(). Throws std::system_error as the call
  // does.
  virtual void take_one() = 0;
  // Calls f() in a task that counts as one of the server's handlers.
  template <class F>
  void handle(F f) {
    place in(handlers_);
    if (workers_) {
      workers_->submit(
          [in = std::move(in), on_error = options_.on_error, f = std::move(f)]() mutable {
            if (!in.begin()) return;
            try {
              f();
            } catch (const fiber_exit&) {
            } catch (...) {
              report(on_error);
            }
          });
      return;
    }
    auto at = in.entry();
    // The first capture is destroyed last, when the connection has been closed.
    auto run = [in = std::move(in), on_error = options_.on_error, f = std::move(f)]() mutable {
      try {
        f();
      } catch (const fiber_exit&) {
        throw;
      } catch (...) {
        report(on_error);
      }
    };
    auto t = spawn({.stack_size = options_.stack_size, .name = "handler"}, std::move(run));
    std::lock_guard lock(handlers_->mutex);
    *at = std::move(t);
  }
  // For destructors: like stop(0), but never interrupted and without exceptions.
  void abandon() noexcept {
    try {
      closed_ = true;
      task<void> accepting = acceptor();
      if (accepting.valid()) accepting.request_kill();
      if (!handlers_use_socket_) close_socket();
      for (auto& t : kill_all()) t.request_kill();
      detail::uninterrupted guard;
      if (accepting.valid()) accepting.join();
      std::unique_lock lock(handlers_->mutex);
      handlers_->stopped = true;
      handlers_->changed.notify_all();
      handlers_->changed.wait(
          lock, clock::time_point::max(), [&] { return only_me(); }, by_threads);
      socket_.close();
    } catch (...) {  // nothing else can run: leave the tasks
    }
  }

  // Handlers use the server's socket: it is closed when they have ended.
  bool handlers_use_socket_ = false;
  socket socket_;
  address where_;
  server_options options_;

 private:
  static constexpr detail::remote_wait::manner by_threads{.remote = false, .threads = true};
  // Shared with the handlers, which may outlive the server.
  struct handlers {
    std::mutex mutex;
    detail::remote_wait changed;  // a handler has ended, or the server was stopped
    std::list<any_task> running;  // an entry without a task has not begun yet
    bool stopped = false;
    bool killed = false;  // those that have not begun never do
  };

  // A handler's entry in `running`, which is removed when its task has ended or never begins.
  class place {
   public:
    explicit place(std::shared_ptr<handlers> h) : handlers_(std::move(h)) {
      std::lock_guard lock(handlers_->mutex);
      at_ = handlers_->running.emplace(handlers_->running.end());
    }
    place(place&&) noexcept = default;
    ~place() {
      if (!handlers_) return;
      std::lock_guard lock(handlers_->mutex);
      handlers_->running.erase(at_);
      handlers_->changed.notify_all();
    }
    std::list<any_task>::iterator entry() const noexcept { return at_; }
    // The running fiber is the handler's. Returns false if it is to end at once.
    bool begin() {
      any_task me(current_fiber());
      me.name("handler");
      std::lock_guard lock(handlers_->mutex);
      *at_ = std::move(me);
      return !handlers_->killed;
    }

   private:
    std::shared_ptr<handlers> handlers_;
    std::list<any_task>::iterator at_;
  };

  static void report(const std::function<void(std::exception_ptr)>& to) noexcept {
    if (to) return to(std::current_exception());
    try {
      throw;
    } catch (const std::exception& e) {
      std::fprintf(stderr, "tendril: a server's handler threw: %s\n", e.what());
    } catch (...) {
      std::fputs("tendril: a server's handler threw\n", stderr);
    }
  }
  static bool is_current(const any_task& t) { return t.as_fiber() == current_fiber(); }
  // Under the lock.
  bool accepts() const noexcept { return accepting_.valid() && !accepting_.ready(); }
  task<void> acceptor() const {
    std::lock_guard lock(handlers_->mutex);
    return accepting_;
  }
  void close_socket() {
    std::lock_guard lock(handlers_->mutex);
    socket_.close();
  }
  // Lets no handler begin from now on. Returns those that have, but for the caller's.
  std::vector<any_task> kill_all() {
    std::lock_guard lock(handlers_->mutex);
    handlers_->killed = true;
    std::vector<any_task> begun;
    for (auto& t : handlers_->running) {
      if (t.valid() && !is_current(t)) begun.push_back(t);
    }
    return begun;
  }
  bool only_me() const {
    return std::all_of(handlers_->running.begin(), handlers_->running.end(), is_current);
  }
  static bool lacks_room(int error) {
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
  }
  // Errors that end a server; all others concern a single connection (ECONNABORTED, EPROTO,
  // ENETDOWN, ...).
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
        [&] { return handlers_->running.size() < options_.max_connections; }, by_threads);
  }
  void end(clock::time_point until) {
    auto h = handlers_;
    std::unique_lock lock(h->mutex);
    h->changed.wait(
        lock, until, [&] { return only_me(); }, by_threads);
    lock.unlock();
    for (auto& t : kill_all()) t.request_kill();
    lock.lock();
    h->changed.wait(
        lock, clock::time_point::max(), [&] { return only_me(); }, by_threads);
    h->stopped = true;
    h->changed.notify_all();
  }

  std::shared_ptr<handlers> handlers_ = std::make_shared<handlers>();
  std::atomic<bool> closed_{false};
  task<void> accepting_;
  std::unique_ptr<fiber_executor> workers_;
};

}  // namespace tendril::net
