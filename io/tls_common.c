#include "io/tls_common.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/hex.h"
#include "crypto/wipe.h"

static void put(char *dst, size_t cap, const char *src) {
  snprintf(dst, cap, "%s", src);
}

/* Hex digits of either case; len digits exactly. */
static bool unhex_any_case(const char *text, uint8_t *dst, size_t len) {
  char lower[2 * MSOCK_TLS_PIN_LEN + 1];
  if (strlen(text) != 2 * len || 2 * len >= sizeof lower) {
    return false;
  }
  for (size_t i = 0; i <= 2 * len; i++) {
    lower[i] = text[i] >= 'A' && text[i] <= 'F' ? (char)(text[i] + 32) : text[i];
  }
  return msock_hex_decode(lower, dst, len);
}

msock_err msock_tls_parse_spki_pin(const char *text, uint8_t out[static MSOCK_TLS_PIN_LEN]) {
  size_t n = 0;
  uint8_t pin[MSOCK_TLS_PIN_LEN];
  const char *end = NULL;

  if (strncmp(text, "sha256//", 8) == 0) {
    if (sodium_base642bin(pin, sizeof pin, text + 8, strlen(text + 8), NULL, &n, &end,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        n != sizeof pin || *end != '\0') {
      return MSOCK_ERR_INVALID;
    }
  } else if (!unhex_any_case(strncasecmp(text, "sha256:", 7) == 0 ? text + 7 : text, pin,
                             sizeof pin)) {
    return MSOCK_ERR_INVALID;
  }
  memcpy(out, pin, sizeof pin);
  return MSOCK_OK;
}

msock_err msock_tls_rules_init(msock_tls_rules *r, const msock_tls_config *config, char *why,
                               size_t cap) {
  const char *cert_name = config->cert_name != NULL ? config->cert_name : "";
  const size_t prefix = strlen(MSOCK_TLS_PIN_PREFIX);

  *r = (msock_tls_rules){.insecure = config->insecure_for_tests,
                         .has_spki_pin = config->has_spki_pin};
  if (config->host == NULL || config->host[0] == '\0' || strlen(config->host) > 253 ||
      strlen(cert_name) > 253) {
    put(why, cap, "the TLS host name is empty or too long; check the server's host name");
    return MSOCK_ERR_INVALID;
  }
  put(r->host, sizeof r->host, config->host);
  if (msock_ip_parse(r->host, &r->host_ip) != MSOCK_OK) {
    r->host_ip = (msock_ip){0};
  }
  memcpy(r->spki_pin, config->spki_pin, sizeof r->spki_pin);
  if (strncmp(cert_name, MSOCK_TLS_PIN_PREFIX, prefix) == 0) {
    if (!unhex_any_case(cert_name + prefix, r->pin, sizeof r->pin)) {
      put(why, cap, "the certificate pin is not sha256-raw: and 64 hex digits; correct CertName");
      return MSOCK_ERR_INVALID;
    }
    r->pinned = true;
    return MSOCK_OK;
  }
  put(r->verify_name, sizeof r->verify_name, cert_name[0] != '\0' ? cert_name : r->host);
  if (msock_ip_parse(r->verify_name, &r->verify_ip) != MSOCK_OK) {
    r->verify_ip = (msock_ip){0};
  }
  return MSOCK_OK;
}

const char *msock_tls_rules_sni(const msock_tls_rules *r) {
  return r->host_ip.family == 0 ? r->host : NULL;
}

bool msock_tls_rules_name_ok(const msock_tls_rules *r, const msock_x509_cert *leaf, char *why,
                             size_t cap) {
  if (r->verify_ip.family != 0 ? msock_x509_has_ip(leaf, &r->verify_ip)
                               : msock_x509_has_dns(leaf, r->verify_name)) {
    return true;
  }
  if (r->verify_ip.family != 0) {
    snprintf(why, cap,
             "the certificate is not valid for the address %s: it needs an iPAddress entry in "
             "subjectAltName; issue one, or pin the certificate (CertName sha256-raw:...)",
             r->verify_name);
  } else {
    snprintf(why, cap,
             "the certificate is not valid for %s: %s; correct the host name or CertName, or issue "
             "a certificate with that name",
             r->verify_name,
             leaf->san.p == NULL ? "it has no subjectAltName" : "subjectAltName lists other names");
  }
  return false;
}

static bool sha256_is(const uint8_t *p, size_t len, const uint8_t want[static 32]) {
  uint8_t got[crypto_hash_sha256_BYTES];
  crypto_hash_sha256(got, p, len);
  return msock_ct_equal(got, want, sizeof got);
}

/* The certificate that counts must be the one whose key the handshake proved: otherwise a stranger
 * could send a meta certificate of his own first and a copy of the pinned one after it. */
bool msock_tls_rules_pin_ok(const msock_tls_rules *r, const msock_tls_peer_cert *certs, size_t n,
                            char *why, size_t cap) {
  msock_x509_cert c;
  size_t counted = 0;

  for (size_t i = 0; i < n; i++) {
    const bool readable = msock_x509_parse(certs[i].der, certs[i].len, &c);
    counted += !(readable && msock_x509_is_meta(&c));
  }
  if (n == 0 || !msock_x509_parse(certs[0].der, certs[0].len, &c) || msock_x509_is_meta(&c)) {
    put(why, cap, "pin: the server's first certificate is not its own; check the relay");
    return false;
  }
  if (counted != 1) {
    put(why, cap,
        "pin: the server sent more than one certificate; a pinned server must send exactly one");
    return false;
  }
  if (!sha256_is(certs[0].der, certs[0].len, r->pin)) {
    put(why, cap,
        "pin: the certificate is another one than the pinned one; if the server's certificate was "
        "replaced, update CertName, else somebody is in between");
    return false;
  }
  if (r->host_ip.family == 0 && !msock_x509_has_dns(&c, r->host)) {
    snprintf(why, cap, "pin: the pinned certificate is not valid for %s; correct HostName",
             r->host);
    return false;
  }
  return true;
}

void msock_tls_system_roots_path(char *dst, size_t cap) {
  static const char *const places[] = {
      "/etc/ssl/certs/ca-certificates.crt", /* Debian, Alpine, OpenWrt */
      "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora */
      "/etc/ssl/ca-bundle.pem",             /* SUSE */
      "/etc/ssl/cert.pem",
  };
  const char *env = getenv("SSL_CERT_FILE");

  if (env != NULL && env[0] != '\0') { /* the user's word: used even when it cannot be read */
    put(dst, cap, env);
    return;
  }
  dst[0] = '\0';
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    if (access(places[i], R_OK) == 0) {
      put(dst, cap, places[i]);
      return;
    }
  }
}
