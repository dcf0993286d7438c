// HTTP/1.1 over a connection, by Node's parser: shared by the HTTP servers here.
#pragma once

#include <http_parser.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <tendril/stream.hpp>

struct request {
  std::string method, target;
  bool keep_alive = false;
};
struct response {
  int status;
  std::string_view reason;
  std::string body;
  std::string_view headers = {};  // further headers, each with its line end
  std::string_view type = "text/plain";
};
struct bad_request {};

// The requests of one connection; bodies are read and ignored.
class request_reader {
 public:
  explicit request_reader(tendril::stream& s) : stream_(s) {
    http_parser_init(&parser_, HTTP_REQUEST);
    parser_.data = this;
  }
  // Returns an empty optional at the end of the connection.
  std::optional<request> next() {
    now_ = {};
    complete_ = false;
    http_parser_pause(&parser_, 0);
    for (bool begun = !unparsed_.empty();; begun = true) {
      if (unparsed_.empty()) {
        unparsed_ = stream_.read_some();
        if (unparsed_.empty()) {
          if (begun) throw bad_request{};
          return {};
        }
      }
      std::size_t n =
          http_parser_execute(&parser_, &settings(), unparsed_.data(), unparsed_.size());
      unparsed_.erase(0, n);
      if (complete_) return std::move(now_);
      if (HTTP_PARSER_ERRNO(&parser_) != HPE_OK) throw bad_request{};
    }
  }

 private:
  static request_reader& of(http_parser* p) { return *static_cast<request_reader*>(p->data); }
  static const http_parser_settings& settings() {
    static const http_parser_settings s = [] {
      http_parser_settings h;
      http_parser_settings_init(&h);
      h.on_url = [](http_parser* p, const char* at, std::size_t n) {
        of(p).now_.target.append(at, n);
        return 0;
      };
      h.on_message_complete = [](http_parser* p) {
        request_reader& me = of(p);
        me.now_.method = http_method_str(static_cast<http_method>(p->method));
        me.now_.keep_alive = http_should_keep_alive(p);
        me.complete_ = true;
        http_parser_pause(p, 1);  // a next request that has arrived already is for the next call
        return 0;
      };
      return h;
    }();
    return s;
  }

  tendril::stream& stream_;
  http_parser parser_;
  std::string unparsed_;
  request now_;
  bool complete_ = false;
};

// Decodes "J%C3%B6rg" to "Jörg". Returns an empty optional for an invalid encoding.
inline std::optional<std::string> decoded(std::string_view s) {
  auto digit = [](char c) {
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                : -1;
  };
  std::string out;
  for (std::size_t i = 0; i < s.size(); i++) {
    if (s[i] != '%') {
      out += s[i];
      continue;
    }
    int high = i + 2 < s.size() ? digit(s[i + 1]) : -1,
        low = i + 2 < s.size() ? digit(s[i + 2]) : -1;
    if (high < 0 || low < 0) return {};
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

inline void send(tendril::stream& s, const response& r, bool keep_alive, bool body) {
  s.write("HTTP/1.1 " + std::to_string(r.status) + " " + std::string(r.reason) +
          "\r\nContent-Type: " + std::string(r.type) +
          "; charset=utf-8\r\nContent-Length: " + std::to_string(r.body.size()) + "\r\n" +
          std::string(r.headers) + (keep_alive ? "" : "Connection: close\r\n") + "\r\n");
  if (body) s.write(r.body);
  s.flush();
}

// Answers the requests of one connection, until its end or a request to close it.
template <class Answer>
void serve(tendril::stream& s, Answer answer) {
  request_reader requests(s);
  try {
    try {
      while (std::optional<request> r = requests.next()) {
        send(s, answer(*r), r->keep_alive, r->method != "HEAD");
        if (!r->keep_alive) break;
      }
    } catch (const bad_request&) {
      send(s, {400, "Bad Request", "Bad request\n"}, false, true);
      // Closing with unread data would reset the connection and lose the answer.
      s.end_writing();
      std::size_t left = 1 << 20;
      for (std::string more; left > 0 && !(more = s.read_some()).empty();)
        left -= std::min(left, more.size());
    }
  } catch (const std::system_error&) {
    // The client has closed, or sent nothing for a minute.
  }
}
