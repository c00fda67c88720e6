/* The tiny control server's mind: two and more of our client machines on it, by byte pipes and
 * virtual time; then requests by hand. */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/x25519.h"
#include "tests/unit/tailnet_rig.h"

static trig r;
static const trig_options closed_net = {.auth_key = TRIG_KEY};
static const trig_options open_net = {0};

static void join_two(trig_client **a, trig_client **b) {
  trig_init(&r, &closed_net);
  *a = trig_client_add(&r, "alice", TRIG_KEY);
  *b = trig_client_add(&r, "Bob's box", TRIG_KEY);
  trig_pump(&r);
  ck_assert(trig_running(*a) && trig_running(*b));
}

static bool has_endpoint(const msock_peer *p, const char *text) {
  char got[MSOCK_ADDR_TEXT_MAX];
  for (size_t i = 0; i < p->n_endpoints; i++) {
    if (strcmp(msock_addr_text(&p->endpoints[i], got), text) == 0) {
      return true;
    }
  }
  return false;
}

/* closes: CTRL-73 (join and map; packets: interop tscontrol_two_tsnodes) */
START_TEST(two_clients_join_and_see_each_other) {
  trig_client *a, *b;
  char text[MSOCK_PREFIX_TEXT_MAX];
  if (_i == 1) {
    trig_init(&r, &closed_net);
    r.chunk = 1; /* a byte at a time */
    a = trig_client_add(&r, "alice", TRIG_KEY);
    b = trig_client_add(&r, "Bob's box", TRIG_KEY);
    trig_pump(&r);
  } else {
    join_two(&a, &b);
  }
  ck_assert_uint_eq(msock_tailnet_count(r.t), 2);
  ck_assert_uint_eq(a->errors + b->errors, 0);
  const msock_peer *self = msock_netmap_self(msock_control_netmap(a->c));
  ck_assert_str_eq(self->name, "alice.test.example.");
  ck_assert_str_eq(msock_prefix_text(&self->addresses[0], text), "100.64.0.1/32");
  const msock_peer *peer = trig_sees(a, b);
  ck_assert_ptr_nonnull(peer);
  ck_assert_str_eq(peer->name, "bobsbox.test.example.");
  ck_assert_str_eq(peer->hostname, "Bob's box");
  ck_assert_str_eq(msock_prefix_text(&peer->addresses[0], text), "100.64.0.2/32");
  ck_assert_str_eq(msock_prefix_text(&peer->addresses[1], text), "fd7a:115c:a1e0::2/128");
  ck_assert_uint_eq(peer->n_allowed, 2);
  ck_assert_uint_eq(peer->online, MSOCK_PEER_ONLINE_YES);
  ck_assert_uint_eq(peer->disco.b[0], 2);
  ck_assert_ptr_nonnull(trig_sees(b, a));
  const msock_derp_map *map = msock_netmap_derp_map(msock_control_netmap(a->c));
  ck_assert_uint_eq(map->n_regions, 1);
  ck_assert_str_eq(map->regions[0].nodes[0].host_name, "relay.example");
  ck_assert_uint_eq(msock_netmap_filter(msock_control_netmap(a->c))->n_rules, 1);
  ck_assert_str_eq(msock_netmap_domain(msock_control_netmap(a->c)), "test.example");
  trig_free(&r);
}
END_TEST

