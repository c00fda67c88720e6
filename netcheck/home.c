#include "netcheck/home.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "netcheck/home_internal.h"

/* Timers. (R) = the reference's, netcheck.md 2.2 and 2.3; (P) = ours, for a quick join. */
#define STUN_SILENCE_US (1000u * MSOCK_MS) /* (P) no answer: HTTPS as well */
#define STUN_LIMIT_US (3000u * MSOCK_MS)   /* (R) */
#define DECIDE_MIN_US (20u * MSOCK_MS)     /* (P) after the first STUN answer, */
#define DECIDE_MAX_US (100u * MSOCK_MS)    /* (P) twice its latency within these */
#define GAP_MIN_US (20u * MSOCK_SEC)       /* (R) between rounds */
#define GAP_MAX_US (26u * MSOCK_SEC)       /* (R) */
#define FULL_EVERY_US (300u * MSOCK_SEC)   /* (R) */
#define HISTORY_US (305u * MSOCK_SEC)      /* (R) */
#define ENOUGH_REGIONS 3u                  /* (R) measured regions that start the stop timer */
#define IDLE_US (45u * MSOCK_SEC)          /* (R) without traffic: no rounds */
#define SWEEP_EVERY_US (30u * MSOCK_SEC)   /* netcheck.md 2.8, from start to start */

/* A score may be any number: latencies times score end here. */
#define SCALED_MAX_US (3600u * MSOCK_SEC)

/* Question ids: epoch, kind, region, node. */
#define ID_NODE_BITS 4u
#define ID_REGION_BITS 8u
#define ID_KIND_SHIFT (ID_NODE_BITS + ID_REGION_BITS)
#define ID_EPOCH_SHIFT (ID_KIND_SHIFT + 2u)

uint32_t home_question_id(const msock_home *h, home_question q, size_t region, size_t node) {
  const uint32_t epoch = q == QUESTION_NAME ? h->name_epoch : h->round_epoch;
  return epoch << ID_EPOCH_SHIFT | (uint32_t)q << ID_KIND_SHIFT |
         (uint32_t)(region << ID_NODE_BITS) | (uint32_t)node;
}

bool home_question_read(const msock_home *h, uint32_t id, home_question q, size_t *region,
                        size_t *node) {
  *node = id & ((1u << ID_NODE_BITS) - 1u);
  *region = id >> ID_NODE_BITS & ((1u << ID_REGION_BITS) - 1u);
  return id == home_question_id(h, q, *region, *node) && *region < h->map.n_regions &&
         *node < h->map.regions[*region].n_nodes;
}

msock_home *msock_home_new(const msock_home_config *config) {
  msock_home *h = calloc(1, sizeof *h);
  if (h) {
    h->config = *config;
    h->control_up = true;
    h->last_full_us = h->next_round_us = h->decide_us = h->stop_us = MSOCK_NEVER;
    h->captive.at_us = MSOCK_NEVER;
    msock_stun_table_init(&h->inflight);
  }
  return h;
}

static void free_map(msock_home *h) {
  msock_derp_map_clear(&h->map);
  free(h->regions);
  free(h->nodes);
  free(h->sets);
  h->regions = NULL;
  h->nodes = NULL;
  h->sets = NULL;
  h->n_sets = 0;
}

void msock_home_free(msock_home *h) {
  if (h) {
    free_map(h);
    free(h);
  }
}

static uint64_t smaller(uint64_t a, uint64_t b) { /* 0 = none */
  return a == 0 || (b != 0 && b < a) ? b : a;
}

static uint64_t latency_of(const home_region *r) {
  return smaller(smaller(r->v4_us, r->v6_us), r->https_us);
}

size_t home_region_index(const msock_home *h, msock_region_id id) {
  size_t i = 0;
  while (i < h->map.n_regions && h->map.regions[i].id != id) {
    i++;
  }
  return i;
}

