/* control.json: real and deterministic ts2021 transcripts, byte for byte. */
#include <inttypes.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/key.h"
#include "control/channel.h"
#include "control/noise.h"
#include "crypto/aead.h"
#include "crypto/blake2s.h"
#include "crypto/init.h"
#include "crypto/x25519.h"
#include "tests/unit/vectors.h"

#define FILE_NAME "control.json"

static void key_field(json_object *o, const char *field, uint8_t out[32]) {
  size_t n = 0;
  unsigned char *p = vectors_hex(FILE_NAME, o, field, &n);
  if (n != 32) {
    printf("vectors: %s: failed: %s is not 32 bytes\n", FILE_NAME, field);
    exit(1);
  }
  memcpy(out, p, 32);
  free(p);
}

static const char *opt_str(json_object *o, const char *field) {
  json_object *v = NULL;
  return json_object_object_get_ex(o, field, &v) && json_object_is_type(v, json_type_string)
             ? json_object_get_string(v)
             : NULL;
}

static bool same_hex(json_object *o, const char *field, const uint8_t *p, size_t len) {
  size_t n = 0;
  unsigned char *want = vectors_hex(FILE_NAME, o, field, &n);
  const bool ok = n == len && memcmp(want, p, len) == 0;
  free(want);
  return ok;
}

/* --- key_text_forms --- */

/* closes: CTRL-01 */
static void key_forms(json_object *root) {
  json_object *a = vectors_get(FILE_NAME, root, "key_text_forms");
  for (size_t i = 0; i < json_object_array_length(a); i++) {
    json_object *o = json_object_array_get_idx(a, i);
    const char *kind = vectors_str(FILE_NAME, o, "kind");
    const char *text = vectors_str(FILE_NAME, o, "text_public");
    const char *private_text = opt_str(o, "text_private");
    char buf[MSOCK_KEY_TEXT_MAX];
    uint8_t private[32], public[32];
    bool ok = false, private_ok = private_text == NULL;
    key_field(o, "private_hex", private);
    msock_x25519_public(public, private);
    if (strcmp(kind, "machine") == 0) {
      msock_machine_key k;
      msock_machine_private s;
      ok = msock_machine_key_parse(text, &k) == MSOCK_OK && memcmp(k.b, public, 32) == 0 &&
           strcmp(msock_machine_key_text(&k, buf), text) == 0;
      private_ok = msock_machine_private_parse(private_text, &s) == MSOCK_OK &&
                   memcmp(s.b, private, 32) == 0 &&
                   strcmp(msock_machine_private_text(&s, buf), private_text) == 0;
    } else if (strcmp(kind, "node") == 0) {
      msock_node_key k;
      msock_node_private s;
      ok = msock_node_key_parse(text, &k) == MSOCK_OK && memcmp(k.b, public, 32) == 0 &&
           strcmp(msock_node_key_text(&k, buf), text) == 0;
      private_ok = msock_node_private_parse(private_text, &s) == MSOCK_OK &&
                   memcmp(s.b, private, 32) == 0 &&
                   strcmp(msock_node_private_text(&s, buf), private_text) == 0;
    } else if (strcmp(kind, "disco") == 0) {
      msock_disco_key k;
      ok = msock_disco_key_parse(text, &k) == MSOCK_OK && memcmp(k.b, public, 32) == 0 &&
           strcmp(msock_disco_key_text(&k, buf), text) == 0;
    } else if (strcmp(kind, "challenge") == 0) {
      msock_challenge_key k;
      ok = msock_challenge_key_parse(text, &k) == MSOCK_OK && memcmp(k.b, public, 32) == 0 &&
           strcmp(msock_challenge_key_text(&k, buf), text) == 0;
    }
    vectors_case(FILE_NAME, kind, ok && private_ok, "key text form");
  }
}

/* --- transcript steps, replayed with the symmetric state that both sides stand on --- */

typedef struct replay {
  msock_noise n;
  bool server;
  uint8_t server_public[32], my_static[32], my_ephemeral[32]; /* of the replaying side */
  const uint8_t *init, *resp;
  uint8_t client_public[32];
  bool bad;
} replay;

