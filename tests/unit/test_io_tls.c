#include "tests/unit/io_testing.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "io/tls.h"
#include "tests/unit/testing.h"
#include "tests/unit/tls_testing.h"

static tls_test_cert ca, other_ca, leaf, second;
static char ca_path[64];
static msock_tls_roots *roots;
static int pair[2];
static char why[MSOCK_TLS_WHY_MAX];
static char seen_sni[256];

static const uint8_t local_ip[4] = {127, 0, 0, 1};
static const uint8_t far_ip[4] = {192, 0, 2, 10};
static const tls_test_spec ca_spec = {.cn = "CN=test ca", .is_ca = true};

static void setup(void) {
  tls_test_make(&ca, &ca_spec, NULL, NULL);
  strcpy(ca_path, "/tmp/tsnode-test-XXXXXX");
  const int fd = mkstemp(ca_path);
  ck_assert_int_ge(fd, 0);
  close(fd);
  tls_test_write_pem(&ca, ca_path);
  setenv("SSL_CERT_FILE", ca_path, 1);
  roots = msock_tls_roots_new(NULL);
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
}

static void teardown(void) {
  unlink(ca_path);
  msock_tls_roots_free(roots);
  tls_test_free(&ca);
  tls_test_free(&leaf);
  tls_test_free(&other_ca);
  tls_test_free(&second);
  close(pair[0]);
  close(pair[1]);
}

static void make_leaf(const tls_test_spec *spec) {
  tls_test_make(&leaf, spec, &ca, "CN=test ca");
}

/* One handshake against chain; the result of the client's side. On success a byte goes both ways.
 */
static msock_err shake(const msock_tls_config *config, const tls_test_der *chain, size_t n,
                       mbedtls_pk_context *key) {
  tls_test_server s;
  msock_tls *t = NULL;
  uint8_t got[4] = {0};

  tls_test_server_init(&s, pair[1], chain, n, key);
  msock_err err = msock_tls_new(config, pair[0], &t);
  ck_assert_ptr_nonnull(t);
  if (err == MSOCK_OK) {
    for (int i = 0; i < 100; i++) {
      err = msock_tls_handshake(t);
      if (err != MSOCK_ERR_AGAIN) {
        break;
      }
      tls_test_server_step(&s);
    }
  }
  snprintf(why, sizeof why, "%s", msock_tls_error_text(t));
  snprintf(seen_sni, sizeof seen_sni, "%s", s.sni);
  if (err == MSOCK_OK) {
    tls_test_server_step(&s);
    ck_assert(s.up);
    ck_assert_int_eq(msock_tls_write(t, (const uint8_t *)"abc", 3), 3);
    ck_assert_int_eq(mbedtls_ssl_read(&s.ssl, got, sizeof got), 3);
    ck_assert_int_eq(msock_tls_read(t, got, sizeof got), MSOCK_ERR_AGAIN);
    ck_assert_int_eq(mbedtls_ssl_write(&s.ssl, (const uint8_t *)"xy", 2), 2);
    ck_assert_int_eq(msock_tls_read(t, got, sizeof got), 2);
    ck_assert_mem_eq(got, "xy", 2);
    mbedtls_ssl_close_notify(&s.ssl);
    ck_assert_int_eq(msock_tls_read(t, got, sizeof got), MSOCK_ERR_CLOSED);
    ck_assert_str_eq(msock_tls_get_info(t)->version, "TLSv1.2");
    ck_assert(!msock_tls_get_info(t)->has_meta_key); /* TLS 1.2: its list is not encrypted */
  } else {
    uint8_t b;
    ck_assert_int_lt(msock_tls_write(t, &b, 1), 0); /* nothing passes to an unverified peer */
    ck_assert_int_lt(msock_tls_read(t, &b, 1), 0);
  }
  msock_tls_free(t);
  tls_test_server_free(&s);
  return err;
}

