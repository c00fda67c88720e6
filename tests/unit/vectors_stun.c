/* stun.json: the STUN codec against messages of RFC 5769, of the reference client, its relays and
 * coturn. The TURN exchanges of the file are not Binding: they are not looked at here, and message
 * integrity, which only TURN uses, neither. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disco/datagram.h"
#include "netcheck/stun.h"
#include "tests/unit/testing.h"
#include "tests/unit/vectors.h"

#define FILE_NAME "stun.json"

static const char *optional(json_object *o, const char *field) {
  json_object *v = NULL;
  json_object_object_get_ex(o, field, &v);
  return v ? json_object_get_string(v) : NULL;
}

static msock_addr address(const char *text) {
  msock_addr a = {0};
  if (msock_addr_parse(text, &a) != MSOCK_OK) {
    printf("vectors: %s: failed: address \"%s\"\n", FILE_NAME, text);
    exit(1);
  }
  return a;
}

/* A server of the family of a mapped address: on loopback or not. */
static msock_addr server_for(const msock_addr *mapped, bool loopback) {
  if (mapped->ip.family == 6) {
    return address(loopback ? "[::1]:3478" : "[2001:db8::53]:3478");
  }
  return address(loopback ? "127.0.0.1:3478" : "192.0.2.53:3478");
}

/* Splits "ok tx=<hex> addr=<address>"; false for anything else. */
static bool parse_ok(const char *text, msock_stun_txid *txid, msock_addr *addr) {
  char hex[25], rest[64];
  if (sscanf(text, "ok tx=%24[0-9a-f] addr=%63s", hex, rest) != 2) {
    return false;
  }
  testing_unhex(hex, txid->b, sizeof txid->b);
  *addr = address(rest);
  return true;
}