static void mix_dh(replay *r, const uint8_t *scalar, const uint8_t *point, uint8_t dh[32]) {
  r->bad = r->bad || msock_x25519(dh, scalar, point) != MSOCK_OK;
  msock_noise_mix_key(&r->n, dh, 32);
}

static bool do_step(replay *r, const char *step, const char *prologue, uint8_t dh[32]) {
  uint8_t out[64];
  const uint8_t *ce = r->init + 5, *se = r->resp + 3;
  if (strcmp(step, "MixHash prologue") == 0) {
    msock_noise_init(&r->n, "Noise_IK_25519_ChaChaPoly_BLAKE2s");
    msock_noise_mix_hash(&r->n, (const uint8_t *)prologue, strlen(prologue));
  } else if (strcmp(step, "MixHash server static (pre-message)") == 0) {
    msock_noise_mix_hash(&r->n, r->server_public, 32);
  } else if (strcmp(step, "MixHash client ephemeral") == 0) {
    msock_noise_mix_hash(&r->n, ce, 32);
  } else if (strcmp(step, "MixKey es") == 0) {
    r->server ? mix_dh(r, r->my_static, ce, dh) : mix_dh(r, r->my_ephemeral, r->server_public, dh);
  } else if (strcmp(step, "MixHash encrypted client static") == 0) {
    r->bad = r->bad || msock_noise_open(&r->n, r->init + 37, 48, r->client_public) != MSOCK_OK;
  } else if (strcmp(step, "MixKey ss") == 0) {
    mix_dh(r, r->my_static, r->server ? r->client_public : r->server_public, dh);
  } else if (strcmp(step, "MixHash initiation tag") == 0) {
    r->bad = r->bad || msock_noise_open(&r->n, r->init + 85, 16, out) != MSOCK_OK;
  } else if (strcmp(step, "MixHash server ephemeral") == 0) {
    msock_noise_mix_hash(&r->n, se, 32);
  } else if (strcmp(step, "MixKey ee") == 0) {
    mix_dh(r, r->my_ephemeral, r->server ? ce : se, dh);
  } else if (strcmp(step, "MixKey se") == 0) {
    r->server ? mix_dh(r, r->my_ephemeral, r->client_public, dh) : mix_dh(r, r->my_static, se, dh);
  } else if (strcmp(step, "MixHash response tag") == 0) {
    r->bad = r->bad || msock_noise_open(&r->n, r->resp + 35, 16, out) != MSOCK_OK;
  } else {
    return false;
  }
  return !r->bad;
}

static void steps(const char *name, json_object *o, json_object *list, bool server,
                  const uint8_t *init, const uint8_t *resp) {
  replay r = {.server = server, .init = init, .resp = resp};
  char prologue[64], what[160];
  snprintf(prologue, sizeof prologue, "Tailscale Control Protocol v%d",
           json_object_get_int(vectors_get(FILE_NAME, o, "protocol_version")));
  key_field(o, "server_static_public", r.server_public);
  key_field(o, server ? "server_static_private" : "client_machine_private", r.my_static);
  key_field(o, server ? "server_ephemeral_private" : "client_ephemeral_private", r.my_ephemeral);
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *s = json_object_array_get_idx(list, i);
    const char *step = vectors_str(FILE_NAME, s, "step");
    uint8_t dh[32] = {0};
    bool ok = do_step(&r, step, prologue, dh) && same_hex(s, "h", r.n.h, 32) &&
              same_hex(s, "ck", r.n.ck, 32);
    ok = ok && (opt_str(s, "k") == NULL || same_hex(s, "k", r.n.k, 32)) &&
         (opt_str(s, "dh") == NULL || same_hex(s, "dh", dh, 32));
    snprintf(what, sizeof what, "%s: %s: %s", name, server ? "server" : "client", step);
    vectors_case(FILE_NAME, what, ok, "transcript step differs");
  }
}

/* --- records --- */

