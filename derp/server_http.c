/* derp/server_http.c: the request heads of a relay (derp.md 1.4, 1.6). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/http1.h"
#include "derp/server_internal.h"

#define CHALLENGE_MAX 64u /* X-Tailscale-Challenge: derp.md 1.6 */

static void finish(relay_conn *c, msock_http1_builder *b) {
  const ptrdiff_t n = msock_http1_finish(b);
  if (n < 0 || !relay_send(c, b->buf, (size_t)n)) {
    c->dead = true;
  }
}

static void answer(relay_conn *c, int status, const char *body, bool cors) {
  char head[512];
  msock_http1_builder b;
  msock_http1_begin_response(&b, head, sizeof head, status);
  if (*body) {
    msock_http1_add(&b, "Content-Type", "text/plain; charset=utf-8");
  }
  if (cors) {
    msock_http1_add(&b, "Access-Control-Allow-Origin", "*");
  }
  msock_http1_add_number(&b, "Content-Length", strlen(body));
  msock_http1_add(&b, "Connection", "close");
  finish(c, &b);
  relay_send(c, body, strlen(body));
  c->closing = true;
}

static bool is_challenge(msock_http1_str s) {
  if (s.len == 0 || s.len > CHALLENGE_MAX) {
    return false;
  }
  for (size_t i = 0; i < s.len; i++) {
    const char ch = s.p[i];
    if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
          ch == '.' || ch == '_' || ch == ':' || ch == '-')) {
      return false;
    }
  }
  return true;
}

/* The captive-portal check: an answer that only we can give. */
static void answer_204(relay_conn *c, const msock_http1_head *h) {
  const msock_http1_header *challenge = msock_http1_find(h, "x-tailscale-challenge");
  char head[512], echo[CHALLENGE_MAX + 16];
  msock_http1_builder b;
  msock_http1_begin_response(&b, head, sizeof head, 204);
  msock_http1_add(&b, "Cache-Control",
                  "no-cache, no-store, must-revalidate, no-transform, max-age=0");
  if (challenge != NULL && is_challenge(challenge->value)) {
    snprintf(echo, sizeof echo, "response %.*s", (int)challenge->value.len, challenge->value.p);
    msock_http1_add(&b, "X-Tailscale-Response", echo);
  }
  msock_http1_add(&b, "Connection", "close");
  finish(c, &b);
  c->closing = true;
}

static void upgrade(msock_derp_server *s, relay_conn *c, const msock_http1_head *h) {
  const msock_http1_header *up = msock_http1_find(h, "upgrade");
  const msock_http1_header *fast = msock_http1_find(h, "derp-fast-start");
  const msock_derp_frame greeting = {.type = MSOCK_DERP_SERVER_KEY,
                                     .u.server_key.key = s->public_key};
  char head[512], hex[2 * MSOCK_KEY_LEN + 1];
  uint8_t frame[MSOCK_DERP_HEADER_LEN + MSOCK_DERP_SERVER_KEY_MIN];
  msock_http1_builder b;

  if (up == NULL || !msock_http1_str_is(up->value, "derp")) {
    answer(c, 426, "DERP requires connection upgrade\n", false);
    return;
  }
  if (fast == NULL || fast->value.len != 1 || fast->value.p[0] != '1') {
    msock_hex_encode(s->public_key.b, sizeof s->public_key.b, hex);
    msock_http1_begin_response(&b, head, sizeof head, 101);
    msock_http1_add(&b, "Upgrade", "DERP");
    msock_http1_add(&b, "Connection", "Upgrade");
    msock_http1_add_number(&b, "Derp-Version", MSOCK_DERP_PROTOCOL_VERSION);
    msock_http1_add(&b, "Derp-Public-Key", hex);
    finish(c, &b);
  }
  const ptrdiff_t n = msock_derp_frame_encode(&greeting, frame, sizeof frame);
  relay_send(c, frame, (size_t)n);
  c->phase = RELAY_LOGIN;
}

static void on_head(msock_derp_server *s, relay_conn *c, const msock_http1_head *h) {
  const bool get = msock_http1_str_is(h->method, "GET");
  if (msock_http1_str_is(h->target, "/derp")) {
    upgrade(s, c, h);
  } else if (msock_http1_str_is(h->target, "/derp/probe") ||
             msock_http1_str_is(h->target, "/derp/latency-check")) {
    if (get || msock_http1_str_is(h->method, "HEAD")) {
      answer(c, 200, "", true);
    } else {
      answer(c, 405, "bogus probe method\n", false);
    }
  } else if (msock_http1_str_is(h->target, "/generate_204")) {
    answer_204(c, h);
  } else if (msock_http1_str_is(h->target, "/robots.txt")) {
    answer(c, 200, "User-agent: *\nDisallow: /\n", false);
  } else if (msock_http1_str_is(h->target, "/")) {
    answer(c, 200, "This is a DERP relay for a demo tailnet.\n", false);
  } else {
    answer(c, 404, "not found\n", false);
  }
}

size_t relay_feed_http(msock_derp_server *s, relay_conn *c, const uint8_t *p, size_t len) {
  const size_t before = c->rx_len;
  const size_t room = MSOCK_HTTP1_HEAD_MAX - before;
  const size_t n = len < room ? len : room;
  msock_http1_head h;

  if (!relay_rx_fit(c, before + n)) {
    return len;
  }
  memcpy(c->rx + before, p, n);
  c->rx_len += n;
  const ptrdiff_t used = msock_http1_parse_request(c->rx, c->rx_len, &h);
  if (used == MSOCK_ERR_AGAIN) {
    return n;
  }
  if (used < 0) {
    answer(c, 400, "malformed request\n", false);
    return len;
  }
  on_head(s, c, &h);
  c->rx_len = 0;
  return (size_t)used - before;
}
