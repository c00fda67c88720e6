#include "node/localapi.h"

#include <json-c/json.h>
#include <json-c/printbuf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/env.h"
#include "crypto/wipe.h"
#include "node/capture.h"
#include "node/localapi_conn.h"

#define JSON_DEPTH_MAX 16
#define PREFIX "/localapi/v0/"
#define AUTH_KEY_MAX 512u
#define ADDR_PARAM_MAX 128u /* "nodekey:" + 64 digits, or an address */

struct msock_localapi {
  msock_localapi_backend backend;
  uint32_t own_uid;
  bool has_operator;
  uint32_t operator_uid;
  const msock_log *log;
  uint32_t serial;
  uint64_t now_us; /* of the call under way, for answers made inside it */
  bool used[MSOCK_LOCALAPI_CONNS_MAX];
  bool streams[MSOCK_LOCALAPI_CONNS_MAX]; /* its answer goes on until it is closed */
  msock_localapi_conn conns[MSOCK_LOCALAPI_CONNS_MAX];
};

/* One request on its way to the backend. Target and body are borrowed from the connection. */
typedef struct call {
  msock_localapi *l;
  msock_localapi_req req;
  msock_http1_str query;
  const char *body;
  size_t body_len;
} call;

typedef struct route {
  const char *path; /* behind PREFIX */
  const char *method;
  bool writes;
  void (*run)(const call *c);
} route;

static void fail(const call *c, int status, const char *message) {
  msock_localapi_reply_error(c->l, c->l->now_us, c->req, status, message);
}

static int hex_value(char c) {
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}

/* Percent-decodes s into out (NUL-terminated); false on bad escapes, zero bytes, or no room. */
static bool decode(msock_http1_str s, char *out, size_t cap) {
  size_t n = 0;
  for (size_t i = 0; i < s.len; i++) {
    char ch = s.p[i] == '+' ? ' ' : s.p[i];
    if (s.p[i] == '%') {
      const int hi = i + 2 < s.len ? hex_value(s.p[i + 1]) : -1;
      const int lo = hi >= 0 ? hex_value(s.p[i + 2]) : -1;
      if (lo < 0) {
        return false;
      }
      ch = (char)(hi << 4 | lo);
      i += 2;
    }
    if (ch == '\0' || n + 1 >= cap) {
      return false;
    }
    out[n++] = ch;
  }
  out[n] = '\0';
  return true;
}

/* A query parameter, decoded; "" when absent, false when it cannot be decoded. */
static bool param(const call *c, const char *name, char *out, size_t cap) {
  const char *p = c->query.p, *end = p + c->query.len;
  out[0] = '\0';
  while (p < end) {
    const char *amp = memchr(p, '&', (size_t)(end - p));
    const char *stop = amp != NULL ? amp : end;
    const char *eq = memchr(p, '=', (size_t)(stop - p));
    if (eq != NULL && (size_t)(eq - p) == strlen(name) && memcmp(p, name, strlen(name)) == 0) {
      return decode((msock_http1_str){eq + 1, (size_t)(stop - eq - 1)}, out, cap);
    }
    p = stop + 1;
  }
  return true;
}

/* The body as an object, NULL otherwise. The parser's buffer held its strings: it is grown first,
 * so that it never moves, and wiped. */
static json_object *parse_body(const call *c) {
  json_tokener *tok = json_tokener_new_ex(JSON_DEPTH_MAX);
  json_object *doc = NULL;
  if (tok == NULL) {
    return NULL;
  }
  json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
  printbuf_memset(tok->pb, 0, 0, (int)c->body_len + 1);
  printbuf_reset(tok->pb);
  doc = json_tokener_parse_ex(tok, c->body, (int)c->body_len);
  if (json_tokener_get_error(tok) != json_tokener_success ||
      !json_object_is_type(doc, json_type_object)) {
    json_object_put(doc);
    doc = NULL;
  }
  msock_wipe(tok->pb->buf, (size_t)tok->pb->size);
  json_tokener_free(tok);
  return doc;
}

static void run_status(const call *c) {
  char peers[8];
  const bool with_peers = !param(c, "peers", peers, sizeof peers) || strcmp(peers, "false") != 0;
  c->l->backend.status(c->l->backend.ctx, c->req, with_peers);
}

static void run_prefs(const call *c) {
  c->l->backend.prefs(c->l->backend.ctx, c->req);
}

