// Which alternate signal stack the program sees after the runtime has set one of its own, and after
// it has set and removed one itself; or, with an argument, after it has set one before. Ends by
// abort().
#include <tendril/task.hpp>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static const char* shown() {
  stack_t is{};
  sigaltstack(nullptr, &is);
  return is.ss_flags == SS_DISABLE && !is.ss_sp ? "none" : "one";
}

int main(int argc, char**) {
  static char own[1 << 16];
  stack_t mine{};
  if (argc > 1) {  // the runtime comes later
    mine.ss_sp = own;
    mine.ss_size = sizeof own;
    sigaltstack(&mine, nullptr);
    tendril::spawn([] {}).join();
    mine.ss_sp = nullptr;
    sigaltstack(nullptr, &mine);
    fprintf(stderr, "%s\n", mine.ss_sp == own ? "its own" : "another");
    abort();
  }
  tendril::spawn([] {}).join();
  fprintf(stderr, "%s", shown());
  mine.ss_sp = own;
  mine.ss_size = sizeof own;
  sigaltstack(&mine, nullptr);
  fprintf(stderr, ", %s", shown());
  mine.ss_flags = SS_DISABLE;
  sigaltstack(&mine, nullptr);
  fprintf(stderr, ", %s\n", shown());
  abort();
}
