// The runtime's own descriptors. They share the descriptor table with the program's, so they stay
// out of its way: on the highest numbers that the limits allow, never on 0 to 2, close-on-exec, and
// opened while the process has only one kernel thread where possible (growing a table that several
// threads share takes milliseconds).
//
// The program may close them, or put files of its own on their numbers, by system calls that we do
// not see. So each description is marked, and the table of descriptors says which object of the
// runtime owns a number: a descriptor without both is the program's, and is neither used nor
// closed.
#pragma once

#include "events/descriptors.hpp"

namespace tendril::core::own_descriptors {

// Moves fd, which was just opened (negative: an error, which is returned), to a high number as
// `owner`'s. Returns the new number, or -errno with fd closed. With `may_stay`, it stays where it
// is if no higher number is free and it is above 2.
int keep(int fd, const void* owner, bool may_stay) noexcept;
// Duplicates owner's fd to a number above `least`, if there is one; fd stays open. Returns -errno
// if there is none.
int move(int fd, const void* owner, int least) noexcept;
// Whether fd still is what keep() or move() returned for that owner.
bool is_kept(int fd, const void* owner) noexcept;
// The same as far as the runtime's own calls go: the program may have replaced the file unseen, but
// the number has not become another owner's. Async-signal-safe, and no system call.
bool is_listed(int fd, const void* owner) noexcept;
// Whether fd belongs to the runtime, whoever its owner is.
bool is_kept(int fd) noexcept;
// Makes fd another owner's. False: the program has replaced it.
bool hand_over(int fd, const void* owner, const void* to) noexcept;
// Closes owner's fd, unless the program has replaced it.
void release(int fd, const void* owner) noexcept;
// The program has been given the number: from now on its own file is there.
void give_up(int fd) noexcept;
// The limit below which our descriptors are kept: for the current resource limit, and a program
// that has reached the number `programs`.
unsigned highest(int programs = 0) noexcept;

// While an object of this class lives, the process may open descriptors up to its hard limit:
// descriptors opened with the first thread are placed above the soft limit, where the program does
// not miss their numbers. It does nothing if another kernel thread could notice.
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
