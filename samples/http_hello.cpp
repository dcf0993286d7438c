// An HTTP/1.1 server: a fiber for each connection, Node's parser, and answers that each take half a
// second.
//
//   http_hello [PORT [SECONDS]]   on 127.0.0.1; PORT 0, or none: a free port; SECONDS: of delay (0.5)
//
//   GET /               Hello, world!
//   GET /hello/{name}   Hello, {name}!
//
// Ends in order on SIGINT and SIGTERM: requests that have arrived are answered.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <tendril/net/stream_server.hpp>
#include <tendril/signal_handler.hpp>

#include "http.hpp"
#include "many_descriptors.hpp"

using namespace std::chrono_literals;

namespace {

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
      tendril::net::address::loopback(port),
      [delay](tendril::stream& s) {
        serve(s, [delay](const request& r) { return answer(r, delay); });
      },
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
