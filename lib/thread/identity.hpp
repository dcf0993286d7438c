// A thread's identity: its user and groups (credentials(7)). The kernel keeps one for each kernel
// thread. The C library's setuid() and its kin change those of all threads alike, but setfsuid(2),
// setfsgid(2) and raw system calls change only the calling thread's. Fibers that stand for threads
// share a kernel thread, so from the first such call on each switch carries the identity.
//
// That requires that every step can be undone. Where a step cannot, the process ends, so that no
// thread goes on with another thread's identity.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace tendril::core {

struct thread_storage;

struct identity {
  struct ids {
    std::uint32_t real, effective, saved, fs;
    bool operator==(const ids&) const noexcept = default;
  };
  ids user, group;
  unsigned groups;  // the number of group ids that follow this struct

  const std::uint32_t* list() const noexcept {
    return reinterpret_cast<const std::uint32_t*>(this + 1);
  }
  std::uint32_t* list() noexcept { return reinterpret_cast<std::uint32_t*>(this + 1); }
  bool same_groups(const identity& other) const noexcept;
  bool operator==(const identity& other) const noexcept {
    return user == other.user && group == other.group && same_groups(other);
  }
};

// Memory for an identity with that many groups; the calling kernel thread's identity; a copy. All
// come from malloc(), null if there is no memory. Must not be called inside the runtime.
identity* room_for_identity(unsigned groups) noexcept;
identity* own_identity() noexcept;
identity* copy_of(const identity& i) noexcept;
// Reads the calling kernel thread's identity; `room` is the number of groups that `i` has room for.
void read_identity(identity& i, unsigned room) noexcept;
// Changes the calling kernel thread's identity from `from` to `to`. The order is: the effective
// user becomes root if the real or saved one is, then the groups, the group, and last the user.
// Returns false if the kernel refused a step.
bool take_on(const identity& from, const identity& to) noexcept;
// The same for a switch from one thread to another, but a refusal ends the process.
void carry_identity(const thread_storage& from, const thread_storage& to) noexcept;
[[noreturn]] void cannot_be_undone() noexcept;

// The identity of threads that have none of their own, and of helpers between jobs. Null: no thread
// has one of its own, and the kernel's applies to all.
extern identity* common_identity;

}  // namespace tendril::core
