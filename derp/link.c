#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/wipe.h"
#include "derp/pool_internal.h"

/* ---- the table ---- */

/* Index of the region's link, or where it would be inserted. */
static size_t position(const msock_derp_pool *p, msock_region_id region) {
  size_t lo = 0;
  size_t hi = p->n_links;
  while (lo < hi) {
    const size_t mid = (lo + hi) / 2;
    if (p->links[mid]->region < region) {
      lo = mid + 1;
    } else {
      hi = mid;
    }
  }
  return lo;
}

msock_derp_link *msock_derp_link_find(const msock_derp_pool *p, msock_region_id region) {
  const size_t i = position(p, region);
  return i < p->n_links && p->links[i]->region == region ? p->links[i] : NULL;
}

msock_derp_link *msock_derp_link_get(msock_derp_pool *p, msock_region_id region) {
  msock_derp_link *l = msock_derp_link_find(p, region);
  if (l != NULL) {
    return l;
  }
  if (!p->has_map || msock_derp_map_find(&p->map, region) == NULL ||
      p->n_links == MSOCK_DERP_REGIONS_MAX) {
    return NULL;
  }
  if (p->n_links == p->cap_links) {
    const size_t cap = p->cap_links == 0 ? 4 : 2 * p->cap_links;
    msock_derp_link **bigger = realloc(p->links, cap * sizeof *bigger);
    if (bigger == NULL) {
      return NULL;
    }
    p->links = bigger;
    p->cap_links = cap;
  }
  l = calloc(1, sizeof *l);
  if (l == NULL) {
    return NULL;
  }
  l->region = region;
  const size_t at = position(p, region);
  memmove(&p->links[at + 1], &p->links[at], (p->n_links - at) * sizeof *p->links);
  p->links[at] = l;
  p->n_links++;
  return l;
}

msock_derp_link *msock_derp_link_by_conn(const msock_derp_pool *p, msock_derp_conn_id id) {
  for (size_t i = 0; id != 0 && i < p->n_links; i++) {
    if (p->links[i]->conn == id) {
      return p->links[i];
    }
  }
  return NULL;
}

/* ---- small parts ---- */

static const char *state_name(msock_derp_region_state s) {
  static const char *const names[] = {"idle", "waiting", "dialing", "login", "open"};
  return names[s];
}

static void set_state(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us,
                      msock_derp_region_state s) {
  if (l->state == s) {
    return;
  }
  msock_logf(p->env->log, MSOCK_LOG_DEBUG, "derp.state",
             "region=%" PRIu64 " from=%s to=%s conn=%" PRIu64, l->region, state_name(l->state),
             state_name(s), l->conn);
  l->state = s;
  l->since_us = now_us;
  p->dirty = true;
}

bool msock_derp_link_is_home(const msock_derp_pool *p, const msock_derp_link *l) {
  return p->home == l->region;
}

bool msock_derp_link_is_usable(const msock_derp_link *l) {
  return l->client != NULL && msock_derp_client_is_logged_in(l->client);
}

static bool is_wanted(const msock_derp_pool *p, const msock_derp_link *l, uint64_t now_us) {
  return msock_derp_link_is_home(p, l) ||
         (l->last_write_us != 0 && now_us - l->last_write_us < MSOCK_DERP_IDLE_US);
}

static bool may_dial(const msock_derp_pool *p) {
  return p->has_map && p->has_key && p->network_up;
}

static void add_counters(msock_derp_client_counters *sum, const msock_derp_client_counters *c) {
  sum->tx_packets += c->tx_packets;
  sum->tx_bytes += c->tx_bytes;
  sum->rx_packets += c->rx_packets;
  sum->rx_bytes += c->rx_bytes;
  sum->tx_drop_rate += c->tx_drop_rate;
  sum->rx_frames += c->rx_frames;
  sum->rx_short += c->rx_short;
  sum->rx_unknown += c->rx_unknown;
  sum->rx_keep_alive += c->rx_keep_alive;
  sum->rx_ping += c->rx_ping;
}

msock_derp_client_counters msock_derp_link_counters(const msock_derp_link *l) {
  msock_derp_client_counters sum = l->total;
  if (l->client != NULL) {
    add_counters(&sum, msock_derp_client_get_counters(l->client));
  }
  return sum;
}

/* Gives the connection up: learned routes go with it. */
static void drop_conn(msock_derp_pool *p, msock_derp_link *l, bool tell_shell) {
  if (l->client != NULL) {
    add_counters(&l->total, msock_derp_client_get_counters(l->client));
    msock_derp_client_free(l->client);
    l->client = NULL;
    msock_derp_routes_drop_conn(&p->routes, l->conn);
  }
  if (p->fed == l) {
    p->fed = NULL;
  }
  if (l->conn != 0 && tell_shell && !l->dial_due && p->n_closes < MSOCK_DERP_REGIONS_MAX) {
    p->closes[p->n_closes++] = l->conn;
  }
  l->conn = 0;
  l->dial_due = false;
  l->write_told = false;
}

