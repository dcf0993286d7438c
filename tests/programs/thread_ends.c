// How threads end, and how threads end the process: destructors of keys and their rounds,
// pthread_exit(3) in cleanup handlers and destructors, the main thread's pthread_exit, exit(3),
// quick_exit(3), _exit(2) and abort(3) from any thread with the functions that run then, exec from
// a thread; and what remains when all have ended.
#include "threads.h"

#include <dlfcn.h>
#include <limits.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/mman.h>

static char order[256];
static void note(const char* what) { strncat(order, what, sizeof order - strlen(order) - 1); }
static void say_order(const char* sentence) {
  printf("%s: %s\n", sentence, order);
  fflush(stdout);
  order[0] = 0;
}
static void* result_of(void* (*run)(void*), void* argument) {
  struct worker w;
  start(&w, run, argument);
  return end_of(&w);
}

// --- destructors ---

static pthread_key_t a, b, last;
static void destroys_a(void* p) {
  note(pthread_getspecific(a) ? "a:set " : "a ");
  (void)p;
}
static void sets_again(void* p) {
  note("b ");
  pthread_setspecific(b, p);
}
static void sets_another(void* p) {
  note("last ");
  if (*(int*)p) --*(int*)p, pthread_setspecific(a, p);
}
static void* has_a(void* p) {
  pthread_setspecific(a, p);
  return p;
}
static void* has_b(void* p) {
  pthread_setspecific(b, p);
  return p;
}
static void* has_last(void* p) {
  pthread_setspecific(last, p);
  return p;
}
static void* has_all_and_exits(void* p) {
  has_a(p), has_b(p), has_last(p);
  pthread_exit(p);
}
static void* sees_none(void* p) {
  (void)p;
  return (void*)(intptr_t)(!pthread_getspecific(a) + !pthread_getspecific(b) +
                           !pthread_getspecific(last));
}
static void* deletes_key(void* p) {
  pthread_setspecific(a, p);
  pthread_key_delete(a);
  return p;
}
static pthread_key_t many[PTHREAD_KEYS_MAX];
static int destroyed;
static void counts(void* p) { destroyed += (int)(intptr_t)p; }
static void* uses_many(void* n) {
  for (int i = 0; i < (int)(intptr_t)n; i++) pthread_setspecific(many[i], (void*)1);
  return NULL;
}

static pthread_key_t exits_there;
static int exits_left;
static void exits_in_destructor(void* p) {
  note("exits ");
  if (exits_left-- == 0) return;
  pthread_setspecific(exits_there, p);
  pthread_exit((void*)(intptr_t)(exits_left + 40));
}
static void* exits_in_key(void* p) {
  pthread_setspecific(a, p);
  pthread_setspecific(exits_there, p);
  return p;
}
static sem_t waits, waits_too;
static void is_cancelled(void* p) {
  note("waits ");
  sem_post(&waits_too);
  while (sem_trywait(&waits)) sched_yield();
  int old;
  int e = pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
  (void)e;
  pthread_testcancel();
  note("goes on ");
  (void)p;
}
static void* cancelled_in_destructor(void* p) {
  static pthread_key_t key;
  pthread_key_create(&key, is_cancelled);
  pthread_setspecific(key, p);
  if (*(int*)p) pthread_exit((void*)1);
  return (void*)2;
}

