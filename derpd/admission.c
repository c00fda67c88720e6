#include "derpd/admission.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/document.h"
#include "io/loop.h"

/* The last answer about a key. */
typedef struct cached {
  msock_node_key key; /* zero: empty */
  bool admit;
  uint64_t at_us;   /* 0: ask again */
  uint64_t good_us; /* when it was last admitted; 0 = never */
} cached;

typedef struct waiting {
  uint32_t conn;
  msock_node_key key;
  msock_ip from;
} waiting;

typedef struct call {
  struct msock_derpd_admission *a;
  msock_http_call *http; /* NULL: free */
  waiting who;
} call;

struct msock_derpd_admission {
  msock_http *http;
  const msock_log *log;
  void (*answer)(void *ctx, uint32_t conn, bool admit);
  void *ctx;
  const msock_derpd_admission_config *v;
  const msock_derpd_keys *list;
  bool has_list;
  uint64_t seed;
  cached *cache; /* made with the first URL */
  call calls[MSOCK_DERPD_ADMISSION_CALLS];
  waiting *queue; /* ring */
  size_t queue_at, queued;
  msock_derpd_admission_stats stats;
};

static int compare_keys(const void *a, const void *b) {
  return memcmp(a, b, sizeof(msock_node_key));
}

bool msock_derpd_keys_have(const msock_derpd_keys *k, const msock_node_key *key) {
  return k->n > 0 && bsearch(key, k->v, k->n, sizeof *k->v, compare_keys) != NULL;
}

bool msock_derpd_admission_allows(const uint8_t *body, size_t len) {
  msock_config_report *report = calloc(1, sizeof *report);
  bool allow = false;
  if (report != NULL) {
    msock_document *d = msock_document_read("answer", body, len, report);
    const msock_document_node *n =
        d != NULL ? msock_document_find(msock_document_root(d), "Allow") : NULL;
    allow =
        n != NULL && n->kind == MSOCK_DOCUMENT_SCALAR && !n->quoted && strcmp(n->text, "true") == 0;
    msock_document_free(d);
  }
  free(report);
  return allow;
}

/* --- answers --- */

static void say(msock_derpd_admission *a, uint32_t conn, bool admit) {
  a->stats.admitted += admit;
  a->stats.refused += !admit;
  a->answer(a->ctx, conn, admit);
}

static cached *slot_of(msock_derpd_admission *a, const msock_node_key *key) {
  uint64_t h;
  memcpy(&h, key->b, sizeof h);
  h = (h ^ a->seed) * UINT64_C(0x9e3779b97f4a7c15);
  return &a->cache[(h >> 32) % MSOCK_DERPD_ADMISSION_CACHE];
}

static void remember(msock_derpd_admission *a, const msock_node_key *key, bool admit,
                     uint64_t now_us) {
  cached *c = slot_of(a, key);
  const uint64_t good_us = msock_node_key_equal(&c->key, key) ? c->good_us : 0;
  *c = (cached){.key = *key, .admit = admit, .at_us = now_us, .good_us = admit ? now_us : 0};
  if (!admit && good_us != 0) {
    c->good_us = 0; /* it was removed: an old yes is no reason any more */
  }
}

/* The URL said nothing: old news, or the rule for that case. */
static bool without_answer(msock_derpd_admission *a, const msock_node_key *key, uint64_t now_us) {
  const cached *c = slot_of(a, key);
  if (a->v->last_good != 0 && msock_node_key_equal(&c->key, key) && c->good_us != 0 &&
      now_us - c->good_us <= a->v->last_good) {
    a->stats.stale++;
    return true;
  }
  a->stats.failed_open += a->v->fail_open;
  return a->v->fail_open;
}

/* --- calls --- */

static void start_next(msock_derpd_admission *a);

static void on_result(void *ctx, const msock_http_result *r) {
  call *c = ctx;
  msock_derpd_admission *a = c->a;
  const waiting w = c->who;
  const uint64_t now_us = msock_loop_now_us();
  c->http = NULL;
  if (r->err != MSOCK_OK) {
    a->stats.url_errors++;
    const bool admit = without_answer(a, &w.key, now_us);
    msock_logf(a->log, MSOCK_LOG_WARN, "admission.no_answer", "url=%s reason=\"%s\" then=%s",
               a->v->url, r->why, admit ? "admitted" : "refused");
    say(a, w.conn, admit);
  } else if (r->status != 200) { /* refuses, whatever fail_open says: derp.md 4.5 */
    a->stats.url_errors++;
    msock_logf(a->log, MSOCK_LOG_WARN, "admission.bad_answer", "url=%s status=%d then=refused",
               a->v->url, r->status);
    say(a, w.conn, false);
  } else {
    const bool admit = msock_derpd_admission_allows(r->body, r->body_len);
    remember(a, &w.key, admit, now_us);
    say(a, w.conn, admit);
  }
  start_next(a);
}

