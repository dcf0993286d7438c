// It must not compile: only the result of subprocess::run() tells whether the program failed.
// message: it tells whether the program failed: see check()
#include <tendril/subprocess.hpp>

void f() {
#ifdef CORRECT
  tendril::subprocess::run({"false"}).check();
#else
  tendril::subprocess::run({"false"});
#endif
}
