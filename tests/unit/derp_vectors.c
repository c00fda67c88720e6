#include "tests/unit/derp_vectors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "crypto/box.h"
#include "tests/unit/vectors.h"

json_object *derp_vectors_root;

json_object *derp_vectors_get(json_object *o, const char *field) {
  return vectors_get(DERP_VECTORS_FILE, o, field);
}

const char *derp_vectors_str(json_object *o, const char *field) {
  return vectors_str(DERP_VECTORS_FILE, o, field);
}

uint8_t *derp_vectors_bytes(json_object *o, const char *field, size_t *len) {
  return vectors_hex(DERP_VECTORS_FILE, o, field, len);
}

bool derp_vectors_has(json_object *o, const char *field) {
  return json_object_object_get_ex(o, field, NULL);
}

bool derp_vectors_is_hex_of(const char *hex, const void *p, size_t len) {
  char *text = malloc(2 * len + 1);
  msock_hex_encode(p, len, text);
  const bool same = strcmp(text, hex) == 0;
  free(text);
  return same;
}

msock_node_key derp_vectors_key_field(json_object *o, const char *field) {
  msock_node_key k = {{0}};
  if (!msock_hex_decode(derp_vectors_str(o, field), k.b, sizeof k.b) ||
      strlen(derp_vectors_str(o, field)) != 64) {
    vectors_case(DERP_VECTORS_FILE, field, false, "not a key");
  }
  return k;
}

json_object *derp_vectors_named_key(const char *name) {
  return derp_vectors_get(derp_vectors_get(derp_vectors_root, "keys"), name);
}

msock_node_private derp_vectors_private_of(const char *name) {
  msock_node_private k;
  memcpy(k.b, derp_vectors_key_field(derp_vectors_named_key(name), "private_hex").b, sizeof k.b);
  return k;
}

/* Private key of whichever named key has that public one. */
bool derp_vectors_private_for(const msock_node_key *public_key, msock_node_private *out) {
  json_object_object_foreach(derp_vectors_get(derp_vectors_root, "keys"), name, v) {
    if (json_object_is_type(v, json_type_object)) {
      const msock_node_key k = derp_vectors_key_field(v, "public_hex");
      if (msock_node_key_equal(&k, public_key)) {
        *out = derp_vectors_private_of(name);
        return true;
      }
    }
  }
  return false;
}

bool derp_vectors_same_key(json_object *fields, const char *name, const msock_node_key *k) {
  return derp_vectors_is_hex_of(derp_vectors_str(fields, name), k->b, sizeof k->b);
}

bool derp_vectors_same_number(json_object *fields, const char *name, uint64_t v) {
  return json_object_get_uint64(derp_vectors_get(fields, name)) == v;
}

void derp_vectors_script_add(derp_vectors_script *s, const void *p, size_t n) {
  if (s->len + n <= sizeof s->bytes) {
    memcpy(s->bytes + s->len, p, n);
    s->len += n;
  }
}

static void scripted_random(void *ctx, void *dst, size_t len) {
  derp_vectors_script *s = ctx;
  memset(dst, 0, len);
  if (s->at + len <= s->len) {
    memcpy(dst, s->bytes + s->at, len);
    s->at += len;
  }
}

msock_env derp_vectors_script_env(derp_vectors_script *s) {
  return (msock_env){.ctx = s, .random = scripted_random, .log = NULL};
}

bool derp_vectors_is_mesh_key(const uint8_t *key) {
  return derp_vectors_is_hex_of(
      derp_vectors_str(derp_vectors_get(derp_vectors_root, "keys"), "mesh_psk_hex"), key, 32);
}

const char *derp_vectors_round_trip(const uint8_t *p, size_t len, msock_derp_frame *f) {
  uint8_t *again = malloc(len);
  const char *why = NULL;
  const msock_derp_header h = len >= 5 ? msock_derp_header_read(p) : (msock_derp_header){0, 0};
  const msock_err err =
      len == 5 + (size_t)h.len ? msock_derp_frame_decode(h.type, p + 5, h.len, f) : MSOCK_ERR_SHORT;
  if (err == MSOCK_ERR_UNKNOWN) {
    f->type = 0;
    why =
        msock_derp_from_client(h, false) == MSOCK_DERP_SKIP ? NULL : "unknown type is not skipped";
  } else if (err != MSOCK_OK) {
    why = "does not decode";
  } else if (msock_derp_frame_encode(f, again, len) != (ptrdiff_t)len ||
             memcmp(again, p, len) != 0) {
    why = "does not encode to the same bytes";
  }
  free(again);
  return why;
}

