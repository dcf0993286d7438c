// Socket addresses: IPv4, IPv6, and the names of local (Unix) sockets. They are values; any kernel
// thread may use them.
#pragma once

#include "../detail/cxx20.hpp"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tendril::net {

class [[nodiscard]] address {
 public:
  // No address (AF_UNSPEC).
  address() noexcept { storage_.ss_family = AF_UNSPEC; }
  // An address that a call has filled in. Throws std::length_error if it is longer than a
  // sockaddr_storage.
  address(const sockaddr* a, socklen_t n) : length_(n) {
    if (n > sizeof storage_) throw std::length_error("the socket address is too long");
    storage_.ss_family = AF_UNSPEC;
    if (n) std::memcpy(&storage_, a, n);
  }
  // A numeric IPv4 or IPv6 address ("127.0.0.1", "::1", "fe80::1%eth0"). Names are not looked up:
  // see resolve(). Throws std::invalid_argument if it is not numeric.
  static address ip(const std::string& numeric, std::uint16_t port) {
    address a;
    if (in_addr v4; inet_pton(AF_INET, numeric.c_str(), &v4) == 1) {
      sockaddr_in in{};
      in.sin_family = AF_INET;
      in.sin_port = htons(port);
      in.sin_addr = v4;
      return {reinterpret_cast<sockaddr*>(&in), sizeof in};
    }
    std::size_t percent = numeric.find('%');
    if (in6_addr v6; inet_pton(AF_INET6, numeric.substr(0, percent).c_str(), &v6) == 1) {
      sockaddr_in6 in{};
      in.sin6_family = AF_INET6;
      in.sin6_port = htons(port);
      in.sin6_addr = v6;
      if (percent != std::string::npos) {
        in.sin6_scope_id = if_nametoindex(numeric.c_str() + percent + 1);
        if (!in.sin6_scope_id) throw std::invalid_argument("no such interface: " + numeric);
      }
      return {reinterpret_cast<sockaddr*>(&in), sizeof in};
    }
    throw std::invalid_argument("not an IP address: " + numeric);
  }
  // The IPv4 loopback address.
  static address loopback(std::uint16_t port) { return ip("127.0.0.1", port); }
  // The path of a local socket; a path that begins with a zero byte is an abstract name without a
  // file. Throws std::length_error for more than 107 bytes.
  static address local(std::string_view path) {
    sockaddr_un un{};
    if (path.size() >= sizeof un.sun_path)
      throw std::length_error("the path of a local socket is too long");
    un.sun_family = AF_UNIX;
    std::memcpy(un.sun_path, path.data(), path.size());
    bool abstract = !path.empty() && path[0] == 0;
    return {reinterpret_cast<sockaddr*>(&un),
            socklen_t(offsetof(sockaddr_un, sun_path) + path.size() +
                      (abstract || path.empty() ? 0 : 1))};
  }

  // AF_INET, AF_INET6, AF_UNIX or AF_UNSPEC; the address and its size in bytes, for system calls.
  int family() const noexcept { return storage_.ss_family; }
  const sockaddr* data() const noexcept { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const noexcept { return length_; }

  // The port in host byte order; 0 if the address has none.
  std::uint16_t port() const noexcept {
    if (family() == AF_INET) return ntohs(as<sockaddr_in>().sin_port);
    if (family() == AF_INET6) return ntohs(as<sockaddr_in6>().sin6_port);
    return 0;
  }
  // The numeric address without the port, or the path.
  std::string host() const {
    char text[INET6_ADDRSTRLEN];
    if (family() == AF_INET) {
      sockaddr_in in = as<sockaddr_in>();
      return inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
    }
    if (family() == AF_INET6) {
      sockaddr_in6 in = as<sockaddr_in6>();
      std::string s = inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof text);
      char name[IF_NAMESIZE];
      if (in.sin6_scope_id)
        s += "%" +
             (if_indextoname(in.sin6_scope_id, name) ? name : std::to_string(in.sin6_scope_id));
      return s;
    }
    if (family() == AF_UNIX && length_ > offsetof(sockaddr_un, sun_path)) {
      auto* path = reinterpret_cast<const char*>(&storage_) + offsetof(sockaddr_un, sun_path);
      std::size_t n = length_ - offsetof(sockaddr_un, sun_path);
      return path[0] ? std::string(path, strnlen(path, n)) : std::string(path, n);
    }
    return {};
  }
  // A readable form: "127.0.0.1:80", "[::1]:80", a path, "@name" for an abstract name.
  std::string to_string() const {
    std::string h = host();
    if (family() == AF_INET) return h + ":" + std::to_string(port());
    if (family() == AF_INET6) return "[" + h + "]:" + std::to_string(port());
    if (!h.empty() && h[0] == 0) h[0] = '@';
    return h;
  }

  friend bool operator==(const address& a, const address& b) noexcept {
    if (a.family() != b.family()) return false;
    if (a.family() == AF_INET || a.family() == AF_INET6)
      return a.port() == b.port() && a.host() == b.host();
    return a.length_ == b.length_ && std::memcmp(&a.storage_, &b.storage_, a.length_) == 0;
  }

 private:
  template <class T>
  T as() const noexcept {
    T t;
    std::memcpy(&t, &storage_, sizeof t);
    return t;
  }
  sockaddr_storage storage_{};
  socklen_t length_ = 0;
};

}  // namespace tendril::net
