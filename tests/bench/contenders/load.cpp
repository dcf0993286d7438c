// The clients of the servers, and the server of the clients.
//
//   load ask KIND PORT CONNECTIONS IDLE SECONDS PID [BACKEND]
//       Each connection sends a request, waits for the whole answer, checks it, and sends the next. KIND is
//       echo; socks5 or connect (echo through a proxy to the port BACKEND); http; or mysql (a select of a text).
//       IDLE more connections send nothing. PID is the server's: its CPU time is measured over the same time.
//   load delayed MILLISECONDS
//       A server that answers each request after that time, and closes the connection.
#include <poll.h>
#include <sys/epoll.h>

#include <deque>

#include "bench.hpp"

using namespace bench;

namespace {

struct connection {
  int fd = -1;
  std::uint64_t sequence = 0;
  double sent = 0;
  std::string answer;  // the part that has arrived
};

std::string kind;
std::size_t answer_size = message_size;  // http: taken from the first answer

int connect_to(long port) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a = loopback(port);
  if (fd < 0 || connect(fd, reinterpret_cast<sockaddr*>(&a), sizeof a) < 0) fail("connect");
  no_delay(fd);
  // closing leaves no port in TIME_WAIT for the next run
  linger reset{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  return fd;
}

std::string exchange(int fd, const std::string& request, std::size_t most) {
  char answer[4096];
  if (send(fd, request.data(), request.size(), 0) != ssize_t(request.size())) fail("send");
  ssize_t n = recv(fd, answer, most, 0);
  if (n <= 0) fail("recv");
  return std::string(answer, std::size_t(n));
}

// Connects through the proxy to the backend.
void open_tunnel(int fd, long backend) {
  if (kind == "socks5") {
    check(exchange(fd, std::string("\5\1\0", 3), 2) == std::string("\5\0", 2), "SOCKS greeting");
    std::string request("\5\1\0\1\x7f\0\0\1", 8);
    request += {char(backend >> 8), char(backend)};
    check(exchange(fd, request, 10).starts_with(std::string("\5\0", 2)), "SOCKS connection");
  } else if (kind == "connect") {
    std::string to = "127.0.0.1:" + std::to_string(backend);
    std::string answer =
        exchange(fd, "CONNECT " + to + " HTTP/1.1\r\nHost: " + to + "\r\n\r\n", 4096);
    check(answer.find(" 200 ") != answer.npos && answer.ends_with("\r\n\r\n"), "CONNECT");
  }
}

// The length of the MySQL packet that begins at i.
std::size_t packet_at(const std::string& s, std::size_t i) {
  auto byte = [&](std::size_t k) { return std::size_t(static_cast<unsigned char>(s[i + k])); };
  return 4 + byte(0) + byte(1) * 256;
}
std::string packet(char number, const std::string& body) {
  return std::string{char(body.size()), 0, 0, number} + body;
}

// Greeting, user without password, OK.
void log_in(int fd) {
  char greeting[4096];
  check(recv(fd, greeting, sizeof greeting, 0) > 0, "a greeting");
  // our capabilities, the maximum packet size, UTF-8
  std::string hello("\1\x82\0\0\0\0\0\1\x21", 9);
  std::string answer =
      exchange(fd, packet(1, hello + std::string(23, '\0') + std::string("root\0\0", 6)), 4096);
  check(answer.size() > 4 && answer[4] == 0, "a log-in");
}

// Whether all packets of a result are there: one column, its end, one row, its end.
bool is_whole_result(const std::string& s) {
  int ends = 0;
  for (std::size_t i = 0; i + 5 <= s.size(); i += packet_at(s, i)) {
    if (s[i + 4] == '\xfe' && ++ends == 2) return i + packet_at(s, i) == s.size();
  }
  return false;
}

// A text that no other connection sends.
std::string text_of(const connection& c) {
  std::string r = "fd " + std::to_string(c.fd) + ", number " + std::to_string(c.sequence);
  r.resize(message_size, '.');
  return r;
}

std::string request_of(const connection& c) {
  if (kind == "mysql") return packet(0, "\3select '" + text_of(c) + "' as it");
  if (kind == "http") return "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
  return text_of(c);
}

void ask(connection& c) {
  c.sequence++;
  c.answer.clear();
  std::string r = request_of(c);
  c.sent = seconds();
  if (send(c.fd, r.data(), r.size(), 0) != ssize_t(r.size())) fail("send");
}

// Whether the answer is complete.
bool take(connection& c) {
  char data[16384];
  ssize_t n = recv(c.fd, data, sizeof data, MSG_DONTWAIT);
  if (n <= 0) {
    if (n < 0 && errno == EAGAIN) return false;
    std::fprintf(stderr, "wrong: connection lost\n");
    std::exit(1);
  }
  c.answer.append(data, std::size_t(n));
  if (kind == "http") {
    std::size_t head = c.answer.find("\r\n\r\n"), length = c.answer.find("Content-Length: ");
    if (head == c.answer.npos) return false;
    check(length < head && c.answer.find(" 200 ") < 16, "an answer with status and length");
    answer_size = head + 4 + std::size_t(std::atol(c.answer.c_str() + length + 16));
  }
  if (kind == "mysql") {
    if (!is_whole_result(c.answer)) return false;
    check(c.answer.find(text_of(c)) != c.answer.npos, "the text that was selected");
    return true;
  }
  check(c.answer.size() <= answer_size, "no more than asked for");
  if (c.answer.size() < answer_size) return false;
  check(kind == "http" || c.answer == request_of(c), "what was sent came back");
  return true;
}

void ask_all(char** argument) {
  kind = argument[0];
  long port = std::atol(argument[1]), count = std::atol(argument[2]), idle = std::atol(argument[3]);
  double length = std::atof(argument[4]);
  long pid = std::atol(argument[5]), backend = argument[6] ? std::atol(argument[6]) : 0;
  clockid_t server;
  if (clock_getcpuclockid(pid_t(pid), &server) != 0) fail("the server's clock");

  double memory = occupied(std::to_string(pid));
  std::vector<connection> all(std::size_t(count + idle));
  int ep = epoll_create1(0);
  for (connection& c : all) {
    c.fd = connect_to(port);
    open_tunnel(c.fd, backend);
    if (kind == "mysql") log_in(c.fd);
    // Each is served before the next one connects: if more connections are queued than the server's
    // backlog holds, the kernel makes them retry after seconds.
    ask(c);
    do {
      pollfd p{.fd = c.fd, .events = POLLIN, .revents = 0};
      check(poll(&p, 1, 10'000) == 1, "an answer within ten seconds");
    } while (!take(c));
    epoll_event e{.events = EPOLLIN, .data = {.ptr = &c}};
    epoll_ctl(ep, EPOLL_CTL_ADD, c.fd, &e);
  }
  for (long i = 0; i < count; i++) ask(all[std::size_t(i)]);

  // The first part of the run warms up.
  histogram latency;
  double begin = seconds(), window = 0, cpu = 0, now = begin;
  long answers = 0;
  for (epoll_event events[256];;) {
    int n = epoll_wait(ep, events, 256, 10'000);
    check(n > 0, "an answer within ten seconds");
    for (int i = 0; i < n; i++) {
      connection& c = *static_cast<connection*>(events[i].data.ptr);
      if (!take(c)) continue;
      now = seconds();
      latency.add(now - c.sent);
      answers++;
      ask(c);
    }
    if (window == 0 && now > begin + length / 5) {
      window = now, cpu = seconds(server), answers = 0;
      latency = {};
    }
    if (window > 0 && now > window + length) break;
  }
  cpu = seconds(server) - cpu;
  double per = 1e6 / double(answers);
  std::printf(
      "{\"cpu_us\": %.6g, \"us\": %.6g, \"per_second\": %.6g, \"p50_us\": %.6g, \"p99_us\": %.6g, "
      "\"p999_us\": %.6g, "
      "\"bytes\": %.6g, \"ops\": %ld}\n",
      cpu * per, (now - window) * per, double(answers) / (now - window), latency.at(0.5),
      latency.at(0.99), latency.at(0.999),
      (occupied(std::to_string(pid)) - memory) / double(all.size()), answers);
}

void answer_delayed(double delay) {
  struct due {
    double when;
    int fd;
  };
  std::deque<due> waiting;
  int listener = listen_on_loopback(SOCK_NONBLOCK), ep = epoll_create1(0);
  epoll_event e{.events = EPOLLIN, .data = {.fd = listener}};
  epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
  std::string head = "HTTP/1.0 200 OK\r\n\r\n",
              answer = head + std::string(fetch_answer - head.size(), 'x');
  for (epoll_event events[256];;) {
    int n = epoll_wait(ep, events, 256, waiting.empty() ? -1 : 1);
    double now = seconds();
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        while ((fd = accept(listener, nullptr, nullptr)) >= 0) {
          e = {.events = EPOLLIN, .data = {.fd = fd}};
          epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
        }
      } else {
        char request[4096];
        epoll_ctl(ep, EPOLL_CTL_DEL, fd, nullptr);
        if (recv(fd, request, sizeof request, 0) > 0) waiting.push_back({now + delay, fd});
        else close(fd);
      }
    }
    for (; !waiting.empty() && waiting.front().when <= now; waiting.pop_front()) {
      send(waiting.front().fd, answer.data(), answer.size(), 0);
      close(waiting.front().fd);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  signal(SIGPIPE, SIG_IGN);
  if (argc >= 8 && !std::strcmp(argv[1], "ask")) return ask_all(argv + 2), 0;
  if (argc == 3 && !std::strcmp(argv[1], "delayed"))
    return answer_delayed(std::atof(argv[2]) * 1e-3), 0;
  return 2;
}
