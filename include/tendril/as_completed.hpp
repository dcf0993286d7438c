// Waiting for many futures at once.
//
//   for (auto& f : tendril::as_completed(futures)) use(f.get());   // the first that is done comes first
//
// Any kernel thread may call these. The waits are cancellation points.
// (concurrent.futures.as_completed, wait)
#pragma once

#include <deque>
#include <ranges>
#include <string>
#include <vector>

#include "detail/pull.hpp"
#include "future.hpp"

namespace tendril {

// Futures in the order of their completion: what as_completed() gives. Used by one fiber at a time.
template <class R>
class completions {
 public:
  // The next future that is done; none when all have been given. Past the time-out:
  // std::system_error with std::errc::timed_out; it may be called again.
  std::optional<future<R>> next() {
    if (given_ == total_) return {};
    std::unique_lock lock(shared_->mutex);
    if (!shared_->arrival.wait(lock, deadline_, [&] { return !shared_->done.empty(); })) {
      throw std::system_error(std::make_error_code(std::errc::timed_out),
                              std::to_string(total_ - given_) + " (of " + std::to_string(total_) +
                                  ") futures unfinished");
    }
    future<R> f = std::move(shared_->done.front());
    shared_->done.pop_front();
    given_++;
    return f;
  }
  auto begin() { return detail::pull_iterator<completions, future<R>>(*this); }
  std::default_sentinel_t end() const noexcept { return {}; }

  template <class Futures>
  completions(Futures&& futures, std::chrono::steady_clock::time_point deadline)
      : deadline_(deadline) {
    for (const future<R>& f : futures) {
      total_++;
      f.add_done_callback([shared = shared_](const future<R>& done) {
        std::lock_guard lock(shared->mutex);
        shared->done.push_back(done);
        shared->arrival.notify_one();
      });
    }
  }

 private:
  struct arrivals {
    std::mutex mutex;
    detail::remote_wait arrival;
    std::deque<future<R>> done;
  };
  std::shared_ptr<arrivals> shared_ = std::make_shared<arrivals>();
  std::chrono::steady_clock::time_point deadline_;
  std::size_t total_ = 0, given_ = 0;
};

// The futures of a range, each when it is done; those that are done already come first, in their
// order.
template <std::ranges::input_range Futures>
  requires detail::is_future<std::ranges::range_value_t<Futures>>
auto as_completed(Futures&& futures) {
  using result = typename std::ranges::range_value_t<Futures>::result_type;
  return completions<result>(futures, std::chrono::steady_clock::time_point::max());
}
// The same, for at most `timeout` from now in all.
template <std::ranges::input_range Futures, class Rep, class Period>
  requires detail::is_future<std::ranges::range_value_t<Futures>>
auto as_completed(Futures&& futures, std::chrono::duration<Rep, Period> timeout) {
  using result = typename std::ranges::range_value_t<Futures>::result_type;
  return completions<result>(futures, detail::later(timeout));
}

// When wait_futures() returns.
enum class return_when { all_completed, first_completed, first_exception };

template <class R>
struct waited_futures {
  std::vector<future<R>> done, not_done;
};

// Waits until the futures of a range are done: all of them, the first, or the first that ended by
// an exception (or all, if none does; a cancelled one does not count). Returns which are and which
// are not, in their order.
template <std::ranges::forward_range Futures>
  requires detail::is_future<std::ranges::range_value_t<Futures>>
auto wait_futures(
    Futures&& futures, return_when when = return_when::all_completed,
    std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max()) {
  using result = typename std::ranges::range_value_t<Futures>::result_type;
  completions<result> arriving(futures, deadline);
  try {
    while (auto f = arriving.next()) {
      if (when == return_when::first_completed) break;
      if (when == return_when::first_exception && !f->cancelled() && f->exception()) break;
    }
  } catch (const std::system_error& e) {
    if (e.code() != std::errc::timed_out) throw;
  }
  waited_futures<result> r;
  for (const future<result>& f : futures) (f.done() ? r.done : r.not_done).push_back(f);
  return r;
}
// The same, for at most `timeout`.
template <std::ranges::forward_range Futures, class Rep, class Period>
auto wait_futures(Futures&& futures, return_when when, std::chrono::duration<Rep, Period> timeout) {
  return wait_futures(futures, when, detail::later(timeout));
}

}  // namespace tendril
