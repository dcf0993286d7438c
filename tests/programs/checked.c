// The functions that _FORTIFY_SOURCE calls: if the size fits the buffer they behave as usual; if it
// is one byte more they end the process, before any other effect.
#include "cases.h"

#include <poll.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <wchar.h>

ssize_t __read_chk(int, void*, size_t, size_t);
ssize_t __pread_chk(int, void*, size_t, off_t, size_t);
ssize_t __pread64_chk(int, void*, size_t, off_t, size_t);
ssize_t __recv_chk(int, void*, size_t, size_t, int);
ssize_t __recvfrom_chk(int, void*, size_t, size_t, int, struct sockaddr*, socklen_t*);
int __poll_chk(struct pollfd*, nfds_t, int, size_t);
int __ppoll_chk(struct pollfd*, nfds_t, const struct timespec*, const sigset_t*, size_t);
char* __fgets_chk(char*, size_t, int, FILE*);
char* __fgets_unlocked_chk(char*, size_t, int, FILE*);
size_t __fread_chk(void*, size_t, size_t, size_t, FILE*);
size_t __fread_unlocked_chk(void*, size_t, size_t, size_t, FILE*);
wchar_t* __fgetws_chk(wchar_t*, size_t, int, FILE*);
wchar_t* __fgetws_unlocked_chk(wchar_t*, size_t, int, FILE*);
char* __gets_chk(char*, size_t);
int __printf_chk(int, const char*, ...);
int __fprintf_chk(FILE*, int, const char*, ...);
int __dprintf_chk(int, int, const char*, ...);
int __vfprintf_chk(FILE*, int, const char*, va_list);
int __vprintf_chk(int, const char*, va_list);
int __vdprintf_chk(int, int, const char*, va_list);
int __wprintf_chk(int, const wchar_t*, ...);
int __fwprintf_chk(FILE*, int, const wchar_t*, ...);
int __open_2(const char*, int);
int __open64_2(const char*, int);
int __openat_2(int, const char*, int);
int __openat64_2(int, const char*, int);

static char buf[64];
static int fds[2], socks[2], file;
static FILE *stream, *wide;
static struct pollfd p[2];

static int with_list(int (*f)(FILE*, int, const char*, va_list), FILE* to, int flag,
                     const char* format, ...) {
  va_list rest;
  va_start(rest, format);
  int r = f(to, flag, format, rest);
  va_end(rest);
  return r;
}
static int to_stdout(FILE* f, int flag, const char* format, va_list rest) {
  return (void)f, __vprintf_chk(flag, format, rest);
}
static int to_fd(FILE* f, int flag, const char* format, va_list rest) {
  return (void)f, __vdprintf_chk(1, flag, format, rest);
}

// A format with %n in writable memory, which these functions refuse.
static char counting[] = "%d%n\n";
static wchar_t counting_wide[] = L"%d%n\n";