/* "78 repeated 4077" or hex. */
static uint8_t *plaintext_of(json_object *rec, size_t *len) {
  const char *text = vectors_str(FILE_NAME, rec, "plaintext");
  unsigned byte = 0;
  size_t n = 0;
  if (sscanf(text, "%2x repeated %zu", &byte, &n) == 2 && strstr(text, "repeated")) {
    uint8_t *p = malloc(n + 1);
    memset(p, (int)byte, n);
    *len = n;
    return p;
  }
  return vectors_hex(FILE_NAME, rec, "plaintext", len);
}

static bool frame_matches(json_object *rec, const uint8_t *frame, size_t len) {
  json_object *v = NULL;
  bool ok = true;
  if (opt_str(rec, "frame")) {
    ok = same_hex(rec, "frame", frame, len);
  }
  if (opt_str(rec, "frame_blake2s")) {
    uint8_t digest[32];
    msock_blake2s(digest, &(msock_bytes){frame, len}, 1);
    ok = ok && same_hex(rec, "frame_blake2s", digest, 32);
  }
  if (opt_str(rec, "frame_head")) {
    ok = ok && len >= 32 &&
         same_hex(rec, "frame_head", frame, strlen(opt_str(rec, "frame_head")) / 2);
  }
  if (opt_str(rec, "frame_tail")) {
    const size_t n = strlen(opt_str(rec, "frame_tail")) / 2;
    ok = ok && len >= n && same_hex(rec, "frame_tail", frame + len - n, n);
  }
  if (json_object_object_get_ex(rec, "frame_len", &v)) {
    ok = ok && (size_t)json_object_get_int64(v) == len;
  }
  return ok;
}

/* Seals with the sender's key and opens with the receiver's: both must give the vector's bytes.
 * closes: CTRL-17 CTRL-18 */
static void records(const char *name, json_object *o, const msock_control_records *client) {
  json_object *list = vectors_get(FILE_NAME, o, "records");
  msock_control_records tx[2] = {*client, *client}; /* by direction: 0 = client to server */
  msock_control_records rx[2] = {*client, *client};
  memcpy(tx[1].tx_key, client->rx_key, 32);
  memcpy(rx[0].rx_key, client->tx_key, 32);
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *rec = json_object_array_get_idx(list, i);
    const char *dir = vectors_str(FILE_NAME, rec, "dir");
    const size_t d = strcmp(dir, "client->server") != 0;
    const int64_t n = json_object_get_int64(vectors_get(FILE_NAME, rec, "n"));
    uint8_t frame[MSOCK_CONTROL_FRAME_MAX], nonce[12], back[MSOCK_CONTROL_FRAME_MAX];
    char what[160];
    json_object *v = NULL;
    size_t len = 0;
    uint8_t *plain = plaintext_of(rec, &len);
    bool ok = tx[d].tx_n == (uint64_t)n;
    msock_control_nonce((uint64_t)n, nonce);
    ok = ok && same_hex(rec, "nonce", nonce, sizeof nonce);
    const ptrdiff_t size = msock_control_record_seal(&tx[d], plain, len, frame);
    ok = ok && size > 0 && frame_matches(rec, frame, (size_t)size);
    if (opt_str(rec, "frame")) { /* what the peer sent, not what we made */
      size_t wire_len = 0;
      unsigned char *wire = vectors_hex(FILE_NAME, rec, "frame", &wire_len);
      ok = ok && msock_control_record_size(&rx[d], wire) == (ptrdiff_t)wire_len &&
           msock_control_record_open(&rx[d], wire, wire_len, back) == (ptrdiff_t)len &&
           memcmp(back, plain, len) == 0;
      free(wire);
    } else {
      ok = ok && msock_control_record_open(&rx[d], frame, (size_t)size, back) == (ptrdiff_t)len;
    }
    if (json_object_object_get_ex(rec, "plaintext_len", &v)) {
      ok = ok && (size_t)json_object_get_int64(v) == len;
    }
    snprintf(what, sizeof what, "%s: record %s %" PRId64, name, dir, n);
    vectors_case(FILE_NAME, what, ok, "record differs");
    free(plain);
  }
}

