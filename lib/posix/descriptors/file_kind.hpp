// The kind of file that a descriptor stands for.
#pragma once

#include <sys/socket.h>

#include <cstdint>

namespace tendril::posix {

// The kinds that the calls distinguish (event: an eventfd; packets: a SOCK_SEQPACKET socket).
enum class file_kind : std::uint8_t {
  unknown,
  socket,
  pipe,
  regular,
  character,
  event,
  other,
  packets
};
inline bool is_socket(file_kind k) noexcept {
  return k == file_kind::socket || k == file_kind::packets;
}
inline file_kind kind_of_socket(int type) noexcept {
  return type == SOCK_SEQPACKET ? file_kind::packets : file_kind::socket;
}
file_kind kind_of(int fd) noexcept;
void note_kind(int fd, file_kind k) noexcept;
// Determines the kind anew, without the cached value.
file_kind look_up_kind(int fd) noexcept;

}  // namespace tendril::posix
