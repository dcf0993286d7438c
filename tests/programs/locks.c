// flock(2), lockf(3), F_SETLKW and F_OFD_SETLKW of fcntl(2); fsync(2) and related calls; opening
// FIFOs.
#include "cases.h"

#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>

static int fd;

static struct flock range(short type, off_t start, off_t len) {
  struct flock l;
  memset(&l, 0, sizeof l);
  l.l_type = type;
  l.l_whence = SEEK_SET;
  l.l_start = start;
  l.l_len = len;
  return l;
}
static int locked(int f, int command, short type, off_t start, off_t len) {
  struct flock l = range(type, start, len);
  return fcntl(f, command, &l);
}

// A child that takes a lock by `take` (an expression) and holds it until we are blocked.
static int told[2];
#define HOLDER(take, release)         \
  do {                                \
    MUST(pipe(told));                 \
    if (peer()) {                     \
      int own = open("file", O_RDWR); \
      (void)own;                      \
      MUST(take);                     \
      write(told[1], "x", 1);         \
      await_blocked();                \
      release;                        \
      leave();                        \
    }                                 \
    char byte_;                       \
    read(told[0], &byte_, 1);         \
    close(told[0]);                   \
    close(told[1]);                   \
  } while (0)

static void flocks(void) {
  SAY("LOCK_SH", flock(fd, LOCK_SH));
  SAY("LOCK_EX instead", flock(fd, LOCK_EX));
  SAY("LOCK_UN", flock(fd, LOCK_UN));
  SAY("LOCK_UN without a lock", flock(fd, LOCK_UN));
  SAY("LOCK_EX|LOCK_NB", flock(fd, LOCK_EX | LOCK_NB));
  int again = (int)MUST(open("file", O_RDWR));
  SAY("another description, LOCK_NB", flock(again, LOCK_SH | LOCK_NB));
  SAY("LOCK_UN|LOCK_NB", flock(fd, LOCK_UN | LOCK_NB));
  SAY("another description now", flock(again, LOCK_SH | LOCK_NB));
  SAY("shared with it", flock(fd, LOCK_SH));
  close(again);
  flock(fd, LOCK_UN);
  SAY("no operation", flock(fd, 0));
  SAY("a bad operation", flock(fd, 99));
  SAY("a bad descriptor", flock(-1, LOCK_EX));
  int p[2];
  MUST(pipe(p));
  SAY("a pipe", flock(p[0], LOCK_EX));
  close(p[0]);
  close(p[1]);

  HOLDER(flock(own, LOCK_EX), flock(own, LOCK_UN));
  SAY("a lock that a child holds, LOCK_NB", flock(fd, LOCK_EX | LOCK_NB));
  SAY("a lock that a child holds", flock(fd, LOCK_EX));
  SAY("  is ours", flock(fd, LOCK_UN));
  peer_ends();
  HOLDER(flock(own, LOCK_EX), close(own));
  SAY("the child closes the file", flock(fd, LOCK_SH));
  flock(fd, LOCK_UN);
  peer_ends();
  HOLDER(flock(own, LOCK_EX), (void)0);
  SAY("the child ends", flock(fd, LOCK_SH));
  flock(fd, LOCK_UN);
  peer_ends();

  // The wait is interrupted, and a second one gets the lock.
  on_signal(SIGUSR1, 0);
  take_handled();
  HOLDER(flock(own, LOCK_EX), (kill(getppid(), SIGUSR1), await_blocked(), flock(own, LOCK_UN)));
  SAY("a handler", flock(fd, LOCK_EX));
  SAY("  which ran", take_handled());
  SAY("  and again", flock(fd, LOCK_EX));
  again = (int)MUST(open("file", O_RDWR));
  SAY("  no other process gets it", flock(again, LOCK_EX | LOCK_NB));
  flock(fd, LOCK_UN);
  SAY("  until it is given back", flock(again, LOCK_EX | LOCK_NB));
  close(again);
  peer_ends();
  on_signal(SIGUSR1, SA_RESTART);
  HOLDER(flock(own, LOCK_EX), (kill(getppid(), SIGUSR1), await_blocked(), flock(own, LOCK_UN)));
  SAY("SA_RESTART", flock(fd, LOCK_EX));
  SAY("  which ran", take_handled());
  flock(fd, LOCK_UN);
  peer_ends();
  // The wait is interrupted and not repeated: no process holds the lock then.
  on_signal(SIGUSR1, 0);
  HOLDER(flock(own, LOCK_EX), (kill(getppid(), SIGUSR1), await_blocked()));
  SAY("a handler", flock(fd, LOCK_EX));
  peer_ends();
  again = (int)MUST(open("file", O_RDWR));
  SAY("  the lock is free when the holder has ended", flock(again, LOCK_EX | LOCK_NB));
  close(again);
}

