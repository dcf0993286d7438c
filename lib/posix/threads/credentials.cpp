// setuid(2) and related calls, which change the whole process, and the calls that change only the
// calling thread.
//
// For the former, the C library sends each of its threads a signal to make the system call, and
// waits for all. Fibers do not receive such signals. Their kernel thread has the descriptor of the
// hub's native thread (the main thread; in a child of fork, the one that forked), so the call is
// made in that thread's name. The C library passes over carriers (scheduler/crew.hpp); each of them
// makes the system call when hub_crew asks it to. If threads have identities of their own (because
// of the latter calls, see thread/identity.hpp), each of these identities, and the common one, is
// then assumed and changed by the same system call.
#include <tendril/posix.hpp>

#include <grp.h>
#include <stdlib.h>

#include <utility>

#include "base/signals_blocked.hpp"
#include "posix/threads/thread.hpp"
#include "scheduler/crew.hpp"
#include "scheduler/kernel_threads.hpp"
#include "thread/identity.hpp"

namespace tendril::posix {

namespace {

// Not inlined: compilers treat the address of errno as constant within a function, so it must be
// computed where the thread pointer does not change.
template <class F>
__attribute__((noinline)) long raw(F& f) noexcept {
  return f() < 0 ? -errno : 0;
}

template <class F>
__attribute__((noinline)) long in_name_of(void* pointer, F& f) noexcept {
  bool by_instruction = !core::switches_carry_any(core::system_call);
  // From memory: compilers would read the register again where they need its value.
  void* mine = core::current->storage->pointer;
  arch::set_thread_pointer(pointer, by_instruction);
  long r = raw(f);
  arch::set_thread_pointer(mine, by_instruction);
  return r;
}

constexpr unsigned most_groups = 65536;  // NGROUPS_MAX

// Calls f(identity) for each identity that a thread has for itself. Such threads are all on the
// main thread's hub, and so is the caller.
template <class F>
void each_identity(F f) noexcept {
  hub& h = my_hub();
  for (fiber* each = h.fibers.front(); each; each = h.fibers.after(*each)) {
    core::thread_storage& t = *each->storage;
    if (t.identity && t.signals.owner == each) f(t.identity);
  }
}

// Memory for the identities that a call changes. Afterwards it holds the old identities, and frees
// them.
class spare_identities {
 public:
  // Reserves memory for all identities of threads, and the common one. False: no memory.
  bool reserve() noexcept {
    std::size_t wanted = needed();
    if (wanted <= count_) return true;
    auto* more = static_cast<core::identity**>(realloc(all_, wanted * sizeof(void*)));
    if (!more) return false;
    all_ = more;
    for (; count_ < wanted; count_++) {
      if (!(all_[count_] = core::room_for_identity(most_groups))) return false;
    }
    return true;
  }
  bool suffice() const noexcept { return needed() <= count_; }
  // Replaces the identity by the kernel thread's current one.
  void update(core::identity*& place) noexcept {
    core::identity* old = place;
    core::read_identity(*all_[used_], most_groups);
    place = all_[used_];
    all_[used_++] = old;
  }
  spare_identities() noexcept = default;
  spare_identities(const spare_identities&) = delete;
  ~spare_identities() {
    for (std::size_t i = 0; i < count_; i++) free(all_[i]);
    free(all_);
  }

 private:
  static std::size_t needed() noexcept {
    std::size_t n = 1;
    each_identity([&](core::identity*&) { n++; });
    return n;
  }

