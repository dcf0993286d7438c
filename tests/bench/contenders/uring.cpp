// A raw io_uring loop, by liburing: completions instead of readiness, many operations per system
// call.
#include <liburing.h>

#include "bench.hpp"

using namespace bench;

namespace {

struct connection {
  int fd;
  char buffer[4096];
};

io_uring ring;

io_uring_sqe* next() {
  io_uring_sqe* e = io_uring_get_sqe(&ring);
  if (!e) io_uring_submit(&ring), e = io_uring_get_sqe(&ring);
  return e;
}
void receive(connection* c) {
  io_uring_sqe* e = next();
  io_uring_prep_recv(e, c->fd, c->buffer, sizeof c->buffer, 0);
  io_uring_sqe_set_data(e, c);
}

void echo(work&) {
  int listener = listen_on_loopback();
  // One thread, which gets completions only when it asks for them.
  if (io_uring_queue_init(4096, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) <
          0 &&
      io_uring_queue_init(4096, &ring, 0) < 0)
    fail("io_uring");
  auto accept_next = [=] {
    io_uring_sqe* e = next();
    io_uring_prep_accept(e, listener, nullptr, nullptr, 0);
    io_uring_sqe_set_data(e, nullptr);
  };
  accept_next();
  for (;;) {
    io_uring_submit_and_wait(&ring, 1);
    io_uring_cqe* e;
    unsigned head, seen = 0;
    io_uring_for_each_cqe(&ring, head, e) {
      seen++;
      auto* c = static_cast<connection*>(io_uring_cqe_get_data(e));
      if (!c) {
        if (e->res < 0) std::fprintf(stderr, "accept: %s\n", strerror(-e->res)), std::exit(1);
        no_delay(e->res);
        receive(new connection{e->res, {}});
        accept_next();
      } else if (e->res <= 0) {
        close(c->fd);
        delete c;
      } else {
        // The reply is sent before the next request is received: with a full socket, this only
        // delays the request.
        io_uring_sqe* s = next();
        io_uring_prep_send(s, c->fd, c->buffer, unsigned(e->res), MSG_WAITALL);
        s->flags |= IOSQE_CQE_SKIP_SUCCESS | IOSQE_IO_LINK;
        io_uring_sqe_set_data(s, c);
        receive(c);
      }
    }
    io_uring_cq_advance(&ring, seen);
  }
}

}  // namespace

int main(int argc, char** argv) { return contend(argc, argv, {{"echo", echo, question::once}}); }
