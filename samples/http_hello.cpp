// An HTTP/1.1 server: a fiber per connection, Node's parser, and answers that each take half a second.
//
//   http_hello [PORT [SECONDS]]   on 127.0.0.1; PORT 0, or none, is one that is free; SECONDS: of delay (0.5)
//
//   GET /               Hello, world!
//   GET /hello/{name}   Hello, {name}!
//
// Ends in order on SIGINT and SIGTERM: what has been asked is answered.
#include <http_parser.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <tendril/net/stream_server.hpp>
#include <tendril/signal_handler.hpp>

using namespace std::chrono_literals;

namespace {

struct request {
  std::string method, target;
  bool keep_alive = false;
};
struct response {
  int status;
  std::string_view reason;
  std::string body;
  std::string_view headers = {};
};
struct bad_request {};

// The requests of one connection; bodies are read and ignored.
class request_reader {
 public:
  explicit request_reader(tendril::stream& s) : stream_(s) {
    http_parser_init(&parser_, HTTP_REQUEST);
    parser_.data = this;
  }
  // None at the end of the connection.
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
      std::size_t n = http_parser_execute(&parser_, &settings(), unparsed_.data(), unparsed_.size());
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
        http_parser_pause(p, 1);  // the next request, if it is there already, is for the next call
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

// "J%C3%B6rg" is "Jörg". None: not a valid encoding.
std::optional<std::string> decoded(std::string_view s) {
  auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
  };
  std::string out;
  for (std::size_t i = 0; i < s.size(); i++) {
    if (s[i] != '%') {
      out += s[i];
      continue;
    }
    int high = i + 2 < s.size() ? digit(s[i + 1]) : -1, low = i + 2 < s.size() ? digit(s[i + 2]) : -1;
    if (high < 0 || low < 0) return {};
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

response answer(const request& r, std::chrono::duration<double> delay) {
  constexpr std::string_view hello = "/hello/";
  std::string_view path = std::string_view(r.target).substr(0, r.target.find('?'));
  std::string who;
  if (path == "/") {
    who = "world";
  } else if (path.starts_with(hello) && path.size() > hello.size() &&
             path.find('/', hello.size()) == path.npos) {
    std::optional<std::string> name = decoded(path.substr(hello.size()));
    if (!name) return {400, "Bad Request", "Bad request\n"};
    who = *name;
  } else {
    return {404, "Not Found", "Not found\n"};
  }
  if (r.method != "GET" && r.method != "HEAD")
    return {405, "Method Not Allowed", "Not allowed\n", "Allow: GET, HEAD\r\n"};
  tendril::sleep(delay);  // other connections are served meanwhile
  return {200, "OK", "Hello, " + who + "!\n"};
}

void send(tendril::stream& s, const response& r, bool keep_alive, bool body) {
  s.write("HTTP/1.1 " + std::to_string(r.status) + " " + std::string(r.reason) +
          "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: " + std::to_string(r.body.size()) +
          "\r\n" + std::string(r.headers) + (keep_alive ? "" : "Connection: close\r\n") + "\r\n");
  if (body) s.write(r.body);
  s.flush();
}

void serve(tendril::stream& s, std::chrono::duration<double> delay) {
  request_reader requests(s);
  try {
    try {
      while (std::optional<request> r = requests.next()) {
        send(s, answer(*r, delay), r->keep_alive, r->method != "HEAD");
        if (!r->keep_alive) break;
      }
    } catch (const bad_request&) {
      send(s, {400, "Bad Request", "Bad request\n"}, false, true);
      // To close while there is something to read would take the answer back.
      s.end_writing();
      std::size_t left = 1 << 20;
      for (std::string more; left > 0 && !(more = s.read_some()).empty();)
        left -= std::min(left, more.size());
    }
  } catch (const std::system_error&) {
    // The client is gone, or has said nothing for a minute.
  }
}

// A connection is a descriptor: take as many as the system allows without asking root.
void allow_many_descriptors() {
  rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int main(int argc, char** argv) try {
  allow_many_descriptors();
  auto port = static_cast<std::uint16_t>(argc > 1 ? std::atoi(argv[1]) : 0);
  std::chrono::duration<double> delay(argc > 2 ? std::atof(argv[2]) : 0.5);

  tendril::net::server_options options;
  options.backlog = SOMAXCONN;
  options.wrap = [](tendril::net::socket s) {
    s.timeout(60s);
    s.no_delay(true);
    return tendril::net::open_stream(std::move(s));
  };
  tendril::net::stream_server server(
      tendril::net::address::loopback(port), [delay](tendril::stream& s) { serve(s, delay); },
      std::move(options));
  tendril::signal_handler on_interrupt(SIGINT, [&] { server.stop(delay + 1s); });
  tendril::signal_handler on_terminate(SIGTERM, [&] { server.stop(delay + 1s); });

  std::printf("listening on http://%s/\n", server.where().to_string().c_str());
  std::fflush(stdout);
  server.serve_forever();
} catch (const std::exception& e) {
  std::fprintf(stderr, "http_hello: %s\n", e.what());
  return 1;
}
