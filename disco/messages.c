#include "disco/messages.h"

#include <string.h>

#include "base/cursor.h"
#include "disco/datagram.h"

enum {
  HDR_LEN = 2, /* type, version */
  VERSION = 0, /* the only one that is sent */
  ENDPOINT_LEN = 18,
  BIND_LEN = HDR_LEN + 4 + 4 + MSOCK_KEY_LEN + MSOCK_DISCO_CHALLENGE_LEN,
  RELAY_LEN = 3 * MSOCK_KEY_LEN + 8 + 4 + 8 + 8, /* without its addresses */
  REQUEST_LEN = HDR_LEN + 2 * MSOCK_KEY_LEN + 4
};

_Static_assert(MSOCK_DISCO_PING_LEN == HDR_LEN + MSOCK_DISCO_TXID_LEN + MSOCK_KEY_LEN, "1.3");
_Static_assert(MSOCK_DISCO_PONG_LEN == HDR_LEN + MSOCK_DISCO_TXID_LEN + ENDPOINT_LEN, "1.3");
_Static_assert(MSOCK_DISCO_MESSAGE_MAX ==
                   HDR_LEN + 4 + RELAY_LEN + ENDPOINT_LEN * MSOCK_DISCO_ENDPOINTS_MAX,
               "1.3");

/* --- Types, heads ------------------------------------------------------------------------- */

msock_err msock_disco_type_of(const uint8_t *p, size_t len, msock_disco_type *out) {
  if (len < HDR_LEN) {
    return MSOCK_ERR_SHORT;
  }
  if (p[0] < MSOCK_DISCO_PING || p[0] > MSOCK_DISCO_ALLOCATE_RESPONSE) {
    return MSOCK_ERR_UNKNOWN;
  }
  *out = (msock_disco_type)p[0];
  return MSOCK_OK;
}

const char *msock_disco_type_text(msock_disco_type type) {
  switch (type) {
  case MSOCK_DISCO_PING:
    return "ping";
  case MSOCK_DISCO_PONG:
    return "pong";
  case MSOCK_DISCO_CALL_ME_MAYBE:
    return "call-me-maybe";
  case MSOCK_DISCO_BIND:
    return "bind";
  case MSOCK_DISCO_BIND_CHALLENGE:
    return "bind-challenge";
  case MSOCK_DISCO_BIND_ANSWER:
    return "bind-answer";
  case MSOCK_DISCO_CALL_ME_MAYBE_VIA:
    return "call-me-maybe-via";
  case MSOCK_DISCO_ALLOCATE_REQUEST:
    return "allocate-request";
  case MSOCK_DISCO_ALLOCATE_RESPONSE:
    return "allocate-response";
  }
  return "unknown";
}

/* The checks that every decoder begins with: min is the shortest whole message. */
static msock_err check_head(const uint8_t *p, size_t len, msock_disco_type want, size_t min) {
  if (len < HDR_LEN) {
    return MSOCK_ERR_SHORT;
  }
  if (p[0] != want) {
    return MSOCK_ERR_UNKNOWN;
  }
  return len < min ? MSOCK_ERR_SHORT : MSOCK_OK;
}

/* STRICT: the same for the messages whose version counts. */
static msock_err check_head_v0(const uint8_t *p, size_t len, msock_disco_type want, size_t min) {
  if (len >= HDR_LEN && p[0] == want && p[1] != VERSION) {
    return MSOCK_ERR_UNKNOWN;
  }
  return check_head(p, len, want, min);
}

static void write_head(msock_writer *w, msock_disco_type type) {
  msock_write_u8(w, (uint8_t)type);
  msock_write_u8(w, VERSION);
}

/* --- Endpoints ---------------------------------------------------------------------------- */

static msock_addr read_endpoint(msock_reader *r) {
  msock_addr a = {0};
  uint8_t ip[16];
  msock_read_copy(r, ip, sizeof ip);
  a.ip = msock_ip_unmap(msock_ip_from_bytes16(ip));
  a.port = msock_read_be16(r);
  return a;
}