static msock_err shake_leaf(const msock_tls_config *config) {
  const tls_test_der chain[] = {{leaf.der, leaf.len}};
  return shake(config, chain, 1, &leaf.key);
}

static const tls_test_spec named = {.cn = "CN=x", .dns = {"derp.example.com", "*.wild.example"}};

static const struct {
  const char *name, *host, *cert_name;
  tls_test_spec spec;
  msock_err want;
  const char *sni, *text; /* text: part of the reason */
} chain_cases[] = {
    {"right name",
     "derp.example.com",
     NULL,
     {.cn = "CN=x", .dns = {"derp.example.com"}},
     MSOCK_OK,
     "derp.example.com",
     ""},
    {"case and trailing dot do not matter",
     "DERP.example.com.",
     NULL,
     {.cn = "CN=x", .dns = {"derp.Example.com"}},
     MSOCK_OK,
     "DERP.example.com.",
     ""},
    {"second entry",
     "derp.example.com",
     NULL,
     {.cn = "CN=x", .dns = {"a.example", "derp.example.com"}},
     MSOCK_OK,
     "derp.example.com",
     ""},
    {"wrong name",
     "other.example.com",
     NULL,
     {.cn = "CN=x", .dns = {"derp.example.com"}},
     MSOCK_ERR_AUTH,
     "other.example.com",
     "not valid for other.example.com"},
    {"CN alone does not count",
     "derp.example.com",
     NULL,
     {.cn = "CN=derp.example.com"},
     MSOCK_ERR_AUTH,
     "derp.example.com",
     "no subjectAltName"},
    {"wildcard covers one label",
     "a.wild.example",
     NULL,
     {.cn = "CN=x", .dns = {"*.wild.example"}},
     MSOCK_OK,
     "a.wild.example",
     ""},
    {"wildcard does not cover two",
     "a.b.wild.example",
     NULL,
     {.cn = "CN=x", .dns = {"*.wild.example"}},
     MSOCK_ERR_AUTH,
     "a.b.wild.example",
     "not valid"},
    {"wildcard does not cover none",
     "wild.example",
     NULL,
     {.cn = "CN=x", .dns = {"*.wild.example"}},
     MSOCK_ERR_AUTH,
     "wild.example",
     "not valid"},
    {"expired",
     "derp.example.com",
     NULL,
     {.cn = "CN=x",
      .dns = {"derp.example.com"},
      .not_before = "20200101000000",
      .not_after = "20210101000000"},
     MSOCK_ERR_AUTH,
     "derp.example.com",
     "has expired"},
    {"not valid yet",
     "derp.example.com",
     NULL,
     {.cn = "CN=x",
      .dns = {"derp.example.com"},
      .not_before = "20480101000000",
      .not_after = "20490101000000"},
     MSOCK_ERR_AUTH,
     "derp.example.com",
     "not valid yet"},
};

START_TEST(chain_and_name) {
  const msock_tls_config config = {
      .host = chain_cases[_i].host, .cert_name = chain_cases[_i].cert_name, .roots = roots};
  make_leaf(&chain_cases[_i].spec);
  const msock_err err = shake_leaf(&config);
  ck_assert_msg(err == chain_cases[_i].want, "%s: %d %s", chain_cases[_i].name, err, why);
  ck_assert_str_eq(seen_sni, chain_cases[_i].sni);
  ck_assert_msg(strstr(why, chain_cases[_i].text) != NULL, "%s: %s", chain_cases[_i].name, why);
}
END_TEST

/* closes: CLIENT-18 */
START_TEST(cert_name_is_verified_while_sni_stays_the_host) {
  msock_tls_config config = {
      .host = "front.example.net", .cert_name = "derp.example.com", .roots = roots};
  make_leaf(&named);
  ck_assert_msg(shake_leaf(&config) == MSOCK_OK, "%s", why);
  ck_assert_str_eq(seen_sni, "front.example.net");
  close(pair[0]);
  close(pair[1]);
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
  config.host = "derp.example.com"; /* the certificate has the host, but not CertName */
  config.cert_name = "front.example.net";
  ck_assert_int_eq(shake_leaf(&config), MSOCK_ERR_AUTH);
  ck_assert_str_eq(seen_sni, "derp.example.com");
}
END_TEST

