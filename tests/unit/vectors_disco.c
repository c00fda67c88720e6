/* disco.json: envelope, messages, Geneve header, classes of datagrams and STUN against the bytes
 * and answers of the reference peer. Where our rules are stricter (magicsock.md 1.4, 1.5, 2.3) the
 * rule is applied here to the bytes or fields of the case, never to its name. The section
 * better_addr belongs to the path engine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/disco_look.h"
#include "base/hex.h"
#include "crypto/init.h"
#include "crypto/x25519.h"
#include "disco/disco.h"
#include "netcheck/stun.h"
#include "tests/unit/testing.h"
#include "tests/unit/vectors.h"

#define FILE_NAME "disco.json"
#define PACKET_MAX 4096u

static json_object *file;

/* --- Reading the file --------------------------------------------------------------------- */

static json_object *get(json_object *o, const char *field) {
  return vectors_get(FILE_NAME, o, field);
}

static const char *str(json_object *o, const char *field) {
  return vectors_str(FILE_NAME, o, field);
}

static json_object *optional(json_object *o, const char *field) {
  json_object *v = NULL;
  json_object_object_get_ex(o, field, &v);
  return v;
}

static bool yes(json_object *o, const char *field) {
  return json_object_get_boolean(get(o, field));
}

static int64_t number(json_object *o, const char *field) {
  return json_object_get_int64(get(o, field));
}

static void malformed(const char *what) {
  printf("vectors: %s: failed: %s\n", FILE_NAME, what);
  exit(1);
}

/* Hex of exactly n bytes. */
static void unhex(const char *text, uint8_t *dst, size_t n) {
  if (strlen(text) != 2 * n || testing_unhex(text, dst, n) != n) {
    malformed(text);
  }
}

static void hex_field(json_object *o, const char *field, uint8_t *dst, size_t n) {
  unhex(str(o, field), dst, n);
}

static msock_addr address(const char *text) {
  msock_addr a = {0};
  if (msock_addr_parse(text, &a) != MSOCK_OK) {
    malformed(text);
  }
  return a;
}

static msock_disco_identity identity(const char *name) {
  msock_disco_private secret;
  hex_field(get(get(file, "keys"), name), "private", secret.b, sizeof secret.b);
  return msock_disco_identity_of(&secret);
}

/* A random source that gives one nonce. */
static void give_nonce(void *ctx, void *dst, size_t len) {
  if (len != MSOCK_BOX_NONCE_LEN) {
    malformed("a nonce is 24 bytes");
  }
  memcpy(dst, ctx, len);
}

/* --- Messages as the file's JSON ---------------------------------------------------------- */

static void put(json_object *o, const char *field, json_object *v) {
  json_object_object_add(o, field, v);
}

static json_object *hex_json(const uint8_t *p, size_t n) {
  char text[2 * 64 + 1];
  for (size_t i = 0; i < n; i++) {
    snprintf(text + 2 * i, 3, "%02x", p[i]);
  }
  return json_object_new_string(text);
}

static json_object *decimal_json(uint64_t v, bool negative) {
  char text[24];
  snprintf(text, sizeof text, "%s%llu", negative ? "-" : "", (unsigned long long)v);
  return json_object_new_string(text);
}

static json_object *addresses_json(const msock_addr *list, uint8_t n) {
  json_object *out = json_object_new_array();
  for (uint8_t i = 0; i < n; i++) {
    char text[MSOCK_ADDR_TEXT_MAX];
    json_object_array_add(out, json_object_new_string(msock_addr_text(&list[i], text)));
  }
  return out;
}

static json_object *pair_json(const msock_disco_key pair[static 2]) {
  json_object *out = json_object_new_array();
  json_object_array_add(out, hex_json(pair[0].b, sizeof pair[0].b));
  json_object_array_add(out, hex_json(pair[1].b, sizeof pair[1].b));
  return out;
}

static void describe_relay(json_object *o, const msock_disco_relay_endpoint *m) {
  put(o, "server_disco", hex_json(m->server.b, sizeof m->server.b));
  put(o, "client_disco", pair_json(m->clients));
  put(o, "lamport_id", decimal_json(m->lamport_id, false));
  put(o, "vni", json_object_new_int64(m->vni));
  put(o, "bind_lifetime_ns", decimal_json((uint64_t)m->bind_lifetime_ns, false));
  put(o, "steady_state_lifetime_ns", decimal_json((uint64_t)m->steady_lifetime_ns, false));
  put(o, "addr_ports", addresses_json(m->endpoints, m->n));
}

