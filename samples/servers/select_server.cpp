// An echo server by select(2), with a queue of messages for each client: messages wait there until
// the client's socket accepts them.
//
//   select_server [PORT]   on 127.0.0.1; 10000; 0: a free port

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <exception>
#include <memory>
#include <string>
#include <system_error>
#include <tendril/net/socket.hpp>
#include <tendril/posix.hpp>
#include <utility>
#include <vector>

#include "../python_text.hpp"
#include "listen.hpp"

namespace {

struct connection {
  tendril::net::socket socket;
  std::string peer;  // its address; after a reset, the socket no longer knows it
  std::deque<std::string> messages;
  int fd() const { return socket.descriptor(); }
};
using connections = std::vector<std::shared_ptr<connection>>;

}  // namespace

int main(int argc, char** argv) try {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // write each line at once, also to a file
  auto port = static_cast<std::uint16_t>(argc > 1 ? std::atoi(argv[1]) : 10000);
  // The tutorial passes sys.stderr as the first object to print.
  auto starting_up = [](unsigned on) {
    std::printf("%s starting up on localhost port %u\n", python::stderr_repr, on);
  };
  if (port) starting_up(port);
  tendril::net::socket server = tendril::net::listen_on(tendril::net::address::loopback(port), 5);
  if (!port) starting_up(server.local_address().port());

  connections inputs;          // in the order of their arrival, after the server
  connections outputs;         // those that may have messages to send, in that order
  std::string client_address;  // of the latest connection
  for (;;) {
    std::puts("\nwaiting for the next event");
    fd_set readable, writable, exceptional;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_ZERO(&exceptional);  // urgent data
    FD_SET(server.descriptor(), &readable);
    int highest = server.descriptor();
    for (auto& c : inputs) {
      FD_SET(c->fd(), &readable);
      FD_SET(c->fd(), &exceptional);
      highest = std::max(highest, c->fd());
    }
    for (auto& c : outputs) FD_SET(c->fd(), &writable);
    if (tendril::posix::select(highest + 1, &readable, &writable, &exceptional, nullptr) < 0) {
      std::perror("select");
      return 1;
    }
    connections to_read, to_write, to_drop;
    for (auto& c : inputs) {
      if (FD_ISSET(c->fd(), &readable)) to_read.push_back(c);
      if (FD_ISSET(c->fd(), &exceptional)) to_drop.push_back(c);
    }
    for (auto& c : outputs) {
      if (FD_ISSET(c->fd(), &writable)) to_write.push_back(c);
    }

    if (FD_ISSET(server.descriptor(), &readable)) {
      auto [client, address] = accept_from(server);
      auto c =
          std::make_shared<connection>(connection{std::move(client), python::repr(address), {}});
      if (c->fd() < FD_SETSIZE) {  // select(2) supports no higher numbers
        client_address = c->peer;
        std::printf("new connection from %s\n", client_address.c_str());
        inputs.push_back(c);
      }
    }
    for (auto& c : to_read) {
      std::string data;
      try {
        data = c->socket.recv(1024);
      } catch (const std::system_error&) {
        // The client has reset the connection: treat it as the end.
      }
      if (!data.empty()) {
        std::printf("%s received \"%s\" from %s\n", python::stderr_repr,
                    python::bytes_repr(data).c_str(), c->peer.c_str());
        c->messages.push_back(std::move(data));
        if (std::find(outputs.begin(), outputs.end(), c) == outputs.end()) outputs.push_back(c);
      } else {
        // The tutorial prints the latest client, whichever one this is.
        std::printf("closing %s after reading no data\n", client_address.c_str());
        std::erase(outputs, c);
        std::erase(inputs, c);
        c->socket.close();
      }
    }
    for (auto& c : to_write) {
      if (!c->socket) continue;
      try {
        if (c->messages.empty()) {
          std::printf("output queue for %s is empty\n", c->peer.c_str());
          std::erase(outputs, c);
        } else {
          std::string next = std::move(c->messages.front());
          c->messages.pop_front();
          std::printf("sending \"%s\" to %s\n", python::bytes_repr(next).c_str(), c->peer.c_str());
          std::size_t sent = c->socket.send(next, MSG_DONTWAIT);
          if (sent < next.size()) c->messages.push_front(next.substr(sent));
        }
      } catch (const std::system_error&) {
        // Reset: the next select finds it readable, with its end.
        std::erase(outputs, c);
      }
    }
    for (auto& c : to_drop) {
      if (!c->socket) continue;
      std::printf("handling exceptional condition for %s\n", c->peer.c_str());
      std::erase(inputs, c);
      std::erase(outputs, c);
      c->socket.close();
    }
  }
} catch (const std::exception& e) {
  std::fprintf(stderr, "select_server: %s\n", e.what());
  return 1;
}
