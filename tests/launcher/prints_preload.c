// Prints what a program receives from the launcher.
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char** argv) {
  const char* preload = getenv("LD_PRELOAD");
  printf("%s %d %s\n", argv[0], argc, preload ? preload : "-");
  return 7;
}
