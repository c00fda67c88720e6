/* sim: runs scenarios under many seeds, each run in a process of its own, and prints a table.
 *
 *   sim [--seeds N] [--scenario NAME] [--seed S] [--trace] [--jobs N] [--list]
 *
 * NAME may be a part of a name. Without --seeds each scenario runs under its usual number, or
 * SIM_SEEDS of the environment. A seed that fails prints the command that shows it again. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/lab.h"

#define SCENARIOS_MAX 128u
#define JOBS_MAX 64u
#define HANGS_SEC 120u /* of real time for one run: then it hangs */
#define FIRST_SEED 1u
#define FAILURES_SHOWN 3u /* per scenario */

typedef struct options {
  uint32_t seeds; /* 0: as each scenario says */
  const char *scenario;
  uint64_t seed; /* 0: all */
  bool trace, list;
  uint32_t jobs;
} options;

typedef struct job {
  pid_t pid; /* 0: free */
  uint32_t scenario, seed_index;
} job;

typedef struct run {
  const char *program;
  options opt;
  sim_scenario scenario[SCENARIOS_MAX];
  uint32_t n;
  uint32_t first[SCENARIOS_MAX]; /* place of its first outcome */
  uint32_t seeds[SCENARIOS_MAX];
  sim_outcome *outcomes; /* shared with the runs */
  uint32_t n_outcomes;
  job jobs[JOBS_MAX];
} run;

/* --- which --- */

static void collect(run *r) {
  static const sim_scenario *(*const files[])(size_t * n) = {
      sim_scenarios_nat,     sim_scenarios_change, sim_scenarios_quality, sim_scenarios_fleet,
      sim_scenarios_control, sim_scenarios_relay,  sim_scenarios_chaos};
  for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
    size_t n;
    const sim_scenario *s = files[f](&n);
    for (size_t i = 0; i < n; i++) {
      const bool exact = r->opt.scenario != NULL && strcmp(s[i].name, r->opt.scenario) == 0;
      if (exact) {
        r->n = 0;
      }
      if (r->opt.scenario == NULL || strstr(s[i].name, r->opt.scenario) != NULL) {
        r->scenario[r->n++] = s[i];
      }
      if (exact) {
        return;
      }
    }
  }
}

static uint32_t seeds_of(const run *r, uint32_t i) {
  if (r->opt.seed != 0) {
    return 1;
  }
  if (r->opt.seeds != 0) {
    return r->opt.seeds;
  }
  return r->scenario[i].seeds != 0 ? r->scenario[i].seeds : SIM_SEEDS;
}

static uint64_t seed_of(const run *r, uint32_t index) {
  return r->opt.seed != 0 ? r->opt.seed : FIRST_SEED + index;
}

/* --- running --- */

static sim_outcome *outcome_of(const run *r, uint32_t scenario, uint32_t index) {
  return &r->outcomes[r->first[scenario] + index];
}

static pid_t start(const run *r, uint32_t scenario, uint32_t index) {
  fflush(NULL);
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(HANGS_SEC);
    sim_lab_run_scenario(&r->scenario[scenario], seed_of(r, index), r->opt.trace ? stdout : NULL,
                         outcome_of(r, scenario, index));
    fflush(NULL);
    _exit(0);
  }
  return pid;
}

static void finished(run *r, pid_t pid, int status) {
  for (uint32_t j = 0; j < JOBS_MAX; j++) {
    if (r->jobs[j].pid == pid) {
      sim_outcome *o = outcome_of(r, r->jobs[j].scenario, r->jobs[j].seed_index);
      r->jobs[j].pid = 0;
      if (WIFSIGNALED(status)) {
        o->failed = true;
        snprintf(o->why, sizeof o->why, "%s (signal %d)",
                 WTERMSIG(status) == SIGALRM ? "it hangs" : "it crashes", WTERMSIG(status));
      } else if (!o->ran) {
        o->failed = true;
        snprintf(o->why, sizeof o->why, "it ended with code %d", WEXITSTATUS(status));
      }
      return;
    }
  }
}

static void wait_for_one(run *r) {
  int status;
  const pid_t pid = wait(&status);
  if (pid > 0) {
    finished(r, pid, status);
  }
}

static void run_all(run *r) {
  uint32_t busy = 0;
  for (uint32_t s = 0; s < r->n; s++) {
    for (uint32_t k = 0; k < r->seeds[s]; k++) {
      if (busy == r->opt.jobs) {
        wait_for_one(r);
        busy--;
      }
      uint32_t j = 0;
      while (r->jobs[j].pid != 0) {
        j++;
      }
      r->jobs[j] = (job){.pid = start(r, s, k), .scenario = s, .seed_index = k};
      if (r->jobs[j].pid < 0) {
        perror("sim: fork");
        exit(2);
      }
      busy++;
    }
  }
  for (; busy > 0; busy--) {
    wait_for_one(r);
  }
}

/* --- the table --- */

