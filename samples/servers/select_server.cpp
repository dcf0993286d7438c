// An echo server by select(2), with a queue of messages for each client: what is to be sent waits until the client's
// socket takes it.

#include <algorithm>
#include <deque>
#include <map>
#include <string>
#include <system_error>
#include <tendril/posix.hpp>

#include "listen.hpp"

namespace {

struct client {
  tendril::net::socket socket;
  std::string name;
  std::deque<std::string> outgoing;
};

// Both return whether the client is still there.
bool receive(client& c) try {
  std::string data = c.socket.recv(1024);
  if (data.empty()) return false;
  std::printf("  received '%s' from %s\n", data.c_str(), c.name.c_str());
  c.outgoing.push_back(std::move(data));
  return true;
} catch (const std::system_error& e) {
  std::printf("  exception condition on %s: %s\n", c.name.c_str(), e.code().message().c_str());
  return false;
}
bool send_next(client& c) try {
  std::string& message = c.outgoing.front();
  std::printf("  sending '%s' to %s\n", message.c_str(), c.name.c_str());
  message.erase(0, c.socket.send(message, MSG_DONTWAIT));
  if (message.empty()) c.outgoing.pop_front();
  return true;
} catch (const std::system_error& e) {
  std::printf("  exception condition on %s: %s\n", c.name.c_str(), e.code().message().c_str());
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  tendril::net::socket listener = listen_on_argument(argc, argv);
  std::map<int, client> clients;
  for (;;) {
    std::puts("waiting for the next event");
    std::fflush(stdout);
    fd_set readable, writable;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_SET(listener.descriptor(), &readable);
    int highest = listener.descriptor();
    for (auto& [fd, c] : clients) {
      FD_SET(fd, &readable);
      if (!c.outgoing.empty()) FD_SET(fd, &writable);
      highest = std::max(highest, fd);
    }
    if (tendril::posix::select(highest + 1, &readable, &writable, nullptr, nullptr) < 0) {
      std::perror("select");
      return 1;
    }
    for (auto at = clients.begin(); at != clients.end();) {
      auto& [fd, c] = *at;
      bool there = !FD_ISSET(fd, &readable) || receive(c);
      if (there && FD_ISSET(fd, &writable)) there = send_next(c);
      if (!there) std::printf("  closing %s\n", c.name.c_str());
      at = there ? std::next(at) : clients.erase(at);
    }
    if (FD_ISSET(listener.descriptor(), &readable)) {
      tendril::net::socket s = listener.accept();
      if (s.descriptor() >= FD_SETSIZE) continue;  // more than select(2) can name
      std::string name = s.remote_address().to_string();
      std::printf("  connection from %s\n", name.c_str());
      int fd = s.descriptor();
      clients.emplace(fd, client{std::move(s), std::move(name), {}});
    }
  }
}
