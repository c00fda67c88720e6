/* The DERP client against sessions of the reference peers, byte for byte, and against what the
 * reference client did with odd streams. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/http1.h"
#include "crypto/box.h"
#include "crypto/init.h"
#include "derp/client.h"
#include "tests/unit/derp_vectors.h"
#include "tests/unit/vectors.h"

#define TEXT_MAX 512

/* ---- what a client reports, in the words of the file ---- */

typedef struct reports {
  char text[32][TEXT_MAX]; /* one line for each thing that the reference client reports */
  size_t n;
  msock_derp_closed closed; /* 0 = open */
} reports;

static void hex_into(char *dst, size_t cap, const void *p, size_t len) {
  if (2 * len + 1 <= cap) {
    msock_hex_encode(p, len, dst);
  }
}

/* The line for an expected report: type and the fields that this type has. */
static void expected_line(json_object *r, char *dst, size_t cap) {
  static const char *const fields[] = {"src",        "payload", "peer",  "reason",
                                       "data",       "rate",    "burst", "reconnect_in_ms",
                                       "try_for_ms", "problem"};
  size_t at = (size_t)snprintf(dst, cap, "%s", derp_vectors_str(r, "type"));
  for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
    if (derp_vectors_has(r, fields[i]) && at < cap) {
      at += (size_t)snprintf(dst + at, cap - at, " %s=%s", fields[i],
                             json_object_get_string(derp_vectors_get(r, fields[i])));
    }
  }
}

static void report(reports *r, const msock_derp_event *ev) {
  char a[2 * 32 + 1] = "", b[TEXT_MAX - 100] = "";
  char *line = r->text[r->n];
  if (ev->kind == MSOCK_DERP_EVENT_CLOSED) {
    r->closed = ev->u.closed.reason;
    return;
  }
  if (r->n + 1 == sizeof r->text / sizeof r->text[0]) {
    return;
  }
  r->n++;
  switch (ev->kind) {
  case MSOCK_DERP_EVENT_CONNECTED:
    snprintf(line, TEXT_MAX, "ServerInfo rate=%llu burst=%llu",
             (unsigned long long)ev->u.connected.bytes_per_second,
             (unsigned long long)ev->u.connected.burst_bytes);
    break;
  case MSOCK_DERP_EVENT_PACKET:
    hex_into(a, sizeof a, ev->u.packet.src.b, 32);
    hex_into(b, sizeof b, ev->u.packet.data, ev->u.packet.len);
    snprintf(line, TEXT_MAX, "RecvPacket src=%s payload=%s", a, b);
    break;
  case MSOCK_DERP_EVENT_PEER_GONE:
    hex_into(a, sizeof a, ev->u.peer_gone.peer.b, 32);
    snprintf(line, TEXT_MAX, "PeerGone peer=%s reason=%u", a, ev->u.peer_gone.reason);
    break;
  case MSOCK_DERP_EVENT_HEALTH:
    snprintf(line, TEXT_MAX, "Health problem=%.*s", (int)ev->u.health.len, ev->u.health.text);
    break;
  case MSOCK_DERP_EVENT_RESTARTING:
    snprintf(line, TEXT_MAX, "Restarting reconnect_in_ms=%u try_for_ms=%u",
             ev->u.restarting.reconnect_in_ms, ev->u.restarting.try_for_ms);
    break;
  default:
    snprintf(line, TEXT_MAX, "Pong");
    break;
  }
}

/* Reports that a node does not pass on, from counters and output instead: KeepAlive, Ping, and Pong
 * (ours are matched by their bytes in the client). */
static bool is_silent(const char *type) {
  return strcmp(type, "KeepAlive") == 0 || strcmp(type, "Ping") == 0 ||
         strcmp(type, "PeerPresent") == 0 || strcmp(type, "Pong") == 0;
}

