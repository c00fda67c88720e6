#include "derp/login.h"

#include <json-c/json.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/hex.h"
#include "crypto/box.h"
#include "crypto/wipe.h"
#include "crypto/x25519.h"
#include "derp/frame.h"

#define JSON_DEPTH_MAX 16

msock_derp_client_info msock_derp_client_info_default(void) {
  return (msock_derp_client_info){.version = MSOCK_DERP_PROTOCOL_VERSION, .can_ack_pings = true};
}

/* ---- sealing ---- */

/* Boxes the text of obj behind [header | prefix] in dst and writes the header. Takes obj over. */
static ptrdiff_t seal_json(json_object *obj, uint8_t type, const msock_node_key *prefix,
                           const msock_node_private *me, const msock_node_key *to,
                           const msock_env *env, uint8_t *dst, size_t cap) {
  msock_box_shared shared = {0};
  size_t text_len = 0;
  const char *text = json_object_to_json_string_length(
      obj, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &text_len);
  const size_t prefix_len = prefix != NULL ? sizeof prefix->b : 0;
  const size_t len = prefix_len + MSOCK_BOX_OVERHEAD + text_len;
  ptrdiff_t result = 0;

  if (text == NULL) {
    result = MSOCK_ERR_NOMEM;
  } else if (cap < MSOCK_DERP_HEADER_LEN + len) {
    result = MSOCK_ERR_NOBUF;
  } else if (msock_box_precompute(&shared, to->b, me->b) != MSOCK_OK) {
    result = MSOCK_ERR_AUTH;
  } else {
    uint8_t *p = dst + MSOCK_DERP_HEADER_LEN;
    msock_derp_header_write(dst, (msock_derp_header){.type = type, .len = (uint32_t)len});
    if (prefix != NULL) {
      memcpy(p, prefix->b, prefix_len);
      p += prefix_len;
    }
    msock_box_seal(&shared, env, (const uint8_t *)text, text_len, p);
    result = (ptrdiff_t)(MSOCK_DERP_HEADER_LEN + len);
  }
  msock_wipe(&shared, sizeof shared);
  json_object_put(obj);
  return result;
}

static bool add(json_object *obj, const char *name, json_object *value) {
  if (value == NULL || json_object_object_add(obj, name, value) != 0) {
    json_object_put(value);
    return false;
  }
  return true;
}

ptrdiff_t msock_derp_client_info_seal(const msock_derp_client_info *info,
                                      const msock_node_private *me, const msock_node_key *server,
                                      const msock_env *env, uint8_t *dst, size_t cap) {
  char mesh_hex[2 * sizeof info->mesh_key + 1];
  json_object *obj = json_object_new_object();
  bool ok = obj != NULL;

  if (ok && info->has_mesh_key) {
    msock_hex_encode(info->mesh_key, sizeof info->mesh_key, mesh_hex);
    ok = add(obj, "meshKey", json_object_new_string(mesh_hex));
    msock_wipe(mesh_hex, sizeof mesh_hex);
  }
  if (ok && info->version != 0) {
    ok = add(obj, "version", json_object_new_int64(info->version));
  }
  ok = ok && add(obj, "CanAckPings", json_object_new_boolean(info->can_ack_pings));
  if (ok && info->is_prober) {
    ok = add(obj, "IsProber", json_object_new_boolean(true));
  }
  if (ok && info->app_name[0] != '\0') {
    const size_t n = strnlen(info->app_name, sizeof info->app_name);
    ok = add(obj, "AppName", json_object_new_string_len(info->app_name, (int)n));
  }
  if (!ok) {
    json_object_put(obj);
    return MSOCK_ERR_NOMEM;
  }
  const msock_node_key self = msock_node_private_public(me);
  return seal_json(obj, MSOCK_DERP_CLIENT_INFO, &self, me, server, env, dst, cap);
}

