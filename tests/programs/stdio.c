// stdio(3) in threads: while a thread waits for a stream, or for its lock, the others run.
#include "cases.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <locale.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio_ext.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <wchar.h>

static pthread_t start(void* (*body)(void*), void* argument) {
  pthread_t t;
  if (pthread_create(&t, NULL, body, argument)) exit(97);
  return t;
}
static void* end(pthread_t t) {
  void* result;
  if (pthread_join(t, &result)) exit(96);
  return result;
}

static FILE* in;   // the reading end of a pipe
static FILE* out;  // the writing end
static void new_pipe(void) {
  int p[2];
  MUST(pipe(p));
  in = fdopen(p[0], "r");
  out = fdopen(p[1], "w");
}
static void close_both(void) {
  fclose(in);
  if (out) fclose(out);
}

// --- reading data that comes in pieces ---

static void* write_pieces(void* text) {
  for (const char* p = text; *p;) {
    size_t n = strcspn(p, "|");
    await_all_waiting();
    MUST(write(fileno(out), p, n));
    p += n + (p[n] == '|');
  }
  fclose(out);
  out = NULL;
  return NULL;
}
#define READING(sentence, text, code)                        \
  do {                                                       \
    new_pipe();                                              \
    pthread_t writer = start(write_pieces, text);            \
    printf(sentence ":\n");                                  \
    code;                                                    \
    printf("  end %d error %d\n", !!feof(in), !!ferror(in)); \
    end(writer);                                             \
    close_both();                                            \
  } while (0)

static void reads(void) {
  char b[200];
  wchar_t w[200];
  char* line = NULL;
  size_t room = 0;
  long n;
  int c, i, k;
  READING("fgets", "he|llo\nwor|ld", while (fgets(b, sizeof b, in)) printf("  <%s>\n", b));
  READING("fgets with little room", "he|llo\nwor|ld",
          while (fgets(b, 4, in)) printf("  <%s>\n", b));
  READING("getc", "a|bc|d", while ((c = getc(in)) != EOF) printf("  %c\n", c));
  READING("fgetc after the end", "x|", fgetc(in); c = fgetc(in); printf("  %d\n", c); c = fgetc(in);
          printf("  %d\n", c));
  READING("ungetc", "a|b", c = getc(in); ungetc('z', in); printf("  %c", c);
          printf(" %c", getc(in)); printf(" %c\n", getc(in)));
  READING("getline", "one\nt|wo\n|three",
          while ((n = getline(&line, &room, in)) >= 0) printf("  %ld <%s>\n", n, line));
  READING("getdelim", "one;t|wo;|three",
          while ((n = getdelim(&line, &room, ';', in)) >= 0) printf("  %ld <%s>\n", n, line));
  READING("fread", "abcde|fgh|ij",
          while ((n = (long)fread(b, 1, 4, in)) > 0) printf("  %.*s\n", (int)n, b));
  READING("fread of elements", "abcde|fgh|ij", n = (long)fread(b, 4, 4, in); printf("  %ld\n", n));
  READING("fscanf", "12 | 3|4 x", n = fscanf(in, "%d %d", &i, &k); printf("  %ld %d %d\n", n, i, k);
          n = fscanf(in, "%d", &i); printf("  %ld\n", n));
  READING("getc_unlocked", "a|bc|d", while ((c = getc_unlocked(in)) != EOF) printf("  %c\n", c));
  READING("fgets_unlocked", "he|llo\nwor|ld",
          while (fgets_unlocked(b, sizeof b, in)) printf("  <%s>\n", b));
  READING("fread_unlocked", "abc|def", n = (long)fread_unlocked(b, 1, 6, in); printf("  %ld\n", n));
  READING("getc without a buffer", "a|bc|d", setvbuf(in, NULL, _IONBF, 0);
          while ((c = getc(in)) != EOF) printf("  %c\n", c));
  READING("fgetws", "he|llo\nwor|ld", while (fgetws(w, 200, in)) printf("  <%ls>\n", w));
  READING("fgetwc", "\xc3|\xa4|b",
          while ((c = (int)fgetwc(in)) != (int)WEOF) printf("  %x\n", (unsigned)c));
  READING("fwscanf", "12 | 3|4 x", n = fwscanf(in, L"%d %d", &i, &k);
          printf("  %ld %d %d\n", n, i, k));
  READING("a small buffer and a long line", "0123456789|0123456789|0123456789\n|x",
          static char small[7];
          setvbuf(in, small, _IOFBF, 7); while (fgets(b, sizeof b, in)) printf("  <%s>\n", b));
  free(line);
}