/* Compares expected reports with the events, in order, silent ones left out. NULL when equal. */
static const char *compare_reports(json_object *want, const reports *got) {
  static char why[2 * TEXT_MAX + 64];
  char line[TEXT_MAX];
  size_t n = 0;
  for (size_t i = 0; i < json_object_array_length(want); i++) {
    json_object *r = json_object_array_get_idx(want, i);
    if (derp_vectors_has(r, "error") || is_silent(derp_vectors_str(r, "type"))) {
      continue;
    }
    expected_line(r, line, sizeof line);
    if (n >= got->n || strcmp(line, got->text[n]) != 0) {
      snprintf(why, sizeof why, "want '%s', got '%s'", line, n < got->n ? got->text[n] : "nothing");
      return why;
    }
    n++;
  }
  return n == got->n ? NULL : "more was reported than expected";
}

static size_t count_type(json_object *want, const char *type) {
  size_t n = 0;
  for (size_t i = 0; i < json_object_array_length(want); i++) {
    json_object *r = json_object_array_get_idx(want, i);
    n += derp_vectors_has(r, "type") && strcmp(derp_vectors_str(r, "type"), type) == 0;
  }
  return n;
}

static void feed(msock_derp_client *c, const uint8_t *p, size_t len, reports *r) {
  msock_derp_event ev;
  if (msock_derp_client_feed(c, 1, p, len) == MSOCK_OK) {
    while (msock_derp_client_next_event(c, &ev)) {
      report(r, &ev);
    }
  }
}

/* ---- transcripts ---- */

typedef struct session {
  derp_vectors_script random;
  msock_env env;
  msock_derp_queue queue;
  msock_derp_client *c;
  reports got;
  size_t pongs; /* seen by ping answers */
} session;

/* The client's side of the capture gives the settings: what it asked for, its key, its ClientInfo.
 */
static const char *configure(session *s, const uint8_t *c2s, size_t len) {
  msock_http1_head head;
  msock_derp_client_cfg cfg = {.queue = &s->queue};
  msock_node_key who = {{0}};
  const msock_node_private server = derp_vectors_private_of("server");
  const ptrdiff_t n = msock_http1_parse_request(c2s, len, &head);
  if (n <= 0 || !msock_http1_find(&head, "Host")) {
    return "no request head";
  }
  const msock_http1_str host = msock_http1_find(&head, "Host")->value;
  snprintf(cfg.host, sizeof cfg.host, "%.*s", (int)host.len, host.p);
  const msock_http1_header *ideal = msock_http1_find(&head, "Ideal-Node");
  if (ideal != NULL) {
    snprintf(cfg.ideal_node, sizeof cfg.ideal_node, "%.*s", (int)ideal->value.len, ideal->value.p);
  }
  cfg.fast_start = msock_http1_find(&head, "Derp-Fast-Start") != NULL;
  cfg.server_key = msock_node_private_public(&server);
  for (size_t at = (size_t)n; at + 5 <= len;) {
    const msock_derp_header h = msock_derp_header_read(c2s + at);
    const uint8_t *payload = c2s + at + 5;
    at += 5 + (size_t)h.len;
    if (at > len) {
      return "frame runs past the stream";
    }
    if (h.type == MSOCK_DERP_CLIENT_INFO && h.len > 56) {
      derp_vectors_script_add(&s->random, payload + 32, MSOCK_BOX_NONCE_LEN);
      if (msock_derp_client_info_open(payload, h.len, &server, &who, &cfg.info) != MSOCK_OK) {
        return "ClientInfo does not open";
      }
      if (cfg.info.has_mesh_key && !derp_vectors_is_mesh_key(cfg.info.mesh_key)) {
        return "wrong mesh key";
      }
    } else if (h.type == MSOCK_DERP_PING && h.len >= 8) {
      derp_vectors_script_add(&s->random, payload, 8);
    }
  }
  if (!derp_vectors_private_for(&who, &cfg.key)) {
    return "ClientInfo by a key that is not in the file";
  }
  s->env = derp_vectors_script_env(&s->random);
  s->c = msock_derp_client_new(&s->env, &cfg, 0);
  return s->c != NULL ? NULL : "no client";
}

/* Asks the client for each frame of one c2s event, takes what it writes, compares. Mesh frames are
 * no client verbs here: they go through the codec. */
