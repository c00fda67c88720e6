#include "derp/server_http.h"

#include <stdio.h>
#include <string.h>

#include "base/hex.h"
#include "derp/server_internal.h"

#define CHALLENGE_MAX 64u /* X-Tailscale-Challenge: derp.md 1.6 */

/* --- what a head asks for --- */

static void finish(msock_derp_http_out *out, msock_http1_builder *b, const char *body) {
  const ptrdiff_t n = msock_http1_finish(b);
  const size_t body_len = strlen(body);
  if (n >= 0 && (size_t)n + body_len <= sizeof out->answer) {
    memcpy(out->answer + n, body, body_len);
    out->len = (size_t)n + body_len;
  }
}

static void answer(msock_derp_http_out *out, int status, const char *body, bool cors) {
  msock_http1_builder b;
  *out = (msock_derp_http_out){.verdict = MSOCK_DERP_HTTP_ANSWER};
  msock_http1_begin_response(&b, out->answer, sizeof out->answer, status);
  if (*body) {
    msock_http1_add(&b, "Content-Type", "text/plain; charset=utf-8");
  }
  if (cors) {
    msock_http1_add(&b, "Access-Control-Allow-Origin", "*");
  }
  msock_http1_add_number(&b, "Content-Length", strlen(body));
  msock_http1_add(&b, "Connection", "close");
  finish(out, &b, body);
}

