// A hundred threads, each with its own connection, send to an echo server (gevent_server) as fast
// as they can. The program does not know Tendril and is not linked against it; under `tendril run`,
// its threads are fibers.
//
//   hammer_client [PORT [MESSAGES]]   on 127.0.0.1; 8001; messages of each thread: without end

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace {

std::uint16_t port = 8001;
long messages = -1;  // never reached: the tutorial's loop has no end

int connected() {
  int client = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in server{};
  server.sin_family = AF_INET;
  server.sin_port = htons(port);
  server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (client >= 0 && ::connect(client, reinterpret_cast<sockaddr*>(&server), sizeof server) == 0)
    return client;
  std::perror("hammer_client: connect");
  if (client >= 0) ::close(client);
  return -1;
}

void sock_conn() {
  int client = connected();
  for (long count = 0; client >= 0 && count != messages; count++) {
    std::string message = "hello " + std::to_string(count);
    char data[1024];
    ssize_t n;
    // MSG_NOSIGNAL: as in Python, a server that has closed ends this thread, not the process.
    if (::send(client, message.data(), message.size(), MSG_NOSIGNAL) < 0 ||
        (n = ::recv(client, data, sizeof data, 0)) < 0) {
      std::perror("hammer_client");
      break;
    }
    std::printf("[%lu]recv from server: %.*s\n", static_cast<unsigned long>(::pthread_self()),
                static_cast<int>(n), data);
  }
  if (client >= 0) ::close(client);
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // write each line at once, also to a file
  if (argc > 1) port = static_cast<std::uint16_t>(std::atoi(argv[1]));
  if (argc > 2) messages = std::atol(argv[2]);
  std::vector<std::thread> threads;
  for (int i = 0; i < 100; i++) threads.emplace_back(sock_conn);
  for (std::thread& t : threads) t.join();
}