  core::identity** all_ = nullptr;
  std::size_t count_ = 0, used_ = 0;
};

// The kernel thread was changed for the running thread; changes the other threads' identities.
template <class Raw>
void change_the_others(spare_identities& spare, Raw raw) noexcept {
  core::identity*& own = core::current->storage->identity;
  core::identity*& mine = own ? own : core::common_identity;
  spare.update(mine);
  const core::identity* now = mine;  // as the kernel thread is
  bool for_good = false;
  auto change = [&](core::identity*& other) {
    if (&other == &mine) return;
    for_good = for_good || !core::take_on(*now, *other);
    if (for_good) {
      // By now we lack the right to assume another identity: all must be equal, otherwise end.
      if (now != mine || other->group != now->group || !other->same_groups(*now))
        core::cannot_be_undone();
      other->user = now->user;
      return;
    }
    if (raw() < 0) core::cannot_be_undone();  // as the C library if threads differ
    spare.update(other);
    now = other;
  };
  change(core::common_identity);
  each_identity(change);
  if (now != mine && !core::take_on(*now, *mine)) core::cannot_be_undone();
}

// `by_library` is the C library's function, `raw` its system call for the calling kernel thread
// alone.
template <class F, class Raw>
int for_all_threads(F by_library, Raw raw) {
  bool carried = core::current && core::switches_carry_any(core::identities) && in_hubs_process();
  bool alone = core::crew.size() < 2 && (!this_thread || !this_thread->is_fiber());
  if (!carried && (alone || !among_threads() || !in_hubs_process())) return by_library();
  if (carried && !core::crew.move_to_first()) core::cannot_be_undone();
  spare_identities spare;
  for (;;) {
    if (carried && !spare.reserve()) return result<int>(-ENOMEM);
    // Two calls at a time could leave some kernel threads with one's identity, and others with the
    // other's.
    core::hub_crew::calling_guard one_at_a_time(core::crew);
    // A handler would find another thread's storage. Without the tick, no other thread runs.
    core::all_signals_blocked quiet;
    if (carried && !spare.suffice()) continue;  // threads were made meanwhile
    // The C library walks its list of threads, which threads on other hubs would change.
    core::tls::lock_list();
    long r = in_name_of(my_hub().signals.first->storage->pointer, by_library);
    core::tls::unlock_list();
    if (r >= 0 && core::crew.size() > 1) {
      // The C library has changed its own threads, and this one.
      bool changed = core::crew.call_on_others(
          [](void* call) noexcept {
            if ((*static_cast<Raw*>(call))() < 0) core::cannot_be_undone();
          },
          &raw);
      if (!changed) core::cannot_be_undone();
    }
    if (carried && r >= 0) change_the_others(spare, raw);
    return result<int>(r);
  }
}

bool is_alone() noexcept { return !my_hub().several_threads || living.load() <= 1; }

// Makes a call that changes only the calling thread.
long change_own(long number, long a, long b, long c) noexcept {
  auto call = [&] { return sys::call(number, a, b, c); };
  if (!core::current || !in_hubs_process()) return call();
  if (number == SYS_capset) {
    if (!is_alone() || core::known_threads.helpers.load() != 0) core::cannot_be_undone();
    return call();
  }
  // a query
  if ((number == SYS_setfsuid || number == SYS_setfsgid) && int(a) == -1) return call();
  // Its own identity binds it to the hub where for_all_threads() can change it.
  if (!core::crew.move_to_first()) core::cannot_be_undone();
  core::identity* before = core::own_identity();
  core::identity* common = before ? core::copy_of(*before) : nullptr;
  unsigned groups = number == SYS_setgroups && a > 0 && a <= long(most_groups) ? unsigned(a) : 0;
  if (before && before->groups > groups) groups = before->groups;
  core::identity* after = core::room_for_identity(groups);
  long r = -ENOMEM;
  if (common && after) {
    core::all_signals_blocked quiet;
    core::identity*& own = core::current->storage->identity;
    r = call();
    core::read_identity(*after, groups);
    if (!(*after == *before)) {
      if (!core::common_identity) std::swap(core::common_identity, common);
      core::switches_carry.fetch_or(core::identities);
      const core::identity& others = *core::common_identity;
      if (!own) core::current->storage->bound++;
      std::swap(own, after);  // the old one is freed
      if (!core::take_on(*own, others)) {
        // Irreversible. Allowed only if nobody else is here: then it becomes the identity of all.
        if (!is_alone()) core::cannot_be_undone();
        if (core::known_threads.hubs == 1) {
          core::common_identity = own;  // the old one is not freed: a helper may still read it
          own = nullptr;
          core::current->storage->bound--;
        }
      } else if (!core::take_on(others, *own)) {
        core::cannot_be_undone();
      }
    }
  }
  free(before);
  free(common);
  free(after);
  return r;
}

}  // namespace

bool changes_identity(long& result, long number, long a, long b, long c) noexcept {
  switch (number) {
    case SYS_setuid:
    case SYS_setgid:
    case SYS_setreuid:
    case SYS_setregid:
    case SYS_setresuid:
    case SYS_setresgid:
    case SYS_setgroups:
    case SYS_setfsuid:
    case SYS_setfsgid:
    case SYS_capset:
      result = change_own(number, a, b, c);
      return true;
  }
  return false;
}

int setuid(uid_t user) {
  return for_all_threads([=] { return real.setuid(user); },
                         [=] { return sys::call(SYS_setuid, user); });
}
int setgid(gid_t group) {
  return for_all_threads([=] { return real.setgid(group); },
                         [=] { return sys::call(SYS_setgid, group); });
}
int seteuid(uid_t effective) {
  return for_all_threads([=] { return real.seteuid(effective); },
                         [=] { return sys::call(SYS_setresuid, -1, effective, -1); });
}
int setegid(gid_t effective) {
  return for_all_threads([=] { return real.setegid(effective); },
                         [=] { return sys::call(SYS_setresgid, -1, effective, -1); });
}
int setreuid(uid_t user, uid_t effective) {
  return for_all_threads([=] { return real.setreuid(user, effective); },
                         [=] { return sys::call(SYS_setreuid, user, effective); });
}
int setregid(gid_t group, gid_t effective) {
  return for_all_threads([=] { return real.setregid(group, effective); },
                         [=] { return sys::call(SYS_setregid, group, effective); });
}
int setresuid(uid_t user, uid_t effective, uid_t saved) {
  return for_all_threads([=] { return real.setresuid(user, effective, saved); },
                         [=] { return sys::call(SYS_setresuid, user, effective, saved); });
}
int setresgid(gid_t group, gid_t effective, gid_t saved) {
  return for_all_threads([=] { return real.setresgid(group, effective, saved); },
                         [=] { return sys::call(SYS_setresgid, group, effective, saved); });
}
int setgroups(size_t n, const gid_t* groups) {
  return for_all_threads([=] { return real.setgroups(n, groups); },
                         [=] { return sys::call(SYS_setgroups, n, groups); });
}
// initgroups ends in setgroups(2), with the list that the caller has afterwards.
int initgroups(const char* user, gid_t group) {
  bool carried = core::switches_carry_any(core::identities);
  gid_t* list = static_cast<gid_t*>(carried ? malloc(most_groups * sizeof(gid_t)) : nullptr);
  if (carried && !list) return result<int>(-ENOMEM);
  long n = 0;
  auto by_library = [&] {
    int r = real.initgroups(user, group);
    if (list) n = sys::call(SYS_getgroups, most_groups, list);
    return r;
  };
  int r = for_all_threads(by_library, [&] { return sys::call(SYS_setgroups, n, list); });
  int saved = errno;
  free(list);
  errno = saved;
  return r;
}

int setfsuid(uid_t user) { return result<int>(change_own(SYS_setfsuid, user, 0, 0)); }
int setfsgid(gid_t group) { return result<int>(change_own(SYS_setfsgid, group, 0, 0)); }
int capset(void* header, const void* data) {
  return result<int>(change_own(SYS_capset, long(header), long(data), 0));
}

}  // namespace tendril::posix
