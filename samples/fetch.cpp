// Fetches many URLs at once.
//
// urlopen() is plain blocking libcurl and does not know fibers. The concurrency has two sources:
// each worker is a task, and the program is linked against libtendril-preload.so, which interposes
// libc's blocking calls: where libcurl would block the kernel thread, only its fiber waits.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <tendril/tendril.hpp>
#include <vector>

#include "fetching/urlopen.hpp"

namespace {

struct options : urlopen_options {
  std::vector<std::string> urls;
  std::size_t concurrency = 200;
  bool compare = false;
};

// Fetches one URL and prints the outcome; returns whether it succeeded.
bool fetch(const std::string& url, const options& o) try {
  std::printf("GET: %s\n", url.c_str());
  std::string body = urlopen(url, o);
  std::printf("%zu bytes received from %s.\n", body.size(), url.c_str());
  return true;
} catch (const std::exception& e) {
  std::fprintf(stderr, "fetch: %s: %s\n", url.c_str(), e.what());
  return false;
}

// Fetches all URLs, `workers` at a time; returns the number of failures.
std::size_t fetch_all(const options& o, std::size_t workers) {
  std::size_t failed = 0;
  auto next = o.urls.begin();
  // Tasks switch only where they wait, so `next` and `failed` need no lock.
  auto work = [&] {
    while (next != o.urls.end()) {
      if (!fetch(*next++, o)) ++failed;
    }
  };
  std::vector<tendril::task<void>> tasks;
  while (tasks.size() < std::min(workers, o.urls.size())) tasks.push_back(tendril::spawn(work));
  tendril::joinall(tasks);
  return failed;
}

// Fetches them twice, one by one and then concurrently, and prints the time that each took.
std::size_t compare(const options& o) {
  auto timed = [&](const char* how, std::size_t workers, double& seconds) {
    auto start = std::chrono::steady_clock::now();
    std::size_t failed = fetch_all(o, workers);
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("%s: %zu URLs in %.2f s\n", how, o.urls.size(), seconds);
    return failed;
  };
  double one_by_one, at_once;
  std::size_t failed =
      timed("sequential", 1, one_by_one) + timed("concurrent", o.concurrency, at_once);
  std::printf("ratio: %.1f\n", one_by_one / at_once);
  return failed;
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app{"Fetches URLs (http, https), many at once, and prints how many bytes each gave."};
  app.add_option("url", o.urls, "what to fetch")->required();
  app.add_option("--cacert", o.cacert,
                 "trust the certificate authorities in this PEM file instead of the system's")
      ->check(CLI::ExistingFile);
  app.add_option("--concurrency", o.concurrency, "how many downloads may run at once")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--timeout", o.timeout, "seconds that one download may take")
      ->check(CLI::Range(0.001, 1e6))
      ->capture_default_str();
  app.add_flag("--compare", o.compare,
               "fetch one by one first, then concurrently, and print both times");
  CLI11_PARSE(app, argc, argv);

  if (CURLcode r = curl_global_init(CURL_GLOBAL_DEFAULT)) {
    std::fprintf(stderr, "fetch: %s\n", curl_easy_strerror(r));
    return 1;
  }
  std::size_t failed = o.compare ? compare(o) : fetch_all(o, o.concurrency);
  curl_global_cleanup();
  return failed ? 1 : 0;
}
