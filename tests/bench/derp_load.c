/* tests/bench/derp_load.c: measures any DERP server from outside.
 *
 *   derp_load pairs  ADDR:PORT [options]   messages between pairs of clients
 *   derp_load idle   ADDR:PORT [options]   opens connections, waits, reports the server's memory
 *   derp_load setups ADDR:PORT [options]   connects, logs in and leaves, over and over
 *
 *   --plain          no TLS
 *   --pid N          the server's process: its CPU time and memory are reported
 *   --cpu N          pins this program to a core
 *   --seconds S      how long is measured (5), after --warm S (1)
 *   --pairs N        (1)    --size B    (1280)
 *   --window W       messages in flight per pair (16); each arrival sends the next
 *   --burst N        messages that one system call hands over (1, as stock clients do)
 *   --rate R         instead: so many messages a second in all, for latency
 *   --connections N  idle: how many (1000); setups: how many at a time (16)
 *   --settle S       idle: how long before the memory is read (5)
 *
 * One line of JSON on stdout. The window stays below the queues of every server (32 packets), so
 * that a server is measured at forwarding, not at dropping; what is lost all the same is reported
 * and replaced. CPU times are of /proc/PID/stat; foreign_s is the time that others had on all cores
 * meanwhile. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "crypto/init.h"
#include "tests/bench/derp_load.h"

#define LOST_AFTER_NS UINT64_C(500000000) /* nothing came back: the window is sent anew */
#define BUCKETS 512                       /* of latency: 32 to each doubling of a microsecond */
#define STAMP 16u                         /* mark and time in front of each message */

typedef struct options {
  const char *mode, *address;
  bool plain;
  long pid, cpu, seconds, warm, pairs, size, window, rate, connections, settle, burst;
} options;

typedef struct pair {
  load_conn from, to;
  unsigned in_flight;
  uint64_t heard_ns;
} pair;

typedef struct run {
  options o;
  loader l;
  pair *pairs;
  load_conn *conns;
  bool measuring;
  uint64_t received, sent, lost, setups;
  uint32_t latency[BUCKETS];
} run;

/* --- time and the machine --- */

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double cpu_of(long pid) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%ld/stat", pid);
  FILE *f = fopen(path, "r");
  const size_t n = f != NULL ? fread(text, 1, sizeof text - 1, f) : 0;
  if (f != NULL) {
    fclose(f);
  }
  text[n] = '\0';
  const char *after = strrchr(text, ')'); /* the name may hold blanks */
  unsigned long user = 0, sys = 0;
  if (after == NULL ||
      sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys) != 2) {
    fprintf(stderr, "derp_load: process %ld has no CPU times\n", pid);
    exit(1);
  }
  return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