static msock_err describe_path(const uint8_t *p, size_t len, msock_disco_type type,
                               json_object *o) {
  union {
    msock_disco_ping ping;
    msock_disco_pong pong;
    msock_disco_call_me_maybe cmm;
  } m;
  msock_err err = MSOCK_ERR_UNKNOWN;

  if (type == MSOCK_DISCO_PING) {
    if ((err = msock_disco_decode_ping(p, len, &m.ping)) == MSOCK_OK) {
      put(o, "tx_id", hex_json(m.ping.txid, sizeof m.ping.txid));
      put(o, "node_key", hex_json(m.ping.node_key.b, sizeof m.ping.node_key.b));
      put(o, "node_key_is_zero", json_object_new_boolean(!m.ping.has_node_key));
      put(o, "padding", json_object_new_int64(m.ping.padding));
    }
  } else if (type == MSOCK_DISCO_PONG) {
    if ((err = msock_disco_decode_pong(p, len, &m.pong)) == MSOCK_OK) {
      char text[MSOCK_ADDR_TEXT_MAX];
      put(o, "tx_id", hex_json(m.pong.txid, sizeof m.pong.txid));
      put(o, "src", json_object_new_string(msock_addr_text(&m.pong.src, text)));
    }
  } else if ((err = msock_disco_decode_call_me_maybe(p, len, &m.cmm)) == MSOCK_OK) {
    put(o, "endpoints", addresses_json(m.cmm.endpoints, m.cmm.n));
  }
  return err;
}

static msock_err describe_peer_relay(const uint8_t *p, size_t len, msock_disco_type type,
                                     json_object *o) {
  union {
    msock_disco_bind bind;
    msock_disco_relay_endpoint via;
    msock_disco_allocate_request request;
    msock_disco_allocate_response response;
  } m;
  msock_err err = MSOCK_ERR_UNKNOWN;

  if (type == MSOCK_DISCO_CALL_ME_MAYBE_VIA) {
    if ((err = msock_disco_decode_call_me_maybe_via(p, len, &m.via)) == MSOCK_OK) {
      describe_relay(o, &m.via);
    }
  } else if (type == MSOCK_DISCO_ALLOCATE_REQUEST) {
    if ((err = msock_disco_decode_allocate_request(p, len, &m.request)) == MSOCK_OK) {
      put(o, "client_disco", pair_json(m.request.clients));
      put(o, "generation", json_object_new_int64(m.request.generation));
    }
  } else if (type == MSOCK_DISCO_ALLOCATE_RESPONSE) {
    if ((err = msock_disco_decode_allocate_response(p, len, &m.response)) == MSOCK_OK) {
      put(o, "generation", json_object_new_int64(m.response.generation));
      describe_relay(o, &m.response.relay);
    }
  } else if ((err = msock_disco_decode_bind(p, len, &m.bind)) == MSOCK_OK) {
    put(o, "vni", json_object_new_int64(m.bind.vni));
    put(o, "generation", json_object_new_int64(m.bind.generation));
    put(o, "remote_key", hex_json(m.bind.remote.b, sizeof m.bind.remote.b));
    put(o, "challenge", hex_json(m.bind.challenge, sizeof m.bind.challenge));
    type = m.bind.type;
  }
  return err;
}

/* The message in the form of the file's "decoded"; NULL with the code when it is refused. */
static json_object *describe(const uint8_t *p, size_t len, msock_err *err) {
  msock_disco_type type;
  json_object *o = json_object_new_object();

  *err = msock_disco_type_of(p, len, &type);
  if (*err == MSOCK_OK) {
    put(o, "type", json_object_new_string(msock_disco_type_text(type)));
    *err = type <= MSOCK_DISCO_CALL_ME_MAYBE ? describe_path(p, len, type, o)
                                             : describe_peer_relay(p, len, type, o);
  }
  if (*err != MSOCK_OK) {
    json_object_put(o);
    return NULL;
  }
  return o;
}