START_TEST(changes_of_one_reach_the_other) {
  trig_client *a, *b;
  join_two(&a, &b);
  trig_set_home(a, 900);
  trig_set_endpoint(a, "192.0.2.7:4567");
  trig_until(&r, r.now + MSOCK_SEC);
  const msock_peer *peer = trig_sees(b, a);
  ck_assert_uint_eq(peer->home_derp, 900);
  ck_assert(has_endpoint(peer, "192.0.2.7:4567"));
  trig_set_endpoint(a, "[2001:db8::7]:99");
  trig_until(&r, r.now + MSOCK_SEC);
  peer = trig_sees(b, a);
  ck_assert(has_endpoint(peer, "[2001:db8::7]:99") && peer->n_endpoints == 1);
  const msock_hostinfo renamed = {
      .hostname = "ALICE-2", .os = "linux", .app_version = "0.1", .backend_log_id = "00ff"};
  ck_assert_int_eq(msock_control_set_hostinfo(a->c, r.now, &renamed), MSOCK_OK);
  trig_until(&r, r.now + MSOCK_SEC);
  ck_assert_str_eq(trig_sees(b, a)->name, "alice-2.test.example.");
  msock_disco_key disco = {{0xd1}};
  msock_control_set_disco_key(a->c, r.now, &disco);
  trig_until(&r, r.now + MSOCK_SEC);
  ck_assert_uint_eq(trig_sees(b, a)->disco.b[0], 0xd1);
  ck_assert_uint_eq(b->errors, 0);
  trig_free(&r);
}
END_TEST

START_TEST(names_are_unique_and_whole_characters) {
  char long_name[80];
  trig_init(&r, &open_net);
  memset(long_name, 'x', 62);
  strcpy(long_name + 62, "\xc3\xa4\xc3\xb6"); /* the 63rd byte would be half of one */
  trig_client *a = trig_client_add(&r, "box", NULL);
  trig_pump(&r);
  trig_client *b = trig_client_add(&r, "box", NULL);
  trig_client *c = trig_client_add(&r, "\xe2\x98\x83", NULL);
  trig_client *d = trig_client_add(&r, long_name, NULL);
  trig_pump(&r);
  ck_assert_str_eq(trig_sees(b, a)->name, "box.test.example.");
  ck_assert_str_eq(trig_sees(a, b)->name, "box-1.test.example.");
  ck_assert_str_eq(trig_sees(a, c)->name, "node.test.example.");
  ck_assert_uint_eq(strlen(trig_sees(a, d)->hostname), 62);
  ck_assert_uint_eq(strlen(trig_sees(a, d)->name), 55 + strlen(".test.example."));
  trig_free(&r);
}
END_TEST

START_TEST(a_node_that_goes_is_offline_and_back_again_online) {
  trig_client *a, *b;
  join_two(&a, &b);
  trig_cut(b);
  ck_assert_uint_eq(trig_sees(a, b)->online, MSOCK_PEER_ONLINE_NO);
  b->cut = false;
  trig_until(&r, r.now + 60 * MSOCK_SEC);
  ck_assert(trig_running(b));
  ck_assert_uint_eq(trig_sees(a, b)->online, MSOCK_PEER_ONLINE_YES);
  ck_assert_uint_eq(msock_tailnet_count(r.t), 2);
  /* a second stream of the same machine takes the place of the first; nobody sees it leave */
  msock_control_on_link_change(b->c, r.now, true);
  trig_until(&r, r.now + 60 * MSOCK_SEC);
  ck_assert_uint_eq(trig_sees(a, b)->online, MSOCK_PEER_ONLINE_YES);
  trig_free(&r);
}
END_TEST

START_TEST(logout_removes_and_the_machine_may_come_again) {
  trig_client *a, *b;
  join_two(&a, &b);
  msock_control_logout(b->c, r.now);
  trig_pump(&r);
  ck_assert(b->logged_out);
  ck_assert_uint_eq(msock_tailnet_count(r.t), 1);
  ck_assert_uint_eq(msock_netmap_count(msock_control_netmap(a->c)), 0);
  ck_assert_int_eq(msock_control_login(b->c, r.now, TRIG_KEY), MSOCK_OK);
  trig_until(&r, r.now + 5 * MSOCK_SEC);
  ck_assert(trig_running(b));
  const msock_peer *peer = trig_sees(a, b);
  ck_assert_ptr_nonnull(peer);
  ck_assert_uint_eq(peer->id, 3); /* ids are not used again */
  trig_free(&r);
}
END_TEST

static const char *const wrong_keys[] = {NULL, "", "key-of-another-tailnet", TRIG_KEY "x",
                                         "key-of"};

