// Waiting for many futures at once.
//
//   for (auto& f : tendril::as_completed(futures)) use(f.get());   // in the order of completion
//
// Any kernel thread may call these functions. Each wait is a cancellation point: it throws what
// kill() or a timeout delivers. All throw `error` for a future without a result (valid() is false).
// (concurrent.futures: as_completed, wait)
#pragma once

#include "detail/cxx20.hpp"

#include <deque>
#include <ranges>
#include <string>
#include <vector>

#include "detail/next_iterator.hpp"
#include "future.hpp"

namespace tendril {

// The futures of a range in the order of their completion: what as_completed() returns. One fiber
// at a time may use it.
template <class R>
class [[nodiscard("nothing is waited for until it is iterated over")]] completions {
 public:
  // Waits for the next future to be done and returns it; returns an empty optional when all have
  // been returned. If the time-out passes first, throws std::system_error with
  // std::errc::timed_out; next() may be called again.
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
  auto begin() { return detail::next_iterator<completions, future<R>>(*this); }
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

// Returns the futures of a range one by one, each as soon as it is done. Futures that are done
// already come first, in the order of the range. (concurrent.futures.as_completed)
template <std::ranges::input_range Futures>
  requires detail::is_future<std::ranges::range_value_t<Futures>>
auto as_completed(Futures&& futures) {
  using result = typename std::ranges::range_value_t<Futures>::result_type;
  return completions<result>(futures, std::chrono::steady_clock::time_point::max());
}
// The same, with one time-out for the whole iteration: `timeout` from now.
template <std::ranges::input_range Futures, class Rep, class Period>
  requires detail::is_future<std::ranges::range_value_t<Futures>>
auto as_completed(Futures&& futures, std::chrono::duration<Rep, Period> timeout) {
  using result = typename std::ranges::range_value_t<Futures>::result_type;
  return completions<result>(futures, detail::later(timeout));
}

// The condition on which wait_futures() returns.
enum class return_when { all_completed, first_completed, first_exception };

template <class R>
struct waited_futures {
  std::vector<future<R>> done, not_done;
};

// Waits until all futures of a range are done, until the first is, or until the first ends with an
// exception (or all are done without one; a cancelled future does not count as one). Returns the
// done and the pending futures, each in the order of the range. Does not throw when the deadline
// passes. (concurrent.futures.wait)
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
