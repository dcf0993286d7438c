// Shared by the contenders written in C and C++: the clock, the number of repetitions, and the form
// of the answer.
//
//   CONTENDER QUESTION N SECONDS     prints one line of JSON: {"ns": ..., "cpu_ns": ..., ...}, per operation
//   CONTENDER echo 0 0               prints "port P", and serves until it is ended
//   CONTENDER fetch N PORT           fetches N times from the server on that port
//
// A contender that detects a wrong result exits with a status other than 0, which voids its row.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <string>
#include <vector>

namespace bench {

[[noreturn]] inline void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}
inline void check(bool right, const char* what) {
  if (right) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  std::exit(1);
}

inline double seconds(clockid_t clock = CLOCK_MONOTONIC) {
  timespec t;
  clock_gettime(clock, &t);
  return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

// Durations in microseconds, up to four seconds.
class histogram {
 public:
  void add(double s) {
    counts_[std::size_t(std::clamp(s * 1e6, 0.0, double(most - 1)))]++, total_++;
  }
  // The duration in microseconds below which the given share of them is.
  double at(double share) const {
    auto left = std::uint64_t(double(total_) * share);
    for (std::size_t us = 0; us < most; us++) {
      if (counts_[us] > left) return double(us) + 0.5;
      left -= counts_[us];
    }
    return most;
  }

 private:
  static constexpr std::size_t most = 4'000'000;
  std::vector<std::uint32_t> counts_ = std::vector<std::uint32_t>(most);
  std::uint64_t total_ = 0;
};

// One run of one question.
struct work {
  long n;         // the size for the question: fibers, connections
  long argument;  // seconds, or a port
  double length;  // seconds that the run should take
  // the number of operations to do between begin() and end(); may be changed to the number done
  long ops;
  double wall = 0, cpu = 0;
  std::string extra;  // further members of the answer

  void begin() {
    wall = seconds();
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
  }
  void end() {
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    wall = seconds() - wall;
  }
  void report(const char* name, double value) {
    char text[80];
    std::snprintf(text, sizeof text, ", \"%s\": %.6g", name, value);
    extra += text;
  }
  void report_lateness(const histogram& h) {
    report("p50_us", h.at(0.5));
    report("p99_us", h.at(0.99));
    report("p999_us", h.at(0.999));
  }
};

// The bytes that a process occupies: its resident memory, its page tables, and the kernel's memory
// for each of its tasks: a stack of 16 KB, and 7 KB of descriptors (according to /proc/meminfo,
// with 20,000 tasks).
inline double occupied(const std::string& pid) {
  double kilobytes = 0;
  std::ifstream file("/proc/" + pid + "/status");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("VmRSS:") && !line.starts_with("VmPTE:") && !line.starts_with("Threads:"))
      continue;
    double value = std::atof(line.c_str() + line.find(':') + 1);
    kilobytes += line[0] == 'T' ? value * (16 + 7) : value;
  }
  return kilobytes * 1024;
}

// The memory of parked fibers: measured before they are made, and when all are parked.
class memory {
 public:
  // Per fiber, in bytes.
  void report(work& w) const {
    memory now;
    w.report("bytes", (now.bytes_ - bytes_) / double(w.n));
    w.report("mappings", now.mappings_ - mappings_);
  }

 private:
  static double lines(const char* path) {
    std::ifstream file(path);
    double n = 0;
    for (std::string line; std::getline(file, line);) n++;
    return n;
  }
  double mappings_ = lines("/proc/self/maps");
  double bytes_ = occupied("self");
};

struct question {
  const char* name;
  void (*run)(work&);
  enum { repeated, once } how = repeated;  // once: measures itself, however long it takes
};

inline int contend(int argc, char** argv, std::initializer_list<question> questions) {
  if (argc != 4) return std::fprintf(stderr, "usage: %s QUESTION N SECONDS\n", argv[0]), 2;
  rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  signal(SIGPIPE, SIG_IGN);
  for (const question& q : questions) {
    if (std::strcmp(q.name, argv[1]) != 0) continue;
    work w{.n = std::atol(argv[2]),
           .argument = std::atol(argv[3]),
           .length = std::atof(argv[3]),
           .ops = 1,
           .extra = {}};
    if (q.how == question::once) {
      q.run(w);
    } else {
      // Find the number of operations that takes about the given time, by increasing it.
      for (w.ops = std::max(1000L, w.n * 2);;
           w.ops = long(double(w.ops) * std::clamp(w.length / w.wall, 1.5, 20.0))) {
        q.run(w);
        if (w.wall >= w.length / 2) break;
      }
    }
    check(w.ops > 0, "nothing was done");
    std::printf("{\"ns\": %.6g, \"cpu_ns\": %.6g, \"ops\": %ld%s}\n", w.wall * 1e9 / double(w.ops),
                w.cpu * 1e9 / double(w.ops), w.ops, w.extra.c_str());
    std::fflush(stdout);
    _exit(0);  // parked fibers are abandoned
  }
  std::fprintf(stderr, "%s has no answer to %s\n", argv[0], argv[1]);
  return 77;
}

// The two ends of a TCP connection.
inline constexpr std::size_t message_size = 64;

inline void no_delay(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}
inline sockaddr_in loopback(long port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(in_port_t(port));
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}
inline void print_port(int listener) {
  sockaddr_in a{};
  socklen_t n = sizeof a;
  getsockname(listener, reinterpret_cast<sockaddr*>(&a), &n);
  std::printf("port %d\n", ntohs(a.sin_port));
  std::fflush(stdout);
}
inline int listen_on_loopback(int flags = 0) {
  int fd = socket(AF_INET, SOCK_STREAM | flags, 0), on = 1;
  sockaddr_in a = loopback(0);
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
      bind(fd, reinterpret_cast<sockaddr*>(&a), sizeof a) < 0 || listen(fd, 4096) < 0)
    fail("listen");
  print_port(fd);
  return fd;
}

// The request of a fetch, and the length of the answer: see load.cpp.
inline constexpr char fetch_request[] = "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n";
inline constexpr std::size_t fetch_answer = 1024;

}  // namespace bench