static bool start_call(msock_derpd_admission *a, call *c, const waiting *w) {
  char body[256], key[MSOCK_KEY_TEXT_MAX], ip[MSOCK_IP_TEXT_MAX];
  const int n = snprintf(body, sizeof body, "{\"NodePublic\":\"%s\",\"Source\":\"%s\"}",
                         msock_node_key_text(&w->key, key),
                         w->from.family ? msock_ip_text(&w->from, ip) : "");
  const msock_http_request r = {.purpose = MSOCK_PURPOSE_ADMISSION,
                                .method = "POST",
                                .url = a->v->url,
                                .headers = {"Content-Type: application/json"},
                                .body = body,
                                .body_len = (size_t)n,
                                .max_body = MSOCK_DERPD_ADMISSION_BODY,
                                .timeout_us = a->v->timeout};
  c->a = a;
  c->who = *w;
  a->stats.url_calls++;
  return msock_http_start(a->http, &r, on_result, c, &c->http) == MSOCK_OK;
}

static call *free_call(msock_derpd_admission *a) {
  for (size_t i = 0; i < MSOCK_DERPD_ADMISSION_CALLS; i++) {
    if (a->calls[i].http == NULL) {
      return &a->calls[i];
    }
  }
  return NULL;
}

/* One that waits, if there is one and a free call. */
static void start_next(msock_derpd_admission *a) {
  call *c;
  while (a->queued > 0 && a->v->url[0] && (c = free_call(a)) != NULL) {
    const waiting w = a->queue[a->queue_at];
    a->queue_at = (a->queue_at + 1) % MSOCK_DERPD_ADMISSION_WAITING;
    a->queued--;
    if (!start_call(a, c, &w)) {
      c->http = NULL;
      a->stats.url_errors++;
      say(a, w.conn, without_answer(a, &w.key, msock_loop_now_us()));
    }
  }
}

static void ask_url(msock_derpd_admission *a, uint64_t now_us, const msock_derp_question *q) {
  const cached *known = slot_of(a, &q->key);
  if (!q->renewal && known->at_us != 0 && msock_node_key_equal(&known->key, &q->key) &&
      now_us - known->at_us < a->v->cache) {
    a->stats.cache_hits++;
    say(a, q->conn, known->admit);
    return;
  }
  if (a->queued == MSOCK_DERPD_ADMISSION_WAITING) {
    say(a, q->conn, without_answer(a, &q->key, now_us));
    return;
  }
  a->queue[(a->queue_at + a->queued) % MSOCK_DERPD_ADMISSION_WAITING] =
      (waiting){.conn = q->conn, .key = q->key, .from = q->from.ip};
  a->queued++;
  start_next(a);
}

void msock_derpd_admission_ask(msock_derpd_admission *a, uint64_t now_us,
                               const msock_derp_question *q, bool has_token) {
  a->stats.asked++;
  if (a->v->token[0] && !has_token) {
    say(a, q->conn, false);
  } else if (a->has_list && !msock_derpd_keys_have(a->list, &q->key)) {
    say(a, q->conn, false);
  } else if (a->v->url[0] == '\0') {
    say(a, q->conn, true);
  } else if (a->cache == NULL || a->queue == NULL) {
    say(a, q->conn, false); /* no memory for it: closed */
  } else {
    ask_url(a, now_us, q);
  }
}

/* --- life --- */

msock_derpd_admission *
msock_derpd_admission_new(msock_http *http, const msock_log *log, const msock_env *env,
                          void (*answer)(void *ctx, uint32_t conn, bool admit), void *ctx) {
  msock_derpd_admission *a = calloc(1, sizeof *a);
  if (a != NULL) {
    a->http = http;
    a->log = log;
    a->answer = answer;
    a->ctx = ctx;
    env->random(env->ctx, &a->seed, sizeof a->seed);
  }
  return a;
}

void msock_derpd_admission_free(msock_derpd_admission *a) {
  if (a == NULL) {
    return;
  }
  for (size_t i = 0; i < MSOCK_DERPD_ADMISSION_CALLS; i++) {
    msock_http_cancel(a->calls[i].http);
  }
  free(a->cache);
  free(a->queue);
  free(a);
}

void msock_derpd_admission_use(msock_derpd_admission *a, const msock_derpd_admission_config *v,
                               const msock_derpd_keys *list, bool has_list) {
  a->v = v;
  a->list = list;
  a->has_list = has_list;
  if (v->url[0] && a->cache == NULL) {
    a->cache = calloc(MSOCK_DERPD_ADMISSION_CACHE, sizeof *a->cache);
    a->queue = calloc(MSOCK_DERPD_ADMISSION_WAITING, sizeof *a->queue);
  }
  for (size_t i = 0; a->cache != NULL && i < MSOCK_DERPD_ADMISSION_CACHE; i++) {
    if (a->cache[i].at_us != 0) {
      a->cache[i].at_us = 0;
    }
  }
}

msock_derpd_admission_stats msock_derpd_admission_get_stats(const msock_derpd_admission *a) {
  return a->stats;
}