/* No home, or one that the map does not have any more. */
bool home_needs_home(const msock_home *h) {
  return h->home == 0 || home_region_index(h, h->home) == h->map.n_regions;
}

/* The choice. */

static uint64_t scale(uint64_t us, double score) {
  if (us == 0 || !(score > 0)) {
    return us;
  }
  const double scaled = (double)us * score;
  return scaled < 1 ? 1 : scaled < (double)SCALED_MAX_US ? (uint64_t)scaled : SCALED_MAX_US;
}

/* For the choice. Relays that were dialled anyway stand in where nothing else may be asked. */
static uint64_t current_of(const msock_home *h, const home_region *r) {
  const bool stand_in = h->config.no_https && !h->now.udp;
  return stand_in ? smaller(latency_of(r), r->derp_us) : latency_of(r);
}

static uint64_t best_of(const msock_home *h, const home_region *r, uint64_t now_us) {
  uint64_t best = current_of(h, r);
  for (size_t i = 0; i < r->n_history; i++) {
    if (now_us - r->history[i].at_us <= HISTORY_US) {
      best = smaller(best, r->history[i].rtt_us);
    }
  }
  return best;
}

static size_t choice_input(const msock_home *h, uint64_t now_us,
                           msock_choice_region out[static MSOCK_DERP_REGIONS_MAX]) {
  for (size_t i = 0; i < h->map.n_regions; i++) {
    const msock_derp_region *r = &h->map.regions[i];
    const home_region *s = &h->regions[i];
    out[i] = (msock_choice_region){.id = r->id,
                                   .can_be_home = home_region_eligible(h, i),
                                   .now_us = scale(current_of(h, s), r->score),
                                   .best_us = scale(best_of(h, s, now_us), r->score),
                                   .heard_us = s->heard_us == MSOCK_NEVER ? MSOCK_NEVER
                                                                          : now_us - s->heard_us};
  }
  return h->map.n_regions;
}

static void set_home(msock_home *h, msock_region_id region) {
  if (region == 0 || region == h->home) {
    return;
  }
  msock_logf(h->config.env.log, MSOCK_LOG_INFO, "netcheck.home",
             "region=%" PRIu64 " was=%" PRIu64 " udp=%d", region, h->home, h->now.udp);
  h->home = region;
  h->home_changed = true;
}

/* Chooses by what is measured so far and files the report. */
static void decide(msock_home *h, uint64_t now_us, bool final) {
  msock_choice_region *in = h->choice_in;
  const size_t n = choice_input(h, now_us, in);

  h->decide_us = MSOCK_NEVER;
  h->now.at_us = now_us;
  h->now.final = final;
  h->now.preferred = msock_choice_pick(in, n, h->home, now_us - h->round_us);
  h->now.n_regions = n;
  for (size_t i = 0; i < n; i++) {
    const home_region *s = &h->regions[i];
    h->now.regions[i] =
        (msock_home_latency){h->map.regions[i].id, latency_of(s), s->v4_us, s->v6_us, s->https_us};
  }
  if (home_needs_home(h)) {
    const msock_region_id blind = final ? msock_choice_blind(in, n) : 0;
    set_home(h, h->now.preferred ? h->now.preferred : blind);
  } else if (h->control_up) {
    set_home(h, h->now.preferred);
  }
  h->report = h->now;
  h->report_filed = true;
}

/* Rounds. */

static void keep_history(home_region *r, uint64_t now_us) {
  const uint64_t rtt = latency_of(r);
  if (rtt == 0) {
    return;
  }
  if (r->n_history == HOME_HISTORY_MAX) {
    r->n_history--;
    memmove(&r->history[0], &r->history[1], r->n_history * sizeof *r->history);
  }
  r->history[r->n_history++] = (home_sample){now_us, rtt};
}