static const struct {
  const char *name, *host;
  const uint8_t *ip;
  const char *dns;
  msock_err want;
} ip_cases[] = {
    {"address in the certificate", "127.0.0.1", local_ip, NULL, MSOCK_OK},
    {"another address", "127.0.0.1", far_ip, NULL, MSOCK_ERR_AUTH},
    {"the address as a dNSName does not count", "127.0.0.1", NULL, "127.0.0.1", MSOCK_ERR_AUTH},
    {"trusted certificate for a name only", "127.0.0.1", NULL, "derp.example.com", MSOCK_ERR_AUTH},
    {"a name host does not match an address", "derp.example.com", local_ip, NULL, MSOCK_ERR_AUTH},
};

/* closes: CLIENT-19 */
START_TEST(a_literal_host_needs_its_address) {
  const msock_tls_config config = {.host = ip_cases[_i].host, .roots = roots};
  const tls_test_spec spec = {
      .cn = "CN=127.0.0.1", .ip = ip_cases[_i].ip, .dns = {ip_cases[_i].dns}};
  make_leaf(&spec);
  ck_assert_msg(shake_leaf(&config) == ip_cases[_i].want, "%s: %s", ip_cases[_i].name, why);
  if (ip_cases[_i].want == MSOCK_OK) {
    ck_assert_str_eq(seen_sni, ""); /* none for a literal */
  }
}
END_TEST

static void pin_text(const tls_test_cert *c, bool upper, char dst[static 80]) {
  uint8_t digest[32];
  crypto_hash_sha256(digest, c->der, c->len);
  strcpy(dst, MSOCK_TLS_PIN_PREFIX);
  msock_hex_encode(digest, 32, dst + strlen(MSOCK_TLS_PIN_PREFIX));
  for (char *p = dst + strlen(MSOCK_TLS_PIN_PREFIX); upper && *p != '\0'; p++) {
    *p = *p >= 'a' ? (char)(*p - 32) : *p;
  }
}

typedef enum pin_extra { EXTRA_NONE = 0, EXTRA_META, EXTRA_SECOND, EXTRA_META_FIRST } pin_extra;

static const struct {
  const char *name, *host;
  bool right, upper, expired, insecure;
  pin_extra extra;
  msock_err want;
  const char *text;
} pin_cases[] = {
    {"right", "derp.example.com", true, false, false, false, EXTRA_NONE, MSOCK_OK, ""},
    {"upper case", "derp.example.com", true, true, false, false, EXTRA_NONE, MSOCK_OK, ""},
    {"meta certificate does not count", "derp.example.com", true, false, false, false, EXTRA_META,
     MSOCK_OK, ""},
    {"literal host needs no address", "192.0.2.77", true, false, false, false, EXTRA_NONE, MSOCK_OK,
     ""},
    {"wrong", "derp.example.com", false, false, false, false, EXTRA_NONE, MSOCK_ERR_AUTH,
     "another one"},
    {"second certificate", "derp.example.com", true, false, false, false, EXTRA_SECOND,
     MSOCK_ERR_AUTH, "more than one"},
    {"expired", "derp.example.com", true, false, true, false, EXTRA_NONE, MSOCK_ERR_AUTH,
     "expired"},
    {"host not in it", "other.example.com", true, false, false, false, EXTRA_NONE, MSOCK_ERR_AUTH,
     "not valid for other.example.com"},
    {"insecure does not lift the pin", "derp.example.com", false, false, false, true, EXTRA_NONE,
     MSOCK_ERR_AUTH, "another one"},
    {"a stranger's derpkey certificate in front of a copy", "derp.example.com", true, false, false,
     false, EXTRA_META_FIRST, MSOCK_ERR_AUTH, "first certificate"},
};