static void write_endpoint(msock_writer *w, const msock_addr *a) {
  static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
  if (a->ip.family == 4) {
    msock_write_copy(w, mapped, sizeof mapped);
    msock_write_copy(w, a->ip.b, 4);
  } else {
    msock_write_copy(w, a->ip.b, 16);
  }
  msock_write_be16(w, a->port);
}

static bool has_address(const msock_addr *a) {
  return a->ip.family == 4 || a->ip.family == 6;
}

/* Whole endpoints to the end of r, at most MSOCK_DISCO_ENDPOINTS_MAX of them. */
static void read_endpoints(msock_reader *r, msock_addr *out, uint8_t *n, uint16_t *left_out) {
  const size_t total = r->left / ENDPOINT_LEN;
  const size_t kept = total < MSOCK_DISCO_ENDPOINTS_MAX ? total : MSOCK_DISCO_ENDPOINTS_MAX;
  const size_t beyond = total - kept;

  for (size_t i = 0; i < kept; i++) {
    out[i] = read_endpoint(r);
  }
  *n = (uint8_t)kept;
  *left_out = (uint16_t)(beyond < UINT16_MAX ? beyond : UINT16_MAX);
}

static bool endpoints_ok(const msock_addr *list, uint8_t n) {
  if (n > MSOCK_DISCO_ENDPOINTS_MAX) {
    return false;
  }
  for (uint8_t i = 0; i < n; i++) {
    if (!has_address(&list[i])) {
      return false;
    }
  }
  return true;
}

static void write_endpoints(msock_writer *w, const msock_addr *list, uint8_t n) {
  for (uint8_t i = 0; i < n; i++) {
    write_endpoint(w, &list[i]);
  }
}

/* --- Ping, pong, call-me-maybe ------------------------------------------------------------ */

msock_err msock_disco_decode_ping(const uint8_t *p, size_t len, msock_disco_ping *out) {
  msock_disco_ping m = {0};
  const msock_err err = check_head(p, len, MSOCK_DISCO_PING, HDR_LEN + MSOCK_DISCO_TXID_LEN);

  if (err != MSOCK_OK) {
    return err;
  }
  msock_reader r = msock_reader_init(p + HDR_LEN, len - HDR_LEN);
  msock_read_copy(&r, m.txid, sizeof m.txid);
  size_t padding = r.left;
  if (r.left >= sizeof m.node_key.b) {
    msock_read_copy(&r, m.node_key.b, sizeof m.node_key.b);
    m.has_node_key = !msock_node_key_is_zero(&m.node_key);
    if (m.has_node_key) {
      padding = r.left;
    }
  }
  if (padding > UINT16_MAX) { /* larger than any payload */
    return MSOCK_ERR_UNKNOWN;
  }
  m.padding = (uint16_t)padding;
  *out = m;
  return MSOCK_OK;
}

ptrdiff_t msock_disco_encode_ping(const msock_disco_ping *m, uint8_t *dst, size_t cap) {
  const size_t key_len = m->has_node_key ? sizeof m->node_key.b : 0;
  const size_t len = HDR_LEN + sizeof m->txid + key_len + m->padding;
  msock_writer w = msock_writer_init(dst, cap);

  if (m->has_node_key && msock_node_key_is_zero(&m->node_key)) {
    return MSOCK_ERR_INVALID;
  }
  if (cap < len) {
    return MSOCK_ERR_NOBUF;
  }
  write_head(&w, MSOCK_DISCO_PING);
  msock_write_copy(&w, m->txid, sizeof m->txid);
  msock_write_copy(&w, m->node_key.b, key_len);
  msock_write_zero(&w, m->padding);
  return (ptrdiff_t)len;
}