static void destructors(void) {
  printf("-- destructors\n");
  int some = 0;
  ERR("key_create", pthread_key_create(&a, destroys_a));
  pthread_key_create(&b, sets_again);
  pthread_key_create(&last, sets_another);
  result_of(has_a, &some);
  say_order("one destructor, which finds its value null");
  result_of(has_b, &some);
  say_order("a destructor that sets its key again");
  SAY("  as often as", strlen("b b b b ") == 2 * PTHREAD_DESTRUCTOR_ITERATIONS);
  some = 2;
  result_of(has_last, &some);
  say_order("a destructor that sets an earlier key");
  some = 1;
  SAY("all, by pthread_exit", result_of(has_all_and_exits, &some) == &some);
  say_order("  ran");
  SAY("the next thread finds none", (intptr_t)result_of(sees_none, NULL));
  result_of(deletes_key, &some);
  say_order("of a key that was deleted");
  pthread_key_create(&a, destroys_a);
  result_of(sees_none, NULL);
  say_order("one without a value");
  int n = 0;
  while (n < PTHREAD_KEYS_MAX && pthread_key_create(&many[n], counts) == 0) n++;
  pthread_key_t one_more;
  ERR("one key too many", pthread_key_create(&one_more, NULL));
  result_of(uses_many, (void*)(intptr_t)n);
  SAY("all keys' destructors", destroyed == n);
  destroyed = 0;
  for (int i = 0; i < n; i++) pthread_key_delete(many[i]);
  result_of(uses_many, (void*)(intptr_t)n);
  SAY("of deleted keys", destroyed);
  ERR("delete of a deleted key", pthread_key_delete(many[0]));
  ERR("setspecific of a deleted key", pthread_setspecific(many[0], &some));
  ERR("setspecific of no key", pthread_setspecific(PTHREAD_KEYS_MAX, &some));
  SAY("getspecific of no key", (intptr_t)pthread_getspecific(PTHREAD_KEYS_MAX));

  printf("-- leaving destructors\n");
  pthread_key_create(&exits_there, exits_in_destructor);
  for (int times = 1; times < 8; times += 5) {
    exits_left = times;
    printf("pthread_exit in a destructor, %d times, which sets its key again\n", times);
    SAY("  result", (intptr_t)result_of(exits_in_key, &some));
    say_order("  ran");
  }
  sem_init(&waits, 0, 0);
  sem_init(&waits_too, 0, 0);
  for (some = 0; some < 2; some++) {
    struct worker w;
    start(&w, cancelled_in_destructor, &some);
    while (sem_wait(&waits_too)) {}
    ERR("cancel of one in a destructor", pthread_cancel(w.id));
    sem_post(&waits);
    SAY("  result", (intptr_t)end_of(&w));
    say_order("  ran");
  }
}

// --- cleanup handlers ---

static void notes(void* what) { note(what); }
static void exits(void* what) {
  note(what);
  pthread_exit((void*)77);
}
static void* exits_in_handler(void* p) {
  pthread_cleanup_push(notes, "outer ");
  pthread_cleanup_push(exits, "exits ");
  pthread_cleanup_push(notes, "inner ");
  pthread_cleanup_pop(1);
  pthread_cleanup_pop(1);
  pthread_cleanup_pop(1);
  return p;
}
static void nests(int depth) {
  pthread_cleanup_push(notes, depth % 2 ? "odd " : "even ");
  if (depth > 0) nests(depth - 1);
  if (depth == 0) pthread_exit((void*)3);
  pthread_cleanup_pop(0);
}
static void* nests_and_exits(void* p) {
  pthread_setspecific(last, p);
  nests(3);
  return NULL;
}
static void* pops(void* p) {
  pthread_cleanup_push(notes, "not run ");
  pthread_cleanup_push(notes, "run ");
  pthread_cleanup_pop(1);
  pthread_cleanup_pop(0);
  return p;
}
static void cleaning(void) {
  static int none;
  printf("-- cleanup handlers\n");
  SAY("pthread_exit in a handler that a pop runs", (intptr_t)result_of(exits_in_handler, NULL));
  say_order("  ran");
  SAY("in frames within each other", (intptr_t)result_of(nests_and_exits, &none));
  say_order("  ran, before destructors");
  result_of(pops, NULL);
  say_order("popped");
}

// --- the end of the process ---

static void writes(const char* s) { write(1, s, strlen(s)); }
static void at_exit_1(void) { writes("  atexit 1\n"); }
static void at_exit_2(void) { writes("  atexit 2\n"); }
static void at_exit_exits(void) {
  writes("  atexit, which calls exit\n");
  exit(21);
}
static void at_quick_1(void) { writes("  at_quick_exit 1\n"); }
static void at_quick_2(void) { writes("  at_quick_exit 2\n"); }
static void with_status(int status, void* p) {
  char text[64];
  snprintf(text, sizeof text, "  on_exit %d %s\n", status, (char*)p);
  writes(text);
}
static void key_destroyed(void* p) {
  (void)p;
  writes("  a key's destructor\n");
}
static pthread_key_t key;
static pthread_t main_thread;
static int fds[2];

