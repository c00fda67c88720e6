#include "node/control_link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/wipe.h"
#include "io/http.h"
#include "io/stream.h"

struct msock_control_link {
  msock_node_deps deps;
  msock_control *machine;
  msock_control_event_fn on_event;
  void *ctx;
  msock_ip address; /* of the server; family 0 = look its name up */
  char host[256];
  char origin[320]; /* "https://host:port" */
  msock_stream *stream;
  bool was_up;
  msock_ip local; /* of the connection that is up */
  msock_http_call *key_call;
  msock_http_call *pings[MSOCK_CONTROL_PINGS_MAX];
  msock_control_event ev; /* 2 KiB: not on the stack of each turn */
  msock_control_action action;
};

msock_control_link *msock_control_link_new(const msock_node_deps *deps,
                                           const msock_control_cfg *cfg, const msock_ip *address,
                                           msock_control_event_fn on_event, void *ctx) {
  msock_control_link *l = calloc(1, sizeof *l);
  msock_ip ip;
  if (l == NULL) {
    return NULL;
  }
  l->deps = *deps;
  l->address = *address;
  l->on_event = on_event;
  l->ctx = ctx;
  const bool v6 = msock_ip_parse(cfg->host, &ip) == MSOCK_OK && ip.family == 6;
  snprintf(l->host, sizeof l->host, "%s", cfg->host);
  snprintf(l->origin, sizeof l->origin, v6 ? "%s://[%s]:%u" : "%s://%s:%u",
           cfg->https ? "https" : "http", cfg->host,
           cfg->port ? cfg->port : (cfg->https ? 443u : 80u));
  l->machine = msock_control_new(&l->deps.env, cfg);
  if (l->machine == NULL) {
    free(l);
    return NULL;
  }
  return l;
}

static void drop_connection(msock_control_link *l) {
  msock_stream_free(l->stream);
  l->stream = NULL;
  l->local = (msock_ip){0};
}

void msock_control_link_free(msock_control_link *l) {
  if (l == NULL) {
    return;
  }
  drop_connection(l);
  msock_http_cancel(l->key_call);
  for (size_t i = 0; i < MSOCK_CONTROL_PINGS_MAX; i++) {
    msock_http_cancel(l->pings[i]);
  }
  msock_control_free(l->machine);
  msock_wipe(&l->ev, sizeof l->ev);
  free(l);
}

msock_control *msock_control_link_machine(msock_control_link *l) {
  return l->machine;
}

msock_ip msock_control_link_local(const msock_control_link *l) {
  return l->local;
}

uint64_t msock_control_link_next_expiry(const msock_control_link *l) {
  return msock_control_next_expiry(l->machine);
}

/* --- key --- */

static void on_key(void *ctx, const msock_http_result *r) {
  msock_control_link *l = ctx;
  const uint64_t now_us = msock_loop_now_us();
  l->key_call = NULL;
  if (r->err == MSOCK_OK) {
    msock_control_on_key_response(l->machine, now_us, r->status, r->body, r->body_len);
  } else if (r->err == MSOCK_ERR_INVALID) { /* longer than we read */
    static const uint8_t none[1] = {0};
    msock_control_on_key_response(l->machine, now_us, 200, none, MSOCK_CONTROL_KEY_BODY_MAX + 1);
  } else {
    msock_control_on_key_failed(l->machine, now_us, r->why);
  }
}

static void fetch_key(msock_control_link *l, uint64_t now_us, const char *path) {
  char url[512];
  snprintf(url, sizeof url, "%s%s", l->origin, path);
  const msock_http_request req = {
      .purpose = MSOCK_PURPOSE_CTL,
      .method = "GET",
      .url = url,
      .max_body = MSOCK_CONTROL_KEY_BODY_MAX,
      .timeout_us = MSOCK_CONTROL_KEY_US,
      .connect_ip = l->address,
  };
  msock_http_cancel(l->key_call);
  l->key_call = NULL;
  const msock_err e = msock_http_start(l->deps.http, &req, on_key, l, &l->key_call);
  if (e != MSOCK_OK) {
    msock_control_on_key_failed(l->machine, now_us, msock_err_text(e));
  }
}

static void on_ping(void *ctx, const msock_http_result *r) {
  (void)r;
  *(msock_http_call **)ctx = NULL; /* done; the answer does not matter */
}

