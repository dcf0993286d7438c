#include "posix/descriptors/ring_receive.hpp"

#include "posix/descriptors/file_kind.hpp"
#include "posix/descriptors/iovec_cursor.hpp"
#include "posix/descriptors/wait.hpp"

namespace tendril::posix {

long receive_by_ring(int fd, void* buf, std::size_t n) noexcept {
  hub& h = my_hub();
  if (n == 0 || !in_hubs_process() || kind_of(fd) != file_kind::socket ||
      sys::is_refused(SYS_recvfrom) || receives_by_mark(fd))
    return core::not_by_ring;
  std::size_t room = n < vector_walk::most ? n : vector_walk::most;
  for (;;) {
    bool empty = h.io.seems_empty(fd);
    std::uint32_t begun = h.io.begin_receive(fd);
    if (!empty) {
      long r = sys::call(SYS_recvfrom, fd, buf, room, MSG_DONTWAIT, 0, 0);
      if (r > 0 && std::size_t(r) < room) h.io.received_all(fd, begun);
      if (r != -EAGAIN) {
        h.charge_budget();
        return r;
      }
    }
    deadline until = deadline::never();
    if (!waits_without_end(fd) && (!waits_until(fd, SO_RCVTIMEO, until) || !waits_without_end(fd)))
      return core::not_by_ring;
    core::ring_receive receive;
    receive.who = core::current;
    receive.fd = fd;
    receive.to = buf;
    receive.room = std::uint32_t(room);
    core::wait_info what;
    what.kind = core::wait_kind::descriptor;
    what.fd = fd;
    what.interruptible = true;
    int saved = errno;
    core::wake why;
    {
      core::handlers_deferred quiet;
      if (!h.io.begin(receive)) return core::not_by_ring;
      why = park_unless_interrupted(what, until, on_signal::restart);
      h.io.end(receive);
    }
    errno = saved;
    if (receive.result != -ECANCELED) {
      if (receive.result > 0 && std::size_t(receive.result) < room) h.io.received_all(fd, begun);
      return receive.result;
    }
    if (int w = outcome(why, what, on_signal::restart); w < 0) return w;
    if (!h.io.wants_ring()) return core::not_by_ring;
  }
}

}  // namespace tendril::posix