/* closes: STUN-03 (fingerprints, mapped addresses) */
static void rfc5769(json_object *list) {
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *c = json_object_array_get_idx(list, i);
    const char *name = vectors_str(FILE_NAME, c, "name"), *mapped = optional(c, "mapped");
    size_t len = 0, undetected = 0;
    unsigned char *msg = vectors_hex(FILE_NAME, c, "hex", &len);
    json_object *has = NULL;
    const bool want = json_object_object_get_ex(c, "fp_ok", &has) && json_object_get_boolean(has);
    vectors_case(FILE_NAME, name, msock_stun_fingerprint_ok(msg, len) == want, "fingerprint");
    if (mapped) {
      const msock_addr a = address(mapped), server = server_for(&a, false);
      msock_stun_txid txid;
      msock_addr got;
      const bool ok = msock_stun_decode_response(msg, len, &server, &txid, &got) == MSOCK_OK;
      vectors_case(FILE_NAME, name, ok && msock_addr_equal(&got, &a), "mapped address");
    }
    for (size_t bit = 0; want && bit < len * 8; bit++) {
      msg[bit / 8] ^= (unsigned char)(1u << bit % 8);
      undetected += msock_stun_fingerprint_ok(msg, len);
      msg[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    vectors_case(FILE_NAME, name, undetected == 0, "%zu flipped bits pass", undetected);
    free(msg);
  }
}

static void same_bytes(json_object *from, const char *field, const uint8_t *got, ptrdiff_t n) {
  size_t len = 0;
  unsigned char *want = vectors_hex(FILE_NAME, from, field, &len);
  vectors_case(FILE_NAME, field, n >= 0 && (size_t)n == len && memcmp(want, got, len) == 0,
               "other bytes");
  free(want);
}

static void request_of(json_object *from, const char *field, const msock_stun_txid *txid) {
  uint8_t got[64];
  same_bytes(from, field, got, msock_stun_encode_request(txid, false, got, sizeof got));
}

/* closes: STUN-01 STUN-05 T33 (the 40 bytes as the reference makes them) */
static void reference_encoder(json_object *o) {
  msock_stun_txid txid, ones, zeros = {{0}};
  uint8_t got[64];
  testing_unhex(vectors_str(FILE_NAME, o, "txid"), txid.b, sizeof txid.b);
  memset(ones.b, 0xff, sizeof ones.b);
  request_of(o, "request", &txid);
  request_of(o, "request_ff_tx", &ones);
  request_of(o, "request_zero_tx", &zeros);

  char v4[64], v6[64];
  if (sscanf(vectors_str(FILE_NAME, o, "mapped"), "%63s and %63s", v4, v6) != 2) {
    vectors_case(FILE_NAME, "mapped", false, "not \"a and b\"");
    return;
  }
  const msock_addr a4 = address(v4), a6 = address(v6);
  msock_addr mapped = {.ip = {6, {[10] = 0xff, [11] = 0xff}}, .port = a4.port};
  memcpy(mapped.ip.b + 12, a4.ip.b, 4);
  same_bytes(o, "response_v4", got, msock_stun_encode_response(&txid, &a4, false, got, sizeof got));
  same_bytes(o, "response_v6", got, msock_stun_encode_response(&txid, &a6, false, got, sizeof got));
  /* STUN-12: to a v4-mapped client ours answers family 1 */
  same_bytes(o, "response_v4", got,
             msock_stun_encode_response(&txid, &mapped, false, got, sizeof got));
  size_t len = 0;
  unsigned char *msg = vectors_hex(FILE_NAME, o, "response_v4mapped", &len);
  const msock_addr server = server_for(&a4, false);
  msock_stun_txid id;
  msock_addr addr = {0};
  vectors_case(FILE_NAME, "response_v4mapped",
               msock_stun_decode_response(msg, len, &server, &id, &addr) == MSOCK_OK &&
                   msock_addr_equal(&addr, &a4),
               "not unmapped");
  free(msg);
}

/* What the reference says of a request, as our verdict. */
static msock_stun_verdict verdict_of(const char *text) {
  static const struct {
    const char *part;
    msock_stun_verdict verdict;
  } known[] = {{"ok tx=", MSOCK_STUN_ACCEPT},
               {"not a STUN packet", MSOCK_STUN_NOT_STUN},
               {"not a binding request", MSOCK_STUN_NOT_BINDING},
               {"malformed", MSOCK_STUN_MALFORMED},
               {"non-Tailscale software", MSOCK_STUN_OTHER_SOFTWARE},
               {"didn't end in fingerprint", MSOCK_STUN_NO_FINGERPRINT},
               {"bogus fingerprint", MSOCK_STUN_BAD_FINGERPRINT}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (strstr(text, known[i].part)) {
      return known[i].verdict;
    }
  }
  return MSOCK_STUN_VERDICTS;
}

/* closes: STUN-04 STUN-06 STUN-07 STUN-08 STUN-11 */
static void parse_cases(json_object *list) {
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *c = json_object_array_get_idx(list, i);
    const char *name = vectors_str(FILE_NAME, c, "name"), *note = optional(c, "note");
    const char *response = vectors_str(FILE_NAME, c, "reference_parse_response");
    const char *request = vectors_str(FILE_NAME, c, "reference_parse_request");
    /* Where a note speaks of this project, it is stricter than the reference, which accepts. */
    const bool stricter = note && strstr(note, "this project");
    size_t len = 0;
    unsigned char *msg = vectors_hex(FILE_NAME, c, "hex", &len);
    vectors_case(FILE_NAME, name,
                 msock_stun_looks(msg, len) ==
                     (bool)json_object_get_boolean(vectors_get(FILE_NAME, c, "is_stun")),
                 "is_stun");

    msock_stun_txid want_id, id;
    msock_addr want = {.ip = {.family = 4}}, got;
    const bool ok = parse_ok(response, &want_id, &want);
    const msock_addr server = server_for(&want, false), near = server_for(&want, true);
    const msock_err e = msock_stun_decode_response(msg, len, &server, &id, &got);
    vectors_case(FILE_NAME, name, (e == MSOCK_OK) == (ok && !stricter), "response: %d", e);
    if (e == MSOCK_OK) {
      vectors_case(FILE_NAME, name,
                   msock_addr_equal(&got, &want) && memcmp(&id, &want_id, sizeof id) == 0,
                   "response: other values");
    } else if (ok && msock_ip_is_loopback(&want.ip)) {
      vectors_case(FILE_NAME, name,
                   msock_stun_decode_response(msg, len, &near, &id, &got) == MSOCK_OK,
                   "response of a server on loopback");
    }

    msock_stun_request r;
    const msock_stun_verdict v = msock_stun_check_request(msg, len, false, &r);
    const msock_stun_verdict accept = verdict_of(request);
    if (stricter && accept == MSOCK_STUN_ACCEPT) {
      vectors_case(FILE_NAME, name, v != MSOCK_STUN_ACCEPT, "request accepted");
    } else {
      vectors_case(FILE_NAME, name, v == accept, "request: %d, reference: %s", (int)v, request);
    }
    free(msg);
  }
}

static void check_answer(json_object *c, const char *name, const msock_addr *client) {
  size_t len = 0;
  unsigned char *msg = vectors_hex(FILE_NAME, c, "response_hex", &len);
  const msock_addr server = server_for(client, true);
  msock_stun_txid id;
  msock_addr got = {0};
  const msock_err e = msock_stun_decode_response(msg, len, &server, &id, &got);
  vectors_case(FILE_NAME, name, e == MSOCK_OK && msock_addr_equal(&got, client), "answer: %d", e);
  if (e == MSOCK_OK && len <= 44) { /* a relay: ours answers alike, apart from v4-mapped */
    uint8_t ours[64];
    const ptrdiff_t n = msock_stun_encode_response(&id, client, false, ours, sizeof ours);
    const bool same = n > 0 && (size_t)n == len && memcmp(ours, msg, len) == 0;
    vectors_case(FILE_NAME, name, same || (client->ip.family == 4 && len == 44), "our answer");
  }
  free(msg);
}

