/* HTTP/1.1 heads, requests and responses; the answer of a CONNECT proxy; an answer's body as the
 * small HTTP client reads it. Pieces must give what the whole gives. */
#include <stdlib.h>
#include <string.h>

#include "base/http1.h"
#include "derp/proxy.h"
#include "io/body.h"
#include "tests/fuzz/fuzzing.h"

#define BODY_ENOUGH 65536u

typedef ptrdiff_t (*parser)(const uint8_t *p, size_t len, msock_http1_head *out);

static void inside(msock_http1_str s, const uint8_t *p, size_t len) {
  const uint8_t *at = (const uint8_t *)s.p;
  FUZZ_CHECK(s.len == 0 || (at >= p && at + s.len <= p + len));
}

static void check_head(const msock_http1_head *h, const uint8_t *p, size_t len) {
  char *buf = malloc(2 * MSOCK_HTTP1_HEAD_MAX);
  msock_http1_builder b;
  msock_http1_head again;

  FUZZ_CHECK(h->n_headers <= MSOCK_HTTP1_HEADERS_MAX);
  FUZZ_CHECK(!h->is_response || (h->status >= 100 && h->status <= 599));
  FUZZ_CHECK(h->content_length >= -1 && !(h->chunked && h->content_length >= 0));
  inside(h->method, p, len);
  inside(h->target, p, len);
  inside(h->reason, p, len);
  msock_http1_begin_response(&b, buf, 2 * MSOCK_HTTP1_HEAD_MAX, 200);
  for (size_t i = 0; i < h->n_headers; i++) {
    inside(h->headers[i].name, p, len);
    inside(h->headers[i].value, p, len);
    FUZZ_CHECK(h->headers[i].name.len > 0);
    char *name = strndup(h->headers[i].name.p, h->headers[i].name.len);
    char *value = strndup(h->headers[i].value.p, h->headers[i].value.len);
    FUZZ_CHECK(msock_http1_find(h, name) != NULL);
    (void)msock_http1_list_has(h->headers[i].value, "chunked");
    msock_http1_add(&b, name, value);
    free(name);
    free(value);
  }
  const ptrdiff_t n = msock_http1_finish(&b);
  if (n > 0) { /* what we write we can read */
    const ptrdiff_t got = msock_http1_parse_response((const uint8_t *)buf, (size_t)n, &again);
    FUZZ_CHECK(got == n || n > (ptrdiff_t)MSOCK_HTTP1_HEAD_MAX);
    FUZZ_CHECK(got != n || again.n_headers == h->n_headers);
  }
  free(buf);
}

static void head(parser parse, const uint8_t *p, size_t len) {
  msock_http1_head h;
  const ptrdiff_t n = parse(p, len, &h);

  FUZZ_CHECK(n == MSOCK_ERR_INVALID || n == MSOCK_ERR_AGAIN || (n > 0 && (size_t)n <= len));
  FUZZ_CHECK(n != MSOCK_ERR_AGAIN || len < MSOCK_HTTP1_HEAD_MAX);
  if (n > 0) {
    check_head(&h, p, len);
    msock_http1_head cut;
    FUZZ_CHECK(parse(p, (size_t)n, &cut) == n);
    FUZZ_CHECK(parse(p, (size_t)n - 1, &cut) == MSOCK_ERR_AGAIN);
  }
}

typedef struct collected {
  size_t len;
  uint32_t sum;
} collected;

static bool collect(void *ctx, const uint8_t *p, size_t len) {
  collected *c = ctx;
  for (size_t i = 0; i < len; i++) {
    c->sum = c->sum * 31 + p[i];
  }
  c->len += len;
  return c->len <= BODY_ENOUGH;
}

static msock_err body(const uint8_t *p, size_t len, bool answer_to_head, uint8_t how,
                      collected *c) {
  msock_body b;
  msock_err e = MSOCK_ERR_AGAIN;

  msock_body_init(&b, answer_to_head, collect, c);
  for (size_t at = 0; at < len && e == MSOCK_ERR_AGAIN;) {
    const size_t n = fuzz_piece(how, len - at);
    e = msock_body_feed(&b, p + at, n);
    at += n;
  }
  if (e == MSOCK_ERR_AGAIN) {
    e = msock_body_end(&b);
  }
  msock_body_clear(&b);
  return e;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  msock_reader r = msock_reader_init(data, size);
  const uint8_t flags = msock_read_u8(&r), how = msock_read_u8(&r);
  collected whole = {0}, pieces = {0};
  int status = 0;
  size_t len = 0;
  uint8_t *p = fuzz_rest(&r, &len);

  head(msock_http1_parse_request, p, len);
  head(msock_http1_parse_response, p, len);
  const ptrdiff_t n = msock_derp_proxy_reply(p, len, &status);
  FUZZ_CHECK(n <= (ptrdiff_t)len && (n <= 0 || status == 200));
  const msock_err a = body(p, len, (flags & 1) != 0, 0, &whole);
  const msock_err b = body(p, len, (flags & 1) != 0, how, &pieces);
  FUZZ_CHECK(a == b && (a != MSOCK_OK || (whole.len == pieces.len && whole.sum == pieces.sum)));
  free(p);
  return 0;
}