static void run_edit_prefs(const call *c) {
  json_object *doc = parse_body(c);
  if (doc == NULL) {
    fail(c, 400, "the body is not a JSON object");
    return;
  }
  c->l->backend.edit_prefs(c->l->backend.ctx, c->req, doc);
  json_object_put(doc);
}

/* Moves the auth key out of the document and wipes it there. */
static bool take_auth_key(json_object *doc, char key[static AUTH_KEY_MAX]) {
  json_object *v = NULL;
  key[0] = '\0';
  if (!json_object_object_get_ex(doc, "AuthKey", &v) || v == NULL) {
    return true;
  }
  if (!json_object_is_type(v, json_type_string)) {
    return false;
  }
  const size_t len = (size_t)json_object_get_string_len(v);
  const char *text = json_object_get_string(v);
  const bool fits = len < AUTH_KEY_MAX && strlen(text) == len;
  if (fits) {
    memcpy(key, text, len + 1);
  }
  msock_wipe((void *)(uintptr_t)text, len); /* json-c keeps the one copy here until put */
  return fits;
}

static void run_start(const call *c) {
  char key[AUTH_KEY_MAX];
  json_object *doc = parse_body(c), *prefs = NULL, *force = NULL;
  if (doc == NULL) {
    fail(c, 400, "the body is not a JSON object");
    return;
  }
  if (!take_auth_key(doc, key)) {
    fail(c, 400, "AuthKey is not a text, or too long");
  } else {
    json_object_object_get_ex(doc, "UpdatePrefs", &prefs);
    json_object_object_get_ex(doc, "ForceReauth", &force);
    c->l->backend.start(c->l->backend.ctx, c->req, key, prefs, json_object_get_boolean(force));
  }
  msock_wipe(key, sizeof key);
  json_object_put(doc);
}

static void run_login(const call *c) {
  c->l->backend.login(c->l->backend.ctx, c->req);
}

static void run_logout(const call *c) {
  c->l->backend.logout(c->l->backend.ctx, c->req);
}

static bool ping_type(const char *text, msock_localapi_ping_type *out) {
  static const char *const names[] = {"disco", "TSMP", "ICMP"}; /* order of the enum */
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (strcasecmp(text, names[i]) == 0) {
      *out = (msock_localapi_ping_type)i;
      return true;
    }
  }
  return false;
}

static void run_ping(const call *c) {
  char ip_text[MSOCK_IP_TEXT_MAX], type_text[16], size_text[8];
  msock_localapi_ping_type type;
  msock_ip ip = {0};
  char *end = NULL;
  if (!param(c, "ip", ip_text, sizeof ip_text) || msock_ip_parse(ip_text, &ip) != MSOCK_OK) {
    fail(c, 400, "parameter ip must be an IP address");
    return;
  }
  if (!param(c, "type", type_text, sizeof type_text) || !ping_type(type_text, &type)) {
    fail(c, 400, "parameter type must be disco, TSMP or ICMP");
    return;
  }
  const bool decoded = param(c, "size", size_text, sizeof size_text);
  const unsigned long size = strtoul(size_text, &end, 10);
  if (!decoded || *end != '\0' || size_text[0] == '-' || size > MSOCK_LOCALAPI_PING_SIZE_MAX) {
    fail(c, 400, "parameter size must be 0 to 1200 bytes");
    return;
  }
  c->l->backend.ping(c->l->backend.ctx, c->req, &ip, type, (uint32_t)size);
}

static void run_whois(const call *c) {
  char addr[ADDR_PARAM_MAX];
  if (!param(c, "addr", addr, sizeof addr) || addr[0] == '\0') {
    fail(c, 400, "parameter addr must be an address or a node key");
    return;
  }
  c->l->backend.whois(c->l->backend.ctx, c->req, addr);
}

static void run_metrics(const call *c) {
  c->l->backend.metrics(c->l->backend.ctx, c->req);
}

static void run_watch(const call *c) {
  char text[24], *end = NULL;
  const bool decoded = param(c, "mask", text, sizeof text);
  const uint64_t mask = strtoull(text, &end, 10);
  if (!decoded || *end != '\0' || text[0] == '-') {
    fail(c, 400, "parameter mask must be a number");
    return;
  }
  c->l->backend.watch(c->l->backend.ctx, c->req, mask);
}