msock_err msock_disco_decode_pong(const uint8_t *p, size_t len, msock_disco_pong *out) {
  const msock_err err = check_head(p, len, MSOCK_DISCO_PONG, MSOCK_DISCO_PONG_LEN);

  if (err != MSOCK_OK) {
    return err;
  }
  msock_reader r = msock_reader_init(p + HDR_LEN, len - HDR_LEN);
  msock_read_copy(&r, out->txid, sizeof out->txid);
  out->src = read_endpoint(&r);
  return MSOCK_OK;
}

ptrdiff_t msock_disco_encode_pong(const msock_disco_pong *m, uint8_t *dst, size_t cap) {
  msock_writer w = msock_writer_init(dst, cap);

  if (!has_address(&m->src)) {
    return MSOCK_ERR_INVALID;
  }
  if (cap < MSOCK_DISCO_PONG_LEN) {
    return MSOCK_ERR_NOBUF;
  }
  write_head(&w, MSOCK_DISCO_PONG);
  msock_write_copy(&w, m->txid, sizeof m->txid);
  write_endpoint(&w, &m->src);
  return MSOCK_DISCO_PONG_LEN;
}

msock_err msock_disco_decode_call_me_maybe(const uint8_t *p, size_t len,
                                           msock_disco_call_me_maybe *out) {
  const msock_err err = check_head_v0(p, len, MSOCK_DISCO_CALL_ME_MAYBE, HDR_LEN);

  if (err != MSOCK_OK) {
    return err;
  }
  msock_reader r = msock_reader_init(p + HDR_LEN, len - HDR_LEN);
  if (r.left == 0 || r.left % ENDPOINT_LEN != 0) {
    return MSOCK_ERR_INVALID;
  }
  memset(out, 0, sizeof *out);
  read_endpoints(&r, out->endpoints, &out->n, &out->left_out);
  return MSOCK_OK;
}

ptrdiff_t msock_disco_encode_call_me_maybe(const msock_disco_call_me_maybe *m, uint8_t *dst,
                                           size_t cap) {
  const size_t len = HDR_LEN + (size_t)m->n * ENDPOINT_LEN;
  msock_writer w = msock_writer_init(dst, cap);

  if (!endpoints_ok(m->endpoints, m->n)) {
    return MSOCK_ERR_INVALID;
  }
  if (cap < len) {
    return MSOCK_ERR_NOBUF;
  }
  write_head(&w, MSOCK_DISCO_CALL_ME_MAYBE);
  write_endpoints(&w, m->endpoints, m->n);
  return (ptrdiff_t)len;
}

/* --- Peer relays: handshake --------------------------------------------------------------- */

static bool vni_ok(uint32_t vni) {
  return vni != 0 && vni <= MSOCK_GENEVE_VNI_MAX;
}

static bool is_bind(msock_disco_type type) {
  return type == MSOCK_DISCO_BIND || type == MSOCK_DISCO_BIND_CHALLENGE ||
         type == MSOCK_DISCO_BIND_ANSWER;
}

static bool bind_ok(const msock_disco_bind *m) {
  return is_bind(m->type) && vni_ok(m->vni) && !msock_disco_key_is_zero(&m->remote);
}

msock_err msock_disco_decode_bind(const uint8_t *p, size_t len, msock_disco_bind *out) {
  msock_disco_bind m = {0};
  const msock_err err = msock_disco_type_of(p, len, &m.type);

  if (err != MSOCK_OK) {
    return err;
  }
  if (!is_bind(m.type)) {
    return MSOCK_ERR_UNKNOWN;
  }
  if (len < BIND_LEN) {
    return MSOCK_ERR_SHORT;
  }
  msock_reader r = msock_reader_init(p + HDR_LEN, len - HDR_LEN);
  m.vni = msock_read_be32(&r);
  m.generation = msock_read_be32(&r);
  msock_read_copy(&r, m.remote.b, sizeof m.remote.b);
  msock_read_copy(&r, m.challenge, sizeof m.challenge);
  if (!bind_ok(&m)) {
    return MSOCK_ERR_INVALID;
  }
  *out = m;
  return MSOCK_OK;
}

