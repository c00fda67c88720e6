/* What the reference relay did with recorded frames, asked of derp/server.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "crypto/box.h"
#include "crypto/init.h"
#include "tests/unit/relay_rig.h"
#include "tests/unit/testing.h"
#include "tests/unit/vectors.h"

#define FILE_NAME "derp.json"
#define T0 (1000 * MSOCK_SEC)

static json_object *root;
static testing_rng rng;
static msock_env env;

static json_object *get(json_object *o, const char *field) {
  return vectors_get(FILE_NAME, o, field);
}

static const char *str(json_object *o, const char *field) {
  return vectors_str(FILE_NAME, o, field);
}

static msock_node_private private_of(const char *name) {
  msock_node_private k = {{0}};
  if (!msock_hex_decode(str(get(get(root, "keys"), name), "private_hex"), k.b, sizeof k.b)) {
    vectors_case(FILE_NAME, name, false, "not a key");
  }
  return k;
}

/* Hex that may be cut: "...(N bytes in all, ...)", the rest then being zeros. */
static uint8_t *expand(const char *text, size_t *len, bool *is_cut) {
  const char *dots = strstr(text, "...");
  const size_t have = (dots != NULL ? (size_t)(dots - text) : strlen(text)) / 2;
  *len = have;
  *is_cut = dots != NULL;
  if (dots != NULL && (sscanf(dots, "...(%zu bytes", len) != 1 || *len < have)) {
    vectors_case(FILE_NAME, "hex", false, "not in the format");
    *len = have;
  }
  uint8_t *p = calloc(1, *len + 1);
  if (!msock_hex_decode(text, p, have)) {
    vectors_case(FILE_NAME, "hex", false, "not hex");
  }
  return p;
}

/* A cut login frame: the same length, of the same client, with blanks behind the JSON. */
static void reseal(uint8_t *frame, size_t len) {
  const msock_node_private a = private_of("a");
  const msock_node_private server = private_of("server");
  const size_t overhead = MSOCK_DERP_HEADER_LEN + MSOCK_KEY_LEN + MSOCK_BOX_OVERHEAD;
  msock_box_shared shared;
  relay_client who;
  msock_derp_server *s = msock_derp_server_new(&env, &server);
  relay_client_init(&who, &env, s, T0, &a);
  const msock_node_key to = msock_derp_server_key(s);
  if (len > overhead + 2 && msock_box_precompute(&shared, to.b, a.b) == MSOCK_OK) {
    const size_t n = len - overhead;
    char *json = malloc(n);
    memset(json, ' ', n);
    memcpy(json, "{}", 2);
    memcpy(frame + MSOCK_DERP_HEADER_LEN, who.key.b, MSOCK_KEY_LEN);
    msock_box_seal(&shared, &env, (const uint8_t *)json, n,
                   frame + MSOCK_DERP_HEADER_LEN + MSOCK_KEY_LEN);
    free(json);
  }
  relay_client_free(&who);
  msock_derp_server_free(s);
}

/* closes: SERVER-04 */
static void check_login(json_object *c) {
  static const char head[] = "GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\n\r\n";
  const msock_node_private server = private_of("server");
  const bool want = json_object_get_boolean(get(c, "accepted"));
  size_t len;
  bool is_cut;
  uint8_t *frame = expand(str(c, "first_frame_hex"), &len, &is_cut);
  relay_client who;
  msock_derp_server *s = msock_derp_server_new(&env, &server);

  if (is_cut) {
    reseal(frame, len);
  }
  relay_client_init(&who, &env, s, T0, NULL);
  relay_client_write(&who, T0, head, sizeof head - 1);
  const bool kept = relay_client_write(&who, T0, frame, len);
  const bool accepted = kept && msock_derp_server_count(s) == 1;
  /* refused: closed at once, or, where the frame is not complete, by the login's deadline */
  msock_derp_server_on_expiry(s, T0 + MSOCK_DERP_SERVER_LOGIN_US);
  const bool closed = msock_derp_server_is_done(s, who.conn);
  vectors_case(FILE_NAME, str(c, "name"), accepted == want && closed != want,
               "relay: accepted %d, closed %d", accepted, closed);
  relay_client_free(&who);
  msock_derp_server_free(s);
  free(frame);
}

/* A client with the mesh key, or without. */
static void log_in(relay_client *who, msock_derp_server *s, bool is_mesh) {
  msock_derp_client_info info = msock_derp_client_info_default();
  msock_derp_server_settings set = msock_derp_server_settings_default();
  memset(set.mesh_key, 7, sizeof set.mesh_key);
  set.has_mesh_key = true;
  msock_derp_server_configure(s, T0, &set);
  info.has_mesh_key = is_mesh;
  memset(info.mesh_key, 7, sizeof info.mesh_key);
  relay_client_login_as(who, T0, &info);
}

/* closes: SERVER-08 SERVER-16 */
static void check_established(json_object *c) {
  const msock_node_private server = private_of("server"), a = private_of("a");
  const bool want = json_object_get_boolean(get(c, "connection_kept"));
  size_t len;
  bool is_cut;
  uint8_t *sent = expand(str(c, "sent_hex"), &len, &is_cut);
  relay_client who;
  msock_derp_frame f = {.type = MSOCK_DERP_PING, .u.ping = "12345678"};
  msock_derp_server *s = msock_derp_server_new(&env, &server);

  relay_client_init(&who, &env, s, T0, &a);
  log_in(&who, s, json_object_get_boolean(get(c, "mesh_client")));
  bool kept = relay_client_write(&who, T0, sent, len);
  bool pong = kept && relay_client_frame(&who, T0, &f);
  while (pong && relay_client_take(&who, T0, &f) && f.type != MSOCK_DERP_PONG) {
  }
  pong = pong && f.type == MSOCK_DERP_PONG;
  kept = !msock_derp_server_is_done(s, who.conn);
  vectors_case(FILE_NAME, str(c, "name"), kept == want && pong == want,
               "relay: kept %d, still answers %d", kept, pong);
  relay_client_free(&who);
  msock_derp_server_free(s);
  free(sent);
}

