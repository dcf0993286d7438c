// Prints what a program receives from the launcher.
#include <stdio.h>
#include <stdlib.h>

// futex(2) and io_uring_enter(2) as instructions of x86-64, but in data.
__attribute__((used)) static unsigned char like_code[] = {0xb8, 0xca, 0, 0, 0, 0x0f, 0x05, 0xc3,
                                                          0xb8, 0xaa, 1, 0, 0, 0x0f, 0x05, 0xc3};

int main(int argc, char** argv) {
  const char* preload = getenv("LD_PRELOAD");
  printf("%s %d %s\n", argv[0], argc, preload ? preload : "-");
  return 7;
}
