// Writes values as Python prints them, which the tutorials' programs need.
#pragma once

#include <cstdio>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>
#include <system_error>
#include <tendril/net/socket.hpp>

namespace python {

// A str's repr(), for text in which only quotes need an escape: 'ls /rrr', "it's".
inline std::string repr(std::string_view text) {
  char quote = text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
  std::string out(1, quote);
  for (char c : text) {
    if (c == quote || c == '\\') out += '\\';
    out += c;
  }
  return out + quote;
}

// A bytes object's repr(): b'hello', b'\x00\n'.
inline std::string bytes_repr(std::string_view bytes) {
  char quote = bytes.find('\'') != bytes.npos && bytes.find('"') == bytes.npos ? '"' : '\'';
  std::string out = "b";
  out += quote;
  for (char c : bytes) {
    auto code = static_cast<unsigned char>(c);
    if (c == quote || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (code < 0x20 || code >= 0x7f) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\x%02x", code);
      out += escape;
    } else {
      out += c;
    }
  }
  return out + quote;
}

// UTF-8 text as str.encode("ascii", "backslashreplace") writes it. (Bytes that are not UTF-8 are
// kept.)
inline std::string backslash_replace(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    auto first = static_cast<unsigned char>(text[i]);
    std::size_t n = first < 0xc0 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (n == 1 || i + n > text.size()) {
      out += text[i++];
      continue;
    }
    unsigned code = first & (0x7fu >> n);
    for (std::size_t k = 1; k < n; k++)
      code = code << 6 | (static_cast<unsigned char>(text[i + k]) & 0x3fu);
    char escape[16];
    if (code < 0x100) std::snprintf(escape, sizeof escape, "\\x%02x", code);
    else if (code < 0x10000) std::snprintf(escape, sizeof escape, "\\u%04x", code);
    else std::snprintf(escape, sizeof escape, "\\U%08x", code);
    out += escape;
    i += n;
  }
  return out;
}

// ('127.0.0.1', 10000); of IPv6 with the flow and the scope: ('::1', 10000, 0, 0)
inline std::string repr(const tendril::net::address& a) {
  std::string host = a.host();
  std::string text = "('" + host.substr(0, host.find('%')) + "', " + std::to_string(a.port());
  if (a.family() == AF_INET6) {
    sockaddr_in6 in{};
    std::memcpy(&in, a.data(), sizeof in);
    text +=
        ", " + std::to_string(ntohl(in.sin6_flowinfo)) + ", " + std::to_string(in.sin6_scope_id);
  }
  return text + ")";
}

// A socket's repr(), as CPython's without its wrappers writes it: without raddr if the socket is
// not connected, or no longer.
inline std::string repr(const tendril::net::socket& s) {
  tendril::net::address local = s.local_address();
  std::string text = "<socket.socket fd=" + std::to_string(s.descriptor()) +
                     ", family=" + std::to_string(local.family()) +
                     ", type=1, proto=0, laddr=" + repr(local);
  try {
    text += ", raddr=" + repr(s.remote_address());
  } catch (const std::system_error&) {
    // ENOTCONN
  }
  return text + ">";
}

// The beginning of what print(sys.stderr, ...) prints: the tutorial's programs pass the stream as
// the first object to print.
inline constexpr const char* stderr_repr =
    "<_io.TextIOWrapper name='<stderr>' mode='w' encoding='UTF-8'>";

// The time of day: 17:29:19.
inline std::string now() {
  std::time_t t = std::time(nullptr);
  std::tm local{};
  localtime_r(&t, &local);
  char text[16];
  std::strftime(text, sizeof text, "%H:%M:%S", &local);
  return text;
}

}  // namespace python