static void records(int setlk, int setlkw, const char* name) {
  printf("-- %s\n", name);
  SAY("a write lock", locked(fd, setlkw, F_WRLCK, 0, 10));
  SAY("a part of it read", locked(fd, setlkw, F_RDLCK, 5, 2));
  SAY("all unlocked", locked(fd, setlkw, F_UNLCK, 0, 0));
  SAY("a bad kind", locked(fd, setlkw, 77, 0, 10));
  SAY("a bad start", locked(fd, setlkw, F_WRLCK, -1, 10));
  SAY("a bad descriptor", locked(-1, setlkw, F_WRLCK, 0, 10));
  SAY("a bad address", fcntl(fd, setlkw, NOWHERE));
  int reader = (int)MUST(open("file", O_RDONLY));
  SAY("a write lock through a read-only descriptor", locked(reader, setlkw, F_WRLCK, 0, 10));
  close(reader);

  HOLDER(locked(own, setlk, F_WRLCK, 0, 10), locked(own, setlk, F_UNLCK, 0, 10));
  SAY("a lock that a child holds, without waiting", locked(fd, setlk, F_RDLCK, 5, 1));
  SAY("beside it", locked(fd, setlkw, F_WRLCK, 10, 5));
  SAY("a lock that a child holds", locked(fd, setlkw, F_RDLCK, 5, 1));
  locked(fd, setlk, F_UNLCK, 0, 0);
  peer_ends();
  on_signal(SIGUSR1, 0);
  take_handled();
  HOLDER(locked(own, setlk, F_WRLCK, 0, 10),
         (kill(getppid(), SIGUSR1), await_blocked(), locked(own, setlk, F_UNLCK, 0, 10)));
  SAY("a handler", locked(fd, setlkw, F_WRLCK, 0, 1));
  SAY("  which ran", take_handled());
  SAY("  and again", locked(fd, setlkw, F_WRLCK, 0, 1));
  peer_ends();
  locked(fd, setlk, F_UNLCK, 0, 0);
  on_signal(SIGUSR1, SA_RESTART);
  HOLDER(locked(own, setlk, F_WRLCK, 0, 10),
         (kill(getppid(), SIGUSR1), await_blocked(), locked(own, setlk, F_UNLCK, 0, 10)));
  SAY("SA_RESTART", locked(fd, setlkw, F_WRLCK, 0, 1));
  SAY("  which ran", take_handled());
  peer_ends();
  locked(fd, setlk, F_UNLCK, 0, 0);
}

// Waits until the process `who` waits for a record lock.
static void await_lock_wait(pid_t who) {
  char wanted[50], line[300];
  snprintf(wanted, sizeof wanted, " %d ", (int)who);
  for (;;) {
    FILE* f = fopen("/proc/locks", "r");
    while (f && fgets(line, sizeof line, f)) {
      if (strstr(line, "-> POSIX") && strstr(line, wanted)) {
        fclose(f);
        return;
      }
    }
    if (f) fclose(f);
    sched_yield();
  }
}

