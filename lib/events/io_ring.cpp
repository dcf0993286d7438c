#include "events/io_ring.hpp"

#include <errno.h>
#include <linux/io_uring.h>

#include "base/sys.hpp"

namespace tendril::core {

namespace {

// Without these flags (before Linux 6.1) the kernel would carry out operations at any time, and
// interrupt other waits of the thread for that.
constexpr std::uint32_t set_up = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
constexpr std::uint32_t needed =
    IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_CQE_SKIP;

const char* obstacle(long error) noexcept {
  switch (-error) {
    case ENOSYS:
      return "this kernel has no io_uring";
    case EPERM:
    case EACCES:
      return "it is forbidden here (kernel.io_uring_disabled, or a seccomp filter)";
    case EINVAL:
      return "this kernel's io_uring is too old: it takes Linux 6.1";
    default:
      return "there is no memory or descriptor left for it";
  }
}

void* map_shared(int fd, std::size_t size, std::uint64_t what) noexcept {
  long p =
      sys::call(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, what);
  if (sys::failed(p)) return nullptr;
  void* at = reinterpret_cast<void*>(p);
  sys::advise(at, size, MADV_DONTFORK);
  return at;
}

template <class T>
T* at(void* base, std::uint32_t offset) noexcept {
  return reinterpret_cast<T*>(static_cast<char*>(base) + offset);
}

}  // namespace

static_assert(sizeof(ring::end) == sizeof(io_uring_cqe) &&
              offsetof(ring::end, result) == offsetof(io_uring_cqe, res));

const char* ring::open() noexcept {
  io_uring_params p{};
  p.flags = set_up;
  p.cq_entries = ends_size;
  long fd = sys::call(SYS_io_uring_setup, queue_size, &p);
  if (fd < 0) return obstacle(fd);
  long error = (p.features & needed) == needed && p.sq_entries == queue_size ? 0 : -EINVAL;
  if (error == 0) {
    io_uring_rsrc_update own{.offset = ~0u, .resv = 0, .data = std::uint64_t(fd)};
    long n = sys::call(SYS_io_uring_register, fd, IORING_REGISTER_RING_FDS, &own, 1);
    if (n == 1) number_ = int(own.offset);
    else error = n < 0 ? n : -EINVAL;
  }
  if (error == 0) {
    std::size_t queue = p.sq_off.array + queue_size * sizeof(std::uint32_t);
    std::size_t ends = p.cq_off.cqes + p.cq_entries * sizeof(io_uring_cqe);
    shared_size_ = queue > ends ? queue : ends;
    shared_ = map_shared(int(fd), shared_size_, IORING_OFF_SQ_RING);
    if (shared_)
      queue_ = static_cast<io_uring_sqe*>(
          map_shared(int(fd), queue_size * sizeof(io_uring_sqe), IORING_OFF_SQES));
    if (!queue_) error = -ENOMEM;
  }
  sys::close(int(fd));
  if (error) {
    close();
    return obstacle(error);
  }
  queue_head_ = at<std::uint32_t>(shared_, p.sq_off.head);
  queue_tail_ = at<std::uint32_t>(shared_, p.sq_off.tail);
  ends_ = at<end>(shared_, p.cq_off.cqes);
  ends_head_at_ = at<std::uint32_t>(shared_, p.cq_off.head);
  ends_tail_at_ = at<std::uint32_t>(shared_, p.cq_off.tail);
  ends_mask_ = p.cq_entries - 1;
  // Entries are submitted in the order in which they lie.
  for (std::uint32_t i = 0; i < queue_size; i++) at<std::uint32_t>(shared_, p.sq_off.array)[i] = i;
  return nullptr;
}

void ring::close() noexcept {
  if (queue_) sys::unmap(queue_, queue_size * sizeof(io_uring_sqe));
  if (shared_) sys::unmap(shared_, shared_size_);
  abandon();
}

io_uring_sqe& ring::entry(std::uint32_t i) noexcept { return queue_[i % queue_size]; }

io_uring_sqe& ring::add(std::uint64_t mark) noexcept {
  io_uring_sqe& e = entry(tail_++);
  e = {};
  e.user_data = mark;
  return e;
}

long ring::enter(unsigned least, const timespec* timeout, const std::uint64_t* mask) noexcept {
  std::atomic_ref(*queue_tail_).store(tail_, std::memory_order_release);
  std::uint32_t added = tail_ - head().load(std::memory_order_acquire);
  static_assert(sizeof(wait_argument) == sizeof(io_uring_getevents_arg));
  wait_argument more{};
  more.mask = reinterpret_cast<std::uintptr_t>(mask);
  more.mask_size = sizeof *mask;
  more.time = reinterpret_cast<std::uintptr_t>(timeout);
  return sys::call(SYS_io_uring_enter, number_, added, least,
                   IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | IORING_ENTER_REGISTERED_RING,
                   &more, sizeof more);
}

void ring::done_with(std::uint32_t n) noexcept {
  ends_head_ += n;
  std::atomic_ref(*ends_head_at_).store(ends_head_, std::memory_order_release);
}

}  // namespace tendril::core