// --- errors ---

static void* sleeps_in_a_read(void* fd) {
  char c;
  return (void*)(intptr_t)read(*(int*)fd, &c, 1);
}

static void errors(void) {
  char b[100];
  new_pipe();
  set_nonblocking(fileno(in), 1);
  SAY("fgets when the program asked not to wait", fgets(b, sizeof b, in) ? 0 : -1);
  SAY("  is an error", !!ferror(in));
  clearerr(in);
  fputs("x\n", out);
  fflush(out);
  SAY("  and goes on", fgets(b, sizeof b, in) ? 0 : -1);
  SAY("getc from a stream for writing", getc(out));
  clearerr(out);
  set_nonblocking(fileno(in), 0);
  SAY_INTERRUPTED("fgets", fgets(b, sizeof b, in) ? b[0] : -1, dprintf(fileno(out), "y\n"));
  SAY("  is an error", !!ferror(in));
  clearerr(in);
  SAY_INTERRUPTED("getc", getc(in), dprintf(fileno(out), "z"));
  fputs("nobody reads this", out);
  fclose(in);
  signal(SIGPIPE, SIG_IGN);
  SAY("fflush without a reader", fflush(out));
  SAY("  is an error", !!ferror(out));
  SAY("fclose with data that no process reads", fclose(out));
  new_pipe();
  fputs("nor this", out);
  fclose(in);
  SAY("fclose without a reader", fclose(out));
  signal(SIGPIPE, count_signal);
  take_handled();
  new_pipe();
  fputs("nor this", out);
  fclose(in);
  SAY("fclose with a handler for SIGPIPE", fclose(out));
  SAY("  which ran", take_handled());
  signal(SIGPIPE, SIG_DFL);
}

// --- locks ---

static void* reads_a_line(void* to) { return fgets(to, 100, in); }
static void* asks_for_the_end(void* unused) {
  (void)unused;
  return (void*)(intptr_t)feof(in);
}
static void await_locked(FILE* f) {
  while (ftrylockfile(f) == 0) {
    funlockfile(f);
    sched_yield();
  }
}
static void* writes_to(void* f) {
  fprintf(f, "the other %s\n", "thread");
  fputs("twice\n", f);
  return NULL;
}
static char* all_of(FILE* f) {
  static char text[1000];
  rewind(f);
  text[fread(text, 1, sizeof text - 1, f)] = 0;
  return text;
}

static void locks(void) {
  char a[100], b[100];
  new_pipe();
  pthread_t first = start(reads_a_line, a);
  await_locked(in);
  SAY("a stream that another thread reads is locked", ftrylockfile(in) != 0);
  pthread_t second = start(reads_a_line, b);
  pthread_t third = start(asks_for_the_end, NULL);
  await_all_waiting();
  dprintf(fileno(out), "one\n");
  end(first);
  dprintf(fileno(out), "two\n");
  end(second);
  printf("two readers: %s%s", a, b);
  SAY("feof meanwhile", (intptr_t)end(third));
  SAY("then it is free", ftrylockfile(in));
  funlockfile(in);

  FILE* f = tmpfile();
  flockfile(f);
  flockfile(f);
  pthread_t writer = start(writes_to, f);
  await_all_waiting();
  fprintf(f, "who has the lock\n");
  funlockfile(f);
  await_all_waiting();
  fputs("writes first\n", f);
  putc_unlocked('\n', f);
  funlockfile(f);
  end(writer);
  printf("%s", all_of(f));
  fclose(f);

  // Cancelled while it reads.
  first = start(reads_a_line, a);
  await_locked(in);
  second = start(reads_a_line, b);
  await_all_waiting();
  pthread_cancel(first);
  SAY("a reader is cancelled", end(first) == PTHREAD_CANCELED);
  dprintf(fileno(out), "three\n");
  SAY("and the next one reads", end(second) == b);
  printf("%s", b);
  SAY("the stream is free", ftrylockfile(in));
  funlockfile(in);
  close_both();
}

