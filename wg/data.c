/* The batches: plain packets to datagrams and back, in place (dataplane.md 4, 7). Nothing here
 * allocates for a packet of a session. */
#include "base/ip_packet.h"
#include "wg/engine_internal.h"

/* What follows from a sealed data packet. */
static void did_seal(msock_wg *wg, uint64_t now_us, msock_wg_peer *peer, msock_wg_active *a,
                     uint32_t len) {
  peer->tx_packets++;
  peer->tx_bytes += len;
  a->outputs &= ~(unsigned)MSOCK_WG_DO_KEEPALIVE; /* this packet says as much */
  msock_wg_did_send_data(wg, a, now_us);
  if (msock_wg_session_wants_rekey(a->current, now_us)) {
    msock_wg_want_handshake(wg, a, now_us);
  }
}

static void stage(msock_wg *wg, uint64_t now_us, uint32_t peer_id, const msock_packet *p) {
  msock_wg_active *a = msock_wg_activate(wg, peer_id);
  if (a == NULL) {
    wg->counters.tx_staged_drop++;
    return;
  }
  wg->counters.tx_staged_drop +=
      msock_wg_staged_push(&wg->staged, &a->staged, msock_packet_data(p), p->len);
  msock_wg_want_handshake(wg, a, now_us);
}

static uint32_t seal_one(msock_wg *wg, uint64_t now_us, msock_packet *p) {
  msock_ip src, dst;
  uint32_t total = 0;

  if (msock_ip_packet_route(msock_packet_data(p), p->len, &src, &dst, &total) != MSOCK_OK) {
    wg->counters.tx_bad_packet++;
    return MSOCK_WG_PEER_NONE;
  }
  const uint32_t peer_id = msock_wg_owner(wg, &wg->cache_out, &dst);
  if (peer_id == MSOCK_WG_PEER_NONE) {
    wg->counters.tx_no_route++;
    return MSOCK_WG_PEER_NONE;
  }
  msock_wg_peer *peer = msock_wg_peers_get(&wg->peers, peer_id);
  msock_wg_active *a = peer->active;
  if (a == NULL || !msock_wg_session_can_send(a->current, now_us)) {
    stage(wg, now_us, peer_id, p);
    return MSOCK_WG_PEER_NONE;
  }
  if (msock_wg_session_seal(a->current, p, wg->cfg.mtu_bytes) != MSOCK_OK) {
    wg->counters.tx_no_room++;
    return MSOCK_WG_PEER_NONE;
  }
  did_seal(wg, now_us, peer, a, p->len);
  return peer_id;
}

void msock_wg_seal(msock_wg *wg, uint64_t now_us, msock_packet *pkts, size_t n,
                   uint32_t *peer_ids) {
  for (size_t i = 0; i < n; i++) {
    peer_ids[i] = seal_one(wg, now_us, &pkts[i]);
  }
}

/* The first packet under the next keys: the peer has them, so they may be used for sending. If a
 * handshake of ours has overtaken them they are what the peer seals with for now. */
static void promote(msock_wg *wg, uint64_t wall_us, msock_wg_active *a) {
  msock_wg_drop_session(wg, &a->previous);
  if (a->current != NULL && a->current->created_us > a->next->created_us) {
    a->previous = a->next;
    a->next = NULL;
    return;
  }
  a->previous = a->current;
  a->current = a->next;
  a->next = NULL;
  msock_wg_did_complete(wg, a, wall_us);
}

static const msock_wg_result dropped = {MSOCK_WG_DROP, MSOCK_WG_PEER_NONE};

/* The opened plaintext of the peer: trims the padding, checks the source address. */
static msock_wg_result deliver(msock_wg *wg, uint32_t peer_id, msock_packet *p) {
  msock_ip src, dst;
  uint32_t total = 0;

  if (msock_ip_packet_route(msock_packet_data(p), p->len, &src, &dst, &total) != MSOCK_OK) {
    wg->counters.rx_bad_inner++;
    return dropped;
  }
  if (msock_wg_owner(wg, &wg->cache_in, &src) != peer_id) {
    wg->counters.rx_source_mismatch++;
    return dropped;
  }
  p->len = total;
  return (msock_wg_result){MSOCK_WG_PLAIN, peer_id};
}

