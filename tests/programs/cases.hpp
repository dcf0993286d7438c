// The building blocks of the programs in C++, as cases.h for those in C: a line for each case, the
// same natively and under the shim.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>

#include "thread_kind.h"

template <class T>
void say(const char* sentence, const T& value) {
  if constexpr (std::is_same_v<T, bool>) std::printf("%s: %s\n", sentence, value ? "yes" : "no");
  else if constexpr (std::is_integral_v<T>) std::printf("%s: %lld\n", sentence, (long long)value);
  else std::printf("%s: %s\n", sentence, std::string(value).c_str());
  std::fflush(stdout);
}

// Notes of several threads, in the order of writing.
class notes {
 public:
  void add(const std::string& what) {
    std::lock_guard lock(mutex_);
    text_ += (text_.empty() ? "" : " ") + what;
  }
  std::string take() {
    std::lock_guard lock(mutex_);
    return std::exchange(text_, {});
  }

 private:
  std::mutex mutex_;
  std::string text_;
};

// Ends a program that hangs, as in cases.h; the test would fail anyway.
__attribute__((constructor)) static void limit() {
  const char* patience = getenv("PATIENCE");
  alarm(patience ? static_cast<unsigned>(atoi(patience)) : 300);
}
