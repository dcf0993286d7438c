// Iteration by range-based for over an object whose next() returns a std::optional, empty at the
// end. Not for programs.
#pragma once

#include <cstddef>
#include <iterator>
#include <optional>
#include <utility>

namespace tendril::detail {

// An input iterator; each increment calls next().
template <class Source, class Item>
class next_iterator {
 public:
  using iterator_concept = std::input_iterator_tag;
  using value_type = Item;
  using difference_type = std::ptrdiff_t;

  explicit next_iterator(Source& s) : source_(&s), item_(s.next()) {}
  next_iterator(next_iterator&&) = default;
  next_iterator& operator=(next_iterator&&) = default;

  Item& operator*() const noexcept { return *item_; }
  Item* operator->() const noexcept { return &*item_; }
  next_iterator& operator++() {
    item_ = source_->next();
    return *this;
  }
  void operator++(int) { ++*this; }
  friend bool operator==(const next_iterator& i, std::default_sentinel_t) noexcept {
    return !i.item_;
  }

 private:
  Source* source_;
  mutable std::optional<Item> item_;
};

}  // namespace tendril::detail
