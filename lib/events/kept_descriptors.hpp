// Descriptors that waiting fibers of one hub have opened for their waits (a child's pidfd). They
// are kept out of the program's way (own_descriptors.hpp), and a child of fork closes them.
#pragma once

#include "base/list.hpp"
#include "fiber/fiber.hpp"

namespace tendril::core {

// It does not lie in the frame of the wait, since a handler may leave that by siglongjmp.
struct kept_descriptor : list_node {
  int fd = -1;
  const fiber* who = nullptr;   // the waiting fiber; null: unused
  const void* frame = nullptr;  // the frame of its wait
};

class kept_descriptors {
 public:
  // `forget`: as forget_descriptor().
  explicit kept_descriptors(void (*forget)(int fd) noexcept) noexcept : forget_(forget) {}
  // Keeps fd, which was just opened, until drop(). `frame`: the frame of the running fiber's wait.
  // Returns null if there is no place for it; then fd is closed.
  kept_descriptor* keep(int fd, const void* frame) noexcept;
  // Closes it, unless the program has replaced it.
  void drop(kept_descriptor& k) noexcept;
  // Calls f(fd) for each that the program has closed or replaced unseen.
  template <class F>
  void for_each_lost(F f) noexcept {
    for (kept_descriptor* k = kept_.front(); k; k = kept_.after(*k)) {
      if (!is_there(*k)) f(k->fd);
    }
  }
  // In a forked child: closes the parent's, and then forgets them.
  void close_inherited() noexcept;
  void after_fork() noexcept { kept_.abandon(); }

 private:
  static bool is_there(const kept_descriptor& k) noexcept;

  void (*const forget_)(int fd) noexcept;
  list<kept_descriptor> kept_, free_;
};

}  // namespace tendril::core
