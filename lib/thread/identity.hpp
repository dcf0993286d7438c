// A thread's identity: its user, its groups (credentials(7)). The kernel keeps one for each of its
// threads, and the C library's setuid() and its kin change them all alike; but setfsuid(2),
// setfsgid(2) and bare system calls change the calling thread's only. Fibers that stand for threads
// share a kernel thread, so from the first such call on each switch carries it.
//
// That takes that every step can be undone. Where one cannot, the process ends: nobody goes on
// under another's identity.
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
  unsigned groups;  // how many follow this

  const std::uint32_t* list() const noexcept {
    return reinterpret_cast<const std::uint32_t*>(this + 1);
  }
  std::uint32_t* list() noexcept { return reinterpret_cast<std::uint32_t*>(this + 1); }
  bool same_groups(const identity& other) const noexcept;
  bool operator==(const identity& other) const noexcept {
    return user == other.user && group == other.group && same_groups(other);
  }
};

// Room for one with so many groups, the calling kernel thread's, and a copy. From malloc(); null:
// no memory. Not inside the runtime.
identity* room_for_identity(unsigned groups) noexcept;
identity* own_identity() noexcept;
identity* copy_of(const identity& i) noexcept;
// The calling kernel thread's, where there is room for so many groups.
void read_identity(identity& i, unsigned room) noexcept;
// Gives the calling kernel thread, which has `from`, another one: the user up to root if that is
// kept in reserve, groups, group, the user down. False: a step was refused.
bool take_on(const identity& from, const identity& to) noexcept;
// As that, on a switch from one thread to another, but it ends the process.
void carry_identity(const thread_storage& from, const thread_storage& to) noexcept;
[[noreturn]] void cannot_be_undone() noexcept;

// What threads have that have none of their own, and helpers between their jobs; null: the
// kernel's, nobody has one of his own.
extern identity* common_identity;

}  // namespace tendril::core
