// Runs protocols between kernel threads of lib/ under Relacy, a model checker: it executes them
// many times, each time with another interleaving of the threads, and loads return any value that
// the memory model of C++ allows.
//
// A model is a test suite of Relacy whose threads call the shipped code. That code names its
// atomics core::atomic (base/atomic.hpp); here this is models::atomic, which Relacy executes.
//
// check() also shows that the model sees faults: it weakens each memory order of the shipped code
// in turn, and takes out what the model lists, and expects a fault each time. The program's
// argument `broken` says that the shipped code has been broken already, and that this is to be
// found; a number N asks for N times as many runs.
#pragma once

#include <errno.h>

#include <atomic>
#include <cstdint>
#include <fstream>
#include <functional>
#include <memory>
#include <new>
#include <source_location>
#include <streambuf>
#include <string>
#include <type_traits>
#include <vector>

#include <relacy/relacy.hpp>
#undef $
#undef VAR
#undef VAR_T
#undef TLS_T
#undef assert
#undef calloc
#undef delete
#undef errno
#define errno (*__errno_location())
#undef free
#undef malloc
#undef memory_order_acq_rel
#undef memory_order_acquire
#undef memory_order_consume
#undef memory_order_relaxed
#undef memory_order_release
#undef memory_order_seq_cst
#undef new
#undef realloc

#include <tendril/detail/core.hpp>

#include "watched.hpp"

namespace models {

using std::source_location;

// The order with which the operation at that place is executed: weaker in some mutants.
std::memory_order order_of(std::memory_order as_written, bool loads, bool stores,
                           const source_location& at) noexcept;
// Whether the load at that place is taken out: it returns what its thread has seen last. Of an
// exchange only a store remains.
bool is_taken_out(const source_location& at) noexcept;
// Whether this run does without something of the model that check() was told of.
bool without(const char* what) noexcept;

// Called by each thread before each of its operations.
inline void (*before_each)() noexcept = nullptr;

inline rl::memory_order for_relacy(std::memory_order o) noexcept {
  switch (o) {
    case std::memory_order_relaxed:
      return rl::mo_relaxed;
    case std::memory_order_consume:
      return rl::mo_consume;
    case std::memory_order_acquire:
      return rl::mo_acquire;
    case std::memory_order_release:
      return rl::mo_release;
    case std::memory_order_acq_rel:
      return rl::mo_acq_rel;
    default:
      return rl::mo_seq_cst;
  }
}
inline rl::debug_info info_of(const source_location& at) noexcept {
  return {at.function_name(), at.file_name(), at.line()};
}
// Fails the run unless `holds`.
inline void expect(bool holds, const char* what,
                   const source_location& at = source_location::current()) {
  if (!holds) rl::ctx().fail_test(what, rl::test_result_user_assert_failed, info_of(at));
}

inline constexpr unsigned most_threads = 5;

// A store that its thread has executed and the others do not see yet. Processors delay stores
// beyond later loads, unless the order is seq_cst; Relacy itself does not.
struct delayed_store {
  bool allowed = false;         // its thread runs
  const void* where = nullptr;  // null: none
  void (*put)(const delayed_store&) = nullptr;
  std::uint64_t value = 0;
  rl::memory_order order = rl::mo_relaxed;
  rl::debug_info info;
};
inline delayed_store delayed[most_threads];

inline void let_others_see() {
  delayed_store& mine = delayed[rl::thread_index()];
  if (!mine.where) return;
  delayed_store now = mine;
  mine.where = nullptr;
  now.put(now);
}

// When a thread is preempted for long, once in half of its runs: Relacy changes threads at each
// operation, so that one hardly ever does much while another does nothing.
struct preemption {
  unsigned operations_left = 0;  // until then; 0: never
  unsigned length = 0;
};
inline preemption preempted[most_threads];

inline void be_preempted_if_due() {
  preemption& mine = preempted[rl::thread_index()];
  if (mine.operations_left == 0 || --mine.operations_left > 0) return;
  for (unsigned i = 0; i < mine.length; i++) rl::ctx().sched();
}

// One operation of a thread. All threads of a model are one kernel thread's, so `current` is kept
// for each: it may have changed when the operation returns.
class operation {
 public:
  operation() noexcept {
    be_preempted_if_due();
    if (before_each) before_each();
    let_others_see();
  }
  // A load from there.
  explicit operation(const void* where) noexcept {
    be_preempted_if_due();
    if (before_each) before_each();
    if (delayed[rl::thread_index()].where == where || rl::ctx().rand(2, rl::sched_type_user) == 0)
      let_others_see();
  }
  ~operation() { tendril::core::current = mine_; }
  operation(const operation&) = delete;