void msock_derp_http_answer(msock_derp_http_out *out, int status, const char *body) {
  answer(out, status, body, false);
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
static void answer_204(msock_derp_http_out *out, const msock_http1_head *h) {
  const msock_http1_header *challenge = msock_http1_find(h, "x-tailscale-challenge");
  char echo[CHALLENGE_MAX + 16];
  msock_http1_builder b;
  *out = (msock_derp_http_out){.verdict = MSOCK_DERP_HTTP_ANSWER};
  msock_http1_begin_response(&b, out->answer, sizeof out->answer, 204);
  msock_http1_add(&b, "Cache-Control",
                  "no-cache, no-store, must-revalidate, no-transform, max-age=0");
  if (challenge != NULL && is_challenge(challenge->value)) {
    snprintf(echo, sizeof echo, "response %.*s", (int)challenge->value.len, challenge->value.p);
    msock_http1_add(&b, "X-Tailscale-Response", echo);
  }
  msock_http1_add(&b, "Connection", "close");
  finish(out, &b, "");
}

/* PEER: "Upgrade: websocket" without the subprotocol is plain DERP (old clients). */
static bool is_websocket(const msock_http1_head *h, msock_http1_str upgrade) {
  const msock_http1_header *protocol = msock_http1_find(h, "sec-websocket-protocol");
  return msock_http1_str_is(upgrade, "websocket") && protocol != NULL &&
         msock_http1_list_has(protocol->value, "derp");
}

static void upgrade(msock_derp_http_out *out, const msock_http1_head *h,
                    const msock_node_key *server) {
  const msock_http1_header *up = msock_http1_find(h, "upgrade");
  const msock_http1_header *fast = msock_http1_find(h, "derp-fast-start");
  char hex[2 * MSOCK_KEY_LEN + 1];
  msock_http1_builder b;

  if (up == NULL ||
      (!msock_http1_str_is(up->value, "derp") && !msock_http1_str_is(up->value, "websocket"))) {
    answer(out, 426, "DERP requires connection upgrade\n", false);
    return;
  }
  *out = (msock_derp_http_out){.verdict = MSOCK_DERP_HTTP_UPGRADE,
                               .not_ideal = msock_http1_find(h, "ideal-node") != NULL};
  if (is_websocket(h, up->value)) {
    out->verdict = MSOCK_DERP_HTTP_WEBSOCKET;
    return;
  }
  if (fast != NULL && fast->value.len == 1 && fast->value.p[0] == '1') {
    return;
  }
  msock_hex_encode(server->b, sizeof server->b, hex);
  msock_http1_begin_response(&b, out->answer, sizeof out->answer, 101);
  msock_http1_add(&b, "Upgrade", "DERP");
  msock_http1_add(&b, "Connection", "Upgrade");
  msock_http1_add_number(&b, "Derp-Version", MSOCK_DERP_PROTOCOL_VERSION);
  msock_http1_add(&b, "Derp-Public-Key", hex);
  finish(out, &b, "");
}

void msock_derp_http_judge(const msock_http1_head *h, const msock_node_key *server,
                           msock_derp_http_out *out) {
  const bool get = msock_http1_str_is(h->method, "GET");
  if (msock_http1_str_is(h->target, "/derp")) {
    upgrade(out, h, server);
  } else if (msock_http1_str_is(h->target, "/derp/probe") ||
             msock_http1_str_is(h->target, "/derp/latency-check")) {
    if (get || msock_http1_str_is(h->method, "HEAD")) {
      answer(out, 200, "", true);
    } else {
      answer(out, 405, "bogus probe method\n", false);
    }
  } else if (msock_http1_str_is(h->target, "/generate_204")) {
    answer_204(out, h);
  } else if (msock_http1_str_is(h->target, "/robots.txt")) {
    answer(out, 200, "User-agent: *\nDisallow: /\n", false);
  } else {
    *out = (msock_derp_http_out){.verdict = MSOCK_DERP_HTTP_OTHER};
  }
}

/* --- the core's own use of it --- */

void relay_greet(msock_derp_server *s, relay_conn *c) {
  const msock_derp_frame greeting = {.type = MSOCK_DERP_SERVER_KEY,
                                     .u.server_key.key = s->public_key};
  c->phase = RELAY_LOGIN;
  if (!relay_notice_frame(s, c, &greeting)) {
    relay_kill(s, c, MSOCK_DERP_CAUSE_MEMORY);
  }
}

void msock_derp_server_start(msock_derp_server *s, uint64_t now_us, uint32_t conn, bool not_ideal) {
  relay_conn *c = relay_find(s, conn);
  (void)now_us;
  if (c != NULL && c->phase == RELAY_HTTP && !c->dead) {
    c->is_not_ideal = not_ideal;
    relay_greet(s, c);
  }
}

static void on_head(msock_derp_server *s, uint64_t now_us, relay_conn *c,
                    const msock_http1_head *h) {
  msock_derp_http_out out;
  if (h == NULL) {
    answer(&out, 400, "malformed request\n", false);
  } else {
    msock_derp_http_judge(h, &s->public_key, &out);
  }
  if (out.verdict == MSOCK_DERP_HTTP_OTHER && msock_http1_str_is(h->target, "/")) {
    answer(&out, 200, "This is a DERP relay.\n", false);
  } else if (out.verdict == MSOCK_DERP_HTTP_OTHER) {
    answer(&out, 404, "not found\n", false);
  } else if (out.verdict == MSOCK_DERP_HTTP_WEBSOCKET) {
    answer(&out, 426, "DERP requires connection upgrade\n", false);
  }
  if (out.len > 0 && !relay_notice(s, c, out.answer, out.len)) {
    relay_kill(s, c, MSOCK_DERP_CAUSE_MEMORY);
  } else if (out.verdict == MSOCK_DERP_HTTP_UPGRADE) {
    c->is_not_ideal = out.not_ideal;
    relay_greet(s, c);
  } else {
    s->stats.http_answers++;
    relay_finish(s, now_us, c, MSOCK_DERP_CAUSE_HTTP);
  }
}

relay_buf *relay_gather_head(msock_derp_server *s, relay_conn *c, const uint8_t *p, size_t len,
                             size_t *taken) {
  const size_t before = c->rx != NULL ? c->rx->len : 0;
  const size_t room = MSOCK_HTTP1_HEAD_MAX - before;
  *taken = len < room ? len : room;
  relay_buf *rx = relay_buf_fit(&s->pool, c->rx, before + *taken);

  if (rx == NULL) {
    relay_kill(s, c, MSOCK_DERP_CAUSE_MEMORY);
    return NULL;
  }
  c->rx = rx;
  memcpy(rx->data + before, p, *taken);
  rx->len = (uint32_t)(before + *taken);
  return rx;
}

size_t relay_feed_http(msock_derp_server *s, uint64_t now_us, relay_conn *c, const uint8_t *p,
                       size_t len) {
  const size_t before = c->rx != NULL ? c->rx->len : 0;
  size_t n = 0;
  relay_buf *rx = relay_gather_head(s, c, p, len, &n);
  msock_http1_head h;

  if (rx == NULL) {
    return len;
  }
  const ptrdiff_t used = msock_http1_parse_request(rx->data, rx->len, &h);
  if (used == MSOCK_ERR_AGAIN) {
    return n;
  }
  c->rx = NULL; /* h borrows from it */
  on_head(s, now_us, c, used < 0 ? NULL : &h);
  relay_buf_free(&s->pool, rx);
  return used < 0 ? len : (size_t)used - before;
}
