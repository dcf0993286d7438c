// A SIGSEGV that is not a stack overflow has the same effect with fibers as without.
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <tendril/fiber.hpp>

namespace {

int* volatile nowhere = nullptr;

void on_fault(int) {
  (void)!write(2, "the program's own handler\n", 26);
  signal(SIGSEGV, SIG_DFL);
}

}  // namespace

int main(int, char** argv) {
  using namespace tendril;
  const char* how = argv[1];
  if (!strcmp(how, "handled-before")) signal(SIGSEGV, on_fault);
  fiber<> f([] { fiber<>::current().parent().switch_to(); });
  f.switch_to();
  if (!strcmp(how, "handled-after")) signal(SIGSEGV, on_fault);
  if (!strcmp(how, "sent")) {
    kill(getpid(), SIGSEGV);
  } else if (!strcmp(how, "raised")) {
    raise(SIGSEGV);
  } else if (!strcmp(how, "in-fiber")) {
    fiber<>([] { *nowhere = 1; }).switch_to();
  } else if (!strcmp(how, "main-overflow")) {
    rlimit small{256 * 1024, 256 * 1024};
    setrlimit(RLIMIT_STACK, &small);
    struct deep {
      static int down(volatile char* above) {
        volatile char room[512];
        room[0] = *above;
        return down(room) + room[0];
      }
    };
    volatile char c = 0;
    deep::down(&c);
  } else {
    *nowhere = 1;
  }
}
