#include "tests/unit/io_testing.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "io/http.h"
#include "io/http_internal.h"
#include "tests/unit/testing.h"
#include "tests/unit/tls_testing.h"

static msock_loop *loop;
static msock_egress *eg;
static msock_tls_roots *roots;
static msock_http *http;
static tls_test_cert cert;
static char ca_path[64];

/* A server for one connection at a time: reads a request, writes what it was told, closes. */
static struct {
  msock_loop_fd *accept_watch, *watch;
  int l, fd;
  bool tls;
  tls_test_server s;
  char in[8192];
  size_t in_len, out_at;
  const char *out;
  size_t out_len;
  bool silent;
  size_t accepted;
} srv;
static msock_addr at;

static void server_close(void) {
  msock_loop_fd_free(srv.watch);
  srv.watch = NULL;
  if (srv.tls) {
    mbedtls_ssl_close_notify(&srv.s.ssl);
    tls_test_server_free(&srv.s);
  }
  close(srv.fd);
  srv.fd = -1;
}

static int server_read(char *dst, size_t cap) {
  return srv.tls ? mbedtls_ssl_read(&srv.s.ssl, (uint8_t *)dst, cap)
                 : (int)recv(srv.fd, dst, cap, MSG_DONTWAIT);
}

static void server_work(void *ctx, bool readable, bool writable) {
  (void)ctx;
  (void)readable;
  (void)writable;
  if (srv.tls && !srv.s.up) {
    const int rc = tls_test_server_step(&srv.s);
    if (rc != 0) {
      if (rc != MBEDTLS_ERR_SSL_WANT_READ && rc != MBEDTLS_ERR_SSL_WANT_WRITE) {
        server_close();
      }
      return;
    }
  }
  const int n = server_read(srv.in + srv.in_len, sizeof srv.in - 1 - srv.in_len);
  if (n == 0) {
    server_close();
    return;
  }
  srv.in_len += n > 0 ? (size_t)n : 0;
  srv.in[srv.in_len] = '\0';
  const char *end = strstr(srv.in, "\r\n\r\n");
  const char *length = strstr(srv.in, "Content-Length: ");
  const size_t body = length != NULL ? (size_t)atoi(length + 16) : 0;
  if (end == NULL || srv.silent || strlen(end + 4) < body) {
    return;
  }
  while (srv.out_at < srv.out_len) {
    const size_t left = srv.out_len - srv.out_at;
    const int w = srv.tls
                      ? mbedtls_ssl_write(&srv.s.ssl, (const uint8_t *)srv.out + srv.out_at, left)
                      : (int)send(srv.fd, srv.out + srv.out_at, left, MSG_NOSIGNAL);
    ck_assert_int_gt(w, 0);
    srv.out_at += (size_t)w;
  }
  server_close();
}

