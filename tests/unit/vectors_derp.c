/* DERP against bytes of the reference peers: keys, every frame type, whole sessions byte for byte,
 * client behaviour, the login rules of the server side, HTTP exchanges, pins. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/http1.h"
#include "crypto/box.h"
#include "crypto/init.h"
#include "crypto/wipe.h"
#include "crypto/x25519.h"
#include "derp/pool.h"
#include "tests/unit/vectors.h"

#define FILE_NAME "derp.json"
#define TEXT_MAX 512

static json_object *root;

/* ---- JSON helpers ---- */

static json_object *get(json_object *o, const char *field) {
  return vectors_get(FILE_NAME, o, field);
}

static const char *str(json_object *o, const char *field) {
  return vectors_str(FILE_NAME, o, field);
}

static uint8_t *bytes(json_object *o, const char *field, size_t *len) {
  return vectors_hex(FILE_NAME, o, field, len);
}

static bool has(json_object *o, const char *field) {
  return json_object_object_get_ex(o, field, NULL);
}

static bool is_hex_of(const char *hex, const void *p, size_t len) {
  char *text = malloc(2 * len + 1);
  msock_hex_encode(p, len, text);
  const bool same = strcmp(text, hex) == 0;
  free(text);
  return same;
}

static msock_node_key key_field(json_object *o, const char *field) {
  msock_node_key k = {{0}};
  if (!msock_hex_decode(str(o, field), k.b, sizeof k.b) || strlen(str(o, field)) != 64) {
    vectors_case(FILE_NAME, field, false, "not a key");
  }
  return k;
}

static json_object *named_key(const char *name) {
  return get(get(root, "keys"), name);
}

static msock_node_private private_of(const char *name) {
  msock_node_private k;
  memcpy(k.b, key_field(named_key(name), "private_hex").b, sizeof k.b);
  return k;
}

/* Private key of whichever named key has that public one. */
static bool private_for(const msock_node_key *public_key, msock_node_private *out) {
  json_object_object_foreach(get(root, "keys"), name, v) {
    if (json_object_is_type(v, json_type_object)) {
      const msock_node_key k = key_field(v, "public_hex");
      if (msock_node_key_equal(&k, public_key)) {
        *out = private_of(name);
        return true;
      }
    }
  }
  return false;
}

/* ---- a scripted source of randomness: the nonces of the capture ---- */

typedef struct script {
  uint8_t bytes[1024];
  size_t len, at;
} script;

static void script_add(script *s, const void *p, size_t n) {
  if (s->len + n <= sizeof s->bytes) {
    memcpy(s->bytes + s->len, p, n);
    s->len += n;
  }
}

static void scripted_random(void *ctx, void *dst, size_t len) {
  script *s = ctx;
  memset(dst, 0, len);
  if (s->at + len <= s->len) {
    memcpy(dst, s->bytes + s->at, len);
    s->at += len;
  }
}

static msock_env script_env(script *s) {
  return (msock_env){.ctx = s, .random = scripted_random, .log = NULL};
}

/* ---- keys ---- */

/* seed is the text: sha256("..."), clamped */
static bool from_seed(const char *seed, const msock_node_private *k) {
  uint8_t h[32];
  const char *open = strchr(seed, '"');
  const char *close = strrchr(seed, '"');
  if (open == NULL || close <= open) {
    return false;
  }
  crypto_hash_sha256(h, (const uint8_t *)open + 1, (size_t)(close - open - 1));
  h[0] &= 248;
  h[31] = (uint8_t)((h[31] & 127) | 64);
  return memcmp(h, k->b, sizeof h) == 0;
}

static void check_keys(void) {
  json_object_object_foreach(get(root, "keys"), name, v) {
    if (!json_object_is_type(v, json_type_object)) {
      continue;
    }
    char text[MSOCK_KEY_TEXT_MAX];
    const msock_node_private k = private_of(name);
    const msock_node_key pub = msock_node_private_public(&k);
    const bool ok = is_hex_of(str(v, "public_hex"), pub.b, sizeof pub.b) &&
                    strcmp(msock_node_key_text(&pub, text), str(v, "nodekey_text")) == 0 &&
                    from_seed(str(v, "seed"), &k);
    vectors_case(FILE_NAME, name, ok, "private, public, text form and seed disagree");
  }
  char want[256], text[MSOCK_KEY_TEXT_MAX];
  const msock_node_private server = private_of("server");
  snprintf(want, sizeof want, "{\n\t\"PrivateKey\": \"%s\"\n}",
           msock_node_private_text(&server, text));
  vectors_case(FILE_NAME, "derper_config_file",
               strcmp(want, str(get(root, "keys"), "derper_config_file")) == 0,
               "not the server's key");
}

/* ---- frames ---- */

static bool mesh_psk_is(const uint8_t *key) {
  return is_hex_of(str(get(root, "keys"), "mesh_psk_hex"), key, 32);
}

