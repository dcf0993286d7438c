#include "base/refused.hpp"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "base/arch/arch.hpp"

namespace tendril::sys {

constinit std::atomic<bool> refused_calls[most_calls] = {};

namespace {

// A call in a form that has no effect, and the kernel's answer to it. The arguments that filters
// look at (flags, commands) are those of the runtime's own calls.
struct known_answer {
  long number;
  long arguments[6];
  long answer;
};
constexpr long rwf_nowait = 8, msg_dontwait = 0x40, private_expedited = 8;
constexpr known_answer table[] = {
    {SYS_preadv2, {-1, 0, 0, 0, 0, rwf_nowait}, -EBADF},
    {SYS_pwritev2, {-1, 0, 0, 0, 0, rwf_nowait}, -EBADF},
    {SYS_recvfrom, {-1, 0, 0, msg_dontwait, 0, 0}, -EBADF},
    {SYS_recvmsg, {-1, 0, msg_dontwait, 0, 0, 0}, -EBADF},
    {SYS_sendto, {-1, 0, 0, msg_dontwait, 0, 0}, -EBADF},
    {SYS_sendmsg, {-1, 0, msg_dontwait, 0, 0, 0}, -EBADF},
    {SYS_epoll_create1, {-1, 0, 0, 0, 0, 0}, -EINVAL},
    {SYS_epoll_ctl, {-1, EPOLL_CTL_DEL, -1, 0, 0, 0}, -EBADF},
    {SYS_epoll_pwait, {-1, 0, 1, 0, 0, 8}, -EBADF},
    {SYS_epoll_pwait2, {-1, 0, 1, 0, 0, 8}, -EBADF},
    {SYS_eventfd2, {0, -1, 0, 0, 0, 0}, -EINVAL},
    {SYS_socketpair, {AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, 0, 0, 0}, -EFAULT},
    {SYS_signalfd4, {-1, 0, 0, SFD_CLOEXEC | SFD_NONBLOCK, 0, 0}, -EINVAL},
    {SYS_timerfd_create, {-1, TFD_CLOEXEC | TFD_NONBLOCK, 0, 0, 0, 0}, -EINVAL},
    {SYS_timerfd_settime, {-1, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, 0, 0, 0, 0}, -EFAULT},
    {SYS_pidfd_open, {-1, 0, 0, 0, 0, 0}, -EINVAL},
    {SYS_ppoll, {0, -1, 0, 0, 8, 0}, -EINVAL},
    {SYS_madvise, {1, 0, MADV_DONTNEED, 0, 0, 0}, -EINVAL},
    {SYS_membarrier, {private_expedited, -1, 0, 0, 0, 0}, -EINVAL},
    {449 /* futex_waitv */, {0, 0, 0, 0, 0, 0}, -EINVAL},
    {SYS_fcntl, {-1, 3 /* F_GETFL */, 0, 0, 0, 0}, -EBADF},
    {SYS_fstat, {-1, 0, 0, 0, 0, 0}, -EBADF},
    {SYS_getsockopt, {-1, SOL_SOCKET, SO_TYPE, 0, 0, 0}, -EBADF},
    {SYS_prlimit64, {0, -1, 0, 0, 0, 0}, -EINVAL},
    {SYS_tgkill, {-1, -1, 0, 0, 0, 0}, -EINVAL},
    {SYS_rt_sigpending, {0, 1024, 0, 0, 0, 0}, -EINVAL},
    {SYS_sigaltstack, {1, 0, 0, 0, 0, 0}, -EFAULT},
    {SYS_get_robust_list, {-1, 0, 0, 0, 0, 0}, -ESRCH},
#if defined(__x86_64__)
    // Sets the thread pointer where the processor has no instruction for it. The kernel rejects
    // this address.
    {SYS_arch_prctl, {0x1002 /* ARCH_SET_FS */, -1, 0, 0, 0, 0}, -EPERM},
#endif
};

// The call as a filter sees it.
seccomp_data seen_of(const known_answer& k) noexcept {
  seccomp_data d{};
  d.nr = int(k.number);
#if defined(__x86_64__)
  d.arch = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
  d.arch = AUDIT_ARCH_AARCH64;
#endif
  for (int i = 0; i < 6; i++) d.args[i] = std::uint64_t(k.arguments[i]);
  return d;
}

// Runs a filter that the kernel has already checked: its jumps go forward and stay inside, and its
// memory indices and constant divisors are valid.
std::uint32_t run(const sock_fprog& filter, const seccomp_data& data) noexcept {
  std::uint32_t a = 0, x = 0, memory[BPF_MEMWORDS] = {};
  for (unsigned at = 0; at < filter.len; at++) {
    const sock_filter& i = filter.filter[at];
    std::uint32_t operand = BPF_SRC(i.code) == BPF_X ? x : i.k;
    switch (BPF_CLASS(i.code)) {
      case BPF_LD:
      case BPF_LDX: {
        std::uint32_t& to = BPF_CLASS(i.code) == BPF_LD ? a : x;
        if (BPF_MODE(i.code) == BPF_IMM) to = i.k;
        else if (BPF_MODE(i.code) == BPF_MEM) to = memory[i.k % BPF_MEMWORDS];
        else if (BPF_MODE(i.code) == BPF_LEN) to = sizeof data;
        else if (i.k <= sizeof data - sizeof to)
          memcpy(&to, reinterpret_cast<const char*>(&data) + i.k, sizeof to);
        break;
      }
      case BPF_ST:
        memory[i.k % BPF_MEMWORDS] = a;
        break;
      case BPF_STX:
        memory[i.k % BPF_MEMWORDS] = x;
        break;
      case BPF_ALU:
        switch (BPF_OP(i.code)) {
          case BPF_ADD:
            a += operand;
            break;
          case BPF_SUB:
            a -= operand;
            break;
          case BPF_MUL:
            a *= operand;
            break;
          case BPF_DIV:
            if (operand == 0) return 0;  // ends the filter
            a /= operand;
            break;
          case BPF_AND:
            a &= operand;
            break;
          case BPF_OR:
            a |= operand;
            break;
          case BPF_XOR:
            a ^= operand;
            break;
          case BPF_LSH:
            a <<= operand & 31;
            break;
          case BPF_RSH:
            a >>= operand & 31;
            break;
          case BPF_NEG:
            a = 0 - a;
            break;
        }
        break;
      case BPF_JMP:
        switch (BPF_OP(i.code)) {
          case BPF_JA:
            at += i.k;
            break;
          case BPF_JEQ:
            at += a == operand ? i.jt : i.jf;
            break;
          case BPF_JGT:
            at += a > operand ? i.jt : i.jf;
            break;
          case BPF_JGE:
            at += a >= operand ? i.jt : i.jf;
            break;
          case BPF_JSET:
            at += a & operand ? i.jt : i.jf;
            break;
        }
        break;
      case BPF_RET:
        return BPF_RVAL(i.code) == BPF_A ? a : i.k;
      case BPF_MISC:
        if (BPF_MISCOP(i.code) == BPF_TAX) x = a;
        else a = x;
        break;
    }
  }
  return 0;
}

}  // namespace

bool turns_out_refused(long number) noexcept {
  if (is_refused(number)) return true;
  for (const known_answer& k : table) {
    if (k.number != number) continue;
    const long* v = k.arguments;
    if (arch::system_call(number, v[0], v[1], v[2], v[3], v[4], v[5]) == k.answer) return false;
    note_refused(number);
    return true;
  }
  return false;
}

void expect_filter() noexcept {
#if defined(__x86_64__)
  note_refused(SYS_arch_prctl);
#endif
}

constinit std::atomic<bool> has_filter{false};

void look_at_filter(const sock_fprog& filter) noexcept {
  has_filter.store(true, std::memory_order_relaxed);
  for (const known_answer& k : table) {
    std::uint32_t action = run(filter, seen_of(k)) & SECCOMP_RET_ACTION_FULL;
    if (action != SECCOMP_RET_ALLOW && action != SECCOMP_RET_LOG) note_refused(k.number);
  }
}

}  // namespace tendril::sys
