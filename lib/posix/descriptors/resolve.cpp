// Names and addresses. The C library's own resolver runs on helper threads, so nsswitch.conf,
// hosts, mDNS, ... work as usual.
#include <tendril/posix.hpp>

#include <arpa/inet.h>
#include <string.h>

#include "posix/common/offload.hpp"

namespace tendril::posix {

namespace {

// A string argument that outlives its caller; null stays null.
class text_copy {
 public:
  text_copy() noexcept = default;
  explicit text_copy(const char* s) noexcept : p_(s ? strdup(s) : nullptr), lost_(s && !p_) {}
  text_copy(text_copy&& o) noexcept : p_(std::exchange(o.p_, nullptr)), lost_(o.lost_) {}
  text_copy& operator=(text_copy&& o) noexcept {
    std::swap(p_, o.p_);
    lost_ = o.lost_;
    return *this;
  }
  ~text_copy() { free(p_); }
  const char* get() const noexcept { return p_; }
  bool lost() const noexcept { return lost_; }

 private:
  char* p_ = nullptr;
  bool lost_ = false;
};

struct addrinfo_lookup {
  text_copy node, service;
  addrinfo hints{};
  bool has_hints = false;
  addrinfo* found = nullptr;
  int r = 0, error = 0;
  void run() noexcept {
    errno = 0;
    r = real.getaddrinfo(node.get(), service.get(), has_hints ? &hints : nullptr, &found);
    error = errno;
  }
  void undo() noexcept {
    if (r == 0 && found) freeaddrinfo(found);
  }
};

// A look-up that uses the caller's memory, so it is waited for in any case. f() runs on the helper;
// the helper's errno and h_errno are copied to the caller's.
template <class F>
auto look_up(F f) noexcept {
  int error = 0, h_error = 0;
  auto r = offload(
      [&] {
        errno = 0;
        h_errno = 0;
        auto value = f();
        error = errno;
        h_error = h_errno;
        return value;
      },
      handlers::meanwhile);
  if (error) errno = error;
  h_errno = h_error;
  return r;
}

// A numeric address needs no look-up, so no helper.
bool is_numeric(const char* node) noexcept {
  unsigned char address[sizeof(in6_addr)];
  return inet_pton(AF_INET, node, address) == 1 || inet_pton(AF_INET6, node, address) == 1;
}

}  // namespace

int getaddrinfo(const char* node, const char* service, const addrinfo* hints, addrinfo** found) {
  // If there is no name to look up, the call does not wait.
  if (!cooperative() || !node || (hints && (hints->ai_flags & AI_NUMERICHOST)) ||
      is_numeric(node)) {
    return real.getaddrinfo(node, service, hints, found);
  }
  addrinfo_lookup l;
  l.node = text_copy(node);
  l.service = text_copy(service);
  if (l.node.lost() || l.service.lost()) return EAI_MEMORY;
  if ((l.has_hints = hints)) l.hints = *hints;
  int e = offload_abandonable(l);
  if (e < 0) {
    errno = -e;
    return e == -ENOMEM ? EAI_MEMORY : EAI_SYSTEM;
  }
  if (l.r == 0) *found = l.found;
  if (l.error) errno = l.error;
  return l.r;
}

int getnameinfo(const sockaddr* a, socklen_t len, char* host, socklen_t host_len, char* service,
                socklen_t service_len, int flags) {
  if (!cooperative() || (flags & NI_NUMERICHOST) || !host || !host_len) {
    return real.getnameinfo(a, len, host, host_len, service, service_len, flags);
  }
  return look_up(
      [&] { return real.getnameinfo(a, len, host, host_len, service, service_len, flags); });
}

hostent* gethostbyname(const char* name) {
  if (!cooperative()) return real.gethostbyname(name);
  return look_up([&] { return real.gethostbyname(name); });
}

hostent* gethostbyname2(const char* name, int family) {
  if (!cooperative()) return real.gethostbyname2(name, family);
  return look_up([&] { return real.gethostbyname2(name, family); });
}

hostent* gethostbyaddr(const void* a, socklen_t len, int family) {
  if (!cooperative()) return real.gethostbyaddr(a, len, family);
  return look_up([&] { return real.gethostbyaddr(a, len, family); });
}

int gethostbyname_r(const char* name, hostent* h, char* buf, size_t n, hostent** found,
                    int* error) {
  if (!cooperative()) return real.gethostbyname_r(name, h, buf, n, found, error);
  return look_up([&] { return real.gethostbyname_r(name, h, buf, n, found, error); });
}

int gethostbyname2_r(const char* name, int family, hostent* h, char* buf, size_t n, hostent** found,
                     int* error) {
  if (!cooperative()) return real.gethostbyname2_r(name, family, h, buf, n, found, error);
  return look_up([&] { return real.gethostbyname2_r(name, family, h, buf, n, found, error); });
}

int gethostbyaddr_r(const void* a, socklen_t len, int family, hostent* h, char* buf, size_t n,
                    hostent** found, int* error) {
  if (!cooperative()) return real.gethostbyaddr_r(a, len, family, h, buf, n, found, error);
  return look_up([&] { return real.gethostbyaddr_r(a, len, family, h, buf, n, found, error); });
}

}  // namespace tendril::posix