static void deadlock(void) {
  // We hold byte 0 and want byte 1; the child holds byte 1 and, when we wait, wants byte 0.
  locked(fd, F_SETLK, F_WRLCK, 0, 1);
  MUST(pipe(told));
  fflush(stdout);
  pid_t c = MUST(fork());
  if (c == 0) {
    int own = open("file", O_RDWR);
    locked(own, F_SETLK, F_WRLCK, 1, 1);
    write(told[1], "x", 1);
    await_lock_wait(getppid());
    errno = 0;
    int r = locked(own, F_SETLKW, F_WRLCK, 0, 1);
    _exit(r == -1 && errno == EDEADLK ? 0 : 2);
  }
  char byte;
  read(told[0], &byte, 1);
  SAY("what the child holds that wants what we hold", locked(fd, F_SETLKW, F_WRLCK, 1, 1));
  int s;
  waitpid(c, &s, 0);
  SAY("EDEADLK for the child", WEXITSTATUS(s));
  locked(fd, F_SETLK, F_UNLCK, 0, 0);
  // The other way round: the child waits for our lock, and we request the one that it holds.
  locked(fd, F_SETLK, F_WRLCK, 0, 1);
  fflush(stdout);
  c = MUST(fork());
  if (c == 0) {
    int own = open("file", O_RDWR);
    locked(own, F_SETLK, F_WRLCK, 1, 1);
    write(told[1], "x", 1);
    _exit(locked(own, F_SETLKW, F_WRLCK, 0, 1) ? 3 : 0);
  }
  read(told[0], &byte, 1);
  await_lock_wait(c);
  SAY("EDEADLK for us", locked(fd, F_SETLKW, F_WRLCK, 1, 1));
  locked(fd, F_SETLK, F_UNLCK, 0, 0);
  waitpid(c, &s, 0);
  SAY("the child has its lock", WEXITSTATUS(s));
  close(told[0]);
  close(told[1]);
}

static void lockfs(void) {
  SAY("F_LOCK", lockf(fd, F_LOCK, 10));
  SAY("F_TEST of our own", lockf(fd, F_TEST, 10));
  SAY("F_ULOCK", lockf(fd, F_ULOCK, 10));
  SAY("F_TLOCK", lockf(fd, F_TLOCK, 10));
  SAY("F_ULOCK of all", lockf(fd, F_ULOCK, 0));
  SAY("a bad command", lockf(fd, 9, 10));
  SAY("a bad descriptor", lockf(-1, F_LOCK, 10));
  SAY("a negative length at the start", lockf(fd, F_LOCK, -10));
  HOLDER(lockf(own, F_LOCK, 10), lockf(own, F_ULOCK, 10));
  SAY("F_TEST of the child's", lockf(fd, F_TEST, 10));
  SAY("F_TLOCK of the child's", lockf(fd, F_TLOCK, 10));
  SAY("F_LOCK of the child's", lockf(fd, F_LOCK, 10));
  lockf(fd, F_ULOCK, 0);
  peer_ends();
  lseek(fd, 100, SEEK_SET);
  HOLDER(locked(own, F_SETLK, F_WRLCK, 95, 2), locked(own, F_SETLK, F_UNLCK, 95, 2));
  SAY("F_LOCK from the position on", lockf(fd, F_LOCK, 10));
  SAY("F_LOCK before the position", lockf(fd, F_LOCK, -10));
  peer_ends();
  lseek(fd, 0, SEEK_SET);
  locked(fd, F_SETLK, F_UNLCK, 0, 0);
}

