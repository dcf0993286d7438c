// Fetches URLs concurrently in a session, in the manner of aiohttp: the tasks share the settings
// and the open connections.
//
//   concurrent_fetch URL...   http or https
//
// Plain blocking libcurl, made cooperative by libtendril-preload.so, against which the program is
// linked.

#include <curl/curl.h>

#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <tendril/semaphore.hpp>
#include <tendril/wait.hpp>
#include <utility>
#include <vector>

namespace {

struct response {
  long status = 0;
  std::string text;
};

class client_session {
 public:
  // A session with at most `limit` connections at once.
  explicit client_session(unsigned limit = 100) : room_(limit) {}

  // Returns the answer, whatever its status. Throws std::runtime_error if there is none.
  response get(const std::string& url) {
    tendril::semaphore& room = room_;
    struct place {
      tendril::semaphore& s;
      explicit place(tendril::semaphore& r) : s(r) { s.acquire(); }
      ~place() { s.release(); }
    } mine(room);
    handle curl = take();
    response answer;
    char detail[CURL_ERROR_SIZE] = "";
    auto set = [&](CURLoption option, auto value) {
      if (CURLcode r = curl_easy_setopt(curl.get(), option, value))
        throw std::runtime_error(curl_easy_strerror(r));
    };
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_ERRORBUFFER, detail);
    set(CURLOPT_WRITEFUNCTION, append);
    set(CURLOPT_WRITEDATA, &answer.text);
    set(CURLOPT_TIMEOUT, 30L);
    set(CURLOPT_NOSIGNAL, 1L);
    if (CURLcode r = curl_easy_perform(curl.get()))
      throw std::runtime_error(*detail ? detail : curl_easy_strerror(r));
    curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &answer.status);
    idle_.push_back(std::move(curl));
    return answer;
  }

 private:
  struct cleanup {
    void operator()(CURL* c) const { curl_easy_cleanup(c); }
  };
  using handle = std::unique_ptr<CURL, cleanup>;

  // A handle keeps its connection open for the next request.
  handle take() {
    if (!idle_.empty()) {
      handle h = std::move(idle_.back());
      idle_.pop_back();
      curl_easy_reset(h.get());
      return h;
    }
    handle h(curl_easy_init());
    if (!h) throw std::bad_alloc();
    return h;
  }
  static std::size_t append(const char* data, std::size_t size, std::size_t count,
                            void* body) noexcept try {
    static_cast<std::string*>(body)->append(data, size * count);
    return size * count;
  } catch (const std::exception&) {
    return 0;  // libcurl is C: to it, this is a failed write
  }

  tendril::semaphore room_;
  std::vector<handle> idle_;
};

}  // namespace

int main(int argc, char** argv) try {
  curl_global_init(CURL_GLOBAL_DEFAULT);
  client_session session;
  std::vector<tendril::task<response>> tasks;
  for (int i = 1; i < argc; i++)
    tasks.push_back(
        tendril::spawn([&session, url = std::string(argv[i])] { return session.get(url); }));
  std::vector<response> answers = tendril::gather(tasks);
  for (std::size_t i = 0; i < answers.size(); i++)
    std::printf("%s: %ld, %zu bytes\n", argv[i + 1], answers[i].status, answers[i].text.size());
} catch (const std::exception& e) {
  std::fprintf(stderr, "concurrent_fetch: %s\n", e.what());
  return 1;
}