/* Seals what was opened again with the captured nonce: the same bytes? */
static bool reseals(const msock_derp_frame *f, const uint8_t *hex, size_t len) {
  uint8_t again[MSOCK_DERP_LOGIN_FRAME_MAX];
  const msock_node_private server = private_of("server");
  const msock_node_key server_public = msock_node_private_public(&server);
  script s = {0};
  const msock_env env = script_env(&s);
  ptrdiff_t n = 0;
  if (f->type == MSOCK_DERP_CLIENT_INFO) {
    msock_derp_client_info info;
    msock_node_key who;
    msock_node_private me;
    script_add(&s, f->u.client_info.box, MSOCK_BOX_NONCE_LEN);
    if (msock_derp_client_info_open(hex + 5, len - 5, &server, &who, &info) != MSOCK_OK ||
        (info.has_mesh_key && !mesh_psk_is(info.mesh_key)) || !private_for(&who, &me)) {
      return false;
    }
    n = msock_derp_client_info_seal(&info, &me, &server_public, &env, again, sizeof again);
  } else {
    msock_derp_server_info info;
    const msock_node_private a = private_of("a");
    const msock_node_key a_public = msock_node_private_public(&a);
    script_add(&s, f->u.server_info.box, MSOCK_BOX_NONCE_LEN);
    if (msock_derp_server_info_open(hex + 5, len - 5, &a, &server_public, &info) != MSOCK_OK) {
      return false;
    }
    n = msock_derp_server_info_seal(&info, &server, &a_public, &env, again, sizeof again);
  }
  return n == (ptrdiff_t)len && memcmp(again, hex, len) == 0;
}

static bool same_key(json_object *fields, const char *name, const msock_node_key *k) {
  return is_hex_of(str(fields, name), k->b, sizeof k->b);
}

static bool same_number(json_object *fields, const char *name, uint64_t v) {
  return json_object_get_uint64(get(fields, name)) == v;
}

/* The plaintext field against what the box holds. */
static bool same_plaintext(json_object *fields, const uint8_t *box, size_t len, bool from_client) {
  uint8_t plain[1024];
  msock_box_shared shared;
  const msock_node_private server = private_of("server");
  const msock_node_key peer = from_client
                                  ? key_field(fields, "client_key")
                                  : key_field(named_key(str(fields, "sealed_to")), "public_hex");
  const char *want = str(fields, "plaintext");
  return len - MSOCK_BOX_OVERHEAD == strlen(want) && len < sizeof plain &&
         msock_box_precompute(&shared, peer.b, server.b) == MSOCK_OK &&
         msock_box_open(&shared, box, len, plain) == MSOCK_OK &&
         memcmp(plain, want, strlen(want)) == 0 && is_hex_of(str(fields, "nonce"), box, 24) &&
         is_hex_of(str(fields, "box"), box + 24, len - 24);
}

static bool same_present(json_object *fields, const msock_derp_frame *f) {
  char text[MSOCK_IP_TEXT_MAX];
  const bool addr_ok =
      has(fields, "ip")
          ? f->u.peer_present.has_addr &&
                same_number(fields, "port", f->u.peer_present.addr.port) &&
                strcmp(msock_ip_text(&f->u.peer_present.addr.ip, text), str(fields, "ip")) == 0
          : !f->u.peer_present.has_addr;
  const bool flags_ok =
      has(fields, "flags")
          ? f->u.peer_present.has_flags && same_number(fields, "flags", f->u.peer_present.flags)
          : !f->u.peer_present.has_flags;
  return addr_ok && flags_ok && same_key(fields, "peer", &f->u.peer_present.key);
}