ptrdiff_t msock_derp_server_info_seal(const msock_derp_server_info *info,
                                      const msock_node_private *server,
                                      const msock_node_key *client, const msock_env *env,
                                      uint8_t *dst, size_t cap) {
  json_object *obj = json_object_new_object();
  bool ok = obj != NULL;

  if (ok && info->version != 0) {
    ok = add(obj, "version", json_object_new_int64(info->version));
  }
  if (ok && info->bytes_per_second != 0) {
    ok = add(obj, "TokenBucketBytesPerSecond", json_object_new_uint64(info->bytes_per_second));
  }
  if (ok && info->burst_bytes != 0) {
    ok = add(obj, "TokenBucketBytesBurst", json_object_new_uint64(info->burst_bytes));
  }
  if (!ok) {
    json_object_put(obj);
    return MSOCK_ERR_NOMEM;
  }
  return seal_json(obj, MSOCK_DERP_SERVER_INFO, NULL, server, client, env, dst, cap);
}

/* ---- opening ---- */

/* The one JSON value in text[0..len), text[len] = NUL. *out is NULL for JSON null. */
static msock_err parse_json(const char *text, size_t len, json_object **out) {
  while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL) {
    len--;
  }
  if (len == 0 || len >= INT_MAX) {
    return MSOCK_ERR_INVALID;
  }
  json_tokener *tok = json_tokener_new_ex(JSON_DEPTH_MAX);
  if (tok == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
  *out = json_tokener_parse_ex(tok, text, (int)len);
  enum json_tokener_error err = json_tokener_get_error(tok);
  size_t end = json_tokener_get_parse_end(tok);
  if (err == json_tokener_continue) { /* a bare word or number ends only at a delimiter */
    *out = json_tokener_parse_ex(tok, " ", 1);
    err = json_tokener_get_error(tok);
    end = len;
  }
  json_tokener_free(tok);
  if (err == json_tokener_success && end == len) {
    return MSOCK_OK;
  }
  json_object_put(*out);
  *out = NULL;
  return MSOCK_ERR_INVALID;
}