static int by_value(const void *a, const void *b) {
  const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

/* The per mille value of what is not 0, as milliseconds; "-" without any. */
static const char *quantile(const run *r, uint32_t s, uint64_t (*get)(const sim_outcome *),
                            uint32_t permille, char buf[static 24]) {
  uint64_t values[4096];
  size_t n = 0;
  for (uint32_t k = 0; k < r->seeds[s] && n < 4096; k++) {
    const sim_outcome *o = outcome_of(r, s, k);
    if (o->ran && get(o) != 0) {
      values[n++] = get(o);
    }
  }
  if (n == 0) {
    return "-";
  }
  qsort(values, n, sizeof *values, by_value);
  snprintf(buf, 24, "%" PRIu64, values[(n - 1) * permille / 1000] / MSOCK_MS);
  return buf;
}

static uint64_t get_direct(const sim_outcome *o) {
  return o->direct_us;
}
static uint64_t get_gap(const sim_outcome *o) {
  return o->gap_us;
}

static void print_failures(const run *r, uint32_t s) {
  uint32_t shown = 0;
  for (uint32_t k = 0; k < r->seeds[s] && shown < FAILURES_SHOWN; k++) {
    const sim_outcome *o = outcome_of(r, s, k);
    if (o->failed) {
      printf("  seed %" PRIu64 " fails %s\n    again: %s --scenario %s --seed %" PRIu64
             " --trace\n",
             seed_of(r, k), o->why, r->program, r->scenario[s].name, seed_of(r, k));
      shown++;
    }
  }
}

static uint32_t print_row(const run *r, uint32_t s, uint64_t *virtual_us, uint64_t *used_us) {
  char a[24], b[24], c[24], d[24];
  uint32_t failed = 0, downgrades = 0, flaps = 0;
  uint64_t cpu = 0;
  for (uint32_t k = 0; k < r->seeds[s]; k++) {
    const sim_outcome *o = outcome_of(r, s, k);
    failed += o->failed;
    downgrades += o->downgrades;
    flaps += o->flaps;
    cpu += o->cpu_us;
    *virtual_us += o->virtual_us;
  }
  *used_us += cpu;
  printf("%-40s %5u %6u %8s %7s %8s %7s %6u %5u %7.1f\n", r->scenario[s].name, r->seeds[s], failed,
         quantile(r, s, get_direct, 500, a), quantile(r, s, get_direct, 950, b),
         quantile(r, s, get_gap, 500, c), quantile(r, s, get_gap, 1000, d), downgrades, flaps,
         (double)cpu / (double)MSOCK_SEC);
  print_failures(r, s);
  return failed;
}

static int report(const run *r) {
  uint32_t failed = 0;
  uint64_t virtual_us = 0, used_us = 0;
  printf("%-40s %5s %6s %16s %16s %6s %5s %7s\n", "", "", "", "direct, ms", "longest gap, ms",
         "down", "", "CPU");
  printf("%-40s %5s %6s %8s %7s %8s %7s %6s %5s %7s\n", "scenario", "seeds", "failed", "median",
         "p95", "median", "max", "grades", "flaps", "s");
  for (uint32_t s = 0; s < r->n; s++) {
    failed += print_row(r, s, &virtual_us, &used_us);
  }
  printf("%u scenarios, %.1f hours of virtual time in %.1f s of CPU time\n", r->n,
         (double)virtual_us / 3600e6, (double)used_us / (double)MSOCK_SEC);
  printf("%u passed, %u failed\n", r->n_outcomes - failed, failed);
  return failed == 0 && r->n_outcomes > 0 ? 0 : 1;
}

/* --- options --- */

static uint64_t number(const char *text, const char *name) {
  char *end;
  errno = 0;
  const uint64_t n = strtoull(text, &end, 10);
  if (errno != 0 || *text == '\0' || *end != '\0' || n == 0) {
    fprintf(stderr, "sim: %s wants a number from 1 on, not \"%s\"\n", name, text);
    exit(2);
  }
  return n;
}

static void read_options(int argc, char **argv, options *o) {
  const char *env = getenv("SIM_SEEDS");
  const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
  *o = (options){.jobs = cpus > 0 ? (uint32_t)cpus : 1};
  o->seeds = env != NULL && *env != '\0' ? (uint32_t)number(env, "SIM_SEEDS") : 0;
  for (int i = 1; i < argc; i++) {
    const char *value = i + 1 < argc ? argv[i + 1] : "";
    if (strcmp(argv[i], "--trace") == 0) {
      o->trace = true;
      continue;
    }
    if (strcmp(argv[i], "--list") == 0) {
      o->list = true;
      continue;
    }
    if (strcmp(argv[i], "--seeds") == 0) {
      o->seeds = (uint32_t)number(value, argv[i]);
    } else if (strcmp(argv[i], "--scenario") == 0) {
      o->scenario = value;
    } else if (strcmp(argv[i], "--seed") == 0) {
      o->seed = number(value, argv[i]);
    } else if (strcmp(argv[i], "--jobs") == 0) {
      o->jobs = (uint32_t)number(value, argv[i]);
    } else {
      fprintf(stderr, "usage: sim [--seeds N] [--scenario NAME] [--seed S] [--trace] [--jobs N] "
                      "[--list]\n");
      exit(2);
    }
    i++;
  }
  o->jobs = o->trace ? 1 : o->jobs > JOBS_MAX ? JOBS_MAX : o->jobs;
}

int main(int argc, char **argv) {
  static run r;
  r.program = argv[0];
  read_options(argc, argv, &r.opt);
  collect(&r);
  if (r.n == 0) {
    fprintf(stderr, "sim: no scenario has \"%s\" in its name; --list shows them\n", r.opt.scenario);
    return 2;
  }
  for (uint32_t s = 0; s < r.n; s++) {
    r.first[s] = r.n_outcomes;
    r.seeds[s] = seeds_of(&r, s);
    r.n_outcomes += r.seeds[s];
    if (r.opt.list) {
      printf("%s\n", r.scenario[s].name);
    }
  }
  if (r.opt.list) {
    return 0;
  }
  r.outcomes = mmap(NULL, r.n_outcomes * sizeof *r.outcomes, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (r.outcomes == MAP_FAILED) {
    perror("sim: mmap");
    return 2;
  }
  run_all(&r);
  return report(&r);
}