/* --- whole handshakes --- */

typedef struct keys {
  msock_machine_private machine, server;
  msock_machine_key server_public;
  uint8_t ephemeral[32];
  uint16_t version;
} keys;

static keys keys_of(const char *name, json_object *o) {
  keys k;
  uint8_t want[32], got[32];
  key_field(o, "client_machine_private", k.machine.b);
  key_field(o, "server_static_private", k.server.b);
  key_field(o, "server_static_public", k.server_public.b);
  key_field(o, "client_ephemeral_private", k.ephemeral);
  k.version = (uint16_t)json_object_get_int(vectors_get(FILE_NAME, o, "protocol_version"));
  bool ok = memcmp(msock_machine_private_public(&k.server).b, k.server_public.b, 32) == 0;
  key_field(o, "client_machine_public", want);
  ok = ok && memcmp(msock_machine_private_public(&k.machine).b, want, 32) == 0;
  key_field(o, "client_ephemeral_public", want);
  msock_x25519_public(got, k.ephemeral);
  vectors_case(FILE_NAME, name, ok && memcmp(want, got, 32) == 0, "public keys");
  return k;
}

/* Gives the client's records. closes: CTRL-14 CTRL-15 CTRL-16 */
static msock_control_records handshake(const char *name, json_object *o, const keys *k) {
  msock_control_initiator hs;
  msock_control_records client = {0}, server = {0};
  uint8_t init[MSOCK_CONTROL_INITIATION_LEN], resp[MSOCK_CONTROL_RESPONSE_LEN], se[32], public[32];
  msock_machine_key who;
  uint16_t version = 0;
  size_t n = 0;
  char what[160];

  bool ok = msock_control_initiate(&hs, k->version, &k->machine, &k->server_public, k->ephemeral,
                                   init) == MSOCK_OK;
  snprintf(what, sizeof what, "%s: initiation", name);
  vectors_case(FILE_NAME, what, ok && same_hex(o, "initiation", init, sizeof init), "bytes differ");

  unsigned char *wire = vectors_hex(FILE_NAME, o, "response", &n);
  ok = n == sizeof resp && msock_control_initiator_finish(&hs, wire, &client) == MSOCK_OK;
  ok = ok && same_hex(o, "handshake_hash", client.hash, 32) &&
       same_hex(o, "key_client_to_server", client.tx_key, 32) &&
       same_hex(o, "key_server_to_client", client.rx_key, 32);
  snprintf(what, sizeof what, "%s: response, keys, hash", name);
  vectors_case(FILE_NAME, what, ok, "keys or hash differ");
  key_field(o, "server_ephemeral_public", public);
  snprintf(what, sizeof what, "%s: server ephemeral", name);
  vectors_case(FILE_NAME, what, memcmp(wire + 3, public, 32) == 0, "not the one of the response");
  free(wire);

  if (opt_str(o, "server_ephemeral_private")) {
    key_field(o, "server_ephemeral_private", se);
    ok = msock_control_respond(&k->server, se, init, resp, &version, &who, &server) == MSOCK_OK;
    ok = ok && same_hex(o, "response", resp, sizeof resp) && version == k->version &&
         memcmp(who.b, msock_machine_private_public(&k->machine).b, 32) == 0 &&
         memcmp(server.tx_key, client.rx_key, 32) == 0 &&
         memcmp(server.rx_key, client.tx_key, 32) == 0;
    snprintf(what, sizeof what, "%s: responder", name);
    vectors_case(FILE_NAME, what, ok, "response bytes differ");
  }
  return client;
}

static void fixed_random(void *ctx, void *dst, size_t len) {
  memcpy(dst, ctx, len);
}