/* closes: CLIENT-16 */
START_TEST(pins) {
  static const uint8_t meta_key[32] = {7};
  const tls_test_spec spec = {.cn = "CN=192.0.2.10",
                              .dns = {"derp.example.com"},
                              .not_after = pin_cases[_i].expired ? "20210101000000" : NULL};
  const tls_test_spec forged = {.cn = "CN=derpkey00", .dns = {"derp.example.com"}};
  uint8_t meta[512];
  char pin[80];
  tls_test_make(&leaf, &spec, NULL, NULL); /* self-signed */
  tls_test_make(&second, pin_cases[_i].extra == EXTRA_META_FIRST ? &forged : &named, NULL, NULL);
  pin_text(pin_cases[_i].right ? &leaf : &second, pin_cases[_i].upper, pin);
  const msock_tls_config config = {
      .host = pin_cases[_i].host, .cert_name = pin, .insecure_for_tests = pin_cases[_i].insecure};
  tls_test_der chain[2] = {{leaf.der, leaf.len}, {second.der, second.len}};
  mbedtls_pk_context *key = &leaf.key;
  size_t n = pin_cases[_i].extra == EXTRA_NONE ? 1 : 2;
  if (pin_cases[_i].extra == EXTRA_META) {
    chain[1] = (tls_test_der){meta, tls_test_meta_der(meta, sizeof meta, meta_key)};
  } else if (pin_cases[_i].extra == EXTRA_META_FIRST) {
    chain[0] = (tls_test_der){second.der, second.len};
    chain[1] = (tls_test_der){leaf.der, leaf.len};
    key = &second.key;
  }
  const msock_err err = shake(&config, chain, n, key);
  ck_assert_msg(err == pin_cases[_i].want, "%s: %d %s", pin_cases[_i].name, err, why);
  ck_assert_msg(strstr(why, pin_cases[_i].text) != NULL, "%s: %s", pin_cases[_i].name, why);
}
END_TEST

/* closes: CLIENT-17 */
START_TEST(an_ed25519_meta_certificate_does_not_break_the_chain) {
  static const uint8_t meta_key[32] = {9};
  uint8_t meta[512];
  make_leaf(&named);
  const tls_test_der chain[] = {{leaf.der, leaf.len},
                                {meta, tls_test_meta_der(meta, sizeof meta, meta_key)}};
  const msock_tls_config config = {.host = "derp.example.com", .roots = roots};
  mbedtls_x509_crt parsed;
  mbedtls_x509_crt_init(&parsed);
  ck_assert_int_ne(mbedtls_x509_crt_parse_der(&parsed, meta, chain[1].len), 0); /* really odd */
  mbedtls_x509_crt_free(&parsed);
  ck_assert_msg(shake(&config, chain, 2, &leaf.key) == MSOCK_OK, "%s", why);
}
END_TEST

START_TEST(an_unknown_authority_is_refused) {
  tls_test_make(&other_ca, &ca_spec, NULL, NULL); /* the same name, another key */
  tls_test_make(&leaf, &named, &other_ca, "CN=test ca");
  const msock_tls_config config = {.host = "derp.example.com", .roots = roots};
  ck_assert_int_eq(shake_leaf(&config), MSOCK_ERR_AUTH);
  ck_assert_ptr_nonnull(strstr(why, "not signed by a known authority"));
}
END_TEST

/* closes: CTRL-13 */
START_TEST(an_extra_ca_file_is_honoured) {
  char path[] = "/tmp/tsnode-test-XXXXXX";
  const tls_test_spec spec = {.cn = "CN=private ca", .is_ca = true};
  close(mkstemp(path));
  tls_test_make(&other_ca, &spec, NULL, NULL);
  tls_test_write_pem(&other_ca, path);
  tls_test_make(&leaf, &named, &other_ca, "CN=private ca");
  msock_tls_roots_free(roots);
  roots = msock_tls_roots_new(path);
  const msock_tls_config config = {.host = "derp.example.com", .roots = roots};
  ck_assert_msg(shake_leaf(&config) == MSOCK_OK, "%s", why);
  unlink(path);
}
END_TEST