ptrdiff_t msock_disco_encode_bind(const msock_disco_bind *m, uint8_t *dst, size_t cap) {
  msock_writer w = msock_writer_init(dst, cap);

  if (!bind_ok(m)) {
    return MSOCK_ERR_INVALID;
  }
  if (cap < BIND_LEN) {
    return MSOCK_ERR_NOBUF;
  }
  write_head(&w, m->type);
  msock_write_be32(&w, m->vni);
  msock_write_be32(&w, m->generation);
  msock_write_copy(&w, m->remote.b, sizeof m->remote.b);
  msock_write_copy(&w, m->challenge, sizeof m->challenge);
  return BIND_LEN;
}

/* --- Peer relays: sessions ---------------------------------------------------------------- */

static bool pair_ok(const msock_disco_key pair[static 2]) {
  return !msock_disco_key_is_zero(&pair[0]) && !msock_disco_key_is_zero(&pair[1]);
}

static bool relay_ok(const msock_disco_relay_endpoint *m) {
  return m->n > 0 && vni_ok(m->vni) && m->bind_lifetime_ns > 0 && m->steady_lifetime_ns > 0 &&
         !msock_disco_key_is_zero(&m->server) && pair_ok(m->clients);
}

/* A lifetime of the wire; what has the sign bit is -1: refused like every value below 1. */
static int64_t read_lifetime(msock_reader *r) {
  const uint64_t v = msock_read_be64(r);
  return v <= INT64_MAX ? (int64_t)v : -1;
}

/* All that is left of r, which holds RELAY_LEN + ENDPOINT_LEN bytes at least. */
static msock_err read_relay(msock_reader *r, msock_disco_relay_endpoint *out) {
  msock_disco_relay_endpoint m = {0};

  if ((r->left - RELAY_LEN) % ENDPOINT_LEN != 0) {
    return MSOCK_ERR_INVALID;
  }
  msock_read_copy(r, m.server.b, sizeof m.server.b);
  msock_read_copy(r, m.clients[0].b, sizeof m.clients[0].b);
  msock_read_copy(r, m.clients[1].b, sizeof m.clients[1].b);
  m.lamport_id = msock_read_be64(r);
  m.vni = msock_read_be32(r);
  m.bind_lifetime_ns = read_lifetime(r);
  m.steady_lifetime_ns = read_lifetime(r);
  read_endpoints(r, m.endpoints, &m.n, &m.left_out);
  if (!relay_ok(&m)) {
    return MSOCK_ERR_INVALID;
  }
  *out = m;
  return MSOCK_OK;
}

static bool relay_sendable(const msock_disco_relay_endpoint *m) {
  return relay_ok(m) && endpoints_ok(m->endpoints, m->n);
}

static size_t relay_len(const msock_disco_relay_endpoint *m) {
  return RELAY_LEN + (size_t)m->n * ENDPOINT_LEN;
}

static void write_relay(msock_writer *w, const msock_disco_relay_endpoint *m) {
  msock_write_copy(w, m->server.b, sizeof m->server.b);
  msock_write_copy(w, m->clients[0].b, sizeof m->clients[0].b);
  msock_write_copy(w, m->clients[1].b, sizeof m->clients[1].b);
  msock_write_be64(w, m->lamport_id);
  msock_write_be32(w, m->vni);
  msock_write_be64(w, (uint64_t)m->bind_lifetime_ns);
  msock_write_be64(w, (uint64_t)m->steady_lifetime_ns);
  write_endpoints(w, m->endpoints, m->n);
}

