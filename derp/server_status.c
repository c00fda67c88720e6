/* derp/server_status.c: what is now, for a status page and for metrics; and the drain, which walks
 * all connections in the same way. */
#include "derp/server_internal.h"

#define WINDOW_OLD_US (20 * MSOCK_SEC) /* rates of a window that ended longer ago are 0 */

msock_derp_server_stats msock_derp_server_get_stats(const msock_derp_server *s) {
  msock_derp_server_stats out = s->stats;
  out.memory_bytes = s->pool.used;
  out.half_open = s->n_half;
  out.keys_idle = s->n_idle_keys;

  out.watchers = s->n_watchers;
  out.bans = s->bans.n;
  return out;
}

static uint64_t memory_of(const relay_conn *c) {
  const uint64_t rx = c->rx != NULL ? c->rx->cap : 0;
  return rx + c->notices.bytes + c->disco.bytes + c->data.bytes + c->out.bytes;
}

static void describe(const relay_conn *c, uint64_t now_us, msock_derp_server_peer *out) {
  const bool is_old = now_us - c->window_us > WINDOW_OLD_US;
  *out = (msock_derp_server_peer){
      .conn = c->id,
      .key = c->key->key,
      .from = c->from,
      .since_us = c->since_us,
      .is_home = c->is_home,
      .is_not_ideal = c->is_not_ideal,
      .is_mesh = c->is_mesh,
      .is_watcher = c->is_watcher,
      .is_prober = c->is_prober,
      .is_active = c->key->active == c,
      .conns = c->key->n_conns,
      .is_held = c->held,
      .is_over_quota = c->key->quota == RELAY_QUOTA_OVER,
      .queued = c->disco.n + c->data.n + c->out.n,
      .memory_bytes = memory_of(c),
      .bytes_in = c->bytes_in,
      .bytes_out = c->bytes_out,
      .packets_in = c->packets_in,
      .packets_out = c->packets_out,
      .dropped = c->dropped,
      .rate_in = is_old ? 0 : c->rate_in,
      .rate_out = is_old ? 0 : c->rate_out,
      .day_bytes = c->key->day_bytes,
      .month_bytes = c->key->month_bytes,
      .flows = c->key->n_flows,
  };
}

bool msock_derp_server_next_peer(const msock_derp_server *s, uint64_t now_us, uint32_t *cursor,
                                 msock_derp_server_peer *out) {
  while (*cursor < s->n_slots) {
    const relay_conn *c = s->slots[(*cursor)++].c;
    if (c != NULL && c->phase == RELAY_UP) {
      describe(c, now_us, out);
      return true;
    }
  }
  return false;
}

/* --- drain --- */

static uint64_t draw(const msock_derp_server *s, uint64_t spread) {
  return msock_env_uniform(s->env, spread + 1);
}

static void tell_restarting(msock_derp_server *s, relay_conn *c, const msock_derp_drain *d) {
  msock_derp_frame f = {.type = MSOCK_DERP_RESTARTING};
  f.u.restarting.reconnect_in_ms = d->reconnect_in_ms + (uint32_t)draw(s, d->reconnect_spread_ms);
  f.u.restarting.try_for_ms = d->try_for_ms;
  s->stats.restarting_sent += relay_notice_frame(s, c, &f);
}

void msock_derp_server_drain(msock_derp_server *s, uint64_t now_us, const msock_derp_drain *d) {
  if (s->is_draining) {
    return;
  }
  s->is_draining = true;
  for (uint32_t i = 0; i < s->n_slots; i++) {
    relay_conn *c = s->slots[i].c;
    if (c == NULL || c->dead || c->phase == RELAY_LEFT) {
      continue;
    }
    if (c->phase != RELAY_UP) {
      relay_kill(s, c, MSOCK_DERP_CAUSE_RESTART);
      continue;
    }
    tell_restarting(s, c, d);
    const uint64_t after_us = draw(s, d->spread_us);
    if (after_us == 0) {
      relay_finish(s, now_us, c, MSOCK_DERP_CAUSE_RESTART);
    } else {
      c->close_us = now_us + after_us;
      relay_arm(s, now_us, c);
    }
  }
}

bool msock_derp_server_is_draining(const msock_derp_server *s) {
  return s->is_draining;
}
