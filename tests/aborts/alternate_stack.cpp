// Which alternate signal stack the program sees after the runtime has set one of its own, and after
// it has set and removed one itself. Ends by abort().
#include <tendril/task.hpp>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static const char* shown() {
  stack_t is{};
  sigaltstack(nullptr, &is);
  return is.ss_flags == SS_DISABLE && !is.ss_sp ? "none" : "one";
}

int main() {
  static char own[1 << 16];
  stack_t mine{};
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