void msock_derp_link_remove(msock_derp_pool *p, size_t index) {
  msock_derp_link *l = p->links[index];
  drop_conn(p, l, true);
  msock_derp_queue_clear(&l->queue);
  free(l);
  p->n_links--;
  memmove(&p->links[index], &p->links[index + 1], (p->n_links - index) * sizeof *p->links);
  p->dirty = true;
}

static void go_idle(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us) {
  msock_derp_queue_clear(&l->queue);
  set_state(p, l, now_us, MSOCK_DERP_REGION_IDLE);
}

static void report_down(msock_derp_pool *p, msock_derp_link *l, const char *error, bool was_up) {
  snprintf(l->last_error, sizeof l->last_error, "%s", error);
  l->pending = (l->pending & ~MSOCK_DERP_PENDING_UP) | MSOCK_DERP_PENDING_DOWN;
  l->down_was_up = was_up;
  p->dirty = true;
  msock_derp_link_set_health(p, l, "", 0);
  msock_logf(p->env->log, was_up ? MSOCK_LOG_INFO : MSOCK_LOG_DEBUG, "derp.down",
             "region=%" PRIu64 " was_up=%d failures=%" PRIu32 " error=\"%s\"", l->region, was_up,
             l->backoff.failures, error);
}

/* ---- attempts ---- */

void msock_derp_link_dial(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us) {
  if (!may_dial(p)) {
    l->retry_at_us = MSOCK_NEVER;
    set_state(p, l, now_us, MSOCK_DERP_REGION_WAITING);
    return;
  }
  l->attempt_deadline_us = now_us + MSOCK_DERP_CONNECT_BUDGET_US;
  l->first_error[0] = '\0';
  l->node = SIZE_MAX; /* next_node steps to 0 */
  msock_derp_link_next_node(p, l, now_us, NULL);
}

/* Why a node cannot be dialled at all; NULL when it can. */
static const char *node_obstacle(const msock_derp_pool *p, const msock_derp_node *n) {
  msock_derp_check check;
  if (msock_derp_check_make(n, &check) != MSOCK_OK) {
    return "malformed certificate pin in the map";
  }
  return msock_derp_dial_plan_make(n, p->v6_allowed, p->v6_works).n == 0
             ? "no address family of the node is enabled"
             : NULL;
}

void msock_derp_link_next_node(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us,
                               const char *error) {
  const msock_derp_region *r = msock_derp_map_find(&p->map, l->region);
  for (size_t i = l->node + 1; r != NULL && i < r->n_nodes; i++) {
    if (error != NULL && l->first_error[0] == '\0') { /* the first node's error is reported */
      snprintf(l->first_error, sizeof l->first_error, "%s", error);
    }
    if (r->nodes[i].stun_only) {
      continue;
    }
    error = node_obstacle(p, &r->nodes[i]);
    if (error == NULL) {
      l->node = i;
      l->conn = ++p->last_conn;
      l->dial_due = true;
      set_state(p, l, now_us, MSOCK_DERP_REGION_DIALING);
      return;
    }
  }
  l->conn = 0;
  msock_derp_link_lost(p, l, now_us, error != NULL ? error : "region has no relay node", false);
}

void msock_derp_link_up(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us,
                        const msock_derp_conn_info *info) {
  const msock_derp_region *r = msock_derp_map_find(&p->map, l->region);
  msock_derp_client_cfg cfg = {
      .key = p->key,
      .fast_start = info->is_tls13 && info->has_meta_key && !l->no_fast_start,
      .server_key = info->meta_key,
      .preferred = msock_derp_link_is_home(p, l),
      .info = msock_derp_client_info_default(),
      .queue = &l->queue,
  };
  msock_derp_host_header(&r->nodes[l->node], cfg.host, sizeof cfg.host);
  if (l->node != 0) {
    memcpy(cfg.ideal_node, r->nodes[0].name, sizeof cfg.ideal_node);
  }
  l->client = msock_derp_client_new(p->env, &cfg, now_us);
  msock_wipe(&cfg, sizeof cfg);
  if (l->client == NULL) {
    msock_derp_link_lost(p, l, now_us, "cannot make the upgrade request", true);
    return;
  }
  l->local = info->local;
  l->write_told = false;
  set_state(p, l, now_us, MSOCK_DERP_REGION_LOGIN);
}

