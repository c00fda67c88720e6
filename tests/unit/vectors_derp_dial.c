/* What is around a DERP session, against the reference peers: HTTP exchanges, certificate pins, the
 * meta certificate, dial results. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/http1.h"
#include "crypto/init.h"
#include "crypto/x25519.h"
#include "derp/pool.h"
#include "tests/unit/derp_vectors.h"
#include "tests/unit/vectors.h"

/* ---- HTTP ---- */

/* Both heads through the codec and back; the reply given to a client that wanted 101. */
static const char *check_exchange(const char *request, const char *response) {
  msock_http1_head rq, rs;
  char again[2048], name[256], value[1024];
  msock_http1_builder b;
  const ptrdiff_t nq = msock_http1_parse_request((const uint8_t *)request, strlen(request), &rq);
  const ptrdiff_t ns = msock_http1_parse_response((const uint8_t *)response, strlen(response), &rs);
  if (nq != (ptrdiff_t)strlen(request) || ns <= 0) {
    return "a head does not parse";
  }
  msock_http1_begin_response(&b, again, sizeof again, rs.status);
  for (size_t i = 0; i < rs.n_headers; i++) {
    snprintf(name, sizeof name, "%.*s", (int)rs.headers[i].name.len, rs.headers[i].name.p);
    snprintf(value, sizeof value, "%.*s", (int)rs.headers[i].value.len, rs.headers[i].value.p);
    msock_http1_add(&b, name, value);
  }
  if (msock_http1_finish(&b) != ns || memcmp(again, response, (size_t)ns) != 0) {
    return "the head does not come back the same";
  }
  const size_t body = strlen(response) - (size_t)ns;
  if (rs.content_length >= 0 ? (size_t)rs.content_length != body : body != 0) {
    return "Content-Length and body disagree";
  }
  derp_vectors_script random = {0};
  const msock_env env = derp_vectors_script_env(&random);
  msock_derp_queue queue = {0};
  msock_derp_client_cfg cfg = {.queue = &queue, .host = "x"};
  msock_derp_event ev = {0};
  msock_derp_client *c = msock_derp_client_new(&env, &cfg, 0);
  msock_derp_client_feed(c, 1, (const uint8_t *)response, strlen(response));
  const bool told = msock_derp_client_next_event(c, &ev) && ev.kind == MSOCK_DERP_EVENT_CLOSED &&
                    ev.u.closed.reason == MSOCK_DERP_CLOSED_HTTP_STATUS &&
                    ev.u.closed.http_status == rs.status;
  msock_derp_client_free(c);
  return told ? NULL : "the client does not report the status";
}

static void check_http(json_object *c) {
  const char *why = check_exchange(derp_vectors_str(c, "request"), derp_vectors_str(c, "response"));
  char name[64];
  snprintf(name, sizeof name, "%.*s", (int)strcspn(derp_vectors_str(c, "request"), "\r"),
           derp_vectors_str(c, "request"));
  vectors_case(DERP_VECTORS_FILE, name, why == NULL, "%s", why != NULL ? why : "");
}

/* ---- TLS: pins, meta certificate, dial results ---- */

static const uint8_t *find_bytes(const uint8_t *p, size_t len, const void *what, size_t n) {
  return memmem(p, len, what, n);
}

/* The meta certificate: CN is the server's key, and the self-signature covers every other byte. */
static const char *check_meta_cert(const uint8_t *p, size_t len) {
  static const uint8_t spki[] = {0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};
  char cn[72];
  const msock_node_private server = derp_vectors_private_of("server");
  const msock_node_key pub = msock_node_private_public(&server);
  memcpy(cn, "derpkey", 7);
  msock_hex_encode(pub.b, 32, cn + 7);
  const uint8_t *key = find_bytes(p, len, spki, sizeof spki);
  if (len < 100 || p[4] != 0x30 || p[5] != 0x82 || find_bytes(p, len, cn, 71) == NULL ||
      key == NULL || (size_t)(p + len - key) < sizeof spki + 32) {
    return "no derpkey certificate of the server";
  }
  const size_t tbs_len = 4 + ((size_t)p[6] << 8 | p[7]);
  static const uint8_t tail[] = {0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x41, 0x00};
  if (p[0] != 0x30 || p[1] != 0x82 || ((size_t)p[2] << 8 | p[3]) != len - 4 ||
      4 + tbs_len + sizeof tail + 64 != len || memcmp(p + 4 + tbs_len, tail, sizeof tail) != 0) {
    return "layout differs";
  }
  return crypto_sign_verify_detached(p + len - 64, p + 4, tbs_len, key + sizeof spki) == 0
             ? NULL
             : "signature does not verify";
}

