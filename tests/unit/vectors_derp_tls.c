/* The pin rules and the meta certificate against the connects of the real client. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/init.h"
#include "io/tls_common.h"
#include "tests/unit/vectors.h"

#define FILE_NAME "derp.json"

/* Names as the recording prints them: "CN=derpkey<64 hex> serial=2 sigalg=Ed25519". */
static void check_meta(json_object *c, const char *name, const unsigned char *der, size_t len) {
  json_object *list = NULL;
  msock_x509_cert x;
  uint8_t key[32], version = 0;
  char want[128] = "";

  if (!json_object_object_get_ex(c, "peer_certs", &list)) {
    return;
  }
  const bool ok = msock_x509_parse(der, len, &x) && msock_x509_meta_key(&x, key, &version);
  if (ok) {
    strcpy(want, "CN=derpkey");
    for (size_t i = 0; i < 32; i++) {
      snprintf(want + strlen(want), 3, "%02x", key[i]);
    }
    snprintf(want + strlen(want), 32, " serial=%u ", version);
  }
  bool found = false;
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    const char *text = json_object_get_string(json_object_array_get_idx(list, i));
    found = found || (ok && strncmp(text, want, strlen(want)) == 0);
  }
  vectors_case(FILE_NAME, name, found, "meta certificate reads as %s", want);
}

static bool has_upper(const char *s) {
  for (; *s != '\0'; s++) {
    if (isupper((unsigned char)*s)) {
      return true;
    }
  }
  return false;
}

static void check_pin(json_object *c, const char *name, const msock_tls_peer_cert *certs) {
  json_object *error = NULL;
  char why[MSOCK_TLS_WHY_MAX] = "";
  msock_tls_rules rules;
  const char *pin = vectors_str(FILE_NAME, c, "CertName");
  const msock_tls_config config = {.host = vectors_str(FILE_NAME, c, "HostName"), .cert_name = pin};

  if (strncmp(pin, MSOCK_TLS_PIN_PREFIX, strlen(MSOCK_TLS_PIN_PREFIX)) != 0) {
    return;
  }
  const bool failed = json_object_object_get_ex(c, "error", &error);
  /* derp.md 1.3 [D]: the field refuses upper-case digits, we accept either case. */
  const bool want = !failed || has_upper(pin + strlen(MSOCK_TLS_PIN_PREFIX));
  const bool got = msock_tls_rules_init(&rules, &config, why, sizeof why) == MSOCK_OK &&
                   msock_tls_rules_pin_ok(&rules, certs, 2, why, sizeof why);
  vectors_case(FILE_NAME, name, got == want, "pin %s: %s", got ? "passed" : "failed", why);
}

static void check_sni(json_object *c, const char *name) {
  char why[MSOCK_TLS_WHY_MAX] = "";
  msock_tls_rules rules;
  json_object *hello = vectors_get(FILE_NAME, c, "hello");
  const msock_tls_config config = {.host = vectors_str(FILE_NAME, c, "HostName"),
                                   .insecure_for_tests = true};
  if (json_object_array_length(hello) == 0) {
    return;
  }
  const char *want = vectors_str(FILE_NAME, json_object_array_get_idx(hello, 0), "sni");
  const bool ok = msock_tls_rules_init(&rules, &config, why, sizeof why) == MSOCK_OK;
  const char *got = ok ? msock_tls_rules_sni(&rules) : "?";
  vectors_case(FILE_NAME, name, strcmp(got != NULL ? got : "", want) == 0, "SNI %s, want %s",
               got != NULL ? got : "(none)", want);
}

int main(void) {
  size_t leaf_len = 0, meta_len = 0;
  if (msock_crypto_init() != MSOCK_OK) {
    return 1;
  }
  json_object *file = vectors_open(FILE_NAME);
  if (file == NULL) {
    return vectors_exit();
  }
  json_object *tls = vectors_get(FILE_NAME, file, "tls");
  unsigned char *leaf = vectors_hex(FILE_NAME, tls, "leaf_der_hex", &leaf_len);
  unsigned char *meta = vectors_hex(FILE_NAME, tls, "meta_cert_der_hex", &meta_len);
  const msock_tls_peer_cert certs[2] = {{leaf, leaf_len}, {meta, meta_len}};
  json_object *cases = vectors_get(FILE_NAME, tls, "dial_results");
  for (size_t i = 0; i < json_object_array_length(cases); i++) {
    json_object *c = json_object_array_get_idx(cases, i);
    const char *name = vectors_str(FILE_NAME, c, "name");
    check_sni(c, name);
    check_pin(c, name, certs);
    check_meta(c, name, meta, meta_len);
  }
  free(leaf);
  free(meta);
  json_object_put(file);
  vectors_done(FILE_NAME);
  return vectors_exit();
}