static void deterministic(json_object *root) {
  json_object *a = vectors_get(FILE_NAME, root, "deterministic");
  for (size_t i = 0; i < json_object_array_length(a); i++) {
    json_object *o = json_object_array_get_idx(a, i);
    const char *name = vectors_str(FILE_NAME, o, "name");
    keys k = keys_of(name, o);
    const msock_control_records r = handshake(name, o, &k);
    size_t n = 0;
    unsigned char *init = vectors_hex(FILE_NAME, o, "initiation", &n);
    unsigned char *resp = vectors_hex(FILE_NAME, o, "response", &n);
    steps(name, o, vectors_get(FILE_NAME, o, "client_steps"), false, init, resp);
    steps(name, o, vectors_get(FILE_NAME, o, "server_steps"), true, init, resp);
    free(init);
    free(resp);
    records(name, o, &r);

    /* The upgrade head carries the padded base64 of the same initiation. */
    const msock_env env = {.ctx = k.ephemeral, .random = fixed_random};
    const msock_channel_cfg cfg = {.host = "h",
                                   .port = 80,
                                   .default_port = true,
                                   .version = k.version,
                                   .machine = &k.machine,
                                   .server = &k.server_public};
    msock_channel *ch = msock_channel_new(&env, &cfg, 0);
    const uint8_t *p = NULL;
    const size_t len = msock_channel_tx_peek(ch, &p);
    vectors_case(FILE_NAME, name,
                 memmem(p, len, vectors_str(FILE_NAME, o, "initiation_b64"),
                        strlen(vectors_str(FILE_NAME, o, "initiation_b64"))) != NULL,
                 "base64 of the initiation");
    msock_channel_free(ch);

    /* The early payload is what the first server records spell. */
    size_t early_len = 0, at = 0;
    unsigned char *early = vectors_hex(FILE_NAME, o, "early_payload", &early_len);
    json_object *list = vectors_get(FILE_NAME, o, "records");
    bool ok = true;
    for (size_t j = 0; j < json_object_array_length(list) && at < early_len; j++) {
      json_object *rec = json_object_array_get_idx(list, j);
      if (strcmp(vectors_str(FILE_NAME, rec, "dir"), "server->client") == 0) {
        size_t got = 0;
        uint8_t *plain = plaintext_of(rec, &got);
        ok = ok && got <= early_len - at && memcmp(early + at, plain, got) == 0;
        at += got;
        free(plain);
      }
    }
    vectors_case(FILE_NAME, name, ok && at == early_len, "early payload");
    free(early);
  }
}

/* --- the live transcript through the channel --- */

static void feed_hex(msock_channel *ch, json_object *rec) {
  size_t n = 0;
  unsigned char *frame = vectors_hex(FILE_NAME, rec, "frame", &n);
  msock_channel_feed(ch, 0, frame, n);
  free(frame);
}