static const char *replay_c2s(session *s, const uint8_t *p, size_t len) {
  msock_http1_head head;
  const uint8_t *tx;
  size_t tx_len, at = 0;
  const ptrdiff_t head_len = msock_http1_parse_request(p, len, &head);
  at = head_len > 0 ? (size_t)head_len : 0;
  while (at + 5 <= len) {
    msock_derp_frame f;
    const msock_derp_header h = msock_derp_header_read(p + at);
    if (h.len > len - at - 5) {
      return "c2s frame runs past the event";
    }
    const char *why = derp_vectors_round_trip(p + at, 5 + (size_t)h.len, &f);
    if (why != NULL || !derp_vectors_known_fields(&f)) {
      return why != NULL ? why : "key or payload that no receiver of the file knows";
    }
    at += 5 + (size_t)h.len;
    switch (h.type) {
    case MSOCK_DERP_SEND_PACKET:
      msock_derp_client_send(s->c, 1, &f.u.packet.key, f.u.packet.data, f.u.packet.len);
      break;
    case MSOCK_DERP_NOTE_PREFERRED:
      msock_derp_client_set_preferred(s->c, f.u.preferred);
      msock_derp_client_tx_peek(s->c, 1, &tx, &tx_len); /* in the order of the capture */
      break;
    case MSOCK_DERP_PING:
      msock_derp_client_ping(s->c, 1, MSOCK_SEC);
      break;
    default:
      break;
    }
  }
  if (at != len) {
    return "stray bytes";
  }
  msock_derp_client_tx_peek(s->c, 1, &tx, &tx_len);
  const bool is_mesh = len >= 5 && head_len < 0 &&
                       (p[0] == MSOCK_DERP_WATCH_CONNS || p[0] == MSOCK_DERP_FORWARD_PACKET);
  if (is_mesh) {
    return tx_len == 0 ? NULL : "unasked output";
  }
  if (tx_len != len || memcmp(tx, p, len) != 0) {
    return "client writes other bytes";
  }
  msock_derp_client_tx_consume(s->c, tx_len);
  return NULL;
}

/* A 101 head as the reference server writes it, so that every byte of the event is checked. */
static bool same_101(const uint8_t *p, size_t n) {
  char want[512], hex[65];
  msock_http1_builder b;
  const msock_node_private server = derp_vectors_private_of("server");
  const msock_node_key pub = msock_node_private_public(&server);
  msock_hex_encode(pub.b, 32, hex);
  msock_http1_begin_response(&b, want, sizeof want, 101);
  msock_http1_add(&b, "Upgrade", "DERP");
  msock_http1_add(&b, "Connection", "Upgrade");
  msock_http1_add(&b, "Derp-Version", "2");
  msock_http1_add(&b, "Derp-Public-Key", hex);
  return msock_http1_finish(&b) == (ptrdiff_t)n && memcmp(want, p, n) == 0;
}

/* The n-th expected report of a type; NULL when there are fewer. */
static json_object *nth_report(json_object *want, const char *type, size_t n) {
  for (size_t i = 0; i < json_object_array_length(want); i++) {
    json_object *r = json_object_array_get_idx(want, i);
    if (derp_vectors_has(r, "type") && strcmp(derp_vectors_str(r, "type"), type) == 0 && n-- == 0) {
      return r;
    }
  }
  return NULL;
}

/* Frames that the client machine does not pass on, against the report of the reference client. */
static bool same_quiet_report(const msock_derp_frame *f, json_object *want, size_t *n_present,
                              size_t *n_pong) {
  char text[MSOCK_ADDR_TEXT_MAX] = "";
  if (f->type == MSOCK_DERP_PONG) {
    json_object *r = nth_report(want, "Pong", (*n_pong)++);
    return r != NULL &&
           derp_vectors_is_hex_of(derp_vectors_str(r, "data"), f->u.ping, sizeof f->u.ping);
  }
  if (f->type != MSOCK_DERP_PEER_PRESENT) {
    return true;
  }
  json_object *r = nth_report(want, "PeerPresent", (*n_present)++);
  if (f->u.peer_present.has_addr) {
    msock_addr_text(&f->u.peer_present.addr, text);
  }
  return r != NULL && derp_vectors_same_key(r, "peer", &f->u.peer_present.key) &&
         derp_vectors_same_number(r, "flags", f->u.peer_present.flags) &&
         strcmp(text, derp_vectors_str(r, "ipport")) == 0;
}

