/* tests/unit/derp_vectors.h: what the programs that read derp.json share. */
#ifndef MSOCK_TESTS_DERP_VECTORS_H
#define MSOCK_TESTS_DERP_VECTORS_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/key.h"
#include "crypto/x25519.h"
#include "derp/frame.h"

#define DERP_VECTORS_FILE "derp.json"

extern json_object *derp_vectors_root; /* set by main */

/* As vectors_get, vectors_str and vectors_hex, of this file. */
json_object *derp_vectors_get(json_object *o, const char *field);
const char *derp_vectors_str(json_object *o, const char *field);
uint8_t *derp_vectors_bytes(json_object *o, const char *field, size_t *len);
bool derp_vectors_has(json_object *o, const char *field);
void derp_vectors_each(json_object *list, void (*check)(json_object *));

bool derp_vectors_is_hex_of(const char *hex, const void *p, size_t len);
msock_node_key derp_vectors_key_field(json_object *o, const char *field);
json_object *derp_vectors_named_key(const char *name);
msock_node_private derp_vectors_private_of(const char *name);
/* Private key of whichever named key has that public one. */
bool derp_vectors_private_for(const msock_node_key *public_key, msock_node_private *out);
bool derp_vectors_is_mesh_key(const uint8_t *key); /* 32 bytes */
bool derp_vectors_same_key(json_object *fields, const char *name, const msock_node_key *k);
bool derp_vectors_same_number(json_object *fields, const char *name, uint64_t v);

/* A scripted source of randomness: the nonces of the capture; zeros after them. */
typedef struct derp_vectors_script {
  uint8_t bytes[1024];
  size_t len, at;
} derp_vectors_script;
void derp_vectors_script_add(derp_vectors_script *s, const void *p, size_t n);
msock_env derp_vectors_script_env(derp_vectors_script *s);

/* Decodes one whole frame and encodes it again. NULL when the bytes are the same, else why not;
 * f->type is 0 when the type is unknown and rightly skipped. */
const char *derp_vectors_round_trip(const uint8_t *p, size_t len, msock_derp_frame *f);

/* What a packet in the file may hold: an altered byte does not pass. */
bool derp_vectors_is_zero(const uint8_t *p, size_t len);
bool derp_vectors_known_key(const msock_node_key *k);
/* Keys and payloads of a decoded frame are those of the file. */
bool derp_vectors_known_fields(const msock_derp_frame *f);
/* A frame cut or spoilt on purpose: a key of the file, if that long, and zeros. */
bool derp_vectors_known_filler(const uint8_t *p, size_t len);
/* A box that opens between any two keys of the file is whole, whoever it is for. */
bool derp_vectors_opens_between_known_keys(const uint8_t *box, size_t len);

#endif
