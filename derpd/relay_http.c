/* Request heads (derp.md 1.4 to 1.6): DERP's own are judged by the core, the rest is answered here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/wipe.h"
#include "derpd/relay_internal.h"

#define ANSWER_MAX 4096u
#define HEAD_FIRST 2048u

/* --- answers --- */

static void send_and_end(relay_client *c, const char *p, size_t len) {
  c->phase = RELAY_PHASE_ANSWER;
  if (!relay_put(c, p, len)) {
    relay_end(c);
    return;
  }
  msock_stream_want_write(c->stream);
}

/* What derper gives browsers (derp.md 1.6). */
static void add_browser_headers(msock_http1_builder *b, bool tls) {
  if (tls) {
    msock_http1_add(b, "Strict-Transport-Security", "max-age=63072000; includeSubDomains");
  }
  msock_http1_add(b, "Content-Security-Policy",
                  "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
                  "form-action 'none'; base-uri 'none'");
  msock_http1_add(b, "X-Frame-Options", "DENY");
  msock_http1_add(b, "X-Content-Type-Options", "nosniff");
}

static void answer(relay_client *c, int status, const char *type, const char *location,
                   const char *body, bool send_body) {
  char text[ANSWER_MAX];
  msock_http1_builder b;
  msock_http1_begin_response(&b, text, sizeof text, status);
  if (type) {
    msock_http1_add(&b, "Content-Type", type);
  }
  if (location) {
    msock_http1_add(&b, "Location", location);
  }
  add_browser_headers(&b, c->is_tls);
  msock_http1_add_number(&b, "Content-Length", strlen(body));
  msock_http1_add(&b, "Connection", "close");
  ptrdiff_t n = msock_http1_finish(&b);
  const size_t len = send_body ? strlen(body) : 0;
  if (n < 0 || (size_t)n + len > sizeof text) {
    relay_end(c);
    return;
  }
  memcpy(text + n, body, len);
  send_and_end(c, text, (size_t)n + len);
}

static const char home_page[] =
    "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>DERP relay</title>"
    "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 "
    "1rem;color:#222}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}}</style>"
    "<h1>DERP relay</h1><p>This machine relays encrypted packets between the nodes of a tailnet "
    "that have no direct path to each other. It cannot read them, and there is nothing else to see "
    "here.</p></html>\n";

static void answer_home(relay_client *c, bool send_body) {
  const char *home = c->relay->v->home;
  if (strcmp(home, "blank") == 0) {
    answer(c, 200, NULL, NULL, "", send_body);
  } else if (home[0]) {
    answer(c, 302, NULL, home, "", send_body);
  } else {
    answer(c, 200, "text/html; charset=utf-8", NULL, home_page, send_body);
  }
}

static bool begins_with(msock_http1_str s, const char *text) {
  const size_t n = strlen(text);
  return s.len >= n && memcmp(s.p, text, n) == 0;
}

/* A path that is not DERP's. */
static void answer_other(relay_client *c, const msock_http1_head *h) {
  const bool head = msock_http1_str_is(h->method, "HEAD");
  const bool get = head || msock_http1_str_is(h->method, "GET");
  if (msock_http1_str_is(h->method, "CONNECT")) {
    answer(c, 403, "text/plain", NULL, "CONNECT is not allowed\n", true);
  } else if (get && msock_http1_str_is(h->target, "/")) {
    answer_home(c, !head);
  } else if (msock_http1_str_is(h->target, "/bootstrap-dns")) { /* no names here: derp.md 1.6 */
    c->relay->stats.bootstrap_requests++;
    answer(c, 200, "application/json", NULL, "", !head);
  } else if (begins_with(h->target, "/debug/")) {
    answer(c, 403, "text/plain", NULL, "debug access is on the admin listener\n", !head);
  } else {
    answer(c, 404, "text/plain", NULL, "not found\n", !head);
  }
}

/* http_listen: everything but the captive check belongs to https. */
static void answer_plain(relay_client *c, const msock_http1_head *h, msock_http1_str target,
                         const msock_derp_http_out *judged) {
  const msock_http1_header *host = msock_http1_find(h, "host");
  char url[1024];
  if (msock_http1_str_is(h->target, "/generate_204")) {
    send_and_end(c, judged->answer, judged->len);
    return;
  }
  const bool get = msock_http1_str_is(h->method, "GET") || msock_http1_str_is(h->method, "HEAD");
  const size_t name = host == NULL ? 0 : strcspn(host->value.p, ":\r\n");
  if (!get || host == NULL || host->value.len == 0 || name == 0 || target.p[0] != '/' ||
      host->value.len + target.len + 16 > sizeof url) {
    answer(c, 400, "text/plain", NULL, "use https\n", true);
    return;
  }
  const size_t len = name < host->value.len ? name : host->value.len;
  snprintf(url, sizeof url, "https://%.*s%.*s", (int)len, host->value.p, (int)target.len, target.p);
  answer(c, 302, NULL, url, "", false);
}

/* --- upgrades --- */

static void look_at_token(relay_client *c, const msock_http1_head *h) {
  static const char scheme[] = "Bearer ";
  const char *token = c->relay->v->admission.token;
  const msock_http1_header *auth = msock_http1_find(h, "authorization");
  const size_t n = strlen(token), skip = sizeof scheme - 1;
  c->has_token = n > 0 && auth != NULL && auth->value.len == skip + n &&
                 memcmp(auth->value.p, scheme, skip) == 0 &&
                 msock_ct_equal(auth->value.p + skip, token, n);
}

