// system(3), popen(3), pclose(3).
#include "cases.h"

#pragma GCC diagnostic ignored "-Wmismatched-dealloc"

static void say_status(const char* sentence, int s) {
  if (s == -1) printf("%s: -1 %s\n", sentence, strerrorname_np(errno));
  else if (WIFEXITED(s)) printf("%s: exit %d\n", sentence, WEXITSTATUS(s));
  else if (WIFSIGNALED(s)) printf("%s: signal %d\n", sentence, WTERMSIG(s));
  else printf("%s: status %x\n", sentence, s);
  fflush(stdout);
}

static void say_disposition(const char* sentence, int signal, void (*ours)(int)) {
  struct sigaction a;
  MUST(sigaction(signal, NULL, &a));
  printf("%s: %s\n", sentence,
         a.sa_handler == SIG_DFL   ? "default"
         : a.sa_handler == SIG_IGN ? "ignored"
         : a.sa_handler == ours    ? "our handler"
                                   : "another handler");
}

// Prints the line of /proc/PID/status about a signal of the parent, read by a shell command.
static void look_inside(const char* what) {
  char command[300];
  snprintf(
      command, sizeof command,
      // posix_spawn blocks all signals until the shell has been executed.
      "until grep -q '^State:.S' /proc/$PPID/status; do :; done; "
      "grep -E '^(SigBlk|SigIgn)' /proc/$PPID/status | sed 's/.*\\(.....\\)$/  %s: the caller "
      "\\1/'; "
      "grep -E '^(SigBlk|SigIgn)' /proc/$$/status | sed 's/.*\\(.....\\)$/  %s: the shell \\1/'",
      what, what);
  say_status(what, system(command));
}

static void systems(void) {
  SAY("is there a shell", system(NULL) != 0);
  say_status("true", system("true"));
  say_status("false", system("false"));
  say_status("exit 7", system("exit 7"));
  say_status("exit 127", system("exit 127"));
  say_status("exit 255", system("exit 255"));
  say_status("a command that does not exist", system("exec 2>/dev/null; no-such-command-here"));
  say_status("an empty command", system(""));
  say_status("the shell ends by a signal", system("kill -TERM $$"));
  say_status("the shell ends by SIGKILL", system("kill -KILL $$"));
  say_status("a command that begins like an option", system("-c 2>/dev/null"));
  say_status("output", system("echo printed by the shell"));
  say_status("two commands", system("echo one; echo two"));
  say_status("a pipeline", system("printf 'a\\nb\\n' | sort -r"));
  setenv("SOMETHING", "of ours", 1);
  say_status("the environment", system("echo $SOMETHING"));
  say_status("nested", system("sh -c 'sh -c \"exit 9\"'"));

  // The caller ignores SIGINT and SIGQUIT and blocks SIGCHLD.
  look_inside("dispositions");
  signal(SIGINT, count_signal);
  signal(SIGQUIT, SIG_IGN);
  look_inside("handled and ignored");
  say_disposition("SIGINT afterwards", SIGINT, count_signal);
  say_disposition("SIGQUIT afterwards", SIGQUIT, count_signal);
  take_handled();
  say_status("SIGINT sent to the caller", system("kill -INT $PPID"));
  SAY("  is not handled", take_handled());
  say_status("SIGINT sent to the shell", system("kill -INT $$"));
  signal(SIGINT, SIG_DFL);
  say_status("SIGINT sent to both", system("kill -INT $PPID $$"));
  signal(SIGQUIT, SIG_DFL);
  say_status("SIGQUIT sent to the caller", system("kill -QUIT $PPID"));
  say_disposition("SIGINT afterwards", SIGINT, count_signal);
  say_disposition("SIGQUIT afterwards", SIGQUIT, count_signal);

  signal(SIGCHLD, count_signal);
  take_handled();
  say_status("with a handler of SIGCHLD", system("exit 3"));
  SAY("  which runs once at most", take_handled() <= 1);
  sigset_t set, now;
  sigprocmask(SIG_BLOCK, NULL, &now);
  SAY("  SIGCHLD is not blocked afterwards", sigismember(&now, SIGCHLD));
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigaddset(&set, SIGUSR2);
  sigprocmask(SIG_BLOCK, &set, NULL);
  say_status("with SIGCHLD blocked before", system("exit 4"));
  sigprocmask(SIG_BLOCK, NULL, &now);
  SAY("  it is blocked afterwards", sigismember(&now, SIGCHLD));
  look_inside("a mask");
  sigprocmask(SIG_UNBLOCK, &set, NULL);
  signal(SIGCHLD, SIG_IGN);
  errno = 0;
  say_status("with SIGCHLD ignored", system("exit 5"));
  signal(SIGCHLD, SIG_DFL);

  // A signal handler does not end it.
  on_signal(SIGUSR1, 0);
  take_handled();
  say_status("a handler while it waits", system("kill -USR1 $PPID; exit 6"));
  SAY("  which ran", take_handled());
  // Other children are not reaped.
  fflush(stdout);
  pid_t c = MUST(fork());
  if (c == 0) _exit(8);
  say_status("another child has ended", system("exit 1"));
  int s;
  SAY("  and is still there", waitpid(c, &s, 0) == c && WEXITSTATUS(s) == 8);
}