msock_err msock_disco_decode_call_me_maybe_via(const uint8_t *p, size_t len,
                                               msock_disco_relay_endpoint *out) {
  const msock_err err =
      check_head_v0(p, len, MSOCK_DISCO_CALL_ME_MAYBE_VIA, HDR_LEN + RELAY_LEN + ENDPOINT_LEN);

  if (err != MSOCK_OK) {
    return err;
  }
  msock_reader r = msock_reader_init(p + HDR_LEN, len - HDR_LEN);
  return read_relay(&r, out);
}

ptrdiff_t msock_disco_encode_call_me_maybe_via(const msock_disco_relay_endpoint *m, uint8_t *dst,
                                               size_t cap) {
  const size_t len = HDR_LEN + relay_len(m);
  msock_writer w = msock_writer_init(dst, cap);

  if (!relay_sendable(m)) {
    return MSOCK_ERR_INVALID;
  }
  if (cap < len) {
    return MSOCK_ERR_NOBUF;
  }
  write_head(&w, MSOCK_DISCO_CALL_ME_MAYBE_VIA);
  write_relay(&w, m);
  return (ptrdiff_t)len;
}

msock_err msock_disco_decode_allocate_request(const uint8_t *p, size_t len,
                                              msock_disco_allocate_request *out) {
  msock_disco_allocate_request m = {0};
  const msock_err err = check_head_v0(p, len, MSOCK_DISCO_ALLOCATE_REQUEST, REQUEST_LEN);

  if (err != MSOCK_OK) {
    return err;
  }
  msock_reader r = msock_reader_init(p + HDR_LEN, len - HDR_LEN);
  msock_read_copy(&r, m.clients[0].b, sizeof m.clients[0].b);
  msock_read_copy(&r, m.clients[1].b, sizeof m.clients[1].b);
  m.generation = msock_read_be32(&r);
  if (!pair_ok(m.clients)) {
    return MSOCK_ERR_INVALID;
  }
  *out = m;
  return MSOCK_OK;
}

ptrdiff_t msock_disco_encode_allocate_request(const msock_disco_allocate_request *m, uint8_t *dst,
                                              size_t cap) {
  msock_writer w = msock_writer_init(dst, cap);

  if (!pair_ok(m->clients)) {
    return MSOCK_ERR_INVALID;
  }
  if (cap < REQUEST_LEN) {
    return MSOCK_ERR_NOBUF;
  }
  write_head(&w, MSOCK_DISCO_ALLOCATE_REQUEST);
  msock_write_copy(&w, m->clients[0].b, sizeof m->clients[0].b);
  msock_write_copy(&w, m->clients[1].b, sizeof m->clients[1].b);
  msock_write_be32(&w, m->generation);
  return REQUEST_LEN;
}

msock_err msock_disco_decode_allocate_response(const uint8_t *p, size_t len,
                                               msock_disco_allocate_response *out) {
  const msock_err head =
      check_head_v0(p, len, MSOCK_DISCO_ALLOCATE_RESPONSE, HDR_LEN + 4 + RELAY_LEN + ENDPOINT_LEN);

  if (head != MSOCK_OK) {
    return head;
  }
  msock_reader r = msock_reader_init(p + HDR_LEN, len - HDR_LEN);
  const uint32_t generation = msock_read_be32(&r);
  const msock_err err = read_relay(&r, &out->relay);
  if (err == MSOCK_OK) {
    out->generation = generation;
  }
  return err;
}

ptrdiff_t msock_disco_encode_allocate_response(const msock_disco_allocate_response *m, uint8_t *dst,
                                               size_t cap) {
  const size_t len = HDR_LEN + 4 + relay_len(&m->relay);
  msock_writer w = msock_writer_init(dst, cap);

  if (!relay_sendable(&m->relay)) {
    return MSOCK_ERR_INVALID;
  }
  if (cap < len) {
    return MSOCK_ERR_NOBUF;
  }
  write_head(&w, MSOCK_DISCO_ALLOCATE_RESPONSE);
  msock_write_be32(&w, m->generation);
  write_relay(&w, &m->relay);
  return (ptrdiff_t)len;
}