static uint8_t addresses_from(json_object *list, msock_addr out[MSOCK_DISCO_ENDPOINTS_MAX]) {
  const size_t n = json_object_array_length(list);
  if (n > MSOCK_DISCO_ENDPOINTS_MAX) {
    malformed("a case to encode has more endpoints than we send");
  }
  for (size_t i = 0; i < n; i++) {
    out[i] = address(json_object_get_string(json_object_array_get_idx(list, i)));
  }
  return (uint8_t)n;
}

static void pair_from(json_object *o, msock_disco_key out[static 2]) {
  json_object *list = get(o, "client_disco");
  for (size_t i = 0; i < 2; i++) {
    const char *text = json_object_get_string(json_object_array_get_idx(list, i));
    unhex(text ? text : "", out[i].b, sizeof out[i].b);
  }
}

static msock_disco_relay_endpoint relay_from(json_object *o) {
  msock_disco_relay_endpoint m = {0};
  hex_field(o, "server_disco", m.server.b, sizeof m.server.b);
  pair_from(o, m.clients);
  m.lamport_id = strtoull(str(o, "lamport_id"), NULL, 10);
  m.vni = (uint32_t)number(o, "vni");
  m.bind_lifetime_ns = strtoll(str(o, "bind_lifetime_ns"), NULL, 10);
  m.steady_lifetime_ns = strtoll(str(o, "steady_state_lifetime_ns"), NULL, 10);
  m.n = addresses_from(get(o, "addr_ports"), m.endpoints);
  return m;
}

static ptrdiff_t encode_path(json_object *o, msock_disco_type type, uint8_t *dst, size_t cap) {
  if (type == MSOCK_DISCO_PING) {
    msock_disco_ping m = {.has_node_key = !yes(o, "node_key_is_zero"),
                          .padding = (uint16_t)number(o, "padding")};
    hex_field(o, "tx_id", m.txid, sizeof m.txid);
    hex_field(o, "node_key", m.node_key.b, sizeof m.node_key.b);
    if (m.has_node_key == msock_node_key_is_zero(&m.node_key)) {
      return MSOCK_ERR_INVALID; /* the case contradicts itself */
    }
    return msock_disco_encode_ping(&m, dst, cap);
  }
  if (type == MSOCK_DISCO_PONG) {
    msock_disco_pong m = {.src = address(str(o, "src"))};
    hex_field(o, "tx_id", m.txid, sizeof m.txid);
    return msock_disco_encode_pong(&m, dst, cap);
  }
  msock_disco_call_me_maybe m = {0};
  m.n = addresses_from(get(o, "endpoints"), m.endpoints);
  return msock_disco_encode_call_me_maybe(&m, dst, cap);
}

static ptrdiff_t encode_peer_relay(json_object *o, msock_disco_type type, uint8_t *dst,
                                   size_t cap) {
  if (type == MSOCK_DISCO_CALL_ME_MAYBE_VIA) {
    const msock_disco_relay_endpoint m = relay_from(o);
    return msock_disco_encode_call_me_maybe_via(&m, dst, cap);
  }
  if (type == MSOCK_DISCO_ALLOCATE_REQUEST) {
    msock_disco_allocate_request m = {.generation = (uint32_t)number(o, "generation")};
    pair_from(o, m.clients);
    return msock_disco_encode_allocate_request(&m, dst, cap);
  }
  if (type == MSOCK_DISCO_ALLOCATE_RESPONSE) {
    const msock_disco_allocate_response m = {.generation = (uint32_t)number(o, "generation"),
                                             .relay = relay_from(o)};
    return msock_disco_encode_allocate_response(&m, dst, cap);
  }
  msock_disco_bind m = {.type = type,
                        .vni = (uint32_t)number(o, "vni"),
                        .generation = (uint32_t)number(o, "generation")};
  hex_field(o, "remote_key", m.remote.b, sizeof m.remote.b);
  hex_field(o, "challenge", m.challenge, sizeof m.challenge);
  return msock_disco_encode_bind(&m, dst, cap);
}

/* Encodes the fields of a case with our encoder. */
static ptrdiff_t encode(json_object *o, uint8_t *dst, size_t cap) {
  for (int t = MSOCK_DISCO_PING; t <= MSOCK_DISCO_ALLOCATE_RESPONSE; t++) {
    const msock_disco_type type = (msock_disco_type)t;
    if (strcmp(msock_disco_type_text(type), str(o, "type")) == 0) {
      return type <= MSOCK_DISCO_CALL_ME_MAYBE ? encode_path(o, type, dst, cap)
                                               : encode_peer_relay(o, type, dst, cap);
    }
  }
  malformed(str(o, "type"));
  return 0;
}

