#include "thread/identity.hpp"

#include <stdlib.h>
#include <string.h>

#include "base/sys.hpp"
#include "thread/tls.hpp"

namespace tendril::core {

constinit identity* common_identity = nullptr;

namespace {

constexpr std::uint32_t root = 0, unchanged = std::uint32_t(-1);

std::uint32_t fs_user() noexcept { return std::uint32_t(sys::call(SYS_setfsuid, unchanged)); }
std::uint32_t fs_group() noexcept { return std::uint32_t(sys::call(SYS_setfsgid, unchanged)); }

bool same(const identity::ids& a, const identity::ids& b) noexcept {
  return a.real == b.real && a.effective == b.effective && a.saved == b.saved;
}

}  // namespace

bool identity::same_groups(const identity& other) const noexcept {
  return groups == other.groups && memcmp(list(), other.list(), groups * sizeof *list()) == 0;
}

identity* room_for_identity(unsigned groups) noexcept {
  return static_cast<identity*>(malloc(sizeof(identity) + groups * sizeof(std::uint32_t)));
}

void read_identity(identity& i, unsigned room) noexcept {
  sys::call(SYS_getresuid, &i.user.real, &i.user.effective, &i.user.saved);
  sys::call(SYS_getresgid, &i.group.real, &i.group.effective, &i.group.saved);
  i.user.fs = fs_user();
  i.group.fs = fs_group();
  long n = room ? sys::call(SYS_getgroups, room, i.list()) : 0;
  i.groups = n > 0 ? unsigned(n) : 0;
}

identity* own_identity() noexcept {
  long n = sys::call(SYS_getgroups, 0, nullptr);
  identity* i = n < 0 ? nullptr : room_for_identity(unsigned(n));
  if (i) read_identity(*i, unsigned(n));
  return i;
}

identity* copy_of(const identity& i) noexcept {
  std::size_t size = sizeof i + i.groups * sizeof(std::uint32_t);
  auto* copy = static_cast<identity*>(malloc(size));
  if (copy) memcpy(static_cast<void*>(copy), &i, size);
  return copy;
}

bool take_on(const identity& from, const identity& to) noexcept {
  identity::ids user = from.user, group = from.group;
  bool groups = !from.same_groups(to), ids = group != to.group || !same(user, to.user);
  if ((groups || ids) && user.effective != root && (user.real == root || user.saved == root)) {
    if (sys::call(SYS_setresuid, unchanged, root, unchanged) < 0) return false;
    user.effective = user.fs = root;
  }
  if (groups && sys::call(SYS_setgroups, to.groups, to.list()) < 0) return false;
  if (!same(group, to.group)) {
    if (sys::call(SYS_setresgid, to.group.real, to.group.effective, to.group.saved) < 0)
      return false;
    group.fs = to.group.effective;
  }
  if (group.fs != to.group.fs) {
    sys::call(SYS_setfsgid, to.group.fs);
    if (fs_group() != to.group.fs) return false;
  }
  if (!same(user, to.user)) {
    if (sys::call(SYS_setresuid, to.user.real, to.user.effective, to.user.saved) < 0) return false;
    user.fs = to.user.effective;
  }
  if (user.fs != to.user.fs) {
    sys::call(SYS_setfsuid, to.user.fs);
    if (fs_user() != to.user.fs) return false;
  }
  return true;
}

void cannot_be_undone() noexcept {
  sys::die(
      "a thread changes its identity (setresuid, capset and their kin) in a way that cannot be "
      "undone for the other "
      "threads; run this program with --threads=kernel");
}

void carry_identity(const thread_storage& from, const thread_storage& to) noexcept {
  if (from.identity == to.identity) return;
  const identity& mine = from.identity ? *from.identity : *common_identity;
  const identity& theirs = to.identity ? *to.identity : *common_identity;
  if (!take_on(mine, theirs)) cannot_be_undone();
}

}  // namespace tendril::core
