#include "tscontrol/relay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crypto/wipe.h"
#include "crypto/x25519.h"
#include "derp/server.h"
#include "io/stream.h"
#include "io/tcp_listener.h"
#include "io/tls_server.h"
#include "io/udp.h"
#include "netcheck/stun.h"

#define REGION 900u /* 900..999 are for self-hosters: derp.md 1.1 */
#define PORT_TRIES 16u
#define HANDSHAKE_US MSOCK_DERP_SERVER_LOGIN_US

typedef struct relay_conn {
  struct relay_conn *next;
  msock_tscontrol_relay *relay;
  uint32_t id; /* in the core */
  msock_stream *stream;
  bool over; /* freed at the end of the turn */
} relay_conn;

struct msock_tscontrol_relay {
  msock_loop *loop;
  const msock_log *log;
  msock_env env;
  msock_derp_server *core;
  msock_tls_identity *identity;
  char host[256];
  msock_addr at;
  msock_tcp_listener *listener;
  msock_udp *udp;
  msock_loop_timer timer;
  msock_loop_hook hook;
  relay_conn *conns;
};

/* --- DERP --- */

/* It has nothing more to say and hears nothing: its end of the turn. */
static void look_over(relay_conn *c) {
  c->over = c->over || msock_derp_server_is_done(c->relay->core, c->id);
}

static void on_readable(void *ctx, const uint8_t *p, size_t len) {
  relay_conn *c = ctx;
  msock_derp_server_feed(c->relay->core, msock_loop_now_us(), c->id, p, len);
}

static void on_tx_peek(void *ctx, const uint8_t **p, size_t *len) {
  relay_conn *c = ctx;
  *len = msock_derp_server_tx_peek(c->relay->core, msock_loop_now_us(), c->id, p);
}

static void on_tx_consume(void *ctx, size_t n) {
  relay_conn *c = ctx;
  msock_derp_server_tx_consume(c->relay->core, msock_loop_now_us(), c->id, n);
  look_over(c);
}

static void on_closed(void *ctx, msock_err err, const char *reason) {
  relay_conn *c = ctx;
  (void)err;
  msock_logf(c->relay->log, MSOCK_LOG_DEBUG, "relay.closed", "conn=%u reason=\"%s\"",
             (unsigned)c->id, reason);
  c->over = true;
}

static const msock_stream_handlers handlers = {
    .readable = on_readable,
    .tx_peek = on_tx_peek,
    .tx_consume = on_tx_consume,
    .closed = on_closed,
};

static void on_accepted(void *ctx, int fd, const msock_addr *peer) {
  msock_tscontrol_relay *r = ctx;
  const uint64_t now_us = msock_loop_now_us();
  relay_conn *c = calloc(1, sizeof *c);
  (void)peer;
  if (c == NULL || msock_derp_server_open(r->core, now_us, &c->id) != MSOCK_OK) {
    close(fd);
    free(c);
    return;
  }
  c->relay = r;
  if (msock_stream_accept_tls(r->loop, fd, r->identity, HANDSHAKE_US, &handlers, c, &c->stream) !=
      MSOCK_OK) {
    msock_derp_server_close(r->core, now_us, c->id);
    free(c);
    return;
  }
  c->next = r->conns;
  r->conns = c;
}

static void wake(msock_tscontrol_relay *r, uint32_t id) {
  for (relay_conn *c = r->conns; c; c = c->next) {
    if (c->id == id && !c->over) {
      msock_stream_want_write(c->stream);
      look_over(c);
      return;
    }
  }
}

static void reap(msock_tscontrol_relay *r, uint64_t now_us) {
  for (relay_conn **at = &r->conns; *at;) {
    relay_conn *c = *at;
    if (!c->over) {
      at = &c->next;
      continue;
    }
    *at = c->next;
    msock_derp_server_close(r->core, now_us, c->id);
    msock_stream_free(c->stream);
    free(c);
  }
}

