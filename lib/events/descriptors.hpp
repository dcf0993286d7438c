// What the process knows of its descriptors: how often each number was closed, and which
// descriptions nobody else can see. Shared by all kernel threads.
//
// A number that is closed and opened again is another file: whoever remembers something of a
// descriptor remembers its generation too, and forgets when they differ.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/sys.hpp"

namespace tendril::core {

struct alignas(64) descriptor {  // a line of the cache for each
  std::atomic<std::uint32_t> generation{0};
  // the new generation has been told, but the old file may still be there
  std::atomic<bool> closing{false};
  // posix::file_kind in the low three bits, the generation it holds for above
  std::atomic<std::uint32_t> kind{0};
  // only our calls are made on it: the generation for which that holds, plus one
  std::atomic<std::uint32_t> kept{0};
  // Made by a call of this process that we saw, and since then neither inherited by a child nor
  // sent to anybody: the descriptors::stamp() of that time.
  std::atomic<std::uint64_t> private_since{0};
  // Calls on it wait without end, for it is private, and the program made it neither non-blocking
  // nor gave it a time-out for receiving, or for sending: the descriptors::mode_stamp() for which
  // that was found.
  std::atomic<std::uint64_t> receives_blocking{0}, sends_blocking{0};
  // Made by a call of ours as a stream socket over IP: the generation for which that holds, plus
  // one.
  std::atomic<std::uint32_t> inet_stream{0};
  std::atomic<std::uint32_t> connected{0};  // by us, too: the same
  // the object of the runtime that uses it (own_descriptors.hpp); null: none
  std::atomic<const void*> owner{nullptr};
};

class descriptors {
 public:
  static constexpr int limit = 1 << 24;
  // The entry for fd, made when it does not exist; null for numbers out of range, or without
  // memory.
  static descriptor* at(int fd) noexcept {
    if (fd < 0 || fd >= limit) return nullptr;
    descriptor* c = chunks_[fd / per_chunk].load(std::memory_order_acquire);
    if (!c) c = add_chunk(fd / per_chunk);
    return c ? c + fd % per_chunk : nullptr;
  }
  static std::uint32_t generation(int fd) noexcept {
    descriptor* d = at(fd);
    return d ? d->generation.load(std::memory_order_acquire) : 0;
  }
  // The generation of the file that fd stands for, for a caller that is about to watch it: not that
  // of a successor while another kernel thread is between telling and closing. That takes a moment,
  // but a thread may have lost its processor there, or been cancelled: then `settled` is false, and
  // the generation may be the successor's though the old file is still open.
  static std::uint32_t settled_generation(int fd, bool& settled) noexcept {
    settled = true;
    descriptor* d = at(fd);
    if (!d) return 0;
    for (int tries = 0;; tries++) {
      std::uint32_t g = d->generation.load(std::memory_order_acquire);
      settled = !d->closing.load(std::memory_order_acquire);
      if (settled || tries == 1000) return g;
      sys::call(SYS_sched_yield);
    }
  }
  // fd was made just now, by a call that gives nobody else access to its description.
  static void made_private(int fd) noexcept {
    if (descriptor* d = at(fd))
      d->private_since.store(stamp(*d, sharing_), std::memory_order_relaxed);
  }
  static bool is_private(int fd) noexcept {
    descriptor* d = at(fd);
    return d && d->private_since.load(std::memory_order_relaxed) == stamp(*d, sharing_);
  }
  // Whether the program closes fd, and changes how it waits, by our calls only: under the shim it
  // does, unless another preloaded library stands in front of that, which may go past it. If not,
  // the generation may be that of a file which is gone.
  static bool sees_all(int fd) noexcept {
    if (shim_is_first_.load(std::memory_order_relaxed)) return true;
    return is_marked(fd, &descriptor::kept);
  }
  // Only our calls are made on fd from now on.
  static void keep(int fd) noexcept { mark(fd, &descriptor::kept); }
  // To be called before there are fibers; the first call looks.
  static void look_for_shim() noexcept;
  // Whether the number was given to an object of the runtime. Makes no entry.
  static bool is_owned(int fd) noexcept {
    if (fd < 0 || fd >= limit) return false;
    const descriptor* c = chunks_[fd / per_chunk].load(std::memory_order_acquire);
    return c && c[fd % per_chunk].owner.load(std::memory_order_acquire);
  }
  // Calls f(fd) for every descriptor in [first, last] that at() was ever asked for.
  template <class F>
  static void each_known(unsigned first, unsigned last, F f) noexcept {
    if (last >= unsigned(limit)) last = limit - 1;
    for (unsigned c = first / per_chunk; c <= last / per_chunk && first <= last; c++) {
      if (!chunks_[c].load(std::memory_order_acquire)) continue;
      for (unsigned i = 0; i < per_chunk; i++) {
        unsigned fd = c * per_chunk + i;
        if (fd >= first && fd <= last) f(int(fd));
      }
    }
  }
  // Descriptions were shared (fork, SCM_RIGHTS): none that exists now counts as private any more.
  static void shared() noexcept {
    sharing_.fetch_add(1, std::memory_order_relaxed);
    modes_changed();
  }
  // What is known of how calls on descriptors wait holds no more (O_NONBLOCK, a socket's
  // time-outs): for all, since several numbers may stand for one description.
  static void modes_changed() noexcept { modes_.fetch_add(1, std::memory_order_relaxed); }
  // fd was made just now, as a socket that waits; as a stream over IP.
  static void made_waiting(int fd) noexcept {
    descriptor* d = at(fd);
    if (!d) return;
    d->receives_blocking.store(mode_stamp(*d), std::memory_order_relaxed);
    d->sends_blocking.store(mode_stamp(*d), std::memory_order_relaxed);
  }
  static void made_inet_stream(int fd) noexcept { mark(fd, &descriptor::inet_stream); }
  // Whether fd is known to be a stream over IP that nobody could have put anything on that we did
  // not see.
  static bool is_inet_stream(int fd) noexcept {
    return sees_all(fd) && is_marked(fd, &descriptor::inet_stream);
  }
  // A call of ours has connected fd, such a stream.
  static void made_connection(int fd) noexcept { mark(fd, &descriptor::connected); }
  static bool is_connection(int fd) noexcept {
    return sees_all(fd) && is_marked(fd, &descriptor::connected);
  }
  static std::uint64_t mode_stamp(const descriptor& d) noexcept { return stamp(d, modes_); }

 private:
  // What holds for one generation of a number: that, plus one.
  static void mark(int fd, std::atomic<std::uint32_t> descriptor::*what) noexcept {
    descriptor* d = at(fd);
    if (d)
      (d->*what).store(d->generation.load(std::memory_order_relaxed) + 1,
                       std::memory_order_relaxed);
  }
  static bool is_marked(int fd, std::atomic<std::uint32_t> descriptor::*what) noexcept {
    descriptor* d = at(fd);
    return d && (d->*what).load(std::memory_order_relaxed) ==
                    d->generation.load(std::memory_order_relaxed) + 1;
  }
  static std::atomic<bool> shim_is_first_;
  static constexpr int per_chunk = 4096;
  static descriptor* add_chunk(int i) noexcept;
  static std::atomic<descriptor*> chunks_[limit / per_chunk];
  static std::atomic<std::uint32_t> sharing_, modes_;
  // Of the file that the number stands for now, and an age of what is known of all; never zero.
  static std::uint64_t stamp(const descriptor& d, const std::atomic<std::uint32_t>& age) noexcept {
    return (std::uint64_t(d.generation.load(std::memory_order_relaxed)) << 32 |
            age.load(std::memory_order_relaxed)) +
           1;
  }
};

}  // namespace tendril::core
