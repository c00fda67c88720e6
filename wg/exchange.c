/* Handshake messages in and out (dataplane.md 3, 5). In: cheapest check first, and a DH only for
 * what got through the queue. Nothing is committed before the timestamp, or the empty field of a
 * response, has opened. */
#include <string.h>

#include "base/log.h"
#include "crypto/wipe.h"
#include "crypto/x25519.h"
#include "wg/engine_internal.h"

static const uint8_t *fresh_cookie(const msock_wg_active *a, uint64_t now_us) {
  return a->cookie_us != MSOCK_NEVER &&
                 msock_wg_elapsed(now_us, a->cookie_us) < MSOCK_WG_COOKIE_LIFETIME_US
             ? a->cookie
             : NULL;
}

static void finish_macs(msock_wg_active *a, uint64_t now_us, uint8_t *msg, size_t len) {
  msock_wg_macs_write(msg, len, a->remote.mac1_key, fresh_cookie(a, now_us));
  memcpy(a->last_mac1, msg + len - MSOCK_WG_MACS_LEN, sizeof a->last_mac1);
  a->has_mac1 = true;
}

static void count_rx(msock_wg_peer *p, size_t len) {
  p->rx_packets++;
  p->rx_bytes += len;
}

static void count_tx(msock_wg_peer *p, size_t len) {
  p->tx_packets++;
  p->tx_bytes += len;
}

static void hint(msock_wg *wg, uint32_t peer_id, const msock_wg_source *source) {
  msock_wg_queue *q = &wg->hint_pos;
  if (q->count == MSOCK_WG_HINT_QUEUE_LEN) {
    q->head = (q->head + 1) % MSOCK_WG_HINT_QUEUE_LEN;
    q->count--;
    wg->counters.rx_hint_lost++;
  }
  wg->hints[(q->head + q->count++) % MSOCK_WG_HINT_QUEUE_LEN] =
      (msock_wg_hint){.source = *source, .peer_id = peer_id};
}

/* A cookie reply is believed by the mac1 that we sent last; the retransmission timer will use it
 * (WG-25: nothing is sent at once). */
static bool cookie_in(msock_wg *wg, uint64_t now_us, const uint8_t *msg, size_t len) {
  msock_wg_cookie_reply m;
  msock_wg_index_entry *e = NULL;

  if (msock_wg_cookie_reply_decode(msg, len, &m) == MSOCK_OK) {
    e = msock_wg_index_find(&wg->index, m.receiver);
  }
  if (e == NULL) {
    wg->counters.rx_unknown_index++;
    return false;
  }
  msock_wg_active *a = msock_wg_peers_get(&wg->peers, e->peer_id)->active;
  if (!a->has_mac1 ||
      msock_wg_cookie_open(a->remote.cookie_key, a->last_mac1, &m, a->cookie) != MSOCK_OK) {
    wg->counters.rx_cookie_fail++;
    return false;
  }
  a->cookie_us = now_us;
  wg->counters.rx_cookies++;
  return true;
}

static bool queue_reply(msock_wg *wg, const msock_wg_source *source, const uint8_t *msg,
                        size_t len) {
  msock_wg_queue *q = &wg->reply_pos;
  if (q->count == MSOCK_WG_COOKIE_QUEUE_LEN) {
    wg->counters.rx_cookie_queue_full++;
    return false;
  }
  msock_wg_reply_due *r = &wg->replies[(q->head + q->count++) % MSOCK_WG_COOKIE_QUEUE_LEN];
  r->source = *source;
  /* the sender index is at the same place in both messages */
  r->receiver =
      (uint32_t)msg[4] | (uint32_t)msg[5] << 8 | (uint32_t)msg[6] << 16 | (uint32_t)msg[7] << 24;
  memcpy(r->mac1, msg + len - MSOCK_WG_MACS_LEN, sizeof r->mac1);
  wg->counters.rx_under_load++;
  return true;
}

/* Under load only who can receive at its source, and not too often, gets a DH out of us. */
static bool passes_guard(msock_wg *wg, uint64_t now_us, const msock_wg_source *source,
                         const uint8_t *msg, size_t len) {
  if (!msock_wg_guard_observe(&wg->guard, now_us, wg->queue_pos.count)) {
    return true;
  }
  if (!msock_wg_guard_mac2_ok(&wg->guard, &wg->env, now_us, source, msg, len)) {
    queue_reply(wg, source, msg, len);
    return false;
  }
  if (!msock_wg_guard_allow(&wg->guard, now_us, source)) {
    wg->counters.rx_rate_limited++;
    return false;
  }
  return true;
}

