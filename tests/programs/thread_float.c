// fenv(3): each thread has its own floating-point environment, initially its creator's.
#include "threads.h"

#include <fenv.h>
#include <float.h>

static volatile double one = 1, three = 3, tiny = DBL_MIN;
static volatile long double one_l = 1, three_l = 3, zero_l = 0;
static volatile float third;
static volatile long double third_l;
static int turn;

static const char* rounding(void) {
  switch (fegetround()) {
    case FE_TONEAREST:
      return "to nearest";
    case FE_UPWARD:
      return "upward";
    case FE_DOWNWARD:
      return "downward";
    case FE_TOWARDZERO:
      return "toward zero";
  }
  return "?";
}
static void tell(const char* who) {
  int raised = fetestexcept(FE_ALL_EXCEPT);
  printf("%s: rounds %s, a third is %a and %La; raised:%s%s%s%s%s\n", who, rounding(), one / three,
         one_l / three_l, raised & FE_INEXACT ? " inexact" : "",
         raised & FE_UNDERFLOW ? " underflow" : "", raised & FE_OVERFLOW ? " overflow" : "",
         raised & FE_DIVBYZERO ? " divbyzero" : "", raised & FE_INVALID ? " invalid" : "");
  fflush(stdout);
  fesetexceptflag(&(fexcept_t){0}, FE_ALL_EXCEPT);
  feraiseexcept(raised);
}

// Waits until it is thread `mine`'s turn, yielding repeatedly.
static void await_turn(int mine) {
  while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != mine) sched_yield();
}
static void next_turn(void) { __atomic_add_fetch(&turn, 1, __ATOMIC_ACQ_REL); }

static void* a_child(void* name) {
  tell(name);
  return NULL;
}
static void* changes_all(void* unused) {
  feclearexcept(FE_ALL_EXCEPT);
  await_turn(1);
  fesetround(FE_UPWARD);
  feraiseexcept(FE_DIVBYZERO);
  next_turn();
  await_turn(3);
  third = (float)(one / three);
  third_l = one_l / zero_l;
  next_turn();
  await_turn(5);
  tell("a thread that changed everything");
  next_turn();
  return unused;
}

// Runs until a tick: a thread that has raised no exception flag never sees the flag that the other
// raises all the time.
static volatile int over, raised;
static void* raises(void* unused) {
  for (int n = 0; !over; raised = ++n & 0xffff)
    third = (float)(tiny / three), third_l = one_l / three_l;
  return unused;
}
static void* looks(void* unused) {
  long seen = 0;
  feclearexcept(FE_ALL_EXCEPT);
  // Until the other thread has had some turns between two checks.
  for (int turns = 0, before = raised; turns < 10;) {
    seen += fetestexcept(FE_UNDERFLOW | FE_INEXACT) != 0;
    int now = raised;
    turns += now != before;
    before = now;
  }
  over = 1;
  return unused ? unused : (void*)seen;
}

int main(void) {
  struct worker w, v;
  feclearexcept(FE_ALL_EXCEPT);
  tell("at first");

  fesetround(FE_DOWNWARD);
  feraiseexcept(FE_OVERFLOW);
  start(&w, a_child, "a child of a thread that rounds downward and has raised overflow");
  fesetround(FE_TONEAREST);
  feclearexcept(FE_ALL_EXCEPT);
  end_of(&w);

  start(&w, changes_all, NULL);
  next_turn();
  await_turn(2);
  tell("while another rounds upward");
  feclearexcept(FE_ALL_EXCEPT);
  next_turn();
  await_turn(4);
  tell("while another has calculated");
  next_turn();
  await_turn(6);
  end_of(&w);
  start(&w, a_child, "the next one");
  end_of(&w);

  start(&w, raises, NULL);
  start(&v, looks, NULL);
  printf("seen of another's: %ld\n", (long)end_of(&v));
  end_of(&w);
  return 0;
}