/* --- The stricter rules of magicsock.md 1.4, on what the reference made of a message -------- */

static bool any_zero_key(json_object *o) {
  static const char *const fields[] = {"server_disco", "remote_key"};
  json_object *list = optional(o, "client_disco");
  bool found = false;

  for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
    json_object *v = optional(o, fields[i]);
    found = found || (v && strspn(json_object_get_string(v), "0") == 2 * MSOCK_KEY_LEN);
  }
  for (size_t i = 0; list && i < json_object_array_length(list); i++) {
    const char *text = json_object_get_string(json_object_array_get_idx(list, i));
    found = found || strspn(text, "0") == 2 * MSOCK_KEY_LEN;
  }
  return found;
}

static bool not_positive(json_object *o, const char *field) {
  json_object *v = optional(o, field);
  return v && strtoll(json_object_get_string(v), NULL, 10) <= 0;
}

static bool ours_refuses(const uint8_t *p, size_t len, json_object *decoded) {
  const uint8_t type = p[0], version = p[1];
  json_object *vni = optional(decoded, "vni");

  if (type == 3 && (version != 0 || len == 2 || (len - 2) % 18 != 0)) {
    return true;
  }
  if (type >= 7 && version != 0) {
    return true;
  }
  return any_zero_key(decoded) || not_positive(decoded, "bind_lifetime_ns") ||
         not_positive(decoded, "steady_state_lifetime_ns") ||
         (vni && (json_object_get_int64(vni) < 1 || json_object_get_int64(vni) > 0xffffff));
}

/* Compares our reading of a message with the case's "parse". */
static void check_parse(json_object *c, const char *name, const uint8_t *p, size_t len) {
  json_object *parse = get(c, "parse"), *newer = optional(c, "padding_in_v1.104.5");
  const bool theirs = yes(parse, "ok");
  const bool want = theirs && !ours_refuses(p, len, get(parse, "decoded"));
  msock_err err;
  json_object *got = describe(p, len, &err);

  vectors_case(FILE_NAME, name, theirs == (optional(parse, "decoded") != NULL),
               "ok, but no fields");
  vectors_case(FILE_NAME, name, (got != NULL) == want, "refused or not: code %d", (int)err);
  if (want && got) {
    json_object *fields = NULL;
    if (json_object_deep_copy(get(parse, "decoded"), &fields, NULL) != 0) {
      malformed("no memory");
    }
    if (newer) {
      vectors_case(FILE_NAME, name,
                   number(fields, "padding") + MSOCK_KEY_LEN == json_object_get_int64(newer),
                   "the newer release counts the key's place as padding");
      put(fields, "padding", json_object_new_int64(json_object_get_int64(newer)));
    }
    vectors_case(FILE_NAME, name, json_object_equal(got, fields), "fields: %s",
                 json_object_to_json_string_ext(got, JSON_C_TO_STRING_PLAIN));
    json_object_put(fields);
  }
  json_object_put(got);
}

/* --- Sections ----------------------------------------------------------------------------- */

static void check_key_pair(const char *name, json_object *c) {
  uint8_t secret[MSOCK_KEY_LEN], want[MSOCK_KEY_LEN], got[MSOCK_KEY_LEN];
  json_object *label = optional(c, "short");

  hex_field(c, "private", secret, sizeof secret);
  hex_field(c, "public", want, sizeof want);
  msock_x25519_public(got, secret);
  vectors_case(FILE_NAME, name, memcmp(got, want, sizeof got) == 0, "public key");
  vectors_case(FILE_NAME, name, (secret[0] & 7) == 0 && (secret[31] & 0xc0) == 0x40, "clamped");
  if (label) {
    char text[2 + 16 + 1];
    snprintf(text, sizeof text, "d:%.16s", str(c, "public"));
    vectors_case(FILE_NAME, name, strcmp(text, json_object_get_string(label)) == 0, "short form");
  }
}

static void keys(json_object *section) {
  json_object_object_foreach(section, name, c) {
    check_key_pair(name, c);
  }
}

