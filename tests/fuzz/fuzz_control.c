/* The whole control client: what a server says to it (/key, register, map, other answers) in any
 * order, on connections that fail at any time. The other end is our own server connection, so that
 * the input's bytes are the bodies of answers. */
#include <stdlib.h>
#include <string.h>

#include "control/control.h"
#include "control/register.h"
#include "control/server_conn.h"
#include "crypto/x25519.h"
#include "tests/fuzz/fuzzing.h"

#define STEPS_MAX 64u
#define TURNS_MAX 2000u
#define STREAMS 16u
#define AUTH_KEY "hskey-auth-0123456789ab-0123456789abcdef0123456789abcdef"

typedef struct world {
  fuzz_rng rng;
  msock_env env;
  uint64_t now_us, wall_us;
  msock_machine_private server;
  msock_control *c;
  msock_server_conn *s; /* NULL = no connection */
  bool fetching, dialing;
  int32_t waiting[STREAMS]; /* requests without an answer */
  size_t n_waiting;
  int32_t map; /* the stream that was begun, 0 = none */
} world;

static void down(world *w) {
  msock_server_conn_free(w->s);
  w->s = NULL;
  w->dialing = false;
  w->n_waiting = 0;
  w->map = 0;
}

static bool take_actions(world *w) {
  msock_control_action a;
  msock_control_event ev;
  msock_netmap_change change;
  bool any = false;

  while (msock_control_next_action(w->c, &a)) {
    any = true;
    if (a.kind == MSOCK_CONTROL_CLOSE) {
      down(w);
    } else if (a.kind == MSOCK_CONTROL_FETCH_KEY) {
      w->fetching = true;
    } else if (a.kind == MSOCK_CONTROL_DIAL) {
      FUZZ_CHECK(w->s == NULL); /* at most one connection */
      w->dialing = true;
    } else {
      FUZZ_CHECK(a.kind == MSOCK_CONTROL_PING_HEAD);
    }
  }
  while (msock_control_next_event(w->c, &ev)) {
    any = true;
    FUZZ_CHECK(strstr(ev.text, AUTH_KEY) == NULL);
    FUZZ_CHECK(msock_control_error_name(ev.error) != NULL);
    FUZZ_CHECK(msock_control_error_advice(ev.error) != NULL);
    FUZZ_CHECK(ev.kind != MSOCK_CONTROL_EV_AUTH_URL || msock_auth_url_is_sane(ev.text));
  }
  while (msock_netmap_next_change(msock_control_netmap(w->c), &change)) {
  }
  return any;
}

static void server_events(world *w) {
  msock_server_event ev;
  while (msock_server_conn_next_event(w->s, &ev)) {
    if (ev.kind == MSOCK_SERVER_EV_REQUEST && w->n_waiting < STREAMS) {
      w->waiting[w->n_waiting++] = ev.request.stream;
    } else if (ev.kind == MSOCK_SERVER_EV_STREAM_CLOSED && ev.request.stream == w->map) {
      w->map = 0;
    }
  }
}

static void pump(world *w) {
  const uint8_t *p = NULL;

  for (unsigned i = 0; i < TURNS_MAX; i++) {
    bool any = take_actions(w);
    size_t n = w->s != NULL ? msock_control_conn_tx_peek(w->c, &p) : 0;
    if (n > 0) {
      any = true;
      (void)msock_server_conn_feed(w->s, w->now_us, p, n);
      msock_control_conn_tx_consume(w->c, n);
      server_events(w);
    }
    n = w->s != NULL ? msock_server_conn_tx_peek(w->s, &p) : 0;
    if (n > 0) {
      any = true;
      uint8_t *copy = malloc(n);
      memcpy(copy, p, n);
      msock_server_conn_tx_consume(w->s, n);
      msock_control_conn_feed(w->c, w->now_us, w->wall_us, copy, n);
      free(copy);
    }
    if (!any) {
      return;
    }
  }
  FUZZ_CHECK(false); /* never comes to rest */
}

