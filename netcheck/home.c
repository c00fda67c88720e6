#include "netcheck/home.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "netcheck/home_internal.h"

/* Timers. (R) = the reference's, netcheck.md 2.2 and 2.3; (P) = ours, for a quick join. */
#define STUN_SILENCE_US (1000u * MSOCK_MS) /* (P) no answer: TCP connects as well */
#define STUN_LIMIT_US (3000u * MSOCK_MS)   /* (R) */
#define ROUND_LIMIT_US (5000u * MSOCK_MS)  /* (R) */
#define DECIDE_MIN_US (20u * MSOCK_MS)     /* (P) after the first STUN answer, */
#define DECIDE_MAX_US (100u * MSOCK_MS)    /* (P) twice its latency within these */
#define DECIDE_TCP_US (50u * MSOCK_MS)     /* (P) after the first TCP connect */
#define GAP_MIN_US (20u * MSOCK_SEC)       /* (R) between rounds */
#define GAP_MAX_US (26u * MSOCK_SEC)       /* (R) */
#define FULL_EVERY_US (300u * MSOCK_SEC)   /* (R) */
#define HISTORY_US (305u * MSOCK_SEC)      /* (R) */
#define ENOUGH_REGIONS 3u                  /* (R) measured regions that start the stop timer */
#define TCP_OPEN_MAX 16u                   /* (P) connects at once; the others wait */

/* A score may be any number: latencies times score end here. */
#define SCALED_MAX_US (3600u * MSOCK_SEC)

/* Question ids: epoch, kind, region, node. */
#define ID_NODE_BITS 4u
#define ID_REGION_BITS 8u
#define ID_TCP (1u << (ID_NODE_BITS + ID_REGION_BITS))
#define ID_EPOCH_SHIFT (ID_NODE_BITS + ID_REGION_BITS + 1u)

static uint32_t question_id(uint32_t epoch, bool tcp, size_t region, size_t node) {
  return epoch << ID_EPOCH_SHIFT | (tcp ? ID_TCP : 0) | (uint32_t)(region << ID_NODE_BITS) |
         (uint32_t)node;
}

/* Splits an id; false when it is of another epoch or kind, or out of range. */
static bool read_id(const msock_home *h, uint32_t id, bool tcp, size_t *region, size_t *node) {
  *node = id & ((1u << ID_NODE_BITS) - 1u);
  *region = id >> ID_NODE_BITS & ((1u << ID_REGION_BITS) - 1u);
  return id == question_id(tcp ? h->tcp_epoch : h->name_epoch, tcp, *region, *node) &&
         *region < h->map.n_regions && *node < h->map.regions[*region].n_nodes;
}