static void shared(json_object *section) {
  for (size_t i = 0; i < json_object_array_length(section); i++) {
    json_object *c = json_object_array_get_idx(section, i);
    const msock_disco_identity a = identity(str(c, "a")), b = identity(str(c, "b"));
    msock_disco_shared s;
    uint8_t want[sizeof s.box.k];
    char name[64];

    snprintf(name, sizeof name, "shared of %.20s and %.20s", str(c, "a"), str(c, "b"));
    hex_field(c, "k", want, sizeof want);
    vectors_case(FILE_NAME, name,
                 msock_disco_shared_init(&s, &a, &b.key) == MSOCK_OK &&
                     memcmp(s.box.k, want, sizeof want) == 0,
                 "shared key");
  }
}

/* The section's name says whose pair it is. */
static void sorted_pair(json_object *section) {
  const msock_disco_identity a = identity("alice"), b = identity("bob");
  msock_disco_key want[2], got[2];

  for (size_t i = 0; i < 2; i++) {
    const char *text = json_object_get_string(json_object_array_get_idx(section, i));
    unhex(text ? text : "", want[i].b, sizeof want[i].b);
  }
  msock_disco_pair_sort(&a.key, &b.key, got);
  vectors_case(FILE_NAME, "sorted pair", memcmp(got, want, sizeof got) == 0, "in order");
  msock_disco_pair_sort(&b.key, &a.key, got);
  vectors_case(FILE_NAME, "sorted pair", memcmp(got, want, sizeof got) == 0, "swapped");
}

/* closes: DISCO-01 DISCO-02 */
static void messages(json_object *section) {
  for (size_t i = 0; i < json_object_array_length(section); i++) {
    json_object *c = json_object_array_get_idx(section, i);
    const char *name = str(c, "name");
    const msock_disco_identity from = identity(str(c, "from")), to = identity(str(c, "to"));
    size_t plain_len = 0, packet_len = 0;
    unsigned char *plain = vectors_hex(FILE_NAME, c, "plaintext", &plain_len);
    unsigned char *packet = vectors_hex(FILE_NAME, c, "packet", &packet_len);
    uint8_t nonce[MSOCK_BOX_NONCE_LEN], msg[PACKET_MAX], sealed[PACKET_MAX], opened[PACKET_MAX];
    const msock_env env = {.ctx = nonce, .random = give_nonce};
    msock_disco_shared mine, theirs;
    msock_disco_key sender = {{0}};

    hex_field(c, "nonce", nonce, sizeof nonce);
    const ptrdiff_t n = encode(get(c, "encode"), msg, sizeof msg);
    vectors_case(FILE_NAME, name, n == (ptrdiff_t)plain_len && memcmp(msg, plain, plain_len) == 0,
                 "encoded message");
    vectors_case(FILE_NAME, name,
                 msock_disco_shared_init(&mine, &from, &to.key) == MSOCK_OK &&
                     msock_disco_shared_init(&theirs, &to, &from.key) == MSOCK_OK,
                 "shared keys");
    const ptrdiff_t m =
        msock_disco_seal(&from, &mine, &env, plain, plain_len, sealed, sizeof sealed);
    vectors_case(FILE_NAME, name,
                 m == (ptrdiff_t)packet_len && m == number(c, "packet_len") &&
                     memcmp(sealed, packet, packet_len) == 0,
                 "sealed packet");
    vectors_case(FILE_NAME, name,
                 msock_disco_sender(packet, packet_len, &sender) &&
                     msock_disco_key_equal(&sender, &from.key),
                 "sender");
    const ptrdiff_t k = msock_disco_open(&theirs, packet, packet_len, opened, sizeof opened);
    vectors_case(FILE_NAME, name,
                 k == (ptrdiff_t)plain_len && memcmp(opened, plain, plain_len) == 0, "opened");
    check_parse(c, name, plain, plain_len);
    free(plain);
    free(packet);
  }
}

/* closes: DISCO-03 */
static void parser(json_object *section) {
  for (size_t i = 0; i < json_object_array_length(section); i++) {
    json_object *c = json_object_array_get_idx(section, i);
    size_t len = 0;
    unsigned char *plain = vectors_hex(FILE_NAME, c, "plaintext", &len);
    check_parse(c, str(c, "name"), plain, len);
    free(plain);
  }
}

static bool looks_like_wireguard(const uint8_t *p, size_t len) {
  return len >= 4 && p[0] >= 1 && p[0] <= 4 && (p[1] | p[2] | p[3]) == 0;
}