void msock_derp_link_opened(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us) {
  l->opened_at_us = now_us;
  l->restart_until_us = 0;
  l->restart_heard_us = 0;
  l->pending |= MSOCK_DERP_PENDING_UP;
  p->counters.logins++;
  set_state(p, l, now_us, MSOCK_DERP_REGION_OPEN);
  msock_logf(p->env->log, MSOCK_LOG_INFO, "derp.up", "region=%" PRIu64 " node=%zu home=%d",
             l->region, l->node, msock_derp_link_is_home(p, l));
}

/* ---- endings ---- */

static uint64_t backoff(const msock_derp_pool *p, msock_derp_link *l, uint64_t now_us) {
  if (l->backoff.failures == 0) {
    l->outage_us = now_us;
  }
  l->backoff.cap_us = now_us - l->outage_us < MSOCK_DERP_BACKOFF_YOUNG_US
                          ? MSOCK_DERP_BACKOFF_CAP_YOUNG_US
                          : MSOCK_DERP_BACKOFF_CAP_US;
  return msock_backoff_next(&l->backoff, p->env, 0);
}

/* When to try again after a loss: what the server asked for, else the back-off. */
static void plan_retry(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us) {
  const bool noticed =
      l->restart_heard_us != 0 && now_us - l->restart_heard_us <= MSOCK_DERP_RESTART_NOTICE_US;
  l->restart_heard_us = 0;
  if (noticed) {
    msock_backoff_reset(&l->backoff);
    l->retry_at_us = now_us + l->restart_wait_us;
    l->restart_until_us = l->retry_at_us + l->restart_try_us;
  } else {
    l->retry_at_us = now_us + backoff(p, l, now_us);
  }
}

void msock_derp_link_lost(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us,
                          const char *error, bool tell_shell) {
  const bool was_up = l->state == MSOCK_DERP_REGION_OPEN;
  drop_conn(p, l, tell_shell);
  if (was_up) {
    p->counters.losses++;
    if (now_us - l->opened_at_us >= MSOCK_DERP_BACKOFF_RESET_US) {
      msock_backoff_reset(&l->backoff);
    }
  } else {
    p->counters.failures++;
  }
  plan_retry(p, l, now_us);
  if (was_up && now_us >= l->restart_until_us) {
    p->reprobe = true;
  }
  report_down(p, l, l->first_error[0] != '\0' ? l->first_error : error, was_up);
  l->first_error[0] = '\0';
  if (is_wanted(p, l, now_us)) {
    set_state(p, l, now_us, MSOCK_DERP_REGION_WAITING);
  } else {
    go_idle(p, l, now_us);
  }
}

void msock_derp_link_client_closed(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us,
                                   const msock_derp_event *ev, bool tell_shell) {
  char text[64];
  const msock_derp_closed reason = ev->u.closed.reason;
  snprintf(text, sizeof text, "%s", msock_derp_closed_text(reason));
  if (reason == MSOCK_DERP_CLOSED_HTTP_STATUS || reason == MSOCK_DERP_CLOSED_FAST_HTTP) {
    snprintf(text, sizeof text, "%s: status %d", msock_derp_closed_text(reason),
             ev->u.closed.http_status);
  }
  if (reason == MSOCK_DERP_CLOSED_FAST_HTTP && !l->no_fast_start) {
    p->counters.fast_start_http++; /* derp.md 1.4: once more, at once, without it */
    l->no_fast_start = true;
    drop_conn(p, l, tell_shell);
    snprintf(l->last_error, sizeof l->last_error, "%s", text);
    msock_derp_link_dial(p, l, now_us);
    return;
  }
  msock_derp_link_lost(p, l, now_us, text, tell_shell);
}

void msock_derp_link_stop(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us, const char *why,
                          bool keep_queue) {
  const bool was_up = l->state == MSOCK_DERP_REGION_OPEN;
  drop_conn(p, l, true);
  if (was_up) {
    report_down(p, l, why, true);
  }
  l->restart_heard_us = 0;
  l->restart_until_us = 0;
  msock_backoff_reset(&l->backoff);
  if (keep_queue) {
    set_state(p, l, now_us, MSOCK_DERP_REGION_IDLE);
  } else {
    go_idle(p, l, now_us);
  }
}

/* ---- what the server says ---- */

void msock_derp_link_restarting(msock_derp_link *l, uint64_t now_us, uint32_t reconnect_in_ms,
                                uint32_t try_for_ms) {
  const uint64_t wait_us = reconnect_in_ms * MSOCK_MS;
  const uint64_t try_us = try_for_ms * MSOCK_MS;
  l->restart_heard_us = now_us;
  l->restart_wait_us =
      wait_us < MSOCK_DERP_RESTART_WAIT_MAX_US ? wait_us : MSOCK_DERP_RESTART_WAIT_MAX_US;
  l->restart_try_us =
      try_us < MSOCK_DERP_RESTART_TRY_MAX_US ? try_us : MSOCK_DERP_RESTART_TRY_MAX_US;
}

