// It must not compile: the body of with_task_group() gets the group.
// message: the body must take a task_group&
#include <tendril/task_group.hpp>

void f() {
#ifdef CORRECT
  tendril::with_task_group([](tendril::task_group&) {});
#else
  tendril::with_task_group([](int) {});
#endif
}
