#!/usr/bin/python3
"""Runs programs that Debian ships natively, under the shim, and under the shim with the kernel's threads and a main
thread that always takes the cooperative path. Output, error output and status must be the same. Programs that are not
installed are skipped.

    programs_test.py LAUNCHER [UNITTEST ARGUMENT...]
"""

import functools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True  # leave no files next to the sources
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
import installed
import skipping
from installed import missing, needs
from local_servers import Server, Socks, Web, free_port

launcher = os.path.abspath(sys.argv.pop(1))
under_shim = {
    "under the shim": [launcher, "run", "--"],
    "cooperating": [launcher, "run", "--threads=kernel", "--cooperate=always", "--"],
}
bound = int(os.environ.get("PATIENCE", 300))  # seconds for one run; no run takes nearly as long

environment = {"PATH": installed.path, "LC_ALL": "C", "TZ": "UTC", "TERM": "xterm", "SHELL": "/bin/sh"}


def run(command, directory):
    """Returns standard output, standard error and status; ends the processes that the command leaves behind in its session."""
    process = subprocess.Popen(command, cwd=directory, env={**environment, "HOME": str(directory)}, text=True,
                               errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, start_new_session=True)
    try:
        out, err = process.communicate(timeout=bound)
        return out, err, process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return out, err, f"still running after {bound} s"


def make_files(directory):
    """Makes the programs' input files, the same for every run."""
    tree = directory / "tree"
    for name in ("a/b/deep", "empty", "needle"):
        (tree / name).mkdir(parents=True)
    for i in range(40):
        (tree / "a" / f"file{i}").write_text(f"line {i} of the file\n" * i)
    (tree / "needle" / "here").write_text("a needle\n")
    (directory / "big").write_text("".join(f"{i} {i * 7919 % 10007}\n" for i in range(200_000)))
    for path in [*tree.rglob("*"), tree]:
        os.utime(path, (1e9, 1e9))


class Programs(unittest.TestCase):
    def setUp(self):
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="programs_test."))
        self.addCleanup(shutil.rmtree, self.scratch, ignore_errors=True)

    def fresh(self):
        """The directory of a run, always under the same name, since programs print it."""
        directory = self.scratch / "run"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        make_files(directory)
        return directory

    def same(self, script, *, shell="bash", status=0):
        """Runs the script by a shell that is itself under the shim, as are all programs that it starts."""
        command = [shell, "-c", script]
        native = run(command, self.fresh())
        self.assertEqual(native[2], status, f"natively: {native}")
        for name, prefix in under_shim.items():
            with self.subTest(name):
                self.assertEqual(run([*prefix, *command], self.fresh()), native)
        return native[0]


class Basics(Programs):
    def test_ls(self):
        self.same("ls -lnR --time-style=+%s tree; ls --color=always tree/a; ls absent; echo $?")

    def test_ls_alone_keeps_its_status(self):
        self.same("exec ls tree absent", status=2)

    def test_cat(self):
        self.same("cat big | sha256sum; seq 100000 | cat | tail -1; cat < tree/needle/here - absent; echo $?")

    def test_a_process_killed_by_SIGPIPE(self):
        self.same('yes | head -3; echo "${PIPESTATUS[@]}"; seq 1000000 | head -1')

    def test_coreutils(self):
        self.same("sort -k2n --parallel=4 big | sha256sum; sort -R --random-source=big tree/a/file9 | wc; "
                  "seq 1000 | tee x y | tail -1; cmp x y; timeout 0.1 sleep 60; echo $?; split -n 4 big p.; ls p.*; "
                  "find tree -type f -print0 | sort -z | xargs -0 -n1 -P4 basename | sort; dd if=big bs=1000 count=3 status=none | wc -c")

    def test_a_fifo_between_two_processes(self):
        self.same("mkfifo p; (echo through > p) & cat p; wait")

    def test_sh(self):
        self.same("seq 200 | grep 7 | (while read a; do echo $((a+1)); done) | tail -2; "
                  "trap 'echo term' TERM; kill -TERM $$; trap - TERM; (exit 3); echo $?; x=$(echo sub; exit 4); echo $x $?; "
                  "sleep 60 & kill $!; wait $!; echo $?; cat <<E\nhere\nE\n", shell="sh")