/* Length of the UTF-8 sequence at s, 0 when it is not one. Overlong forms and surrogates do no harm
 * in a status line and are left to the terminal. */
static size_t utf8_len(const uint8_t *s, size_t left) {
  const size_t n = s[0] >= 0xf0 && s[0] < 0xf5   ? 4
                   : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
                   : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
                                                 : 0;
  for (size_t i = 1; i < n; i++) {
    if (i >= left || (s[i] & 0xc0) != 0x80) {
      return 0;
    }
  }
  return n;
}

void msock_derp_link_set_health(msock_derp_pool *p, msock_derp_link *l, const char *text,
                                size_t len) {
  const uint8_t *s = (const uint8_t *)text;
  size_t at = 0;
  if (len == 0 && l->health[0] == '\0') {
    return;
  }
  for (size_t i = 0; i < len;) {
    const size_t n = s[i] < 0x80 ? 1 : utf8_len(s + i, len - i);
    const size_t step = n == 0 ? 1 : n;
    if (at + step >= sizeof l->health) {
      break;
    }
    if (n == 0 || (n == 1 && (s[i] < 0x20 || s[i] == 0x7f))) {
      l->health[at] = '?';
    } else {
      memcpy(l->health + at, s + i, n);
    }
    at += step;
    i += step;
  }
  l->health[at] = '\0';
  l->pending |= MSOCK_DERP_PENDING_HEALTH;
  p->dirty = true;
}

/* ---- network and time ---- */

void msock_derp_link_rebind(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us, bool gone) {
  switch (l->state) {
  case MSOCK_DERP_REGION_IDLE:
    return;
  case MSOCK_DERP_REGION_WAITING:
    if (now_us >= l->restart_until_us) { /* a restarting server gets the time it asked for */
      msock_derp_link_dial(p, l, now_us);
    }
    return;
  case MSOCK_DERP_REGION_DIALING:
    drop_conn(p, l, true);
    msock_derp_link_dial(p, l, now_us);
    return;
  case MSOCK_DERP_REGION_LOGIN:
  case MSOCK_DERP_REGION_OPEN:
    break;
  }
  if (!gone && msock_derp_client_ping(l->client, now_us, MSOCK_DERP_REBIND_PING_US) == MSOCK_OK) {
    return;
  }
  msock_derp_link_stop(p, l, now_us, "network changed", true);
  if (msock_derp_link_is_home(p, l) || !msock_derp_queue_is_empty(&l->queue)) {
    msock_derp_link_dial(p, l, now_us);
  } else {
    go_idle(p, l, now_us);
  }
}

/* The connect budget runs until ClientInfo is on its way. */
static bool in_budget_phase(const msock_derp_link *l) {
  return l->state == MSOCK_DERP_REGION_DIALING ||
         (l->state == MSOCK_DERP_REGION_LOGIN && !msock_derp_link_is_usable(l));
}

uint64_t msock_derp_link_next_expiry(const msock_derp_link *l) {
  uint64_t at = MSOCK_NEVER;
  if (l->client != NULL) {
    at = msock_derp_client_next_expiry(l->client);
  }
  if (in_budget_phase(l) && l->attempt_deadline_us < at) {
    at = l->attempt_deadline_us;
  }
  if (l->state == MSOCK_DERP_REGION_WAITING && l->retry_at_us < at) {
    at = l->retry_at_us;
  }
  if (l->restart_until_us != 0 && l->restart_until_us < at) {
    at = l->restart_until_us;
  }
  return at;
}

void msock_derp_link_on_expiry(msock_derp_pool *p, msock_derp_link *l, uint64_t now_us) {
  msock_derp_event ev;
  if (l->restart_until_us != 0 && now_us >= l->restart_until_us) {
    l->restart_until_us = 0; /* the server did not come back in time: an ordinary loss now */
    p->reprobe = true;
    p->dirty = true;
  }
  if (l->client != NULL && !msock_derp_client_is_closed(l->client)) {
    msock_derp_client_on_expiry(l->client, now_us);
    if (msock_derp_client_is_closed(l->client) && msock_derp_client_next_event(l->client, &ev)) {
      msock_derp_link_client_closed(p, l, now_us, &ev, true);
      return;
    }
  }
  if (in_budget_phase(l) && now_us >= l->attempt_deadline_us) {
    msock_derp_link_lost(p, l, now_us, "connecting took too long", true);
  } else if (l->state == MSOCK_DERP_REGION_WAITING && now_us >= l->retry_at_us) {
    if (is_wanted(p, l, now_us)) {
      msock_derp_link_dial(p, l, now_us);
    } else {
      go_idle(p, l, now_us);
    }
  }
}
