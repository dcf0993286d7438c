// For test programs in which exceptions go from one kernel thread to another.
#pragma once

#if defined(__SANITIZE_THREAD__)
// The reference count of an exception that is passed between kernel threads is in libstdc++.so,
// where ThreadSanitizer does not see its atomic operations.
extern "C" const char* __tsan_default_suppressions() {
  return "race:std::__exception_ptr::exception_ptr::_M_release\nrace:std::runtime_error::~runtime_"
         "error\n";
}
#endif
