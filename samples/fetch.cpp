// Fetches URLs, many at once.
//
// urlopen() below is plain blocking libcurl and knows nothing of fibers. The concurrency has two sources:
// each worker is a task of its own, and the program is linked against libtendril-preload.so, which takes over
// libc's blocking calls: where libcurl would block the kernel thread, only its fiber waits.

#include <curl/curl.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tendril/tendril.hpp>
#include <vector>

namespace {

struct options {
  std::vector<std::string> urls;
  std::string cacert;  // empty: the system's
  double timeout = 30;
  std::size_t concurrency = 200;
  bool compare = false;
};

struct curl_cleanup {
  void operator()(CURL* c) const { curl_easy_cleanup(c); }
};

// libcurl is C: no exception may pass through it, so a body too large for memory is reported as a short
// write.
std::size_t append(const char* data, std::size_t size, std::size_t count, void* body) noexcept try {
  static_cast<std::string*>(body)->append(data, size * count);
  return size * count;
} catch (const std::exception&) {
  return 0;
}

std::string reason(CURL* curl, CURLcode result, const char* detail) {
  long error = 0;
  curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &error);
  if (result == CURLE_COULDNT_CONNECT && error)
    return std::generic_category().message(static_cast<int>(error));
  return *detail ? detail : curl_easy_strerror(result);
}

// The body of the page at `url`. Throws std::runtime_error if it cannot be had: what() says why in one line.
std::string urlopen(const std::string& url, const options& o) {
  std::unique_ptr<CURL, curl_cleanup> curl(curl_easy_init());
  if (!curl) throw std::bad_alloc();
  std::string body;
  char detail[CURL_ERROR_SIZE] = "";
  auto set = [&](CURLoption option, auto value) {
    if (CURLcode r = curl_easy_setopt(curl.get(), option, value))
      throw std::runtime_error(curl_easy_strerror(r));
  };
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_ERRORBUFFER, detail);
  set(CURLOPT_WRITEFUNCTION, append);
  set(CURLOPT_WRITEDATA, &body);
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_FOLLOWLOCATION, 1L);
  set(CURLOPT_FAILONERROR, 1L);  // 404 and the like are errors, not pages
  set(CURLOPT_TIMEOUT_MS, static_cast<long>(o.timeout * 1000));
  set(CURLOPT_NOSIGNAL, 1L);  // no SIGALRM for time-outs: one alarm cannot serve many downloads at once
  if (!o.cacert.empty()) set(CURLOPT_CAINFO, o.cacert.c_str());

  CURLcode result = curl_easy_perform(curl.get());
  if (result != CURLE_OK) throw std::runtime_error(reason(curl.get(), result, detail));
  return body;
}

// Fetches one URL and tells how it went; returns whether it went well.
bool fetch(const std::string& url, const options& o) try {
  std::printf("GET: %s\n", url.c_str());
  std::string body = urlopen(url, o);
  std::printf("%zu bytes received from %s.\n", body.size(), url.c_str());
  return true;
} catch (const std::exception& e) {
  std::fprintf(stderr, "fetch: %s: %s\n", url.c_str(), e.what());
  return false;
}

// Fetches all URLs, `workers` at a time; returns how many failed.
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

// The same twice, one by one and then concurrently, with the time that each took.
std::size_t compare(const options& o) {
  auto timed = [&](const char* how, std::size_t workers, double& seconds) {
    auto start = std::chrono::steady_clock::now();
    std::size_t failed = fetch_all(o, workers);
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("%s: %zu URLs in %.2f s\n", how, o.urls.size(), seconds);
    return failed;
  };
  double one_by_one, at_once;
  std::size_t failed = timed("sequential", 1, one_by_one) + timed("concurrent", o.concurrency, at_once);
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
  app.add_flag("--compare", o.compare, "fetch one by one first, then concurrently, and print both times");
  CLI11_PARSE(app, argc, argv);

  if (CURLcode r = curl_global_init(CURL_GLOBAL_DEFAULT)) {
    std::fprintf(stderr, "fetch: %s\n", curl_easy_strerror(r));
    return 1;
  }
  std::size_t failed = o.compare ? compare(o) : fetch_all(o, o.concurrency);
  curl_global_cleanup();
  return failed ? 1 : 0;
}