START_TEST(a_wrong_key_is_refused) {
  trig_init(&r, &closed_net);
  trig_client *a = trig_client_add(&r, "alice", wrong_keys[_i]);
  trig_until(&r, r.now + MSOCK_SEC);
  ck_assert(!trig_running(a));
  ck_assert_int_eq(msock_control_get_state(a->c), MSOCK_CONTROL_NEEDS_LOGIN);
  ck_assert_int_eq(a->last_error, MSOCK_CONTROL_E_AUTHKEY_INVALID);
  ck_assert_uint_eq(msock_tailnet_count(r.t), 0);
  ck_assert_int_eq(msock_control_login(a->c, r.now, TRIG_KEY), MSOCK_OK);
  trig_until(&r, r.now + MSOCK_SEC);
  ck_assert(trig_running(a));
  trig_free(&r);
}
END_TEST

/* A node that is known needs no key: restart with the stored node key. */
START_TEST(a_known_node_needs_no_key_and_a_new_node_key_does) {
  trig_client *a, *b;
  join_two(&a, &b);
  const msock_node_private before = *msock_control_node_private(a->c);
  ck_assert_int_eq(msock_control_login(a->c, r.now, "not-the-key"), MSOCK_OK);
  trig_until(&r, r.now + MSOCK_SEC);
  ck_assert_int_eq(a->last_error, MSOCK_CONTROL_E_AUTHKEY_INVALID);
  ck_assert_int_eq(msock_control_login(a->c, r.now, TRIG_KEY), MSOCK_OK);
  trig_until(&r, r.now + 2 * MSOCK_SEC);
  ck_assert(trig_running(a));
  ck_assert_int_ne(memcmp(&before, msock_control_node_private(a->c), sizeof before), 0);
  ck_assert_uint_eq(trig_sees(b, a)->id, 1); /* the same node by its machine key */
  trig_free(&r);
}
END_TEST

START_TEST(keep_alive_at_its_tick) {
  trig_client *a, *b;
  join_two(&a, &b);
  trig_until(&r, r.now + 10 * MSOCK_SEC); /* the opening updates are over */
  trig_set_endpoint(a, "192.0.2.7:4567"); /* a message to b: its keep-alive counts from here */
  const size_t before = trig_keep_alives(b);
  trig_until(&r, r.now + 250 * MSOCK_MS);
  ck_assert(has_endpoint(trig_sees(b, a), "192.0.2.7:4567"));
  const uint64_t told = r.now;
  trig_until(&r, told + MSOCK_TAILNET_KEEPALIVE_US - 1);
  ck_assert_uint_eq(trig_keep_alives(b), before);
  trig_until(&r, told + MSOCK_TAILNET_KEEPALIVE_US);
  ck_assert_uint_eq(trig_keep_alives(b), before + 1);
  trig_until(&r, told + 2 * MSOCK_TAILNET_KEEPALIVE_US);
  ck_assert_uint_eq(trig_keep_alives(b), before + 2);
  trig_until(&r, told + 600 * MSOCK_SEC); /* and nothing falls apart in ten minutes */
  ck_assert(trig_running(a) && trig_running(b));
  ck_assert_uint_eq(a->dials + b->dials, 2);
  trig_free(&r);
}
END_TEST