static double own_cpu(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Time that all cores have worked, interrupts included. */
static double busy_all(void) {
  unsigned long user = 0, nice_ = 0, sys = 0, irq = 0, soft = 0, steal = 0;
  FILE *f = fopen("/proc/stat", "r");
  if (f != NULL) {
    if (fscanf(f, "cpu %lu %lu %lu %*u %*u %lu %lu %lu", &user, &nice_, &sys, &irq, &soft,
               &steal) != 6) {
      user = 0;
    }
    fclose(f);
  }
  return (double)(user + nice_ + sys + irq + soft + steal) / (double)sysconf(_SC_CLK_TCK);
}

static double memory_kib(long pid) {
  char path[64], text[256];
  double kib = 0;
  snprintf(path, sizeof path, "/proc/%ld/smaps_rollup", pid);
  FILE *f = fopen(path, "r");
  while (f != NULL && fgets(text, sizeof text, f) != NULL) {
    if (sscanf(text, "Rss: %lf", &kib) == 1) {
      break;
    }
  }
  if (f != NULL) {
    fclose(f);
  }
  return kib;
}

static void fill_random(void *ctx, void *dst, size_t len) {
  (void)ctx;
  while (len > 0) {
    const ssize_t n = getrandom(dst, len, 0);
    if (n > 0) {
      dst = (uint8_t *)dst + n;
      len -= (size_t)n;
    }
  }
}

/* --- messages --- */

static unsigned bucket_of(uint64_t us) {
  unsigned shift = 0;
  while (us >> shift >= 64) {
    shift++;
  }
  const unsigned b = us < 32 ? (unsigned)us : shift * 32 + (unsigned)(us >> shift);
  return b < BUCKETS ? b : BUCKETS - 1;
}

static double middle_of(unsigned b) {
  return b < 64 ? b : (double)((uint64_t)(b % 32 + 32) << (b / 32 - 1));
}

static double percentile(const run *r, double share) {
  uint64_t all = 0, seen = 0;
  for (unsigned i = 0; i < BUCKETS; i++) {
    all += r->latency[i];
  }
  for (unsigned i = 0; i < BUCKETS; i++) {
    seen += r->latency[i];
    if ((double)seen >= share * (double)all) {
      return middle_of(i);
    }
  }
  return 0;
}

static void send_one(run *r, pair *p) {
  static uint8_t data[16384];
  const uint64_t t = now_ns();
  memcpy(data, "benchmsg", 8);
  memcpy(data + 8, &t, sizeof t);
  load_send(&p->from, &p->to.key, data, (size_t)r->o.size);
  p->in_flight++;
  r->sent += r->measuring;
}

static void on_packet(load_conn *c, const uint8_t *data, size_t len) {
  run *r = c->loader->ctx;
  pair *p = &r->pairs[c->number];
  uint64_t t;
  if (len < STAMP || c != &p->to) {
    return;
  }
  memcpy(&t, data + 8, sizeof t);
  p->heard_ns = now_ns();
  if (r->measuring) {
    r->received++;
    r->latency[bucket_of((p->heard_ns - t) / 1000)]++;
  }
  p->in_flight -= p->in_flight > 0;
}

static void on_up(load_conn *c) {
  (void)c;
}

/* Windows that have room are filled; one flush a pair and turn. */
static void refill(run *r) {
  const uint64_t t = now_ns();
  for (long i = 0; i < r->o.pairs; i++) {
    pair *p = &r->pairs[i];
    if (p->in_flight > 0 && t - p->heard_ns > LOST_AFTER_NS) {
      r->lost += p->in_flight;
      p->in_flight = 0;
      p->heard_ns = t;
    }
    if (p->in_flight + (unsigned)r->o.burst > (unsigned)r->o.window) {
      continue;
    }
    for (long n = 1; p->in_flight < (unsigned)r->o.window; n++) {
      send_one(r, p);
      if (n % r->o.burst == 0) {
        load_flush(&p->from);
      }
    }
    load_flush(&p->from);
  }
}

/* So many a second, spread over the pairs in turn. */
static void pace(run *r, uint64_t start_ns, uint64_t *due) {
  const uint64_t should = (uint64_t)((double)(now_ns() - start_ns) * (double)r->o.rate / 1e9);
  for (; *due < should; ++*due) {
    pair *p = &r->pairs[*due % (uint64_t)r->o.pairs];
    send_one(r, p);
    load_flush(&p->from);
  }
}

static void run_for(run *r, long seconds) {
  const uint64_t start = now_ns(), end = start + (uint64_t)seconds * 1000000000u;
  uint64_t due = 0;
  while (now_ns() < end && r->l.n_dead == 0) {
    if (r->o.rate > 0) {
      pace(r, start, &due);
      load_turn(&r->l, 0);
    } else {
      refill(r);
      load_turn(&r->l, 100);
    }
  }
}

static void wait_for_up(run *r, size_t n) {
  const uint64_t end = now_ns() + UINT64_C(60000000000);
  while (r->l.n_up < n && r->l.n_dead == 0 && now_ns() < end) {
    load_turn(&r->l, 100);
  }
  if (r->l.n_up < n) {
    fprintf(stderr, "derp_load: %zu of %zu connections are up\n", r->l.n_up, n);
    exit(1);
  }
}

typedef struct meter {
  uint64_t ns;
  double server, own, all;
} meter;

static meter read_meter(const run *r) {
  return (meter){.ns = now_ns(),
                 .server = r->o.pid > 0 ? cpu_of(r->o.pid) : 0,
                 .own = own_cpu(),
                 .all = busy_all()};
}

static void print_meters(meter a, meter b) {
  const double server = b.server - a.server, own = b.own - a.own;
  const double foreign = b.all - a.all - server - own;
  printf("\"seconds\": %.3f, \"server_cpu_s\": %.3f, \"own_cpu_s\": %.3f, \"foreign_s\": %.3f",
         (double)(b.ns - a.ns) / 1e9, server, own, foreign > 0 ? foreign : 0);
}

static void run_pairs(run *r) {
  const size_t n = (size_t)r->o.pairs;
  r->pairs = calloc(n, sizeof *r->pairs);
  for (size_t i = 0; i < n; i++) {
    if (!load_open(&r->l, &r->pairs[i].from, i) || !load_open(&r->l, &r->pairs[i].to, i)) {
      exit(1);
    }
    wait_for_up(r, 2 * i + 2);
    r->pairs[i].heard_ns = now_ns();
  }
  run_for(r, r->o.warm);
  r->measuring = true;
  const meter a = read_meter(r);
  run_for(r, r->o.seconds);
  const meter b = read_meter(r);
  if (r->l.n_dead > 0) {
    fprintf(stderr, "derp_load: the server closed %zu connections\n", r->l.n_dead);
    exit(1);
  }
  printf("{\"pairs\": %ld, \"size\": %ld, \"messages\": %llu, \"sent\": %llu, \"lost\": %llu, "
         "\"p50_us\": %.0f, \"p99_us\": %.0f, ",
         r->o.pairs, r->o.size, (unsigned long long)r->received, (unsigned long long)r->sent,
         (unsigned long long)r->lost, percentile(r, 0.5), percentile(r, 0.99));
  print_meters(a, b);
  printf("}\n");
}

/* --- connections that do nothing --- */

static void run_idle(run *r) {
  const size_t n = (size_t)r->o.connections;
  const double before = memory_kib(r->o.pid);
  r->conns = calloc(n, sizeof *r->conns);
  for (size_t i = 0; i < n; i++) {
    if (!load_open(&r->l, &r->conns[i], i)) {
      exit(1);
    }
    if (i % 16 == 15) { /* a few at a time: no accept queue overflows */
      wait_for_up(r, i + 1);
    }
  }
  wait_for_up(r, n);
  const uint64_t end = now_ns() + (uint64_t)r->o.settle * 1000000000u;
  const double cpu = r->o.pid > 0 ? cpu_of(r->o.pid) : 0;
  while (now_ns() < end) {
    load_turn(&r->l, 100);
  }
  const double after = memory_kib(r->o.pid);
  printf("{\"connections\": %zu, \"up\": %zu, \"before_kib\": %.0f, \"after_kib\": %.0f, "
         "\"kib_each\": %.2f, \"idle_cpu_s\": %.3f, \"settle_s\": %ld}\n",
         n, r->l.n_up, before, after, (after - before) / (double)n,
         r->o.pid > 0 ? cpu_of(r->o.pid) - cpu : 0, r->o.settle);
}

/* --- connections that come and go --- */

static void setups_for(run *r, long seconds) {
  const uint64_t end = now_ns() + (uint64_t)seconds * 1000000000u;
  const size_t n = (size_t)r->o.connections;
  while (now_ns() < end) {
    load_turn(&r->l, 100);
    for (size_t i = 0; i < n; i++) {
      if (r->conns[i].phase == LOAD_UP) {
        r->setups += r->measuring;
      } else if (r->conns[i].phase != LOAD_DEAD) {
        continue;
      } else if (r->measuring) {
        r->lost++;
      }
      load_close(&r->conns[i]);
      if (!load_open(&r->l, &r->conns[i], i)) {
        exit(1);
      }
    }
  }
}

static void run_setups(run *r) {
  const size_t n = (size_t)r->o.connections;
  r->conns = calloc(n, sizeof *r->conns);
  for (size_t i = 0; i < n; i++) {
    if (!load_open(&r->l, &r->conns[i], i)) {
      exit(1);
    }
  }
  setups_for(r, r->o.warm);
  r->measuring = true;
  const meter a = read_meter(r);
  setups_for(r, r->o.seconds);
  const meter b = read_meter(r);
  printf("{\"setups\": %llu, \"failed\": %llu, ", (unsigned long long)r->setups,
         (unsigned long long)r->lost);
  print_meters(a, b);
  printf("}\n");
}

/* --- command line --- */

static const char usage[] =
    "usage: derp_load pairs|idle|setups ADDR:PORT [options]; see the top of "
    "tests/bench/derp_load.c\n";

static void parse(int argc, char **argv, options *o) {
  static const struct option names[] = {
      {"plain", no_argument, NULL, 'p'},
      {"pid", required_argument, NULL, 0},
      {"cpu", required_argument, NULL, 1},
      {"seconds", required_argument, NULL, 2},
      {"warm", required_argument, NULL, 3},
      {"pairs", required_argument, NULL, 4},
      {"size", required_argument, NULL, 5},
      {"window", required_argument, NULL, 6},
      {"rate", required_argument, NULL, 7},
      {"connections", required_argument, NULL, 8},
      {"settle", required_argument, NULL, 9},
      {"burst", required_argument, NULL, 10},
      {NULL, 0, NULL, 0},
  };
  *o = (options){.cpu = -1, .seconds = 5, .warm = 1, .pairs = 1, .size = 1280, .window = 16};
  o->settle = 5;
  o->burst = 1;
  long *const values[] = {&o->pid,    &o->cpu,  &o->seconds,     &o->warm,   &o->pairs, &o->size,
                          &o->window, &o->rate, &o->connections, &o->settle, &o->burst};
  int c;
  while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
    if (c == 'p') {
      o->plain = true;
    } else if (c >= 0 && c < (int)(sizeof values / sizeof *values)) {
      *values[c] = strtol(optarg, NULL, 10);
    } else {
      fputs(usage, stderr);
      exit(2);
    }
  }
  if (argc - optind != 2 || o->size < (long)STAMP || o->size > 16000 || o->window < 1 ||
      o->burst < 1 || o->burst > o->window || o->pairs < 1) {
    fputs(usage, stderr);
    exit(2);
  }
  o->mode = argv[optind];
  o->address = argv[optind + 1];
}