/* The peer's active block if this response is awaited, else NULL. */
static msock_wg_active *awaits(msock_wg *wg, const msock_wg_response *m) {
  msock_wg_index_entry *e = msock_wg_index_find(&wg->index, m->receiver);
  return e != NULL && e->session == NULL ? msock_wg_peers_get(&wg->peers, e->peer_id)->active
                                         : NULL;
}

bool msock_wg_handshake_in(msock_wg *wg, uint64_t now_us, const msock_wg_source *source,
                           const uint8_t *msg, size_t len, uint8_t type) {
  msock_wg_response response;

  if (type == MSOCK_WG_TYPE_COOKIE) {
    return cookie_in(wg, now_us, msg, len);
  }
  if (!msock_wg_mac1_ok(wg->id.mac1_key, msg, len)) {
    wg->counters.rx_mac1_fail++;
    return false;
  }
  if (msock_wg_response_decode(msg, len, &response) == MSOCK_OK && awaits(wg, &response) == NULL) {
    wg->counters.rx_unknown_index++;
    return false;
  }
  if (!passes_guard(wg, now_us, source, msg, len)) {
    return false;
  }
  msock_wg_queue *q = &wg->queue_pos;
  if (q->count == MSOCK_WG_QUEUE_LEN) {
    wg->counters.rx_queue_full++;
    return false;
  }
  msock_wg_queued *slot = &wg->queue[(q->head + q->count++) % MSOCK_WG_QUEUE_LEN];
  slot->source = *source;
  slot->len = (uint8_t)len;
  memcpy(slot->msg, msg, len);
  return true;
}

/* The peer's session-to-be and the response; the initiation has been accepted. Wipes hs. */
static void answer(msock_wg *wg, uint64_t now_us, msock_wg_active *a, msock_wg_handshake *hs) {
  const msock_wg_peer *peer = msock_wg_peers_get(&wg->peers, a->peer_id);
  const uint32_t remote_index = hs->remote_index;
  msock_wg_response m;
  msock_wg_keys keys;
  uint8_t ephemeral[32];
  uint32_t index = 0;

  if (msock_wg_index_draw(&wg->index, &wg->env, a->peer_id, &index) != MSOCK_OK) {
    wg->counters.rx_no_memory++;
    msock_wipe(hs, sizeof *hs);
    return;
  }
  msock_x25519_generate(&wg->env, ephemeral);
  msock_wg_session *s = NULL;
  const msock_err e =
      msock_wg_response_make(hs, &a->remote, peer->psk, ephemeral, index, &m, &keys);
  if (e != MSOCK_OK) {
    wg->counters.rx_initiation_fail++;
  } else {
    s = msock_wg_session_new(&keys, now_us, index, remote_index, a->peer_id, false);
    wg->counters.rx_no_memory += s == NULL;
  }
  msock_wipe(ephemeral, sizeof ephemeral);
  msock_wipe(&keys, sizeof keys);
  if (s == NULL) {
    msock_wg_index_remove(&wg->index, index);
    return;
  }
  msock_wg_drop_session(wg, &a->next);
  a->next = s;
  msock_wg_index_find(&wg->index, index)->session = s;
  msock_wg_response_encode(&m, a->response);
  finish_macs(a, now_us, a->response, sizeof a->response);
  msock_wg_did_derive_session(wg, a, now_us);
  msock_wg_post(wg, a, MSOCK_WG_DO_RESPONSE);
  wg->counters.rx_initiations++;
}

/* Opens the timestamp and decides. NULL: dropped and counted, hs wiped. */
static msock_wg_active *accept_initiation(msock_wg *wg, uint64_t now_us, uint32_t peer_id,
                                          const msock_wg_initiation *m, msock_wg_handshake *hs) {
  msock_wg_peer *peer = msock_wg_peers_get(&wg->peers, peer_id);
  msock_wg_active *a = peer->active;
  uint8_t stamp[MSOCK_WG_TIMESTAMP_LEN];
  msock_wg_remote remote; /* a replayed message must not bring an idle peer's block back */

  msock_wg_remote_init(&remote, &wg->id, &peer->key);
  msock_err e = msock_wg_initiation_open_timestamp(&wg->id, a ? &a->remote : &remote, m, hs, stamp);
  if (e != MSOCK_OK) {
    wg->counters.rx_initiation_fail++;
  } else if (memcmp(stamp, peer->rx_stamp, sizeof stamp) <= 0) {
    wg->counters.rx_initiation_replay++;
    e = MSOCK_ERR_INVALID;
  } else if (a != NULL && a->accepted_us != MSOCK_NEVER &&
             msock_wg_elapsed(now_us, a->accepted_us) < MSOCK_WG_INITIATION_GAP_US) {
    wg->counters.rx_initiation_too_soon++;
    e = MSOCK_ERR_INVALID;
  } else if (a == NULL && (a = msock_wg_activate(wg, peer_id)) == NULL) {
    wg->counters.rx_no_memory++;
    e = MSOCK_ERR_NOMEM;
  } else {
    memcpy(peer->rx_stamp, stamp, sizeof stamp);
    a->accepted_us = now_us;
  }
  msock_wipe(&remote, sizeof remote);
  if (e != MSOCK_OK) {
    msock_wipe(hs, sizeof *hs);
    return NULL;
  }
  return a;
}

