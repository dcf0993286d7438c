// The poller of one hub: which fibers wait for which descriptors, on one epoll instance; and what
// they have the kernel carry out meanwhile, on an io_uring, if the program is run with
// TENDRIL_POLLER=io_uring.
//
// A descriptor is registered once, edge-triggered and for everything, when a fiber first waits for
// it, and stays registered until it is closed: under the shim, waiting costs no system call after
// that. Edge-triggering is safe because whoever waits has tried first and was refused: what happens
// after the try is an edge that is still to be reported. An edge wakes every fiber that waits for
// it; all but one may try in vain and wait again.
#pragma once

#include <sys/epoll.h>

#include <cstdint>

#include "base/list.hpp"
#include "events/descriptors.hpp"
#include "events/receive_ring.hpp"
#include "events/stream_state.hpp"
#include "fiber/fiber.hpp"

namespace tendril::core {

// What the process is told of that no descriptor of the program's stands for.
enum class source : std::uint8_t {
  signals,  // one has come that the kernel thread blocks
  clock,    // somebody has set a clock
};

// One fiber's wait for one of these; lives in its frame while it is parked.
struct source_waiter : list_node {
  fiber* who = nullptr;
};

// A descriptor that a waiting fiber has opened for itself: see poller::keep(). It lies in the
// poller's memory, not in the frame of the wait, which a handler may leave by siglongjmp.
struct kept_descriptor : list_node {
  int fd = -1;
  const fiber* who = nullptr;   // whose wait it is for; null: it is free
  const void* frame = nullptr;  // where that wait stands
};

// It has two descriptors of its own (own_descriptors.hpp): the epoll instance, and the doorbell
// (doorbell.hpp).
//
// Before it sleeps the poller looks whether both are still there, at most every tenth of a
// millisecond. If not, it makes new ones and registers all waiters again; and where there are none
// to be had (RLIMIT_NOFILE), it asks ppoll(2) every few milliseconds, for nobody can ring.
class poller {
 public:
  // What it has the hub do.
  struct hub_part {
    void (*wake)(fiber*, core::wake) noexcept;  // as hub::wake
    // as forget_descriptor() and wake_closed_waiters()
    void (*forget)(int fd) noexcept;
    void (*wake_closed)(int fd) noexcept;
  };
  explicit poller(const hub_part& report) noexcept : report_(report) {}
  ~poller();
  // Lists the waiter; 0, or -errno of epoll_ctl: -EPERM for files, which are always ready.
  int add(io_waiter& w) noexcept;
  void remove(io_waiter& w) noexcept;
  // Whether the waiter's descriptor is still the file that it waits for, as far as it can be known.
  bool still_stands(const io_waiter& w) noexcept;
  bool has_waiters() const noexcept { return waiting_ > 0; }
  // Lists a waiter for a source. Whether the source tells of everything; if not, the waiter has to
  // look by itself.
  bool add(source_waiter& w, source s) noexcept;
  void remove(source_waiter& w) noexcept;
  // Keeps fd, opened just now, out of the program's way until drop(); in a child of fork it is
  // closed. `frame`: where the wait that it is for stands. Null: there is no place for it, and it
  // is closed.
  kept_descriptor* keep(int fd, const void* frame) noexcept;
  void drop(kept_descriptor& k) noexcept;
  // Makes the epoll instance, if there is none yet; false: no descriptors left. interrupt() works
  // from here on.
  bool open() noexcept {
    return epoll_.load(std::memory_order_relaxed) >= 0 ||
           without_epoll_.load(std::memory_order_relaxed) || open_slow();
  }
  // Waits for events (null: for ever), and wakes the fibers concerned. Returns false
  // when a signal ended the wait, with that signal mask if it is not null. May return early.
  bool poll(const timespec* timeout, const std::uint64_t* mask = nullptr) noexcept;
  // fd is about to be closed: it is taken out of the epoll instance, unless its description ends
  // with it, which does that as well. (Should a duplicate keep it alive, what is told of it means
  // nothing to anybody.) Any thread.
  void forget(int fd, std::uint32_t generation, bool ends) noexcept;
  // Wakes everybody whose descriptor has been closed since. Own thread.
  void wake_closed(int fd) noexcept;
  void wake_all_closed() noexcept;
  // Interrupts poll() from another thread, or from a signal handler. False: the descriptors for
  // that have been closed.
  bool interrupt() noexcept;
  // After fork: the epoll instance is the parent's, and so are the waiters.
  void after_fork() noexcept;
  // The same for the poller of a kernel thread that is not in the child: closes what it left there.
  void close_inherited() noexcept;

  // --- receiving by io_uring ---
  // Why the kernel cannot carry out receives, in words; null: it can.
  static const char* ring_obstacle() noexcept { return receive_ring::obstacle(); }
  // Whether it is to do so here, and nothing has stood in the way yet.
  bool wants_ring() noexcept { return ring_.is_wanted(); }
  // Whether a receive from fd is likely to find nothing: the last one got less than it asked for.
  // (Nothing depends on it.)
  bool seems_empty(int fd) noexcept;
  // Begins it, and lists it as the waiter that it is. The kernel hears of it when the hub looks at
  // events, unless fd is closed before. False: it cannot. wants_ring().
  bool begin(ring_receive& r) noexcept;
  // Cancels it if it has not ended yet, and waits for its end.
  void end(ring_receive& r) noexcept;

