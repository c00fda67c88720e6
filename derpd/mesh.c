#include "derpd/mesh.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/stream.h"

#define HTTPS_PORT 443u

typedef struct mesh_link {
  msock_derpd_mesh *m;
  msock_derpd_mesh_target to;
  msock_loop_timer retry;
  uint32_t conn; /* the last one in the core; 0 = none yet */
  bool is_self;
} mesh_link;

struct msock_derpd_mesh {
  msock_derpd_relay *relay;
  msock_egress *eg;
  msock_tls_roots *roots;
  const msock_env *env;
  mesh_link *links;
  size_t n;
};

/* --- targets --- */

/* Bytes of text up to n into dst; false: empty or too long. */
static bool put(char *dst, size_t cap, const char *text, size_t n) {
  if (n == 0 || n >= cap) {
    return false;
  }
  memcpy(dst, text, n);
  dst[n] = '\0';
  return true;
}

static bool put_port(const char *text, uint16_t *port) {
  char *end = NULL;
  const unsigned long v = text[0] >= '0' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
  *port = (uint16_t)v;
  return v > 0 && v <= UINT16_MAX && *end == '\0';
}

/* HOST, HOST:PORT, IPV4[:PORT] or [IPV6][:PORT]. */
static bool split_host(char *text, msock_derpd_mesh_target *t) {
  const bool bracket = text[0] == '[';
  char *colon = strrchr(text, ':');
  char *close = bracket ? strchr(text, ']') : NULL;
  if (bracket && (close == NULL || (close[1] != '\0' && close[1] != ':'))) {
    return false;
  }
  colon = bracket && close[1] == '\0' ? NULL : colon;
  t->port = HTTPS_PORT;
  if (colon != NULL) {
    *colon = '\0';
    if (!put_port(colon + 1, &t->port)) {
      return false;
    }
  }
  if (bracket) {
    *close = '\0';
  }
  msock_ip ip;
  const char *host = text + (bracket ? 1 : 0);
  const bool named = strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"
                                  ".") == strlen(host);
  return (bracket ? msock_ip_parse(host, &ip) == MSOCK_OK : named) &&
         put(t->host, sizeof t->host, host, strlen(host));
}

msock_err msock_derpd_mesh_parse(const char *text, msock_derpd_mesh_target *out) {
  msock_derpd_mesh_target t = {.port = HTTPS_PORT};
  char buf[512];
  if (!put(buf, sizeof buf, text, strlen(text))) {
    return MSOCK_ERR_INVALID;
  }
  char *pin = strchr(buf, '#');
  if (pin != NULL) {
    *pin++ = '\0';
    if (strncmp(pin, MSOCK_TLS_PIN_PREFIX, sizeof MSOCK_TLS_PIN_PREFIX - 1) != 0 ||
        !put(t.cert_name, sizeof t.cert_name, pin, strlen(pin))) {
      return MSOCK_ERR_INVALID;
    }
  }
  char *dial = strchr(buf, '/');
  if (dial != NULL) {
    *dial++ = '\0';
  }
  if (!split_host(buf, &t)) {
    return MSOCK_ERR_INVALID;
  }
  const char *where = dial ? dial : t.host;
  if (!put(t.dial, sizeof t.dial, where, strlen(where))) {
    return MSOCK_ERR_INVALID;
  }
  const char *open = strchr(t.host, ':') ? "[" : "", *close = *open ? "]" : "";
  if (t.port == HTTPS_PORT) {
    snprintf(t.http_host, sizeof t.http_host, "%s%s%s", open, t.host, close);
  } else {
    snprintf(t.http_host, sizeof t.http_host, "%s%s%s:%u", open, t.host, close, t.port);
  }
  *out = t;
  return MSOCK_OK;
}

/* --- links --- */

static void retry_later(mesh_link *l) {
  if (!l->is_self) {
    msock_loop_set_deadline(msock_egress_loop(l->m->eg), &l->retry,
                            msock_loop_now_us() + MSOCK_DERPD_MESH_RETRY_US +
                                msock_env_uniform(l->m->env, MSOCK_DERPD_MESH_SPREAD_US));
  }
}

static void on_up(void *ctx, uint32_t conn) {
  mesh_link *l = ctx;
  l->conn = conn;
}

static void on_ended(void *ctx) {
  mesh_link *l = ctx;
  retry_later(l);
}

static void dial(void *ctx, uint64_t now_us) {
  mesh_link *l = ctx;
  (void)now_us;
  msock_stream_config c = {.tls = true, .budget_us = MSOCK_DERPD_MESH_BUDGET_US};
  msock_tcp_target_host(&c.target, MSOCK_PURPOSE_DERP, l->to.dial, l->to.port,
                        MSOCK_DERPD_MESH_BUDGET_US);
  c.tls_config.host = l->to.host;
  c.tls_config.cert_name = l->to.cert_name;
  c.tls_config.roots = l->m->roots;
  const msock_derpd_relay_link link = {
      .stream = &c, .http_host = l->to.http_host, .up = on_up, .ended = on_ended, .ctx = l};
  if (msock_derpd_relay_dial(l->m->relay, &link) != MSOCK_OK) {
    retry_later(l);
  }
}

void msock_derpd_mesh_on_event(msock_derpd_mesh *m, const msock_derp_server_event *ev) {
  for (size_t i = 0; i < m->n; i++) {
    mesh_link *l = &m->links[i];
    if (ev->cause == MSOCK_DERP_CAUSE_LINK_SELF && ev->conn == l->conn) {
      l->is_self = true; /* its end has been told before */
      msock_loop_set_deadline(msock_egress_loop(m->eg), &l->retry, MSOCK_NEVER);
      msock_logf(m->env->log, MSOCK_LOG_WARN, "mesh.self",
                 "host=%s reason=\"this is the relay itself; it is not dialled again\"",
                 l->to.http_host);
    }
  }
}

msock_derpd_mesh *msock_derpd_mesh_new(msock_derpd_relay *relay, msock_egress *eg,
                                       msock_tls_roots *roots, const msock_env *env,
                                       const msock_derpd_config *v) {
  msock_derpd_mesh *m = calloc(1, sizeof *m);
  const size_t n = v->mesh.with.n;
  if (m == NULL || (n > 0 && (m->links = calloc(n, sizeof *m->links)) == NULL)) {
    free(m);
    return NULL;
  }
  *m = (msock_derpd_mesh){
      .relay = relay, .eg = eg, .roots = roots, .env = env, .links = m->links, .n = n};
  for (size_t i = 0; i < n; i++) {
    mesh_link *l = &m->links[i];
    l->m = m;
    (void)msock_derpd_mesh_parse(v->mesh.with.v[i], &l->to); /* checked by its row */
    msock_loop_timer_init(&l->retry, dial, l);
    msock_loop_set_deadline(msock_egress_loop(eg), &l->retry, msock_loop_now_us());
  }
  return m;
}

void msock_derpd_mesh_free(msock_derpd_mesh *m) {
  if (m == NULL) {
    return;
  }
  for (size_t i = 0; i < m->n; i++) {
    m->links[i].is_self = true; /* ends that the relay tells are final */
    msock_loop_set_deadline(msock_egress_loop(m->eg), &m->links[i].retry, MSOCK_NEVER);
  }
  msock_derpd_relay_drop_links(m->relay);
  free(m->links);
  free(m);
}