static bool same_fields(json_object *fields, const msock_derp_frame *f) {
  static const uint8_t magic[] = {0x44, 0x45, 0x52, 0x50, 0xf0, 0x9f, 0x94, 0x91};
  switch (f->type) {
  case MSOCK_DERP_SERVER_KEY:
    return same_key(fields, "server_key", &f->u.server_key.key) &&
           (!has(fields, "magic_hex") || is_hex_of(str(fields, "magic_hex"), magic, 8)) &&
           (has(fields, "trailing") ? is_hex_of(str(fields, "trailing"), f->u.server_key.extension,
                                                f->u.server_key.extension_len)
                                    : f->u.server_key.extension_len == 0);
  case MSOCK_DERP_CLIENT_INFO:
    return same_key(fields, "client_key", &f->u.client_info.key) &&
           same_plaintext(fields, f->u.client_info.box, f->u.client_info.box_len, true);
  case MSOCK_DERP_SERVER_INFO:
    return same_plaintext(fields, f->u.server_info.box, f->u.server_info.box_len, false);
  case MSOCK_DERP_SEND_PACKET:
  case MSOCK_DERP_RECV_PACKET:
    return same_key(fields, f->type == MSOCK_DERP_SEND_PACKET ? "dst" : "src", &f->u.packet.key) &&
           is_hex_of(str(fields, "payload"), f->u.packet.data, f->u.packet.len);
  case MSOCK_DERP_FORWARD_PACKET:
    return same_key(fields, "src", &f->u.forward.src) &&
           same_key(fields, "dst", &f->u.forward.dst) &&
           is_hex_of(str(fields, "payload"), f->u.forward.data, f->u.forward.len);
  case MSOCK_DERP_NOTE_PREFERRED:
    return json_object_get_boolean(get(fields, "preferred")) == (int)f->u.preferred;
  case MSOCK_DERP_PEER_GONE:
    return same_key(fields, "peer", &f->u.peer_gone.key) &&
           same_number(fields, "reason", f->u.peer_gone.reason);
  case MSOCK_DERP_PEER_PRESENT:
    return same_present(fields, f);
  case MSOCK_DERP_CLOSE_PEER:
    return same_key(fields, "peer", &f->u.close_peer);
  case MSOCK_DERP_PING:
  case MSOCK_DERP_PONG:
    return is_hex_of(str(fields, "data"), f->u.ping, sizeof f->u.ping);
  case MSOCK_DERP_HEALTH:
    return strlen(str(fields, "text")) == f->u.health.len &&
           memcmp(str(fields, "text"), f->u.health.text, f->u.health.len) == 0;
  case MSOCK_DERP_RESTARTING:
    return same_number(fields, "reconnect_in_ms", f->u.restarting.reconnect_in_ms) &&
           same_number(fields, "try_for_ms", f->u.restarting.try_for_ms);
  default:
    return true; /* KeepAlive, WatchConns: nothing in them */
  }
}

/* Decodes one whole frame, compares its fields if given, encodes it again. */
static const char *check_frame(const uint8_t *p, size_t len, json_object *fields) {
  uint8_t *again = malloc(len);
  const char *why = NULL;
  msock_derp_frame f;
  const msock_derp_header h = len >= 5 ? msock_derp_header_read(p) : (msock_derp_header){0, 0};
  const msock_err err = len == 5 + (size_t)h.len ? msock_derp_frame_decode(h.type, p + 5, h.len, &f)
                                                 : MSOCK_ERR_SHORT;
  if (err == MSOCK_ERR_UNKNOWN) {
    why =
        msock_derp_from_client(h, false) == MSOCK_DERP_SKIP ? NULL : "unknown type is not skipped";
  } else if (err != MSOCK_OK) {
    why = "does not decode";
  } else if (fields != NULL && !same_fields(fields, &f)) {
    why = "decoded fields differ";
  } else if (msock_derp_frame_encode(&f, again, len) != (ptrdiff_t)len ||
             memcmp(again, p, len) != 0) {
    why = "does not encode to the same bytes";
  } else if (fields != NULL &&
             (f.type == MSOCK_DERP_CLIENT_INFO || f.type == MSOCK_DERP_SERVER_INFO) &&
             !reseals(&f, p, len)) {
    why = "sealing with the same nonce gives other bytes";
  }
  free(again);
  return why;
}