/* The end of a turn of the loop. */
static void pump(void *ctx, uint64_t now_us) {
  msock_tscontrol_relay *r = ctx;
  uint32_t id;
  if (msock_derp_server_next_expiry(r->core) <= now_us) {
    msock_derp_server_on_expiry(r->core, now_us);
  }
  for (bool any = true; any;) { /* a connection that goes has news for others */
    any = false;
    while (msock_derp_server_next_wake(r->core, &id)) {
      wake(r, id);
      any = true;
    }
    reap(r, now_us);
  }
  msock_loop_set_deadline(r->loop, &r->timer, msock_derp_server_next_expiry(r->core));
}

/* Wakes the loop; the hook at the end of the turn does the work. */
static void on_deadline(void *ctx, uint64_t now_us) {
  (void)ctx;
  (void)now_us;
}

/* --- STUN --- */

static void on_datagrams(void *ctx, msock_packet *pkts, const msock_addr *from, size_t n,
                         uint64_t now_us) {
  msock_tscontrol_relay *r = ctx;
  uint8_t bytes[MSOCK_BATCH_MAX][MSOCK_STUN_RESPONSE_MAX];
  msock_packet out[MSOCK_BATCH_MAX];
  msock_addr to[MSOCK_BATCH_MAX];
  size_t answers = 0;
  (void)now_us;
  for (size_t i = 0; i < n; i++) {
    msock_stun_request q;
    if (msock_stun_check_request(msock_packet_data(&pkts[i]), pkts[i].len, false, &q) !=
        MSOCK_STUN_ACCEPT) {
      continue; /* silence: no reflector for strangers */
    }
    const ptrdiff_t len =
        msock_stun_encode_response(&q.txid, &from[i], false, bytes[answers], sizeof bytes[answers]);
    if (len > 0) {
      out[answers] =
          (msock_packet){.buf = bytes[answers], .cap = sizeof bytes[answers], .len = (uint32_t)len};
      to[answers++] = from[i];
    }
  }
  if (answers > 0) {
    msock_udp_send(r->udp, MSOCK_PURPOSE_LISTEN, out, to, answers);
  }
}

static void on_udp_dead(void *ctx, int system_errno) {
  msock_tscontrol_relay *r = ctx;
  msock_logf(r->log, MSOCK_LOG_ERROR, "relay.stun_lost", "reason=\"%s\"", strerror(system_errno));
  msock_udp_free(r->udp);
  r->udp = NULL;
}

static const msock_udp_handlers udp_handlers = {.received = on_datagrams, .dead = on_udp_dead};

/* --- life --- */

/* TCP and UDP on one number; a number of the system's choice may be taken for UDP: try another. */
static msock_err listen_both(msock_tscontrol_relay *r, msock_egress *eg, const msock_addr *on) {
  msock_err e = MSOCK_ERR_IO;
  for (unsigned i = 0; i < PORT_TRIES; i++) {
    e = msock_tcp_listener_new(eg, MSOCK_PURPOSE_LISTEN, on, on_accepted, r, &r->listener);
    if (e != MSOCK_OK) {
      return e;
    }
    r->at = msock_tcp_listener_addr(r->listener);
    e = msock_udp_new(eg, MSOCK_PURPOSE_LISTEN, &r->at, &udp_handlers, r, &r->udp);
    if (e == MSOCK_OK) {
      return e;
    }
    const int why = errno;
    msock_tcp_listener_free(r->listener);
    r->listener = NULL;
    errno = why;
    if (on->port != 0) {
      return e;
    }
  }
  return e;
}

static msock_err make_core(msock_tscontrol_relay *r) {
  msock_node_private key;
  msock_node_private_generate(&r->env, &key);
  r->core = msock_derp_server_new(&r->env, &key);
  msock_wipe(&key, sizeof key);
  return r->core ? MSOCK_OK : MSOCK_ERR_NOMEM;
}