static const char *replay_s2c(session *s, const uint8_t *p, size_t len, json_object *want,
                              size_t *n_present) {
  msock_http1_head head;
  const ptrdiff_t n = msock_http1_parse_response(p, len, &head);
  size_t at = 0;
  if (n > 0) {
    if (!same_101(p, (size_t)n)) {
      return "101 head differs";
    }
    at = (size_t)n;
  }
  while (at + 5 <= len) {
    const msock_derp_header h = msock_derp_header_read(p + at);
    if (h.len > len - at - 5) {
      return "s2c frame runs past the event";
    }
    msock_derp_frame f;
    const char *why = derp_vectors_round_trip(p + at, 5 + (size_t)h.len, &f);
    if (why != NULL || msock_derp_frame_decode(h.type, p + at + 5, h.len, &f) != MSOCK_OK) {
      return why != NULL ? why : "s2c frame does not decode";
    }
    if (h.type == MSOCK_DERP_SERVER_KEY) {
      const msock_node_private server = derp_vectors_private_of("server");
      const msock_node_key pub = msock_node_private_public(&server);
      if (!msock_node_key_equal(&pub, &f.u.server_key.key) || f.u.server_key.extension_len > 0) {
        return "greeting differs";
      }
    } else if (!same_quiet_report(&f, want, n_present, &s->pongs)) {
      return "report differs";
    }
    at += 5 + (size_t)h.len;
  }
  feed(s->c, p, len, &s->got);
  return at == len ? NULL : "stray bytes";
}

/* Answered pings among the reports are those whose bytes matched ours. */
static const char *split_pongs(reports *r, size_t expected) {
  size_t kept = 0, pongs = 0;
  for (size_t i = 0; i < r->n; i++) {
    if (strcmp(r->text[i], "Pong") == 0) {
      pongs++;
    } else {
      memmove(r->text[kept++], r->text[i], TEXT_MAX);
    }
  }
  r->n = kept;
  return pongs == expected ? NULL : "pong not matched to the ping";
}

static uint8_t *client_stream(json_object *events, size_t *len) {
  uint8_t *all = NULL;
  *len = 0;
  for (size_t i = 0; i < json_object_array_length(events); i++) {
    json_object *e = json_object_array_get_idx(events, i);
    if (strcmp(derp_vectors_str(e, "dir"), "c2s") == 0) {
      size_t n;
      uint8_t *p = derp_vectors_bytes(e, "hex", &n);
      all = realloc(all, *len + n + 1);
      memcpy(all + *len, p, n);
      *len += n;
      free(p);
    }
  }
  return all;
}

/* closes: CLIENT-01 CLIENT-04 CLIENT-05 CLIENT-23 */
static void check_transcript(json_object *t) {
  json_object *events = derp_vectors_get(t, "events");
  json_object *want = derp_vectors_get(t, "client_recv");
  session s = {0};
  size_t len, n_present = 0;
  uint8_t *all = client_stream(events, &len);
  const char *why = configure(&s, all, len);
  for (size_t i = 0; why == NULL && i < json_object_array_length(events); i++) {
    json_object *e = json_object_array_get_idx(events, i);
    size_t n;
    uint8_t *p = derp_vectors_bytes(e, "hex", &n);
    why = strcmp(derp_vectors_str(e, "dir"), "c2s") == 0 ? replay_c2s(&s, p, n)
                                                         : replay_s2c(&s, p, n, want, &n_present);
    free(p);
  }
  if (why == NULL) {
    why = split_pongs(&s.got, count_type(want, "Pong"));
  }
  if (why == NULL) {
    why = compare_reports(want, &s.got);
  }
  if (why == NULL && n_present != count_type(want, "PeerPresent")) {
    why = "number of PeerPresent differs";
  }
  vectors_case(DERP_VECTORS_FILE, derp_vectors_str(t, "name"), why == NULL, "%s",
               why != NULL ? why : "");
  free(all);
  msock_derp_client_free(s.c);
  msock_derp_queue_clear(&s.queue);
}

/* ---- client behaviour ---- */

/* Bytes of the case: given, or those of the frame of the same name. Greeting cases are told by
 * their name: "greeting: wrong magic", "greeting: N bytes[ then KeepAlive]". */