msock_home *msock_home_new(const msock_home_config *config) {
  msock_home *h = calloc(1, sizeof *h);
  if (h) {
    h->config = *config;
    h->control_up = true;
    h->last_full_us = h->next_round_us = h->decide_us = h->stop_us = MSOCK_NEVER;
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
  return smaller(smaller(r->v4_us, r->v6_us), r->tcp_us);
}

static size_t index_of(const msock_home *h, msock_region_id id) {
  size_t i = 0;
  while (i < h->map.n_regions && h->map.regions[i].id != id) {
    i++;
  }
  return i;
}

/* No home, or one that the map does not have any more. */
static bool needs_home(const msock_home *h) {
  return h->home == 0 || index_of(h, h->home) == h->map.n_regions;
}

/* The choice. */

static uint64_t scale(uint64_t us, double score) {
  if (us == 0 || !(score > 0)) {
    return us;
  }
  const double scaled = (double)us * score;
  return scaled < 1 ? 1 : scaled < (double)SCALED_MAX_US ? (uint64_t)scaled : SCALED_MAX_US;
}

static uint64_t best_of(const home_region *r, uint64_t now_us) {
  uint64_t best = latency_of(r);
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
                                   .can_be_home = home_region_eligible(r),
                                   .now_us = scale(latency_of(s), r->score),
                                   .best_us = scale(best_of(s, now_us), r->score),
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
  msock_choice_region in[MSOCK_DERP_REGIONS_MAX] = {0};
  const size_t n = choice_input(h, now_us, in);

  h->decide_us = MSOCK_NEVER;
  h->now.at_us = now_us;
  h->now.final = final;
  h->now.preferred = msock_choice_pick(in, n, h->home, now_us - h->round_us);
  h->now.n_regions = n;
  for (size_t i = 0; i < n; i++) {
    const home_region *s = &h->regions[i];
    h->now.regions[i] =
        (msock_home_latency){h->map.regions[i].id, latency_of(s), s->v4_us, s->v6_us, s->tcp_us};
  }
  if (needs_home(h)) {
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

static void make_plan(msock_home *h) {
  msock_plan_region in[MSOCK_DERP_REGIONS_MAX];
  msock_plan_set sets[2 * MSOCK_DERP_REGIONS_MAX];
  for (size_t i = 0; i < h->map.n_regions; i++) {
    const bool probe = !h->config.no_stun && !h->map.regions[i].no_measure_no_home;
    in[i] = (msock_plan_region){.v4 = probe && home_nodes_have_stun(h, i, 4),
                                .v6 = probe && h->config.ipv6 && home_nodes_have_stun(h, i, 6),
                                .home = h->map.regions[i].id == h->home,
                                .last_us = h->regions[i].last_us};
  }
  h->n_sets = h->full ? msock_plan_full(in, h->map.n_regions, sets)
                      : msock_plan_incremental(in, h->map.n_regions, h->had_v4, h->had_v6, sets);
  for (size_t i = 0; i < h->n_sets; i++) {
    h->sets[i] = (home_set){.plan = sets[i]};
    home_nodes_want(h, sets[i].region, false, h->full);
  }
}

static void begin_round(msock_home *h, uint64_t now_us) {
  h->full =
      h->full_wanted || h->last_full_us == MSOCK_NEVER || now_us - h->last_full_us >= FULL_EVERY_US;
  if (h->full) {
    h->last_full_us = now_us;
  }
  h->full_wanted = h->again = false;
  h->phase = PHASE_STUN;
  h->round_us = now_us;
  h->next_round_us = h->decide_us = h->stop_us = MSOCK_NEVER;
  h->tcp_epoch++;
  h->now = (msock_home_report){0};
  for (size_t i = 0; i < h->map.n_regions; i++) {
    home_region *r = &h->regions[i];
    r->v4_us = r->v6_us = r->tcp_us = 0;
    r->tcp = TCP_IDLE;
  }
  make_plan(h);
  h->stats.rounds++;
}

static void end_round(msock_home *h) {
  h->phase = PHASE_IDLE;
  h->decide_us = h->stop_us = h->next_round_us = MSOCK_NEVER;
  h->n_sets = 0;
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
  h->next_round_us = now_us;
  if (!h->again) {
    h->next_round_us += GAP_MIN_US + msock_env_uniform(&h->config.env, GAP_MAX_US - GAP_MIN_US + 1);
  }
}

static void start_tcp(msock_home *h) {
  h->phase = PHASE_TCP;
  for (size_t i = 0; i < h->map.n_regions; i++) {
    const bool eligible = home_region_eligible(&h->map.regions[i]);
    h->regions[i].tcp = eligible ? TCP_WANTED : TCP_DONE;
    h->regions[i].tcp_node = 0;
    if (eligible) {
      home_nodes_want(h, i, true, false);
    }
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

/* Moves regions to a node with an address; gives how many are still open. */
static size_t close_dead_regions(msock_home *h) {
  size_t open = 0;
  for (size_t i = 0; i < h->map.n_regions; i++) {
    home_region *r = &h->regions[i];
    msock_addr addr;
    while (r->tcp == TCP_WANTED && r->tcp_node < h->map.regions[i].n_nodes &&
           home_nodes_relay(h, i, r->tcp_node, &addr) == ADDRESS_NEVER) {
      r->tcp_node++;
    }
    if (r->tcp == TCP_WANTED && r->tcp_node == h->map.regions[i].n_nodes) {
      r->tcp = TCP_DONE;
    }
    open += r->tcp == TCP_WANTED || r->tcp == TCP_ASKED;
  }
  return open;
}

/* Brings the round to where time and answers allow. Called at the end of every input. */
static void advance(msock_home *h, uint64_t now_us) {
  if (h->phase == PHASE_IDLE && h->running && h->map.n_regions > 0 && h->next_round_us <= now_us) {
    begin_round(h, now_us);
  }
  if (h->phase == PHASE_IDLE) {
    return;
  }
  const size_t open = close_dead_sets(h);
  const uint64_t age_us = now_us - h->round_us;
  if (h->phase == PHASE_STUN && !h->now.udp && (open == 0 || age_us >= STUN_SILENCE_US)) {
    start_tcp(h);
  }
  const bool stun_over =
      h->now.udp && (open == 0 || now_us >= h->stop_us || age_us >= STUN_LIMIT_US);
  const bool tcp_over =
      h->phase == PHASE_TCP && (close_dead_regions(h) == 0 || age_us >= ROUND_LIMIT_US);
  if (stun_over || tcp_over) {
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
    advance(h, now_us);
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
  fresh->sets = calloc(2 * map->n_regions + 1, sizeof *fresh->sets);
  if (!fresh->regions || !fresh->nodes || !fresh->sets) {
    return false;
  }
  home_node *at = fresh->nodes;
  for (size_t i = 0; i < map->n_regions; i++) {
    const size_t was = index_of(old, map->regions[i].id);
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
  msock_home fresh = {0}; /* only what belongs to the map */
  const msock_derp_map *to = map ? map : &none;

  if (!is_sound(to)) {
    return MSOCK_ERR_INVALID;
  }
  if (same_map(to, &h->map) && h->regions) {
    return MSOCK_OK;
  }
  if (msock_derp_map_copy(&fresh.map, to) != MSOCK_OK || !make_states(&fresh, h)) {
    free_map(&fresh);
    return MSOCK_ERR_NOMEM;
  }
  free_map(h);
  h->map = fresh.map;
  h->regions = fresh.regions;
  h->nodes = fresh.nodes;
  h->sets = fresh.sets;
  h->name_epoch++;
  home_nodes_reset(h);
  restart(h, now_us);
  return MSOCK_OK;
}

void msock_home_start(msock_home *h, uint64_t now_us) {
  if (!h->running) {
    h->running = true;
    restart(h, now_us);
  }
}

void msock_home_stop(msock_home *h) {
  h->running = false;
  end_round(h);
  h->home_changed = h->report_filed = false;
}

void msock_home_probe(msock_home *h, uint64_t now_us) {
  h->full_wanted = true;
  if (h->phase != PHASE_IDLE) {
    h->again = true;
  } else if (h->running) {
    h->next_round_us = now_us;
    advance(h, now_us);
  }
}

void msock_home_link_changed(msock_home *h, uint64_t now_us) {
  for (size_t i = 0; i < h->map.n_regions; i++) {
    h->regions[i].n_history = 0;
    h->regions[i].last_us = 0;
    h->regions[i].heard_us = MSOCK_NEVER;
  }
  h->name_epoch++;
  h->had_v4 = h->had_v6 = false;
  home_nodes_reset(h);
  restart(h, now_us);
}

void msock_home_set_control_up(msock_home *h, bool up) {
  h->control_up = up;
}

static void note_mapping(msock_home *h, const msock_addr *server, const msock_addr *mapped) {
  msock_home_report *r = &h->now;
  if (mapped->ip.family == 6) {
    r->ipv6 = true;
    r->global_v6 = *mapped;
    return;
  }
  if (!r->ipv4) {
    r->ipv4 = true;
    r->global_v4 = *mapped;
    h->first_v4_server = *server;
  } else if (!msock_addr_equal(&r->global_v4, mapped)) {
    r->mapping_varies = MSOCK_TRISTATE_TRUE;
  } else if (r->mapping_varies == MSOCK_TRISTATE_UNKNOWN &&
             !msock_ip_equal(&h->first_v4_server.ip, &server->ip)) {
    r->mapping_varies = MSOCK_TRISTATE_FALSE;
  }
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
  if (first && needs_home(h)) {
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
    advance(h, now_us);
  } else {
    h->stats.rx_malformed++;
  }
  return true;
}

void msock_home_on_resolved(msock_home *h, uint64_t now_us, uint32_t id, const msock_ip *ips,
                            size_t n) {
  size_t region = 0, node = 0;
  if (!read_id(h, id, false, &region, &node)) {
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
  advance(h, now_us);
}

void msock_home_on_tcp_result(msock_home *h, uint64_t now_us, uint32_t id, bool ok) {
  size_t region = 0, node = 0;
  if (!read_id(h, id, true, &region, &node) || h->regions[region].tcp != TCP_ASKED ||
      h->regions[region].tcp_node != node) {
    return;
  }
  home_region *r = &h->regions[region];
  if (ok) {
    r->tcp_us = now_us > r->tcp_sent_us ? now_us - r->tcp_sent_us : 1;
    r->tcp = TCP_DONE;
    if (needs_home(h) && h->decide_us == MSOCK_NEVER) {
      h->decide_us = now_us + DECIDE_TCP_US;
    }
  } else {
    r->tcp = TCP_WANTED;
    r->tcp_node++;
  }
  advance(h, now_us);
}

void msock_home_on_derp_frame(msock_home *h, uint64_t now_us, msock_region_id region) {
  const size_t i = index_of(h, region);
  if (i < h->map.n_regions) {
    h->regions[i].heard_us = now_us;
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
  if (h->phase == PHASE_TCP) {
    at = earlier(at, h->round_us + ROUND_LIMIT_US);
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
  advance(h, now_us);
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

static bool next_tcp(msock_home *h, uint64_t now_us, msock_home_output *out) {
  size_t open = 0;
  for (size_t i = 0; i < h->map.n_regions; i++) {
    open += h->regions[i].tcp == TCP_ASKED;
  }
  for (size_t i = 0; i < h->map.n_regions && open < TCP_OPEN_MAX; i++) {
    home_region *r = &h->regions[i];
    if (r->tcp == TCP_WANTED && home_nodes_relay(h, i, r->tcp_node, &out->addr) == ADDRESS_KNOWN) {
      r->tcp = TCP_ASKED;
      r->tcp_sent_us = now_us;
      out->kind = MSOCK_HOME_TCP_PROBE;
      out->id = question_id(h->tcp_epoch, true, i, r->tcp_node);
      out->region = h->map.regions[i].id;
      out->node = (uint32_t)r->tcp_node;
      return true;
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
  out->id = question_id(h->name_epoch, false, region, node);
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
  if (h->report_filed) {
    h->report_filed = false;
    out->kind = MSOCK_HOME_REPORT;
    return true;
  }
  if (h->phase == PHASE_IDLE) {
    return false;
  }
  return next_name(h, out) || next_stun(h, now_us, out) ||
         (h->phase == PHASE_TCP && next_tcp(h, now_us, out));
}

msock_region_id msock_home_region(const msock_home *h) {
  return h->home;
}

const msock_home_report *msock_home_report_of(const msock_home *h) {
  return &h->report;
}

msock_home_stats msock_home_get_stats(const msock_home *h) {
  msock_home_stats s = h->stats;
  s.rx_unknown = h->inflight.unknown;
  s.rx_wrong_source = h->inflight.wrong_source;
  return s;
}
