// uselocale(3) in threads: a thread's locale is its own, while it runs and while it waits; a new
// thread has the global one, and its own errno and h_errno, whatever the thread had that ended on
// the same memory.
#include "threads.h"

#include <ctype.h>
#include <langinfo.h>
#include <locale.h>
#include <netdb.h>
#include <wchar.h>
#include <wctype.h>

static locale_t utf8, c_locale;

// What depends on the locale: the character set, the maximum length of a character, which
// characters are letters, the decimal point.
static void tell(const char* who) {
  locale_t now = uselocale(NULL);
  printf("%s: %s locale, %s, %zu, %d, %s\n", who,
         now == LC_GLOBAL_LOCALE ? "the global"
         : now == utf8           ? "the own"
         : now == c_locale       ? "the other own"
                                 : "an unknown",
         nl_langinfo(CODESET), MB_CUR_MAX, !!iswalpha(0xe9), localeconv()->decimal_point);
  printf("  isalpha %d %d, toupper %c, mbrlen %d\n", !!isalpha('a'), !!isalpha(0xe9), toupper('b'),
         (int)mbrlen("\xc3\xa9", 2, NULL));
  fflush(stdout);
}

static void* sets_its_own(void* l) {
  int error = errno, resolver_error = h_errno;
  tell("a new thread");
  printf("  errno %d, h_errno %d\n", error, resolver_error);
  SAY("uselocale returns the global", uselocale((locale_t)l) == LC_GLOBAL_LOCALE);
  tell("then");
  errno = ENOTTY;
  h_errno = NO_DATA;
  return NULL;
}
static void one(void* (*body)(void*), void* argument) {
  struct worker w;
  start(&w, body, argument);
  end_of(&w);
}

static void* frees_its_own(void* unused) {
  (void)unused;
  locale_t l = newlocale(LC_ALL_MASK, "C.UTF-8", NULL);
  uselocale(l);
  uselocale(LC_GLOBAL_LOCALE);
  freelocale(l);
  tell("a thread that has given up its locale");
  uselocale(utf8);
  pthread_exit(NULL);
}

// The threads take turns many times; each always sees its own locale.
static pthread_barrier_t turn;
static void* takes_turns(void* l) {
  long wrong = 0;
  uselocale((locale_t)l);
  size_t longest = MB_CUR_MAX;
  for (int i = 0; i < 100; i++) {
    pthread_barrier_wait(&turn);
    wrong += uselocale(NULL) != (locale_t)l || MB_CUR_MAX != longest ||
             !!iswalpha(0xe9) != ((locale_t)l == utf8);
    sched_yield();
  }
  return (void*)wrong;
}

static void* tells(void* who) {
  tell(who);
  return NULL;
}

int main(void) {
  utf8 = newlocale(LC_ALL_MASK, "C.UTF-8", NULL);
  c_locale = newlocale(LC_ALL_MASK, "C", NULL);
  if (!utf8 || !c_locale) return 99;

  tell("main");
  for (int i = 0; i < 3; i++) one(sets_its_own, utf8);
  one(frees_its_own, NULL);
  one(tells, "the next thread");

  MUST(pthread_barrier_init(&turn, NULL, 4));
  struct worker w[4];
  for (int i = 0; i < 4; i++) start(&w[i], takes_turns, i % 2 ? utf8 : c_locale);
  for (int i = 0; i < 4; i++) SAY("looks that saw another's locale", (intptr_t)end_of(&w[i]));
  tell("main still");

  uselocale(utf8);
  tell("main with its own");
  one(tells, "a thread of a main with its own");
  printf("setlocale: %s\n", setlocale(LC_ALL, "C.UTF-8"));
  one(tells, "a thread after it");
  for (int i = 0; i < 2; i++) one(sets_its_own, c_locale);
  uselocale(LC_GLOBAL_LOCALE);
  tell("main with the global one again");
  return 0;
}
