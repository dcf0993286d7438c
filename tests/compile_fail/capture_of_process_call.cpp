// It must not compile: the captures of a function are sent to another process as they are.
// message: the function must be trivially copyable and hold no pointers to objects
#include <string>
#include <tendril/process_pool_executor.hpp>

void f() {
  tendril::process_pool_executor pool;
#ifdef CORRECT
  pool.submit([](std::string s) { return s; }, std::string("sent"));
#else
  pool.submit([s = std::string("captured")] { return s; });
#endif
}