class Bash(Programs):
    def test_pipelines(self):
        self.same('set -o pipefail; seq 100000 | grep 7 | sort -r | head -c 100; echo; false | true; echo $?; '
                  'seq 10 | while read a; do read b; echo $((a * b)); done')

    def test_jobs(self):
        self.same('for i in 1 2 3; do (exit $i) & p+=($!); done; for i in "${p[@]}"; do wait $i; echo $?; done; '
                  '(exit 4) & wait -n; echo $?; mkfifo f; cat f & jobs; echo end > f; wait %cat; echo $?; '
                  'set -m; sleep 60 & kill -KILL %%; wait %% 2>/dev/null; echo $?; sleep 0.01 & fg')

    def test_process_substitution(self):
        self.same("diff <(seq 5) <(seq 6); mapfile -t a < <(seq 1000); echo ${#a[@]}; seq 5 | tee >(sort -r > r) > /dev/null; "
                  "until [[ -s r ]]; do :; done; cat r")

    def test_coproc_and_read_with_a_time_out(self):
        self.same('coproc tr { stdbuf -oL tr a-z A-Z; }; echo hello >&${tr[1]}; read -r line <&${tr[0]}; echo "$line"; '
                  'exec 9<> <(:); read -t 0.05 x < <(sleep 60) ; echo $?; kill %tr 2>/dev/null; kill $!')

    def test_many_forks(self):
        self.same("for i in $(seq 150); do /bin/true; done; echo done; for i in $(seq 50); do x+=$(echo $i); done; echo $x")

    def test_a_trap_interrupts_a_wait(self):
        self.same("trap 'echo alarm; exit 5' ALRM; (kill -ALRM $$) & while :; do sleep 0.01; done", status=5)

    def test_its_own_tcp_client(self):
        port = Servers.web.port
        self.same(f"exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET /hello HTTP/1.0\\r\\n\\r\\n' >&3; tail -1 <&3")