// --- writing to a full pipe ---

enum { much = 300000 };
static char bytes[much];

static size_t drained;
static long wrong;
static void* drains(void* plainly) {
  static char got[much + 10];
  size_t n = 0, r;
  await_all_waiting();
  while ((r = plainly ? (size_t)read(fileno(in), got + n, 1000) : fread(got + n, 1, 1000, in)) > 0)
    n += r;
  wrong = 0;
  for (size_t i = 0; i < n && i < much; i++) wrong += got[i] != bytes[i];
  drained = n;
  return NULL;
}
#define WRITING(sentence, code) DRAINED(NULL, sentence, code)
#define DRAINED(plainly, sentence, code)                     \
  do {                                                       \
    new_pipe();                                              \
    pthread_t reader = start(drains, plainly);               \
    SAY(sentence, code);                                     \
    if (out) fclose(out);                                    \
    out = NULL;                                              \
    end(reader);                                             \
    printf("  read %zu bytes, %ld wrong\n", drained, wrong); \
    close_both();                                            \
  } while (0)

static long by_putc(void) {
  for (int i = 0; i < much; i++) {
    if (putc(bytes[i], out) == EOF) return i;
  }
  return much;
}
static long by_lines(void) {
  long n = 0;
  for (int i = 0; i < much; i += 100) n += fprintf(out, "%.100s", bytes + i);
  return n;
}
static long then_closed(int buffer) {
  char* room = malloc((size_t)buffer);
  setvbuf(out, room, _IOFBF, (size_t)buffer);
  long n = (long)fwrite(bytes, 1, (size_t)buffer, out);
  int r = fclose(out);
  out = NULL;
  free(room);
  return r ? -1 : n;
}
static long writes_by_list(int fd, const char* format, ...) {
  va_list rest;
  va_start(rest, format);
  long r = vdprintf(fd, format, rest);
  va_end(rest);
  return r;
}
static long all_flushed(void) {
  static char room[much];
  setvbuf(out, room, _IOFBF, much);
  fwrite(bytes, 1, much - 1, out);
  return fflush(NULL) ? -1 : (long)__fpending(out);
}

static void writes(void) {
  for (int i = 0; i < much; i++) bytes[i] = (char)('a' + i % 23);
  WRITING("fwrite", (long)fwrite(bytes, 1, much, out));
  WRITING("fwrite without a buffer",
          (setvbuf(out, NULL, _IONBF, 0), (long)fwrite(bytes, 3, much / 3, out)));
  WRITING("putc", by_putc());
  WRITING("fprintf", by_lines());
  WRITING("dprintf", dprintf(fileno(out), "%.*s", much, bytes));
  WRITING("vdprintf", writes_by_list(fileno(out), "%.*s", much, bytes));
  WRITING("fclose", then_closed(200000));
  DRAINED("", "fflush of all", all_flushed());  // it would wait for a thread that reads by stdio
}

// --- several at once ---

enum { pipes = 40, lines = 50 };
struct link {
  FILE *in, *out;
};
static void* passes_on(void* p) {
  struct link* l = p;
  char* line = NULL;
  size_t room = 0;
  long n = 0;
  while (getline(&line, &room, l->in) > 0) {
    fputs(line, l->out);
    fflush(l->out);
    n++;
  }
  free(line);
  fclose(l->out);
  fclose(l->in);
  return (void*)n;
}

static void chain(void) {
  static struct link links[pipes];
  pthread_t threads[pipes];
  int first[2], p[2];
  MUST(pipe(first));
  int from = first[0];
  for (int i = 0; i < pipes; i++) {
    MUST(pipe(p));
    links[i].in = fdopen(from, "r");
    links[i].out = fdopen(p[1], "w");
    from = p[0];
  }
  for (int i = 0; i < pipes; i++) threads[i] = start(passes_on, &links[i]);
  FILE* source = fdopen(first[1], "w");
  FILE* sink = fdopen(from, "r");
  long right = 0;
  for (int i = 0; i < lines; i++) {
    int n = -1;
    fprintf(source, "line %d\n", i);
    fflush(source);
    if (fscanf(sink, "line %d", &n) == 1 && n == i && getc(sink) == '\n') right++;
  }
  fclose(source);
  long passed = 0;
  for (int i = 0; i < pipes; i++) passed += (long)end(threads[i]);
  fclose(sink);
  printf("a chain of %d threads: %ld lines right, %ld passed on\n", pipes, right, passed);
}