/* What ours must say where the reference says class and geneve. */
static msock_datagram_kind wanted_kind(json_object *demux, const uint8_t *p, size_t len) {
  const char *class = str(demux, "class");
  const bool geneve = yes(demux, "geneve");

  if (strcmp(class, "stun-binding") == 0) {
    return MSOCK_DATAGRAM_STUN;
  }
  if (strcmp(class, "disco") == 0) {
    return !geneve              ? MSOCK_DATAGRAM_DISCO
           : (p[0] & 0x3f) == 0 ? MSOCK_DATAGRAM_GENEVE_DISCO
                                : MSOCK_DATAGRAM_JUNK;
  }
  if (strcmp(class, "wireguard-or-unknown") != 0) {
    malformed(class);
  }
  if (!geneve) {
    return looks_like_wireguard(p, len) ? MSOCK_DATAGRAM_WIREGUARD : MSOCK_DATAGRAM_JUNK;
  }
  return (p[0] & 0x3f) == 0 && (p[1] & 0x80) == 0 && looks_like_wireguard(p + 8, len - 8)
             ? MSOCK_DATAGRAM_GENEVE_WIREGUARD
             : MSOCK_DATAGRAM_JUNK;
}

/* The reference's Geneve test, which does not look at the option length (magicsock.md 1.5). */
static bool reference_geneve(const uint8_t *p, size_t len) {
  if (len < 8 || (p[0] & 0xc0) != 0 || (p[1] & 0x3f) != 0 || p[7] != 0 || p[2] != 0x7a) {
    return false;
  }
  return p[3] == 0x12 || (p[3] == 0x11 && msock_routes_as_disco(p + 8, len - 8));
}

static void check_demux(json_object *demux, const char *name, const uint8_t *p, size_t len) {
  const msock_datagram_kind want = wanted_kind(demux, p, len);
  const bool geneve =
      want == MSOCK_DATAGRAM_GENEVE_DISCO || want == MSOCK_DATAGRAM_GENEVE_WIREGUARD;
  const size_t head = geneve ? MSOCK_GENEVE_LEN : 0;
  const msock_datagram d = msock_disco_classify(p, len);

  vectors_case(FILE_NAME, name, yes(demux, "geneve") == reference_geneve(p, len), "Geneve or not");
  vectors_case(FILE_NAME, name, d.kind == want, "class %d, not %d", (int)want, (int)d.kind);
  vectors_case(FILE_NAME, name, d.payload == p + head && d.len == len - head, "payload");
  if (geneve && d.kind == want) {
    uint8_t again[MSOCK_GENEVE_LEN];
    vectors_case(FILE_NAME, name,
                 msock_disco_geneve_encode(&d.geneve, again, sizeof again) == sizeof again &&
                     memcmp(again, p, sizeof again) == 0,
                 "Geneve header");
  }
}

/* closes: DISCO-08 */
static void demux(json_object *section) {
  for (size_t i = 0; i < json_object_array_length(section); i++) {
    json_object *c = json_object_array_get_idx(section, i);
    size_t len = 0;
    unsigned char *p = vectors_hex(FILE_NAME, c, "hex", &len);
    check_demux(c, str(c, "name"), p, len);
    free(p);
  }
}

/* closes: DISCO-04 DISCO-07 */
static void packets(json_object *section) {
  for (size_t i = 0; i < json_object_array_length(section); i++) {
    json_object *c = json_object_array_get_idx(section, i), *open_ok = optional(c, "open_ok");
    const char *name = str(c, "name");
    const msock_disco_identity me = identity(str(c, "receiver"));
    msock_disco_key sender = {{0}};
    msock_disco_shared s;
    size_t len = 0;
    unsigned char *p = vectors_hex(FILE_NAME, c, "packet", &len);
    uint8_t opened[PACKET_MAX];

    vectors_case(FILE_NAME, name,
                 msock_looks_like_disco(p, len) == yes(c, "looks_like_disco_wrapper"), "wrapper");
    check_demux(get(c, "demux"), name, p, len);
    const bool has_sender = msock_disco_sender(p, len, &sender);
    vectors_case(FILE_NAME, name, has_sender == yes(c, "source_ok"), "has a source");
    if (has_sender) {
      msock_disco_key want = {{0}};
      hex_field(c, "source", want.b, sizeof want.b);
      vectors_case(FILE_NAME, name, msock_disco_key_equal(&sender, &want), "source");
    }
    if (open_ok) {
      bool can = msock_disco_shared_init(&s, &me, &sender) == MSOCK_OK;
      if (msock_disco_key_equal(&sender, &me.key)) { /* STRICT: the reference does open these */
        vectors_case(FILE_NAME, name, !can, "our own key must be refused");
        can = msock_box_precompute(&s.box, sender.b, me.secret.b) == MSOCK_OK;
      }
      const ptrdiff_t n = can ? msock_disco_open(&s, p, len, opened, sizeof opened) : -1;
      vectors_case(FILE_NAME, name, (n >= 0) == json_object_get_boolean(open_ok), "opens or not");
      if (n >= 0) {
        check_parse(c, name, opened, (size_t)n);
      }
    }
    free(p);
  }
}

