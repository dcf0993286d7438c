// Tests an echo server with many connections at once, one fiber each, and compares every answer
// with what was sent.
//
//   echo_client PORT [CONNECTIONS [MESSAGES]]   on 127.0.0.1; 1000 connections and 10 messages on each

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <tendril/task.hpp>
#include <vector>

#include "many_descriptors.hpp"

namespace {

struct summary {
  int echoes = 0;
  int failures = 0;
};

bool send_all(int fd, const std::string& message) {
  for (std::size_t sent = 0; sent < message.size();) {
    ssize_t n = ::send(fd, message.data() + sent, message.size() - sent, MSG_NOSIGNAL);
    if (n < 0) return false;
    sent += static_cast<std::size_t>(n);
  }
  return true;
}

bool echoed(int fd, const std::string& message) {
  std::string answer(message.size(), '\0');
  if (!send_all(fd, message)) return false;
  for (std::size_t got = 0; got < answer.size();) {
    ssize_t n = ::read(fd, answer.data() + got, answer.size() - got);
    if (n == 0) errno = ECONNRESET;
    if (n <= 0) return false;
    got += static_cast<std::size_t>(n);
  }
  errno = EBADMSG;  // the caller prints this error if the answer is wrong
  return answer == message;
}

void converse(int number, int port, int messages, summary& s) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(static_cast<in_port_t>(port));
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool good = fd >= 0 && ::connect(fd, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0;
  for (int i = 0; good && i < messages; ++i) {
    good = echoed(
        fd, "message " + std::to_string(i) + " of connection " + std::to_string(number) + "\n");
    if (good) ++s.echoes;
  }
  if (!good) {
    std::fprintf(stderr, "echo_client: connection %d: %s\n", number, std::strerror(errno));
    ++s.failures;
  }
  if (fd >= 0) ::close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fputs("usage: echo_client PORT [CONNECTIONS [MESSAGES]]\n", stderr);
    return 2;
  }
  int port = std::atoi(argv[1]);
  int connections = argc > 2 ? std::atoi(argv[2]) : 1000;
  int messages = argc > 3 ? std::atoi(argv[3]) : 10;
  allow_many_descriptors();

  auto start = std::chrono::steady_clock::now();
  summary s;
  std::vector<tendril::task<void>> tasks;
  for (int i = 0; i < connections; ++i)
    tasks.push_back(tendril::spawn([&, i] { converse(i, port, messages, s); }));
  tendril::joinall(tasks);
  std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("%d connections, %d echoes, %d failures, %.2f s\n", connections, s.echoes, s.failures,
              took.count());
  return s.failures ? 1 : 0;
}