static msock_plan_region plan_input(msock_home *h, size_t region) {
  msock_plan_region in = {.home = h->map.regions[region].id == h->home,
                          .last_us = h->regions[region].last_us};
  const msock_derp_region *r = &h->map.regions[region];
  const bool avoided = r->avoid && !in.home && (!h->full || h->config.sweep);
  if (!h->config.no_stun && !r->no_measure_no_home && !avoided) {
    in.servers = home_nodes_count_stun(h, region, 4);
    in.v4 = in.servers > 0;
    in.v6 = h->config.ipv6 && home_nodes_count_stun(h, region, 6) > 0;
  }
  return in;
}

static void make_plan(msock_home *h) {
  const size_t n = h->map.n_regions;
  msock_plan_region *in = h->plan_in;
  msock_plan_set *sets = h->plan_sets;
  for (size_t i = 0; i < n; i++) {
    in[i] = plan_input(h, i);
  }
  h->n_sets = h->config.sweep ? msock_plan_sweep(in, n, sets)
              : h->full       ? msock_plan_full(in, n, sets)
                              : msock_plan_incremental(in, n, h->had_v4, h->had_v6, sets);
  for (size_t i = 0; i < h->n_sets; i++) {
    h->sets[i] = (home_set){.plan = sets[i]};
    home_nodes_want(h, sets[i].region, false, h->full);
  }
}

/* Who cannot get out because of a portal looks again at all of it. */
static bool is_full_due(const msock_home *h, uint64_t now_us) {
  return h->full_wanted || h->last_full_us == MSOCK_NEVER ||
         now_us - h->last_full_us >= FULL_EVERY_US ||
         (h->report.captive_portal == MSOCK_TRISTATE_TRUE && !h->report.udp);
}

static void begin_round(msock_home *h, uint64_t now_us) {
  h->full = is_full_due(h, now_us);
  if (h->full) {
    h->last_full_us = now_us;
  }
  h->full_wanted = h->again = h->paused = false;
  h->phase = PHASE_STUN;
  h->round_us = now_us;
  h->next_round_us = h->decide_us = h->stop_us = MSOCK_NEVER;
  h->round_epoch++;
  h->now = (msock_home_report){.full = h->full, .os_has_ipv6 = h->config.os_has_ipv6};
  for (size_t i = 0; i < h->map.n_regions; i++) {
    home_region *r = &h->regions[i];
    r->v4_us = r->v6_us = r->https_us = 0;
    r->https = HTTPS_IDLE;
  }
  make_plan(h);
  home_captive_plan(h);
  h->stats.rounds++;
}

static void end_round(msock_home *h) {
  h->phase = PHASE_IDLE;
  h->decide_us = h->stop_us = h->next_round_us = MSOCK_NEVER;
  h->n_sets = 0;
  h->captive = (home_captive){.at_us = MSOCK_NEVER};
  h->round_epoch++; /* late answers have no round */
  msock_stun_table_clear(&h->inflight);
}

static void finish_round(msock_home *h, uint64_t now_us) {
  decide(h, now_us, true);
  for (size_t i = 0; i < h->map.n_regions; i++) {
    keep_history(&h->regions[i], now_us);
    if (latency_of(&h->regions[i]) != 0) {
      h->regions[i].last_us = latency_of(&h->regions[i]);
    }
  }
  h->had_v4 = h->now.ipv4;
  h->had_v6 = h->now.ipv6;
  end_round(h);
  if (h->again) {
    h->next_round_us = now_us;
  } else if (h->config.sweep) {
    h->next_round_us = h->round_us + SWEEP_EVERY_US;
  } else {
    h->next_round_us =
        now_us + GAP_MIN_US + msock_env_uniform(&h->config.env, GAP_MAX_US - GAP_MIN_US + 1);
  }
}

/* Would another answer of the set tell something new (netcheck.md 2.3). */
static bool helps(const msock_home *h, const home_set *s) {
  const home_region *r = &h->regions[s->plan.region];
  return latency_of(r) == 0 || (s->plan.family == 6 && !h->now.ipv6) ||
         (s->plan.family == 4 && h->now.mapping_varies == MSOCK_TRISTATE_UNKNOWN);
}