/* closes: CTRL-09 CTRL-25 CTRL-30 */
static void live(json_object *root) {
  json_object *o = vectors_get(FILE_NAME, root, "live");
  const char *name = vectors_str(FILE_NAME, o, "name");
  keys k = keys_of(name, o);
  size_t n = 0;
  const msock_control_records r = handshake(name, o, &k);
  unsigned char *init = vectors_hex(FILE_NAME, o, "initiation", &n);
  unsigned char *resp = vectors_hex(FILE_NAME, o, "response", &n);
  steps(name, o, vectors_get(FILE_NAME, o, "transcript_steps"), false, init, resp);
  records(name, o, &r);

  const char *request = vectors_str(FILE_NAME, o, "http_request");
  const char *host = strstr(request, "Host: ") ? strstr(request, "Host: ") + 6 : "";
  char name_part[64];
  unsigned port = 0;
  if (sscanf(host, "%63[^:]:%u", name_part, &port) != 2) {
    vectors_case(FILE_NAME, name, false, "no host:port in http_request");
    return;
  }
  const msock_env env = {.ctx = k.ephemeral, .random = fixed_random};
  const msock_channel_cfg cfg = {.host = name_part,
                                 .port = (uint16_t)port,
                                 .version = k.version,
                                 .machine = &k.machine,
                                 .server = &k.server_public};
  msock_channel *ch = msock_channel_new(&env, &cfg, 0);
  const uint8_t *p = NULL;
  size_t len = msock_channel_tx_peek(ch, &p);
  vectors_case(FILE_NAME, "live: upgrade request",
               len == strlen(request) && memcmp(p, request, len) == 0, "bytes differ");

  /* The same requests as then, so that the stream ids of the recorded answers fit. */
  json_object *exchanges = vectors_get(FILE_NAME, o, "http_exchanges");
  const size_t n_exchanges = json_object_array_length(exchanges);
  for (size_t i = 0; i < n_exchanges; i++) {
    json_object *e = json_object_array_get_idx(exchanges, i);
    const char *method = vectors_str(FILE_NAME, e, "method");
    const bool post = strcmp(method, "POST") == 0;
    msock_channel_request(ch, method, vectors_str(FILE_NAME, e, "path"), post ? "{}" : NULL,
                          post ? 2 : 0);
  }
  char head[2048];
  const int head_len =
      snprintf(head, sizeof head, "%s\r\n\r\n", vectors_str(FILE_NAME, o, "http_response_head"));
  msock_channel_feed(ch, 0, (const uint8_t *)head, (size_t)head_len);
  msock_channel_feed(ch, 0, resp, MSOCK_CONTROL_RESPONSE_LEN);
  int status[8] = {0};
  char body[8][256] = {{0}};
  bool ended[8] = {0};
  msock_channel_event ev;
  json_object *list = vectors_get(FILE_NAME, o, "records");
  while (msock_channel_next_event(ch, &ev)) {
  }
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *rec = json_object_array_get_idx(list, i);
    if (strcmp(vectors_str(FILE_NAME, rec, "dir"), "server->client") == 0) {
      msock_channel_tx_peek(ch, &p); /* our side sends meanwhile */
      msock_channel_tx_consume(ch, SIZE_MAX);
      feed_hex(ch, rec);
      while (msock_channel_next_event(ch, &ev)) {
        const size_t at = (size_t)(ev.stream / 2) % 8;
        if (ev.kind == MSOCK_CHANNEL_EV_RESPONSE) {
          status[at] = ev.status;
        } else if (ev.kind == MSOCK_CHANNEL_EV_DATA) {
          snprintf(body[at] + strlen(body[at]), sizeof body[at] - strlen(body[at]), "%.*s",
                   (int)ev.len, (const char *)ev.p);
        } else if (ev.kind == MSOCK_CHANNEL_EV_END) {
          ended[at] = ev.clean;
        }
      }
    }
  }
  int unused = 0;
  const char *text = "";
  vectors_case(FILE_NAME, "live: connection",
               msock_channel_failed(ch, &unused, &text) == MSOCK_CHANNEL_ALIVE, "%s", text);
  for (size_t i = 0; i < n_exchanges && i < 8; i++) {
    json_object *e = json_object_array_get_idx(exchanges, i);
    const char *path = vectors_str(FILE_NAME, e, "path");
    const int want = atoi(json_object_get_string(vectors_get(FILE_NAME, e, "status")));
    vectors_case(FILE_NAME, path,
                 status[i] == want && ended[i] &&
                     strcmp(body[i], vectors_str(FILE_NAME, e, "body")) == 0,
                 "status %d, body \"%s\"", status[i], body[i]);
  }
  msock_channel_free(ch);

  /* The settings and the challenge that the file names are those on the wire. */
  const char *early = vectors_str(FILE_NAME, o, "early_payload_json");
  json_object *settings = vectors_get(FILE_NAME, o, "server_settings");
  bool early_ok = false, settings_ok = false;
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *rec = json_object_array_get_idx(list, i);
    size_t plain_len = 0;
    uint8_t *plain = plaintext_of(rec, &plain_len);
    if (strcmp(vectors_str(FILE_NAME, rec, "dir"), "server->client") == 0) {
      early_ok = early_ok || (plain_len == strlen(early) && memcmp(plain, early, plain_len) == 0);
      if (plain_len > 9 && plain[3] == 4 && plain[4] == 0 && (plain_len - 9) % 6 == 0) {
        settings_ok = (size_t)json_object_object_length(settings) == (plain_len - 9) / 6;
        for (size_t at = 9; at + 6 <= plain_len; at += 6) {
          char id[8];
          json_object *v = NULL;
          snprintf(id, sizeof id, "%u", (unsigned)(plain[at] << 8 | plain[at + 1]));
          const uint32_t value = (uint32_t)plain[at + 2] << 24 | (uint32_t)plain[at + 3] << 16 |
                                 (uint32_t)plain[at + 4] << 8 | plain[at + 5];
          settings_ok = settings_ok && json_object_object_get_ex(settings, id, &v) &&
                        (uint32_t)json_object_get_int64(v) == value;
        }
      }
    }
    free(plain);
  }
  vectors_case(FILE_NAME, "live: early payload", early_ok, "not among the records");
  vectors_case(FILE_NAME, "live: settings", settings_ok, "not those of the record");
  free(init);
  free(resp);
}