static void run_why(const call *c) {
  char text[MSOCK_IP_TEXT_MAX];
  msock_ip ip;
  if (!param(c, "ip", text, sizeof text) || msock_ip_parse(text, &ip) != MSOCK_OK) {
    fail(c, 400, "parameter ip must be an IP address");
    return;
  }
  c->l->backend.why(c->l->backend.ctx, c->req, &ip);
}

static void run_debug_endpoints(const call *c) {
  c->l->backend.debug_endpoints(c->l->backend.ctx, c->req);
}

static void run_debug_rebind(const call *c) {
  c->l->backend.debug_rebind(c->l->backend.ctx, c->req);
}

static void run_netcheck(const call *c) {
  c->l->backend.netcheck(c->l->backend.ctx, c->req);
}

static void run_debug_derp(const call *c) {
  c->l->backend.debug_derp(c->l->backend.ctx, c->req);
}

static void run_debug_netmap(const call *c) {
  c->l->backend.debug_netmap(c->l->backend.ctx, c->req);
}

/* A number of 1 to max; false when it is none. */
static bool number_param(const call *c, const char *name, uint64_t max, uint64_t *out) {
  char text[24], *end = NULL;
  if (!param(c, name, text, sizeof text) || text[0] < '0' || text[0] > '9') {
    return false;
  }
  *out = strtoull(text, &end, 10);
  return *end == '\0' && *out >= 1 && *out <= max;
}

static void run_capture(const call *c) {
  uint64_t seconds = 0, bytes = 0;
  if (!number_param(c, "seconds", MSOCK_LOCALAPI_CAPTURE_S_MAX, &seconds) ||
      !number_param(c, "bytes", MSOCK_CAPTURE_BYTES_MAX, &bytes)) {
    fail(c, 400, "parameters seconds (1 to 600) and bytes (1 to 4194304) are needed");
    return;
  }
  c->l->backend.capture(c->l->backend.ctx, c->req, seconds, bytes);
}

static void run_bugreport(const call *c) {
  c->l->backend.bugreport(c->l->backend.ctx, c->req);
}

static const route routes[] = {
    {"status", "GET", false, run_status},
    {"prefs", "GET", false, run_prefs},
    {"prefs", "PATCH", true, run_edit_prefs},
    {"start", "POST", true, run_start},
    {"login-interactive", "POST", true, run_login},
    {"logout", "POST", true, run_logout},
    {"ping", "POST", false, run_ping},
    {"whois", "GET", false, run_whois},
    {"metrics", "GET", false, run_metrics},
    {"watch-ipn-bus", "GET", false, run_watch},
    {"why", "GET", false, run_why},
    {"debug-endpoints", "GET", false, run_debug_endpoints},
    {"debug-rebind", "POST", true, run_debug_rebind},
    {"netcheck", "GET", false, run_netcheck},
    {"debug-derp", "GET", false, run_debug_derp},
    {"debug-netmap", "GET", false, run_debug_netmap},
    {"debug-capture", "POST", true, run_capture},
    {"bugreport", "POST", true, run_bugreport},
};

/* The route of a head, and its query; NULL with the status of the refusal. */
static const route *find_route(const msock_http1_head *head, msock_http1_str *query, int *status) {
  const msock_http1_str t = head->target;
  const char *mark = memchr(t.p, '?', t.len);
  const size_t path_len = mark != NULL ? (size_t)(mark - t.p) : t.len;
  *query = mark != NULL ? (msock_http1_str){mark + 1, t.len - path_len - 1}
                        : (msock_http1_str){t.p + t.len, 0};
  *status = 404;
  for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
    const size_t len = strlen(routes[i].path);
    if (path_len != strlen(PREFIX) + len || memcmp(t.p, PREFIX, strlen(PREFIX)) != 0 ||
        memcmp(t.p + strlen(PREFIX), routes[i].path, len) != 0) {
      continue;
    }
    *status = 405;
    if (strlen(routes[i].method) == head->method.len &&
        memcmp(routes[i].method, head->method.p, head->method.len) == 0) {
      return &routes[i];
    }
  }
  return NULL;
}

static bool may_write(const msock_localapi *l, uint32_t uid) {
  return uid == 0 || uid == l->own_uid || (l->has_operator && uid == l->operator_uid);
}