class Interpreters(Programs):
    def python(self, text):
        self.same(f"/usr/bin/python3 -c '{text}'")

    def test_python_threads(self):
        self.python("""
import concurrent.futures, queue, threading, time
inbox, out = queue.Queue(), []
def work():
    while (x := inbox.get()) is not None:
        time.sleep(0.001)
        out.append(x * x)
threads = [threading.Thread(target=work) for _ in range(50)]
for t in threads: t.start()
for i in range(1000): inbox.put(i)
for t in threads: inbox.put(None)
for t in threads: t.join()
print(sum(out))
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print(sum(pool.map(lambda x: (time.sleep(0.01), x)[1], range(500))))
barrier = threading.Barrier(20)
print(sorted(pool2.result() for pool2 in [concurrent.futures.ThreadPoolExecutor(1).submit(barrier.wait) for _ in range(20)]))
""")

    def test_python_subprocesses(self):
        self.python("""
import multiprocessing, os, subprocess, sys
print(subprocess.run(["sh", "-c", "cat; exit 4"], input=b"x" * 300000, capture_output=True).returncode)
children = [subprocess.Popen(["sh", "-c", f"exit {i}"]) for i in range(10)]
print([c.wait() for c in children])
try:
    subprocess.run(["sleep", "60"], timeout=0.05)
except subprocess.TimeoutExpired:
    print("time-out")
print(os.system("exit 3"), os.popen("echo popen").read(), subprocess.getoutput("echo hi | cat"))
def square(x): return x * x
with multiprocessing.Pool(4) as pool:
    print(sum(pool.map(square, range(100))))
""")

    def test_python_sockets(self):
        self.python("""
import socket, threading
server = socket.create_server(("127.0.0.1", 0))
def serve():
    for _ in range(20):
        c, _ = server.accept()
        threading.Thread(target=lambda c=c: (c.sendall(c.recv(100)[::-1]), c.close())).start()
threading.Thread(target=serve).start()
for i in range(20):
    with socket.create_connection(("localhost", server.getsockname()[1]), timeout=10) as s:
        s.sendall(b"%d to you" % i)
        print(s.recv(100).decode())
a, b = socket.socketpair()
a.settimeout(0.05)
try: a.recv(1)
except TimeoutError: print("time-out")
a.setblocking(False)
try: a.recv(1)
except BlockingIOError: print("would block")
a.setblocking(True)
threading.Thread(target=lambda: (b.sendall(b"x" * 5_000_000), b.shutdown(socket.SHUT_WR))).start()
n = 0
while d := a.recv(1 << 16): n += len(d)
print(n, socket.getaddrinfo("127.0.0.1", 80)[0][4])
""")

    def test_python_event_loops(self):
        self.python("""
import asyncio, select, signal, socket, time
async def main():
    async def echo(r, w):
        w.write(await r.read(100)); w.close()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async def client(i):
        r, w = await asyncio.open_connection("127.0.0.1", port)
        w.write(b"%d" % i); w.write_eof()
        return int(await r.read())
    print(sum(await asyncio.gather(*(client(i) for i in range(100)))))
    p = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    print((await p.communicate(b"through cat"))[0], p.returncode)
asyncio.run(main())
a, b = socket.socketpair()
print(select.select([a], [a], [], 0.01)[1] == [a], select.select([a], [], [], 0.01))
ep = select.epoll(); ep.register(a, select.EPOLLIN | select.EPOLLET); b.send(b"x")
print(len(ep.poll(5)), len(ep.poll(0.01)))
hits = []
signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
while len(hits) < 5: time.sleep(0.1)
signal.setitimer(signal.ITIMER_REAL, 0)
print("alarms")
""")

    @needs("perl")
    def test_perl(self):
        self.same("""perl -MSocket -e '
            socketpair(A, B, AF_UNIX, SOCK_STREAM, 0);
            if (!fork) { syswrite B, "child"; exit 3 }
            sysread A, $x, 10; wait; print "$x ", $? >> 8, "\\n";
            select undef, undef, undef, 0.02;
            eval { local $SIG{ALRM} = sub { die "alarm\\n" }; alarm 1; sleep 60 }; print $@;
            print `echo backticks; exit 2`, $? >> 8, "\\n"; open P, "-|", "seq 3"; print <P>; close P;
            $SIG{CHLD} = sub { print "child\\n" }; if (!fork) { exit } ; sleep 1 until waitpid(-1, 1) != 0; warn "to stderr\\n"'""")

    @needs("perl")
    def test_perl_threads(self):
        self.same("""perl -Mthreads -Mthreads::shared -MThread::Queue -e '
            my $q = Thread::Queue->new; my $r : shared = 0;
            my @t = map { threads->create(sub { while (defined(my $x = $q->dequeue)) { lock $r; $r += $x } }) } 1..8;
            $q->enqueue($_) for 1..2000; $q->end; $_->join for @t; print "$r\\n"'""")


    @needs("ruby")
    def test_ruby_threads(self):
        self.same("""ruby -rtimeout -e '
            q, done = Queue.new, Queue.new
            t = 20.times.map { Thread.new { while x = q.pop; sleep 0.001; done << x * x; end } }
            500.times { |i| q << i }; 20.times { q << nil }; t.each(&:join); sum = 0; sum += done.pop until done.empty?; p sum
            m, c, turn = Mutex.new, ConditionVariable.new, 0
            6.times.map { |i| Thread.new { 50.times { m.synchronize { c.wait(m) until turn % 6 == i; turn += 1; c.broadcast } } } }.each(&:join); p turn
            begin; Timeout.timeout(0.02) { Queue.new.pop }; rescue Timeout::Error; puts "time-out"; end
            p `echo backticks`, $?.exitstatus'""")

    @needs("java")
    def test_java_version(self):
        self.same("java -version 2>&1")

    @needs("java", "javac")
    def test_java_threads(self):
        self.same("""cat > T.java <<'E'
import java.util.*; import java.util.concurrent.*; import java.util.stream.*;
public class T { public static void main(String[] a) throws Exception {
  ExecutorService pool = Executors.newFixedThreadPool(20);
  List<Future<Integer>> all = new ArrayList<>();
  for (int i = 0; i < 200; i++) { int n = i; all.add(pool.submit(() -> { Thread.sleep(2); return n * n; })); }
  long sum = 0; for (Future<Integer> f : all) sum += f.get();
  pool.shutdown(); System.out.println(sum + " " + pool.awaitTermination(10, TimeUnit.SECONDS));
  System.out.println(IntStream.range(0, 1_000_000).parallel().filter(i -> i % 7 == 0).count()); } }
E
javac T.java && java -Xmx128m -XX:+UseSerialGC T""")


    @needs("node")
    def test_node_workers(self):
        # The code of node's WebAssembly has a protection key.
        self.same("""cat > w.js <<'E'
const {Worker, isMainThread, parentPort} = require('worker_threads');
const add = Buffer.from('AGFzbQEAAAABBwFgAn9/AX8DAgEABwcBA2FkZAAACgkBBwAgACABags=', 'base64');
if (isMainThread) {
  let sum = 0, left = 4;
  for (let i = 0; i < 4; i++)
    new Worker(__filename).on('message', m => { sum += m; }).on('exit', () => { if (!--left) console.log(sum); });
} else {
  let n = 0;
  for (let i = 0; i < 300; i++) {
    const {exports} = new WebAssembly.Instance(new WebAssembly.Module(add));
    for (let j = 0; j < 20000; j++) n = exports.add(n, 1);
  }
  parentPort.postMessage(n);
}
E
node w.js""")