/* Ends sets that have nobody left to ask. Gives how many are open. */
static size_t close_dead_sets(msock_home *h) {
  size_t open = 0;
  for (size_t i = 0; i < h->n_sets; i++) {
    home_set *s = &h->sets[i];
    msock_addr addr;
    size_t node = 0;
    if (!s->done && s->next == 0 &&
        home_nodes_pick_stun(h, &s->plan, 0, &node, &addr) == ADDRESS_NEVER) {
      s->done = true;
    }
    open += !s->done;
  }
  return open;
}

/* The next round, when it is due: a node that is idle waits for its next packet first. */
static void begin_round_if_due(msock_home *h, uint64_t now_us) {
  if (!h->running || h->map.n_regions == 0 || h->next_round_us > now_us) {
    return;
  }
  if (!h->config.sweep && !h->full_wanted && now_us - h->active_us > IDLE_US) {
    h->paused = true;
    h->next_round_us = MSOCK_NEVER;
    return;
  }
  begin_round(h, now_us);
}

void home_advance(msock_home *h, uint64_t now_us) {
  if (h->phase == PHASE_IDLE) {
    begin_round_if_due(h, now_us);
  }
  if (h->phase == PHASE_IDLE) {
    return;
  }
  const size_t open = close_dead_sets(h);
  const uint64_t age_us = now_us - h->round_us;
  home_captive_start_if_due(h, now_us);
  if (h->phase == PHASE_STUN && !h->now.udp && (open == 0 || age_us >= STUN_SILENCE_US)) {
    home_https_start(h);
  }
  const bool stun_over =
      h->now.udp && (open == 0 || now_us >= h->stop_us || age_us >= STUN_LIMIT_US);
  const bool https_over =
      h->phase == PHASE_HTTPS &&
      ((home_https_open(h) == 0 && h->captive.open == 0) || age_us >= HOME_ROUND_LIMIT_US);
  if (stun_over || https_over) {
    finish_round(h, now_us);
  } else if (h->decide_us <= now_us) {
    decide(h, now_us, false);
  }
  if (h->again && h->phase == PHASE_IDLE && h->running) {
    begin_round(h, now_us);
  }
}

/* The network or the map is another one: what was under way is void. */
static void restart(msock_home *h, uint64_t now_us) {
  end_round(h);
  h->full_wanted = true;
  if (h->running) {
    h->next_round_us = now_us;
    home_advance(h, now_us);
  }
}

/* Inputs. */

static bool same_map(const msock_derp_map *a, const msock_derp_map *b) {
  if (a->n_regions != b->n_regions) {
    return false;
  }
  for (size_t i = 0; i < a->n_regions; i++) {
    if (!msock_derp_region_equal(&a->regions[i], &b->regions[i])) {
      return false;
    }
  }
  return true;
}

/* State for a fresh map; what is known of regions that stay is taken over. */
static bool make_states(msock_home *fresh, const msock_home *old) {
  const msock_derp_map *map = &fresh->map;
  size_t n_nodes = 0;
  for (size_t i = 0; i < map->n_regions; i++) {
    n_nodes += map->regions[i].n_nodes;
  }
  fresh->regions = calloc(map->n_regions + 1, sizeof *fresh->regions);
  fresh->nodes = calloc(n_nodes + 1, sizeof *fresh->nodes);
  fresh->sets = calloc(2 * map->n_regions + MSOCK_PLAN_SWEEP_MAX, sizeof *fresh->sets);
  if (!fresh->regions || !fresh->nodes || !fresh->sets) {
    return false;
  }
  home_node *at = fresh->nodes;
  for (size_t i = 0; i < map->n_regions; i++) {
    const size_t was = home_region_index(old, map->regions[i].id);
    fresh->regions[i].heard_us = MSOCK_NEVER;
    if (was < old->map.n_regions) {
      fresh->regions[i] = old->regions[was];
    }
    fresh->regions[i].nodes = at;
    at += map->regions[i].n_nodes;
  }
  return true;
}

