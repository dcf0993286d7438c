// The poller of one hub: which fibers wait for which descriptors, on one epoll instance; and, with
// TENDRIL_POLLER=io_uring, the receives that the kernel carries out for them meanwhile.
//
// A descriptor is registered once, edge-triggered and for all events, when a fiber first waits for
// it, and stays registered until it is closed: under the shim, waiting costs no system call after
// that. Edge-triggering is safe because a fiber only waits after a try that would have blocked:
// whatever happens after the try is an edge that is still to be reported. An edge wakes every fiber
// that waits for it; all but one may find that they would block, and wait again.
#pragma once

#include <sys/epoll.h>

#include <cstdint>

#include "base/list.hpp"
#include "events/descriptors.hpp"
#include "events/kept_descriptors.hpp"
#include "events/receive_ring.hpp"
#include "events/watched_descriptor.hpp"
#include "fiber/fiber.hpp"

namespace tendril::core {

// Events that are not tied to a descriptor of the program's.
enum class source : std::uint8_t {
  signals,  // a signal has arrived that the kernel thread blocks
  clock,    // a clock has been set
};

// One fiber's wait for one of these; lives in the fiber's frame while it is parked.
struct source_waiter : list_node {
  fiber* who = nullptr;
};

// The poller has two descriptors of its own (own_descriptors.hpp): the epoll instance, and the
// doorbell (doorbell.hpp).
//
// Before it sleeps the poller checks whether both are still there, at most every tenth of a
// millisecond. If not, it makes new ones and registers all waiters again. If it cannot make any
// (RLIMIT_NOFILE), it asks ppoll(2) every few milliseconds, since no other thread can notify it
// then.
class poller {
 public:
  // What the poller needs of the hub.
  struct hub_part {
    void (*wake)(fiber*, core::wake) noexcept;  // as hub::wake
    // as forget_descriptor() and wake_closed_waiters()
    void (*forget)(int fd) noexcept;
    void (*wake_closed)(int fd) noexcept;
  };
  explicit poller(const hub_part& report) noexcept : kept(report.forget), report_(report) {}
  ~poller();
  // Adds the waiter. Returns 0, or -errno of epoll_ctl: -EPERM for files, which are always ready.
  int add(io_waiter& w) noexcept;
  void remove(io_waiter& w) noexcept;
  // Whether the waiter's descriptor still refers to the file that it waits for, as far as can be
  // known.
  bool still_stands(const io_waiter& w) noexcept;
  bool has_waiters() const noexcept { return waiting_ > 0; }
  // From now on fibers may go on to wait for a descriptor on another hub: what nobody waits for
  // here any longer is no longer watched.
  void share_descriptors() noexcept { shares_ = true; }
  // Whether a fiber waits for that descriptor. Any thread.
  bool is_waited_for(int fd) noexcept {
    const slot* s = slots_.at(fd);
    return s && s->listed.any();
  }
  // Adds a waiter for a source. Returns whether the source reports every event; if not, the waiter
  // has to check by itself.
  bool add(source_waiter& w, source s) noexcept;
  void remove(source_waiter& w) noexcept;
  // The descriptors that this hub's waits have opened.
  kept_descriptors kept;

  // Makes the epoll instance if there is none yet. Returns false if no descriptors are left. From
  // here on interrupt() works.
  //
  // The descriptors of a poller that may be made later can be opened before, when that takes less:
  // prepare() leaves spares empty if that is impossible. take() comes before open().
  struct spare {
    std::atomic<int> epoll{-1};
    std::atomic<int> doorbell{-1};
    bool has_sources = false;
  };
  static void prepare(spare* each, unsigned n) noexcept;
  static void drop(spare& s) noexcept;
  void take(spare& s) noexcept;
  bool open() noexcept {
    return epoll_.load(std::memory_order_relaxed) >= 0 ||
           without_epoll_.load(std::memory_order_relaxed) || open_slow();
  }
  // Waits for events (null: for ever), with that signal mask if it is not null, and wakes the
  // fibers concerned. Returns false if a signal ended the wait. May return early.
  bool poll(const timespec* timeout, const std::uint64_t* mask = nullptr) noexcept;
  // fd is about to be closed: removes it from the epoll instance, unless its description ends with
  // it (`ends`), which has the same effect. If a dup keeps the description open nevertheless, its
  // stale events are dropped by generation. Any thread.
  void forget(int fd, std::uint32_t generation, bool ends) noexcept;
  // Wakes the fibers whose descriptor has been closed since they began to wait. Own thread.
  void wake_closed(int fd) noexcept;
  void wake_all_closed() noexcept;
  // Interrupts poll() from another thread, or from a signal handler. Returns false if the
  // descriptors for that have been closed.
  bool interrupt() noexcept;
  // Whether the program has closed them unseen. Any thread.
  bool lost_descriptors() const noexcept;
  // After fork: the epoll instance and the waiters are the parent's.
  void after_fork() noexcept;
  // The same for the poller of a kernel thread that does not exist in the child: closes its
  // descriptors.
  void close_inherited() noexcept;