bool derp_vectors_is_zero(const uint8_t *p, size_t len) {
  return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

bool derp_vectors_known_key(const msock_node_key *k) {
  msock_node_private ignored;
  return derp_vectors_private_for(k, &ignored) || derp_vectors_is_zero(k->b, sizeof k->b);
}

/* A payload that some frame example or some receiver of a session names; or nothing, or zeros. */
static bool known_payload(const uint8_t *p, size_t len) {
  json_object *frames = derp_vectors_get(derp_vectors_root, "frames");
  json_object *sessions = derp_vectors_get(derp_vectors_root, "transcripts");
  bool found = derp_vectors_is_zero(p, len);
  for (size_t i = 0; i < json_object_array_length(frames); i++) {
    json_object *fields = derp_vectors_get(json_object_array_get_idx(frames, i), "fields");
    found = found || (derp_vectors_has(fields, "payload") &&
                      derp_vectors_is_hex_of(derp_vectors_str(fields, "payload"), p, len));
  }
  for (size_t i = 0; i < json_object_array_length(sessions); i++) {
    json_object *recv = derp_vectors_get(json_object_array_get_idx(sessions, i), "client_recv");
    for (size_t j = 0; j < json_object_array_length(recv); j++) {
      json_object *r = json_object_array_get_idx(recv, j);
      found = found || (derp_vectors_has(r, "payload") &&
                        derp_vectors_is_hex_of(derp_vectors_str(r, "payload"), p, len));
    }
  }
  return found;
}

/* Whether a decoded frame speaks of keys and payloads of the file only: an altered byte does not.
 */
bool derp_vectors_known_fields(const msock_derp_frame *f) {
  switch (f->type) {
  case MSOCK_DERP_SEND_PACKET:
  case MSOCK_DERP_RECV_PACKET:
    return derp_vectors_known_key(&f->u.packet.key) &&
           known_payload(f->u.packet.data, f->u.packet.len);
  case MSOCK_DERP_FORWARD_PACKET:
    return derp_vectors_known_key(&f->u.forward.src) && derp_vectors_known_key(&f->u.forward.dst) &&
           known_payload(f->u.forward.data, f->u.forward.len);
  case MSOCK_DERP_CLOSE_PEER:
    return derp_vectors_known_key(&f->u.close_peer);
  case MSOCK_DERP_PEER_GONE:
    return derp_vectors_known_key(&f->u.peer_gone.key);
  default:
    return true;
  }
}

/* A frame cut or spoilt on purpose: a key of the file, if that long, and zeros. */
bool derp_vectors_known_filler(const uint8_t *p, size_t len) {
  msock_node_key k;
  if (len < sizeof k.b) {
    return derp_vectors_is_zero(p, len);
  }
  memcpy(k.b, p, sizeof k.b);
  return derp_vectors_known_key(&k) && derp_vectors_is_zero(p + sizeof k.b, len - sizeof k.b);
}

/* Whether a box opens between any two keys of the file: then it is whole, whoever it is for. */
bool derp_vectors_opens_between_known_keys(const uint8_t *box, size_t len) {
  static uint8_t plain[300000];
  bool found = false;
  if (len < MSOCK_BOX_OVERHEAD || len > sizeof plain) {
    return false;
  }
  json_object_object_foreach(derp_vectors_get(derp_vectors_root, "keys"), from, a) {
    json_object_object_foreach(derp_vectors_get(derp_vectors_root, "keys"), to, b) {
      (void)to;
      if (json_object_is_type(a, json_type_object) && json_object_is_type(b, json_type_object)) {
        msock_box_shared shared;
        const msock_node_private k = derp_vectors_private_of(from);
        found = found || (msock_box_precompute(&shared, derp_vectors_key_field(b, "public_hex").b,
                                               k.b) == MSOCK_OK &&
                          msock_box_open(&shared, box, len, plain) == MSOCK_OK);
      }
    }
  }
  return found;
}

void derp_vectors_each(json_object *list, void (*check)(json_object *)) {
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    check(json_object_array_get_idx(list, i));
  }
}