static void flushes(void) {
  int p[2], s[2];
  MUST(pipe(p));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  SAY("fsync", fsync(fd));
  SAY("fdatasync", fdatasync(fd));
  SAY("syncfs", syncfs(fd));
  SAY("sync_file_range",
      sync_file_range(fd, 0, 10, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
  SAY("fsync of a pipe", fsync(p[0]));
  SAY("fdatasync of a socket", fdatasync(s[0]));
  SAY("fsync of a bad descriptor", fsync(-1));
  SAY("fdatasync of a bad descriptor", fdatasync(12345));
  SAY("syncfs of a bad descriptor", syncfs(-1));
  SAY("sync_file_range with bad flags", sync_file_range(fd, 0, 10, 0x100));
  SAY("sync_file_range of a pipe", sync_file_range(p[0], 0, 10, SYNC_FILE_RANGE_WRITE));
  void* m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  SAY("msync", msync(m, 4096, MS_SYNC));
  SAY("msync, asynchronous", msync(m, 4096, MS_ASYNC));
  SAY("msync with both", msync(m, 4096, MS_SYNC | MS_ASYNC));
  SAY("msync of a bad address", msync((char*)m + 1, 4096, MS_SYNC));
  munmap(m, 4096);
  SAY("msync of an unmapped page", msync(m, 4096, MS_SYNC));
  sync();
}

static void fifos(void) {
  MUST(mkfifo("fifo", 0600));
  char b[8];
  int f;
#define OPEN(sentence, how)                \
  do {                                     \
    errno = 0;                             \
    f = (how);                             \
    say(sentence, f >= 0 ? 0 : -1, errno); \
  } while (0)
  OPEN("O_WRONLY|O_NONBLOCK without a reader", open("fifo", O_WRONLY | O_NONBLOCK));
  OPEN("O_RDONLY|O_NONBLOCK", open("fifo", O_RDONLY | O_NONBLOCK));
  close(f);
  OPEN("O_RDWR", open("fifo", O_RDWR));
  close(f);
  for (int way = 0; way < 4; way++) {
    if (peer()) {
      await_blocked();
      int other = open("fifo", way % 2 ? O_RDONLY : O_WRONLY);
      if (way % 2) read(other, b, 1);
      else write(other, "x", 1);
      await_blocked();
      leave();
    }
    int how =
        (way % 2 ? O_WRONLY : O_RDONLY) | (way == 2 ? O_CLOEXEC : 0) | (way == 3 ? O_CREAT : 0);
    OPEN(way % 2 ? "the write end waits for a reader" : "the read end waits for a writer",
         way == 1 ? openat(AT_FDCWD, "fifo", how) : open("fifo", how, 0600));
    SAY("  flags", fcntl(f, F_GETFL) & ~0100000);
    SAY("  close on exec", fcntl(f, F_GETFD));
    if (way % 2) SAY("  a write", write(f, "y", 1));
    else SAY("  a read", read(f, b, 1));
    close(f);
    kill(peer_pid, SIGKILL);
    waitpid(peer_pid, NULL, 0);
  }
  on_signal(SIGUSR1, 0);
  take_handled();
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  OPEN("a handler", open("fifo", O_RDONLY));
  SAY("  which ran", take_handled());
  peer_ends();
  on_signal(SIGUSR1, SA_RESTART);
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    await_blocked();
    open("fifo", O_WRONLY);
    leave();
  }
  OPEN("SA_RESTART", open("fifo", O_RDONLY));
  SAY("  which ran", take_handled());
  close(f);
  peer_ends();
  OPEN("no such file", open("nothing/here", O_RDONLY));
  OPEN("a bad address", open(NOWHERE, O_RDONLY));
  OPEN("O_DIRECTORY of a FIFO", open("fifo", O_RDONLY | O_DIRECTORY));
  OPEN("O_CREAT|O_EXCL of a FIFO", open("fifo", O_RDONLY | O_CREAT | O_EXCL, 0600));
  OPEN("O_PATH of a FIFO", open("fifo", O_PATH));
  close(f);
  MUST(symlink("fifo", "link"));
  OPEN("O_NOFOLLOW of a link to a FIFO", open("link", O_RDONLY | O_NOFOLLOW));
  if (peer()) {
    await_blocked();
    int d = open(".", O_RDONLY | O_DIRECTORY);
    openat(d, "link", O_WRONLY);
    leave();
  }
  OPEN("a link to a FIFO", open("link", O_RDONLY));
  close(f);
  peer_ends();
  fd = open("file", O_RDWR | O_CREAT, 0640);
  struct stat s;
  umask(022);
  int made = open("made", O_RDWR | O_CREAT, 0666);
  fstat(made, &s);
  SAY("O_CREAT's mode", (long)(s.st_mode & 0777));
  made = openat(AT_FDCWD, ".", O_RDWR | O_TMPFILE, 0604);
  if (made >= 0) {
    fstat(made, &s);
    SAY("O_TMPFILE's mode", (long)(s.st_mode & 0777));
  }
}

int main(void) {
  fd = (int)MUST(open("file", O_RDWR | O_CREAT, 0600));
  MUST(ftruncate(fd, 4096));
  flocks();
  records(F_SETLK, F_SETLKW, "the process's locks");
  records(F_OFD_SETLK, F_OFD_SETLKW, "open file description locks");
  deadlock();
  lockfs();
  flushes();
  fifos();
}