static void ping_head(msock_control_link *l, const char *url) {
  const msock_http_request req = {.purpose = MSOCK_PURPOSE_CTL,
                                  .method = "HEAD",
                                  .url = url,
                                  .timeout_us = MSOCK_CONTROL_PING_US,
                                  .connect_ip = l->address};
  for (size_t i = 0; i < MSOCK_CONTROL_PINGS_MAX; i++) {
    if (l->pings[i] == NULL) {
      if (msock_http_start(l->deps.http, &req, on_ping, &l->pings[i], &l->pings[i]) != MSOCK_OK) {
        l->pings[i] = NULL;
      }
      return;
    }
  }
}

/* --- connection --- */

static void on_up(void *ctx, const msock_stream_info *info) {
  msock_control_link *l = ctx;
  l->local = info->local.ip;
  l->was_up = true;
  msock_control_conn_up(l->machine, msock_loop_now_us(), msock_loop_wall_us());
}

static void on_readable(void *ctx, const uint8_t *p, size_t len) {
  msock_control_link *l = ctx;
  msock_control_conn_feed(l->machine, msock_loop_now_us(), msock_loop_wall_us(), p, len);
}

static void on_tx_peek(void *ctx, const uint8_t **p, size_t *len) {
  msock_control_link *l = ctx;
  *len = msock_control_conn_tx_peek(l->machine, p);
}

static void on_tx_consume(void *ctx, size_t n) {
  msock_control_link *l = ctx;
  msock_control_conn_tx_consume(l->machine, n);
}

static void on_closed(void *ctx, msock_err err, const char *reason) {
  msock_control_link *l = ctx;
  msock_conn_down why = MSOCK_CONN_LOST;
  if (err == MSOCK_ERR_CLOSED) {
    why = MSOCK_CONN_EOF;
  } else if (err == MSOCK_ERR_AUTH) {
    why = MSOCK_CONN_TLS;
  } else if (err == MSOCK_ERR_IO) {
    why = l->was_up ? MSOCK_CONN_RESET : MSOCK_CONN_REFUSED;
  }
  msock_logf(l->deps.log, MSOCK_LOG_INFO, "control.disconnected", "reason=\"%s\"", reason);
  drop_connection(l);
  msock_control_conn_down(l->machine, msock_loop_now_us(), why);
}

static const msock_stream_handlers stream_handlers = {
    .up = on_up,
    .readable = on_readable,
    .tx_peek = on_tx_peek,
    .tx_consume = on_tx_consume,
    .closed = on_closed,
};

static void dial(msock_control_link *l, uint64_t now_us, const msock_control_action *a) {
  msock_stream_config cfg = {.tls = a->tls, .budget_us = MSOCK_CONTROL_DIAL_US};
  msock_tcp_target_host(&cfg.target, MSOCK_PURPOSE_CTL, a->host, a->port, MSOCK_CONTROL_DIAL_US);
  if (l->address.family != 0) {
    cfg.target.resolve_v4 = cfg.target.resolve_v6 = false;
    cfg.target.literal[0] = l->address;
    cfg.target.literal[1] = (msock_ip){0};
  }
  cfg.tls_config = (msock_tls_config){.host = l->host, .alpn = "http/1.1", .roots = l->deps.roots};
  drop_connection(l);
  l->was_up = false;
  const msock_err e = msock_stream_dial(l->deps.egress, &cfg, &stream_handlers, l, &l->stream);
  if (e != MSOCK_OK) {
    l->stream = NULL;
    msock_control_conn_down(l->machine, now_us, MSOCK_CONN_LOST);
  }
}

static void carry_out(msock_control_link *l, uint64_t now_us) {
  switch (l->action.kind) {
  case MSOCK_CONTROL_FETCH_KEY:
    fetch_key(l, now_us, l->action.text);
    break;
  case MSOCK_CONTROL_DIAL:
    dial(l, now_us, &l->action);
    break;
  case MSOCK_CONTROL_CLOSE:
    drop_connection(l);
    break;
  case MSOCK_CONTROL_PING_HEAD:
    ping_head(l, l->action.text);
    break;
  case MSOCK_CONTROL_NONE:
    break;
  }
}

void msock_control_link_pump(msock_control_link *l, uint64_t now_us) {
  const uint8_t *p = NULL;
  bool again = true;

  if (msock_control_next_expiry(l->machine) <= now_us) {
    msock_control_on_expiry(l->machine, now_us, msock_loop_wall_us());
  }
  for (int turns = 0; again && turns < 8; turns++) { /* an event's handler may ask for more */
    again = false;
    while (msock_control_next_action(l->machine, &l->action)) {
      carry_out(l, now_us);
    }
    while (msock_control_next_event(l->machine, &l->ev)) {
      l->on_event(l->ctx, now_us, &l->ev);
      again = true;
    }
  }
  if (l->stream && msock_control_conn_tx_peek(l->machine, &p) > 0) {
    msock_stream_want_write(l->stream);
  }
}