static void check_pins(json_object *tls) {
  uint8_t hash[32];
  char pin[128] = "sha256-raw:";
  size_t len;
  uint8_t *leaf = derp_vectors_bytes(tls, "leaf_der_hex", &len);
  crypto_hash_sha256(hash, leaf, len);
  msock_hex_encode(hash, sizeof hash, pin + strlen(pin));
  vectors_case(DERP_VECTORS_FILE, "leaf_sha256",
               strcmp(strchr(pin, ':') + 1, derp_vectors_str(tls, "leaf_sha256")) == 0,
               "hash differs");
  msock_derp_node node = {.host_name = "192.0.2.10", .derp_port = 443};
  msock_derp_check check = {0};
  snprintf(node.cert_name, sizeof node.cert_name, "%s", derp_vectors_str(tls, "cert_name_pin"));
  const bool ok = strcmp(pin, derp_vectors_str(tls, "cert_name_pin")) == 0 &&
                  msock_derp_check_make(&node, &check) == MSOCK_OK &&
                  check.kind == MSOCK_DERP_CHECK_PIN && memcmp(check.pin, hash, 32) == 0;
  vectors_case(DERP_VECTORS_FILE, "cert_name_pin", ok, "does not pin the leaf");
  free(leaf);
  uint8_t *meta = derp_vectors_bytes(tls, "meta_cert_der_hex", &len);
  const char *why = check_meta_cert(meta, len);
  vectors_case(DERP_VECTORS_FILE, "meta_cert_der_hex", why == NULL, "%s", why != NULL ? why : "");
  free(meta);
}

/* One header list of a recorded request against the head that our client wrote. */
static const char *same_request(json_object *request, const uint8_t *tx, size_t len) {
  msock_http1_head head;
  size_t n = 1; /* Host stands apart in the file */
  if (msock_http1_parse_request(tx, len, &head) <= 0 || !msock_http1_find(&head, "Host") ||
      !msock_http1_str_is(msock_http1_find(&head, "Host")->value,
                          derp_vectors_str(request, "host"))) {
    return "Host differs";
  }
  json_object_object_foreach(derp_vectors_get(request, "headers"), name, values) {
    const msock_http1_header *h = msock_http1_find(&head, name);
    const char *want = json_object_get_string(json_object_array_get_idx(values, 0));
    if (h == NULL || h->value.len != strlen(want) || memcmp(h->value.p, want, h->value.len) != 0) {
      return "a header differs";
    }
    n++;
  }
  return n == head.n_headers ? NULL : "more headers than the reference";
}

static bool has_meta(json_object *certs) {
  for (size_t i = 0; certs != NULL && i < json_object_array_length(certs); i++) {
    if (strncmp(json_object_get_string(json_object_array_get_idx(certs, i)), "CN=derpkey", 10) ==
        0) {
      return true;
    }
  }
  return false;
}