 private:
  tendril::core::fiber* mine_ = tendril::core::current;
};

template <class T>
class atomic;
// A variable that atomic_ref refers to, and what Relacy executes instead.
struct referred {
  const void* where = nullptr;
  atomic<void*>* cell = nullptr;
};
inline referred refers_to[2];

// A test suite of Relacy: a Model has run(i), which each thread calls with its number.
template <class Model, unsigned threads>
struct suite : rl::test_suite<Model, threads> {
  static_assert(threads <= most_threads);
  suite() {
    watch_nothing();
    for (referred& r : refers_to) r = {};
    for (delayed_store& d : delayed) d = {};
    for (preemption& p : preempted) p = {};
  }
  void thread(unsigned i) {
    tendril::core::current = nullptr;
    delayed[i].allowed = true;
    if (rl::ctx().rand(2, rl::sched_type_user))
      preempted[i] = {rl::ctx().rand(64, rl::sched_type_user),
                      rl::ctx().rand(256, rl::sched_type_user)};
    static_cast<Model*>(this)->run(i);
    let_others_see();
    delayed[i].allowed = false;
  }
};

// Like std::atomic.
template <class T>
class atomic {
 public:
  using place = source_location;
  constexpr atomic() noexcept : atomic(T()) {}
  constexpr atomic(T first) noexcept {
    if (std::is_constant_evaluated()) return;  // a variable of the process: see begun_anew
    is_executed(this, sizeof *this);
    new (memory_) rl::atomic<cell>(cell_of(first));
    for (T& s : seen_) s = first;
    lives_ = true;
  }
  constexpr ~atomic() {
    if (std::is_constant_evaluated() || !lives_) return;
    std::destroy_at(&it());
    lives_ = false;
  }
  atomic(const atomic&) = delete;

  T load(std::memory_order o = std::memory_order_seq_cst, place at = place::current()) const {
    operation here(this);
    if (is_taken_out(at)) return seen();
    return seen() = value_of(it().load(for_relacy(order_of(o, true, false, at)), info_of(at)));
  }
  operator T() const { return load(); }
  void store(T v, std::memory_order o = std::memory_order_seq_cst, place at = place::current()) {
    operation here;
    o = order_of(o, false, true, at);
    delayed_store& mine = delayed[rl::thread_index()];
    delayed_store s{true, this, put, 0, for_relacy(o), info_of(at)};
    __builtin_memcpy(&s.value, &v, sizeof v);
    seen() = v;
    bool delays = mine.allowed && o != std::memory_order_seq_cst &&
                  rl::ctx().rand(4, rl::sched_type_user) == 0;
    if (delays) mine = s;
    else put(s);
  }
  T operator=(T v) { return store(v), v; }
  T exchange(T v, std::memory_order o = std::memory_order_seq_cst, place at = place::current()) {
    if (is_taken_out(at)) return store(v, std::memory_order_release, at), seen();
    operation here;
    seen() = v;
    return value_of(
        it().exchange(cell_of(v), for_relacy(order_of(o, true, true, at)), info_of(at)));
  }
  template <class Y>
  T fetch_add(Y n, std::memory_order o = std::memory_order_seq_cst, place at = place::current()) {
    operation here;
    T old = it().fetch_add(T(n), for_relacy(order_of(o, true, true, at)), info_of(at));
    return seen() = T(old + n), old;
  }
  template <class Y>
  T fetch_sub(Y n, std::memory_order o = std::memory_order_seq_cst, place at = place::current()) {
    operation here;
    T old = it().fetch_sub(T(n), for_relacy(order_of(o, true, true, at)), info_of(at));
    return seen() = T(old - n), old;
  }
  T operator++(int) { return fetch_add(1); }
  T operator--(int) { return fetch_sub(1); }
  bool compare_exchange_strong(T& expected, T v, std::memory_order o = std::memory_order_seq_cst,
                               place at = place::current()) {
    operation here;
    cell e = cell_of(expected);
    bool done = it().compare_exchange_strong(e, cell_of(v), for_relacy(order_of(o, true, true, at)),
                                             info_of(at));
    expected = value_of(e);
    return seen() = done ? v : expected, done;
  }
  bool compare_exchange_weak(T& expected, T v, std::memory_order o = std::memory_order_seq_cst,
                             place at = place::current()) {
    operation here;
    cell e = cell_of(expected);
    bool done = it().compare_exchange_weak(e, cell_of(v), for_relacy(order_of(o, true, true, at)),
                                           info_of(at));
    expected = value_of(e);
    return seen() = done ? v : expected, done;
  }

  // futex(2): the kernel compares and sleeps in one step. Returns whether it has slept.
  bool sleep_while(T expected, place at = place::current()) const {
    operation here;
    rl::ctx().sched();
    if (it().debug_value() != cell_of(expected)) return false;
    it().wait(rl::ctx(), false, false, info_of(at));
    return true;
  }
  void wake(unsigned n, place at = place::current()) const {
    operation here;
    rl::ctx().sched();
    it().wake(rl::ctx(), n, info_of(at));
  }

