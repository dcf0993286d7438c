// The timers of one hub for which waking in the right millisecond is enough: a wheel. Starting and
// cancelling take the same time however many fibers wait, and the timers of a millisecond wake
// together.
//
// A bucket holds the timers that are due in one tick, or on the upper levels in 1,024 ticks or
// 1,024 times that; when these come near they cascade to a lower level. A bucket is a ring of
// chunks, since following a pointer from fiber to fiber would wait for memory at each. Timers whose
// tick has been reached are kept sorted, so that they fire in the order of their deadlines.
#pragma once

#include <algorithm>

#include "base/deadline.hpp"
#include "base/page_array.hpp"
#include "fiber/fiber.hpp"

namespace tendril::core {

class timer_wheel {
 public:
  bool empty() const noexcept { return count_ == 0; }
  // When to call turn() next: at the end of the first deadline's tick, or sooner, to cascade.
  nanoseconds next() const noexcept {
    return !count_ ? INT64_MAX : (first_due_ != due_count_ ? done_ : next_) * tick;
  }
  // Whether the deadline's tick is still to come.
  bool takes(nanoseconds at) const noexcept { return tick_of(at) > done_; }
  // Sets who->timer to its place; false: no memory. `now` may be somewhat old.
  bool start(fiber* who, nanoseconds at, nanoseconds now) noexcept {
    if (!count_) {
      next_ = INT64_MAX / tick;
      if (now / tick > done_) done_ = now / tick;
    }
    if (!due_.reserve(count_ + dead_ + 1) || !put({at, who})) return false;
    count_++;
    return true;
  }
  void cancel(std::uint32_t place) noexcept {
    count_--;
    units_[place].e.who = nullptr;
    if (chunk(chunk_at(place)).bucket == in_due) dead_++;
    else drop(chunk_at(place));
  }
  // Finds the timers that are due by `now`: first() and pop() return one after the other.
  void turn(nanoseconds now) noexcept {
    std::int64_t last = tick_of(now);
    if (next_ <= last && count_) {
      std::uint32_t kept = due_count_ - first_due_;
      std::copy(due_.data() + first_due_, due_.data() + due_count_, due_.data());
      first_due_ = 0, due_count_ = kept;
      do {
        done_ = next_ - 1;
        for (int level = levels - 1; level > 0; level--) {
          if (next_ % (1LL << bits * level) == 0) cascade(bucket_of(level, next_));
        }
        take(bucket_of(0, next_));
        done_ = next_;
        next_ = next_tick();
      } while (next_ <= last);
      if (due_count_ != kept) std::sort(due_.data(), due_.data() + due_count_);
    }
    if (done_ < last) done_ = last;
  }
  // The first fiber that is due, with its deadline; null: there is none, and `at` stays as it is.
  fiber* first(nanoseconds now, nanoseconds& at) noexcept {
    for (; first_due_ != due_count_ && due_[first_due_].at <= now; discard(), dead_--) {
      if (fiber* who = units_[due_[first_due_].place].e.who) {
        at = due_[first_due_].at;
        return who;
      }
    }
    return nullptr;
  }
  void pop() noexcept {
    discard();
    count_--;
  }
  void clear() noexcept {
    count_ = dead_ = first_due_ = due_count_ = free_ = 0;
    used_ = per_chunk;
    for (std::uint32_t& b : last_) b = 0;
    for (std::uint64_t& w : in_use_) w = 0;
  }

 private:
  static constexpr nanoseconds tick = 1'000'000;
  static constexpr int bits = 10, levels = 3, per_level = 1 << bits;
  static constexpr std::uint16_t in_due = 0xffff;
  struct entry {
    nanoseconds at;
    fiber* who;
  };
  struct head {
    std::uint32_t next, prev;  // of the ring
    std::uint16_t bucket;      // or in_due
    // how many entries are cancelled; in_due: how many entries due_ still refers to
    std::uint16_t gone;
  };
  // A chunk is a head and 15 entries. Its number is its head's; 0 is none.
  union unit {
    head h;
    entry e;
  };
  static constexpr std::uint32_t per_chunk = 16;
  struct due {
    nanoseconds at;
    std::uint32_t place;
    std::uint32_t order;  // among those with the same deadline
    bool operator<(const due& o) const noexcept { return at != o.at ? at < o.at : order < o.order; }
  };

  // Rounds up to the end of the tick, so that the timers of a tick fire when it is over.
  static std::int64_t tick_of(nanoseconds at) noexcept { return at / tick + (at % tick > 0); }
  static std::uint16_t bucket_of(int level, std::int64_t t) noexcept {
    return std::uint16_t(level * per_level + (t >> bits * level) % per_level);
  }
  head& chunk(std::uint32_t c) noexcept { return units_[c].h; }
  static std::uint32_t chunk_at(std::uint32_t place) noexcept { return place & ~(per_chunk - 1); }
  static bool is_full(std::uint32_t last) noexcept { return !last || (last + 1) % per_chunk == 0; }

