// How exceptions are sent from a worker process: the standard ones, std::system_error and
// tendril::error with their own type, others as a remote_error that names their type. Not for
// programs.
#pragma once

#include <cxxabi.h>

#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <typeinfo>

#include "../serializer.hpp"

namespace tendril {

// A call in another process ended by an exception whose type cannot be sent.
class remote_error : public error {
 public:
  remote_error(std::string type, const std::string& what)
      : error(type + ": " + what), type_(std::move(type)) {}
  // The exception's type as written in C++.
  const std::string& type() const noexcept { return type_; }

 private:
  std::string type_;
};

namespace detail {

inline std::string readable(const std::type_info* t) {
  if (!t) return "unknown type";
  int status = 0;
  std::unique_ptr<char, void (*)(void*)> s(
      abi::__cxa_demangle(t->name(), nullptr, nullptr, &status), std::free);
  return s ? s.get() : t->name();
}

// The exception types that are constructed from their what().
template <class... E>
struct travelling_errors {
  // The index of e's exact type; -1 if it is not among them.
  static int index(const std::exception& e) noexcept {
    int i = 0, found = -1;
    (void)((typeid(e) == typeid(E) ? (found = i) : i++, found >= 0) || ...);
    return found;
  }
  static std::exception_ptr make(int index, const std::string& what) {
    int i = 0;
    std::exception_ptr p;
    (void)((i++ == index && (p = std::make_exception_ptr(E(what)), true)) || ...);
    return p;
  }
};
using travelling =
    travelling_errors<error, std::runtime_error, std::logic_error, std::invalid_argument,
                      std::domain_error, std::length_error, std::out_of_range, std::range_error,
                      std::overflow_error, std::underflow_error>;

enum class error_kind : char { made_from_what, of_system, no_memory, other };

inline void write_error(byte_sink& to, const std::exception_ptr& e) {
  try {
    std::rethrow_exception(e);
  } catch (const std::system_error& s) {
    bool generic = s.code().category() == std::generic_category();
    if (typeid(s) == typeid(std::system_error) &&
        (generic || s.code().category() == std::system_category())) {
      // what() ends with the code's message, which the constructor appends again.
      std::string what = s.what(), tail = s.code().message();
      if (what.ends_with(": " + tail)) what.resize(what.size() - tail.size() - 2);
      else if (what == tail) what.clear();
      to << error_kind::of_system << generic << s.code().value() << what;
    } else {
      to << error_kind::other << readable(&typeid(s)) << std::string(s.what());
    }
  } catch (const std::bad_alloc&) {
    to << error_kind::no_memory;
  } catch (const std::exception& s) {
    int i = travelling::index(s);
    if (i >= 0) to << error_kind::made_from_what << i << std::string(s.what());
    else to << error_kind::other << readable(&typeid(s)) << std::string(s.what());
  } catch (...) {
    to << error_kind::other << readable(abi::__cxa_current_exception_type())
       << std::string("not a std::exception");
  }
}

inline std::exception_ptr read_error(byte_source& from) {
  switch (from.read<error_kind>()) {
    case error_kind::made_from_what: {
      int i = from.read<int>();
      return travelling::make(i, from.read<std::string>());
    }
    case error_kind::of_system: {
      bool generic = from.read<bool>();
      int code = from.read<int>();
      auto what = from.read<std::string>();
      std::error_code c(code, generic ? std::generic_category() : std::system_category());
      return std::make_exception_ptr(what.empty() ? std::system_error(c)
                                                  : std::system_error(c, what));
    }
    case error_kind::no_memory:
      return std::make_exception_ptr(std::bad_alloc());
    default: {
      auto type = from.read<std::string>();
      return std::make_exception_ptr(remote_error(type, from.read<std::string>()));
    }
  }
}

}  // namespace detail
}  // namespace tendril
