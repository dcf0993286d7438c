// What one poller knows of each descriptor: its waiters, how it is registered, what its stream is
// known to contain.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>

#include "base/list.hpp"
#include "events/descriptors.hpp"
#include "events/io_waiter.hpp"
#include "events/stream_state.hpp"
#include "events/waiter_count.hpp"

namespace tendril::core {

struct watched_descriptor {
  list<io_waiter> waiters;
  waiter_count listed;
  std::atomic<std::uint32_t> registered;  // the generation that is registered, plus one; 0: none
  // the generation that the ring has received from, plus one; 0: none
  std::uint32_t received;
  // registered while another kernel thread was closing the number: only after the close is it
  // known which file is registered, and wake_closed() then makes the waiters try again
  bool unsettled;
  // how many edges have come since a fiber last waited: see poller::drop_unwanted()
  std::uint8_t unwanted;
  stream_state stream;

  bool is_registered(std::uint32_t generation) const noexcept {
    return registered.load(std::memory_order_relaxed) == generation + 1;
  }
};

// The descriptors by number. It must lie in zeroed memory, as the hub does: the table takes 128 KB,
// of which a page or two are used.
class watched_descriptors {
 public:
  ~watched_descriptors() { drop(); }
  // Null: there is no entry. Any thread.
  watched_descriptor* at(int fd) noexcept {
    if (fd < 0 || fd >= descriptors::limit) [[unlikely]]
      return nullptr;
    watched_descriptor* d =
        std::atomic_ref(chunks_[fd / per_chunk]).load(std::memory_order_acquire);
    return d ? d + fd % per_chunk : nullptr;
  }
  // Adds the entry if there is none. Null: no memory, or no descriptor.
  watched_descriptor* make(int fd) noexcept {
    watched_descriptor* d = at(fd);
    if (d || fd < 0 || fd >= descriptors::limit) [[likely]]
      return d;
    return make_chunk(fd / per_chunk) ? at(fd) : nullptr;
  }
  // Calls f(watched_descriptor&, fd) for each entry.
  template <class F>
  void for_each(F f) noexcept {
    for (int c = 0; c < end_; c++) {
      watched_descriptor* d = chunks_[c];
      for (int i = 0; d && i < per_chunk; i++) f(d[i], c * per_chunk + i);
    }
  }
  void drop() noexcept {
    for (int i = 0; i < end_; i++) {
      if (chunks_[i]) sys::unmap(chunks_[i], per_chunk * sizeof(watched_descriptor));
      chunks_[i] = nullptr;
    }
    end_ = 0;
  }

 private:
  static constexpr int per_chunk = 1024;
  [[gnu::noinline]] bool make_chunk(int i) noexcept {
    auto* d = static_cast<watched_descriptor*>(sys::map(per_chunk * sizeof(watched_descriptor)));
    if (!d) return false;
    std::atomic_ref(chunks_[i]).store(d, std::memory_order_release);
    if (i >= end_) end_ = i + 1;
    return true;
  }

  watched_descriptor* chunks_[descriptors::limit / per_chunk];  // null from end_ on
  int end_ = 0;
};

}  // namespace tendril::core