static void answer_error(msock_localapi *l, msock_localapi_conn *c, int status,
                         const char *message) {
  size_t len;
  char *body = msock_localapi_error_body(message, &len);
  msock_localapi_conn_answer(c, l->now_us, body ? status : 500, "application/json", body, len);
}

/* Judged before the body is read: who may not write cannot make us hold a megabyte either. */
static const route *admit(msock_localapi *l, msock_localapi_conn *c,
                          const msock_localapi_request *r, msock_http1_str *query) {
  int status;
  const route *to = find_route(&r->head, query, &status);
  if (to == NULL) {
    answer_error(l, c, status,
                 status == 405 ? "this path does not take that method" : "there is no such path");
    return NULL;
  }
  if (to->writes && !may_write(l, c->uid)) {
    msock_logf(l->log, MSOCK_LOG_WARN, "localapi.denied", "path=%s uid=%u", to->path, c->uid);
    answer_error(l, c, 403,
                 "access denied: this needs root, the daemon's own user or the operator (set one "
                 "with: sudo tsnode set --operator=$USER)");
    return NULL;
  }
  if (!to->writes && r->head.content_length > 0) {
    answer_error(l, c, 400, "this path takes no body");
    return NULL;
  }
  return to;
}

/* Works off what a connection has in its buffer until it waits for somebody. */
static void advance(msock_localapi *l, uint32_t conn) {
  msock_localapi_conn *c = &l->conns[conn];
  msock_localapi_request r;
  msock_localapi_event ev;
  while ((ev = msock_localapi_conn_poll(c, l->now_us, &r)) != MSOCK_LOCALAPI_NONE) {
    msock_http1_str query;
    const route *to = admit(l, c, &r, &query);
    if (to == NULL) {
      continue;
    }
    if (ev == MSOCK_LOCALAPI_GOT_HEAD) {
      msock_localapi_conn_accept(c, &r);
      continue;
    }
    c->serial = ++l->serial;
    const call k = {l, {conn, c->serial}, query, r.body, r.body_len};
    to->run(&k);
  }
}

msock_localapi *msock_localapi_new(const msock_localapi_backend *backend, uint32_t own_uid,
                                   const msock_log *log) {
  msock_localapi *l = calloc(1, sizeof *l);
  if (l != NULL) {
    l->backend = *backend;
    l->own_uid = own_uid;
    l->log = log;
  }
  return l;
}

void msock_localapi_free(msock_localapi *l) {
  if (l == NULL) {
    return;
  }
  for (uint32_t i = 0; i < MSOCK_LOCALAPI_CONNS_MAX; i++) {
    if (l->used[i]) {
      msock_localapi_conn_clear(&l->conns[i]);
    }
  }
  free(l);
}

void msock_localapi_set_operator(msock_localapi *l, bool present, uint32_t uid) {
  l->has_operator = present;
  l->operator_uid = uid;
}

int msock_localapi_open(msock_localapi *l, uint64_t now_us, uint32_t uid) {
  for (uint32_t i = 0; i < MSOCK_LOCALAPI_CONNS_MAX; i++) {
    if (!l->used[i]) {
      l->used[i] = true;
      msock_localapi_conn_init(&l->conns[i], now_us, uid);
      return (int)i;
    }
  }
  msock_logf(l->log, MSOCK_LOG_WARN, "localapi.full", "connections=%u", MSOCK_LOCALAPI_CONNS_MAX);
  return MSOCK_ERR_AGAIN;
}

static bool in_use(const msock_localapi *l, uint32_t conn) {
  return conn < MSOCK_LOCALAPI_CONNS_MAX && l->used[conn];
}

void msock_localapi_closed(msock_localapi *l, uint32_t conn) {
  if (!in_use(l, conn)) {
    return;
  }
  const bool waiting = l->conns[conn].stage == MSOCK_LOCALAPI_WAIT || l->streams[conn];
  const msock_localapi_req req = {conn, l->conns[conn].serial};
  msock_localapi_conn_clear(&l->conns[conn]);
  l->used[conn] = l->streams[conn] = false;
  if (waiting && l->backend.gone != NULL) {
    l->backend.gone(l->backend.ctx, req);
  }
}

void msock_localapi_feed(msock_localapi *l, uint64_t now_us, uint32_t conn, const uint8_t *p,
                         size_t len) {
  if (!in_use(l, conn)) {
    return;
  }
  l->now_us = now_us;
  msock_localapi_conn_feed(&l->conns[conn], now_us, p, len);
  advance(l, conn);
}