static bool is_sound(const msock_derp_map *map) {
  bool ok = map->n_regions <= MSOCK_DERP_REGIONS_MAX;
  for (size_t i = 0; ok && i < map->n_regions; i++) {
    ok = map->regions[i].n_nodes <= MSOCK_DERP_NODES_MAX;
  }
  return ok;
}

msock_err msock_home_set_map(msock_home *h, uint64_t now_us, const msock_derp_map *map) {
  static const msock_derp_map none = {0};
  const msock_derp_map *to = map ? map : &none;

  if (!is_sound(to)) {
    return MSOCK_ERR_INVALID;
  }
  if (same_map(to, &h->map) && h->regions) {
    return MSOCK_OK;
  }
  msock_home *fresh = calloc(1, sizeof *fresh); /* only what belongs to the map */
  if (fresh == NULL || msock_derp_map_copy(&fresh->map, to) != MSOCK_OK || !make_states(fresh, h)) {
    if (fresh != NULL) {
      free_map(fresh);
    }
    free(fresh);
    return MSOCK_ERR_NOMEM;
  }
  free_map(h);
  h->map = fresh->map;
  h->regions = fresh->regions;
  h->nodes = fresh->nodes;
  h->sets = fresh->sets;
  free(fresh);
  h->name_epoch++;
  home_nodes_reset(h);
  restart(h, now_us);
  return MSOCK_OK;
}

void msock_home_start(msock_home *h, uint64_t now_us) {
  if (!h->running) {
    h->running = true;
    h->active_us = now_us;
    restart(h, now_us);
  }
}

void msock_home_stop(msock_home *h) {
  h->running = false;
  end_round(h);
  h->home_changed = h->report_filed = false;
  h->n_reflexive = 0;
}

void msock_home_probe(msock_home *h, uint64_t now_us) {
  h->full_wanted = true;
  if (h->phase != PHASE_IDLE) {
    h->again = true;
  } else if (h->running) {
    h->next_round_us = now_us;
    home_advance(h, now_us);
  }
}

bool msock_home_want_full(msock_home *h, uint64_t now_us) {
  if (!h->running || h->map.n_regions == 0) {
    return false;
  }
  if (h->phase == PHASE_IDLE || !h->full) {
    msock_home_probe(h, now_us);
  }
  return true;
}

void msock_home_on_activity(msock_home *h, uint64_t now_us) {
  h->active_us = now_us;
  if (h->paused && h->running) {
    h->paused = false;
    h->next_round_us = now_us;
    home_advance(h, now_us);
  }
}

void msock_home_link_changed(msock_home *h, uint64_t now_us) {
  for (size_t i = 0; i < h->map.n_regions; i++) {
    h->regions[i].n_history = 0;
    h->regions[i].last_us = 0;
    h->regions[i].derp_us = 0;
    h->regions[i].heard_us = MSOCK_NEVER;
  }
  h->name_epoch++;
  h->n_reflexive = 0;
  h->had_v4 = h->had_v6 = false;
  home_nodes_reset(h);
  restart(h, now_us);
}

void msock_home_set_socket(msock_home *h, bool udp, bool ipv6) {
  h->config.no_stun = !udp;
  h->config.ipv6 = ipv6;
}

void msock_home_set_control_up(msock_home *h, bool up) {
  h->control_up = up;
}

static void count_mapping(msock_home_counter *counters, size_t *n, const msock_addr *mapped) {
  size_t i = 0;
  while (i < *n && !msock_addr_equal(&counters[i].addr, mapped)) {
    i++;
  }
  if (i == *n && i < MSOCK_HOME_COUNTERS_MAX) {
    counters[(*n)++] = (msock_home_counter){.addr = *mapped};
  }
  if (i < *n) {
    counters[i].n++;
  }
}