static void server_accept(void *ctx, bool readable, bool writable) {
  (void)ctx;
  (void)readable;
  (void)writable;
  const tls_test_der chain[] = {{cert.der, cert.len}};
  srv.fd = accept4(srv.l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  srv.accepted++;
  srv.in_len = srv.out_at = 0;
  if (srv.tls) {
    tls_test_server_init(&srv.s, srv.fd, chain, 1, &cert.key);
  }
  srv.watch = msock_loop_fd_new(loop, srv.fd, server_work, NULL);
  msock_loop_fd_want(srv.watch, true, false);
}

static bool done;
static msock_http_result got;
static char body[4096], why[512], x_header[64];

static void on_result(void *ctx, const msock_http_result *r) {
  (void)ctx;
  ck_assert(!done);
  done = true;
  got = *r;
  snprintf(body, sizeof body, "%.*s", (int)r->body_len,
           r->body_len > 0 ? (const char *)r->body : "");
  snprintf(why, sizeof why, "%s", r->why);
  x_header[0] = '\0';
  msock_http_result_header(r, "x-tailscale-response", x_header, sizeof x_header);
}

static void start(msock_profile profile, const char *extra_ca) {
  loop = msock_loop_new(NULL);
  eg = io_test_egress(loop, profile, false);
  roots = msock_tls_roots_new(extra_ca);
  http = msock_http_new(eg, roots, NULL);
  ck_assert_ptr_nonnull(http);
  srv.l = io_test_listen(eg, &at);
  srv.fd = -1;
  srv.accept_watch = msock_loop_fd_new(loop, srv.l, server_accept, NULL);
  msock_loop_fd_want(srv.accept_watch, true, false);
}

static void setup(void) {
  static const uint8_t ip[4] = {127, 0, 0, 1};
  static const tls_test_spec spec = {
      .cn = "CN=control", .dns = {"control.example.com", "localhost"}, .ip = ip, .is_ca = true};
  memset(&srv, 0, sizeof srv);
  done = false;
  tls_test_make(&cert, &spec, NULL, NULL);
  strcpy(ca_path, "/tmp/tsnode-test-XXXXXX");
  close(mkstemp(ca_path));
  tls_test_write_pem(&cert, ca_path);
  unsetenv("https_proxy");
  unsetenv("HTTPS_PROXY");
  unsetenv("http_proxy");
  unsetenv("all_proxy");
  unsetenv("ALL_PROXY");
}

static void teardown(void) {
  if (srv.fd >= 0) {
    server_close();
  }
  msock_loop_fd_free(srv.accept_watch);
  close(srv.l);
  msock_http_free(http);
  msock_tls_roots_free(roots);
  msock_egress_free(eg);
  msock_loop_free(loop);
  tls_test_free(&cert);
  unlink(ca_path);
}

static msock_http_request get(const char *url) {
  return (msock_http_request){.purpose = MSOCK_PURPOSE_CTL,
                              .method = "GET",
                              .url = url,
                              .max_body = 1024,
                              .timeout_us = 10 * MSOCK_SEC};
}

static void answer(const char *text) {
  srv.out = text;
  srv.out_len = strlen(text);
}

static void call(const msock_http_request *r) {
  const msock_err err = msock_http_start(http, r, on_result, NULL, NULL);
  ck_assert_msg(err == MSOCK_OK, "start: %d", err);
  ck_assert(!done);
  ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
}

static const char *url_of(const char *scheme, const char *host, const char *target) {
  static char text[256];
  snprintf(text, sizeof text, "%s://%s:%u%s", scheme, host, at.port, target);
  return text;
}

START_TEST(get_head_and_post) {
  start(MSOCK_PROFILE_FULL, NULL);
  msock_http_request r = get(url_of("http", "127.0.0.1", "/key?v=138"));
  r.headers[0] = "X-Tailscale-Challenge: ts_x";
  answer(
      "HTTP/1.1 200 OK\r\nX-Tailscale-Response: response ts_x\r\nContent-Length: 5\r\n\r\nhello");
  call(&r);
  ck_assert_msg(got.err == MSOCK_OK, "%s", why);
  ck_assert_int_eq(got.status, 200);
  ck_assert_str_eq(body, "hello");
  ck_assert_str_eq(x_header, "response ts_x");
  ck_assert_uint_gt(got.total_us, 0);
  ck_assert_uint_gt(got.answer_us, 0);
  ck_assert_uint_le(got.answer_us + got.connect_us, got.total_us);
  ck_assert_int_eq(strncmp(srv.in, "GET /key?v=138 HTTP/1.1\r\n", 25), 0);
  ck_assert_ptr_nonnull(strstr(srv.in, "X-Tailscale-Challenge: ts_x\r\n"));
  ck_assert_ptr_null(strstr(srv.in, "Expect"));
  ck_assert_uint_gt(msock_egress_get_row(eg, MSOCK_PURPOSE_CTL)->bytes, 0);

  done = false;
  r.method = "HEAD";
  answer("HTTP/1.1 204 No Content\r\nContent-Length: 99\r\n\r\n");
  call(&r);
  ck_assert_int_eq(got.err, MSOCK_OK);
  ck_assert_int_eq(got.status, 204);
  ck_assert_int_eq(strncmp(srv.in, "HEAD ", 5), 0);

  done = false;
  r.method = "POST";
  r.body = "a=b";
  r.body_len = 3;
  answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
  call(&r);
  ck_assert_int_eq(got.err, MSOCK_OK); /* an answer is an answer */
  ck_assert_int_eq(got.status, 403);
  ck_assert_ptr_nonnull(strstr(srv.in, "Content-Length: 3\r\n"));
  ck_assert_str_eq(srv.in + srv.in_len - 3, "a=b");
}
END_TEST

static const struct {
  const char *name, *answer;
  msock_err want;
  int status;
  const char *body;
} answers[] = {
    {"chunked",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
     MSOCK_OK, 200, "abcd"},
    {"until the end", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc", MSOCK_OK, 200, "abc"},
    {"redirects are not followed",
     "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n", MSOCK_OK,
     302, ""},
    {"cut short", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", MSOCK_ERR_IO, 0, ""},
    {"closed without a word", "", MSOCK_ERR_IO, 0, ""},
};

START_TEST(answers_of_every_framing) {
  start(MSOCK_PROFILE_FULL, NULL);
  const msock_http_request r = get(url_of("http", "127.0.0.1", "/"));
  answer(answers[_i].answer);
  call(&r);
  if (answers[_i].want == MSOCK_OK) {
    ck_assert_msg(got.err == MSOCK_OK, "%s: %s", answers[_i].name, why);
    ck_assert_int_eq(got.status, answers[_i].status);
    ck_assert_str_eq(body, answers[_i].body);
  } else { /* the providers differ in the code, not in the fact */
    ck_assert_msg(got.err == MSOCK_ERR_IO || got.err == MSOCK_ERR_INVALID, "%s: %d",
                  answers[_i].name, got.err);
    ck_assert_str_ne(why, "");
  }
}
END_TEST

START_TEST(the_body_is_bounded) {
  start(MSOCK_PROFILE_FULL, NULL);
  msock_http_request r = get(url_of("http", "127.0.0.1", "/"));
  r.max_body = 4 + (_i == 0 ? 0 : 1);
  answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
  call(&r);
  ck_assert_int_eq(got.err, _i == 0 ? MSOCK_ERR_INVALID : MSOCK_OK);
  if (_i == 0) {
    ck_assert_ptr_nonnull(strstr(why, "longer than expected"));
  }
}
END_TEST

START_TEST(the_deadline_ends_a_silent_server) {
  start(MSOCK_PROFILE_FULL, NULL);
  msock_http_request r = get(url_of("http", "127.0.0.1", "/"));
  r.timeout_us = 60 * MSOCK_MS;
  srv.silent = true;
  const uint64_t began_us = msock_loop_now_us();
  call(&r);
  ck_assert_int_eq(got.err, MSOCK_ERR_TIMEOUT);
  ck_assert_uint_ge(msock_loop_now_us() - began_us, 60 * MSOCK_MS);
}
END_TEST

START_TEST(a_cancelled_call_calls_nobody) {
  msock_http_call *c = NULL;
  start(MSOCK_PROFILE_FULL, NULL);
  const msock_http_request r = get(url_of("http", "127.0.0.1", "/"));
  answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  ck_assert_int_eq(msock_http_start(http, &r, on_result, NULL, &c), MSOCK_OK);
  msock_loop_turn(loop, true);
  msock_http_cancel(c);
  io_test_run(loop, &done, 20 * MSOCK_MS);
  ck_assert(!done);
  /* and one more is cancelled by freeing the client */
  ck_assert_int_eq(msock_http_start(http, &r, on_result, NULL, &c), MSOCK_OK);
}
END_TEST

START_TEST(names_and_given_addresses) {
  start(MSOCK_PROFILE_FULL, NULL);
  msock_http_request r = get(url_of("http", "localhost", "/"));
  answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  call(&r);
  ck_assert_msg(got.err == MSOCK_OK, "%s", why);
  ck_assert_uint_eq(msock_egress_get_row(eg, MSOCK_PURPOSE_DNS_SYS)->allowed, 1);

  done = false; /* no look-up with an address; the Host header keeps the name and its port */
  r.url = "http://derp.example.com/derp/latency-check";
  r.connect_ip = at.ip;
  r.connect_port = at.port;
  call(&r);
  ck_assert_msg(got.err == MSOCK_OK, "%s", why);
  ck_assert_uint_eq(msock_egress_get_row(eg, MSOCK_PURPOSE_DNS_SYS)->allowed, 1);
  ck_assert_ptr_nonnull(strstr(srv.in, "Host: derp.example.com\r\n"));
}
END_TEST

START_TEST(privacy_needs_an_address_and_ignores_proxies) {
  setenv("http_proxy", "http://127.0.0.1:9", 1);
  start(MSOCK_PROFILE_PRIVACY_PROXY, NULL);
  msock_http_request r = get(url_of("http", "localhost", "/"));
  answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  ck_assert_int_eq(msock_http_start(http, &r, on_result, NULL, NULL), MSOCK_ERR_DENIED);
  r.connect_ip = at.ip;
  call(&r);
  ck_assert_msg(got.err == MSOCK_OK, "%s", why);
  r.purpose = MSOCK_PURPOSE_CAPTIVE;
  ck_assert_int_eq(msock_http_start(http, &r, on_result, NULL, NULL), MSOCK_ERR_DENIED);
}
END_TEST

/* closes: CTRL-13 */
START_TEST(https_is_verified_with_the_extra_ca) {
  static const struct {
    const char *host;
    bool trusted;
    msock_err want;
  } cases[] = {{"127.0.0.1", true, MSOCK_OK},
               {"localhost", true, MSOCK_OK},
               {"127.0.0.1", false, MSOCK_ERR_AUTH},
               {"other.example.com", true, MSOCK_ERR_AUTH}};
  char empty[] = "/tmp/tsnode-test-XXXXXX"; /* a system store with one unrelated root */
  tls_test_cert other;
  static const tls_test_spec spec = {.cn = "CN=other", .is_ca = true};
  tls_test_make(&other, &spec, NULL, NULL);
  close(mkstemp(empty));
  tls_test_write_pem(&other, empty);
  setenv("SSL_CERT_FILE", empty, 1);
  srv.tls = true;
  start(MSOCK_PROFILE_FULL, cases[_i].trusted ? ca_path : NULL);
  msock_http_request r = get(url_of("https", cases[_i].host, "/key"));
  r.connect_ip = at.ip;
  answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  call(&r);
  ck_assert_msg(got.err == cases[_i].want, "%s: %d %s", cases[_i].host, got.err, why);
  if (got.err == MSOCK_OK) {
    ck_assert_str_eq(body, "ok");
  } else {
    ck_assert_uint_eq(srv.in_len, 0); /* no request reached an unverified server */
    ck_assert_str_ne(why, "");
  }
  tls_test_free(&other);
  unlink(empty);
}
END_TEST

/* closes: CTRL-13 */
START_TEST(pins_are_honoured) {
  uint8_t digest[32], spki[256];
  char pin[100] = MSOCK_TLS_PIN_PREFIX;
  setenv("SSL_CERT_FILE", ca_path, 1);
  srv.tls = true;
  start(MSOCK_PROFILE_FULL, NULL);
  msock_http_request r = get(url_of("https", "127.0.0.1", "/key"));
  answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  if (_i < 2) { /* SPKI: right, wrong */
    const int n = mbedtls_pk_write_pubkey_der(&cert.key, spki, sizeof spki);
    const unsigned long long len = (unsigned long long)n;
    crypto_hash_sha256(r.spki_pin, spki + sizeof spki - len, len);
    r.has_spki_pin = true;
    r.spki_pin[0] ^= _i == 1;
  } else { /* certificate: right, wrong */
    crypto_hash_sha256(digest, cert.der, cert.len);
    digest[0] ^= _i == 3;
    msock_hex_encode(digest, 32, pin + strlen(pin));
    r.cert_name = pin;
  }
  call(&r);
  ck_assert_msg(got.err == (_i % 2 == 0 ? MSOCK_OK : MSOCK_ERR_AUTH), "%d: %d %s", _i, got.err,
                why);
  ck_assert_str_eq(body, _i % 2 == 0 ? "ok" : "");
}
END_TEST

START_TEST(a_proxy_is_used_unless_excluded) {
  char proxy[64], wanted[64];
  start(MSOCK_PROFILE_FULL, NULL);
  if (strcmp(msock_http_provider(), "small") == 0) {
    return; /* no proxies there, by design */
  }
  snprintf(proxy, sizeof proxy, "http://127.0.0.1:%u", at.port);
  setenv("http_proxy", proxy, 1);
  setenv("no_proxy", "example.org", 1);
  msock_http_request r = get("http://control.example.com/key");
  answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  call(&r);
  ck_assert_msg(got.err == MSOCK_OK, "%s", why);
  snprintf(wanted, sizeof wanted, "GET http://control.example.com/key HTTP/1.1");
  ck_assert_int_eq(strncmp(srv.in, wanted, strlen(wanted)), 0);
  ck_assert_uint_eq(msock_egress_get_row(eg, MSOCK_PURPOSE_DNS_SYS)->allowed, 0);
}
END_TEST

START_TEST(proxy_choice) {
  static const struct {
    const char *url, *no_proxy;
    bool want;
  } cases[] = {
      {"http://a.example.com/", "", true},
      {"http://a.example.com/", "example.com", false},
      {"http://a.example.com/", ".example.com", false},
      {"http://a.example.com/", "other.com, EXAMPLE.com", false},
      {"http://badexample.com/", "example.com", true},
      {"http://a.example.com/", "*", false},
      {"http://192.0.2.7/", "192.0.2.0/24", false},
      {"http://192.0.3.7/", "192.0.2.0/24", true},
      {"http://127.0.0.1/", "", false},
      {"https://a.example.com/", "", false}, /* http_proxy is not for https */
  };
  msock_http_url u;
  char dst[100];
  start(MSOCK_PROFILE_FULL, NULL);
  setenv("http_proxy", "proxy.example:3128", 1);
  setenv("no_proxy", cases[_i].no_proxy, 1);
  ck_assert_int_eq(msock_http_url_parse(cases[_i].url, &u), MSOCK_OK);
  ck_assert_int_eq(msock_http_env_proxy(&u, dst, sizeof dst), cases[_i].want);
  if (cases[_i].want) {
    ck_assert_str_eq(dst, "http://proxy.example:3128");
  }
}
END_TEST

START_TEST(urls) {
  static const struct {
    const char *url;
    bool ok, https, ip;
    const char *host;
    uint16_t port;
    const char *target;
  } cases[] = {
      {"https://h.example", true, true, false, "h.example", 443, "/"},
      {"http://h.example:8080/a?b=c", true, false, false, "h.example", 8080, "/a?b=c"},
      {"https://[2001:db8::1]:8443/x", true, true, true, "2001:db8::1", 8443, "/x"},
      {"http://192.0.2.1?x", true, false, true, "192.0.2.1", 80, "/?x"},
      {"ftp://h/", false, false, false, "", 0, ""},
      {"http://user@h/", false, false, false, "", 0, ""},
      {"http://h:0/", false, false, false, "", 0, ""},
      {"http://h:65536/", false, false, false, "", 0, ""},
      {"http://h:/", false, false, false, "", 0, ""},
      {"http:///x", false, false, false, "", 0, ""},
      {"http://[h]/", false, false, false, "", 0, ""},
      {"http://h/a b", false, false, false, "", 0, ""},
      {"http://h/\r\nX: y", false, false, false, "", 0, ""},
      {"http://h/#f", false, false, false, "", 0, ""},
  };
  start(MSOCK_PROFILE_FULL, NULL);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    msock_http_url u;
    const msock_err err = msock_http_url_parse(cases[i].url, &u);
    ck_assert_msg((err == MSOCK_OK) == cases[i].ok, "%s", cases[i].url);
    if (err == MSOCK_OK) {
      ck_assert_int_eq(u.https, cases[i].https);
      ck_assert_int_eq(u.host_is_ip, cases[i].ip);
      ck_assert_str_eq(u.host, cases[i].host);
      ck_assert_uint_eq(u.port, cases[i].port);
      ck_assert_str_eq(u.target, cases[i].target);
    }
  }
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_test(tc, get_head_and_post);
  tcase_add_loop_test(tc, answers_of_every_framing, 0, (int)(sizeof answers / sizeof *answers));
  tcase_add_loop_test(tc, the_body_is_bounded, 0, 2);
  tcase_add_test(tc, the_deadline_ends_a_silent_server);
  tcase_add_test(tc, a_cancelled_call_calls_nobody);
  tcase_add_test(tc, names_and_given_addresses);
  tcase_add_test(tc, privacy_needs_an_address_and_ignores_proxies);
  tcase_add_loop_test(tc, https_is_verified_with_the_extra_ca, 0, 4);
  tcase_add_loop_test(tc, pins_are_honoured, 0, 4);
  tcase_add_test(tc, a_proxy_is_used_unless_excluded);
  tcase_add_loop_test(tc, proxy_choice, 0, 10);
  tcase_add_test(tc, urls);
  return testing_main("io_http", tc);
}