/* A server that lost its memory: nodes get 404 and register again by themselves. */
START_TEST(state_goes_out_and_comes_back) {
  trig_client *a, *b;
  size_t len = 0;
  join_two(&a, &b);
  ck_assert(msock_tailnet_is_dirty(r.t));
  char *state = msock_tailnet_state(r.t, &len);
  ck_assert(!msock_tailnet_is_dirty(r.t));
  ck_assert_uint_eq(strlen(state), len);
  trig_set_endpoint(a, "192.0.2.7:4567"); /* is not kept */
  trig_until(&r, r.now + MSOCK_SEC);
  ck_assert(!msock_tailnet_is_dirty(r.t));
  msock_tailnet *old = r.t;
  const msock_tailnet_cfg cfg = {.domain = "test.example", .derp_map = &r.map};
  r.t = msock_tailnet_new(&r.env, &cfg);
  ck_assert_int_eq(msock_tailnet_load(r.t, state), MSOCK_OK);
  ck_assert(!msock_tailnet_is_dirty(r.t));
  ck_assert_uint_eq(msock_tailnet_count(r.t), 2);
  char *again = msock_tailnet_state(r.t, &len);
  ck_assert_str_eq(state, again);
  trig_cut(a);
  trig_cut(b);
  a->cut = b->cut = false;
  trig_until(&r, r.now + 60 * MSOCK_SEC);
  ck_assert(trig_running(a) && trig_running(b));
  ck_assert_uint_eq(trig_sees(a, b)->id, 2);
  free(state);
  free(again);
  msock_tailnet_free(old);
  trig_free(&r);
}
END_TEST

static const char *const bad_states[] = {
    "",
    "[]",
    "{\"version\":2,\"last_id\":1,\"nodes\":[]}",
    "{\"version\":1,\"last_id\":1,\"nodes\":{}}",
    "{\"version\":1,\"last_id\":1,\"nodes\":[1]}",
    "{\"version\":1,\"last_id\":0,\"nodes\":[{\"id\":1,\"created_us\":1}]}",
    /* an id above last_id; the same machine twice */
    "{\"version\":1,\"last_id\":1,\"nodes\":[{\"id\":2,\"name\":\"a\",\"created_us\":1,\"machine\":"
    "\"mkey:1111111111111111111111111111111111111111111111111111111111111111\",\"key\":"
    "\"nodekey:1111111111111111111111111111111111111111111111111111111111111111\"}]}",
    "{\"version\":1,\"last_id\":2,\"nodes\":[{\"id\":1,\"name\":\"a\",\"created_us\":1,\"machine\":"
    "\"mkey:1111111111111111111111111111111111111111111111111111111111111111\",\"key\":"
    "\"nodekey:1111111111111111111111111111111111111111111111111111111111111111\"},{\"id\":2,"
    "\"name\":\"b\",\"created_us\":1,\"machine\":"
    "\"mkey:1111111111111111111111111111111111111111111111111111111111111111\",\"key\":"
    "\"nodekey:2222222222222222222222222222222222222222222222222222222222222222\"}]}",
};

START_TEST(bad_states_leave_it_empty) {
  trig_init(&r, &open_net);
  ck_assert_int_eq(msock_tailnet_load(r.t, bad_states[_i]), MSOCK_ERR_INVALID);
  ck_assert_uint_eq(msock_tailnet_count(r.t), 0);
  trig_client *a = trig_client_add(&r, "a", NULL);
  trig_pump(&r);
  ck_assert_uint_eq(msock_netmap_self(msock_control_netmap(a->c))->id, 1);
  trig_free(&r);
}
END_TEST

START_TEST(fake_peers_fill_the_netmap) {
  const trig_options o = {.fakes = 3000};
  trig_init(&r, &o);
  trig_client *a = trig_client_add(&r, "a", NULL);
  trig_client *b = trig_client_add(&r, "b", NULL);
  trig_pump(&r);
  ck_assert_uint_eq(msock_netmap_count(msock_control_netmap(a->c)), 3001);
  const msock_peer *fake = msock_netmap_find_name(msock_control_netmap(b->c), "fake-2999");
  ck_assert_ptr_nonnull(fake);
  ck_assert_uint_eq(fake->home_derp, 900);
  ck_assert(!fake->shadowed);
  trig_free(&r);
}
END_TEST

/* --- requests by hand --- */

typedef struct answer {
  int status;
  bool begun;
  char body[65536];
  size_t len;
} answer;

static answer got;

