// stdio(3) for threads that are fibers. The functions remain the C library's own: nobody could copy
// its buffers, conversions and errors exactly. Only its waits must change:
//
// * For a descriptor. The C library reads and writes streams through tables of functions. We
//   replace the read and write functions for files, pipes and sockets by ones that make the
//   cooperative read and write. They do so only for a stream on which the program itself called a
//   stdio function (fiber::stream). The C library also uses streams of its own under locks of its
//   own (time zones, /etc/passwd); other fibers must not run meanwhile, because they may need these
//   locks.
//
// * For a stream's lock, while another thread holds it and waits for the descriptor, or has called
//   flockfile(). In the C library's own wait, the owner could not run and unlock it. So every
//   function waits until the lock is free before it calls the C library's, and wakes the next
//   waiter afterwards.
//
// While there are no other fibers, none of this happens, and the tables are not changed.
//
// Not covered, and therefore waiting in the kernel: fopen(3) of a FIFO, flushing at exit, err(3),
// error(3) and syslog(3).
#include "posix/descriptors/stdio.hpp"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/symbols.hpp"
#include "posix/common/futex.hpp"
#include "posix/threads/thread.hpp"

extern "C" {
// Exported by the C library, but declared in no header.
extern FILE* _IO_list_all __attribute__((weak));
void _IO_list_lock() __attribute__((weak));
void _IO_list_unlock() __attribute__((weak));
}

namespace tendril::posix {

namespace {

// --- the inside of a FILE ---

// FILE::_flags and _flags2.
enum : int {
  unbuffered = 0x2,
  no_writes = 0x8,
  error_seen = 0x20,
  linked = 0x80,
  line_buffered = 0x200,
  putting = 0x800,
  user_locks = 0x8000,  // __fsetlocking(FSETLOCKING_BYCALLER)
};
enum : int {
  not_cancelled = 0x2,  // a stream of the C library's own
  needs_lock = 0x80,    // there are several threads
};

// FILE::_lock: recursive.
struct stream_lock {
  std::atomic<std::uint32_t> word;
  int count;
  void* owner;  // a thread descriptor