static void* writes_lines(void* letter) {
  for (int i = 0; i < 2000; i++) {
    char line[40];
    memset(line, *(char*)letter, sizeof line);
    fprintf(out, "%.40s\n", line);
  }
  return NULL;
}
static void whole_lines(void) {
  new_pipe();
  pthread_t a = start(writes_lines, "a"), b = start(writes_lines, "b");
  char line[100];
  long torn = 0;
  for (int i = 0; i < 3900; i++) {
    if (!fgets(line, sizeof line, in)) exit(95);
    for (int k = 1; k < 40; k++) torn += line[k] != line[0];
    torn += line[40] != '\n';
  }
  end(a);
  end(b);
  fclose(out);
  long rest = 0;
  while (fgets(line, sizeof line, in)) rest++;
  fclose(in);
  printf("lines of two threads: %ld torn, %ld more\n", torn, rest);
}

// --- reading an unbuffered stream flushes stdout, also into a full pipe ---

static int answers[2], questions[2];
static void* answers_questions(void* unused) {
  (void)unused;
  char b[100] = "";
  MUST(read(questions[0], b, sizeof b - 1));
  fprintf(stderr, "asked: %s\n", b);
  MUST(write(answers[1], "42\n", 3));
  return NULL;
}
static void* answers_behind_much(void* unused) {
  (void)unused;
  char b[4096];
  size_t n;
  await_all_waiting();
  do n = (size_t)MUST(read(questions[0], b, sizeof b));
  while (!memchr(b, '?', n));
  MUST(write(answers[1], "43\n", 3));
  return NULL;
}
static void fill_pipe(int fd) {
  char b[4096] = "";
  set_nonblocking(fd, 1);
  while (write(fd, b, sizeof b) > 0) {}
  set_nonblocking(fd, 0);
}
// Refuses tgkill(2), by which the runtime interrupts a thread that blocks in the kernel.
static void refuse_ticks(void) {
  struct sock_filter f[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_tgkill, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof f / sizeof *f, f};
  MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}
static void prompt(int full) {
  fflush(stdout);
  if (peer()) {
    MUST(pipe(answers));
    MUST(pipe(questions));
    if (full) fill_pipe(questions[1]), refuse_ticks();
    MUST(dup2(answers[0], 0));
    int old = MUST(dup(1));
    MUST(dup2(questions[1], 1));
    setvbuf(stdin, NULL, _IONBF, 0);
    setvbuf(stdout, NULL, _IOLBF, 0);
    pthread_t t = start(full ? answers_behind_much : answers_questions, NULL);
    printf("how much? ");
    int n = 0;
    int r = scanf("%d", &n);
    end(t);
    MUST(dup2(old, 1));
    printf("answered: %d %d\n", r, n);
    fflush(stdout);
    leave();
  }
  peer_ends();
}

static void* asks_a_shell(void* command) {
  static __thread char b[100];
  FILE* f = popen(command, "r");
  char* line = fgets(b, sizeof b, f);
  printf("  %s", line ? line : "nothing\n");
  return (void*)(intptr_t)pclose(f);
}
static void shells(void) {
  // The first thread waits for the second.
  MUST(mkfifo("fifo", 0600));
  pthread_t t = start(asks_a_shell, "read x < fifo; echo $x");
  await_all_waiting();
  MUST(system("echo from the shell > fifo"));
  SAY("popen", (intptr_t)end(t));
}

int main(void) {
  setlocale(LC_ALL, "C.UTF-8");
  setvbuf(stdout, NULL, _IOFBF, 1 << 16);
  // A thread that waits all the time, so that there always is another thread.
  int idle[2];
  MUST(pipe(idle));
  pthread_t waits = start(sleeps_in_a_read, &idle[0]);
  reads();
  errors();
  locks();
  writes();
  chain();
  whole_lines();
  prompt(0);
  prompt(1);
  shells();
  close(idle[1]);
  SAY("the last thread", (intptr_t)end(waits));
  return 0;
}