class Servers(Programs):
    web = None  # set by setUpModule

    @needs("curl")
    def test_curl(self):
        web, refused = f"http://localhost:{self.web.port}", free_port()
        self.same(f"curl -sS {web}/hello {web}/absent -o /dev/null -o /dev/null -w '%{{http_code}} %{{size_download}}\\n'; "
                  f"curl -sS {web}/hello; curl -s {web}/random | sha256sum; curl -sS http://127.0.0.1:{refused}/ 2>&1 | sed s/after.*ms//; "
                  f"curl -s -m 0.2 {web}/slow; echo $?; curl -s http://unknown.invalid/; echo $?; curl -s file://$PWD/big | cmp - big")

    @needs("curl")
    def test_curl_many_at_once(self):
        self.same(f"curl -sSZ --parallel-max 20 'http://localhost:{self.web.port}/hello?[1-60]' -o 'out#1' 2>progress; cat out* | sort | uniq -c")

    @needs("wget")
    def test_wget(self):
        web = f"http://localhost:{self.web.port}"
        self.same(f"wget -q -O - {web}/hello; wget -q {web}/random && sha256sum random; wget -q {web}/absent; echo $?; "
                  f"wget -q -T 0.2 -t 1 {web}/slow; echo $?; wget -q -t 1 http://127.0.0.1:{free_port()}/; echo $?")

    @needs("git")
    def test_git_clone_over_http(self):
        for kind in ("dumb", "smart/dumb"):
            url = f"http://localhost:{self.web.port}/{kind}/repository.git"
            with self.subTest(url):
                self.same(f"git clone -q {url} c && cd c && git log --format='%H %s' && git fsck --no-progress && git fetch -q && "
                          "git status -sb && find . -path ./.git -prune -o -type f -print | sort | xargs sha256sum")

    @needs("git")
    def test_git_locally(self):
        who = "-c user.name=a -c user.email=a@b"
        self.same("export GIT_AUTHOR_DATE=@1000000000 GIT_COMMITTER_DATE=@1000000000; "
                  f"git init -q -b m r && cd r && cp -r ../tree . && git add . && git {who} commit -qm one && git log --stat --oneline | cat && "
                  "git gc -q && git clone -q file://$PWD ../c && diff -r . ../c -x .git -x empty -x b && git grep -n needle")

    @needs("git")
    def test_git_clone_of_nothing_fails_as_natively(self):
        self.same(f"git clone http://localhost:{self.web.port}/absent.git", status=128)


