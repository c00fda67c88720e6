#include "tests/unit/relay_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http1.h"
#include "crypto/x25519.h"
#include "derp/login.h"

/* Not check's asserts: vector programs, which are no check programs, use this rig too. */
#define NEED(ok) need(ok, #ok, __LINE__)
static void need(bool ok, const char *what, int line) {
  if (!ok) {
    fprintf(stderr, "relay_rig.c:%d: not so: %s\n", line, what);
    abort();
  }
}

static const char upgrade[] =
    "GET /derp HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n\r\n";

void relay_client_init(relay_client *c, const msock_env *env, msock_derp_server *s, uint64_t now,
                       const msock_node_private *secret) {
  memset(c, 0, sizeof *c);
  c->server = s;
  c->env = env;
  c->rx = malloc(RELAY_RIG_RX_MAX);
  NEED(c->rx != NULL);
  if (secret != NULL) {
    c->secret = *secret;
  } else {
    msock_node_private_generate(env, &c->secret);
  }
  c->key = msock_node_private_public(&c->secret);
  NEED(msock_derp_server_open(s, now, &c->conn) == MSOCK_OK);
  c->open = true;
}

void relay_client_close(relay_client *c, uint64_t now) {
  if (c->open) {
    msock_derp_server_close(c->server, now, c->conn);
    c->open = false;
  }
}

void relay_client_free(relay_client *c) {
  free(c->rx);
  c->rx = NULL;
}

bool relay_client_write(relay_client *c, uint64_t now, const void *p, size_t len) {
  return msock_derp_server_feed(c->server, now, c->conn, p, len) == MSOCK_OK;
}

bool relay_client_frame(relay_client *c, uint64_t now, const msock_derp_frame *f) {
  static uint8_t buf[MSOCK_DERP_PACKET_MAX + 128];
  const ptrdiff_t n = msock_derp_frame_encode(f, buf, sizeof buf);
  NEED(n > 0);
  return relay_client_write(c, now, buf, (size_t)n);
}

bool relay_client_packet(relay_client *c, uint64_t now, const msock_node_key *to, const void *p,
                         size_t len) {
  msock_derp_frame f = {.type = MSOCK_DERP_SEND_PACKET};
  f.u.packet.key = *to;
  f.u.packet.data = p;
  f.u.packet.len = len;
  return relay_client_frame(c, now, &f);
}

void relay_client_pump(relay_client *c, uint64_t now) {
  const uint8_t *p = NULL;
  size_t n;
  while ((n = msock_derp_server_tx_peek(c->server, now, c->conn, &p)) > 0) {
    NEED(c->rx_len + n <= RELAY_RIG_RX_MAX);
    memcpy(c->rx + c->rx_len, p, n);
    c->rx_len += n;
    msock_derp_server_tx_consume(c->server, now, c->conn, n);
  }
}

static void drop(relay_client *c, size_t n) {
  memmove(c->rx, c->rx + n, c->rx_len - n);
  c->rx_len -= n;
}

bool relay_client_take(relay_client *c, uint64_t now, msock_derp_frame *f) {
  relay_client_pump(c, now);
  if (c->rx_len < MSOCK_DERP_HEADER_LEN) {
    return false;
  }
  const msock_derp_header h = msock_derp_header_read(c->rx);
  if (c->rx_len < MSOCK_DERP_HEADER_LEN + h.len) {
    return false;
  }
  NEED(h.len <= sizeof c->body);
  memcpy(c->body, c->rx + MSOCK_DERP_HEADER_LEN, h.len);
  drop(c, MSOCK_DERP_HEADER_LEN + h.len);
  NEED(msock_derp_frame_decode(h.type, c->body, h.len, f) == MSOCK_OK);
  return true;
}

int relay_client_head(relay_client *c, uint64_t now) {
  msock_http1_head h;
  relay_client_pump(c, now);
  const ptrdiff_t n = msock_http1_parse_response(c->rx, c->rx_len, &h);
  NEED(n > 0);
  const int status = h.status;
  drop(c, (size_t)n);
  return status;
}

void relay_client_introduce(relay_client *c, uint64_t now, const msock_derp_client_info *info) {
  uint8_t buf[MSOCK_DERP_LOGIN_FRAME_MAX];
  msock_derp_frame f;

  NEED(relay_client_write(c, now, upgrade, sizeof upgrade - 1));
  NEED(relay_client_head(c, now) == 101);
  NEED(relay_client_take(c, now, &f));
  NEED(f.type == MSOCK_DERP_SERVER_KEY);
  const ptrdiff_t n =
      msock_derp_client_info_seal(info, &c->secret, &f.u.server_key.key, c->env, buf, sizeof buf);
  NEED(n > 0);
  relay_client_write(c, now, buf, (size_t)n);
}

void relay_client_login_as(relay_client *c, uint64_t now, const msock_derp_client_info *info) {
  const msock_node_key server = msock_derp_server_key(c->server);
  msock_derp_server_info got;
  msock_derp_frame f;
  relay_client_introduce(c, now, info);
  NEED(relay_client_take(c, now, &f));
  NEED(f.type == MSOCK_DERP_SERVER_INFO);
  NEED(msock_derp_server_info_open(f.u.server_info.box, f.u.server_info.box_len, &c->secret,
                                   &server, &got) == MSOCK_OK);
  NEED(got.version == 2);
}

void relay_client_login(relay_client *c, uint64_t now) {
  const msock_derp_client_info info = msock_derp_client_info_default();
  relay_client_login_as(c, now, &info);
}