/* What the pool asks of the shell for that node, and what it then says to the server. */
static const char *dial_case(json_object *c, msock_derp_pool *pool) {
  json_object *hello = json_object_array_get_idx(derp_vectors_get(c, "hello"), 0);
  json_object *requests = derp_vectors_has(c, "requests") ? derp_vectors_get(c, "requests") : NULL;
  msock_derp_action a;
  if (!msock_derp_pool_next_action(pool, 1, &a) || a.kind != MSOCK_DERP_ACTION_DIAL) {
    return "no dial";
  }
  if (strcmp(a.check.sni, derp_vectors_str(hello, "sni")) != 0) {
    return "SNI differs";
  }
  const char *pin = strncmp(derp_vectors_str(c, "CertName"), "sha256-raw:", 11) == 0
                        ? derp_vectors_str(c, "CertName")
                        : NULL;
  char hex[65];
  msock_hex_encode(a.check.pin, 32, hex);
  if ((pin != NULL) != (a.check.kind == MSOCK_DERP_CHECK_PIN) ||
      (pin != NULL && strcasecmp(pin + 11, hex) != 0)) {
    return "pin differs";
  }
  if (pin == NULL && json_object_get_boolean(derp_vectors_get(c, "InsecureForTests")) !=
                         (a.check.kind == MSOCK_DERP_CHECK_NONE)) {
    return "InsecureForTests differs";
  }
  if (requests == NULL) { /* the reference refused the certificate */
    return NULL;
  }
  json_object *request = json_object_array_get_idx(requests, 0);
  const uint8_t *tx;
  size_t len;
  const msock_node_private server = derp_vectors_private_of("server");
  const msock_derp_conn_info info = {
      .is_tls13 = strtoul(derp_vectors_str(request, "tls_version"), NULL, 16) >= 0x0304,
      .has_meta_key =
          has_meta(derp_vectors_has(c, "peer_certs") ? derp_vectors_get(c, "peer_certs") : NULL),
      .meta_key = msock_node_private_public(&server),
  };
  msock_derp_pool_conn_up(pool, 1, a.conn, &info);
  msock_derp_pool_conn_tx_peek(pool, 1, a.conn, &tx, &len);
  return same_request(request, tx, len);
}

static void check_dial(json_object *c) {
  derp_vectors_script random = {0};
  const msock_env env = derp_vectors_script_env(&random);
  msock_derp_node node = {.region_id = 1, .derp_port = 443};
  msock_derp_region region = {.id = 1, .nodes = &node, .n_nodes = 1};
  const msock_derp_map map = {.regions = &region, .n_regions = 1};
  const msock_node_private key = derp_vectors_private_of("a");
  msock_derp_pool *pool = msock_derp_pool_new(&env);
  snprintf(node.host_name, sizeof node.host_name, "%s", derp_vectors_str(c, "HostName"));
  snprintf(node.cert_name, sizeof node.cert_name, "%s", derp_vectors_str(c, "CertName"));
  node.insecure_for_tests = json_object_get_boolean(derp_vectors_get(c, "InsecureForTests"));
  if (derp_vectors_has(c, "requests")) {
    const char *host =
        derp_vectors_str(json_object_array_get_idx(derp_vectors_get(c, "requests"), 0), "host");
    const char *colon = strrchr(host, ':');
    node.derp_port = colon != NULL ? (uint16_t)strtoul(colon + 1, NULL, 10) : 443;
  }
  msock_derp_pool_set_private_key(pool, 1, &key);
  msock_derp_pool_set_map(pool, 1, &map);
  msock_derp_pool_set_home(pool, 1, 1);
  msock_derp_pool_event ev;
  while (msock_derp_pool_next_event(pool, 1, &ev)) {
  }
  const char *why = dial_case(c, pool);
  vectors_case(DERP_VECTORS_FILE, derp_vectors_str(c, "name"), why == NULL, "%s",
               why != NULL ? why : "");
  msock_derp_pool_free(pool);
}

int main(void) {
  derp_vectors_root = vectors_open(DERP_VECTORS_FILE);
  if (derp_vectors_root == NULL || msock_crypto_init() != MSOCK_OK) {
    return vectors_exit();
  }
  derp_vectors_each(derp_vectors_get(derp_vectors_root, "http_exchanges"), check_http);
  check_pins(derp_vectors_get(derp_vectors_root, "tls"));
  derp_vectors_each(derp_vectors_get(derp_vectors_get(derp_vectors_root, "tls"), "dial_results"),
                    check_dial);
  vectors_done(DERP_VECTORS_FILE);
  json_object_put(derp_vectors_root);
  return vectors_exit();
}