  // The program wants this number, which may be one of ours: moves our file behind it to another
  // one. Any thread.
  void make_way(int fd) noexcept;

  // --- whether trying to receive is vain: see stream_state ---
  // The fiber is about to receive from fd; then, that it got less than it asked for. (The number
  // tells whether anything came between: a signal handler may run there, and others meanwhile.)
  std::uint32_t begin_receive(int fd) noexcept {
    slot* s = at(fd);
    return s ? s->stream.begin_receive() : 0;
  }
  void received_all(int fd, std::uint32_t begun) noexcept {
    if (slot* s = at(fd)) s->stream.received_all(begun);
  }
  // Whether there was nothing left, as far as has been told. Of a connection that we have made and
  // not waited for yet it is likely, since who connects speaks first; what is there after all is
  // told as soon as one waits.
  bool drained(int fd) noexcept {
    if (!stream_state::are_plain()) return false;
    slot* s = at(fd);
    bool watched =
        s && s->registered.load(std::memory_order_relaxed) == descriptors::generation(fd) + 1;
    return watched ? s->stream.is_drained() : descriptors::is_connection(fd);
  }

 private:
  struct slot {
    list<io_waiter> waiters;
    std::atomic<std::uint32_t> registered;  // the generation that is registered, plus one; 0: none
    // the generation that was received by the ring, plus one; 0: none
    std::uint32_t received;
    // registered while another kernel thread was closing the number: which file is registered shows
    // when it has closed it, and wake_closed() sees to it
    bool unsettled;
    stream_state stream;
  };
  static constexpr int per_chunk = 1024;
  static constexpr int ahead = 4;
  void fetch_ahead(int i, int n) noexcept;
  // The descriptor's; null: there is none. The second makes it: null: no memory, or no descriptor.
  slot* at(int fd) noexcept {
    if (fd < 0 || fd >= descriptors::limit) [[unlikely]]
      return nullptr;
    slot* s = std::atomic_ref(chunks_[fd / per_chunk]).load(std::memory_order_acquire);
    return s ? s + fd % per_chunk : nullptr;
  }
  slot* make(int fd) noexcept {
    slot* s = at(fd);
    if (s || fd < 0 || fd >= descriptors::limit) [[likely]]
      return s;
    return make_chunk(fd / per_chunk) ? at(fd) : nullptr;
  }
  slot* make_chunk(int i) noexcept;
  void drop_chunks() noexcept;
  int watch(slot& s, const io_waiter& w, bool known) noexcept;
  int watch_anew(slot& s, io_waiter& w, bool known) noexcept;
  bool poll_epoll(const timespec* timeout, const std::uint64_t* mask) noexcept;
  bool poll_ring(const timespec* timeout, const std::uint64_t* mask) noexcept;
  // A sandbox refuses epoll: from now on each look asks ppoll(2) for all that is waited for.
  void go_without_epoll() noexcept;
  bool poll_by_ppoll(const timespec* timeout, const std::uint64_t* mask) noexcept;
  bool nap(const timespec* timeout, const std::uint64_t* mask) noexcept;
  // Wakes the waiters of a descriptor with these events.
  void tell_waiters(slot& s, std::uint32_t events) noexcept;
  bool enter_ring(unsigned least, const timespec* timeout, const std::uint64_t* mask) noexcept;
  void lose_ring() noexcept;
  void finish(ring_receive& r, long result) noexcept;
  bool open_slow() noexcept;
  bool make_doorbell(int epoll) noexcept;
  // Looks whether our descriptors are still ours, if the last look was a while ago; if not, makes
  // new ones.
  void make_sure() noexcept;
  void make_sure_now() noexcept;
  bool is_whole() const noexcept;
  // The program closed our epoll instance behind our back: makes a new one and registers all
  // waiters again.
  void rebuild() noexcept;
  void register_all() noexcept;
  void wake_all(source s) noexcept;
  void keep_above(int fd) noexcept;
  // The file of that number is another one than was waited for: nobody saw that it was closed.
  void was_replaced(int fd) noexcept;
  template <class F>
  void for_each_slot(F f) noexcept;

  const hub_part report_;
  std::atomic<int> epoll_{-1};
  std::atomic<bool> without_epoll_{false};
  std::atomic<int> doorbell_{-1};
  bool has_sources_ = false;     // the doorbell is a socket that keeps them; else an eventfd
  std::uint64_t made_sure_ = 0;  // arch::ticks() when it was
  std::size_t waiting_ = 0;
  list<source_waiter> on_source_[2];
  list<kept_descriptor> kept_, free_kept_;
  // Zero, as the hub's memory is when it is new: 128 KB of which a page or two are touched. Those
  // from chunk_end_ on are null.
  slot* chunks_[descriptors::limit / per_chunk];
  int chunk_end_ = 0;
  // No more at a time than have their turn until the hub looks again at the earliest
  // (hub::needs_refill): what the kernel and we have touched of a descriptor is in the cache
  // when its fiber runs. By 256 at a time 10,000 busy connections cost a tenth more, for the ready
  // queue grows to thousands.
  epoll_event events_[32];
  receive_ring ring_;
};

}  // namespace tendril::core