static void note_mapping(msock_home *h, const msock_addr *server, const msock_addr *mapped) {
  msock_home_report *r = &h->now;
  if (mapped->ip.family == 6) {
    r->ipv6 = true;
    r->global_v6 = *mapped;
    count_mapping(r->v6_counters, &r->n_v6_counters, mapped);
    return;
  }
  count_mapping(r->v4_counters, &r->n_v4_counters, mapped);
  r->ipv4 = true;
  if (r->global_v4.ip.family == 0) {
    r->global_v4 = *mapped;
    h->first_v4_server = *server;
  } else if (!msock_addr_equal(&r->global_v4, mapped)) {
    r->mapping_varies = MSOCK_TRISTATE_TRUE;
  } else if (r->mapping_varies == MSOCK_TRISTATE_UNKNOWN &&
             !msock_ip_equal(&h->first_v4_server.ip, &server->ip)) {
    r->mapping_varies = MSOCK_TRISTATE_FALSE;
  }
}

static void queue_reflexive(msock_home *h, const msock_addr *server, const msock_addr *mapped) {
  if (h->n_reflexive == MSOCK_HOME_REFLEXIVE_MAX) {
    h->stats.reflexive_dropped++;
    return;
  }
  h->reflexive[h->n_reflexive++] = (home_reflexive){*server, *mapped};
}

/* Regions with a latency in this round; worst gets the largest one. */
static size_t measured(const msock_home *h, uint64_t *worst) {
  size_t n = 0;
  for (size_t i = 0; i < h->map.n_regions; i++) {
    const uint64_t us = latency_of(&h->regions[i]);
    n += us != 0;
    *worst = us > *worst ? us : *worst;
  }
  return n;
}

static uint64_t clamp(uint64_t v, uint64_t low, uint64_t high) {
  return v < low ? low : v > high ? high : v;
}

static void on_answer(msock_home *h, uint64_t now_us, const msock_stun_transaction *t,
                      const msock_addr *mapped) {
  home_set *s = &h->sets[t->tag];
  home_region *r = &h->regions[s->plan.region];
  uint64_t *slot = s->plan.family == 4 ? &r->v4_us : &r->v6_us;
  const uint64_t rtt_us = now_us > t->sent_us ? now_us - t->sent_us : 1;
  const bool first = !h->now.udp, new_region = latency_of(r) == 0;
  uint64_t worst = 0;

  s->done = true;
  *slot = smaller(*slot, rtt_us);
  h->now.udp = true;
  note_mapping(h, &t->server, mapped);
  queue_reflexive(h, &t->server, mapped);
  if (first && home_needs_home(h)) {
    h->decide_us = now_us + clamp(2 * rtt_us, DECIDE_MIN_US, DECIDE_MAX_US);
  }
  if (new_region && measured(h, &worst) == ENOUGH_REGIONS) {
    h->stop_us = now_us + worst * (h->full ? 2 : 1);
  }
}

bool msock_home_on_udp(msock_home *h, uint64_t now_us, const msock_addr *from, const uint8_t *p,
                       size_t len) {
  msock_stun_transaction t;
  msock_addr mapped;

  if (!msock_stun_demux(p, len)) {
    return false;
  }
  if (p[0] == 0) { /* a request: our own, come back through the NAT */
    return true;
  }
  msock_stun_txid txid = msock_stun_txid_of(p);
  if (!msock_stun_table_find(&h->inflight, now_us, &txid, from, &t)) {
    return true;
  }
  const msock_err e = msock_stun_decode_response(p, len, &t.server, &txid, &mapped);
  if (e == MSOCK_OK) {
    msock_stun_table_close(&h->inflight, &txid);
    on_answer(h, now_us, &t, &mapped);
    home_advance(h, now_us);
  } else {
    h->stats.rx_malformed++;
  }
  return true;
}