static void ask(const char *method, const char *path, const char *body,
                const msock_machine_key *m) {
  msock_server_request q = {.stream = 1, .body = (const uint8_t *)body, .body_len = strlen(body)};
  msock_tailnet_out o;
  snprintf(q.method, sizeof q.method, "%s", method);
  snprintf(q.path, sizeof q.path, "%s", path);
  memset(&got, 0, sizeof got);
  msock_tailnet_on_request(r.t, r.now, r.wall, 9, m, &q);
  while (msock_tailnet_next_output(r.t, &o)) {
    if (o.conn == 9) {
      got.status = o.status ? o.status : got.status;
      got.begun = got.begun || o.kind == MSOCK_TAILNET_BEGIN;
      if (o.len > 0) {
        ck_assert_uint_lt(got.len + o.len, sizeof got.body);
        memcpy(got.body + got.len, o.body, o.len);
        got.len += o.len;
      }
    }
    free(o.body);
  }
}

#define NODE_KEY "nodekey:3333333333333333333333333333333333333333333333333333333333333333"
static const msock_machine_key who = {{7}};

static const struct {
  const char *method, *path, *body;
  int status;
} odd[] = {
    {"GET", "/machine/register", "", 405},
    {"PUT", "/machine/map", "{}", 405},
    {"POST", "/machine/whoami", "{}", 501},
    {"GET", "/machine/ssh/action/x", "", 501},
    {"POST", "/", "{}", 404},
    {"POST", "machine/map", "{}", 404},
    {"POST", "/machine/map?x", "{}", 501},
    {"POST", "/machine/register", "", 400},
    {"POST", "/machine/register", "{", 400},
    {"POST", "/machine/register", "[]", 400},
    {"POST", "/machine/register", "null", 400},
    {"POST", "/machine/register", "\"x\"", 400},
    {"POST", "/machine/register", "{\"NodeKey\":\"\xff\xfe\"}", 400},
    {"POST", "/machine/register", "{}", 400},
    {"POST", "/machine/register", "{\"NodeKey\":\"nodekey:00\"}", 400},
    {"POST", "/machine/register",
     "{\"NodeKey\":\"nodekey:0000000000000000000000000000000000000000000000000000000000000000\"}",
     400},
    {"POST", "/machine/register", "{\"NodeKey\":7}", 400},
    {"POST", "/machine/map", "{}", 404},
    {"POST", "/machine/map", "{\"NodeKey\":\"" NODE_KEY "\"}", 404},
    {"POST", "/machine/map", "{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", 400},
};

/* closes: CTRL-75 (paths inside Noise, bad JSON) */
START_TEST(odd_requests_get_the_right_status) {
  trig_init(&r, &open_net);
  ask(odd[_i].method, odd[_i].path, odd[_i].body, &who);
  ck_assert_int_eq(got.status, odd[_i].status);
  ck_assert_uint_eq(msock_tailnet_count(r.t), 0);
  trig_free(&r);
}
END_TEST