/* Real exchanges. A request that got an answer must be one that we accept and would have sent; one
 * without is either refused, or was sound and had nobody to answer it.
 * closes: STUN-11 STUN-13 */
static void exchanges(json_object *list) {
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *c = json_object_array_get_idx(list, i);
    const char *name = vectors_str(FILE_NAME, c, "name");
    const char *local = optional(c, "client_local");
    const bool answered = vectors_get(FILE_NAME, c, "response_hex") != NULL;
    size_t len = 0;
    unsigned char *msg = vectors_hex(FILE_NAME, c, "request_hex", &len);
    const bool plain = len == MSOCK_STUN_HEADER_LEN;
    const msock_stun_txid id = msock_stun_txid_of(msg);
    uint8_t ours[64];
    const ptrdiff_t n = msock_stun_encode_request(&id, plain, ours, sizeof ours);
    const bool same = n > 0 && (size_t)n == len && memcmp(ours, msg, len) == 0;
    msock_stun_request r;
    const bool strict = msock_stun_check_request(msg, len, false, &r) == MSOCK_STUN_ACCEPT;
    const bool open = msock_stun_check_request(msg, len, true, &r) == MSOCK_STUN_ACCEPT;
    vectors_case(FILE_NAME, name, !answered || (same && open), "answered request");
    vectors_case(FILE_NAME, name, strict == (same && !plain), "strict server");
    if (answered) {
      const msock_addr client =
          address(local ? local : vectors_str(FILE_NAME, c, "reference_mapped"));
      check_answer(c, name, &client);
    }
    free(msg);
  }
}

/* The kind that a verdict of the file means. What the reference leaves to WireGuard, which drops it
 * there, is junk here unless it looks like WireGuard. */
static msock_datagram_kind kind_of(const char *verdict, const uint8_t *p, size_t len) {
  static const struct {
    const char *begins;
    msock_datagram_kind kind;
  } kinds[] = {{"stun", MSOCK_DATAGRAM_STUN},
               {"disco in Geneve", MSOCK_DATAGRAM_GENEVE_DISCO},
               {"wireguard in Geneve", MSOCK_DATAGRAM_GENEVE_WIREGUARD},
               {"disco", MSOCK_DATAGRAM_DISCO}};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    if (strncmp(verdict, kinds[i].begins, strlen(kinds[i].begins)) == 0) {
      return kinds[i].kind;
    }
  }
  const bool wireguard = len >= 4 && p[0] >= 1 && p[0] <= 4 && p[1] + p[2] + p[3] == 0;
  return wireguard ? MSOCK_DATAGRAM_WIREGUARD : MSOCK_DATAGRAM_JUNK;
}

/* closes: STUN-15 */
static void demux(json_object *list) {
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *c = json_object_array_get_idx(list, i);
    const char *name = vectors_str(FILE_NAME, c, "name");
    const char *verdict = vectors_str(FILE_NAME, c, "verdict");
    size_t len = 0;
    unsigned char *msg = vectors_hex(FILE_NAME, c, "hex", &len);
    const msock_datagram_kind want = kind_of(verdict, msg, len);
    vectors_case(FILE_NAME, name, msock_stun_demux(msg, len) == (want == MSOCK_DATAGRAM_STUN),
                 "STUN or not");
    vectors_case(FILE_NAME, name, msock_disco_classify(msg, len).kind == want,
                 "not the kind of \"%s\"", verdict);
    free(msg);
  }
}

int main(void) {
  json_object *o = vectors_open(FILE_NAME);
  if (!o) {
    return vectors_exit();
  }
  rfc5769(vectors_get(FILE_NAME, o, "rfc5769"));
  reference_encoder(vectors_get(FILE_NAME, o, "reference_encoder"));
  parse_cases(vectors_get(FILE_NAME, o, "parse_cases"));
  demux(vectors_get(FILE_NAME, o, "demux"));
  exchanges(vectors_get(FILE_NAME, o, "stock_client"));
  json_object_object_foreach(o, key, value) {
    if (strncmp(key, "exchanges_", strlen("exchanges_")) == 0) {
      exchanges(value);
    }
  }
  vectors_done(FILE_NAME);
  json_object_put(o);
  return vectors_exit();
}