/* What the recorded client asked for: the HEADERS frames inside its records. */
static void live_requests(json_object *o) {
  json_object *list = vectors_get(FILE_NAME, o, "records");
  json_object *exchanges = vectors_get(FILE_NAME, o, "http_exchanges");
  uint8_t stream[65536];
  size_t len = 0, n = 0;
  nghttp2_hd_inflater *inflater = NULL;
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *rec = json_object_array_get_idx(list, i);
    size_t plain_len = 0;
    uint8_t *plain = plaintext_of(rec, &plain_len);
    if (strcmp(vectors_str(FILE_NAME, rec, "dir"), "client->server") == 0 &&
        plain_len <= sizeof stream - len) {
      memcpy(stream + len, plain, plain_len);
      len += plain_len;
    }
    free(plain);
  }
  nghttp2_hd_inflate_new(&inflater);
  for (size_t at = 24; at + 9 <= len;) { /* after the preface */
    const size_t size = (size_t)stream[at] << 16 | (size_t)stream[at + 1] << 8 | stream[at + 2];
    const uint8_t *p = stream + at + 9;
    if (stream[at + 3] == NGHTTP2_HEADERS && at + 9 + size <= len) {
      json_object *e = json_object_array_get_idx(exchanges, n++);
      size_t left = size;
      bool method = false, path = false;
      for (;;) {
        nghttp2_nv nv;
        int flags = 0;
        const ssize_t used = nghttp2_hd_inflate_hd2(inflater, &nv, &flags, p, left, 1);
        if (used < 0 || e == NULL) {
          break;
        }
        p += used;
        left -= (size_t)used;
        if (flags & NGHTTP2_HD_INFLATE_EMIT) {
          const char *value = (const char *)nv.value;
          const char *want = nv.namelen == 7   ? vectors_str(FILE_NAME, e, "method")
                             : nv.namelen == 5 ? vectors_str(FILE_NAME, e, "path")
                                               : "";
          const bool same = strlen(want) == nv.valuelen && memcmp(value, want, nv.valuelen) == 0;
          method = method || (same && memcmp(nv.name, ":method", 7) == 0);
          path = path || (same && nv.namelen == 5 && memcmp(nv.name, ":path", 5) == 0);
        }
        if (flags & NGHTTP2_HD_INFLATE_FINAL || left == 0) {
          nghttp2_hd_inflate_end_headers(inflater);
          break;
        }
      }
      vectors_case(FILE_NAME, "live: request", method && path, "number %zu differs", n);
    }
    at += 9 + size;
  }
  nghttp2_hd_inflate_del(inflater);
  vectors_case(FILE_NAME, "live: requests", n == json_object_array_length(exchanges), "%zu", n);
}

/* --- negative --- */

/* Every message must be refused by whichever side it is for; "a" is the session they were made
 * from. closes: CTRL-19 CTRL-20 */