  // --- receiving by io_uring ---
  // Why the kernel cannot carry out receives, in words; null: it can.
  static const char* ring_obstacle() noexcept { return receive_ring::obstacle(); }
  // Whether receives should use the ring here, and nothing has prevented it so far.
  bool wants_ring() noexcept { return ring_.is_wanted(); }
  // Whether a receive from fd is likely to find nothing, since the last one got less than it asked
  // for. (A hint: correctness does not depend on it.)
  bool seems_empty(int fd) noexcept;
  // Queues the receive, and lists it as a waiter. It is submitted when the hub polls, unless fd is
  // closed before. Returns false if that is impossible. Requires wants_ring().
  bool begin(ring_receive& r) noexcept;
  // Cancels it if it has not completed yet, and waits for its completion.
  void end(ring_receive& r) noexcept;

  // The program wants this number, which may be one of ours: moves our file to another number. Any
  // thread.
  void make_way(int fd) noexcept;

  // --- whether a receive would find nothing: see stream_state ---
  // The fiber is about to receive from fd; then: it got less than it asked for. (The number shows
  // whether anything happened in between: another receive, in a signal handler or in another fiber,
  // or an edge.)
  std::uint32_t begin_receive(int fd) noexcept {
    slot* s = slots_.at(fd);
    return s ? s->stream.begin_receive() : 0;
  }
  void received_all(int fd, std::uint32_t begun) noexcept {
    if (slot* s = slots_.at(fd)) s->stream.received_all(begun);
  }
  // Whether there is nothing to receive, as far as edges have been reported. A connection that we
  // made, and have not waited for yet, is probably empty, since the connecting side speaks first;
  // if it is not, that is reported as soon as a fiber waits.
  bool drained(int fd) noexcept {
    if (!stream_state::are_plain()) return false;
    const slot* s = slots_.at(fd);
    bool watched = s && s->is_registered(descriptors::generation(fd));
    return watched ? s->stream.is_drained() : descriptors::is_connection(fd);
  }

 private:
  using slot = watched_descriptor;
  void enlist(slot& s, io_waiter& w) noexcept {
    s.waiters.push_back(w);
    s.listed.one_more();
    s.unwanted = 0;
    waiting_++;
  }
  static constexpr int ahead = 4;
  void fetch_ahead(int i, int n) noexcept;
  void release_own() noexcept;
  void drop_unwanted(slot& s, int fd) noexcept;
  int watch(slot& s, const io_waiter& w, bool known) noexcept;
  int watch_anew(slot& s, io_waiter& w, bool known) noexcept;
  bool poll_epoll(const timespec* timeout, const std::uint64_t* mask) noexcept;
  bool poll_ring(const timespec* timeout, const std::uint64_t* mask) noexcept;
  // A sandbox refuses epoll: from now on each poll asks ppoll(2) about everything that is waited
  // for.
  void go_without_epoll() noexcept;
  bool poll_by_ppoll(const timespec* timeout, const std::uint64_t* mask) noexcept;
  bool nap(const timespec* timeout, const std::uint64_t* mask) noexcept;
  // Wakes the waiters of a descriptor with these events.
  void wake_waiters(slot& s, std::uint32_t events) noexcept;
  bool enter_ring(unsigned least, const timespec* timeout, const std::uint64_t* mask) noexcept;
  void lose_ring() noexcept;
  void finish(ring_receive& r, long result) noexcept;
  bool open_slow() noexcept;
  static bool make_doorbell(int epoll, std::atomic<int>& doorbell, bool& has_sources) noexcept;
  // Checks whether our descriptors are still ours, if the last check was a while ago; if not, makes
  // new ones.
  void make_sure() noexcept;
  void make_sure_now() noexcept;
  bool is_whole() const noexcept;
  // The program has closed our epoll instance unseen: makes a new one and registers all waiters
  // again.
  void rebuild() noexcept;
  void register_all() noexcept;
  void wake_all(source s) noexcept;
  void keep_above(int fd) noexcept;
  // fd now refers to another file than the one waited for: it was closed unseen.
  void was_replaced(int fd) noexcept;

  const hub_part report_;
  std::atomic<int> epoll_{-1};
  std::atomic<bool> without_epoll_{false};
  std::atomic<int> doorbell_{-1};
  bool shares_ = false;
  bool has_sources_ = false;     // the doorbell is a socket that holds them, not an eventfd
  std::uint64_t made_sure_ = 0;  // arch::ticks() at the last make_sure_now()
  std::size_t waiting_ = 0;
  list<source_waiter> on_source_[2];
  watched_descriptors slots_;
  // As many as can have their turn before the hub polls again (hub::needs_refill): so what the
  // kernel and we have touched of a descriptor is still in the cache when its fiber runs. With 256
  // at a time 10,000 busy connections take a tenth longer, since the run queue grows to thousands.
  epoll_event events_[32];
  receive_ring ring_;
};

}  // namespace tendril::core
