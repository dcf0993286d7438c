// The error code that a call throws.
#pragma once

#include <system_error>

// The errno of the std::system_error that the call throws; 0 if it throws none.
inline int error_of(auto call) {
  try {
    call();
  } catch (const std::system_error& e) {
    return e.code().value();
  }
  return 0;
}