static void set_target(run *r) {
  char ip[64];
  unsigned port = 0;
  if (sscanf(r->o.address, "%63[0-9.]:%u", ip, &port) != 2 ||
      inet_pton(AF_INET, ip, &r->l.to.sin_addr) != 1) {
    fprintf(stderr, "derp_load: %s is not an IPv4 address and port\n", r->o.address);
    exit(2);
  }
  r->l.to.sin_family = AF_INET;
  r->l.to.sin_port = htons((uint16_t)port);
}

static void prepare(run *r) {
  struct rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  if (r->o.cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)r->o.cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
      perror("derp_load: --cpu");
      exit(1);
    }
  }
  r->l.epoll = epoll_create1(EPOLL_CLOEXEC);
  r->l.tls = r->o.plain ? NULL : SSL_CTX_new(TLS_client_method());
  if (r->l.tls != NULL) { /* whose server it is does not matter here */
    SSL_CTX_set_verify(r->l.tls, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_mode(r->l.tls, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(r->l.tls, SSL_SESS_CACHE_OFF);
  }
}

int main(int argc, char **argv) {
  static run r;
  const msock_env env = {.random = fill_random};
  parse(argc, argv, &r.o);
  if (msock_crypto_init() != MSOCK_OK) {
    return 1;
  }
  r.l.env = &env;
  r.l.up = on_up;
  r.l.packet = on_packet;
  r.l.ctx = &r;
  set_target(&r);
  prepare(&r);
  if (strcmp(r.o.mode, "pairs") == 0) {
    run_pairs(&r);
  } else if (strcmp(r.o.mode, "idle") == 0) {
    r.o.connections = r.o.connections > 0 ? r.o.connections : 1000;
    run_idle(&r);
  } else if (strcmp(r.o.mode, "setups") == 0) {
    r.o.connections = r.o.connections > 0 ? r.o.connections : 16;
    run_setups(&r);
  } else {
    fputs(usage, stderr);
    return 2;
  }
  return 0;
}