static uint8_t *behaviour_bytes(json_object *c, const uint8_t *greeting, size_t greeting_len,
                                size_t *len) {
  static const uint8_t keep_alive[] = {6, 0, 0, 0, 0};
  const char *name = derp_vectors_str(c, "name");
  size_t n = 0, tail_len = 0;
  uint8_t *tail = NULL, *all = NULL;
  if (strncmp(name, "greeting: ", 10) == 0) {
    if (sscanf(name, "greeting: %zu bytes", &n) != 1) {
      n = greeting_len - 5;
    }
    all = calloc(1, 5 + n + sizeof keep_alive);
    memcpy(all, greeting, greeting_len < 5 + n ? greeting_len : 5 + n);
    msock_derp_header_write(all, (msock_derp_header){greeting[0], (uint32_t)n});
    all[5] ^= strstr(name, "wrong magic") != NULL;
    *len = 5 + n;
    if (strstr(name, "then KeepAlive") != NULL) {
      memcpy(all + *len, keep_alive, sizeof keep_alive);
      *len += sizeof keep_alive;
    }
    return all;
  }
  if (derp_vectors_has(c, "stream_after_greeting_hex")) {
    tail = derp_vectors_bytes(c, "stream_after_greeting_hex", &tail_len);
  } else {
    json_object *list = derp_vectors_get(derp_vectors_root, "frames");
    for (size_t i = 0; i < json_object_array_length(list); i++) {
      json_object *f = json_object_array_get_idx(list, i);
      if (strcmp(derp_vectors_str(f, "name"), name) == 0) {
        tail = derp_vectors_bytes(f, "hex", &tail_len);
      }
    }
  }
  *len = greeting_len + tail_len;
  all = malloc(*len + 1);
  memcpy(all, greeting, greeting_len);
  if (tail != NULL) {
    memcpy(all + greeting_len, tail, tail_len);
  }
  free(tail);
  return all;
}

/* The reference client's error text, as our reason. */
static bool same_ending(const char *error, msock_derp_closed closed) {
  if (strstr(error, "large frame") != NULL) {
    return closed == MSOCK_DERP_CLOSED_TOO_LARGE;
  }
  if (strstr(error, "server info") != NULL) {
    return closed == MSOCK_DERP_CLOSED_SERVER_INFO;
  }
  if (strstr(error, "server key") != NULL) {
    return closed == MSOCK_DERP_CLOSED_GREETING;
  }
  return strstr(error, "EOF") != NULL &&
         (closed == MSOCK_DERP_CLOSED_EOF || closed == MSOCK_DERP_CLOSED_REFUSED);
}

/* Reports without an event: KeepAlive by its counter, Ping by the pong that goes out. */
static const char *check_silent(msock_derp_client *c, json_object *want) {
  const uint8_t *tx;
  size_t len, at = 0;
  const msock_derp_client_counters *n = msock_derp_client_get_counters(c);
  if (n->rx_keep_alive != count_type(want, "KeepAlive")) {
    return "KeepAlive not counted";
  }
  if (n->rx_ping != count_type(want, "Ping")) {
    return "Ping not counted";
  }
  msock_derp_client_tx_peek(c, 1, &tx, &len);
  for (size_t i = 0; i < json_object_array_length(want); i++) {
    json_object *r = json_object_array_get_idx(want, i);
    if (derp_vectors_has(r, "type") && strcmp(derp_vectors_str(r, "type"), "Ping") == 0) {
      if (len - at < 13 || tx[at] != MSOCK_DERP_PONG ||
          !derp_vectors_is_hex_of(derp_vectors_str(r, "data"), tx + at + 5, 8)) {
        return "Ping not answered with its bytes";
      }
      at += 13;
    }
  }
  return at == len ? NULL : "unasked output";
}

/* Every frame of the stream behind the greeting, by the codec: quiet reports, and boxes that are
 * whole even where the client must refuse them. */