msock_err msock_tscontrol_relay_new(msock_loop *loop, msock_egress *eg,
                                    const msock_tscontrol_relay_cfg *cfg,
                                    msock_tscontrol_relay **out,
                                    char why[static MSOCK_TLS_WHY_MAX]) {
  msock_tscontrol_relay *r = calloc(1, sizeof *r);
  char text[MSOCK_ADDR_TEXT_MAX];
  snprintf(why, MSOCK_TLS_WHY_MAX, "out of memory");
  if (r == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  r->loop = loop;
  r->log = cfg->log;
  r->env = msock_loop_env(loop);
  msock_loop_timer_init(&r->timer, on_deadline, r);
  if (cfg->name[0]) {
    snprintf(r->host, sizeof r->host, "%s", cfg->name);
  } else {
    msock_ip_text(&cfg->on.ip, r->host);
  }
  msock_err e = make_core(r);
  if (e == MSOCK_OK) {
    e = cfg->pem ? msock_tls_identity_from_pem(cfg->pem, &r->identity, why)
                 : msock_tls_identity_self_signed(r->host, msock_loop_wall_us(), &r->identity, why);
  }
  if (e == MSOCK_OK && (e = listen_both(r, eg, &cfg->on)) != MSOCK_OK) {
    snprintf(why, MSOCK_TLS_WHY_MAX, "cannot serve the relay on %s (TCP and UDP): %s",
             msock_addr_text(&cfg->on, text),
             e == MSOCK_ERR_IO ? strerror(errno) : msock_err_text(e));
  }
  if (e != MSOCK_OK) {
    msock_tscontrol_relay_free(r);
    return e;
  }
  msock_loop_hook_add(loop, &r->hook, pump, r);
  *out = r;
  return MSOCK_OK;
}

void msock_tscontrol_relay_free(msock_tscontrol_relay *r) {
  if (r == NULL) {
    return;
  }
  msock_loop_hook_remove(&r->hook);
  msock_loop_set_deadline(r->loop, &r->timer, MSOCK_NEVER);
  for (relay_conn *c = r->conns; c; c = c->next) {
    c->over = true;
  }
  reap(r, msock_loop_now_us());
  msock_tcp_listener_free(r->listener);
  msock_udp_free(r->udp);
  msock_tls_identity_free(r->identity);
  msock_derp_server_free(r->core);
  free(r);
}

msock_addr msock_tscontrol_relay_addr(const msock_tscontrol_relay *r) {
  return r->at;
}

msock_err msock_tscontrol_relay_map(const msock_tscontrol_relay *r, msock_derp_map *out) {
  msock_derp_region *region = calloc(1, sizeof *region);
  msock_derp_node *n = calloc(1, sizeof *n);
  char ip[MSOCK_IP_TEXT_MAX], pin[MSOCK_TLS_PIN_TEXT_MAX];
  *out = (msock_derp_map){0};
  if (region == NULL || n == NULL) {
    free(region);
    free(n);
    return MSOCK_ERR_NOMEM;
  }
  *region = (msock_derp_region){
      .id = REGION, .code = "demo", .name = "Demo", .score = 1.0, .nodes = n, .n_nodes = 1};
  snprintf(n->name, sizeof n->name, "%ua", REGION);
  n->region_id = REGION;
  memcpy(n->host_name, r->host, sizeof n->host_name);
  snprintf(n->cert_name, sizeof n->cert_name, "%s", msock_tls_identity_pin(r->identity, pin));
  msock_ip_text(&r->at.ip, ip);
  msock_derp_node_set_ipv4(n, r->at.ip.family == 4 ? ip : "none");
  msock_derp_node_set_ipv6(n, r->at.ip.family == 6 ? ip : "none");
  n->derp_port = n->stun_port = r->at.port;
  *out = (msock_derp_map){.regions = region, .n_regions = 1};
  return MSOCK_OK;
}