 private:
  // Relacy has no pointers to constants.
  using cell = std::conditional_t<std::is_pointer_v<T>, std::uintptr_t, T>;
  static cell cell_of(T v) noexcept {
    if constexpr (std::is_pointer_v<T>) return reinterpret_cast<cell>(v);
    else return v;
  }
  static T value_of(cell c) noexcept {
    if constexpr (std::is_pointer_v<T>) return reinterpret_cast<T>(c);
    else return c;
  }
  static void put(const delayed_store& s) {
    T v;
    __builtin_memcpy(&v, &s.value, sizeof v);
    static_cast<const atomic*>(s.where)->it().store(cell_of(v), s.order, s.info);
  }
  rl::atomic<cell>& it() const noexcept {
    expect(lives_, "an object is used after its end");
    return *std::launder(reinterpret_cast<rl::atomic<cell>*>(const_cast<unsigned char*>(memory_)));
  }
  T& seen() const noexcept { return seen_[rl::thread_index()]; }

  alignas(rl::atomic<cell>) unsigned char memory_[sizeof(rl::atomic<cell>)] = {};
  mutable T seen_[most_threads] = {};
  volatile bool lives_ = false;
};

// Like std::atomic_ref, for variables that are plain for who owns them. Relacy executes what is
// done to those that refers() names; that another thread uses one as a plain variable meanwhile is
// found if the object around it is watched.
template <class T>
class refers {
 public:
  explicit refers(T*& variable) : cell_(variable) {
    for (referred& r : refers_to) {
      if (r.where) continue;
      r = {&variable, &cell_};
      return;
    }
  }
  ~refers() {
    for (referred& r : refers_to) {
      if (r.cell == &cell_) r = {};
    }
  }
  refers(const refers&) = delete;

 private:
  atomic<void*> cell_;
};

template <class T>
class atomic_ref {
 public:
  explicit atomic_ref(T& variable) noexcept : it_(variable) {}
  using place = source_location;
  T load(std::memory_order o, place at = place::current()) const {
    if (atomic<void*>* c = cell()) return static_cast<T>(c->load(o, at));
    return it_;
  }
  void store(T v, std::memory_order o, place at = place::current()) const {
    atomic<void*>* c = cell();
    if (c) is_written(&it_), c->store(v, o, at);
    it_ = v;
  }

 private:
  atomic<void*>* cell() const noexcept {
    for (const referred& r : refers_to) {
      if (r.where == &it_) return r.cell;
    }
    return nullptr;
  }
  T& it_;
};

// A plain variable. That two threads use it at once, one of them to change it, is a fault.
template <class T>
class plain {
 public:
  using place = source_location;
  plain(T first = T()) {
    is_executed(this, sizeof *this);
    store(first, place::current());
  }
  plain(const plain&) = delete;
  T load(place at = place::current()) const {
    operation here;
    return it_(info_of(at)).load();
  }
  void store(T v, place at = place::current()) {
    operation here;
    it_(info_of(at)).store(v);
  }
  operator T() const { return load(); }
  T operator=(T v) { return store(v), v; }
  T operator->() const { return load(); }
  T operator++(int) {
    T old = load();
    *this = old + 1;
    return old;
  }

 private:
  mutable rl::var<T> it_;
};

// Makes a variable of the process anew for each run.
template <class T>
class begun_anew {
 public:
  explicit begun_anew(T& variable) : it_(*new(&variable) T) {}
  ~begun_anew() { it_.~T(); }
  begun_anew(const begun_anew&) = delete;

 private:
  T& it_;
};

// Lets other threads run: for a thread that spins.
inline void give_way(source_location at = source_location::current()) {
  operation here;
  rl::yield(1, info_of(at));
}

// Something that a mutant does without.
struct mutant {
  // A word for without(); or, with `file`, the code of the load in that file that is taken out; or
  // of the exchange, of which only a store remains.
  std::string what;
  std::string file = {};
};
// A memory order that is stronger than the model needs.
struct stronger {
  std::string file, code;  // the file, and part of the operation's line (and of the next one)
  std::string why;
  std::string to = {};  // only this weaker order would do
};
struct settings {
  std::string name;
  unsigned runs = 100'000;
  // The files of lib/ whose memory orders are weakened. (The others' models do that.)
  std::vector<std::string> files;
  std::vector<mutant> taken_out = {};
  std::vector<stronger> allowed = {};
  unsigned depth = 5'000;  // operations of one run: more are a livelock
};

struct result {
  rl::test_result_e what;
  unsigned long long runs;
  std::string history;
};
// Checks the model and its mutants. Returns whether all is as it should be.
bool check(const settings& of, const std::function<result(unsigned runs, unsigned depth)>& run);

// What Relacy writes goes here: it replaces operator new, but the library's stream buffers do not
// use that one.
class kept_text : public std::streambuf {
 public:
  kept_text() { setp(text_, text_ + sizeof text_); }
  std::string text() const { return std::string(text_, std::size_t(pptr() - text_)); }

 private:
  char text_[1 << 20];
};

template <class Model>
bool check(const settings& of) {
  return check(of, [](unsigned runs, unsigned depth) {
    rl::test_params p;
    static kept_text kept;
    new (&kept) kept_text;
    std::ostream out(&kept);
    p.iteration_count = runs;
    p.execution_depth_limit = depth;
    p.output_stream = p.progress_stream = &out;
    rl::simulate<Model>(p);
    return result{p.test_result, p.stop_iteration, kept.text()};
  });
}

// Checks all models of the program; each program defines it.
bool check_all();

}  // namespace models