/* Members of other types than they should be, and texts that would break out of our JSON. */
START_TEST(odd_members_do_no_harm) {
  static const char *const bodies[] = {
      "{\"NodeKey\":\"" NODE_KEY "\",\"Hostinfo\":7,\"Auth\":[],\"Expiry\":3}",
      "{\"NodeKey\":\"" NODE_KEY "\",\"Hostinfo\":{\"Hostname\":{},\"OS\":[],\"NetInfo\":\"x\"}}",
      "{\"NodeKey\":\"" NODE_KEY
      "\",\"Hostinfo\":{\"Hostname\":\"\\\"},\\\\\\u0001\\n\",\"OS\":\"\\\"\"}}",
      "{\"NodeKey\":\"" NODE_KEY
      "\",\"Endpoints\":[1,null,\"x\",\"1.2.3.4:5\\\"\",\"[fe80::1%eth0]:"
      "1\",\"192.0.2.1:7\"],\"DiscoKey\":\"discokey:zz\"}",
  };
  trig_init(&r, &open_net);
  ask("POST", "/machine/register", bodies[0], &who);
  ck_assert_int_eq(got.status, 200);
  for (size_t i = 0; i < 4; i++) {
    ask("POST", "/machine/register", bodies[i], &who);
    ask("POST", "/machine/map", bodies[i], &who);
    ck_assert_int_eq(got.status, 200);
  }
  ask("POST", "/machine/map",
      "{\"NodeKey\":\"" NODE_KEY "\",\"Stream\":true,\"Hostinfo\":{\"Hostname\":\"q\\\"\\u0007\"}}",
      &who);
  ck_assert(got.begun);
  ck_assert_uint_gt(got.len, 4);
  const size_t len = (size_t)(uint8_t)got.body[0] | (size_t)(uint8_t)got.body[1] << 8;
  ck_assert_uint_eq(len + 4, got.len); /* plain JSON behind its length: no Compress was asked */
  json_object *o = json_tokener_parse(got.body + 4);
  ck_assert_msg(o != NULL, "%s", got.body + 4);
  json_object *node = json_object_object_get(o, "Node");
  ck_assert_str_eq(json_object_get_string(json_object_object_get(
                       json_object_object_get(node, "Hostinfo"), "Hostname")),
                   "q\"\a");
  ck_assert_uint_eq(json_object_array_length(json_object_object_get(node, "Endpoints")), 1);
  ck_assert_ptr_null(json_object_object_get(o, "Peers")); /* none: left out (control.md 4.3) */
  json_object_put(o);
  trig_free(&r);
}
END_TEST

START_TEST(zstd_where_it_is_asked_for) {
  trig_init(&r, &open_net);
  ask("POST", "/machine/register", "{\"NodeKey\":\"" NODE_KEY "\"}", &who);
  ask("POST", "/machine/map",
      "{\"NodeKey\":\"" NODE_KEY "\",\"Stream\":true,\"Compress\":\"zstd\"}", &who);
  ck_assert_mem_eq(got.body + 4, "\x28\xb5\x2f\xfd", 4);
  msock_tailnet_on_expiry(r.t, r.now + MSOCK_TAILNET_KEEPALIVE_US);
  msock_tailnet_out o;
  ck_assert(msock_tailnet_next_output(r.t, &o));
  ck_assert_mem_eq(o.body + 4, "\x28\xb5\x2f\xfd", 4);
  free(o.body);
  trig_free(&r);
}
END_TEST

START_TEST(the_tailnet_is_bounded) {
  trig_init(&r, &open_net);
  for (unsigned i = 0; i <= MSOCK_TAILNET_NODES_MAX; i++) {
    char body[200];
    const msock_machine_key m = {{(uint8_t)(i + 1), 1}};
    snprintf(body, sizeof body, "{\"NodeKey\":\"nodekey:%064x\"}", i + 1);
    ask("POST", "/machine/register", body, &m);
    ck_assert_int_eq(got.status, 200);
    ck_assert_int_eq(strstr(got.body, "full") != NULL, i == MSOCK_TAILNET_NODES_MAX);
  }
  ck_assert_uint_eq(msock_tailnet_count(r.t), MSOCK_TAILNET_NODES_MAX);
  const msock_tailnet_cfg cfg = {
      .domain = "x", .derp_map = &r.map, .fake_peers = MSOCK_TAILNET_FAKES_MAX + 1};
  ck_assert_ptr_null(msock_tailnet_new(&r.env, &cfg));
  trig_free(&r);
}
END_TEST

/* --- policy --- */

