// A pipeline that delegates to one collector after the other by yield_from. Each collector joins
// the strings that it is sent, until it is sent none; the pipeline returns the list of the joined
// strings. main sends to the pipeline only, and does not see the collectors.

#include <cstdio>
#include <string>
#include <tendril/generator.hpp>
#include <variant>
#include <vector>

#include "../python_text.hpp"

namespace {

template <class Result>
using fed = tendril::generator<std::monostate, std::string, Result>;

fed<std::string> co_coro() {
  return fed<std::string>([] {
    std::string joined;
    // If nothing is sent (Python: None), yield returns an empty optional.
    while (std::optional<std::string> item = fed<std::string>::yield({})) {
      if (!joined.empty()) joined += ",";
      joined += *item;
    }
    return joined;
  });
}

using strings = std::vector<std::string>;

fed<strings> yield_from_learn(int loop_time) {
  return fed<strings>([loop_time] {
    strings info_list;
    for (int i = 0; i < loop_time; i++) info_list.push_back(fed<strings>::yield_from(co_coro()));
    return info_list;
  });
}

}  // namespace

int main() {
  fed<strings> pipe_coro = yield_from_learn(2);
  pipe_coro.next();
  pipe_coro.send(std::to_string(5));
  pipe_coro.send(std::to_string(6));
  pipe_coro.next();  // sends nothing
  pipe_coro.send("adad");
  pipe_coro.send(std::to_string(123));
  pipe_coro.next();

  // The value of Python's StopIteration.
  std::string list;
  for (const std::string& s : pipe_coro.returned().value())
    list += (list.empty() ? "" : ", ") + python::repr(s);
  std::printf("[%s]\n", list.c_str());
}