START_TEST(a_ca_file_that_cannot_be_read_is_named) {
  msock_tls_roots_free(roots);
  roots = msock_tls_roots_new("/nonexistent/ca.pem");
  const msock_tls_config config = {.host = "derp.example.com", .roots = roots};
  make_leaf(&named);
  ck_assert_int_eq(shake_leaf(&config), MSOCK_ERR_IO);
  ck_assert_ptr_nonnull(strstr(why, "/nonexistent/ca.pem"));
}
END_TEST

/* Appends a file, or text, to the store. */
static void add_to_store(const char *path, const char *text) {
  char buf[4096] = "";
  FILE *store = fopen(ca_path, "a");
  ck_assert_ptr_nonnull(store);
  if (path != NULL) {
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    buf[fread(buf, 1, sizeof buf - 1, f)] = '\0';
    fclose(f);
  }
  fputs(path != NULL ? buf : text, store);
  fclose(store);
}

static void add_cert_to_store(const tls_test_cert *c) {
  char path[] = "/tmp/tsnode-test-XXXXXX";
  close(mkstemp(path));
  tls_test_write_pem(c, path);
  add_to_store(path, NULL);
  unlink(path);
}

/* The right root is the last of a store that also holds comments, damage, a block that is far too
 * long, and a root of the same name with another key. */
