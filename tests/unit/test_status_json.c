#include <stdlib.h>
#include <string.h>

#include "node/status_json.h"
#include "tests/unit/testing.h"

#include <json-c/json.h>

static json_object *parse(char *text, const size_t *len) {
  ck_assert_ptr_nonnull(text);
  ck_assert_uint_eq(strlen(text), *len);
  json_object *doc = json_tokener_parse(text);
  ck_assert_msg(doc != NULL, "not JSON: %s", text);
  free(text);
  return doc;
}

static json_object *at(json_object *o, const char *name) {
  json_object *v = NULL;
  ck_assert_msg(json_object_object_get_ex(o, name, &v), "no %s", name);
  return v;
}

static const char *str(json_object *o, const char *name) {
  ck_assert_msg(json_object_is_type(at(o, name), json_type_string), "%s is no text", name);
  return json_object_get_string(at(o, name));
}

/* The names of ipnstate.Status, PeerStatus and TailnetStatus that panels read (requirements.md 5.2)
 * and the type of each: s text, b boolean, i integer, a list, o object. */
typedef struct shape {
  const char *name;
  char type;
} shape;
static const shape status_shape[] = {
    {"Version", 's'},        {"TUN", 'b'},     {"BackendState", 's'},
    {"HaveNodeKey", 'b'},    {"AuthURL", 's'}, {"TailscaleIPs", 'a'},
    {"Self", 'o'},           {"Health", 'a'},  {"MagicDNSSuffix", 's'},
    {"CurrentTailnet", 'o'}, {"Peer", 'o'},    {"User", 'o'},
    {"TSNode", 'o'},
};
static const shape peer_shape[] = {
    {"ID", 's'},           {"PublicKey", 's'},    {"HostName", 's'},
    {"DNSName", 's'},      {"OS", 's'},           {"UserID", 'i'},
    {"TailscaleIPs", 'a'}, {"AllowedIPs", 'a'},   {"Tags", 'a'},
    {"CurAddr", 's'},      {"Relay", 's'},        {"PeerRelay", 's'},
    {"RxBytes", 'i'},      {"TxBytes", 'i'},      {"Created", 's'},
    {"LastWrite", 's'},    {"LastSeen", 's'},     {"LastHandshake", 's'},
    {"Online", 'b'},       {"ExitNode", 'b'},     {"ExitNodeOption", 'b'},
    {"Active", 'b'},       {"InNetworkMap", 'b'}, {"InMagicSock", 'b'},
    {"InEngine", 'b'},     {"KeyExpiry", 's'},    {"TSNode", 'o'},
};

static void check_shape(json_object *o, const shape *list, size_t n) {
  for (size_t i = 0; i < n; i++) {
    const json_type t = json_object_get_type(at(o, list[i].name));
    const json_type want = list[i].type == 's'   ? json_type_string
                           : list[i].type == 'b' ? json_type_boolean
                           : list[i].type == 'i' ? json_type_int
                           : list[i].type == 'a' ? json_type_array
                                                 : json_type_object;
    ck_assert_msg(t == want, "%s has another type", list[i].name);
  }
}

typedef struct sample {
  msock_ip ip;
  msock_prefix allowed;
  const char *tags[1];
  msock_status_peer peer, self;
  msock_status_user user;
  msock_status_counter counter;
  const char *health[1];
  msock_status status;
} sample;

static const msock_status_peer *only_peer(void *ctx, size_t i) {
  ck_assert_uint_eq(i, 0);
  return ctx;
}

static void fill(sample *s) {
  memset(s, 0, sizeof *s);
  s->ip = msock_ip_v4(100, 64, 0, 2);
  s->allowed = (msock_prefix){s->ip, 32};
  s->tags[0] = "tag:web";
  s->peer = (msock_status_peer){
      .id = "n2",
      .host_name = "b \"quoted\" \xff",
      .dns_name = "b.tail.example.",
      .os = "linux",
      .user_id = 5,
      .tailscale_ips = &s->ip,
      .n_tailscale_ips = 1,
      .allowed_ips = &s->allowed,
      .n_allowed_ips = 1,
      .tags = s->tags,
      .n_tags = 1,
      .cur_addr = {msock_ip_v4(192, 0, 2, 1), 41641},
      .relay = "fra",
      .rx_bytes = UINT64_C(9007199254740993),
      .tx_bytes = 7,
      .last_seen_us = UINT64_C(951827696) * 1000000, /* 2000-02-29 12:34:56 */
      .last_handshake_us = UINT64_C(1767225599) * 1000000 + 250000,
      .key_expiry_us = UINT64_C(4102444800) * 1000000,
      .online = true,
      .active = true,
      .in_network_map = true,
      .rtt_us = 12345,
      .derp_region = 900,
  };
  memset(s->peer.public_key.b, 0xab, sizeof s->peer.public_key.b);
  s->self = s->peer;
  s->self.key_expiry_us = 0;
  s->user = (msock_status_user){5, "ann@example", "Ann", ""};
  s->counter = (msock_status_counter){"rx_disco_auth_fail", 3};
  s->health[0] = "no home region";
  s->status = (msock_status){
      .version = "0.1.0",
      .tun = true,
      .backend_state = "Running",
      .have_node_key = true,
      .tailscale_ips = &s->ip,
      .n_tailscale_ips = 1,
      .self = &s->self,
      .peer_at = only_peer,
      .peer_ctx = &s->peer,
      .n_peers = 1,
      .health = s->health,
      .n_health = 1,
      .magic_dns_suffix = "tail.example",
      .tailnet_name = "tail.example",
      .users = &s->user,
      .n_users = 1,
      .counters = &s->counter,
      .n_counters = 1,
  };
}