static void* sleeps_on(void* p) {
  pthread_setspecific(key, p);
  pause();
  return p;
}
static void* ends_after_main(void* p) {
  pthread_setspecific(key, p);
  void* r;
  int e = pthread_join(main_thread, &r);
  char text[64];
  snprintf(text, sizeof text, "  main ended, error %d, result %ld\n", e, (long)r);
  writes(text);
  return p;
}
static void* reads_on(void* p) {
  char c;
  while (read(fds[0], &c, 1) == 1) write(1, "  going on\n", 11);
  return p;
}
static void* calls_exit(void* p) { exit((int)(intptr_t)p); }
static void* calls__exit(void* p) { _exit((int)(intptr_t)p); }
static void* calls_quick_exit(void* p) { quick_exit((int)(intptr_t)p); }
static void* calls_abort(void* p) {
  (void)p;
  abort();
}
static void* kills(void* p) {
  kill(getpid(), SIGTERM);
  pause();
  return p;
}
static void* calls_exec(void* p) {
  (void)p;
  execl("/bin/sh", "sh", "-c", "echo '  another program'; exit 14", NULL);
  return NULL;
}
static void* divides(void* p) {
  volatile int* none = NOWHERE;
  (void)p;
  return (void*)(intptr_t)*none;
}

static void in_another(void* (*run)(void*), intptr_t argument) {
  struct worker w, s;
  start(&s, sleeps_on, &w);
  await_waiting(&s);
  start(&w, run, (void*)argument);
  end_of(&w);
  _exit(88);
}
static void exit_in_thread(void) { in_another(calls_exit, 11); }
static void exit_in_main(void) {
  struct worker s;
  start(&s, sleeps_on, &s);
  await_waiting(&s);
  exit(12);
}
static void return_from_main(void) {}

// Free Pascal's programs end by a jump to main's return address, on whichever stack they run.
static void* main_returns_to;
static void jump_out_of_main(void) {
  static char stack[1 << 18] __attribute__((aligned(16)));
#if defined __x86_64__
  __asm__ volatile("mov %0, %%rsp\n\txor %%ebx, %%ebx\n\tmov $21, %%eax\n\tjmp *%1"
                   :
                   : "r"(stack + sizeof stack), "r"(main_returns_to)
                   : "rax", "rbx");
#elif defined __aarch64__
  __asm__ volatile("mov sp, %0\n\tmov w0, #21\n\tbr %1"
                   :
                   : "r"(stack + sizeof stack), "r"(main_returns_to)
                   : "x0");
#endif
  (void)stack;
  exit(21);
}
static void exit_again(void) {
  atexit(at_exit_exits);
  in_another(calls_exit, 20);
}
static void fast_exit(void) { in_another(calls__exit, 13); }
static void quick(void) { in_another(calls_quick_exit, 15); }
static void aborted(void) { in_another(calls_abort, 0); }
static void killed(void) { in_another(kills, 0); }
static void other_program(void) { in_another(calls_exec, 0); }
static void fault(void) { in_another(divides, 0); }
static void on_abort(int s) {
  (void)s;
  writes("  a handler of SIGABRT\n");
}
static void aborted_handled(void) {
  signal(SIGABRT, on_abort);
  in_another(calls_abort, 0);
}
static void aborted_ignored(void) {
  signal(SIGABRT, SIG_IGN);
  in_another(calls_abort, 0);
}
static void main_exits(void) {
  static struct worker w;
  pthread_setspecific(key, &w);
  start(&w, ends_after_main, &w);
  pthread_exit((void*)31);
}
static void main_exits_alone(void) {
  pthread_setspecific(key, &main_thread);
  pthread_cleanup_push(notes, "");
  pthread_exit(NULL);
  pthread_cleanup_pop(0);
}
static void main_exits_others_go_on(void) {
  static struct worker w;
  MUST(pipe(fds));
  start(&w, reads_on, &w);
  pthread_detach(w.id);
  MUST(write(fds[1], "ab", 2));
  close(fds[1]);
  pthread_exit(NULL);
}
static void* exits_when_main_has(void* p) {
  pthread_join(main_thread, NULL);
  exit((int)(intptr_t)p);
}
static void main_exits_thread_decides(void) {
  static struct worker w;
  start(&w, exits_when_main_has, (void*)16);
  pthread_exit(NULL);
}
static void* cancels_main(void* p) {
  pthread_cancel(main_thread);
  pthread_join(main_thread, &p);
  writes(p == PTHREAD_CANCELED ? "  main is cancelled\n" : "  main is not cancelled\n");
  return NULL;
}
static void main_cancelled(void) {
  static struct worker w;
  start(&w, cancels_main, NULL);
  for (;;) pause();
}
struct way {
  const char* name;
  void (*run)(void);
};
static void ways(void) {
  static const struct way all[] = {
      {"exit in a thread", exit_in_thread},
      {"exit in main, others sleep", exit_in_main},
      {"main returns", return_from_main},
      {"main returns, on another stack", jump_out_of_main},
      {"exit within exit", exit_again},
      {"_exit in a thread", fast_exit},
      {"quick_exit in a thread", quick},
      {"abort in a thread", aborted},
      {"abort, handled", aborted_handled},
      {"abort, ignored", aborted_ignored},
      {"a signal in a thread", killed},
      {"exec in a thread", other_program},
      {"a fault in a thread", fault},
      {"main calls pthread_exit, another joins it", main_exits},
      {"main calls pthread_exit, alone", main_exits_alone},
      {"main calls pthread_exit, a detached one goes on", main_exits_others_go_on},
      {"main calls pthread_exit, another exit", main_exits_thread_decides},
      {"main is cancelled", main_cancelled},
  };
  printf("-- the process\n");
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    // Sanitizers report these differently.
    if ((all[i].run == fault || all[i].run == jump_out_of_main) && getenv("SANITIZED")) continue;
    printf("%s\n", all[i].name);
    fflush(stdout);
    pid_t child = MUST(fork());
    if (child == 0) {
      main_thread = pthread_self();
      atexit(at_exit_1);
      atexit(at_exit_2);
      on_exit(with_status, "with its argument");
      at_quick_exit(at_quick_1);
      at_quick_exit(at_quick_2);
      pthread_key_create(&key, key_destroyed);
      printf("  buffered\n");
      all[i].run();
      exit(17);
    }
    int status;
    MUST(waitpid(child, &status, 0));
    if (WIFSIGNALED(status)) printf("  signal %s\n", sigabbrev_np(WTERMSIG(status)));
    else printf("  status %d\n", WEXITSTATUS(status));
    fflush(stdout);
  }
}