/* closes: DISCO-09 */
static void geneve_encode(json_object *section) {
  for (size_t i = 0; i < json_object_array_length(section); i++) {
    json_object *c = json_object_array_get_idx(section, i);
    const msock_geneve h = {.version = (uint8_t)number(c, "version"),
                            .control = yes(c, "control"),
                            .protocol = (uint16_t)number(c, "protocol"),
                            .vni = yes(c, "vni_set") ? (uint32_t)number(c, "vni")
                                                     : MSOCK_GENEVE_VNI_UNSET};
    uint8_t got[MSOCK_GENEVE_LEN] = {0}, want[MSOCK_GENEVE_LEN] = {0};
    char name[64];
    const ptrdiff_t n = msock_disco_geneve_encode(&h, got, sizeof got);

    snprintf(name, sizeof name, "geneve_encode %zu", i);
    if (optional(c, "error")) {
      vectors_case(FILE_NAME, name, n == MSOCK_ERR_INVALID, "must not encode");
      continue;
    }
    hex_field(c, "header", want, sizeof want);
    vectors_case(FILE_NAME, name, n == sizeof want && memcmp(got, want, sizeof want) == 0,
                 "header");
  }
}

static void geneve_decode(json_object *section) {
  for (size_t i = 0; i < json_object_array_length(section); i++) {
    json_object *c = json_object_array_get_idx(section, i);
    msock_geneve h = {0};
    size_t len = 0;
    unsigned char *p = vectors_hex(FILE_NAME, c, "hex", &len);
    const msock_err err = msock_disco_geneve_decode(p, len, &h);

    if (optional(c, "error")) {
      vectors_case(FILE_NAME, str(c, "hex"), err == MSOCK_ERR_SHORT, "must be too short");
    } else {
      vectors_case(FILE_NAME, str(c, "hex"),
                   err == MSOCK_OK && h.version == number(c, "version") &&
                       h.control == yes(c, "control") && h.protocol == number(c, "protocol") &&
                       h.vni == number(c, "vni"),
                   "fields");
    }
    free(p);
  }
}

static void stun_requests(json_object *list) {
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *c = json_object_array_get_idx(list, i);
    const char *name = str(c, "hex");
    msock_stun_request request;
    size_t len = 0;
    unsigned char *p = vectors_hex(FILE_NAME, c, "hex", &len);
    const bool ok = msock_stun_check_request(p, len, false, &request) == MSOCK_STUN_ACCEPT;

    vectors_case(FILE_NAME, name, ok == yes(c, "ok"), "accepted or not");
    if (ok && yes(c, "ok")) {
      uint8_t want[sizeof request.txid.b];
      hex_field(c, "tx", want, sizeof want);
      vectors_case(FILE_NAME, name, memcmp(request.txid.b, want, sizeof want) == 0, "txid");
    }
    free(p);
  }
}

static void stun_responses(json_object *list) {
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *c = json_object_array_get_idx(list, i), *addr = optional(c, "addr");
    const char *name = str(c, "hex");
    const msock_addr want = addr ? address(json_object_get_string(addr)) : (msock_addr){0};
    const msock_addr server =
        address(want.ip.family == 6 ? "[2001:db8::53]:3478" : "192.0.2.53:3478");
    msock_stun_txid txid;
    msock_addr got;
    size_t len = 0;
    unsigned char *p = vectors_hex(FILE_NAME, c, "hex", &len);
    const bool ok = msock_stun_decode_response(p, len, &server, &txid, &got) == MSOCK_OK;

    vectors_case(FILE_NAME, name, ok == yes(c, "ok"), "accepted or not");
    if (ok && yes(c, "ok")) {
      uint8_t want_txid[sizeof txid.b];
      hex_field(c, "tx", want_txid, sizeof want_txid);
      vectors_case(FILE_NAME, name, memcmp(txid.b, want_txid, sizeof want_txid) == 0, "txid");
      vectors_case(FILE_NAME, name, msock_addr_equal(&got, &want), "address");
    }
    free(p);
  }
}