  static stream_lock* of(FILE* f) noexcept { return reinterpret_cast<stream_lock*>(f->_lock); }
};

bool has_output(FILE* f) noexcept {
  // (The buffer of wide characters cannot be examined; such a stream is flushed if it may have
  // data.)
  return f->_mode > 0 ? (f->_flags & putting) != 0 : f->_IO_write_ptr > f->_IO_write_base;
}

// --- waiting for the lock ---

// The number of fibers that wait for any stream's lock.
constinit std::atomic<int> waiting{0};

// Makes one waiter for the lock check again.
void wake_next(stream_lock* l) noexcept {
  if (waiting.load(std::memory_order_seq_cst) && l->word == 0) [[unlikely]]
    futex::wake(&l->word, 1);
}

// Whether another thread holds the lock.
bool is_held(FILE* f) noexcept {
  stream_lock* l = stream_lock::of(f);
  if (l->word.load(std::memory_order_seq_cst) == 0) return false;
  if (l->owner != reinterpret_cast<void*>(pthread_self())) return true;
  // Fibers of the C++ API on a thread have the same owner as the thread. While the thread waits in
  // a function on this stream, they must not enter one.
  return this_thread && this_thread->runs != core::current && this_thread->runs->stream == f;
}

// Functions of the C library that we do not see may take the lock, or release it without waking our
// waiters, so waiters also poll.
constexpr core::nanoseconds look_again = 10'000'000;

[[gnu::noinline]] void wait_while_held(FILE* f) noexcept {
  stream_lock* l = stream_lock::of(f);
  waiting.fetch_add(1, std::memory_order_seq_cst);
  do {
    if (std::uint32_t seen = l->word.load(std::memory_order_seq_cst)) {
      futex::wait(&l->word, seen, deadline::after(core::now(), look_again), futex::ends::by_wake);
    }
  } while (is_held(f));
  waiting.fetch_sub(1, std::memory_order_relaxed);
}

inline void wait_for_lock(FILE* f) noexcept {
  if (f->_lock && is_held(f)) [[unlikely]]
    wait_while_held(f);
}

// --- waiting for the descriptor ---

using read_function = ssize_t (*)(FILE*, void*, ssize_t);
using write_function = ssize_t (*)(FILE*, const void*, ssize_t);
using underflow_function = int (*)(FILE*);

read_function read_file;
write_function write_file;
underflow_function underflow_file, underflow_wide_file;

// The value of fiber::stream for a function that makes a stream of its own, which has no lock.
constinit const char nobodys = 0;

// Whether the running thread's program reads or writes the stream, rather than a function of the C
// library. Excludes fibers that a thread has spawned: two of them would count as one owner of the
// stream's lock.
bool may_wait(FILE* f) noexcept {
  fiber* self = core::current;
  return self && (self->stream == f || (self->stream == &nobodys && !f->_lock)) && this_thread &&
         this_thread->runs == self && !(f->_flags2 & not_cancelled);
}

ssize_t cooperative_read(FILE* f, void* to, ssize_t n) {
  return may_wait(f) ? posix::read(f->_fileno, to, std::size_t(n)) : read_file(f, to, n);
}

// As the C library's: writes everything, or records the error; updates its cached file position.
ssize_t cooperative_write(FILE* f, const void* from, ssize_t n) {
  if (!may_wait(f)) return write_file(f, from, n);
  ssize_t done = 0;
  while (done < n) {
    ssize_t r =
        posix::write(f->_fileno, static_cast<const char*>(from) + done, std::size_t(n - done));
    if (r < 0) {
      f->_flags |= error_seen;
      break;
    }
    done += r;
  }
  if (f->_offset >= 0) f->_offset += done;
  return done;
}

// Before a read from a terminal or an unbuffered stream, the C library writes what a line-buffered
// stdout contains.
void flush_lines(FILE* f) noexcept {
  if (!(f->_flags & (unbuffered | line_buffered)) || f == stdout || !may_wait(f)) return;
  wait_for_lock(stdout);
  if ((stdout->_flags & (linked | no_writes | line_buffered)) == (linked | line_buffered) &&
      has_output(stdout)) {
    posix::fflush(stdout);
    wait_for_lock(stdout);
  }
}

int cooperative_underflow(FILE* f) {
  flush_lines(f);
  return underflow_file(f);
}
int cooperative_underflow_wide(FILE* f) {
  flush_lines(f);
  return underflow_wide_file(f);
}

// --- replacing the C library's functions ---

// A table of functions, as far as its format is known.
struct jumps {
  void* none[2];
  void* before[2];
  void* underflow;
  void* between[9];
  void* read;
  void* write;
};

void replace_in(void** from, void** end) noexcept {
  auto same = [](void* a, auto b) { return a == reinterpret_cast<void*>(b); };
  for (; from + sizeof(jumps) / sizeof(void*) <= end; from++) {
    jumps& j = *reinterpret_cast<jumps*>(from);
    if (j.none[0] || j.none[1] || !same(j.read, read_file) || !same(j.write, write_file)) continue;
    auto put = [](void*& where, auto function) {
      std::atomic_ref(where).store(reinterpret_cast<void*>(function), std::memory_order_release);
    };
    put(j.read, cooperative_read);
    put(j.write, cooperative_write);
    if (same(j.underflow, underflow_file)) put(j.underflow, cooperative_underflow);
    if (same(j.underflow, underflow_wide_file)) put(j.underflow, cooperative_underflow_wide);
  }
}

// The tables are in a part of the C library that the loader has made read-only.
int replace_in_library(dl_phdr_info* info, size_t, void* a_table) {
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr)& p = info->dlpi_phdr[i];
    std::uintptr_t start = info->dlpi_addr + p.p_vaddr, end = start + p.p_memsz;
    std::uintptr_t table = reinterpret_cast<std::uintptr_t>(a_table);
    if (p.p_type != PT_GNU_RELRO || table < start || table >= end) continue;
    std::uintptr_t page = std::uintptr_t(sysconf(_SC_PAGESIZE));
    std::uintptr_t first = start & ~(page - 1), past = (end + page - 1) & ~(page - 1);
    if (sys::call(SYS_mprotect, first, past - first, PROT_READ | PROT_WRITE) < 0) return 1;
    replace_in(reinterpret_cast<void**>((start + sizeof(void*) - 1) & ~(sizeof(void*) - 1)),
               reinterpret_cast<void**>(end));
    sys::call(SYS_mprotect, first, past - first, PROT_READ);
    return 1;
  }
  return 0;
}

// Whether a FILE's lock has the format that we expect.
bool known_locks() noexcept {
  char room[1];
  FILE* f = fmemopen(room, sizeof room, "r");
  if (!f) return false;
  stream_lock* l = stream_lock::of(f);
  real.flockfile(f);
  bool known =
      l && l->word == 1 && l->count == 1 && l->owner == reinterpret_cast<void*>(pthread_self());
  real.funlockfile(f);
  known = known && l->word == 0 && l->count == 0 && !l->owner;
  real.fclose(f);
  return known;
}

template <class F>
bool find(F& to, const char* name) noexcept {
  to = reinterpret_cast<F>(core::find_symbol(name));
  return to;
}

enum class state { fresh, busy, known, unknown };
constinit std::atomic<state> looked{state::fresh};

}  // namespace

void replace_stream_functions() noexcept {
  state fresh = state::fresh;
  if (!looked.compare_exchange_strong(fresh, state::busy)) return;
  int saved = errno;
  bool known = &_IO_list_all && _IO_list_lock && _IO_list_unlock && known_locks();
  void* table = nullptr;
  if (known && find(read_file, "_IO_file_read") && find(write_file, "_IO_file_write") &&
      find(underflow_file, "_IO_file_underflow") &&
      find(underflow_wide_file, "_IO_wfile_underflow") && find(table, "_IO_file_jumps")) {
    dl_iterate_phdr(replace_in_library, table);
  }
  errno = saved;
  looked.store(known ? state::known : state::unknown, std::memory_order_release);
}