  bool put(entry e) noexcept {
    std::int64_t t = tick_of(e.at);
    int level = 0;
    // How far ahead the tick is, in ticks of the level; 0: in the current one.
    auto ahead = [&]() noexcept { return (t >> bits * level) - (done_ >> bits * level); };
    while (ahead() > per_level && level < levels - 1) level++;
    // Too far ahead for the last level: put it into the farthest bucket, and cascade it from there,
    // perhaps back to the same bucket.
    if (ahead() > per_level) t = ((done_ >> bits * level) + per_level) << bits * level;
    std::uint16_t b = bucket_of(level, t);
    if (is_full(last_[b])) {
      if (!append(b)) return false;
      std::int64_t begin = t >> bits * level << bits * level;
      if (begin < next_) next_ = begin;
    }
    e.who->timer = ++last_[b];
    units_[last_[b]].e = e;
    return true;
  }
  // Adds a chunk at the end of the bucket.
  bool append(std::uint16_t b) noexcept {
    std::uint32_t c = free_;
    if (c) free_ = chunk(c).next;
    else if (units_.reserve(used_ + per_chunk)) c = used_, used_ += per_chunk;
    else return false;
    head& h = chunk(c);
    h = {.next = c, .prev = c, .bucket = b, .gone = 0};
    if (last_[b]) {
      h.prev = chunk_at(last_[b]), h.next = chunk(h.prev).next;
      chunk(h.next).prev = chunk(h.prev).next = c;
    }
    in_use_[b / 64] |= 1ULL << b % 64;
    last_[b] = c;
    return true;
  }
  void release(std::uint32_t c) noexcept {
    chunk(c).next = free_;
    free_ = c;
  }
  // An entry of that chunk has been cancelled.
  void drop(std::uint32_t c) noexcept {
    head& h = chunk(c);
    bool is_last = chunk_at(last_[h.bucket]) == c;
    if (++h.gone != (is_last ? last_[h.bucket] - c : per_chunk - 1)) return;
    if (h.next == c) {
      empty_out(h.bucket);
    } else {
      chunk(h.next).prev = h.prev, chunk(h.prev).next = h.next;
      if (is_last) last_[h.bucket] = h.prev + per_chunk - 1;
    }
    release(c);
  }
  // Empties the bucket. Returns its last entry.
  std::uint32_t empty_out(std::uint16_t b) noexcept {
    std::uint32_t last = last_[b];
    last_[b] = 0;
    in_use_[b / 64] &= ~(1ULL << b % 64);
    return last;
  }
  // Empties the bucket, and calls f(chunk, its last entry) for each chunk, in order.
  template <class F>
  void each_chunk(std::uint16_t b, F f) noexcept {
    std::uint32_t last = empty_out(b);
    if (!last) return;
    for (std::uint32_t c = chunk(chunk_at(last)).next, next;; c = next) {
      next = chunk(c).next;
      if (c == chunk_at(last)) return f(c, last);
      f(c, c + per_chunk - 1);
    }
  }
  void cascade(std::uint16_t b) noexcept {
    each_chunk(b, [this](std::uint32_t c, std::uint32_t last) noexcept {
      for (std::uint32_t place = c + 1; place <= last; place++) {
        if (units_[place].e.who && !put(units_[place].e)) sys::die("no memory for a timer");
      }
      release(c);
    });
  }
  void take(std::uint16_t b) noexcept {
    each_chunk(b, [this](std::uint32_t c, std::uint32_t last) noexcept {
      std::uint32_t before = due_count_;
      for (std::uint32_t place = c + 1; place <= last; place++) {
        if (units_[place].e.who)
          due_[due_count_] = {units_[place].e.at, place, due_count_}, due_count_++;
      }
      chunk(c).bucket = in_due;
      chunk(c).gone = std::uint16_t(due_count_ - before);
    });
  }
  void discard() noexcept {
    std::uint32_t c = chunk_at(due_[first_due_++].place);
    if (--chunk(c).gone == 0) release(c);
  }
  // The first tick after done_ in which there is something to do.
  std::int64_t next_tick() const noexcept {
    std::int64_t first = INT64_MAX / tick;
    for (int level = 0; level < levels; level++) {
      std::int64_t now = done_ >> bits * level;
      unsigned from = unsigned(now + 1) % per_level;
      const std::uint64_t* words = in_use_ + level * (per_level / 64);
      for (unsigned k = 0; k <= per_level / 64; k++) {
        unsigned w = (from / 64 + k) % (per_level / 64);
        std::uint64_t some = words[w];
        if (k == 0) some &= ~0ULL << from % 64;
        if (!some) continue;
        unsigned index = w * 64 + unsigned(__builtin_ctzll(some));
        std::int64_t t = (now + 1 + (index - from) % per_level) << bits * level;
        if (t < first) first = t;
        break;
      }
    }
    return first;
  }

  page_array<unit> units_;
  page_array<due> due_;
  std::uint32_t used_ = per_chunk;  // of units_
  std::uint32_t free_ = 0;          // a free chunk
  std::uint32_t count_ = 0;
  std::uint32_t dead_ = 0;  // cancelled, but due_ still refers to them
  std::uint32_t first_due_ = 0, due_count_ = 0;
  std::int64_t done_ = 0;                        // the last tick that has been processed
  std::int64_t next_ = 0;                        // there is nothing to do before this one
  std::uint32_t last_[levels * per_level] = {};  // each bucket's last entry; 0: empty
  std::uint64_t in_use_[levels * per_level / 64] = {};
};

}  // namespace tendril::core