static void on_initiation(msock_wg *wg, uint64_t now_us, const msock_wg_queued *q,
                          const msock_wg_initiation *m) {
  msock_wg_handshake hs;
  msock_node_key who;

  if (msock_wg_initiation_open_static(&wg->id, m, &hs, &who) != MSOCK_OK) {
    wg->counters.rx_initiation_fail++;
    return;
  }
  const uint32_t peer_id = msock_wg_peers_find(&wg->peers, &who);
  if (peer_id == MSOCK_WG_PEER_NONE) {
    wg->counters.rx_unknown_peer++;
    msock_wipe(&hs, sizeof hs);
    return;
  }
  msock_wg_active *a = accept_initiation(wg, now_us, peer_id, m, &hs);
  if (a != NULL) {
    msock_wg_did_receive(a);
    count_rx(msock_wg_peers_get(&wg->peers, peer_id), q->len);
    hint(wg, peer_id, &q->source);
    answer(wg, now_us, a, &hs);
  }
}

/* Our session becomes current. Until our first packet under it is there the peer seals with
 * another: with the one that was heard last, or with a next that it began and has not used yet. */
static void install(msock_wg *wg, msock_wg_active *a, msock_wg_session *s) {
  if (a->previous != NULL && a->current != NULL && a->previous->heard_us > a->current->heard_us) {
    msock_wg_drop_session(wg, &a->current); /* handshakes crossed: each seals with its own */
  } else {
    msock_wg_drop_session(wg, &a->previous);
    a->previous = a->current;
  }
  a->current = s;
}

static void on_response(msock_wg *wg, uint64_t now_us, uint64_t wall_us, const msock_wg_queued *q,
                        const msock_wg_response *m) {
  msock_wg_active *a = awaits(wg, m);
  msock_wg_keys keys;

  if (a == NULL) { /* replaced while it was queued */
    wg->counters.rx_response_fail++;
    return;
  }
  msock_wg_peer *peer = msock_wg_peers_get(&wg->peers, a->peer_id);
  if (msock_wg_response_open(&wg->id, &a->handshake, peer->psk, m, &keys) != MSOCK_OK) {
    wg->counters.rx_response_fail++;
    return;
  }
  msock_wg_session *s =
      msock_wg_session_new(&keys, now_us, m->receiver, m->sender, a->peer_id, true);
  msock_wipe(&keys, sizeof keys);
  if (s == NULL) {
    wg->counters.rx_no_memory++;
    return;
  }
  /* the index goes from the handshake to the session */
  msock_wg_index_find(&wg->index, m->receiver)->session = s;
  a->waiting = false;
  msock_wipe(&a->handshake, sizeof a->handshake);
  install(wg, a, s);
  msock_wg_did_receive(a);
  msock_wg_did_derive_session(wg, a, now_us);
  msock_wg_did_complete(wg, a, wall_us);
  msock_wg_post(wg, a, MSOCK_WG_DO_KEEPALIVE); /* unless a staged packet goes first */
  count_rx(peer, q->len);
  hint(wg, a->peer_id, &q->source);
  wg->counters.rx_responses++;
}

void msock_wg_handshake_work(msock_wg *wg, uint64_t now_us, uint64_t wall_us) {
  msock_wg_queue *q = &wg->queue_pos;

  for (unsigned i = 0; i < MSOCK_WG_DH_BUDGET && q->count > 0; i++) {
    const msock_wg_queued *slot = &wg->queue[q->head];
    msock_wg_initiation initiation;
    msock_wg_response response;
    if (msock_wg_initiation_decode(slot->msg, slot->len, &initiation) == MSOCK_OK) {
      on_initiation(wg, now_us, slot, &initiation);
    } else if (msock_wg_response_decode(slot->msg, slot->len, &response) == MSOCK_OK) {
      on_response(wg, now_us, wall_us, slot, &response);
    }
    q->head = (q->head + 1) % MSOCK_WG_QUEUE_LEN;
    q->count--;
  }
}

/* The wall clock as it would be had it never gone back: a peer keeps the newest stamp that it has
 * seen from us, also when our record of it came anew (another key of its own, a new netmap). */