static msock_wg_result transport_in(msock_wg *wg, uint64_t now_us, uint64_t wall_us,
                                    msock_packet *p) {
  const uint32_t wire_len = p->len;
  msock_wg_transport m;
  msock_wg_index_entry *e = NULL;

  if (msock_wg_transport_decode(msock_packet_data(p), p->len, &m) == MSOCK_OK) {
    e = msock_wg_index_find(&wg->index, m.receiver);
  }
  if (e == NULL || e->session == NULL) {
    wg->counters.rx_unknown_index++;
    return (msock_wg_result){MSOCK_WG_NO_SESSION, MSOCK_WG_PEER_NONE};
  }
  msock_wg_session *s = e->session;
  if (!msock_wg_session_alive(s, now_us) || m.counter >= MSOCK_WG_REJECT_AFTER_MESSAGES) {
    wg->counters.rx_expired++;
    return dropped;
  }
  const msock_err opened = msock_wg_session_open(s, m.counter, p);
  if (opened != MSOCK_OK) {
    wg->counters.rx_auth_fail += opened == MSOCK_ERR_AUTH;
    wg->counters.rx_replay += opened == MSOCK_ERR_INVALID;
    return dropped;
  }
  const uint32_t peer_id = s->peer_id;
  msock_wg_peer *peer = msock_wg_peers_get(&wg->peers, peer_id);
  msock_wg_active *a = peer->active;
  peer->rx_packets++;
  peer->rx_bytes += wire_len;
  msock_wg_did_receive(a);
  s->heard_us = now_us;
  if (s == a->next) {
    promote(wg, wall_us, a);
  }
  if (msock_wg_session_last_minute(a->current, now_us)) {
    msock_wg_want_handshake(wg, a, now_us);
  }
  if (p->len == 0) {
    return (msock_wg_result){MSOCK_WG_KEEPALIVE, peer_id};
  }
  msock_wg_did_receive_data(wg, a, now_us);
  return deliver(wg, peer_id, p);
}

static msock_wg_result open_one(msock_wg *wg, uint64_t now_us, uint64_t wall_us,
                                const msock_wg_source *source, msock_packet *p) {
  const uint8_t type = msock_wg_message_type(msock_packet_data(p), p->len);

  if (type == 0) {
    wg->counters.rx_bad_message++;
    return dropped;
  }
  if (type == MSOCK_WG_TYPE_TRANSPORT) {
    return transport_in(wg, now_us, wall_us, p);
  }
  if (!msock_wg_handshake_in(wg, now_us, source, msock_packet_data(p), p->len, type)) {
    return dropped;
  }
  return (msock_wg_result){MSOCK_WG_HANDSHAKE, MSOCK_WG_PEER_NONE};
}

void msock_wg_open(msock_wg *wg, uint64_t now_us, uint64_t wall_us, const msock_wg_source *source,
                   msock_packet *pkts, size_t n, msock_wg_result *results) {
  for (size_t i = 0; i < n; i++) {
    results[i] = open_one(wg, now_us, wall_us, source, &pkts[i]);
  }
  msock_wg_handshake_work(wg, now_us, wall_us);
}

/* A packet that was staged for another owner's sake must not go to this one (WG-30). */
static bool still_owned(msock_wg *wg, uint32_t peer_id, const msock_packet *p) {
  msock_ip src, dst;
  uint32_t total = 0;
  return msock_ip_packet_route(msock_packet_data(p), p->len, &src, &dst, &total) == MSOCK_OK &&
         msock_wg_owner(wg, &wg->cache_out, &dst) == peer_id;
}

size_t msock_wg_staged_out(msock_wg *wg, uint64_t now_us, msock_wg_active *a, uint8_t *buf,
                           size_t cap) {
  msock_wg_peer *peer = msock_wg_peers_get(&wg->peers, a->peer_id);

  while (a->staged.count > 0) {
    if (!msock_wg_session_can_send(a->current, now_us)) {
      msock_wg_want_handshake(wg, a, now_us);
      return 0;
    }
    msock_packet p = {.buf = buf, .cap = (uint32_t)cap, .off = MSOCK_WG_HEADER_LEN};
    p.len = (uint32_t)msock_wg_staged_pop(&wg->staged, &a->staged, buf + MSOCK_WG_HEADER_LEN);
    if (!still_owned(wg, a->peer_id, &p)) {
      wg->counters.tx_staged_moved++;
    } else if (msock_wg_session_seal(a->current, &p, wg->cfg.mtu_bytes) != MSOCK_OK) {
      wg->counters.tx_no_room++;
    } else {
      did_seal(wg, now_us, peer, a, p.len);
      return p.len;
    }
  }
  return 0;
}

size_t msock_wg_keepalive_out(msock_wg *wg, uint64_t now_us, msock_wg_active *a, uint8_t *buf,
                              size_t cap) {
  msock_wg_peer *peer = msock_wg_peers_get(&wg->peers, a->peer_id);
  msock_packet p = {.buf = buf, .cap = (uint32_t)cap, .off = MSOCK_WG_HEADER_LEN};

  if (!msock_wg_session_can_send(a->current, now_us) ||
      msock_wg_session_seal(a->current, &p, wg->cfg.mtu_bytes) != MSOCK_OK) {
    return 0;
  }
  peer->tx_packets++;
  peer->tx_bytes += p.len;
  wg->counters.tx_keepalives++;
  msock_wg_did_send_keepalive(wg, a, now_us);
  if (msock_wg_session_wants_rekey(a->current, now_us)) {
    msock_wg_want_handshake(wg, a, now_us);
  }
  return p.len;
}