namespace {

// --- around each function ---

// Whether a function must do anything: fibers could run meanwhile, or wait for a lock that it
// releases.
inline bool shared() noexcept {
  fiber* self = core::current;
  return (self && others_here(self)) || waiting.load(std::memory_order_relaxed);
}

// While it lives, the running fiber is in a function on the stream `f`.
class within {
 public:
  within(FILE* f, bool locks) noexcept {
    if (!ready()) return;
    if (f && locks && !(f->_flags & user_locks)) {
      if (!(f->_flags2 & needs_lock)) [[unlikely]]
        f->_flags2 |= needs_lock;
      wait_for_lock(f);
    }
    come_in(f);
    if (f) lock_ = stream_lock::of(f);
  }
  explicit within(const void* what) noexcept {
    if (ready()) come_in(what);
  }
  ~within() {
    if (self_ && errno == EPIPE) [[unlikely]]
      keep_broken_pipe();
    if (self_) self_->stream = before_;
    if (lock_) wake_next(lock_);
  }
  within(const within&) = delete;

 private:
  static bool ready() noexcept {
    if (looked.load(std::memory_order_acquire) == state::fresh) [[unlikely]]
      replace_stream_functions();
    return looked.load(std::memory_order_acquire) == state::known;
  }
  void come_in(const void* what) noexcept {
    if (!self_) return;
    before_ = self_->stream;
    self_->stream = what;
  }

  fiber* self_ = core::current;
  stream_lock* lock_ = nullptr;
  const void* before_ = nullptr;
};

// Flushes every stream that has data to write. The C library's own function waits for each stream
// in turn, and meanwhile prevents everybody from opening a stream.
int flush_all() noexcept {
  FILE* some[128];
  int result = 0;
  FILE* last = nullptr;  // the list's order is from newest to oldest
  for (;;) {
    int n = 0;
    _IO_list_lock();
    FILE* f = _IO_list_all;
    if (last) {
      while (f && f != last) f = f->_chain;
      f = f ? f->_chain : nullptr;
    }
    for (; f && n < 128; f = f->_chain) {
      last = f;
      if (has_output(f)) some[n++] = f;
    }
    _IO_list_unlock();
    for (int i = 0; i < n; i++) {
      // Was it closed while we waited for another?
      _IO_list_lock();
      FILE* g = _IO_list_all;
      while (g && g != some[i]) g = g->_chain;
      _IO_list_unlock();
      if (!g) continue;
      within in(g, true);
      if (has_output(g) && real.fflush(g) == EOF) result = EOF;
    }
    if (n < 128) return result;
  }
}

}  // namespace

#define CALL(result, name, parameters, arguments)
#define ALIAS(result, name, target, parameters, arguments)
#define ODD(result, name, parameters)
#define STREAM(result, name, parameters, arguments, stream) \
  result name parameters {                                  \
    if (!shared()) [[likely]]                               \
      return real.name arguments;                           \
    within in(stream, true);                                \
    return real.name arguments;                             \
  }
#define UNLOCKED(result, name, parameters, arguments, stream) \
  result name parameters {                                    \
    if (!shared()) [[likely]]                                 \
      return real.name arguments;                             \
    within in(stream, false);                                 \
    return real.name arguments;                               \
  }
#include "libc/calls.def"
#undef CALL
#undef ALIAS
#undef ODD

int fflush(FILE* f) {
  if (!shared()) [[likely]]
    return real.fflush(f);
  if (!f) return _IO_list_lock ? flush_all() : real.fflush(f);
  within in(f, true);
  return real.fflush(f);
}

int fflush_unlocked(FILE* f) {
  if (!shared()) [[likely]]
    return real.fflush_unlocked(f);
  if (!f) return posix::fflush(f);
  within in(f, false);
  return real.fflush_unlocked(f);
}

int vdprintf(int fd, const char* format, va_list rest) {
  within in(static_cast<const void*>(&nobodys));
  return real.vdprintf(fd, format, rest);
}
int __vdprintf_chk(int fd, int flag, const char* format, va_list rest) {
  within in(static_cast<const void*>(&nobodys));
  return real.__vdprintf_chk(fd, flag, format, rest);
}

bool ready_to_close(FILE* f) noexcept {
  if (!shared()) return true;
  within in(f, true);
  if (!has_output(f) || real.fflush(f) == 0) return true;
  int saved = errno;
  __fpurge(f);
  errno = saved;
  return false;
}

bool is_locked(FILE* f) noexcept {
  return f->_lock && stream_lock::of(f)->word.load(std::memory_order_relaxed) != 0;
}

void leave_streams() noexcept {
  fiber* self = core::current;
  if (!self || !self->stream || self->stream == &nobodys) return;
  stream_lock* l = stream_lock::of(static_cast<FILE*>(const_cast<void*>(self->stream)));
  self->stream = nullptr;
  if (l) wake_next(l);
}

void streams_after_fork() noexcept { waiting = 0; }

}  // namespace tendril::posix