class Tools(Programs):
    @needs("tar", "gzip")
    def test_tar_and_gzip(self):
        self.same("tar czf a.tgz --sort=name --mtime=@0 tree big && tar tzf a.tgz && gzip -dc a.tgz | sha256sum; mkdir x; "
                  "tar xzf a.tgz -C x && diff -r tree x/tree && cmp big x/big; tar cf - tree | tar xf - -C x; tar xf absent; echo $?")

    @needs("xz")
    def test_xz_with_threads(self):
        self.same("xz -T4 --block-size=131072 -0 -c big > b.xz; sha256sum < b.xz; xz -T4 -dc b.xz | cmp - big && echo same; "
                  "xz -t big; echo $?")

    @needs("zstd")
    def test_zstd_with_threads(self):
        self.same("zstd -q -T4 -B524288 -3 -c big > b.zst; sha256sum < b.zst; zstd -q -T4 -dc b.zst | cmp - big && echo same; zstd -q -t big; echo $?")

    @needs("git")
    def test_git_index_pack_with_threads(self):
        self.same("git init -q r && cd r && for i in $(seq 300); do echo $i; seq $i > f$i; done | tail -1 && git add . && "
                  "git -c user.name=a -c user.email=a@b -c gc.auto=0 commit -qm one && git -c pack.threads=4 repack -qad && "
                  "cp .git/objects/pack/*.pack ../p.pack && cd .. && git index-pack --threads=4 p.pack | wc -c && "
                  # Which objects are stored as deltas depends on how the threads share the work.
                  "git verify-pack -v p.idx | grep -cE '^[0-9a-f]{40} '")

    @needs("gcc")
    def test_gcc(self):
        self.same("printf '#include <stdio.h>\\nint main(int c, char **v) { return printf(\"%%d\\\\n\", c) != 2; }\\n' > h.c; "
                  "gcc -O2 -pipe -Wall -o h h.c && ./h; gcc -save-temps=obj -o h2 h.c && ./h2 && ls h2*; echo 'int x = y;' > e.c; gcc -c e.c; echo $?")

    @needs("g++")
    def test_threads_under_the_thread_sanitizer(self):
        self.same("""cat > t.cpp <<'E'
#include <cstdio>
#include <mutex>
#include <thread>
std::mutex m; int n;
int main() {
  std::thread all[4];
  for (auto& t : all) t = std::thread([] { for (int i = 0; i < 1000; i++) { std::lock_guard held(m); n++; } });
  for (auto& t : all) t.join();
  std::printf("%d", n); }
E
g++ -fsanitize=thread -o t t.cpp -pthread && ./t""")

    @needs("ssh")
    def test_ssh(self):
        self.same("ssh -V; ssh -o BatchMode=yes -p 1 -o ConnectTimeout=5 127.0.0.1; echo $?")

    @needs("ssh-keygen")
    def test_ssh_keygen(self):
        self.same("ssh-keygen -q -t ed25519 -N '' -C x -f k && ssh-keygen -l -f k.pub | cut -d' ' -f1,3,4; ls k*")

    @needs("openssl")
    def test_openssl(self):
        self.same("openssl sha256 big; openssl enc -aes-256-cbc -pbkdf2 -pass pass:x -S 0102030405060708 -in big | openssl sha256")

    @needs("sqlite3")
    def test_sqlite3(self):
        self.same("""sqlite3 d 'create table t(a, b); with recursive c(x) as (values(1) union all select x + 1 from c where x < 20000)
                         insert into t select x, x * x from c; select count(*), sum(b) from t;' &&
                     for i in 1 2 3 4; do sqlite3 -cmd '.timeout 60000' d 'begin immediate; update t set b = b + 1; commit;' & done; wait;
                     sqlite3 d 'select sum(b) from t; pragma integrity_check; pragma journal_mode = wal; .backup e'; sqlite3 e 'select count(*) from t'; sqlite3 d 'select nothing'; echo $?""")

    @needs("tmux")
    def test_tmux(self):
        self.same("""t() { tmux -S ./socket -f /dev/null "$@"; }
                     trap 't kill-server' EXIT
                     t new-session -d -x 80 -y 24 'PS1="% " sh'
                     until t capture-pane -p | grep -q %; do :; done
                     t send-keys 'echo $((6 * 7)); stty size; echo last' Enter
                     until t capture-pane -p | grep -qx last; do :; done
                     t capture-pane -p | grep -A2 -x 42
                     t split-window -h 'cat'; t send-keys 'typed' Enter
                     until [ "$(t capture-pane -p | grep -cx typed)" = 2 ]; do :; done
                     t list-panes -F '#{pane_index} #{pane_width}x#{pane_height}'
                     t wait-for -S done; t wait-for done; echo waited""")

    @needs("strace")
    def test_strace(self):
        if run(["strace", "-o", "/dev/null", "true"], "/tmp")[2]:
            self.skipTest("tracing is not allowed here")
        self.same("strace -f -o log -e trace=execve sh -c 'cat tree/needle/here | wc; exit 3'; echo $?; grep -c ' execve(' log")

    @needs("make")
    def test_make(self):
        self.same("printf 'all: 1 2 3 4 5 6\\n\\t@cat $^\\n%%:\\n\\t@echo $@ > $@\\n' > m; make -s -j4 -f m; make -f m absent/x; echo $?")


