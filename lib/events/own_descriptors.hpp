// Descriptors of the runtime's own. They share the table with the program's, so they stay out of
// its way: on the highest numbers that the limits allow, never on 0 to 2, close-on-exec, and opened
// while the process has one kernel thread where that is possible (a table that several share grows
// only after milliseconds).
//
// The program may close them, or put a file of its own on their numbers, by system calls that
// nobody sees. So each description is marked, and the table of descriptors says which object of the
// runtime a number belongs to: what does not carry both is the program's, and is neither used nor
// closed.
#pragma once

#include "events/descriptors.hpp"

namespace tendril::core::own_descriptors {

// Moves fd, which was opened just now (below zero: an error, which is returned), up and out of the
// way, as `owner`'s. Returns the new number, or -errno with fd closed. `may_stay`: it stays where
// it is if nothing higher is free and it is above 2.
int keep(int fd, const void* owner, bool may_stay) noexcept;
// Duplicates owner's fd to a number that is higher than `least`, if there is one; fd stays open.
// -errno: there is none.
int move(int fd, const void* owner, int least) noexcept;
// Whether fd still is what keep() or move() gave to that owner.
bool is_kept(int fd, const void* owner) noexcept;
// Whether fd is the runtime's, whoever its owner is.
bool is_kept(int fd) noexcept;
// Closes owner's fd, unless the program has taken its number.
void release(int fd, const void* owner) noexcept;
// The program has been given the number: its file stands there from now on.
void give_up(int fd) noexcept;
// Below which number descriptors are kept, as the limit is now and if the program has come to that
// number.
unsigned highest(int programs = 0) noexcept;

// While one lives, the process may open descriptors up to its hard limit: what is opened with the
// first thread is put above the soft limit, where the program cannot miss its number. Only while
// nobody else could see that.
class raised_limit {
 public:
  raised_limit() noexcept;
  ~raised_limit();
  raised_limit(const raised_limit&) = delete;

 private:
  std::uint64_t before_[2];
  bool raised_ = false;
};

}  // namespace tendril::core::own_descriptors
