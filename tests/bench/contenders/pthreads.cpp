// Pthreads and blocking calls: a program that does not know Tendril, measured natively and under
// the shim.
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

#include <atomic>

#include "bench.hpp"

using namespace bench;

namespace {

pthread_t start(void* (*f)(void*), void* p = nullptr, bool joinable = true) {
  static pthread_attr_t a = [] {
    pthread_attr_t a;
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, 64 * 1024);
    return a;
  }();
  pthread_attr_setdetachstate(&a, joinable ? PTHREAD_CREATE_JOINABLE : PTHREAD_CREATE_DETACHED);
  pthread_t t;
  if ((errno = pthread_create(&t, &a, f, p))) fail("pthread_create");
  return t;
}

work* the;
std::atomic<long> ready, done;

void yield(work& w) {
  the = &w, ready = done = 0;
  std::vector<pthread_t> all;
  for (long i = 0; i < w.n; i++) {
    all.push_back(start([](void*) -> void* {
      ready++;
      while (ready <= the->n) sched_yield();  // until all have begun
      long turns = 0;
      for (long each = the->ops / the->n; turns < each; turns++) sched_yield();
      done += turns;
      return nullptr;
    }));
  }
  while (ready < w.n) sched_yield();
  w.begin();
  ready++;
  for (auto t : all) pthread_join(t, nullptr);
  w.end();
  check(done == w.ops / w.n * w.n, "everybody had their turns");
  w.ops = done;
}

void semaphores(work& w) {
  static sem_t ping, pong;
  static long handed;
  sem_init(&ping, 0, 0), sem_init(&pong, 0, 0), handed = 0, the = &w;
  auto t = start([](void*) -> void* {
    for (long i = 0; i < the->ops; i += 2) sem_wait(&ping), handed++, sem_post(&pong);
    return nullptr;
  });
  w.begin();
  for (long i = 0; i < w.ops; i += 2) sem_post(&ping), sem_wait(&pong);
  w.end();
  pthread_join(t, nullptr);
  check(handed == (w.ops + 1) / 2, "each was handed over");
}

void conditions(work& w) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
  static long turn;
  the = &w, turn = 0;
  auto player = [](void* p) -> void* {
    pthread_mutex_lock(&lock);
    while (turn < the->ops) {
      if (turn % 2 == reinterpret_cast<long>(p)) turn++, pthread_cond_signal(&turned);
      else pthread_cond_wait(&turned, &lock);
    }
    pthread_mutex_unlock(&lock);
    return nullptr;
  };
  w.begin();
  pthread_t a = start(player, reinterpret_cast<void*>(0)),
            b = start(player, reinterpret_cast<void*>(1));
  pthread_join(a, nullptr), pthread_join(b, nullptr);
  w.end();
  check(turn == w.ops, "each was handed over");
}

// A lock that only one of two threads uses.
void free_mutex(work& w) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static sem_t over;
  static volatile long count;
  sem_init(&over, 0, 0);
  count = 0;
  auto t = start([](void*) -> void* {
    sem_wait(&over);
    return nullptr;
  });
  w.begin();
  for (long i = 0; i < w.ops; i++) {
    pthread_mutex_lock(&lock);
    count = count + 1;
    pthread_mutex_unlock(&lock);
  }
  w.end();
  sem_post(&over);
  pthread_join(t, nullptr);
  check(count == w.ops, "each had the lock");
}

// n threads that all want the same lock, and yield inside, so that it is contended.
void mutex(work& w) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static long count;
  the = &w, count = 0;
  std::vector<pthread_t> all;
  w.begin();
  for (long i = 0; i < w.n; i++) {
    all.push_back(start([](void*) -> void* {
      for (long k = the->ops / the->n; k > 0; k--) {
        pthread_mutex_lock(&lock);
        count++;
        if (k % 16 == 0) sched_yield();
        pthread_mutex_unlock(&lock);
      }
      return nullptr;
    }));
  }
  for (auto t : all) pthread_join(t, nullptr);
  w.end();
  check(count == w.ops / w.n * w.n, "the lock excluded");
  w.ops = count;
}

void spawn(work& w) {
  std::vector<pthread_t> batch(std::size_t(w.n));
  long sum = 0, i = 0;
  w.begin();
  while (i < w.ops) {
    for (auto& t : batch) t = start([](void* p) { return p; }, reinterpret_cast<void*>(i++));
    for (auto& t : batch) {
      void* result;
      pthread_join(t, &result);
      sum += reinterpret_cast<long>(result);
    }
  }
  w.end();
  w.ops = i;
  check(sum == i * (i - 1) / 2, "all results came");
}

void memory_parked(work& w) {
  ready = 0;
  memory before;
  for (long i = 0; i < w.n; i++) {
    start(
        [](void*) -> void* {
          ready++;
          sleep(1000);
          return nullptr;
        },
        nullptr, false);
  }
  while (ready < w.n) sched_yield();
  before.report(w);
}

void echo(work&) {
  int listener = listen_on_loopback();
  for (;;) {
    int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) fail("accept");
    no_delay(fd);
    start(
        [](void* p) -> void* {
          int fd = int(reinterpret_cast<long>(p));
          char buffer[4096];
          for (ssize_t n; (n = recv(fd, buffer, sizeof buffer, 0)) > 0;) {
            if (send(fd, buffer, std::size_t(n), 0) != n) break;
          }
          close(fd);
          return nullptr;
        },
        reinterpret_cast<void*>(long(fd)), false);
  }
}

void fetch(work& w) {
  the = &w;
  std::vector<pthread_t> all;
  w.begin();
  for (long i = 0; i < w.n; i++) {
    all.push_back(start([](void*) -> void* {
      sockaddr_in to = loopback(the->argument);
      int fd = socket(AF_INET, SOCK_STREAM, 0);
      if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) < 0) fail("connect");
      if (send(fd, fetch_request, sizeof fetch_request - 1, 0) < 0) fail("send");
      char buffer[4096];
      std::size_t got = 0;
      for (ssize_t n; (n = recv(fd, buffer, sizeof buffer, 0)) > 0;) got += std::size_t(n);
      close(fd);
      return reinterpret_cast<void*>(got);
    }));
  }
  for (auto t : all) {
    void* got;
    pthread_join(t, &got);
    check(reinterpret_cast<std::size_t>(got) == fetch_answer, "the whole answer");
  }
  w.end();
  w.ops = w.n;
}

}  // namespace

int main(int argc, char** argv) {
  return contend(argc, argv,
                 {{"yield", yield},
                  {"hand_over", semaphores},
                  {"hand_over_condition", conditions},
                  {"free_mutex", free_mutex},
                  {"mutex", mutex},
                  {"spawn", spawn},
                  {"memory", memory_parked, question::once},
                  {"echo", echo, question::once},
                  {"fetch", fetch, question::once}});
}