START_TEST(the_right_root_is_found_in_any_store) {
  tls_test_make(&other_ca, &ca_spec, NULL, NULL); /* same name */
  make_leaf(&named);
  ck_assert_int_eq(truncate(ca_path, 0), 0);
  add_to_store(NULL, "# a comment\n-----BEGIN CERTIFICATE-----\nnot base64 *\n"
                     "-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n");
  for (int i = 0; i < 400; i++) {
    add_to_store(NULL, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n");
  }
  add_to_store(NULL, "-----END CERTIFICATE-----\n");
  add_cert_to_store(&other_ca);
  add_cert_to_store(&ca);
  const msock_tls_config config = {.host = "derp.example.com", .roots = roots};
  ck_assert_msg(shake_leaf(&config) == MSOCK_OK, "%s", why);
}
END_TEST

START_TEST(a_root_of_the_same_name_with_another_key_is_no_root) {
  tls_test_make(&other_ca, &ca_spec, NULL, NULL);
  make_leaf(&named);
  ck_assert_int_eq(truncate(ca_path, 0), 0);
  add_cert_to_store(&other_ca);
  const msock_tls_config config = {.host = "derp.example.com", .roots = roots};
  ck_assert_int_eq(shake_leaf(&config), MSOCK_ERR_AUTH);
  ck_assert_ptr_nonnull(strstr(why, "not signed by a known authority"));
}
END_TEST

START_TEST(a_leaf_that_signed_itself_is_trusted_from_the_store) {
  tls_test_make(&leaf, &named, NULL, NULL);
  add_cert_to_store(&leaf);
  const msock_tls_config config = {.host = "derp.example.com", .roots = roots};
  ck_assert_msg(shake_leaf(&config) == MSOCK_OK, "%s", why);
}
END_TEST

START_TEST(a_store_that_went_away_is_named) {
  const msock_tls_config config = {.host = "derp.example.com", .roots = roots};
  msock_tls *t = NULL;
  make_leaf(&named);
  ck_assert_int_eq(msock_tls_new(&config, pair[0], &t), MSOCK_OK); /* it was there */
  msock_tls_free(t);
  unlink(ca_path);
  ck_assert_int_eq(shake_leaf(&config), MSOCK_ERR_AUTH);
  ck_assert_ptr_nonnull(strstr(why, ca_path));
}
END_TEST

static void spki_digest(const tls_test_cert *c, uint8_t out[static 32]) {
  uint8_t der[256];
  const int n = mbedtls_pk_write_pubkey_der((mbedtls_pk_context *)&c->key, der, sizeof der);
  ck_assert_int_gt(n, 0);
  const unsigned long long len = (unsigned long long)n;
  crypto_hash_sha256(out, der + sizeof der - len, len);
}

static const struct {
  const char *name;
  bool of_ca, of_stranger, insecure, untrusted;
  msock_err want;
} spki_cases[] = {
    {"leaf", false, false, false, false, MSOCK_OK},
    {"issuer", true, false, false, false, MSOCK_OK},
    {"nobody", false, true, false, false, MSOCK_ERR_AUTH},
    {"a pin does not replace the chain", false, false, false, true, MSOCK_ERR_AUTH},
    {"insecure keeps the pin", false, true, true, true, MSOCK_ERR_AUTH},
    {"insecure with the right pin", false, false, true, true, MSOCK_OK},
};

/* closes: CTRL-13 */
START_TEST(spki_pins) {
  msock_tls_config config = {.host = "derp.example.com",
                             .roots = roots,
                             .has_spki_pin = true,
                             .insecure_for_tests = spki_cases[_i].insecure};
  tls_test_make(&other_ca, &ca_spec, NULL, NULL);
  tls_test_make(&leaf, &named, spki_cases[_i].untrusted ? &other_ca : &ca, "CN=test ca");
  spki_digest(spki_cases[_i].of_stranger ? &other_ca
              : spki_cases[_i].of_ca     ? &ca
                                         : &leaf,
              config.spki_pin);
  ck_assert_msg(shake_leaf(&config) == spki_cases[_i].want, "%s: %s", spki_cases[_i].name, why);
}
END_TEST

START_TEST(spki_pin_texts) {
  uint8_t want[32], got[32];
  char hex[65], text[100], b64[64];
  randombytes_buf(want, 32);
  msock_hex_encode(want, 32, hex);
  ck_assert_int_eq(msock_tls_parse_spki_pin(hex, got), MSOCK_OK);
  ck_assert_mem_eq(got, want, 32);
  snprintf(text, sizeof text, "sha256:%s", hex);
  ck_assert_int_eq(msock_tls_parse_spki_pin(text, got), MSOCK_OK);
  sodium_bin2base64(b64, sizeof b64, want, 32, sodium_base64_VARIANT_ORIGINAL);
  snprintf(text, sizeof text, "sha256//%s", b64);
  memset(got, 0, sizeof got);
  ck_assert_int_eq(msock_tls_parse_spki_pin(text, got), MSOCK_OK);
  ck_assert_mem_eq(got, want, 32);
  text[strlen(text) - 2] = '\0';
  ck_assert_int_eq(msock_tls_parse_spki_pin(text, got), MSOCK_ERR_INVALID);
  hex[63] = '\0';
  ck_assert_int_eq(msock_tls_parse_spki_pin(hex, got), MSOCK_ERR_INVALID);
  ck_assert_int_eq(msock_tls_parse_spki_pin("", got), MSOCK_ERR_INVALID);
}
END_TEST

START_TEST(a_bad_pin_text_is_refused_before_connecting) {
  msock_tls *t = NULL;
  const msock_tls_config config = {.host = "x.example", .cert_name = "sha256-raw:1234"};
  ck_assert_int_eq(msock_tls_new(&config, pair[0], &t), MSOCK_ERR_INVALID);
  ck_assert_ptr_nonnull(strstr(msock_tls_error_text(t), "64 hex digits"));
  msock_tls_free(t);
}
END_TEST

START_TEST(an_answer_that_is_not_tls_is_said_so) {
  msock_tls *t = NULL;
  const msock_tls_config config = {.host = "derp.example.com", .roots = roots};
  ck_assert_int_eq(msock_tls_new(&config, pair[0], &t), MSOCK_OK);
  ck_assert_int_eq(msock_tls_handshake(t), MSOCK_ERR_AGAIN);
  ck_assert_int_gt(write(pair[1], "HTTP/1.1 400 Bad Request\r\n\r\n", 28), 0);
  ck_assert_int_eq(msock_tls_handshake(t), MSOCK_ERR_IO);
  ck_assert_ptr_nonnull(strstr(msock_tls_error_text(t), "does not speak TLS"));
  msock_tls_free(t);
}
END_TEST

/* A blocked write is repeated with more bytes behind: the record that was sealed first counts. */
START_TEST(a_resumed_write_reports_what_was_sealed) {
  static uint8_t big[65536], sink[65536];
  tls_test_server s;
  msock_tls *t = NULL;
  size_t sent = 0, got = 0;
  make_leaf(&named);
  const tls_test_der chain[] = {{leaf.der, leaf.len}};
  const msock_tls_config config = {.host = "derp.example.com", .roots = roots};
  tls_test_server_init(&s, pair[1], chain, 1, &leaf.key);
  ck_assert_int_eq(msock_tls_new(&config, pair[0], &t), MSOCK_OK);
  while (msock_tls_handshake(t) == MSOCK_ERR_AGAIN) {
    tls_test_server_step(&s);
  }
  const int small = 4096;
  setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
  for (size_t i = 0; i < sizeof big; i++) {
    big[i] = (uint8_t)(i * 31 >> 3);
  }
  while (got < sizeof big) {
    /* 1000 bytes at first, all the rest when repeated */
    const size_t left = sizeof big - sent;
    ptrdiff_t n = left > 0 ? msock_tls_write(t, big + sent, left < 1000 ? left : 1000) : 0;
    if (n == MSOCK_ERR_AGAIN) {
      n = msock_tls_write(t, big + sent, left);
    }
    sent += n > 0 ? (size_t)n : 0;
    if (n <= 0) {
      const int r = mbedtls_ssl_read(&s.ssl, sink + got, sizeof sink - got);
      got += r > 0 ? (size_t)r : 0;
    }
  }
  ck_assert_uint_eq(sent, sizeof big);
  ck_assert_mem_eq(big, sink, sizeof big);
  msock_tls_free(t);
  tls_test_server_free(&s);
}
END_TEST

#define COUNT(a) (int)(sizeof(a) / sizeof *(a))

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_loop_test(tc, chain_and_name, 0, COUNT(chain_cases));
  tcase_add_test(tc, cert_name_is_verified_while_sni_stays_the_host);
  tcase_add_loop_test(tc, a_literal_host_needs_its_address, 0, COUNT(ip_cases));
  tcase_add_loop_test(tc, pins, 0, COUNT(pin_cases));
  tcase_add_test(tc, an_ed25519_meta_certificate_does_not_break_the_chain);
  tcase_add_test(tc, an_unknown_authority_is_refused);
  tcase_add_test(tc, an_extra_ca_file_is_honoured);
  tcase_add_test(tc, a_ca_file_that_cannot_be_read_is_named);
  tcase_add_test(tc, the_right_root_is_found_in_any_store);
  tcase_add_test(tc, a_root_of_the_same_name_with_another_key_is_no_root);
  tcase_add_test(tc, a_leaf_that_signed_itself_is_trusted_from_the_store);
  tcase_add_test(tc, a_store_that_went_away_is_named);
  tcase_add_loop_test(tc, spki_pins, 0, COUNT(spki_cases));
  tcase_add_test(tc, spki_pin_texts);
  tcase_add_test(tc, a_bad_pin_text_is_refused_before_connecting);
  tcase_add_test(tc, an_answer_that_is_not_tls_is_said_so);
  tcase_add_test(tc, a_resumed_write_reports_what_was_sealed);
  return testing_main("io_tls", tc);
}
