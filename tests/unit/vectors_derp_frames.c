/* DERP against bytes of the reference peers: keys, every frame type, and the server side's login
 * and frame rules as far as the codec decides them. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "crypto/box.h"
#include "crypto/init.h"
#include "crypto/x25519.h"
#include "derp/login.h"
#include "tests/unit/derp_vectors.h"
#include "tests/unit/vectors.h"

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
  json_object_object_foreach(derp_vectors_get(derp_vectors_root, "keys"), name, v) {
    if (!json_object_is_type(v, json_type_object)) {
      continue;
    }
    char text[MSOCK_KEY_TEXT_MAX];
    const msock_node_private k = derp_vectors_private_of(name);
    const msock_node_key pub = msock_node_private_public(&k);
    const bool ok =
        derp_vectors_is_hex_of(derp_vectors_str(v, "public_hex"), pub.b, sizeof pub.b) &&
        strcmp(msock_node_key_text(&pub, text), derp_vectors_str(v, "nodekey_text")) == 0 &&
        from_seed(derp_vectors_str(v, "seed"), &k);
    vectors_case(DERP_VECTORS_FILE, name, ok, "private, public, text form and seed disagree");
  }
  char want[256], text[MSOCK_KEY_TEXT_MAX];
  const msock_node_private server = derp_vectors_private_of("server");
  snprintf(want, sizeof want, "{\n\t\"PrivateKey\": \"%s\"\n}",
           msock_node_private_text(&server, text));
  vectors_case(DERP_VECTORS_FILE, "derper_config_file",
               strcmp(want, derp_vectors_str(derp_vectors_get(derp_vectors_root, "keys"),
                                             "derper_config_file")) == 0,
               "not the server's key");
}

/* ---- frames ---- */

/* Seals what was opened again with the captured nonce: the same bytes? */
static bool reseals(const msock_derp_frame *f, const uint8_t *hex, size_t len) {
  uint8_t again[MSOCK_DERP_LOGIN_FRAME_MAX];
  const msock_node_private server = derp_vectors_private_of("server");
  const msock_node_key server_public = msock_node_private_public(&server);
  derp_vectors_script s = {0};
  const msock_env env = derp_vectors_script_env(&s);
  ptrdiff_t n = 0;
  if (f->type == MSOCK_DERP_CLIENT_INFO) {
    msock_derp_client_info info;
    msock_node_key who;
    msock_node_private me;
    derp_vectors_script_add(&s, f->u.client_info.box, MSOCK_BOX_NONCE_LEN);
    if (msock_derp_client_info_open(hex + 5, len - 5, &server, &who, &info) != MSOCK_OK ||
        (info.has_mesh_key && !derp_vectors_is_mesh_key(info.mesh_key)) ||
        !derp_vectors_private_for(&who, &me)) {
      return false;
    }
    n = msock_derp_client_info_seal(&info, &me, &server_public, &env, again, sizeof again);
  } else {
    msock_derp_server_info info;
    const msock_node_private a = derp_vectors_private_of("a");
    const msock_node_key a_public = msock_node_private_public(&a);
    derp_vectors_script_add(&s, f->u.server_info.box, MSOCK_BOX_NONCE_LEN);
    if (msock_derp_server_info_open(hex + 5, len - 5, &a, &server_public, &info) != MSOCK_OK) {
      return false;
    }
    n = msock_derp_server_info_seal(&info, &server, &a_public, &env, again, sizeof again);
  }
  return n == (ptrdiff_t)len && memcmp(again, hex, len) == 0;
}

/* The plaintext field against what the box holds. */
static bool same_plaintext(json_object *fields, const uint8_t *box, size_t len, bool from_client) {
  uint8_t plain[1024];
  msock_box_shared shared;
  const msock_node_private server = derp_vectors_private_of("server");
  const msock_node_key peer =
      from_client
          ? derp_vectors_key_field(fields, "client_key")
          : derp_vectors_key_field(derp_vectors_named_key(derp_vectors_str(fields, "sealed_to")),
                                   "public_hex");
  const char *want = derp_vectors_str(fields, "plaintext");
  return len - MSOCK_BOX_OVERHEAD == strlen(want) && len < sizeof plain &&
         msock_box_precompute(&shared, peer.b, server.b) == MSOCK_OK &&
         msock_box_open(&shared, box, len, plain) == MSOCK_OK &&
         memcmp(plain, want, strlen(want)) == 0 &&
         derp_vectors_is_hex_of(derp_vectors_str(fields, "nonce"), box, 24) &&
         derp_vectors_is_hex_of(derp_vectors_str(fields, "box"), box + 24, len - 24);
}