void msock_home_on_resolved(msock_home *h, uint64_t now_us, uint32_t id, const msock_ip *ips,
                            size_t n) {
  size_t region = 0, node = 0;
  if (!home_question_read(h, id, QUESTION_NAME, &region, &node)) {
    return;
  }
  const msock_derp_node *m = &h->map.regions[region].nodes[node];
  home_node *state = &h->regions[region].nodes[node];
  bool had_v4 = m->v4 != MSOCK_DERP_FAMILY_RESOLVE, had_v6 = m->v6 != MSOCK_DERP_FAMILY_RESOLVE;
  state->name = NAME_DONE;
  for (size_t i = 0; i < n; i++) {
    if (ips[i].family == 4 && !had_v4) {
      state->v4 = ips[i];
      had_v4 = true;
    } else if (ips[i].family == 6 && !had_v6) {
      state->v6 = ips[i];
      had_v6 = true;
    }
  }
  home_advance(h, now_us);
}

void msock_home_on_sent(msock_home *h, uint8_t family, bool ok) {
  h->now.ipv4_can_send = h->now.ipv4_can_send || (ok && family == 4);
  h->now.ipv6_can_send = h->now.ipv6_can_send || (ok && family == 6);
}

void msock_home_on_derp_frame(msock_home *h, uint64_t now_us, msock_region_id region) {
  const size_t i = home_region_index(h, region);
  if (i < h->map.n_regions) {
    h->regions[i].heard_us = now_us;
  }
}

void msock_home_on_derp_lost(msock_home *h, uint64_t now_us, msock_region_id region) {
  const size_t i = home_region_index(h, region);
  const uint64_t stale_us = now_us > MSOCK_CHOICE_HEARD_US ? now_us - MSOCK_CHOICE_HEARD_US - 1 : 0;
  if (i < h->map.n_regions && h->regions[i].heard_us != MSOCK_NEVER &&
      h->regions[i].heard_us > stale_us) {
    h->regions[i].heard_us = stale_us;
  }
}

void msock_home_on_derp_connected(msock_home *h, msock_region_id region, uint64_t connect_us) {
  const size_t i = home_region_index(h, region);
  if (i < h->map.n_regions) {
    h->regions[i].derp_us = connect_us;
  }
}

/* Time and output. */

/* When the set's next probe is due; MSOCK_NEVER while its address is unknown. */
static uint64_t due_us(const msock_home *h, const home_set *s, size_t *node, msock_addr *addr) {
  if (s->done || s->next == s->plan.tries ||
      home_nodes_pick_stun(h, &s->plan, s->next, node, addr) != ADDRESS_KNOWN) {
    return MSOCK_NEVER;
  }
  return h->round_us + s->plan.delay_us[s->next];
}

static uint64_t earlier(uint64_t a, uint64_t b) {
  return a < b ? a : b;
}

uint64_t msock_home_next_expiry(const msock_home *h) {
  if (h->phase == PHASE_IDLE) {
    return h->running && h->map.n_regions > 0 ? h->next_round_us : MSOCK_NEVER;
  }
  uint64_t at = earlier(h->decide_us, h->stop_us);
  at = earlier(at, h->captive.at_us);
  if (h->phase == PHASE_HTTPS) {
    at = earlier(at, h->round_us + HOME_ROUND_LIMIT_US);
  } else if (!h->now.udp) {
    at = earlier(at, h->round_us + STUN_SILENCE_US);
  }
  if (h->now.udp) {
    at = earlier(at, h->round_us + STUN_LIMIT_US);
  }
  for (size_t i = 0; i < h->n_sets; i++) {
    msock_addr addr;
    size_t node = 0;
    at = earlier(at, due_us(h, &h->sets[i], &node, &addr));
  }
  return at;
}

void msock_home_on_expiry(msock_home *h, uint64_t now_us) {
  home_advance(h, now_us);
}