/* Opens nonce|box and parses the JSON in it; null gives an empty *out. Caller: json_object_put. */
static msock_err open_json(const uint8_t *box, size_t len, const msock_node_private *me,
                           const msock_node_key *from, json_object **out) {
  msock_box_shared shared = {0};
  *out = NULL;
  if (len < MSOCK_BOX_OVERHEAD) {
    return MSOCK_ERR_AUTH;
  }
  const size_t text_len = len - MSOCK_BOX_OVERHEAD;
  char *text = malloc(text_len + 1);
  if (text == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  msock_err err = msock_box_precompute(&shared, from->b, me->b);
  if (err == MSOCK_OK) {
    err = msock_box_open(&shared, box, len, (uint8_t *)text);
  }
  if (err == MSOCK_OK) {
    text[text_len] = '\0';
    err = parse_json(text, text_len, out);
  }
  msock_wipe(&shared, sizeof shared);
  msock_wipe(text, text_len + 1); /* may hold a mesh key */
  free(text);
  if (err == MSOCK_OK && *out != NULL && !json_object_is_type(*out, json_type_object)) {
    json_object_put(*out);
    *out = NULL;
    err = MSOCK_ERR_INVALID;
  }
  return err;
}

static int hex_value(char c) {
  static const char digits[] = "0123456789abcdef";
  const char lower = c >= 'A' && c <= 'F' ? (char)(c + 32) : c;
  const char *at = lower != '\0' ? strchr(digits, lower) : NULL;
  return at != NULL ? (int)(at - digits) : -1;
}

/* PEER: any case; anything but 64 digits, null included, refuses the login. */
static bool read_mesh_key(json_object *v, msock_derp_client_info *info) {
  if (!json_object_is_type(v, json_type_string) ||
      json_object_get_string_len(v) != 2 * (int)sizeof info->mesh_key) {
    return false;
  }
  const char *text = json_object_get_string(v);
  for (size_t i = 0; i < sizeof info->mesh_key; i++) {
    const int hi = hex_value(text[2 * i]);
    const int lo = hex_value(text[2 * i + 1]);
    if (hi < 0 || lo < 0) {
      return false;
    }
    info->mesh_key[i] = (uint8_t)(hi << 4 | lo);
  }
  info->has_mesh_key = true;
  return true;
}

/* One field of ClientInfo; null leaves a plain field as it was. */
static bool read_client_field(const char *name, json_object *v, msock_derp_client_info *info) {
  if (strcasecmp(name, "meshKey") == 0) {
    return read_mesh_key(v, info);
  }
  if (v == NULL) {
    return true;
  }
  if (strcasecmp(name, "version") == 0) {
    info->version = json_object_get_int64(v);
    return json_object_is_type(v, json_type_int);
  }
  if (strcasecmp(name, "CanAckPings") == 0) {
    info->can_ack_pings = json_object_get_boolean(v);
    return json_object_is_type(v, json_type_boolean);
  }
  if (strcasecmp(name, "IsProber") == 0) {
    info->is_prober = json_object_get_boolean(v);
    return json_object_is_type(v, json_type_boolean);
  }
  if (strcasecmp(name, "AppName") == 0) {
    strncpy(info->app_name, json_object_get_string(v), sizeof info->app_name - 1);
    return json_object_is_type(v, json_type_string);
  }
  return true;
}

msock_err msock_derp_client_info_open(const uint8_t *payload, size_t len,
                                      const msock_node_private *server, msock_node_key *client,
                                      msock_derp_client_info *info) {
  msock_derp_frame f;
  msock_derp_client_info got = {0};
  json_object *obj = NULL;
  msock_err err = msock_derp_frame_decode(MSOCK_DERP_CLIENT_INFO, payload, len, &f);

  if (err != MSOCK_OK) {
    return err;
  }
  if (msock_node_key_is_zero(&f.u.client_info.key)) {
    return MSOCK_ERR_AUTH;
  }
  err = open_json(f.u.client_info.box, f.u.client_info.box_len, server, &f.u.client_info.key, &obj);
  if (err != MSOCK_OK) {
    return err;
  }
  if (obj != NULL) {
    json_object_object_foreach(obj, name, v) {
      if (!read_client_field(name, v, &got)) {
        err = MSOCK_ERR_INVALID;
      }
    }
  }
  json_object_put(obj);
  if (err == MSOCK_OK) {
    *client = f.u.client_info.key;
    *info = got;
  }
  msock_wipe(&got, sizeof got);
  return err;
}

/* Non-negative whole number; a negative one counts as no limit. */
static bool read_count(json_object *v, uint64_t *out) {
  if (!json_object_is_type(v, json_type_int)) {
    return false;
  }
  *out = json_object_get_int64(v) < 0 ? 0 : json_object_get_uint64(v);
  return true;
}

static bool read_server_field(const char *name, json_object *v, msock_derp_server_info *info) {
  if (v == NULL) {
    return true;
  }
  if (strcasecmp(name, "version") == 0) {
    info->version = json_object_get_int64(v);
    return json_object_is_type(v, json_type_int);
  }
  if (strcasecmp(name, "TokenBucketBytesPerSecond") == 0) {
    return read_count(v, &info->bytes_per_second);
  }
  if (strcasecmp(name, "TokenBucketBytesBurst") == 0) {
    return read_count(v, &info->burst_bytes);
  }
  return true;
}

msock_err msock_derp_server_info_open(const uint8_t *payload, size_t len,
                                      const msock_node_private *me, const msock_node_key *server,
                                      msock_derp_server_info *out) {
  msock_derp_server_info got = {0};
  json_object *obj = NULL;
  msock_err err = open_json(payload, len, me, server, &obj);

  if (err != MSOCK_OK) {
    return err;
  }
  if (obj != NULL) {
    json_object_object_foreach(obj, name, v) {
      if (!read_server_field(name, v, &got)) {
        err = MSOCK_ERR_INVALID;
      }
    }
  }
  json_object_put(obj);
  if (err == MSOCK_OK) {
    *out = got;
  }
  return err;
}
