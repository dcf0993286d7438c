// It must not compile: only the result of try_put() tells whether the queue took the item.
// message: it tells whether the item was taken
#include <tendril/queue.hpp>

void f() {
#ifdef CORRECT
  tendril::queue<int> q;
  if (!q.try_put(1)) return;
#else
  tendril::queue<int> q;
  q.try_put(1);
#endif
}