/* The next probe that is due, sent from now on. */
static bool next_stun(msock_home *h, uint64_t now_us, msock_home_output *out) {
  for (size_t i = 0; i < h->n_sets; i++) {
    home_set *s = &h->sets[i];
    size_t node = 0;
    msock_stun_txid txid;
    while (due_us(h, s, &node, &out->addr) <= now_us) {
      s->next++;
      if (!helps(h, s)) {
        s->done = true;
      } else if (msock_stun_table_add(&h->inflight, now_us, &h->config.env, &out->addr, (uint32_t)i,
                                      &txid) != MSOCK_OK) {
        h->stats.probes_dropped++;
      } else {
        const msock_derp_region *r = &h->map.regions[s->plan.region];
        out->kind = MSOCK_HOME_SEND_STUN;
        out->region = r->id;
        out->node = (uint32_t)node;
        out->len = (size_t)msock_stun_encode_request(&txid, r->nodes[node].stun_plain, out->bytes,
                                                     sizeof out->bytes);
        h->stats.probes_sent++;
        return true;
      }
    }
  }
  return false;
}

static bool next_name(msock_home *h, msock_home_output *out) {
  size_t region = 0, node = 0;
  if (!home_nodes_next_name(h, &region, &node)) {
    return false;
  }
  const msock_derp_node *n = &h->map.regions[region].nodes[node];
  h->regions[region].nodes[node].name = NAME_ASKED;
  out->kind = MSOCK_HOME_RESOLVE;
  out->id = home_question_id(h, QUESTION_NAME, region, node);
  out->region = h->map.regions[region].id;
  out->node = (uint32_t)node;
  memcpy(out->host, n->host_name, sizeof out->host);
  return true;
}

bool msock_home_next_output(msock_home *h, uint64_t now_us, msock_home_output *out) {
  *out = (msock_home_output){0};
  if (h->home_changed) {
    h->home_changed = false;
    out->kind = MSOCK_HOME_CHANGED;
    out->region = h->home;
    return true;
  }
  if (h->n_reflexive > 0) { /* before the report that has them */
    out->kind = MSOCK_HOME_REFLEXIVE;
    out->addr = h->reflexive[0].server;
    out->mapped = h->reflexive[0].mapped;
    memmove(&h->reflexive[0], &h->reflexive[1], --h->n_reflexive * sizeof *h->reflexive);
    return true;
  }
  if (h->report_filed) {
    h->report_filed = false;
    out->kind = MSOCK_HOME_REPORT;
    return true;
  }
  if (h->phase == PHASE_IDLE) {
    return false;
  }
  return next_name(h, out) || next_stun(h, now_us, out) || home_captive_next(h, now_us, out) ||
         (h->phase == PHASE_HTTPS && home_https_next(h, now_us, out));
}

msock_region_id msock_home_region(const msock_home *h) {
  return h->home;
}

const msock_derp_map *msock_home_map(const msock_home *h) {
  return &h->map;
}

const msock_home_report *msock_home_report_of(const msock_home *h) {
  return &h->report;
}

static size_t add_reflexive(const msock_addr *first, const msock_home_counter *counters, size_t n,
                            msock_addr *out, size_t count, size_t cap) {
  if (first->ip.family != 0 && count < cap) {
    out[count++] = *first;
  }
  for (size_t i = 0; i < n && count < cap; i++) {
    if (counters[i].n > 1 && !msock_addr_equal(&counters[i].addr, first)) {
      out[count++] = counters[i].addr;
    }
  }
  return count;
}

size_t msock_home_reflexive(const msock_home_report *r, msock_addr *out, size_t cap) {
  const size_t n = add_reflexive(&r->global_v4, r->v4_counters, r->n_v4_counters, out, 0, cap);
  return add_reflexive(&r->global_v6, r->v6_counters, r->n_v6_counters, out, n, cap);
}

msock_home_stats msock_home_get_stats(const msock_home *h) {
  msock_home_stats s = h->stats;
  s.rx_unknown = h->inflight.unknown;
  s.rx_wrong_source = h->inflight.wrong_source;
  return s;
}