// Requests `n` bytes for a buffer of five; the lines have four characters and a newline.
static long call(int i, int n) {
  wchar_t w[64];
  int count;
  struct timespec none = {0, 0};
  int bad = n > 5;
  switch (i) {
    case 0:
      return __read_chk(fds[0], buf, (size_t)n, 5);
    case 1:
      return __pread_chk(file, buf, (size_t)n, 3, 5);
    case 2:
      return __pread64_chk(file, buf, (size_t)n, 3, 5);
    case 3:
      return __recv_chk(socks[0], buf, (size_t)n, 5, 0);
    case 4:
      return __recvfrom_chk(socks[0], buf, (size_t)n, 5, 0, NULL, NULL);
    case 5:
      return __poll_chk(p, bad ? 2 : 1, 0, sizeof *p);
    case 6:
      return __ppoll_chk(p, bad ? 2 : 1, &none, NULL, sizeof *p);
    case 7:
      return __poll_chk(p, 1, 0, bad ? sizeof *p - 1 : sizeof *p);
    case 8:
      return __fgets_chk(buf, 5, n, stream) ? (long)strlen(buf) : -2;
    case 9:
      return __fgets_unlocked_chk(buf, 5, n, stream) ? (long)strlen(buf) : -2;
    case 10:
      return (long)__fread_chk(buf, 5, 1, (size_t)n, stream);
    case 11:
      return (long)__fread_unlocked_chk(buf, 5, 1, (size_t)n, stream);
    case 12:
      return __fgetws_chk(w, 5, n, wide) ? (long)wcslen(w) : -2;
    case 13:
      return __fgetws_unlocked_chk(w, 5, n, wide) ? (long)wcslen(w) : -2;
    case 14:
      return __gets_chk(buf, bad ? 4 : 5) ? (long)strlen(buf) : -2;
    case 15:
      return bad ? __printf_chk(1, counting, 7, &count) : __printf_chk(1, "%d\n", 7);
    case 16:
      return bad ? __fprintf_chk(stdout, 1, counting, 7, &count)
                 : __fprintf_chk(stdout, 1, "%d\n", 7);
    case 17:
      return bad ? __dprintf_chk(1, 1, counting, 7, &count) : __dprintf_chk(1, 1, "%d\n", 7);
    case 18:
      return bad ? with_list(__vfprintf_chk, stdout, 1, counting, 7, &count)
                 : with_list(__vfprintf_chk, stdout, 1, "%d\n", 7);
    case 19:
      return bad ? with_list(to_stdout, NULL, 1, counting, 7, &count)
                 : with_list(to_stdout, NULL, 1, "%d\n", 7);
    case 20:
      return bad ? with_list(to_fd, NULL, 1, counting, 7, &count)
                 : with_list(to_fd, NULL, 1, "%d\n", 7);
    case 21:
      return bad ? __fwprintf_chk(wide, 1, counting_wide, 7, &count)
                 : __fwprintf_chk(wide, 1, L"%d\n", 7);
    case 22:
      return close(__open_2("/dev/null", bad ? O_CREAT | O_RDWR : O_RDWR));
    case 23:
      return close(__open64_2("/dev/null", bad ? O_CREAT | O_RDWR : O_RDWR));
    case 24:
      return close(__openat_2(AT_FDCWD, "/dev/null", bad ? O_CREAT | O_RDWR : O_RDWR));
    case 25:
      return close(__openat64_2(AT_FDCWD, "/dev/null", bad ? O_CREAT | O_RDWR : O_RDWR));
    // O_TMPFILE contains the bit of O_DIRECTORY.
    case 26:
      return close(__open_2(".", bad ? O_TMPFILE | O_RDWR : O_DIRECTORY));
    case 27:
      return close(__open64_2(".", bad ? O_TMPFILE | O_RDWR : O_DIRECTORY));
    case 28:
      return close(__openat_2(AT_FDCWD, ".", bad ? O_TMPFILE | O_RDWR : O_DIRECTORY));
    case 29:
      return close(__openat64_2(AT_FDCWD, ".", bad ? O_TMPFILE | O_RDWR : O_DIRECTORY));
  }
  return -3;
}
enum { calls = 30 };

static void prepare(void) {
  MUST(pipe(fds));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, socks));
  MUST(write(fds[1], "hello, world", 12));
  MUST(write(socks[1], "hello, world", 12));
  file = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600);
  MUST(write(file, "line\nline\nline\n", 15));
  stream = fopen("file", "r");
  wide = fopen("file", "r+");
  if (!freopen("file", "r", stdin)) exit(1);
  p[0] = (struct pollfd){fds[0], POLLIN, 0};
  p[1] = p[0];
}

int main(void) {
  for (int i = 0; i < calls; i++) {
    for (int n = 4; n <= 6; n++) {
      printf("call %d, %d of 5\n", i, n);
      fflush(stdout);
      pid_t child = MUST(fork());
      if (child == 0) {
        prepare();
        SAY("  result", call(i, n));
        fflush(NULL);
        _exit(0);
      }
      int status;
      MUST(waitpid(child, &status, 0));
      if (WIFSIGNALED(status)) printf("  ended by %s\n", sigabbrev_np(WTERMSIG(status)));
      fflush(stdout);
    }
  }
  return 0;
}