static bool same_present(json_object *fields, const msock_derp_frame *f) {
  char text[MSOCK_IP_TEXT_MAX];
  const bool addr_ok =
      derp_vectors_has(fields, "ip")
          ? f->u.peer_present.has_addr &&
                derp_vectors_same_number(fields, "port", f->u.peer_present.addr.port) &&
                strcmp(msock_ip_text(&f->u.peer_present.addr.ip, text),
                       derp_vectors_str(fields, "ip")) == 0
          : !f->u.peer_present.has_addr;
  const bool flags_ok = derp_vectors_has(fields, "flags")
                            ? f->u.peer_present.has_flags &&
                                  derp_vectors_same_number(fields, "flags", f->u.peer_present.flags)
                            : !f->u.peer_present.has_flags;
  return addr_ok && flags_ok && derp_vectors_same_key(fields, "peer", &f->u.peer_present.key);
}

static bool same_fields(json_object *fields, const msock_derp_frame *f) {
  static const uint8_t magic[] = {0x44, 0x45, 0x52, 0x50, 0xf0, 0x9f, 0x94, 0x91};
  switch (f->type) {
  case MSOCK_DERP_SERVER_KEY:
    return derp_vectors_same_key(fields, "server_key", &f->u.server_key.key) &&
           (!derp_vectors_has(fields, "magic_hex") ||
            derp_vectors_is_hex_of(derp_vectors_str(fields, "magic_hex"), magic, 8)) &&
           (derp_vectors_has(fields, "trailing")
                ? derp_vectors_is_hex_of(derp_vectors_str(fields, "trailing"),
                                         f->u.server_key.extension, f->u.server_key.extension_len)
                : f->u.server_key.extension_len == 0);
  case MSOCK_DERP_CLIENT_INFO:
    return derp_vectors_same_key(fields, "client_key", &f->u.client_info.key) &&
           same_plaintext(fields, f->u.client_info.box, f->u.client_info.box_len, true);
  case MSOCK_DERP_SERVER_INFO:
    return same_plaintext(fields, f->u.server_info.box, f->u.server_info.box_len, false);
  case MSOCK_DERP_SEND_PACKET:
  case MSOCK_DERP_RECV_PACKET:
    return derp_vectors_same_key(fields, f->type == MSOCK_DERP_SEND_PACKET ? "dst" : "src",
                                 &f->u.packet.key) &&
           derp_vectors_is_hex_of(derp_vectors_str(fields, "payload"), f->u.packet.data,
                                  f->u.packet.len);
  case MSOCK_DERP_FORWARD_PACKET:
    return derp_vectors_same_key(fields, "src", &f->u.forward.src) &&
           derp_vectors_same_key(fields, "dst", &f->u.forward.dst) &&
           derp_vectors_is_hex_of(derp_vectors_str(fields, "payload"), f->u.forward.data,
                                  f->u.forward.len);
  case MSOCK_DERP_NOTE_PREFERRED:
    return json_object_get_boolean(derp_vectors_get(fields, "preferred")) == (int)f->u.preferred;
  case MSOCK_DERP_PEER_GONE:
    return derp_vectors_same_key(fields, "peer", &f->u.peer_gone.key) &&
           derp_vectors_same_number(fields, "reason", f->u.peer_gone.reason);
  case MSOCK_DERP_PEER_PRESENT:
    return same_present(fields, f);
  case MSOCK_DERP_CLOSE_PEER:
    return derp_vectors_same_key(fields, "peer", &f->u.close_peer);
  case MSOCK_DERP_PING:
  case MSOCK_DERP_PONG:
    return derp_vectors_is_hex_of(derp_vectors_str(fields, "data"), f->u.ping, sizeof f->u.ping);
  case MSOCK_DERP_HEALTH:
    return strlen(derp_vectors_str(fields, "text")) == f->u.health.len &&
           memcmp(derp_vectors_str(fields, "text"), f->u.health.text, f->u.health.len) == 0;
  case MSOCK_DERP_RESTARTING:
    return derp_vectors_same_number(fields, "reconnect_in_ms", f->u.restarting.reconnect_in_ms) &&
           derp_vectors_same_number(fields, "try_for_ms", f->u.restarting.try_for_ms);
  default:
    return true; /* KeepAlive, WatchConns: nothing in them */
  }
}

/* Decodes one whole frame, compares its fields, encodes it again. */
static const char *check_frame(const uint8_t *p, size_t len, json_object *fields) {
  msock_derp_frame f = {0};
  const char *why = derp_vectors_round_trip(p, len, &f);
  if (why != NULL || f.type == 0) {
    return why;
  }
  if (!same_fields(fields, &f)) {
    return "decoded fields differ";
  }
  if ((f.type == MSOCK_DERP_CLIENT_INFO || f.type == MSOCK_DERP_SERVER_INFO) &&
      !reseals(&f, p, len)) {
    return "sealing with the same nonce gives other bytes";
  }
  return NULL;
}