static void negative(json_object *root) {
  json_object *a = vectors_get(FILE_NAME, root, "negative");
  json_object *base = json_object_array_get_idx(vectors_get(FILE_NAME, root, "deterministic"), 0);
  size_t good_len = 0;
  unsigned char *good_init = vectors_hex(FILE_NAME, base, "initiation", &good_len);
  unsigned char *good_resp = vectors_hex(FILE_NAME, base, "response", &good_len);
  keys k = keys_of("negative: base", base);
  for (size_t i = 0; i < json_object_array_length(a); i++) {
    json_object *o = json_object_array_get_idx(a, i);
    const char *what = vectors_str(FILE_NAME, o, "what");
    const char *expect = vectors_str(FILE_NAME, o, "expect");
    size_t n = 0;
    unsigned char *msg = vectors_hex(FILE_NAME, o, "message", &n);
    bool ok = false;
    if (strncmp(expect, "responder", 9) == 0) {
      uint8_t se[32], out[MSOCK_CONTROL_RESPONSE_LEN] = {0xee};
      uint16_t version = 0;
      msock_machine_key who;
      msock_control_records rec;
      key_field(base, "server_ephemeral_private", se);
      /* It must be close to the good one: a vector that is damaged elsewhere tests nothing. */
      size_t differs = 0;
      for (size_t j = 0; j < n && n == MSOCK_CONTROL_INITIATION_LEN; j++) {
        differs += msg[j] != good_init[j];
      }
      const bool zero_key = strstr(what, "all zero") != NULL;
      ok = n == MSOCK_CONTROL_INITIATION_LEN && (zero_key ? differs <= 32 : differs == 1) &&
           msock_control_respond(&k.server, se, msg, out, &version, &who, &rec) != MSOCK_OK &&
           out[0] == 0xee && version == 0;
      for (size_t j = 5; zero_key && j < 37; j++) {
        ok = ok && msg[j] == 0;
      }
    } else { /* for the client: through the channel, with a byte more that must not be read */
      const msock_env env = {.ctx = k.ephemeral, .random = fixed_random};
      const msock_channel_cfg cfg = {.host = "h",
                                     .port = 80,
                                     .version = k.version,
                                     .machine = &k.machine,
                                     .server = &k.server_public};
      static const char head[] =
          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: tailscale-control-protocol\r\n\r\n";
      msock_channel *ch = msock_channel_new(&env, &cfg, 0);
      int status = 0;
      const char *text = "";
      msock_channel_event ev;
      msock_channel_feed(ch, 0, (const uint8_t *)head, sizeof head - 1);
      const bool record = strncmp(expect, "receiver", 8) == 0;
      if (record) {
        msock_channel_feed(ch, 0, good_resp, good_len);
        while (msock_channel_next_event(ch, &ev)) {
        }
      }
      ok = msock_channel_failed(ch, &status, &text) == MSOCK_CHANNEL_ALIVE;
      if (!record && msg[0] == good_resp[0]) { /* one bit away from the good response */
        size_t differs = 0;
        for (size_t j = 0; j < n && n == good_len; j++) {
          differs += msg[j] != good_resp[j];
        }
        ok = ok && differs == 1;
      }
      msock_channel_feed(ch, 0, msg, n);
      const msock_channel_failure f = msock_channel_failed(ch, &status, &text);
      ok = ok && f == (record                              ? MSOCK_CHANNEL_F_RECORD
                       : msg[0] == MSOCK_CONTROL_MSG_ERROR ? MSOCK_CHANNEL_F_REJECTED
                                                           : MSOCK_CHANNEL_F_HANDSHAKE);
      if (!record && msg[0] == MSOCK_CONTROL_MSG_ERROR) { /* the text, untrusted, is in the log */
        ok = ok && strlen(text) == n - 3 && memcmp(text, msg + 3, n - 3) == 0;
      }
      ok = ok && msock_channel_feed(ch, 0, good_resp, 1) == 0;
      msock_channel_free(ch);
    }
    vectors_case(FILE_NAME, what, ok, "not refused as expected");
    free(msg);
  }
  free(good_init);
  free(good_resp);
}

int main(void) {
  if (msock_crypto_init() != MSOCK_OK) {
    return 1;
  }
  json_object *root = vectors_open(FILE_NAME);
  if (root) {
    key_forms(root);
    deterministic(root);
    live(root);
    live_requests(vectors_get(FILE_NAME, root, "live"));
    negative(root);
    vectors_done(FILE_NAME);
    json_object_put(root);
  }
  return vectors_exit();
}