class OtherPreloads(Programs):
    """Programs that preload a library themselves, after the shim and before it."""

    def through(self, wrapper, command, expected, cooperates_behind=True):
        for before, after in (((), wrapper), (wrapper, ())):
            for name, prefix in under_shim.items():
                if after and not cooperates_behind and name == "cooperating":
                    continue
                with self.subTest(name, shim="outside" if after else "inside"):
                    whole = [*before, *prefix, *after, *command]
                    self.assertEqual(run(whole, self.fresh()), (expected, "", 0))

    @needs("stdbuf")
    def test_stdbuf(self):
        wrapper = ["stdbuf", "-oL"]
        self.through(wrapper, ["sh", "-c", "seq 5 | tr 1-5 a-e"], "a\nb\nc\nd\ne\n")
        self.through(wrapper, ["sh", "-c", "for l in libtendril-preload libstdbuf; do grep -m1 -o $l /proc/self/maps; done"],
                     "libtendril-preload\nlibstdbuf\n")

    def through_proxy(self, wrapper, configuration, **options):
        proxy = Server(Socks)
        self.addCleanup(proxy.end)
        proxy.behind = ("127.0.0.1", Servers.web.port)
        path = self.scratch / "proxy.conf"
        path.write_text(configuration.format(port=proxy.port))
        self.through([a.format(configuration=path) for a in wrapper], ["curl", "-sS", "http://web.example/hello"], "hello\n", **options)
        self.assertGreaterEqual(proxy.requests, 3)

    @needs("proxychains4", "curl")
    def test_proxychains(self):
        self.through_proxy(["proxychains4", "-q", "-f", "{configuration}"],
                           "strict_chain\nproxy_dns\n[ProxyList]\nsocks5 127.0.0.1 {port}\n")

    # torsocks calls the C library directly, past the libraries behind it: before the shim, it hides
    # close() from a hub.
    @needs("torsocks", "curl")
    def test_torsocks(self):
        self.through_proxy(["env", "TORSOCKS_CONF_FILE={configuration}", "torsocks"],
                           "TorAddress 127.0.0.1\nTorPort {port}\nOnionAddrRange 127.42.42.0/24\n",
                           cooperates_behind=False)


def setUpModule():
    site = pathlib.Path(tempfile.mkdtemp(prefix="programs_test."))
    unittest.addModuleCleanup(shutil.rmtree, site, ignore_errors=True)
    (site / "hello").write_text("hello\n")
    (site / "random").write_bytes(os.urandom(3_000_000))
    if not missing(["git"]):
        make_files(site)
        bare = site / "dumb" / "repository.git"
        git = "git -c user.name=a -c user.email=a@b "
        subprocess.run(f"git init -q -b m r && cp -r tree r && cd r && git add . && {git} commit -qm one && seq 1000 > more && "
                       f"git add . && {git} commit -qm two && git clone -q --bare . {bare} && cd {bare} && git update-server-info",
                       shell=True, check=True, cwd=site, env={**environment, "HOME": str(site)})
    Servers.web = Server(functools.partial(Web, directory=str(site)))
    unittest.addModuleCleanup(Servers.web.end)


if __name__ == "__main__":
    skipping.main(verbosity=2)
