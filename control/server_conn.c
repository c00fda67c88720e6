#include "control/server_conn.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http1.h"
#include "control/noise.h"
#include "control/server_conn_internal.h"
#include "crypto/wipe.h"
#include "crypto/x25519.h"

/* --- head: /key, upgrade, anything else --- */

static void queue_tx(msock_server_conn *c, const void *p, size_t len) {
  if (len > sizeof c->tx - c->tx_len) {
    c->dead = true; /* only reached before HTTP/2, where everything is short */
    return;
  }
  memcpy(c->tx + c->tx_len, p, len);
  c->tx_len += len;
}

static void plain_answer(msock_server_conn *c, int status, const char *type, const char *body) {
  char head[512];
  msock_http1_builder b;
  msock_http1_begin_response(&b, head, sizeof head, status);
  msock_http1_add(&b, "Content-Type", type);
  msock_http1_add_number(&b, "Content-Length", strlen(body));
  msock_http1_add(&b, "Connection", "close");
  const ptrdiff_t n = msock_http1_finish(&b);
  queue_tx(c, head, (size_t)n);
  queue_tx(c, body, strlen(body));
  c->closing = true;
}

static void answer_key(msock_server_conn *c, msock_http1_str target) {
  char body[256], key[MSOCK_KEY_TEXT_MAX];
  const msock_machine_key pub = msock_machine_private_public(c->server);
  static const char query[] = "/key?v=";
  unsigned version = 0;

  if (target.len < sizeof query || memcmp(target.p, query, sizeof query - 1) != 0) {
    plain_answer(c, 400, "text/plain", "capability version must be set\n");
    return;
  }
  for (size_t i = sizeof query - 1; i < target.len; i++) {
    if (target.p[i] < '0' || target.p[i] > '9' || version > 100000) {
      plain_answer(c, 400, "text/plain", "capability version is not a number\n");
      return;
    }
    version = version * 10 + (unsigned)(target.p[i] - '0');
  }
  snprintf(body, sizeof body, "{\"legacyPublicKey\":\"mkey:%064d\",\"publicKey\":\"%s\"}", 0,
           msock_machine_key_text(&pub, key));
  plain_answer(c, 200, "application/json", body);
}

/* Standard base64 with padding of exactly the initiation. */
static bool decode_initiation(msock_http1_str s, uint8_t out[static MSOCK_CONTROL_INITIATION_LEN]) {
  static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  size_t n = 0;
  uint32_t bits = 0;
  if (s.len != 136 || s.p[135] != '=' || s.p[134] == '=') {
    return false;
  }
  for (size_t i = 0; i < 135; i++) {
    const char *at = s.p[i] ? strchr(alphabet, s.p[i]) : NULL;
    if (at == NULL) {
      return false;
    }
    bits = bits << 6 | (uint32_t)(at - alphabet);
    if (i % 4 == 3) {
      out[n++] = (uint8_t)(bits >> 16);
      out[n++] = (uint8_t)(bits >> 8);
      out[n++] = (uint8_t)bits;
      bits = 0;
    }
  }
  out[n++] = (uint8_t)(bits >> 10);
  out[n++] = (uint8_t)(bits >> 2);
  return n == MSOCK_CONTROL_INITIATION_LEN;
}

static void send_early(msock_server_conn *c) {
  static const uint8_t magic[5] = {0xff, 0xff, 0xff, 'T', 'S'};
  msock_machine_private secret;
  msock_challenge_key challenge;
  char json[160], key[MSOCK_KEY_TEXT_MAX];
  uint8_t head[9], record[256];

  msock_machine_private_generate(c->env, &secret);
  const msock_machine_key pub = msock_machine_private_public(&secret);
  msock_wipe(&secret, sizeof secret); /* nobody asks for a proof here */
  memcpy(challenge.b, pub.b, sizeof challenge.b);
  const int len = snprintf(json, sizeof json, "{\"nodeKeyChallenge\":\"%s\"}",
                           msock_challenge_key_text(&challenge, key));
  memcpy(head, magic, sizeof magic);
  for (int i = 0; i < 4; i++) {
    head[5 + i] = (uint8_t)((unsigned)len >> (24 - 8 * i));
  }
  /* three records, as Headscale sends them (control.md 2.6) */
  queue_tx(c, record, (size_t)msock_control_record_seal(&c->records, head, 5, record));
  queue_tx(c, record, (size_t)msock_control_record_seal(&c->records, head + 5, 4, record));
  queue_tx(c, record,
           (size_t)msock_control_record_seal(&c->records, (uint8_t *)json, (size_t)len, record));
}