size_t msock_localapi_tx_peek(const msock_localapi *l, uint32_t conn, const uint8_t **p) {
  return in_use(l, conn) ? msock_localapi_conn_peek(&l->conns[conn], p) : 0;
}

void msock_localapi_tx_consume(msock_localapi *l, uint64_t now_us, uint32_t conn, size_t n) {
  if (!in_use(l, conn)) {
    return;
  }
  l->now_us = now_us;
  msock_localapi_conn_consume(&l->conns[conn], now_us, n);
  advance(l, conn);
}

msock_localapi_phase msock_localapi_conn_phase(const msock_localapi *l, uint32_t conn) {
  if (!in_use(l, conn) || l->conns[conn].stage == MSOCK_LOCALAPI_DEAD) {
    return MSOCK_LOCALAPI_OVER;
  }
  return l->conns[conn].stage == MSOCK_LOCALAPI_LINGER ? MSOCK_LOCALAPI_FINISH
                                                       : MSOCK_LOCALAPI_OPEN;
}

uint64_t msock_localapi_next_expiry(const msock_localapi *l) {
  uint64_t first = MSOCK_NEVER;
  for (uint32_t i = 0; i < MSOCK_LOCALAPI_CONNS_MAX; i++) {
    if (l->used[i] && l->conns[i].deadline_us < first) {
      first = l->conns[i].deadline_us;
    }
  }
  return first;
}

void msock_localapi_on_expiry(msock_localapi *l, uint64_t now_us) {
  for (uint32_t i = 0; i < MSOCK_LOCALAPI_CONNS_MAX; i++) {
    if (l->used[i]) {
      msock_localapi_conn_expire(&l->conns[i], now_us);
    }
  }
}

/* The connection that still waits for this answer; NULL = stale. */
static msock_localapi_conn *waiting_for(msock_localapi *l, msock_localapi_req req) {
  if (!in_use(l, req.conn)) {
    return NULL;
  }
  msock_localapi_conn *c = &l->conns[req.conn];
  return c->stage == MSOCK_LOCALAPI_WAIT && c->serial == req.serial ? c : NULL;
}

void msock_localapi_reply(msock_localapi *l, uint64_t now_us, msock_localapi_req req, int status,
                          const char *content_type, char *body, size_t len) {
  msock_localapi_conn *c = waiting_for(l, req);
  if (c == NULL) {
    free(body);
    return;
  }
  msock_localapi_conn_answer(c, now_us, body ? status : 500, content_type, body, len);
}

void msock_localapi_reply_error(msock_localapi *l, uint64_t now_us, msock_localapi_req req,
                                int status, const char *message) {
  size_t len;
  char *body = msock_localapi_error_body(message, &len);
  msock_localapi_reply(l, now_us, req, status, "application/json", body, len);
}

void msock_localapi_reply_none(msock_localapi *l, uint64_t now_us, msock_localapi_req req) {
  msock_localapi_conn *c = waiting_for(l, req);
  if (c != NULL) {
    msock_localapi_conn_answer(c, now_us, 204, "", NULL, 0);
  }
}

void msock_localapi_stream(msock_localapi *l, uint64_t now_us, msock_localapi_req req,
                           const char *content_type) {
  msock_localapi_conn *c = waiting_for(l, req);
  if (c != NULL) {
    l->streams[req.conn] = true;
    msock_localapi_conn_stream(c, now_us, content_type);
  }
}

void msock_localapi_push(msock_localapi *l, uint64_t now_us, msock_localapi_req req, const char *p,
                         size_t len) {
  if (in_use(l, req.conn) && l->streams[req.conn] && l->conns[req.conn].serial == req.serial) {
    msock_localapi_conn_push(&l->conns[req.conn], now_us, p, len);
  }
}

int msock_localapi_next_ready(const msock_localapi *l, uint32_t from) {
  const uint8_t *p;
  for (uint32_t i = from; i < MSOCK_LOCALAPI_CONNS_MAX; i++) {
    if (l->used[i] && (msock_localapi_tx_peek(l, i, &p) > 0 ||
                       msock_localapi_conn_phase(l, i) != MSOCK_LOCALAPI_OPEN)) {
      return (int)i;
    }
  }
  return -1;
}
