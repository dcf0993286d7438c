// What the process knows of its descriptors: how often each number was closed, and which open file
// descriptions are private to it. Shared by all kernel threads.
#pragma once

#include <atomic>
#include <cstdint>

#include "events/descriptor.hpp"

namespace tendril::core {

class descriptors {
 public:
  static constexpr int limit = 1 << 24;
  // The entry for fd, made if it does not exist; null if fd is out of range or there is no memory.
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
  // As descriptor::settled_generation().
  static std::uint32_t settled_generation(int fd, bool& settled) noexcept {
    settled = true;
    descriptor* d = at(fd);
    return d ? d->settled_generation(settled) : 0;
  }
  // fd was just made, by a call that gives no other process access to its description.
  static void made_private(int fd) noexcept {
    if (descriptor* d = at(fd))
      d->private_since.store(stamp(*d, sharing_), std::memory_order_relaxed);
  }
  static bool is_private(int fd) noexcept {
    descriptor* d = at(fd);
    return d && d->private_since.load(std::memory_order_relaxed) == stamp(*d, sharing_);
  }
  // Whether the program closes fd, and changes how it blocks, only by our calls. Under the shim it
  // does, unless another preloaded library comes before the shim and bypasses it. If not, the
  // generation may be that of a file which has been closed.
  static bool sees_all(int fd) noexcept {
    if (shim_is_first_.load(std::memory_order_relaxed)) return true;
    return is_marked(fd, &descriptor::kept);
  }
  // From now on only our calls are made on fd.
  static void keep(int fd) noexcept { mark(fd, &descriptor::kept); }
  // To be called before there are fibers; only the first call looks.
  static void look_for_shim() noexcept;
  // Whether the number belongs to an object of the runtime. Makes no entry.
  static bool is_owned(int fd) noexcept {
    if (fd < 0 || fd >= limit) return false;
    const descriptor* c = chunks_[fd / per_chunk].load(std::memory_order_acquire);
    return c && c[fd % per_chunk].owner.load(std::memory_order_acquire);
  }
  // Calls f(fd) for every descriptor in [first, last] in a chunk that at() has made.
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
  // Descriptions have been shared (fork, SCM_RIGHTS): those that exist now are no longer private.
  static void shared() noexcept {
    sharing_.fetch_add(1, std::memory_order_relaxed);
    modes_changed();
  }
  // How calls on descriptors block (O_NONBLOCK, a socket's time-outs) has changed somewhere.
  // Forgets it for all descriptors, since several numbers may refer to one description.
  static void modes_changed() noexcept { modes_.fetch_add(1, std::memory_order_relaxed); }
  // fd was just made, as a blocking socket.
  static void made_waiting(int fd) noexcept {
    descriptor* d = at(fd);
    if (!d) return;
    d->receives_blocking.store(mode_stamp(*d), std::memory_order_relaxed);
    d->sends_blocking.store(mode_stamp(*d), std::memory_order_relaxed);
  }
  static void made_inet_stream(int fd) noexcept { mark(fd, &descriptor::inet_stream); }
  // Whether fd is known to be a stream over IP on which the program cannot have set up anything
  // that we did not see.
  static bool is_inet_stream(int fd) noexcept {
    return sees_all(fd) && is_marked(fd, &descriptor::inet_stream);
  }
  // One of our calls has connected fd, which is such a stream.
  static void made_connection(int fd) noexcept { mark(fd, &descriptor::connected); }
  static bool is_connection(int fd) noexcept {
    return sees_all(fd) && is_marked(fd, &descriptor::connected);
  }
  static std::uint64_t mode_stamp(const descriptor& d) noexcept { return stamp(d, modes_); }

 private:
  // A property that holds for one generation of a number is stored as that generation plus one.
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
  // The number's generation, and the age of what is known of all descriptors. Never zero.
  static std::uint64_t stamp(const descriptor& d, const std::atomic<std::uint32_t>& age) noexcept {
    return (std::uint64_t(d.generation.load(std::memory_order_relaxed)) << 32 |
            age.load(std::memory_order_relaxed)) +
           1;
  }
};

}  // namespace tendril::core