static void true_key(world *w) {
  const msock_machine_key k = msock_machine_private_public(&w->server);
  char text[MSOCK_KEY_TEXT_MAX], body[128] = "{\"publicKey\":\"";
  strcat(body, msock_machine_key_text(&k, text));
  strcat(body, "\"}");
  w->fetching = false;
  msock_control_on_key_response(w->c, w->now_us, 200, (const uint8_t *)body, strlen(body));
}

static void go_on(world *w) {
  for (unsigned i = 0; i < 4 && (w->fetching || w->dialing); i++) {
    if (w->fetching) {
      true_key(w);
    } else if (w->dialing) {
      w->dialing = false;
      w->s = msock_server_conn_new(&w->env, &w->server, true, w->now_us);
      FUZZ_CHECK(w->s != NULL);
      msock_control_conn_up(w->c, w->now_us, w->wall_us);
    }
    pump(w);
  }
}

static void key_body(world *w, const uint8_t *p, size_t len, uint8_t arg) {
  if (w->fetching) {
    w->fetching = false;
    msock_control_on_key_response(w->c, w->now_us, arg == 0 ? 200 : 200 + 3 * arg, p, len);
  }
}

static void answer(world *w, const uint8_t *p, size_t len, uint8_t arg) {
  static const int statuses[] = {200, 200, 200, 200, 200, 204, 301, 400,
                                 401, 403, 404, 410, 429, 500, 502, 503};
  if (w->s != NULL && w->n_waiting > 0) {
    const int32_t stream = w->waiting[0];
    w->n_waiting--;
    memmove(w->waiting, w->waiting + 1, w->n_waiting * sizeof *w->waiting);
    (void)msock_server_conn_respond(w->s, stream, statuses[arg % 16], p, len);
  }
}

static void map_body(world *w, const uint8_t *p, size_t len, uint8_t arg) {
  if (w->s == NULL) {
    return;
  }
  if (w->map == 0 && w->n_waiting > 0) {
    w->map = w->waiting[--w->n_waiting];
    (void)msock_server_conn_begin(w->s, w->map, 200);
  }
  if (w->map != 0 && (arg & 1)) { /* zstd, a raw block: RFC 8878 3.1.1 */
    const uint32_t block = (uint32_t)len << 3 | 1u;
    const uint32_t total = (uint32_t)len + 9;
    const uint8_t head[13] = {(uint8_t)total,
                              (uint8_t)(total >> 8),
                              (uint8_t)(total >> 16),
                              0,
                              0x28,
                              0xb5,
                              0x2f,
                              0xfd,
                              0x00,
                              0x58 /* window 2 MiB */,
                              (uint8_t)block,
                              (uint8_t)(block >> 8),
                              (uint8_t)(block >> 16)};
    (void)msock_server_conn_write(w->s, w->map, head, sizeof head);
  }
  if (w->map != 0) {
    (void)msock_server_conn_write(w->s, w->map, p, len);
    if (arg & 2) {
      msock_server_conn_end(w->s, w->map);
      w->map = 0;
    }
  }
}

static void settings(world *w, const uint8_t *p, size_t len, uint8_t arg) {
  static const msock_prefix routes[1] = {{{4, {10, 44}}, 24}};
  const char *hostname = arg & 1 ? "box" : "other";
  const msock_hostinfo h = {.hostname = hostname,
                            .os = "linux",
                            .app_version = "0.1",
                            .backend_log_id = "00ff",
                            .routable_ips = routes,
                            .n_routable_ips = arg >> 7};
  msock_endpoint eps[MSOCK_CONTROL_ENDPOINTS_MAX + 2] = {0};
  for (size_t i = 0; i < len && i < MSOCK_CONTROL_ENDPOINTS_MAX + 2; i++) {
    eps[i].addr = (msock_addr){.ip = msock_ip_v4(192, 0, 2, p[i]), .port = 1};
  }
  (void)msock_control_set_hostinfo(w->c, w->now_us, &h);
  msock_control_set_endpoints(
      w->c, w->now_us, eps,
      len < MSOCK_CONTROL_ENDPOINTS_MAX + 2 ? len : MSOCK_CONTROL_ENDPOINTS_MAX + 2);
}

