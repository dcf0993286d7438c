// A pipeline of generators in three layers: each stage collects what it is sent and returns it as a list; the pipeline
// delegates to one stage after the other by yield_from, and returns their lists joined; main just feeds the pipeline
// and never sees the stages.

#include <cstdio>
#include <string>
#include <tendril/generator.hpp>
#include <variant>
#include <vector>

namespace {

using list = std::vector<std::string>;
using collector = tendril::generator<std::monostate, std::string, list>;

// Collects what it is sent, up to an empty word.
collector stage(std::string name) {
  return collector([name] {
    list words;
    for (;;) {
      std::string word = collector::yield({}).value();
      if (word.empty()) break;
      words.push_back(name + " " + word);
    }
    std::printf("%s: done, %zu\n", name.c_str(), words.size());
    return words;
  });
}

collector pipeline() {
  return collector([] {
    list all;
    for (const char* name : {"first", "second", "third"}) {
      list part = collector::yield_from(stage(name));
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  });
}

}  // namespace

int main() {
  collector p = pipeline();
  p.next();
  for (const char* word : {"a", "b", "", "c", "", "d", "e", "f", ""}) p.send(word);

  std::string joined;
  for (const std::string& word : *p.returned()) joined += (joined.empty() ? "" : ", ") + word;
  std::printf("[%s]\n", joined.c_str());
}
