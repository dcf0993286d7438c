// A thread takes on another user's identity for itself (setfsuid, setresuid by number, ...), as
// file servers do for their clients; other threads keep their own. Only root can do that; other
// users get the error.
#include "threads.h"

#include <grp.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>

static char folder[] = "/tmp/identity-XXXXXX";
static int turn;

static void owner_of(const char* name) {
  struct stat s;
  if (stat(name, &s) < 0) printf("  %s: %s\n", name, strerrorname_np(errno));
  else printf("  %s: user %d, group %d\n", name, (int)s.st_uid, (int)s.st_gid);
  fflush(stdout);
}
static void make(const char* name) {
  int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600);
  if (fd < 0) printf("  %s: %s\n", name, strerrorname_np(errno));
  else close(fd), owner_of(name);
}
static void await_turn(int t) {
  while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != t) sched_yield();
}
static void give_turn(int t) { __atomic_store_n(&turn, t, __ATOMIC_RELEASE); }

static void* makes_files(void* who) {
  static const char* const names[3][2] = {{"1a", "1b"}, {"2a", "2b"}, {"3a", "3b"}};
  int n = (int)(intptr_t)who;
  await_turn(n);
  if (n) {
    SAY("setfsgid, what it was", setfsgid(2000 + n));
    SAY("setfsuid, what it was", setfsuid(1000 + n));
  }
  make(names[n][0]);
  give_turn((n + 1) % 3 + 10);
  await_turn(n + 10);
  usleep(1000);
  make(names[n][1]);
  give_turn((n + 1) % 3 + (n == 2 ? 20 : 10));
  return NULL;
}
static void files(void) {
  // Each thread sets its identity, makes a file, and makes another one when all have done so.
  struct worker w[3];
  printf("two threads with users of their own, and a third\n");
  turn = 0;
  for (int i = 0; i < 3; i++) start(&w[i], makes_files, (void*)(intptr_t)i);
  await_turn(11);
  give_turn(1);
  await_turn(12);
  give_turn(2);
  for (int i = 0; i < 3; i++) end_of(&w[i]);
  make("main's");
}

static void* opens_pipe(void* unused) {
  setfsuid(1001);
  SAY("  a FIFO that another user may open", open("pipe", O_RDONLY) >= 0);
  SAY("  a FIFO that only root may open", open("root's pipe", O_RDONLY) >= 0);
  make("after pipes");
  return unused;
}
static void* writes_pipe(void* unused) {
  if (open("pipe", O_WRONLY) < 0) printf("  its other end: %s\n", strerrorname_np(errno));
  return unused;
}
static void pipes(void) {
  struct worker r, w;
  printf("opening a FIFO, which waits for a thread that opens its other end\n");
  MUST(mkfifo("pipe", 0666));
  MUST(chmod("pipe", 0644));
  MUST(mkfifo("root's pipe", 0600));
  // Under the shim, this call leaves an idle helper thread that runs as root.
  int here = (int)MUST(open(".", O_RDONLY));
  MUST(fsync(here));
  close(here);
  start(&r, opens_pipe, NULL);
  await_waiting(&r);
  start(&w, writes_pipe, NULL);
  end_of(&w);
  end_of(&r);
  make("main's after pipes");
}

static void* makes_inherited(void* name) {
  make(name);
  return NULL;
}
static void* forks(void* unused) {
  struct worker w;
  int status;
  SAY("setresgid by number", syscall(SYS_setresgid, -1, 2005, -1));
  SAY("setresuid by number", syscall(SYS_setresuid, -1, 1005, -1));
  printf("  effective user %d, real %d\n", (int)geteuid(), (int)getuid());
  make("before fork");
  give_turn(1);
  await_turn(2);
  fflush(stdout);
  pid_t child = MUST(fork());
  if (child == 0) {
    make("in the child");
    start(&w, makes_inherited, "by the child's thread");
    end_of(&w);
    fflush(stdout);
    _exit(0);
  }
  MUST(waitpid(child, &status, 0));
  start(&w, makes_inherited, "by the thread's thread");
  end_of(&w);
  SAY("back: setresuid by number", syscall(SYS_setresuid, -1, 0, -1));
  make("when back");
  return unused;
}
static void fork_between(void) {
  struct worker w;
  printf("a thread with an effective user of its own, and a fork\n");
  turn = 0;
  start(&w, forks, NULL);
  await_turn(1);
  printf("  main's effective user %d, group %d\n", (int)geteuid(), (int)getegid());
  make("main's beside it");
  give_turn(2);
  end_of(&w);
  make("main's after it");
}

static void* has_groups(void* unused) {
  gid_t mine[2] = {3001, 3002};
  SAY("setgroups by number", syscall(SYS_setgroups, 2, mine));
  SAY("setresuid by number", syscall(SYS_setresuid, -1, 1006, -1));
  give_turn(1);
  await_turn(2);
  gid_t now[8];
  int n = getgroups(8, now);
  printf("  %d groups, the first %d; effective user %d\n", n, n > 0 ? (int)now[0] : -1,
         (int)geteuid());
  return unused;
}
static void* takes_groups_of_root(void* unused) {
  (void)unused;
  return (void*)(intptr_t)initgroups("root", 4711);
}
static void groups(void) {
  struct worker w;
  printf("groups of its own\n");
  MUST(setgroups(0, NULL));
  turn = 0;
  start(&w, has_groups, NULL);
  await_turn(1);
  gid_t now[8];
  printf("  main has %d\n", getgroups(8, now));
  give_turn(2);
  end_of(&w);
  printf("  and afterwards %d\n", getgroups(8, now));
  start(&w, takes_groups_of_root, NULL);
  SAY("  initgroups in a thread", (intptr_t)end_of(&w));
  gid_t all[256];
  int n = getgroups(256, all), found = 0;
  for (int i = 0; i < n; i++) found += all[i] == 4711;
  SAY("  applies to the process", found);
  MUST(setgroups(0, NULL));
}

static void* stays_another(void* unused) {
  setfsuid(1007);
  give_turn(1);
  await_turn(2);
  make("in the process's group");
  give_turn(3);
  await_turn(4);
  make("when all are another user");
  return unused;
}
static void* takes_user(void* unused) {
  (void)unused;
  return (void*)(intptr_t)setreuid((uid_t)-1, 1007);
}
static void process_changes(void) {
  struct worker w;
  start(&w, takes_user, NULL);
  SAY("setreuid in a thread", (intptr_t)end_of(&w));
  SAY("  applies to the process", geteuid());
  SAY("  whose real user stays", getuid());
  SAY("back", setreuid((uid_t)-1, 0));
  printf("the whole process changes beside it\n");
  turn = 0;
  start(&w, stays_another, NULL);
  await_turn(1);
  SAY("setegid", setegid(2008));
  give_turn(2);
  await_turn(3);
  make("main's in that group");
  SAY("setuid", setuid(1008));
  give_turn(4);
  end_of(&w);
  make("main's as that user");
  SAY("back", setuid(0));
}

int main(void) {
  if (geteuid() != 0) {
    printf("not root\n");
    return 0;
  }
  umask(0);
  if (!mkdtemp(folder)) return 1;
  MUST(chmod(folder, 0777));
  MUST(chdir(folder));
  files();
  pipes();
  fork_between();
  groups();
  fflush(stdout);
  if (peer()) {
    process_changes();
    leave();
  }
  peer_ends();
  char command[64];
  snprintf(command, sizeof command, "rm -r %s", folder);
  return system(command);
}