static void stun(json_object *section) {
  msock_stun_txid txid;
  uint8_t got[MSOCK_STUN_REQUEST_LEN], want[MSOCK_STUN_REQUEST_LEN];

  hex_field(section, "tx", txid.b, sizeof txid.b);
  hex_field(section, "request", want, sizeof want);
  vectors_case(FILE_NAME, "stun request",
               msock_stun_encode_request(&txid, false, got, sizeof got) == sizeof got &&
                   memcmp(got, want, sizeof got) == 0,
               "bytes");
  stun_requests(get(section, "requests"));
  stun_responses(get(section, "responses"));
}

/* part of RELAY-04 (the MAC; the rotation of secrets is the relay's) */
static void relay_challenge_mac(json_object *section) {
  for (size_t i = 0; i < json_object_array_length(section); i++) {
    json_object *c = json_object_array_get_idx(section, i);
    const char *name = str(c, "mac");
    const msock_addr src = address(str(c, "src"));
    uint8_t secret[MSOCK_DISCO_RELAY_SECRET_LEN], want[MSOCK_DISCO_CHALLENGE_LEN];
    uint8_t got[MSOCK_DISCO_CHALLENGE_LEN];
    msock_disco_key remote;
    size_t len = 0;
    unsigned char *encoded = vectors_hex(FILE_NAME, c, "src_encoding", &len);
    const size_t ip_len = msock_ip_bits(&src.ip) / 8u;

    hex_field(c, "secret", secret, sizeof secret);
    hex_field(c, "remote_key", remote.b, sizeof remote.b);
    hex_field(c, "mac", want, sizeof want);
    msock_disco_relay_challenge(secret, (uint32_t)number(c, "vni"),
                                (uint32_t)number(c, "generation"), &remote, &src, got);
    vectors_case(FILE_NAME, name, memcmp(got, want, sizeof got) == 0, "MAC");
    vectors_case(FILE_NAME, name,
                 len == ip_len + 2 && memcmp(encoded, src.ip.b, ip_len) == 0 &&
                     encoded[ip_len] == (src.port & 0xff) && encoded[ip_len + 1] == src.port >> 8,
                 "encoding of the address");
    free(encoded);
  }
}

static void magic(json_object *section) {
  uint8_t want[MSOCK_DISCO_MAGIC_LEN];
  unhex(json_object_get_string(section), want, sizeof want);
  vectors_case(FILE_NAME, "magic", msock_has_disco_magic(want, sizeof want), "bytes");
}

static void nothing(json_object *section) {
  (void)section; /* text for the reader, or another program's section */
}

static const struct {
  const char *name;
  void (*run)(json_object *section);
} sections[] = {
    {"keys", keys},
    {"node_keys", keys},
    {"shared", shared},
    {"sorted_pair_alice_bob", sorted_pair},
    {"messages", messages},
    {"parser", parser},
    {"packets", packets},
    {"demux", demux},
    {"geneve_encode", geneve_encode},
    {"geneve_decode", geneve_decode},
    {"stun", stun},
    {"relay_challenge_mac", relay_challenge_mac},
    {"magic", magic},
    {"better_addr", nothing},
    {"format", nothing},
    {"notes", nothing},
    {"source", nothing},
};

/* Every section of the file must be one that somebody looks at. */
int main(void) {
  if (msock_crypto_init() != MSOCK_OK) {
    return 1;
  }
  file = vectors_open(FILE_NAME);
  if (!file) {
    return vectors_exit();
  }
  json_object_object_foreach(file, name, section) {
    size_t i = 0;
    while (i < sizeof sections / sizeof sections[0] && strcmp(sections[i].name, name) != 0) {
      i++;
    }
    if (i == sizeof sections / sizeof sections[0]) {
      vectors_case(FILE_NAME, name, false, "a section that no test looks at");
    } else {
      sections[i].run(section);
    }
  }
  vectors_done(FILE_NAME);
  json_object_put(file);
  return vectors_exit();
}
