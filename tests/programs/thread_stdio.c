// Threads that read from a pipe, a terminal and a socket by stdio(3) at once, each while the others
// wait; a stream that is read and written alternately; a stream's lock between threads; lines of
// many threads stay whole.
#include "threads.h"

#include <pty.h>
#include <sys/socket.h>
#include <termios.h>

enum { kinds = 3, writers = 8, lines = 200 };
static const char* const names[kinds] = {"a pipe", "a terminal", "a socket"};
static FILE* streams[kinds];
static int ends[kinds];  // the other ends

static void open_all(void) {
  int p[2], s[2], master, slave;
  struct termios t;
  MUST(pipe(p));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  MUST(openpty(&master, &slave, NULL, NULL, NULL));
  tcgetattr(slave, &t);
  t.c_lflag &= ~(tcflag_t)ECHO;
  tcsetattr(slave, TCSANOW, &t);
  streams[0] = fdopen(p[0], "r"), ends[0] = p[1];
  streams[1] = fdopen(slave, "r+"), ends[1] = master;
  streams[2] = fdopen(s[0], "r+"), ends[2] = s[1];
}

// Reads lines by every function.
static void* reads_lines(void* p) {
  FILE* f = p;
  char line[100], *more = NULL;
  size_t room = 0;
  int n = 0;
  long sum = 0;
  if (fgets(line, sizeof line, f)) sum += (long)strlen(line);
  if (getline(&more, &room, f) > 0) sum += (long)strlen(more);
  if (fscanf(f, "%d", &n) == 1) sum += n;
  sum += getc(f) == '\n';
  free(more);
  return (void*)sum;
}
static void reading(void) {
  static const char* const pieces[] = {"he", "llo\nwor", "ld, and more\n 4", "2\n"};
  struct worker w[kinds];
  for (int i = 0; i < kinds; i++) start(&w[i], reads_lines, streams[i]), await_waiting(&w[i]);
  for (int k = 0; k < 4; k++) {
    for (int i = 0; i < kinds; i++) {
      MUST(write(ends[i], pieces[k], strlen(pieces[k])));
      await_waiting(&w[i]);
    }
  }
  for (int i = 0; i < kinds; i++) SAY(names[i], (intptr_t)end_of(&w[i]));
}

static void* answers(void* p) {
  FILE* f = p;
  char line[100];
  while (fgets(line, sizeof line, f) && line[0] != '.') {
    fseek(f, 0, SEEK_CUR);
    fprintf(f, "the answer to %s", line);
    fflush(f);
    fseek(f, 0, SEEK_CUR);
  }
  return NULL;
}
static void answering(void) {
  struct worker w;
  char b[100];
  start(&w, answers, streams[2]);
  for (int i = 0; i < 3; i++) {
    dprintf(ends[2], "question %d\n", i);
    ssize_t n = MUST(read(ends[2], b, sizeof b));
    printf("%.*s", (int)n, b);
  }
  dprintf(ends[2], ".\n");
  end_of(&w);
}

static FILE* shared;
static void* tries_lock(void* p) {
  (void)p;
  int held = ftrylockfile(shared);
  if (!held) funlockfile(shared);
  return (void*)(intptr_t)(held != 0);
}
static void* writes_lines(void* p) {
  int letter = 'a' + (int)(intptr_t)p;
  for (int i = 0; i < lines; i++) {
    if (i % 3 == 0) {
      fprintf(shared, "%c%030d%c\n", letter, i, letter);
    } else if (i % 3 == 1) {
      flockfile(shared);
      putc_unlocked(letter, shared);
      fprintf(shared, "%030d", i);
      sched_yield();
      putc_unlocked(letter, shared);
      putc_unlocked('\n', shared);
      funlockfile(shared);
    } else {
      fputs("-0123456789012345678901234567890\n", shared);
    }
    if (i % 40 == 0) fflush(NULL);
  }
  return p;
}
static void locking(void) {
  struct worker w[writers];
  char line[100];
  shared = tmpfile();
  flockfile(shared);
  start(&w[0], tries_lock, NULL);
  SAY("ftrylockfile of a stream that another has locked fails", (intptr_t)end_of(&w[0]));
  SAY("  the owner's does not", ftrylockfile(shared));
  funlockfile(shared);
  start(&w[0], tries_lock, NULL);
  SAY("  unlocked once of twice, it still fails", (intptr_t)end_of(&w[0]));
  funlockfile(shared);
  start(&w[0], tries_lock, NULL);
  SAY("  and then no longer", (intptr_t)end_of(&w[0]));
  for (int i = 0; i < writers; i++) start(&w[i], writes_lines, (void*)(intptr_t)i);
  for (int i = 0; i < writers; i++) end_of(&w[i]);
  rewind(shared);
  long whole = 0, torn = 0;
  while (fgets(line, sizeof line, shared)) {
    size_t n = strlen(line);
    int good = line[0] == '-' ? n == 33 : n == 33 && line[0] == line[31];
    whole += good, torn += !good;
  }
  SAY("lines that are whole", whole);
  SAY("  and torn", torn);
  fclose(shared);
}

// The position of a stream after writes that flush by themselves, when the position was known
// before.
static void* places(void* p) {
  FILE* f = fopen("places", "w+");
  char buffer[64], data[300], got[400];
  memset(data, 'd', sizeof data);
  setvbuf(f, buffer, _IOFBF, sizeof buffer);
  SAY("a beginning", (long)fwrite("0123456789abcdef", 1, 16, f));
  SAY("back", fseek(f, 10, SEEK_SET));
  SAY("where", ftell(f));
  SAY("more than the buffer holds", (long)fwrite(data, 1, sizeof data, f));
  SAY("where", ftell(f));
  for (int i = 0; i < 100; i++) fputc('e', f);
  SAY("where, byte by byte", ftell(f));
  SAY("back", fseek(f, -5, SEEK_CUR));
  SAY("a line", fprintf(f, "%100d", 1));
  SAY("where", ftello(f));
  SAY("to the end", fseek(f, 0, SEEK_END));
  SAY("where", ftell(f));
  rewind(f);
  SAY("read", (long)fread(got, 1, 12, f));
  SAY("as it was written", memcmp(got, "0123456789dd", 12));
  SAY("where", ftell(f));
  fpos_t here;
  SAY("the position", fgetpos(f, &here));
  SAY("to the end", fseek(f, 0, SEEK_END));
  SAY("added", (long)fwrite(data, 1, 200, f));
  SAY("back there", fsetpos(f, &here));
  SAY("where", ftell(f));
  SAY("one byte", fgetc(f));
  fclose(f);
  unlink("places");
  return p;
}

int main(void) {
  open_all();
  reading();
  answering();
  locking();
  struct worker w;
  start(&w, places, NULL);
  end_of(&w);
  return 0;
}