static const struct {
  const char *json;
  const char *want; /* canonical text; NULL: refused */
  const char *why;
} policies[] = {
    {"{\"base\": [ "
     "{\"SrcIPs\":[\"*\"],\"DstPorts\":[{\"IP\":\"*\",\"Ports\":{\"First\":0,\"Last\":65535}}]} ]}",
     "{\"base\":[{\"SrcIPs\":[\"*\"],\"DstPorts\":[{\"IP\":\"*\",\"Ports\":{\"First\":0,\"Last\":"
     "65535}}]}]}",
     NULL},
    {"[{\"SrcIPs\":[\"100.64.0.1\"],\"DstPorts\":[{\"IP\":\"100.64.0.2\",\"Ports\":{\"First\":22,"
     "\"Last\":22}}],"
     "\"IPProto\":[6]}]",
     "{\"base\":[{\"SrcIPs\":[\"100.64.0.1\"],\"DstPorts\":[{\"IP\":\"100.64.0.2\",\"Ports\":{"
     "\"First\":22,\"Last\":"
     "22}}],\"IPProto\":[6]}]}",
     NULL},
    {"[]", "{\"base\":[]}", NULL}, /* deny all */
    {"{}", NULL, "names no filter"},
    {"", NULL, "not JSON"},
    {"{\"base\":", NULL, "not JSON"},
    {"7 ", NULL, "neither"},
    {"{\"base\":{}}", NULL, "not a list"},
    {"{\"base\":[1]}", NULL, "rule 1 of filter \"base\""},
    {"{\"base\":[{}]}", NULL, "rule 1"},
    {"[{\"SrcIPs\":[\"*\"],\"DstPorts\":[{\"IP\":\"*\",\"Ports\":{\"First\":0,\"Last\":9}}]},"
     "{\"SrcIPs\":[\"nonsense\"],\"DstPorts\":[{\"IP\":\"*\",\"Ports\":{\"First\":0,\"Last\":9}}]}"
     "]",
     NULL, "rule 2"},
    {"[{\"SrcIPs\":[\"*\"]}]", NULL, "rule 1"},
};

START_TEST(policy_files) {
  char why[MSOCK_TAILNET_WHY_MAX] = "";
  char *text = msock_tailnet_filters_text(policies[_i].json, strlen(policies[_i].json), why);
  if (policies[_i].want == NULL) {
    ck_assert_ptr_null(text);
    ck_assert_msg(strstr(why, policies[_i].why) != NULL, "%s", why);
    return;
  }
  ck_assert_msg(text != NULL, "%s", why);
  ck_assert_str_eq(text, policies[_i].want);
  const trig_options o = {.policy = text};
  trig_init(&r, &o);
  trig_client *a = trig_client_add(&r, "a", NULL);
  trig_pump(&r);
  ck_assert(trig_running(a));
  json_object *j = json_tokener_parse(text);
  json_object *base = json_object_object_get(j, "base");
  ck_assert_uint_eq(msock_netmap_filter(msock_control_netmap(a->c))->n_rules,
                    base ? json_object_array_length(base) : 0);
  json_object_put(j);
  free(text);
  trig_free(&r);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_loop_test(tc, two_clients_join_and_see_each_other, 0, 2);
  tcase_add_test(tc, changes_of_one_reach_the_other);
  tcase_add_test(tc, names_are_unique_and_whole_characters);
  tcase_add_test(tc, a_node_that_goes_is_offline_and_back_again_online);
  tcase_add_test(tc, logout_removes_and_the_machine_may_come_again);
  tcase_add_loop_test(tc, a_wrong_key_is_refused, 0, (int)(sizeof wrong_keys / sizeof *wrong_keys));
  tcase_add_test(tc, a_known_node_needs_no_key_and_a_new_node_key_does);
  tcase_add_test(tc, keep_alive_at_its_tick);
  tcase_add_test(tc, state_goes_out_and_comes_back);
  tcase_add_loop_test(tc, bad_states_leave_it_empty, 0,
                      (int)(sizeof bad_states / sizeof *bad_states));
  tcase_add_test(tc, fake_peers_fill_the_netmap);
  tcase_add_loop_test(tc, odd_requests_get_the_right_status, 0, (int)(sizeof odd / sizeof *odd));
  tcase_add_test(tc, odd_members_do_no_harm);
  tcase_add_test(tc, zstd_where_it_is_asked_for);
  tcase_add_test(tc, the_tailnet_is_bounded);
  tcase_add_loop_test(tc, policy_files, 0, (int)(sizeof policies / sizeof *policies));
  return testing_main("tailnet", tc);
}
