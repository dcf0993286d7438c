// The sets of select(2), against the kernel's own select(2) for the same descriptors, which are of
// many kinds. An input is a number of descriptors, and the sets. The process has a descriptor of
// the runtime's on a high number, which must not show.
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include "events/own_descriptors.hpp"
#include "input.hpp"
#include "posix/descriptors/select_sets.hpp"

using fuzz::expect;
using tendril::posix::select_sets;

namespace {

constexpr int first = 40, end = 64;  // the numbers of the descriptors, and of the process's table

int next_number = first;
// Puts fd on the next number. Some numbers between stay closed.
void place(int fd) {
  if (fd < 0) return;
  expect(next_number < end && dup2(fd, next_number) == next_number, "a descriptor has its number");
  next_number += next_number % 5 == 0 ? 2 : 1;
  if (fd > 2) close(fd);
}

// A connection over IP, whose first end has urgent data.
void place_urgent() {
  int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof a;
  auto* any = reinterpret_cast<sockaddr*>(&a);
  if (bind(listener, any, length) == 0 && getsockname(listener, any, &length) == 0 &&
      listen(listener, 1) == 0 && connect(client, any, length) == 0) {
    int server = accept(listener, nullptr, nullptr);
    send(client, "!", 1, MSG_OOB);
    pollfd urgent{server, POLLPRI, 0};
    poll(&urgent, 1, -1);
    place(server);
  }
  place(client);
  close(listener);
}

void open_descriptors() {
  signal(SIGPIPE, SIG_IGN);
  for (int fd = first; fd < 1024; fd++) close(fd);  // what whoever started this left open
  // The table may not grow; and a search through it shall be short.
  rlimit few{};
  getrlimit(RLIMIT_NOFILE, &few);
  few.rlim_cur = 256;
  setrlimit(RLIMIT_NOFILE, &few);
  static const int owner = 0;
  expect(tendril::core::own_descriptors::keep(eventfd(0, EFD_CLOEXEC), &owner, false) >= end,
         "the runtime has a descriptor");

  int p[2];
  expect(pipe(p) == 0, "a pipe");  // an empty one
  place(p[0]);
  place(p[1]);
  expect(pipe2(p, O_NONBLOCK) == 0, "a pipe");  // a full one
  std::vector<char> much(1 << 16);
  while (write(p[1], much.data(), much.size()) > 0) {}
  while (write(p[1], "", 1) > 0) {}
  place(p[0]);
  place(p[1]);
  expect(pipe(p) == 0, "a pipe");  // one that ends
  close(p[1]);
  place(p[0]);
  expect(pipe(p) == 0, "a pipe");  // one that nobody reads
  close(p[0]);
  place(p[1]);
  expect(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0, "a connection");
  expect(write(p[0], "x", 1) == 1, "data is sent");
  place(p[0]);
  place(p[1]);
  expect(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0, "a connection");
  shutdown(p[0], SHUT_WR);
  place(p[0]);
  place(p[1]);
  expect(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0, "a connection");
  close(p[0]);
  place(p[1]);
  place(eventfd(0, 0));
  place(eventfd(1, 0));
  place(open("/dev/null", O_RDWR));
  place(memfd_create("file", 0));
  place_urgent();
}

// Memory for a set, with nothing behind it.
class place_of_set {
 public:
  place_of_set() {
    page_ = static_cast<char*>(
        mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    expect(page_ != MAP_FAILED && mprotect(page_ + 4096, 4096, PROT_NONE) == 0, "there is memory");
  }
  fd_set* of(std::size_t bytes) { return reinterpret_cast<fd_set*>(page_ + 4096 - bytes); }
  fd_set* nowhere() { return of(0); }

 private:
  char* page_;
};

// What the kernel says of a process without descriptors of the runtime's.
long kernel_select(int n, fd_set* r, fd_set* w, fd_set* x) {
  timespec none{};
  return tendril::sys::call(SYS_pselect6, n < end ? n : end, r, w, x, &none, nullptr);
}

bool is_ready(int fd, short events) {
  pollfd p{fd, events, 0};
  return poll(&p, 1, 0) == 1;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static bool opened = (open_descriptors(), true);
  (void)opened;
  static std::array<place_of_set, 3> ours, theirs;
  fuzz::input in(data, size);

  static const int numbers[] = {0,   1,   40,  41,   48,   63,   64,    65,
                                127, 128, 256, 1023, 1024, 1025, 40000, INT_MAX};
  unsigned which = in.below(32);
  int n = which < 16 ? numbers[which] : int(in.below(70));
  // A set has room for the descriptors, or FD_SETSIZE of them if they are more.
  std::size_t room = std::size_t(std::min(n, FD_SETSIZE) + 63) / 64 * 8;
  fd_set *mine[3] = {}, *kernels[3] = {};
  std::vector<char> before[3];
  unsigned missing = in.below(8), nowhere = in.below(32), far = in.below(4);
  bool same = in.below(8) == 1;  // the second set is the first
  for (std::size_t i = 0; i < 3; i++) {
    if (missing >> i & 1) continue;
    if (nowhere == i) {
      mine[i] = ours[i].nowhere();
      kernels[i] = theirs[i].nowhere();
      continue;
    }
    mine[i] = i == 1 && same && mine[0] && nowhere != 0 ? mine[0] : ours[i].of(room);
    kernels[i] = mine[i] == mine[0] && i ? kernels[0] : theirs[i].of(room);
    memset(mine[i], 0, room);
    // Below are descriptors that are not ours, and may become ready at any time.
    std::uint64_t bits = in.number<std::uint64_t>() >> first << first;
    if (far != 3) {  // only those that are open
      for (int fd = first; fd < end; fd++) {
        if (fcntl(fd, F_GETFD) < 0) bits &= ~(1ULL << fd);
      }
    }
    memcpy(mine[i], &bits, std::min(room, sizeof bits));
    if (far == 2 && room > 8) reinterpret_cast<char*>(mine[i])[8 + in.number() % (room - 8)] = 1;
    memcpy(kernels[i], mine[i], room);
  }
  for (std::size_t i = 0; i < 3; i++) {
    auto* p = reinterpret_cast<char*>(mine[i]);
    if (p && nowhere != i) before[i].assign(p, p + room);
  }
  auto as_before = [&] {
    for (std::size_t i = 0; i < 3; i++) {
      if (!before[i].empty() && memcmp(mine[i], before[i].data(), room) != 0) return false;
    }
    return true;
  };

  long wanted = kernel_select(n, kernels[0], kernels[1], kernels[2]);
  int reach = select_sets::reach(n);
  select_sets sets(reach, mine[0], mine[1], mine[2]);
  expect(sets.ok(), "there is memory");
  if (sets.bad()) {
    expect(wanted == -EFAULT, "the sets are where the kernel cannot read them");
    return 0;
  }
  expect(as_before(), "looking at the sets leaves them alone");
  long got = sets.now(nullptr);
  expect(got == wanted, "the result is the kernel's");
  // (Whether bits from n on that are in the same word are cleared depends on the table's size.)
  for (std::size_t i = 0; i < 3; i++) {
    for (int fd = 0; !before[i].empty() && fd < std::min(n, FD_SETSIZE); fd++)
      expect(!FD_ISSET(fd, mine[i]) == !FD_ISSET(fd, kernels[i]), "the sets are the kernel's");
  }

  // Who is waited for: each descriptor of the sets once, in order.
  int last = -1, count = 0;
  auto has = [](const auto& set, int fd) {
    std::size_t byte = std::size_t(fd) / 8;
    return byte < set.size() && set[byte] >> fd % 8 & 1;
  };
  sets.each([&](int fd, std::uint32_t events) {
    expect(fd > last && fd < reach, "descriptors come in order");
    last = fd;
    count++;
    bool in_any = false, ready = false;
    for (std::size_t i = 0; i < 3; i++) {
      if (!has(before[i], fd)) continue;
      in_any = true;
      ready |= got > 0 && FD_ISSET(fd, kernels[i]);
    }
    expect(in_any && events, "a descriptor that is waited for is in a set");
    expect(!ready || is_ready(fd, short(events)), "the events are those that make select return");
  });
  expect(count == sets.count(), "the count is that of the descriptors");
  if (got >= 0) {
    int in_sets = 0;
    for (int fd = 0; fd < std::min(n, end); fd++)
      in_sets += has(before[0], fd) || has(before[1], fd) || has(before[2], fd);
    expect(count >= in_sets, "all that are in a set are waited for");
  }

  expect(sets.fail(-EINTR) == -EINTR && as_before(), "a call that fails leaves the sets alone");
  return 0;
}