static uint64_t steady_wall_us(msock_wg *wg, uint64_t now_us, uint64_t wall_us) {
  const uint64_t lead_us = wall_us > now_us ? wall_us - now_us : 0;
  wg->wall_lead_us = lead_us > wg->wall_lead_us ? lead_us : wg->wall_lead_us;
  return now_us + wg->wall_lead_us;
}

/* Newer than any stamp that this peer has had from us. */
static uint64_t next_stamp(const msock_wg_peer *peer, uint64_t wall_us) {
  const uint64_t by_wall = msock_wg_stamp_from_wall(wall_us);
  const uint64_t least = msock_wg_stamp_next(peer->tx_stamp);
  return by_wall > least ? by_wall : least;
}

static msock_err make_initiation(msock_wg *wg, msock_wg_active *a, uint64_t stamp,
                                 msock_wg_initiation *m) {
  uint8_t ephemeral[32], timestamp[MSOCK_WG_TIMESTAMP_LEN];
  msock_wg_handshake hs;
  uint32_t index = 0;

  msock_err e = msock_wg_index_draw(&wg->index, &wg->env, a->peer_id, &index);
  if (e != MSOCK_OK) {
    return e;
  }
  msock_wg_stamp_encode(stamp, timestamp);
  msock_x25519_generate(&wg->env, ephemeral);
  e = msock_wg_initiation_make(&wg->id, &a->remote, ephemeral, timestamp, index, &hs, m);
  msock_wipe(ephemeral, sizeof ephemeral);
  if (e != MSOCK_OK) {
    msock_wg_index_remove(&wg->index, index);
    return e;
  }
  msock_wg_drop_handshake(wg, a);
  a->handshake = hs;
  a->waiting = true;
  msock_wipe(&hs, sizeof hs);
  return MSOCK_OK;
}

size_t msock_wg_initiation_out(msock_wg *wg, uint64_t now_us, uint64_t wall_us, msock_wg_active *a,
                               uint8_t *buf) {
  msock_wg_peer *peer = msock_wg_peers_get(&wg->peers, a->peer_id);
  const uint64_t stamp = next_stamp(peer, steady_wall_us(wg, now_us, wall_us));
  msock_wg_initiation m;

  const msock_err e = make_initiation(wg, a, stamp, &m);
  if (e != MSOCK_OK) {
    char name[MSOCK_KEY_SHORT_MAX];
    msock_logf(wg->env.log, MSOCK_LOG_WARN, "wg.handshake_failed", "peer=%s why=\"%s\"",
               msock_node_key_short(&peer->key, name), msock_err_text(e));
    wg->counters.tx_handshake_fail++;
    msock_wg_give_up(wg, a, now_us);
    return 0;
  }
  peer->tx_stamp = stamp;
  msock_wg_initiation_encode(&m, buf);
  finish_macs(a, now_us, buf, MSOCK_WG_INITIATION_LEN);
  msock_wg_did_send_initiation(wg, a, now_us);
  count_tx(peer, MSOCK_WG_INITIATION_LEN);
  wg->counters.tx_initiations++;
  return MSOCK_WG_INITIATION_LEN;
}

size_t msock_wg_response_out(msock_wg *wg, msock_wg_active *a, uint8_t *buf) {
  memcpy(buf, a->response, sizeof a->response);
  msock_wg_did_send(a);
  count_tx(msock_wg_peers_get(&wg->peers, a->peer_id), sizeof a->response);
  wg->counters.tx_responses++;
  return sizeof a->response;
}

size_t msock_wg_cookie_out(msock_wg *wg, uint64_t now_us, msock_wg_source *to, uint8_t *buf) {
  msock_wg_queue *q = &wg->reply_pos;
  msock_wg_cookie_reply m;
  uint8_t cookie[MSOCK_WG_COOKIE_LEN], nonce[MSOCK_WG_NONCE24_LEN];

  if (q->count == 0) {
    return 0;
  }
  const msock_wg_reply_due *r = &wg->replies[q->head];
  q->head = (q->head + 1) % MSOCK_WG_COOKIE_QUEUE_LEN;
  q->count--;
  msock_wg_guard_cookie(&wg->guard, &wg->env, now_us, &r->source, cookie);
  wg->env.random(wg->env.ctx, nonce, sizeof nonce);
  msock_wg_cookie_seal(wg->id.cookie_key, nonce, cookie, r->mac1, r->receiver, &m);
  msock_wg_cookie_reply_encode(&m, buf);
  *to = r->source;
  wg->counters.tx_cookies++;
  return MSOCK_WG_COOKIE_REPLY_LEN;
}