static void say_line(const char* sentence, FILE* f) {
  char line[200];
  if (fgets(line, sizeof line, f)) printf("%s: %s", sentence, line);
  else printf("%s: nothing\n", sentence);
}

static void say_close_on_exec(const char* sentence, FILE* f) {
  SAY(sentence, fcntl(fileno(f), F_GETFD));
}

static void popens(void) {
  FILE* f = popen("echo from the shell", "r");
  say_line("popen to read", f);
  say_close_on_exec("  close on exec", f);
  say_status("  pclose", pclose(f));
  f = popen("exit 5", "r");
  say_line("a command without output", f);
  say_status("  pclose", pclose(f));
  f = popen("cat; echo end", "w");
  fprintf(f, "to the shell\n");
  say_status("popen to write", pclose(f));
  f = popen("echo a", "re");
  say_close_on_exec("with e, close on exec", f);
  say_line("  reads", f);
  say_status("  pclose", pclose(f));
  f = popen("cat >/dev/null", "ew");
  say_close_on_exec("with e first, close on exec", f);
  say_status("  pclose", pclose(f));
  static const char* const bad[] = {"rw", "", "x", "r+", "e", "rb", "wr", "rr"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    errno = 0;
    f = popen("true", bad[i]);
    printf("mode '%s': %s %s\n", bad[i], f ? "a stream" : "null", strerrorname_np(errno));
    if (f) pclose(f);
  }
  f = popen("exec 2>/dev/null; no-such-command-here", "r");
  say_status("a command that does not exist", pclose(f));
  f = popen("kill -TERM $$", "r");
  say_status("a signal", pclose(f));

  // Wait for the output, and for the child's end.
  f = popen("read x <&3; echo $x", "r");
  if (f) {
    say_line("no descriptor 3", f);
    pclose(f);
  }
  int p[2];
  MUST(pipe(p));
  char command[100];
  snprintf(command, sizeof command, "read x <&%d; exit $x", p[0]);
  f = popen(command, "r");
  if (peer()) {
    await_blocked();
    write(p[1], "12\n", 3);
    leave();
  }
  say_status("pclose waits for the end", pclose(f));
  peer_ends();
  f = popen(command, "r");
  on_signal(SIGUSR1, 0);
  take_handled();
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    await_blocked();
    write(p[1], "13\n", 3);
    leave();
  }
  say_status("a handler does not end pclose", pclose(f));
  SAY("  handlers", take_handled());
  peer_ends();
  f = popen(command, "r");
  if (peer()) {
    await_blocked();
    write(p[1], "14\n", 3);
    leave();
  }
  SAY("fclose of such a stream waits too", fclose(f));
  peer_ends();
  SAY("  no child is left", waitpid(-1, NULL, 0));
  close(p[0]);
  close(p[1]);

  // A child does not get the streams of earlier popens.
  FILE* first = popen("cat", "w");
  FILE* second = popen("ls /proc/self/fd | wc -l", "r");
  FILE* third = popen("cat >/dev/null", "w");
  say_line("descriptors in the second child", second);
  say_status("closing the first ends it although the third goes on", pclose(first));
  say_status("the second", pclose(second));
  say_status("the third", pclose(third));

  // Another part of the program reaps the child.
  f = popen("exit 3", "r");
  SAY("another wait takes the child", wait(NULL) > 0);
  errno = 0;
  say_status("pclose then", pclose(f));
  signal(SIGCHLD, SIG_IGN);
  f = popen("exit 3", "r");
  errno = 0;
  say_status("pclose with SIGCHLD ignored", pclose(f));
  signal(SIGCHLD, SIG_DFL);

  // Much data both ways.
  f = popen("head -c 3000000 /dev/zero", "r");
  long n = 0;
  char b[5000];
  size_t got;
  while ((got = fread(b, 1, sizeof b, f)) > 0) n += (long)got;
  SAY("bytes read", n);
  say_status("  pclose", pclose(f));
  f = popen("wc -c", "w");
  for (int i = 0; i < 600; i++) fwrite(b, 1, sizeof b, f);
  say_status("bytes written", pclose(f));
  signal(SIGPIPE, SIG_IGN);
  f = popen("exit 2", "w");
  for (int i = 0; i < 600 && fwrite(b, 1, sizeof b, f) == sizeof b; i++) {}
  SAY("no process reads", ferror(f) != 0);
  errno = 0;
  say_status("  pclose", pclose(f));
}

int main(void) {
  systems();
  popens();
}
