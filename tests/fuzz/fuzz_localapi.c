/* LocalAPI: connections of callers with and without rights, any bytes on them, answers at once or
 * late, callers that leave. */
#include <stdlib.h>
#include <string.h>

#include "node/localapi.h"
#include "node/prefs.h"
#include "tests/fuzz/fuzzing.h"

#define OWN_UID 500u
#define OPERATOR_UID 1000u
#define HELD_MAX 8u

typedef struct backend {
  msock_localapi *api;
  uint64_t now_us;
  bool late;
  msock_localapi_req held[HELD_MAX];
  size_t n_held;
  msock_prefs prefs;
} backend;

static void answer(backend *b, msock_localapi_req req) {
  char *text = msock_prefs_text(&b->prefs);
  FUZZ_CHECK(text != NULL);
  msock_localapi_reply(b->api, b->now_us, req, 200, "application/json", text, strlen(text));
}

static void on_request(void *ctx, msock_localapi_req req) {
  backend *b = ctx;
  if (b->late && b->n_held < HELD_MAX) {
    b->held[b->n_held++] = req;
  } else {
    answer(b, req);
  }
}

static void on_status(void *ctx, msock_localapi_req req, bool with_peers) {
  (void)with_peers;
  on_request(ctx, req);
}

static void on_edit(void *ctx, msock_localapi_req req, json_object *doc) {
  backend *b = ctx;
  const msock_prefs before = b->prefs;
  char why[MSOCK_WHY_MAX] = "";
  uint32_t changed = 0;

  if (msock_prefs_apply_masked(&b->prefs, doc, &changed, why) == MSOCK_OK) {
    on_request(ctx, req);
    return;
  }
  FUZZ_CHECK(why[0] != '\0' && memcmp(&before, &b->prefs, sizeof before) == 0);
  msock_localapi_reply_error(b->api, b->now_us, req, 400, why);
}

static void on_start(void *ctx, msock_localapi_req req, const char *auth_key,
                     json_object *update_prefs, bool force) {
  backend *b = ctx;
  char why[MSOCK_WHY_MAX] = "";
  (void)force;
  FUZZ_CHECK(auth_key != NULL);
  if (update_prefs != NULL) {
    (void)msock_prefs_apply(&b->prefs, update_prefs, NULL, why);
  }
  msock_localapi_reply_none(b->api, b->now_us, req);
}

static void on_ping(void *ctx, msock_localapi_req req, const msock_ip *ip,
                    msock_localapi_ping_type type, uint32_t size) {
  FUZZ_CHECK(ip->family == 4 || ip->family == 6);
  FUZZ_CHECK(type <= MSOCK_LOCALAPI_PING_ICMP && size <= MSOCK_LOCALAPI_PING_SIZE_MAX);
  on_request(ctx, req);
}

static void on_why(void *ctx, msock_localapi_req req, const msock_ip *ip) {
  FUZZ_CHECK(ip->family == 4 || ip->family == 6);
  on_request(ctx, req);
}

static void on_watch(void *ctx, msock_localapi_req req, uint64_t mask) {
  backend *b = ctx;
  (void)mask;
  msock_localapi_stream(b->api, b->now_us, req, "application/json");
  msock_localapi_push(b->api, b->now_us, req, "{}\n", 3);
  msock_localapi_reply_none(b->api, b->now_us, req); /* one answer is enough */
}

static void on_whois(void *ctx, msock_localapi_req req, const char *addr) {
  backend *b = ctx;
  FUZZ_CHECK(addr != NULL);
  msock_localapi_reply_error(b->api, b->now_us, req, 404, addr); /* text of the caller */
}