START_TEST(names_and_types_of_the_reference) {
  sample s;
  size_t len;
  fill(&s);
  json_object *doc = parse(msock_status_json(&s.status, true, &len), &len);
  check_shape(doc, status_shape, sizeof status_shape / sizeof *status_shape);
  char key[MSOCK_KEY_TEXT_MAX];
  json_object *peer = at(at(doc, "Peer"), msock_node_key_text(&s.peer.public_key, key));
  check_shape(peer, peer_shape, sizeof peer_shape / sizeof *peer_shape);
  check_shape(at(doc, "CurrentTailnet"),
              (const shape[]){{"Name", 's'}, {"MagicDNSSuffix", 's'}, {"MagicDNSEnabled", 'b'}}, 3);
  check_shape(at(at(doc, "User"), "5"),
              (const shape[]){
                  {"ID", 'i'}, {"LoginName", 's'}, {"DisplayName", 's'}, {"ProfilePicURL", 's'}},
              4);
  ck_assert_str_eq(str(peer, "PublicKey"), key);
  ck_assert_str_eq(str(peer, "CurAddr"), "192.0.2.1:41641");
  ck_assert_str_eq(str(peer, "LastSeen"), "2000-02-29T12:34:56Z");
  ck_assert_str_eq(str(peer, "LastHandshake"), "2025-12-31T23:59:59.250000Z");
  ck_assert_str_eq(str(peer, "KeyExpiry"), "2100-01-01T00:00:00Z");
  ck_assert_str_eq(str(peer, "Created"), "0001-01-01T00:00:00Z");
  ck_assert_str_eq(str(peer, "HostName"), "b \"quoted\" \xef\xbf\xbd");
  ck_assert_int_eq(json_object_get_int64(at(peer, "RxBytes")), INT64_C(9007199254740993));
  ck_assert_int_eq(json_object_get_int64(at(at(doc, "TSNode"), "Schema")), MSOCK_STATUS_SCHEMA);
  ck_assert_int_eq(
      json_object_get_int64(at(at(at(doc, "TSNode"), "Counters"), "rx_disco_auth_fail")), 3);
  ck_assert(!json_object_object_get_ex(at(doc, "Self"), "KeyExpiry", NULL)); /* never expires */
  json_object_put(doc);
}
END_TEST

START_TEST(without_peers_and_without_a_netmap) {
  sample s;
  size_t len;
  fill(&s);
  json_object *doc = parse(msock_status_json(&s.status, false, &len), &len);
  ck_assert_int_eq(json_object_object_length(at(doc, "Peer")), 0);
  ck_assert(at(doc, "Self") != NULL);
  json_object_put(doc);

  const msock_status fresh = {.backend_state = "NeedsLogin"};
  doc = parse(msock_status_json(&fresh, true, &len), &len);
  ck_assert_str_eq(str(doc, "BackendState"), "NeedsLogin");
  ck_assert_str_eq(str(doc, "AuthURL"), "");
  ck_assert_ptr_null(at(doc, "Self"));
  ck_assert_ptr_null(at(doc, "CurrentTailnet"));
  json_object_put(doc);
}
END_TEST

START_TEST(ping_and_whois_documents) {
  sample s;
  size_t len;
  fill(&s);
  const msock_ping_result r = {.ip = "100.64.0.2",
                               .node_ip = "100.64.0.2",
                               .node_name = "b",
                               .latency_us = 12345,
                               .derp_region = 900,
                               .derp_code = "fra"};
  json_object *doc = parse(msock_ping_json(&r, &len), &len);
  ck_assert_str_eq(str(doc, "NodeName"), "b");
  ck_assert_str_eq(str(doc, "Err"), "");
  ck_assert_str_eq(str(doc, "Endpoint"), "");
  ck_assert_str_eq(str(doc, "DERPRegionCode"), "fra");
  ck_assert_int_eq(json_object_get_int64(at(doc, "DERPRegionID")), 900);
  ck_assert(json_object_get_double(at(doc, "LatencySeconds")) > 0.01234);
  ck_assert(json_object_get_double(at(doc, "LatencySeconds")) < 0.01235);
  json_object_put(doc);

  doc = parse(msock_whois_json(&s.peer, &s.user, &len), &len);
  ck_assert_str_eq(str(at(doc, "Node"), "Name"), "b.tail.example.");
  ck_assert_str_eq(
      json_object_get_string(json_object_array_get_idx(at(at(doc, "Node"), "Addresses"), 0)),
      "100.64.0.2/32");
  ck_assert_str_eq(str(at(doc, "UserProfile"), "LoginName"), "ann@example");
  json_object_put(doc);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, names_and_types_of_the_reference);
  tcase_add_test(tc, without_peers_and_without_a_netmap);
  tcase_add_test(tc, ping_and_whois_documents);
  return testing_main("status_json", tc);
}
