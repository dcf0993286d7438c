// Go: goroutines and channels, on one processor; the tree on two. Usage and answers as in bench.hpp.
package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

type work struct {
	n, argument, ops int
	length           float64
	started          time.Time
	cpu              time.Duration
	wall             time.Duration
	extra            string
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(0, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
func (w *work) begin() { w.cpu, w.started = cpuTime(), time.Now() }
func (w *work) end()   { w.wall, w.cpu = time.Since(w.started), cpuTime()-w.cpu }
func check(right bool, what string) {
	if !right {
		fmt.Fprintln(os.Stderr, "wrong:", what)
		os.Exit(1)
	}
}

func yield(w *work) {
	var all, ready sync.WaitGroup
	begin := make(chan bool)
	each, done := w.ops/w.n, 0
	ready.Add(w.n)
	all.Add(w.n)
	for i := 0; i < w.n; i++ {
		go func() {
			ready.Done()
			<-begin
			for k := 0; k < each; k++ {
				runtime.Gosched()
				done++
			}
			all.Done()
		}()
	}
	ready.Wait()
	w.begin()
	close(begin)
	all.Wait()
	w.end()
	check(done == each*w.n, "everybody had their turns")
	w.ops = done
}

func handOver(w *work) {
	ping, pong := make(chan int), make(chan int)
	go func() {
		for x := range ping {
			pong <- x + 1
		}
	}()
	sum := 0
	w.begin()
	for i := 0; i < w.ops; i += 2 {
		ping <- sum
		sum = <-pong
	}
	w.end()
	close(ping)
	check(sum == (w.ops+1)/2, "each was handed over")
}

func spawn(w *work) {
	results := make([]chan int, w.n)
	for i := range results {
		results[i] = make(chan int, 1)
	}
	sum, i := 0, 0
	w.begin()
	for i < w.ops {
		for _, r := range results {
			go func(r chan int, i int) { r <- i }(r, i)
			i++
		}
		for _, r := range results {
			sum += <-r
		}
	}
	w.end()
	w.ops = i
	check(sum == i*(i-1)/2, "all results came")
}

// The sum of n numbers, in a tree of goroutines whose nodes have ten children.
func sumOfTree(result chan int, first, n int) {
	if n == 1 {
		result <- first
		return
	}
	children := make(chan int, 10)
	for i := 0; i < 10; i++ {
		go sumOfTree(children, first+i*(n/10), n/10)
	}
	sum := 0
	for i := 0; i < 10; i++ {
		sum += <-children
	}
	result <- sum
}

func tree(w *work) {
	done, result := 0, make(chan int, 1)
	w.begin()
	for ; done < w.ops; done += w.n {
		go sumOfTree(result, 0, w.n)
		check(<-result == w.n*(w.n-1)/2, "all results came")
	}
	w.end()
	w.ops = done
}

func resident() float64 {
	text, _ := os.ReadFile("/proc/self/status")
	kilobytes := 0
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "VmRSS:") || strings.HasPrefix(line, "VmPTE:") {
			k, _ := strconv.Atoi(strings.Fields(line)[1])
			kilobytes += k
		}
	}
	return float64(kilobytes) * 1024
}

func memory(w *work) {
	var parked sync.WaitGroup
	before := resident()
	parked.Add(w.n)
	for i := 0; i < w.n; i++ {
		go func() {
			parked.Done()
			time.Sleep(1000 * time.Second)
		}()
	}
	parked.Wait()
	runtime.Gosched()
	maps, _ := os.ReadFile("/proc/self/maps")
	w.extra = fmt.Sprintf(", \"bytes\": %g, \"mappings\": %d", (resident()-before)/float64(w.n), strings.Count(string(maps), "\n"))
}

func echo(w *work) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err == nil, "listen")
	fmt.Println("port", listener.Addr().(*net.TCPAddr).Port)
	for {
		c, err := listener.Accept()
		check(err == nil, "accept")
		go func() {
			defer c.Close()
			buffer := make([]byte, 4096)
			for {
				n, err := c.Read(buffer)
				if err != nil {
					return
				}
				if _, err := c.Write(buffer[:n]); err != nil {
					return
				}
			}
		}()
	}
}

func fetch(w *work) {
	var all sync.WaitGroup
	w.begin()
	for i := 0; i < w.n; i++ {
		all.Add(1)
		go func() {
			c, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", w.argument))
			check(err == nil, "connect")
			io.WriteString(c, "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
			buffer, got := make([]byte, 4096), 0
			for {
				n, err := c.Read(buffer)
				got += n
				if err != nil {
					break
				}
			}
			c.Close()
			check(got == 1024, "the whole answer")
			all.Done()
		}()
	}
	all.Wait()
	w.end()
	w.ops = w.n
}

func sleep(w *work) {
	var late []time.Duration
	for i := 0; i < w.n; i++ {
		go func() {
			for {
				until := time.Now().Add(time.Duration(rand.Intn(1000000)) * time.Microsecond)
				time.Sleep(time.Until(until))
				late = append(late, time.Since(until))
			}
		}()
	}
	time.Sleep(time.Second)
	late = nil
	w.begin()
	time.Sleep(time.Duration(w.length * 1e9))
	w.end()
	w.ops = len(late)
	sort.Slice(late, func(i, k int) bool { return late[i] < late[k] })
	at := func(share float64) float64 { return float64(late[int(float64(len(late))*share)].Nanoseconds()) / 1e3 }
	w.extra = fmt.Sprintf(", \"p50_us\": %g, \"p99_us\": %g, \"p999_us\": %g", at(0.5), at(0.99), at(0.999))
}

func main() {
	runtime.GOMAXPROCS(1)
	questions := map[string]func(*work){"yield": yield, "hand_over": handOver, "spawn": spawn, "tree": tree, "memory": memory,
		"echo": echo, "fetch": fetch, "sleep": sleep}
	once := map[string]bool{"memory": true, "echo": true, "fetch": true, "sleep": true}
	name := os.Args[1]
	n, _ := strconv.Atoi(os.Args[2])
	length, _ := strconv.ParseFloat(os.Args[3], 64)
	w := &work{n: n, argument: int(length), length: length, ops: 1}
	run, known := questions[name]
	if !known {
		os.Exit(77)
	}
	if !once[name] {
		for w.ops = 1000 + 2*n; w.wall.Seconds() < length/2; w.ops *= 4 {
			run(w)
			if w.wall.Seconds() >= length/2 {
				break
			}
		}
	} else {
		run(w)
	}
	out := bufio.NewWriter(os.Stdout)
	fmt.Fprintf(out, "{\"ns\": %g, \"cpu_ns\": %g, \"ops\": %d%s}\n", float64(w.wall.Nanoseconds())/float64(w.ops),
		float64(w.cpu.Nanoseconds())/float64(w.ops), w.ops, w.extra)
	out.Flush()
}