static void upgrade(msock_server_conn *c, const msock_http1_head *h) {
  const msock_http1_header *up = msock_http1_find(h, "upgrade");
  const msock_http1_header *hs = msock_http1_find(h, "x-tailscale-handshake");
  uint8_t msg[MSOCK_CONTROL_INITIATION_LEN], reply[MSOCK_CONTROL_RESPONSE_LEN], ephemeral[32];
  char head[256];
  msock_http1_builder b;

  if (up == NULL || !msock_http1_str_is(up->value, "tailscale-control-protocol")) {
    plain_answer(c, 400, "text/plain", "unknown next protocol\n");
    return;
  }
  if (hs == NULL || !decode_initiation(hs->value, msg)) {
    plain_answer(c, 400, "text/plain", "missing or malformed X-Tailscale-Handshake\n");
    return;
  }
  msock_http1_begin_response(&b, head, sizeof head, 101);
  msock_http1_add(&b, "Upgrade", "tailscale-control-protocol");
  msock_http1_add(&b, "Connection", "upgrade");
  queue_tx(c, head, (size_t)msock_http1_finish(&b));
  c->env->random(c->env->ctx, ephemeral, sizeof ephemeral);
  const msock_err e = msock_control_respond(c->server, ephemeral, msg, reply, &c->version,
                                            &c->machine, &c->records);
  msock_wipe(ephemeral, sizeof ephemeral);
  if (e != MSOCK_OK) { /* as Headscale: the 101, then the end (control.md 2.2) */
    c->closing = true;
    return;
  }
  queue_tx(c, reply, sizeof reply);
  if (c->early) {
    send_early(c);
  }
  c->phase = SERVER_HTTP2;
  if (!msock_server_h2_start(c)) {
    c->dead = true;
    return;
  }
  msock_server_queue(c, (msock_server_event){.kind = MSOCK_SERVER_EV_READY});
}

static void on_head(msock_server_conn *c, const msock_http1_head *h) {
  const bool get = msock_http1_str_is(h->method, "GET");
  const size_t path_len = h->target.len;
  if (path_len >= 4 && memcmp(h->target.p, "/key", 4) == 0 &&
      (path_len == 4 || h->target.p[4] == '?')) {
    if (get) {
      answer_key(c, h->target);
    } else {
      plain_answer(c, 405, "text/plain", "method not allowed\n");
    }
  } else if (msock_http1_str_is(h->target, "/ts2021")) {
    if (msock_http1_str_is(h->method, "POST")) {
      upgrade(c, h);
    } else {
      plain_answer(c, 405, "text/plain", "method not allowed\n");
    }
  } else if (get && msock_http1_str_is(h->target, "/health")) {
    plain_answer(c, 200, "application/json", "{\"status\":\"pass\"}");
  } else {
    plain_answer(c, 404, "text/plain", "not found\n");
  }
}

/* Bytes used of p. */
static size_t feed_head(msock_server_conn *c, const uint8_t *p, size_t len) {
  const size_t room = MSOCK_HTTP1_HEAD_MAX - c->head_len;
  const size_t n = len < room ? len : room;
  const size_t before = c->head_len;
  msock_http1_head h;

  memcpy(c->head + c->head_len, p, n);
  c->head_len += n;
  const ptrdiff_t used = msock_http1_parse_request(c->head, c->head_len, &h);
  if (used == MSOCK_ERR_AGAIN) {
    return n;
  }
  if (used < 0) {
    plain_answer(c, 400, "text/plain", "malformed request\n");
    return len;
  }
  on_head(c, &h);
  free(c->head);
  c->head = NULL;
  return (size_t)used - before;
}

static size_t feed_records(msock_server_conn *c, const uint8_t *p, size_t len) {
  size_t want = MSOCK_CONTROL_MSG_HEADER_LEN;
  size_t used = 0;

  if (c->rx_len >= want) {
    want = c->rx_want;
  }
  const size_t n = len < want - c->rx_len ? len : want - c->rx_len;
  memcpy(c->rx + c->rx_len, p, n);
  c->rx_len += n;
  used = n;
  if (c->rx_len < want) {
    return used;
  }
  if (want == MSOCK_CONTROL_MSG_HEADER_LEN) {
    const ptrdiff_t size = msock_control_record_size(&c->records, c->rx);
    if (size < 0) {
      c->dead = true;
      return len;
    }
    c->rx_want = (size_t)size;
    return used;
  }
  c->rx_len = 0;
  const ptrdiff_t plain = msock_control_record_open(&c->records, c->rx, want, c->plain);
  if (plain < 0) {
    c->dead = true;
    return len;
  }
  msock_server_h2_recv(c, c->plain, (size_t)plain);
  return used;
}