static void* returns(void* p) { return p; }
static void alone_again(void) {
  printf("-- the last one left\n");
  struct worker w;
  start(&w, returns, NULL);
  end_of(&w);
  // Not defined by POSIX, and done by programs.
  ERR("cancel of a thread that was joined", pthread_cancel(w.id));
  struct timespec some = {0, 30000000}, then;
  int interrupted = 0;
  sem_t none;
  sem_init(&none, 0, 0);
  for (int i = 0; i < 5; i++) {
    interrupted += poll(NULL, 0, 30) < 0;
    interrupted += nanosleep(&some, NULL) < 0;
    clock_gettime(CLOCK_REALTIME, &then);
    then.tv_sec += then.tv_nsec >= 970000000, then.tv_nsec = (then.tv_nsec + 30000000) % 1000000000;
    interrupted += sem_timedwait(&none, &then) < 0 && errno != ETIMEDOUT;
  }
  printf("waits that ended early: %d\n", interrupted);
}

// --- the numbers of threads, which end in any order ---

static void* waits_for_end(void* go) {
  while (sem_wait(go)) {}
  return go;
}
static int is_found(pid_t tid) { return tgkill(getpid(), tid, 0) == 0; }
static void numbers(void) {
  enum { n = 6 };
  static const int ends[n] = {3, 2, 5, 0, 4, 1};
  static sem_t go[n];
  struct worker w[n];
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < n; i++) sem_init(&go[i], 0, 0), start(&w[i], waits_for_end, &go[i]);
    for (int i = 0; i < n; i++) await_waiting(&w[i]);
    int found = 0;
    for (int i = 0; i < n; i++) {
      for (int k = i; k < n; k++) found += is_found(w[ends[k]].tid);
      sem_post(&go[ends[i]]);
      end_of(&w[ends[i]]);
      for (int k = 0; k <= i; k++) {
        while (is_found(w[ends[k]].tid)) sched_yield();  // it may still be ending
      }
    }
    SAY("threads found by number, until they have ended", found);
    SAY("  and then", tgkill(getpid(), w[0].tid, 0));
  }
}

int main(void) {
  main_returns_to = __builtin_return_address(0);
  destructors();
  cleaning();
  alone_again();
  numbers();
  ways();
  return 0;
}