static const char *check_stream(const uint8_t *p, size_t len, json_object *want) {
  size_t n_present = 0, n_pong = 0;
  for (size_t at = 0; at + 5 <= len;) {
    msock_derp_frame f;
    const msock_derp_header h = msock_derp_header_read(p + at);
    at += 5;
    if (h.len > len - at) {
      break; /* cut on purpose */
    }
    if (h.type == MSOCK_DERP_SERVER_INFO && !derp_vectors_opens_between_known_keys(p + at, h.len)) {
      return "box does not open between any keys of the file";
    }
    if (msock_derp_frame_decode(h.type, p + at, h.len, &f) == MSOCK_OK &&
        (!same_quiet_report(&f, want, &n_present, &n_pong) || !derp_vectors_known_fields(&f))) {
      return "report differs";
    }
    if (msock_derp_frame_decode(h.type, p + at, h.len, &f) == MSOCK_ERR_SHORT &&
        !derp_vectors_known_filler(p + at, h.len)) {
      return "filler differs";
    }
    at += h.len;
  }
  return NULL;
}

/* closes: CLIENT-03 CLIENT-08 CLIENT-09 CLIENT-10 CLIENT-11 */
static void check_behaviour(json_object *c) {
  static const char head[] = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
  json_object *want = derp_vectors_get(c, "result");
  json_object *end = json_object_array_get_idx(want, json_object_array_length(want) - 1);
  const msock_node_private server = derp_vectors_private_of("server");
  const msock_derp_frame key = {.type = MSOCK_DERP_SERVER_KEY,
                                .u.server_key.key = msock_node_private_public(&server)};
  uint8_t greeting[64];
  derp_vectors_script random = {0};
  const msock_env env = derp_vectors_script_env(&random);
  msock_derp_queue queue = {0};
  msock_derp_client_cfg cfg = {.queue = &queue, .host = "x"};
  reports got = {0};
  msock_derp_event ev;
  size_t len;
  const size_t greeting_len = (size_t)msock_derp_frame_encode(&key, greeting, sizeof greeting);

  cfg.key = derp_vectors_private_of("a");
  cfg.info = msock_derp_client_info_default();
  uint8_t *all = behaviour_bytes(c, greeting, greeting_len, &len);
  msock_derp_client *client = msock_derp_client_new(&env, &cfg, 0);
  feed(client, (const uint8_t *)head, sizeof head - 1, &got);
  feed(client, all, greeting_len < len ? greeting_len : len, &got);
  const uint8_t *tx;
  size_t tx_len;
  const bool whole_greeting = msock_derp_client_is_logged_in(client);
  msock_derp_client_tx_peek(client, 1, &tx, &tx_len);
  msock_derp_client_tx_consume(client, tx_len);
  if (len > greeting_len) {
    feed(client, all + greeting_len, len - greeting_len, &got);
  }
  if (!whole_greeting) {
    msock_derp_client_tx_peek(client, 1, &tx, &tx_len);
    msock_derp_client_tx_consume(client, tx_len);
  }
  const char *why = got.closed == 0 ? check_silent(client, want) : NULL;
  msock_derp_client_eof(client);
  while (msock_derp_client_next_event(client, &ev)) {
    report(&got, &ev);
  }
  why = why != NULL ? why : split_pongs(&got, 0); /* none was asked for here */
  if (why == NULL && len > greeting_len &&
      strncmp(derp_vectors_str(c, "name"), "greeting: ", 10) != 0) {
    why = check_stream(all + greeting_len, len - greeting_len, want);
  }
  why = why != NULL ? why : compare_reports(want, &got);
  if (why == NULL && !same_ending(derp_vectors_str(end, "error"), got.closed)) {
    why = msock_derp_closed_text(got.closed);
  }
  vectors_case(DERP_VECTORS_FILE, derp_vectors_str(c, "name"), why == NULL, "%s",
               why != NULL ? why : "");
  free(all);
  msock_derp_client_free(client);
  msock_derp_queue_clear(&queue);
}

int main(void) {
  derp_vectors_root = vectors_open(DERP_VECTORS_FILE);
  if (derp_vectors_root == NULL || msock_crypto_init() != MSOCK_OK) {
    return vectors_exit();
  }
  derp_vectors_each(derp_vectors_get(derp_vectors_root, "transcripts"), check_transcript);
  derp_vectors_each(derp_vectors_get(derp_vectors_root, "client_behaviour"), check_behaviour);
  vectors_done(DERP_VECTORS_FILE);
  json_object_put(derp_vectors_root);
  return vectors_exit();
}