static void user(world *w, uint8_t arg) {
  switch (arg % 6) {
  case 0:
    (void)msock_control_login(w->c, w->now_us, arg & 8 ? AUTH_KEY : NULL);
    break;
  case 1:
    msock_control_logout(w->c, w->now_us);
    break;
  case 2:
    msock_control_set_want_running(w->c, w->now_us, (arg & 8) != 0);
    break;
  case 3:
    msock_control_on_link_change(w->c, w->now_us, (arg & 8) != 0);
    break;
  case 4:
    if (w->fetching) {
      w->fetching = false;
      msock_control_on_key_failed(w->c, w->now_us, "connection refused");
    }
    break;
  default:
    if (w->s != NULL || w->dialing) {
      down(w);
      msock_control_conn_down(w->c, w->now_us, (msock_conn_down)(arg % 6));
    }
    break;
  }
}

static void pass_time(world *w, uint8_t arg) {
  const uint64_t us = arg < 128 ? arg * (100 * MSOCK_MS) : (uint64_t)arg * 60 * MSOCK_SEC;
  w->now_us += us;
  w->wall_us += us;
  if (w->s != NULL) {
    msock_server_conn_on_expiry(w->s, w->now_us);
  }
  msock_control_on_expiry(w->c, w->now_us, w->wall_us);
}

static void step(world *w, msock_reader *r) {
  const unsigned op = fuzz_choice(r, 7);
  const uint8_t arg = msock_read_u8(r);
  size_t len = 0;
  uint8_t *p = op < 4 ? fuzz_take(r, msock_read_be16(r), &len) : NULL;

  if (op == 0) {
    key_body(w, p, len, arg);
  } else if (op == 1) {
    answer(w, p, len, arg);
  } else if (op == 2) {
    map_body(w, p, len, arg);
  } else if (op == 3) {
    settings(w, p, len, arg);
  } else if (op == 4) {
    user(w, arg);
  } else if (op == 5) {
    pass_time(w, arg);
  } else {
    go_on(w);
  }
  free(p);
  pump(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  msock_reader r = msock_reader_init(data, size);
  const uint8_t flags = msock_read_u8(&r);
  world w = {.now_us = 1000 * MSOCK_SEC, .wall_us = UINT64_C(1795000000) * MSOCK_SEC};
  static msock_register_answer evaluated;

  w.env = fuzz_env(&w.rng, 1);
  msock_machine_private_generate(&w.env, &w.server);
  msock_control_cfg cfg = {.https = (flags & 1) != 0,
                           .host = "control.example",
                           .disco = {{7}},
                           .hostinfo = {.hostname = "box",
                                        .os = "linux",
                                        .app_version = "0.1",
                                        .backend_log_id = "00ff"},
                           .auth_key = flags & 2 ? AUTH_KEY : NULL,
                           .pin_server_key = (flags & 4) != 0,
                           .ephemeral = (flags & 8) != 0};
  msock_machine_private_generate(&w.env, &cfg.machine);
  if (flags & 16) {
    msock_node_private_generate(&w.env, &cfg.node);
  }
  w.c = msock_control_new(&w.env, &cfg);
  FUZZ_CHECK(w.c != NULL);
  msock_control_set_want_running(w.c, w.now_us, true);
  pump(&w);
  if (flags & 32) {
    go_on(&w);
  }
  for (unsigned i = 0; fuzz_more(&r) && i < STEPS_MAX; i++) {
    const msock_reader at = r;
    step(&w, &r);
    msock_register_evaluate(200, at.p, at.left < 4096 ? at.left : 4096, AUTH_KEY, &evaluated);
    FUZZ_CHECK(strstr(evaluated.text, AUTH_KEY) == NULL);
  }
  msock_server_conn_free(w.s);
  msock_control_free(w.c);
  return 0;
}