/* closes: CLIENT-04 */
static void check_frames(void) {
  json_object *list = get(root, "frames");
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *c = json_object_array_get_idx(list, i);
    size_t len;
    uint8_t *p = bytes(c, "hex", &len);
    const char *why = check_frame(p, len, get(c, "fields"));
    if (why == NULL && (!same_number(c, "type", p[0]) || !same_number(c, "payload_len", len - 5))) {
      why = "type or length differ";
    }
    vectors_case(FILE_NAME, str(c, "name"), why == NULL, "%s", why != NULL ? why : "");
    free(p);
  }
}

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
  size_t at = (size_t)snprintf(dst, cap, "%s", str(r, "type"));
  for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
    if (has(r, fields[i]) && at < cap) {
      at += (size_t)snprintf(dst + at, cap - at, " %s=%s", fields[i],
                             json_object_get_string(get(r, fields[i])));
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
    if (has(r, "error") || is_silent(str(r, "type"))) {
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
    n += has(r, "type") && strcmp(str(r, "type"), type) == 0;
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

/* ---- what a packet in the file may hold ---- */

static bool is_zero(const uint8_t *p, size_t len) {
  return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

static bool known_key(const msock_node_key *k) {
  msock_node_private ignored;
  return private_for(k, &ignored) || is_zero(k->b, sizeof k->b);
}

/* A payload that some frame example or some receiver of a session names; or nothing, or zeros. */
static bool known_payload(const uint8_t *p, size_t len) {
  json_object *frames = get(root, "frames");
  json_object *sessions = get(root, "transcripts");
  bool found = is_zero(p, len);
  for (size_t i = 0; i < json_object_array_length(frames); i++) {
    json_object *fields = get(json_object_array_get_idx(frames, i), "fields");
    found = found || (has(fields, "payload") && is_hex_of(str(fields, "payload"), p, len));
  }
  for (size_t i = 0; i < json_object_array_length(sessions); i++) {
    json_object *recv = get(json_object_array_get_idx(sessions, i), "client_recv");
    for (size_t j = 0; j < json_object_array_length(recv); j++) {
      json_object *r = json_object_array_get_idx(recv, j);
      found = found || (has(r, "payload") && is_hex_of(str(r, "payload"), p, len));
    }
  }
  return found;
}

/* Whether a decoded frame speaks of keys and payloads of the file only: an altered byte does not.
 */
static bool known_fields(const msock_derp_frame *f) {
  switch (f->type) {
  case MSOCK_DERP_SEND_PACKET:
  case MSOCK_DERP_RECV_PACKET:
    return known_key(&f->u.packet.key) && known_payload(f->u.packet.data, f->u.packet.len);
  case MSOCK_DERP_FORWARD_PACKET:
    return known_key(&f->u.forward.src) && known_key(&f->u.forward.dst) &&
           known_payload(f->u.forward.data, f->u.forward.len);
  case MSOCK_DERP_CLOSE_PEER:
    return known_key(&f->u.close_peer);
  case MSOCK_DERP_PEER_GONE:
    return known_key(&f->u.peer_gone.key);
  default:
    return true;
  }
}

/* A frame cut or spoilt on purpose: a key of the file, if that long, and zeros. */
static bool known_filler(const uint8_t *p, size_t len) {
  msock_node_key k;
  if (len < sizeof k.b) {
    return is_zero(p, len);
  }
  memcpy(k.b, p, sizeof k.b);
  return known_key(&k) && is_zero(p + sizeof k.b, len - sizeof k.b);
}

/* Whether a box opens between any two keys of the file: then it is whole, whoever it is for. */
static bool opens_between_known_keys(const uint8_t *box, size_t len) {
  static uint8_t plain[300000];
  bool found = false;
  if (len < MSOCK_BOX_OVERHEAD || len > sizeof plain) {
    return false;
  }
  json_object_object_foreach(get(root, "keys"), from, a) {
    json_object_object_foreach(get(root, "keys"), to, b) {
      (void)to;
      if (json_object_is_type(a, json_type_object) && json_object_is_type(b, json_type_object)) {
        msock_box_shared shared;
        const msock_node_private k = private_of(from);
        found = found ||
                (msock_box_precompute(&shared, key_field(b, "public_hex").b, k.b) == MSOCK_OK &&
                 msock_box_open(&shared, box, len, plain) == MSOCK_OK);
      }
    }
  }
  return found;
}

/* ---- transcripts ---- */

typedef struct session {
  script random;
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
  const msock_node_private server = private_of("server");
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
      script_add(&s->random, payload + 32, MSOCK_BOX_NONCE_LEN);
      if (msock_derp_client_info_open(payload, h.len, &server, &who, &cfg.info) != MSOCK_OK) {
        return "ClientInfo does not open";
      }
      if (cfg.info.has_mesh_key && !mesh_psk_is(cfg.info.mesh_key)) {
        return "wrong mesh key";
      }
    } else if (h.type == MSOCK_DERP_PING && h.len >= 8) {
      script_add(&s->random, payload, 8);
    }
  }
  if (!private_for(&who, &cfg.key)) {
    return "ClientInfo by a key that is not in the file";
  }
  s->env = script_env(&s->random);
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
    if (h.len > len - at - 5 ||
        msock_derp_frame_decode(h.type, p + at + 5, h.len, &f) != MSOCK_OK) {
      return "c2s frame does not decode";
    }
    const char *why = check_frame(p + at, 5 + (size_t)h.len, NULL);
    if (why != NULL || !known_fields(&f)) {
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
  const msock_node_private server = private_of("server");
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
    if (has(r, "type") && strcmp(str(r, "type"), type) == 0 && n-- == 0) {
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
    return r != NULL && is_hex_of(str(r, "data"), f->u.ping, sizeof f->u.ping);
  }
  if (f->type != MSOCK_DERP_PEER_PRESENT) {
    return true;
  }
  json_object *r = nth_report(want, "PeerPresent", (*n_present)++);
  if (f->u.peer_present.has_addr) {
    msock_addr_text(&f->u.peer_present.addr, text);
  }
  return r != NULL && same_key(r, "peer", &f->u.peer_present.key) &&
         same_number(r, "flags", f->u.peer_present.flags) && strcmp(text, str(r, "ipport")) == 0;
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
    const char *why = check_frame(p + at, 5 + (size_t)h.len, NULL);
    msock_derp_frame f;
    if (why != NULL || msock_derp_frame_decode(h.type, p + at + 5, h.len, &f) != MSOCK_OK) {
      return why != NULL ? why : "s2c frame does not decode";
    }
    if (h.type == MSOCK_DERP_SERVER_KEY) {
      const msock_node_private server = private_of("server");
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
    if (strcmp(str(e, "dir"), "c2s") == 0) {
      size_t n;
      uint8_t *p = bytes(e, "hex", &n);
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
  json_object *events = get(t, "events");
  json_object *want = get(t, "client_recv");
  session s = {0};
  size_t len, n_present = 0;
  uint8_t *all = client_stream(events, &len);
  const char *why = configure(&s, all, len);
  for (size_t i = 0; why == NULL && i < json_object_array_length(events); i++) {
    json_object *e = json_object_array_get_idx(events, i);
    size_t n;
    uint8_t *p = bytes(e, "hex", &n);
    why = strcmp(str(e, "dir"), "c2s") == 0 ? replay_c2s(&s, p, n)
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
  vectors_case(FILE_NAME, str(t, "name"), why == NULL, "%s", why != NULL ? why : "");
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
  const char *name = str(c, "name");
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
  if (has(c, "stream_after_greeting_hex")) {
    tail = bytes(c, "stream_after_greeting_hex", &tail_len);
  } else {
    json_object *list = get(root, "frames");
    for (size_t i = 0; i < json_object_array_length(list); i++) {
      json_object *f = json_object_array_get_idx(list, i);
      if (strcmp(str(f, "name"), name) == 0) {
        tail = bytes(f, "hex", &tail_len);
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
    if (has(r, "type") && strcmp(str(r, "type"), "Ping") == 0) {
      if (len - at < 13 || tx[at] != MSOCK_DERP_PONG ||
          !is_hex_of(str(r, "data"), tx + at + 5, 8)) {
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
    if (h.type == MSOCK_DERP_SERVER_INFO && !opens_between_known_keys(p + at, h.len)) {
      return "box does not open between any keys of the file";
    }
    if (msock_derp_frame_decode(h.type, p + at, h.len, &f) == MSOCK_OK &&
        (!same_quiet_report(&f, want, &n_present, &n_pong) || !known_fields(&f))) {
      return "report differs";
    }
    if (msock_derp_frame_decode(h.type, p + at, h.len, &f) == MSOCK_ERR_SHORT &&
        !known_filler(p + at, h.len)) {
      return "filler differs";
    }
    at += h.len;
  }
  return NULL;
}

/* closes: CLIENT-03 CLIENT-08 CLIENT-09 CLIENT-10 CLIENT-11 */
static void check_behaviour(json_object *c) {
  static const char head[] = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
  json_object *want = get(c, "result");
  json_object *end = json_object_array_get_idx(want, json_object_array_length(want) - 1);
  const msock_node_private server = private_of("server");
  const msock_derp_frame key = {.type = MSOCK_DERP_SERVER_KEY,
                                .u.server_key.key = msock_node_private_public(&server)};
  uint8_t greeting[64];
  script random = {0};
  const msock_env env = script_env(&random);
  msock_derp_queue queue = {0};
  msock_derp_client_cfg cfg = {.queue = &queue, .host = "x"};
  reports got = {0};
  msock_derp_event ev;
  size_t len;
  const size_t greeting_len = (size_t)msock_derp_frame_encode(&key, greeting, sizeof greeting);

  cfg.key = private_of("a");
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
  if (why == NULL && len > greeting_len && strncmp(str(c, "name"), "greeting: ", 10) != 0) {
    why = check_stream(all + greeting_len, len - greeting_len, want);
  }
  why = why != NULL ? why : compare_reports(want, &got);
  if (why == NULL && !same_ending(str(end, "error"), got.closed)) {
    why = msock_derp_closed_text(got.closed);
  }
  vectors_case(FILE_NAME, str(c, "name"), why == NULL, "%s", why != NULL ? why : "");
  free(all);
  msock_derp_client_free(client);
  msock_derp_queue_clear(&queue);
}

/* ---- server side: what the codec decides ---- */

/* Hex that may end in "...(N bytes in all, ...)": gives the bytes there are and N. */
static uint8_t *cut_hex(const char *text, size_t *len, size_t *total) {
  const char *dots = strstr(text, "...");
  *len = (dots != NULL ? (size_t)(dots - text) : strlen(text)) / 2;
  uint8_t *p = malloc(*len + 1);
  *total = *len;
  if (!msock_hex_decode(text, p, *len) ||
      (dots != NULL && sscanf(dots, "...(%zu bytes", total) != 1)) {
    *len = *total = 0;
  }
  return p;
}

/* closes: SERVER-04 (codec part) */
static void check_login(json_object *c) {
  size_t len, total;
  uint8_t *p = cut_hex(str(c, "first_frame_hex"), &len, &total);
  const bool accepted = json_object_get_boolean(get(c, "accepted"));
  const msock_node_private server = private_of("server");
  const msock_derp_header h = len >= 5 ? msock_derp_header_read(p) : (msock_derp_header){0, 0};
  bool got = false;
  if (total != 5 + (size_t)h.len) {
    vectors_case(FILE_NAME, str(c, "name"), false, "length field and length disagree");
  } else if (len < total) { /* cut: the length alone decides */
    got = h.type == MSOCK_DERP_CLIENT_INFO && h.len >= MSOCK_DERP_CLIENT_INFO_MIN &&
          h.len <= MSOCK_DERP_CLIENT_INFO_MAX;
    vectors_case(FILE_NAME, str(c, "name"), got == accepted, "by length: accepted %d", got);
  } else {
    msock_node_key who;
    msock_derp_client_info info;
    got = h.type == MSOCK_DERP_CLIENT_INFO &&
          msock_derp_client_info_open(p + 5, h.len, &server, &who, &info) == MSOCK_OK &&
          memcmp(who.b, p + 5, 32) == 0;
    const bool has_box = h.type == MSOCK_DERP_CLIENT_INFO && h.len >= MSOCK_KEY_LEN;
    const bool is_whole = !has_box || is_zero(p + 5, h.len) ||
                          (known_filler(p + 5, MSOCK_KEY_LEN) &&
                           opens_between_known_keys(p + 5 + MSOCK_KEY_LEN, h.len - MSOCK_KEY_LEN));
    vectors_case(FILE_NAME, str(c, "name"), got == accepted && is_whole,
                 "accepted %d, box whole %d", got, is_whole);
  }
  free(p);
}

/* closes: SERVER-08 (codec part) */
static void check_established(json_object *c) {
  size_t len, total, at = 0;
  uint8_t *p = cut_hex(str(c, "sent_hex"), &len, &total);
  const bool kept = json_object_get_boolean(get(c, "connection_kept"));
  const bool is_mesh = json_object_get_boolean(get(c, "mesh_client"));
  bool got = true;
  const char *why = NULL;
  while (at + 5 <= len) {
    const msock_derp_header h = msock_derp_header_read(p + at);
    const msock_derp_verdict v = msock_derp_from_client(h, is_mesh);
    msock_derp_frame f;
    got = got && v != MSOCK_DERP_FATAL;
    at += 5;
    const size_t have = h.len < len - at ? h.len : len - at;
    const size_t is_note = h.type == MSOCK_DERP_NOTE_PREFERRED; /* its first byte is a flag */
    const bool decodes =
        h.len <= len - at && msock_derp_frame_decode(h.type, p + at, h.len, &f) == MSOCK_OK;
    if (v == MSOCK_DERP_HANDLE && h.len <= len - at && !decodes) {
      why = "handled by its header, but does not decode";
    } else if (decodes && !known_fields(&f)) {
      why = "key or payload that the file does not know";
    } else if (decodes && h.type == MSOCK_DERP_CLIENT_INFO &&
               !(known_key(&f.u.client_info.key) &&
                 opens_between_known_keys(f.u.client_info.box, f.u.client_info.box_len))) {
      why = "box does not open";
    } else if (!decodes && h.len > 1 && have > is_note &&
               !known_filler(p + at + is_note, have - is_note)) {
      why = "filler differs";
    }
    if (total - at < h.len) {
      why = "length field and length disagree";
      break;
    }
    at += h.len;
  }
  if (why == NULL && at != total) {
    why = "stray bytes";
  }
  vectors_case(FILE_NAME, str(c, "name"), why == NULL && got == kept, "%s",
               why != NULL ? why : "connection kept or closed against the reference");
  free(p);
}

/* ---- HTTP ---- */

/* Both heads through the codec and back; the reply given to a client that wanted 101. */
static const char *check_exchange(const char *request, const char *response) {
  msock_http1_head rq, rs;
  char again[2048], name[256], value[1024];
  msock_http1_builder b;
  const ptrdiff_t nq = msock_http1_parse_request((const uint8_t *)request, strlen(request), &rq);
  const ptrdiff_t ns = msock_http1_parse_response((const uint8_t *)response, strlen(response), &rs);
  if (nq != (ptrdiff_t)strlen(request) || ns <= 0) {
    return "a head does not parse";
  }
  msock_http1_begin_response(&b, again, sizeof again, rs.status);
  for (size_t i = 0; i < rs.n_headers; i++) {
    snprintf(name, sizeof name, "%.*s", (int)rs.headers[i].name.len, rs.headers[i].name.p);
    snprintf(value, sizeof value, "%.*s", (int)rs.headers[i].value.len, rs.headers[i].value.p);
    msock_http1_add(&b, name, value);
  }
  if (msock_http1_finish(&b) != ns || memcmp(again, response, (size_t)ns) != 0) {
    return "the head does not come back the same";
  }
  const size_t body = strlen(response) - (size_t)ns;
  if (rs.content_length >= 0 ? (size_t)rs.content_length != body : body != 0) {
    return "Content-Length and body disagree";
  }
  script random = {0};
  const msock_env env = script_env(&random);
  msock_derp_queue queue = {0};
  msock_derp_client_cfg cfg = {.queue = &queue, .host = "x"};
  msock_derp_event ev = {0};
  msock_derp_client *c = msock_derp_client_new(&env, &cfg, 0);
  msock_derp_client_feed(c, 1, (const uint8_t *)response, strlen(response));
  const bool told = msock_derp_client_next_event(c, &ev) && ev.kind == MSOCK_DERP_EVENT_CLOSED &&
                    ev.u.closed.reason == MSOCK_DERP_CLOSED_HTTP_STATUS &&
                    ev.u.closed.http_status == rs.status;
  msock_derp_client_free(c);
  return told ? NULL : "the client does not report the status";
}

/* ---- TLS: pins, meta certificate, dial results ---- */

static const uint8_t *find_bytes(const uint8_t *p, size_t len, const void *what, size_t n) {
  return memmem(p, len, what, n);
}

/* The meta certificate: CN is the server's key, and the self-signature covers every other byte. */
static const char *check_meta_cert(const uint8_t *p, size_t len) {
  static const uint8_t spki[] = {0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};
  char cn[72];
  const msock_node_private server = private_of("server");
  const msock_node_key pub = msock_node_private_public(&server);
  memcpy(cn, "derpkey", 7);
  msock_hex_encode(pub.b, 32, cn + 7);
  const uint8_t *key = find_bytes(p, len, spki, sizeof spki);
  if (len < 100 || p[4] != 0x30 || p[5] != 0x82 || find_bytes(p, len, cn, 71) == NULL ||
      key == NULL || (size_t)(p + len - key) < sizeof spki + 32) {
    return "no derpkey certificate of the server";
  }
  const size_t tbs_len = 4 + ((size_t)p[6] << 8 | p[7]);
  static const uint8_t tail[] = {0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x41, 0x00};
  if (p[0] != 0x30 || p[1] != 0x82 || ((size_t)p[2] << 8 | p[3]) != len - 4 ||
      4 + tbs_len + sizeof tail + 64 != len || memcmp(p + 4 + tbs_len, tail, sizeof tail) != 0) {
    return "layout differs";
  }
  return crypto_sign_verify_detached(p + len - 64, p + 4, tbs_len, key + sizeof spki) == 0
             ? NULL
             : "signature does not verify";
}

static void check_pins(json_object *tls) {
  uint8_t hash[32];
  char pin[128] = "sha256-raw:";
  size_t len;
  uint8_t *leaf = bytes(tls, "leaf_der_hex", &len);
  crypto_hash_sha256(hash, leaf, len);
  msock_hex_encode(hash, sizeof hash, pin + strlen(pin));
  vectors_case(FILE_NAME, "leaf_sha256", strcmp(strchr(pin, ':') + 1, str(tls, "leaf_sha256")) == 0,
               "hash differs");
  msock_derp_node node = {.host_name = "192.0.2.10", .derp_port = 443};
  msock_derp_check check = {0};
  snprintf(node.cert_name, sizeof node.cert_name, "%s", str(tls, "cert_name_pin"));
  const bool ok = strcmp(pin, str(tls, "cert_name_pin")) == 0 &&
                  msock_derp_check_make(&node, &check) == MSOCK_OK &&
                  check.kind == MSOCK_DERP_CHECK_PIN && memcmp(check.pin, hash, 32) == 0;
  vectors_case(FILE_NAME, "cert_name_pin", ok, "does not pin the leaf");
  free(leaf);
  uint8_t *meta = bytes(tls, "meta_cert_der_hex", &len);
  const char *why = check_meta_cert(meta, len);
  vectors_case(FILE_NAME, "meta_cert_der_hex", why == NULL, "%s", why != NULL ? why : "");
  free(meta);
}

/* One header list of a recorded request against the head that our client wrote. */
static const char *same_request(json_object *request, const uint8_t *tx, size_t len) {
  msock_http1_head head;
  size_t n = 1; /* Host stands apart in the file */
  if (msock_http1_parse_request(tx, len, &head) <= 0 || !msock_http1_find(&head, "Host") ||
      !msock_http1_str_is(msock_http1_find(&head, "Host")->value, str(request, "host"))) {
    return "Host differs";
  }
  json_object_object_foreach(get(request, "headers"), name, values) {
    const msock_http1_header *h = msock_http1_find(&head, name);
    const char *want = json_object_get_string(json_object_array_get_idx(values, 0));
    if (h == NULL || h->value.len != strlen(want) || memcmp(h->value.p, want, h->value.len) != 0) {
      return "a header differs";
    }
    n++;
  }
  return n == head.n_headers ? NULL : "more headers than the reference";
}

static bool has_meta(json_object *certs) {
  for (size_t i = 0; certs != NULL && i < json_object_array_length(certs); i++) {
    if (strncmp(json_object_get_string(json_object_array_get_idx(certs, i)), "CN=derpkey", 10) ==
        0) {
      return true;
    }
  }
  return false;
}

/* What the pool asks of the shell for that node, and what it then says to the server. */
static const char *dial_case(json_object *c, msock_derp_pool *pool) {
  json_object *hello = json_object_array_get_idx(get(c, "hello"), 0);
  json_object *requests = has(c, "requests") ? get(c, "requests") : NULL;
  msock_derp_action a;
  if (!msock_derp_pool_next_action(pool, 1, &a) || a.kind != MSOCK_DERP_ACTION_DIAL) {
    return "no dial";
  }
  if (strcmp(a.check.sni, str(hello, "sni")) != 0) {
    return "SNI differs";
  }
  const char *pin = strncmp(str(c, "CertName"), "sha256-raw:", 11) == 0 ? str(c, "CertName") : NULL;
  char hex[65];
  msock_hex_encode(a.check.pin, 32, hex);
  if ((pin != NULL) != (a.check.kind == MSOCK_DERP_CHECK_PIN) ||
      (pin != NULL && strcasecmp(pin + 11, hex) != 0)) {
    return "pin differs";
  }
  if (pin == NULL && json_object_get_boolean(get(c, "InsecureForTests")) !=
                         (a.check.kind == MSOCK_DERP_CHECK_NONE)) {
    return "InsecureForTests differs";
  }
  if (requests == NULL) { /* the reference refused the certificate */
    return NULL;
  }
  json_object *request = json_object_array_get_idx(requests, 0);
  const uint8_t *tx;
  size_t len;
  const msock_node_private server = private_of("server");
  const msock_derp_conn_info info = {
      .is_tls13 = strtoul(str(request, "tls_version"), NULL, 16) >= 0x0304,
      .has_meta_key = has_meta(has(c, "peer_certs") ? get(c, "peer_certs") : NULL),
      .meta_key = msock_node_private_public(&server),
  };
  msock_derp_pool_conn_up(pool, 1, a.conn, &info);
  msock_derp_pool_conn_tx_peek(pool, 1, a.conn, &tx, &len);
  return same_request(request, tx, len);
}

static void check_dial(json_object *c) {
  script random = {0};
  const msock_env env = script_env(&random);
  msock_derp_node node = {.region_id = 1, .derp_port = 443};
  msock_derp_region region = {.id = 1, .nodes = &node, .n_nodes = 1};
  const msock_derp_map map = {.regions = &region, .n_regions = 1};
  const msock_node_private key = private_of("a");
  msock_derp_pool *pool = msock_derp_pool_new(&env);
  snprintf(node.host_name, sizeof node.host_name, "%s", str(c, "HostName"));
  snprintf(node.cert_name, sizeof node.cert_name, "%s", str(c, "CertName"));
  node.insecure_for_tests = json_object_get_boolean(get(c, "InsecureForTests"));
  if (has(c, "requests")) {
    const char *host = str(json_object_array_get_idx(get(c, "requests"), 0), "host");
    const char *colon = strrchr(host, ':');
    node.derp_port = colon != NULL ? (uint16_t)strtoul(colon + 1, NULL, 10) : 443;
  }
  msock_derp_pool_set_private_key(pool, 1, &key);
  msock_derp_pool_set_map(pool, 1, &map);
  msock_derp_pool_set_home(pool, 1, 1);
  msock_derp_pool_event ev;
  while (msock_derp_pool_next_event(pool, 1, &ev)) {
  }
  const char *why = dial_case(c, pool);
  vectors_case(FILE_NAME, str(c, "name"), why == NULL, "%s", why != NULL ? why : "");
  msock_derp_pool_free(pool);
}

static void each(json_object *list, void (*check)(json_object *)) {
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    check(json_object_array_get_idx(list, i));
  }
}

static void check_http(json_object *c) {
  const char *why = check_exchange(str(c, "request"), str(c, "response"));
  char name[64];
  snprintf(name, sizeof name, "%.*s", (int)strcspn(str(c, "request"), "\r"), str(c, "request"));
  vectors_case(FILE_NAME, name, why == NULL, "%s", why != NULL ? why : "");
}

int main(void) {
  root = vectors_open(FILE_NAME);
  if (root == NULL || msock_crypto_init() != MSOCK_OK) {
    return vectors_exit();
  }
  check_keys();
  check_frames();
  each(get(root, "transcripts"), check_transcript);
  each(get(root, "client_behaviour"), check_behaviour);
  each(get(root, "server_behaviour_login"), check_login);
  each(get(root, "server_behaviour_established"), check_established);
  each(get(root, "http_exchanges"), check_http);
  check_pins(get(root, "tls"));
  each(get(get(root, "tls"), "dial_results"), check_dial);
  vectors_done(FILE_NAME);
  json_object_put(root);
  return vectors_exit();
}