static void drain(backend *b) {
  const uint8_t *p = NULL;

  for (int c = msock_localapi_next_ready(b->api, 0); c >= 0;
       c = msock_localapi_next_ready(b->api, (uint32_t)c + 1)) {
    const uint32_t conn = (uint32_t)c;
    for (size_t n; (n = msock_localapi_tx_peek(b->api, conn, &p)) > 0;) {
      fuzz_touch(p, n);
      msock_localapi_tx_consume(b->api, b->now_us, conn, n > 100 ? n - n / 3 : n);
    }
    if (msock_localapi_conn_phase(b->api, conn) == MSOCK_LOCALAPI_OVER) {
      msock_localapi_closed(b->api, conn);
    }
  }
}

static void on_capture(void *ctx, msock_localapi_req req, uint64_t seconds, uint64_t bytes) {
  FUZZ_CHECK(seconds >= 1 && seconds <= MSOCK_LOCALAPI_CAPTURE_S_MAX && bytes >= 1);
  on_request(ctx, req);
}

static void release(backend *b) {
  for (size_t i = 0; i < b->n_held; i++) {
    answer(b, b->held[i]);
  }
  b->n_held = 0;
}

static void steps(backend *b, msock_reader *r) {
  static const uint32_t uids[4] = {0, OWN_UID, OPERATOR_UID, 1234};
  bool open[MSOCK_LOCALAPI_CONNS_MAX] = {0};

  while (fuzz_more(r)) {
    const uint8_t op = msock_read_u8(r);
    const uint32_t conn = (op >> 4) % 4;
    if (!open[conn]) {
      const int id = msock_localapi_open(b->api, b->now_us, uids[op & 3]);
      FUZZ_CHECK(id == MSOCK_ERR_AGAIN || (id >= 0 && id < (int)MSOCK_LOCALAPI_CONNS_MAX));
      open[id >= 0 ? id : 0] = true;
    }
    size_t len = 0;
    const size_t want = msock_read_be16(r);
    const uint8_t how = (op & 4) ? 7 : 0;
    uint8_t *p = fuzz_take(r, want, &len);
    b->late = (op & 8) != 0;
    for (size_t at = 0; at < len && open[conn];) {
      const size_t n = fuzz_piece(how, len - at);
      msock_localapi_feed(b->api, b->now_us, conn, p + at, n);
      at += n;
    }
    free(p);
    drain(b);
    if (want % 5 == 4) {
      release(b);
    } else if (want % 5 == 3 && open[conn]) {
      msock_localapi_closed(b->api, conn);
      open[conn] = false;
    } else if (want % 5 == 2) {
      b->now_us += 11 * MSOCK_SEC;
      msock_localapi_on_expiry(b->api, b->now_us);
    }
    drain(b);
    for (uint32_t i = 0; i < MSOCK_LOCALAPI_CONNS_MAX; i++) {
      open[i] = open[i] && msock_localapi_conn_phase(b->api, i) != MSOCK_LOCALAPI_OVER;
    }
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  msock_reader r = msock_reader_init(data, size);
  fuzz_rng rng;
  const msock_env env = fuzz_env(&rng, 1);
  backend b = {.now_us = 1000 * MSOCK_SEC};
  const msock_localapi_backend be = {.ctx = &b,
                                     .status = on_status,
                                     .prefs = on_request,
                                     .edit_prefs = on_edit,
                                     .start = on_start,
                                     .login = on_request,
                                     .logout = on_request,
                                     .ping = on_ping,
                                     .whois = on_whois,
                                     .metrics = on_request,
                                     .watch = on_watch,
                                     .why = on_why,
                                     .debug_endpoints = on_request,
                                     .debug_rebind = on_request,
                                     .debug_derp = on_request,
                                     .netcheck = on_request,
                                     .debug_netmap = on_request,
                                     .capture = on_capture,
                                     .bugreport = on_request};

  msock_prefs_default(&b.prefs);
  b.api = msock_localapi_new(&be, OWN_UID, env.log);
  FUZZ_CHECK(b.api != NULL);
  msock_localapi_set_operator(b.api, true, OPERATOR_UID);
  steps(&b, &r);
  release(&b);
  drain(&b);
  msock_localapi_free(b.api);
  return 0;
}