static void go_derp(relay_client *c, const msock_derp_http_out *judged) {
  if (!relay_put(c, judged->answer, judged->len)) {
    relay_end(c);
    return;
  }
  if (c->out != NULL && c->out->len == 0) { /* fast start: nothing in front of the core's bytes */
    free(c->out);
    c->out = NULL;
  }
  c->phase = RELAY_PHASE_DERP;
  msock_derp_server_start(c->relay->core, msock_loop_now_us(), c->id, judged->not_ideal);
  msock_stream_want_write(c->stream);
}

static void go_websocket(relay_client *c, const msock_http1_head *h) {
  char text[512];
  const ptrdiff_t n = msock_derpd_ws_answer(h, text, sizeof text);
  if (n < 0) {
    answer(c, 400, "text/plain", NULL, "malformed WebSocket request\n", true);
    return;
  }
  c->ws = calloc(1, sizeof *c->ws);
  if (c->ws == NULL || !relay_put(c, text, (size_t)n)) {
    relay_end(c);
    return;
  }
  c->phase = RELAY_PHASE_WEBSOCKET;
  c->relay->stats.websocket_accepts++;
  msock_derp_server_start(c->relay->core, msock_loop_now_us(), c->id, false);
  msock_stream_want_write(c->stream);
}

/* The last address of X-Forwarded-For is what our proxy saw; those before it are claims. */
static void look_at_forwarded(relay_client *c, const msock_http1_head *h) {
  const msock_http1_header *f = msock_http1_find(h, "x-forwarded-for");
  const msock_config_prefixes *trusted = &c->relay->v->trusted_proxies;
  char text[MSOCK_IP_TEXT_MAX];
  msock_addr from = {0};
  bool is_trusted = false;
  for (size_t i = 0; i < trusted->n && !is_trusted; i++) {
    is_trusted = msock_prefix_contains(&trusted->v[i], &c->peer.ip);
  }
  if (c->is_tls || !is_trusted || f == NULL) {
    return;
  }
  size_t at = f->value.len;
  while (at > 0 && f->value.p[at - 1] != ',' && f->value.p[at - 1] != ' ') {
    at--;
  }
  const size_t n = f->value.len - at;
  if (n == 0 || n >= sizeof text) {
    return;
  }
  memcpy(text, f->value.p + at, n);
  text[n] = '\0';
  if (msock_ip_parse(text, &from.ip) == MSOCK_OK &&
      msock_derp_server_set_from(c->relay->core, msock_loop_now_us(), c->id, &from) != MSOCK_OK) {
    relay_end(c);
  }
}

static void on_head(relay_client *c, msock_http1_head *h) {
  const msock_http1_str target = h->target;
  const char *query = memchr(target.p, '?', target.len);
  msock_derp_http_out out;
  c->relay->stats.http_requests++;
  look_at_forwarded(c, h);
  if (c->over) {
    return;
  }
  h->target.len = query != NULL ? (size_t)(query - target.p) : target.len; /* paths alone decide */
  msock_derp_http_judge(h, &c->relay->key, &out);
  if (c->kind == RELAY_KIND_HTTP) {
    answer_plain(c, h, target, &out);
  } else if (!c->relay->v->derp &&
             (out.verdict == MSOCK_DERP_HTTP_UPGRADE || out.verdict == MSOCK_DERP_HTTP_WEBSOCKET)) {
    answer(c, 404, "text/plain", NULL, "derp server disabled\n", true);
  } else if (out.verdict == MSOCK_DERP_HTTP_UPGRADE) {
    look_at_token(c, h);
    go_derp(c, &out);
  } else if (out.verdict == MSOCK_DERP_HTTP_WEBSOCKET) {
    look_at_token(c, h);
    go_websocket(c, h);
  } else if (out.verdict == MSOCK_DERP_HTTP_ANSWER) {
    send_and_end(c, out.answer, out.len);
  } else {
    answer_other(c, h);
  }
}

/* --- the bytes of a head --- */

/* Puts bytes behind the head so far; false: no memory. */
static bool gather(relay_client *c, const uint8_t *p, size_t len) {
  const size_t have = c->in ? c->in->len : 0;
  if (c->in == NULL || have + len > c->in->cap) {
    size_t cap = c->in ? c->in->cap : HEAD_FIRST;
    while (cap < have + len) {
      cap *= 2;
    }
    relay_bytes *in = realloc(c->in, sizeof *in + cap);
    if (in == NULL) {
      return false;
    }
    in->cap = (uint32_t)cap;
    in->len = (uint32_t)have;
    in->at = 0;
    c->in = in;
  }
  memcpy(c->in->b + have, p, len);
  c->in->len = (uint32_t)(have + len);
  return true;
}

size_t relay_feed_head(relay_client *c, const uint8_t *p, size_t len) {
  const size_t have = c->in ? c->in->len : 0;
  const size_t room = MSOCK_HTTP1_HEAD_MAX - have;
  const size_t n = len < room ? len : room;
  msock_http1_head h;
  if (have > 0 && !gather(c, p, n)) { /* mostly a head comes in one piece and is read in place */
    relay_end(c);
    return len;
  }
  const ptrdiff_t used = have > 0 ? msock_http1_parse_request(c->in->b, c->in->len, &h)
                                  : msock_http1_parse_request(p, n, &h);
  if (used == MSOCK_ERR_AGAIN) {
    if (have == 0 && !gather(c, p, n)) {
      relay_end(c);
      return len;
    }
    return n;
  }
  if (used < 0) {
    answer(c, 400, "text/plain", NULL, "malformed request\n", true);
  } else {
    on_head(c, &h);
  }
  free(c->in);
  c->in = NULL;
  return used < 0 ? len : (size_t)used - have;
}
