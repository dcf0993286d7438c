// Two shell commands at once, with what they write: the example of asyncio's subprocesses.

#include <cstdio>
#include <string>
#include <tendril/subprocess.hpp>
#include <tendril/wait.hpp>

namespace {

void run(const std::string& command) {
  namespace redirect = tendril::redirect;
  tendril::subprocess process({"sh", "-c", command}, {.out = redirect::pipe, .err = redirect::pipe});
  auto [out, err] = process.communicate();
  std::printf("['%s' exited with %d]\n", command.c_str(), process.wait());
  if (!out.empty()) std::printf("[stdout]\n%s", out.c_str());
  if (!err.empty()) std::printf("[stderr]\n%s", err.c_str());
}

}  // namespace

int main() { tendril::gather(tendril::spawn(run, "ls /zzz"), tendril::spawn(run, "sleep 0.3; echo \"hello\"")); }
