// aiohttp's example of a server: an index and a greeting, which take half a second each, for any
// number of clients at once.
//
//   http_index [ADDRESS [PORT [SECONDS]]]   127.0.0.1 (or a name: its first address), 8888 (0: a port that is free), 0.5: what an answer takes
//
//   GET /               <h1>Index</h1>
//   GET /hello/{name}   <h1>hello, {name}!</h1>
//
// Ends on Ctrl-C.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <tendril/net/create_connection.hpp>
#include <tendril/net/stream_server.hpp>
#include <tendril/signal_handler.hpp>

#include "../http.hpp"
#include "../python_text.hpp"

using namespace std::chrono_literals;

namespace {

std::chrono::duration<double> takes = 500ms;

// In Python each answer is an async function; here any function may wait. So main() needs no
// `init`, run_until_complete and run_forever: it starts the server and waits for Ctrl-C.
response answer(const request& r) {
  constexpr std::string_view hello = "/hello/";
  std::string_view raw = std::string_view(r.target).substr(0, r.target.find('?'));
  std::optional<std::string> path = decoded(raw);
  if (!path) return {400, "Bad Request", "400: Bad Request"};
  // aiohttp's {name} stands for anything without these, unless they are escaped: %2F is a slash.
  bool greets = raw.starts_with(hello) && raw.size() > hello.size() &&
                raw.find_first_of("/{}", hello.size()) == raw.npos;
  if (!greets && *path != "/") return {404, "Not Found", "404: Not Found"};
  if (r.method != "GET")
    return {405, "Method Not Allowed", "405: Method Not Allowed", "Allow: GET\r\n"};
  std::printf("Receive: <Request %s %s >\n", r.method.c_str(),
              python::backslash_replace(*path).c_str());
  tendril::sleep(takes);
  std::string text =
      greets ? "<h1>hello, " + path->substr(hello.size()) + "!</h1>" : "<h1>Index</h1>";
  return {200, "OK", text, {}, "text/html"};
}

}  // namespace

int main(int argc, char** argv) try {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // write each line at once, also to a file
  std::string address = argc > 1 ? argv[1] : "127.0.0.1";
  auto port = static_cast<std::uint16_t>(argc > 2 ? std::atoi(argv[2]) : 8888);
  if (argc > 3) takes = std::chrono::duration<double>(std::atof(argv[3]));
  auto found = tendril::net::resolve(address, std::to_string(port), AF_UNSPEC, SOCK_STREAM, true);
  tendril::net::socket listener = tendril::net::listen_on(found.front());
  tendril::net::address local = listener.local_address();
  port = local.port();
  std::string srv =
      "<Server sockets=(<asyncio.TransportSocket fd=" + std::to_string(listener.descriptor()) +
      ", family=" + std::to_string(local.family()) +
      ", type=1, proto=6, laddr=" + python::repr(local) + ">,)>";

  tendril::net::stream_server server(std::move(listener),
                                     [](tendril::stream& s) { serve(s, answer); });
  tendril::signal_handler on_interrupt(SIGINT, [&] { server.stop(0s); });
  std::printf("Server started at http://%s:%u...\n", address.c_str(), port);
  server.serve_forever();
  std::printf("Server %s shutting down.\n", srv.c_str());
} catch (const std::exception& e) {
  std::fprintf(stderr, "http_index: %s\n", e.what());
  return 1;
}
