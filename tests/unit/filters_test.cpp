// Filters of system calls that the program installs (seccomp(2)): which of the runtime's own calls
// they refuse is found out by running them as the kernel would.
#include <doctest/doctest.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>

#include <vector>

#include "base/refused.hpp"

using namespace tendril::sys;

namespace {

using filter = std::vector<sock_filter>;

constexpr std::uint32_t refuse = SECCOMP_RET_ERRNO | ENOSYS;

bool refuses(filter f, long number = SYS_pidfd_open) {
  for (auto& r : refused_calls) r = false;
  sock_fprog p{static_cast<unsigned short>(f.size()), f.data()};
  look_at_filter(p);
  bool is = is_refused(number);
  for (auto& r : refused_calls) r = false;
  return is;
}

sock_filter stmt(unsigned code, std::uint32_t k) {
  return {static_cast<unsigned short>(code), 0, 0, k};
}
sock_filter jump(unsigned code, std::uint32_t k, unsigned char yes, unsigned char no) {
  return {static_cast<unsigned short>(code), yes, no, k};
}
sock_filter load(std::uint32_t k) { return stmt(BPF_LD | BPF_IMM, k); }
sock_filter load_x(std::uint32_t k) { return stmt(BPF_LDX | BPF_IMM, k); }
sock_filter ret(std::uint32_t k) { return stmt(BPF_RET | BPF_K, k); }

// Whether the filter leaves `value` in the accumulator.
bool leaves(std::uint32_t value, filter f) {
  f.push_back(jump(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
  f.push_back(ret(refuse));
  f.push_back(ret(SECCOMP_RET_ALLOW));
  return refuses(f);
}
bool leaves(std::uint32_t value, std::uint32_t a, unsigned operation, std::uint32_t b) {
  auto code = static_cast<unsigned short>(BPF_ALU | operation);
  bool by_constant = leaves(value, {load(a), stmt(code | BPF_K, b)});
  CHECK(leaves(value, {load_x(b), load(a), stmt(code | BPF_X, 0)}) == by_constant);
  return by_constant;
}
bool jumps(std::uint32_t a, unsigned condition, std::uint32_t b) {
  auto code = static_cast<unsigned short>(BPF_JMP | condition);
  filter f = {load(a), jump(code | BPF_K, b, 1, 0), ret(SECCOMP_RET_ALLOW), ret(refuse)};
  bool by_constant = refuses(f);
  f = {load_x(b), load(a), jump(code | BPF_X, 0, 1, 0), ret(SECCOMP_RET_ALLOW), ret(refuse)};
  CHECK(refuses(f) == by_constant);
  return by_constant;
}

}  // namespace

TEST_CASE("a filter's verdict counts") {
  CHECK_FALSE(refuses({ret(SECCOMP_RET_ALLOW)}));
  CHECK_FALSE(refuses({ret(SECCOMP_RET_LOG)}));
  for (std::uint32_t r :
       {SECCOMP_RET_ERRNO | 0U, refuse, SECCOMP_RET_TRAP | 0U, SECCOMP_RET_KILL_PROCESS | 0U,
        SECCOMP_RET_KILL_THREAD | 0U, SECCOMP_RET_TRACE | 0U, SECCOMP_RET_USER_NOTIF | 0U})
    CHECK(refuses({ret(r)}));
  // The data of an action are no part of it.
  CHECK_FALSE(refuses({ret(SECCOMP_RET_ALLOW | 0xffff)}));
  CHECK(refuses({load(refuse), stmt(BPF_RET | BPF_A, 0)}));
}

TEST_CASE("conditions of jumps are the kernel's") {
  constexpr std::uint32_t large = 0xffffffff;
  CHECK(jumps(5, BPF_JEQ, 5));
  CHECK_FALSE(jumps(5, BPF_JEQ, 4));
  CHECK(jumps(6, BPF_JGT, 5));
  CHECK_FALSE(jumps(5, BPF_JGT, 5));
  CHECK(jumps(large, BPF_JGT, 5));
  CHECK(jumps(5, BPF_JGE, 5));
  CHECK_FALSE(jumps(4, BPF_JGE, 5));
  CHECK(jumps(6, BPF_JSET, 2));
  CHECK_FALSE(jumps(5, BPF_JSET, 2));
  CHECK(refuses({jump(BPF_JMP | BPF_JA, 1, 0, 0), ret(SECCOMP_RET_ALLOW), ret(refuse)}));
  // The other way of a condition.
  CHECK(refuses(
      {load(1), jump(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 1), ret(SECCOMP_RET_ALLOW), ret(refuse)}));
}

TEST_CASE("arithmetic is the kernel's") {
  CHECK(leaves(8, 5, BPF_ADD, 3));
  CHECK(leaves(1, 0xffffffff, BPF_ADD, 2));
  CHECK(leaves(0xfffffffe, 5, BPF_SUB, 7));
  CHECK(leaves(15, 5, BPF_MUL, 3));
  CHECK(leaves(2, 8, BPF_DIV, 3));
  CHECK(leaves(4, 12, BPF_AND, 6));
  CHECK(leaves(14, 12, BPF_OR, 6));
  CHECK(leaves(10, 12, BPF_XOR, 6));
  CHECK(leaves(40, 5, BPF_LSH, 3));
  CHECK(leaves(0x1fffffff, 0xffffffff, BPF_RSH, 3));
  CHECK(leaves(0xfffffffb, {load(5), stmt(BPF_ALU | BPF_NEG, 0)}));
  // Division by zero ends a filter with 0, which is SECCOMP_RET_KILL_THREAD.
  CHECK(refuses({load_x(0), load(5), stmt(BPF_ALU | BPF_DIV | BPF_X, 0), ret(SECCOMP_RET_ALLOW)}));
}

TEST_CASE("registers, memory and the description of the call are the kernel's") {
  CHECK(leaves(7, {load(7), stmt(BPF_MISC | BPF_TAX, 0), load(1), stmt(BPF_MISC | BPF_TXA, 0)}));
  CHECK(leaves(7, {load(7), stmt(BPF_ST, 3), load(1), stmt(BPF_LD | BPF_MEM, 3)}));
  CHECK(leaves(7, {load_x(7), stmt(BPF_STX, 15), load_x(1), stmt(BPF_LDX | BPF_MEM, 15),
                   stmt(BPF_MISC | BPF_TXA, 0)}));
  CHECK(leaves(sizeof(seccomp_data), {stmt(BPF_LD | BPF_W | BPF_LEN, 0)}));
  auto field = [](std::size_t at) {
    return stmt(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(at));
  };
  CHECK(leaves(SYS_pidfd_open, {field(offsetof(seccomp_data, nr))}));
  // pidfd_open(-1, 0)
  CHECK(leaves(0xffffffff, {field(offsetof(seccomp_data, args))}));
  CHECK(leaves(0xffffffff, {field(offsetof(seccomp_data, args) + 4)}));
  CHECK(leaves(0, {field(offsetof(seccomp_data, args) + 8)}));
}

TEST_CASE("a filter that refuses one call allows the others") {
  filter f = {stmt(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
              jump(BPF_JMP | BPF_JEQ | BPF_K, SYS_eventfd2, 0, 1), ret(refuse),
              ret(SECCOMP_RET_ALLOW)};
  CHECK(refuses(f, SYS_eventfd2));
  CHECK_FALSE(refuses(f, SYS_pidfd_open));
  CHECK_FALSE(refuses(f, SYS_epoll_ctl));
}