/* --- duplicate_key_policy: steps in words, frames as data --- */

typedef struct trio {
  msock_derp_server *s;
  relay_client a1, a2, b;
} trio;

static relay_client *named(trio *t, const char *name) {
  return strcmp(name, "a1") == 0 ? &t->a1 : strcmp(name, "a2") == 0 ? &t->a2 : &t->b;
}

/* Does what the step's text says. False: a form that this test does not know. */
static bool act(trio *t, const char *step) {
  const char *data = strstr(step, " sends data ");
  char who[4] = "";
  unsigned byte = 0;
  if (data != NULL && sscanf(data, " sends data %2x", &byte) == 1) {
    const char *at = data;
    while (at > step && at[-1] != ' ') {
      at--;
    }
    snprintf(who, sizeof who, "%.*s", (int)(data - at), at);
    relay_client *from = named(t, who);
    const uint8_t payload = (uint8_t)byte;
    return relay_client_packet(from, T0, from == &t->b ? &t->a1.key : &t->b.key, &payload, 1);
  }
  if (sscanf(step, "%2s sends a Ping", who) == 1 && strstr(step, "sends a Ping") != NULL) {
    const msock_derp_frame f = {.type = MSOCK_DERP_PING, .u.ping = {9}};
    return relay_client_frame(named(t, who), T0, &f);
  }
  if (sscanf(step, "%2s closes", who) == 1 && strstr(step, " closes ") != NULL) {
    relay_client_close(named(t, who), T0);
    return true;
  }
  return false;
}

static bool frame_is(const msock_derp_frame *f, json_object *want) {
  const char *type = str(want, "type");
  char hex[2 * MSOCK_KEY_LEN + 1], data[256];
  if (strcmp(type, "RecvPacket") == 0 && f->type == MSOCK_DERP_RECV_PACKET) {
    msock_hex_encode(f->u.packet.key.b, MSOCK_KEY_LEN, hex);
    msock_hex_encode(f->u.packet.data, f->u.packet.len < 100 ? f->u.packet.len : 100, data);
    return strcmp(hex, str(want, "src")) == 0 && strcmp(data, str(want, "payload")) == 0;
  }
  if (strcmp(type, "Pong") == 0 && f->type == MSOCK_DERP_PONG) {
    msock_hex_encode(f->u.ping, sizeof f->u.ping, hex);
    return strcmp(hex, str(want, "data")) == 0;
  }
  if (strcmp(type, "PeerGone") == 0 && f->type == MSOCK_DERP_PEER_GONE) {
    msock_hex_encode(f->u.peer_gone.key.b, MSOCK_KEY_LEN, hex);
    return strcmp(hex, str(want, "peer")) == 0 &&
           f->u.peer_gone.reason == json_object_get_int(get(want, "reason"));
  }
  return false;
}

/* closes: SERVER-13 */
static void check_duplicates(json_object *steps) {
  const msock_node_private server = private_of("server"), a = private_of("a"), b = private_of("b");
  trio t = {.s = msock_derp_server_new(&env, &server)};
  relay_client *const all[] = {&t.a1, &t.a2, &t.b};
  relay_client_init(&t.a1, &env, t.s, T0, &a);
  relay_client_login(&t.a1, T0);
  relay_client_init(&t.a2, &env, t.s, T0, &a);
  relay_client_login(&t.a2, T0);
  relay_client_init(&t.b, &env, t.s, T0, &b);
  relay_client_login(&t.b, T0);
  for (size_t i = 0; i < json_object_array_length(steps); i++) {
    json_object *c = json_object_array_get_idx(steps, i);
    json_object *frames = get(c, "frames_received");
    msock_derp_frame f;
    bool ok = act(&t, str(c, "step"));
    for (size_t k = 0; k < json_object_array_length(frames); k++) {
      json_object *want = json_object_array_get_idx(frames, k);
      ok = ok && relay_client_take(named(&t, str(want, "on")), T0, &f) && frame_is(&f, want);
    }
    for (size_t k = 0; k < 3; k++) { /* and nothing else */
      ok = !(all[k]->open && relay_client_take(all[k], T0, &f)) && ok;
    }
    vectors_case(FILE_NAME, str(c, "step"), ok, "another frame came, or none");
  }
  for (size_t k = 0; k < 3; k++) {
    relay_client_free(all[k]);
  }
  msock_derp_server_free(t.s);
}

static void each(json_object *list, void (*check)(json_object *)) {
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    check(json_object_array_get_idx(list, i));
  }
}

int main(void) {
  root = vectors_open(FILE_NAME);
  if (root == NULL || msock_crypto_init() != MSOCK_OK) {
    return vectors_exit();
  }
  env = testing_env(&rng, 21);
  each(get(root, "server_behaviour_login"), check_login);
  each(get(root, "server_behaviour_established"), check_established);
  check_duplicates(get(root, "duplicate_key_policy"));
  vectors_done(FILE_NAME);
  json_object_put(root);
  return vectors_exit();
}