/* A client with nothing to do may come again later; its connection does not stay for ever. */
void msock_server_watch_idle(msock_server_conn *c) {
  if (c->phase == SERVER_HTTP2) {
    c->deadline_us = c->n_streams == 0 ? c->now_us + MSOCK_SERVER_IDLE_US : MSOCK_NEVER;
  }
}

msock_err msock_server_conn_feed(msock_server_conn *c, uint64_t now_us, const uint8_t *p,
                                 size_t len) {
  c->now_us = now_us;
  while (len > 0 && !c->dead && !c->closing) {
    const size_t used = c->phase == SERVER_HEAD ? feed_head(c, p, len) : feed_records(c, p, len);
    p += used;
    len -= used;
  }
  msock_server_watch_idle(c);
  return c->dead || c->closing ? MSOCK_ERR_CLOSED : MSOCK_OK;
}

/* --- out --- */

size_t msock_server_conn_tx_peek(msock_server_conn *c, const uint8_t **p) {
  uint8_t plain[MSOCK_CONTROL_PLAIN_MAX];
  if (c->tx_at == c->tx_len) {
    c->tx_at = c->tx_len = 0;
  }
  while (c->phase == SERVER_HTTP2 && !c->dead &&
         sizeof c->tx - c->tx_len >= MSOCK_CONTROL_FRAME_MAX) {
    const size_t n = msock_server_h2_send(c, plain, sizeof plain);
    if (n == 0) {
      break;
    }
    const ptrdiff_t sealed = msock_control_record_seal(&c->records, plain, n, c->tx + c->tx_len);
    if (sealed < 0) {
      c->dead = true;
      break;
    }
    c->tx_len += (size_t)sealed;
  }
  *p = c->tx + c->tx_at;
  return c->dead ? 0 : c->tx_len - c->tx_at;
}

void msock_server_conn_tx_consume(msock_server_conn *c, size_t n) {
  c->tx_at += n;
}

bool msock_server_conn_is_done(const msock_server_conn *c) {
  return c->dead || (c->tx_at == c->tx_len && (c->closing || msock_server_h2_is_over(c)));
}

uint64_t msock_server_conn_next_expiry(const msock_server_conn *c) {
  return c->dead ? MSOCK_NEVER : c->deadline_us;
}

void msock_server_conn_on_expiry(msock_server_conn *c, uint64_t now_us) {
  if (now_us >= c->deadline_us) {
    c->deadline_us = MSOCK_NEVER;
    c->dead = true;
  }
}

/* --- life and events --- */

msock_server_conn *msock_server_conn_new(const msock_env *env, const msock_machine_private *server,
                                         bool early, uint64_t now_us) {
  msock_server_conn *c = calloc(1, sizeof *c);
  if (c == NULL) {
    return NULL;
  }
  c->env = env;
  c->server = server;
  c->early = early;
  c->deadline_us = now_us + MSOCK_SERVER_LOGIN_US;
  c->head = malloc(MSOCK_HTTP1_HEAD_MAX);
  if (c->head == NULL) {
    free(c);
    return NULL;
  }
  return c;
}

void msock_server_conn_free(msock_server_conn *c) {
  if (c == NULL) {
    return;
  }
  msock_server_h2_stop(c);
  msock_control_records_wipe(&c->records);
  free(c->head);
  free(c);
}

void msock_server_queue(msock_server_conn *c, msock_server_event ev) {
  if (c->n_events == SERVER_EVENTS_MAX) {
    c->dead = true;
    return;
  }
  c->events[(c->events_at + c->n_events++) % SERVER_EVENTS_MAX] = ev;
}

bool msock_server_conn_next_event(msock_server_conn *c, msock_server_event *out) {
  if (c->n_events == 0) {
    return false;
  }
  *out = c->events[c->events_at];
  c->events_at = (c->events_at + 1) % SERVER_EVENTS_MAX;
  c->n_events--;
  return true;
}

const msock_machine_key *msock_server_conn_machine(const msock_server_conn *c) {
  return &c->machine;
}

uint16_t msock_server_conn_version(const msock_server_conn *c) {
  return c->version;
}
