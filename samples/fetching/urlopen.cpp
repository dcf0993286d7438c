// gevent's example of fetching: three pages one by one, then the same three at once, and the
// seconds that each took.
//
//   urlopen [URL...]   default: the tutorial's three; CURL_CA_BUNDLE: the certificate authorities to trust
//
// urlopen() is plain blocking libcurl. The program is linked against libtendril-preload.so, which
// interposes the C library's blocking calls (gevent: monkey.patch_all()), so only the task that
// calls it waits.

#include "urlopen.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <tendril/task.hpp>
#include <vector>

namespace {

void f(const std::string& url) {
  std::printf("GET: %s\n", url.c_str());
  const char* authorities = std::getenv("CURL_CA_BUNDLE");
  std::string data = urlopen(url, {.cacert = authorities ? authorities : ""});
  std::printf("%zu bytes received from %s.\n", data.size(), url.c_str());
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main(int argc, char** argv) try {
  std::vector<std::string> urls(argv + 1, argv + argc);
  if (urls.empty())
    urls = {"https://www.python.org/", "https://www.baidu.com/", "https://www.so.com/"};

  auto time_start = std::chrono::steady_clock::now();
  for (const std::string& url : urls) f(url);
  std::printf("同步cost %.17g\n", seconds_since(time_start));

  auto async_time_start = std::chrono::steady_clock::now();
  std::vector<tendril::task<void>> tasks;
  for (const std::string& url : urls) tasks.push_back(tendril::spawn(f, url));
  tendril::joinall(tasks);
  for (auto& t : tasks) {
    try {
      t.get();
    } catch (const std::exception& e) {  // gevent prints it, too, and goes on
      std::fprintf(stderr, "urlopen: %s\n", e.what());
    }
  }
  std::printf("异步cost %.17g\n", seconds_since(async_time_start));
} catch (const std::exception& e) {
  std::fprintf(stderr, "urlopen: %s\n", e.what());
  return 1;
}