/* closes: CLIENT-04 */
static void check_frames(void) {
  json_object *list = derp_vectors_get(derp_vectors_root, "frames");
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *c = json_object_array_get_idx(list, i);
    size_t len;
    uint8_t *p = derp_vectors_bytes(c, "hex", &len);
    const char *why = check_frame(p, len, derp_vectors_get(c, "fields"));
    if (why == NULL && (!derp_vectors_same_number(c, "type", p[0]) ||
                        !derp_vectors_same_number(c, "payload_len", len - 5))) {
      why = "type or length differ";
    }
    vectors_case(DERP_VECTORS_FILE, derp_vectors_str(c, "name"), why == NULL, "%s",
                 why != NULL ? why : "");
    free(p);
  }
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
  uint8_t *p = cut_hex(derp_vectors_str(c, "first_frame_hex"), &len, &total);
  const bool accepted = json_object_get_boolean(derp_vectors_get(c, "accepted"));
  const msock_node_private server = derp_vectors_private_of("server");
  const msock_derp_header h = len >= 5 ? msock_derp_header_read(p) : (msock_derp_header){0, 0};
  bool got = false;
  if (total != 5 + (size_t)h.len) {
    vectors_case(DERP_VECTORS_FILE, derp_vectors_str(c, "name"), false,
                 "length field and length disagree");
  } else if (len < total) { /* cut: the length alone decides */
    got = h.type == MSOCK_DERP_CLIENT_INFO && h.len >= MSOCK_DERP_CLIENT_INFO_MIN &&
          h.len <= MSOCK_DERP_CLIENT_INFO_MAX;
    vectors_case(DERP_VECTORS_FILE, derp_vectors_str(c, "name"), got == accepted,
                 "by length: accepted %d", got);
  } else {
    msock_node_key who;
    msock_derp_client_info info;
    got = h.type == MSOCK_DERP_CLIENT_INFO &&
          msock_derp_client_info_open(p + 5, h.len, &server, &who, &info) == MSOCK_OK &&
          memcmp(who.b, p + 5, 32) == 0;
    const bool has_box = h.type == MSOCK_DERP_CLIENT_INFO && h.len >= MSOCK_KEY_LEN;
    const bool is_whole =
        !has_box || derp_vectors_is_zero(p + 5, h.len) ||
        (derp_vectors_known_filler(p + 5, MSOCK_KEY_LEN) &&
         derp_vectors_opens_between_known_keys(p + 5 + MSOCK_KEY_LEN, h.len - MSOCK_KEY_LEN));
    vectors_case(DERP_VECTORS_FILE, derp_vectors_str(c, "name"), got == accepted && is_whole,
                 "accepted %d, box whole %d", got, is_whole);
  }
  free(p);
}

/* closes: SERVER-08 (codec part) */
static void check_established(json_object *c) {
  size_t len, total, at = 0;
  uint8_t *p = cut_hex(derp_vectors_str(c, "sent_hex"), &len, &total);
  const bool kept = json_object_get_boolean(derp_vectors_get(c, "connection_kept"));
  const bool is_mesh = json_object_get_boolean(derp_vectors_get(c, "mesh_client"));
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
    } else if (decodes && !derp_vectors_known_fields(&f)) {
      why = "key or payload that the file does not know";
    } else if (decodes && h.type == MSOCK_DERP_CLIENT_INFO &&
               !(derp_vectors_known_key(&f.u.client_info.key) &&
                 derp_vectors_opens_between_known_keys(f.u.client_info.box,
                                                       f.u.client_info.box_len))) {
      why = "box does not open";
    } else if (!decodes && h.len > 1 && have > is_note &&
               !derp_vectors_known_filler(p + at + is_note, have - is_note)) {
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
  vectors_case(DERP_VECTORS_FILE, derp_vectors_str(c, "name"), why == NULL && got == kept, "%s",
               why != NULL ? why : "connection kept or closed against the reference");
  free(p);
}

int main(void) {
  derp_vectors_root = vectors_open(DERP_VECTORS_FILE);
  if (derp_vectors_root == NULL || msock_crypto_init() != MSOCK_OK) {
    return vectors_exit();
  }
  check_keys();
  check_frames();
  derp_vectors_each(derp_vectors_get(derp_vectors_root, "server_behaviour_login"), check_login);
  derp_vectors_each(derp_vectors_get(derp_vectors_root, "server_behaviour_established"),
                    check_established);
  vectors_done(DERP_VECTORS_FILE);
  json_object_put(derp_vectors_root);
  return vectors_exit();
}
