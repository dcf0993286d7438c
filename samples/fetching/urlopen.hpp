// urlopen, as in Python's urllib.request, by blocking libcurl. It does not know fibers.
#pragma once

#include <curl/curl.h>

#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>

struct urlopen_options {
  std::string cacert;   // the certificate authorities to trust, a PEM file; empty: the system's
  double timeout = 30;  // seconds
};

namespace urlopen_detail {

struct curl_cleanup {
  void operator()(CURL* c) const { curl_easy_cleanup(c); }
};

// libcurl is C: no exception may pass through it, so a body too large for memory is reported as a
// short write.
inline std::size_t append(const char* data, std::size_t size, std::size_t count,
                          void* body) noexcept try {
  static_cast<std::string*>(body)->append(data, size * count);
  return size * count;
} catch (const std::exception&) {
  return 0;
}

inline std::string reason(CURL* curl, CURLcode result, const char* detail) {
  long error = 0;
  curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &error);
  if (result == CURLE_COULDNT_CONNECT && error)
    return std::generic_category().message(static_cast<int>(error));
  return *detail ? detail : curl_easy_strerror(result);
}

}  // namespace urlopen_detail

// Returns the body of the page at `url`. Throws std::runtime_error if that fails; what() gives the
// reason in one line.
inline std::string urlopen(const std::string& url, const urlopen_options& o = {}) {
  std::unique_ptr<CURL, urlopen_detail::curl_cleanup> curl(curl_easy_init());
  if (!curl) throw std::bad_alloc();
  std::string body;
  char detail[CURL_ERROR_SIZE] = "";
  auto set = [&](CURLoption option, auto value) {
    if (CURLcode r = curl_easy_setopt(curl.get(), option, value))
      throw std::runtime_error(curl_easy_strerror(r));
  };
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_ERRORBUFFER, detail);
  set(CURLOPT_WRITEFUNCTION, urlopen_detail::append);
  set(CURLOPT_WRITEDATA, &body);
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_FOLLOWLOCATION, 1L);
  set(CURLOPT_FAILONERROR, 1L);  // 404 and the like are errors, not pages
  set(CURLOPT_TIMEOUT_MS, static_cast<long>(o.timeout * 1000));
  // no SIGALRM for time-outs: one alarm cannot serve many downloads at once
  set(CURLOPT_NOSIGNAL, 1L);
  if (!o.cacert.empty()) set(CURLOPT_CAINFO, o.cacert.c_str());

  CURLcode result = curl_easy_perform(curl.get());
  if (result != CURLE_OK)
    throw std::runtime_error(urlopen_detail::reason(curl.get(), result, detail));
  return body;
}
