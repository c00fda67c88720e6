#include "base/http1.h"

#include <stdio.h>
#include <string.h>

static bool is_token_char(unsigned char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static char lower(char c) {
  return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool same_text(const char *p, size_t len, const char *text) {
  if (strlen(text) != len) {
    return false;
  }
  for (size_t i = 0; i < len; i++) {
    if (lower(p[i]) != lower(text[i])) {
      return false;
    }
  }
  return true;
}

bool msock_http1_str_is(msock_http1_str s, const char *text) {
  return same_text(s.p, s.len, text);
}

static msock_http1_str trim(const char *p, size_t len) {
  while (len > 0 && (*p == ' ' || *p == '\t')) {
    p++;
    len--;
  }
  while (len > 0 && (p[len - 1] == ' ' || p[len - 1] == '\t')) {
    len--;
  }
  return (msock_http1_str){p, len};
}

bool msock_http1_list_has(msock_http1_str list, const char *token) {
  size_t at = 0;
  while (at <= list.len) {
    size_t end = at;
    while (end < list.len && list.p[end] != ',') {
      end++;
    }
    if (msock_http1_str_is(trim(list.p + at, end - at), token)) {
      return true;
    }
    at = end + 1;
  }
  return false;
}

const msock_http1_header *msock_http1_find(const msock_http1_head *h, const char *name) {
  for (size_t i = 0; i < h->n_headers; i++) {
    if (msock_http1_str_is(h->headers[i].name, name)) {
      return &h->headers[i];
    }
  }
  return NULL;
}

/* One line without its end. Gives the bytes consumed, or 0 when no line end is in sight. A CR that
 * is not part of CRLF, or a NUL, makes the line bad. */
static size_t next_line(const char *p, size_t len, msock_http1_str *line, bool *bad) {
  const char *nl = memchr(p, '\n', len);
  if (nl == NULL) {
    return 0;
  }
  size_t n = (size_t)(nl - p);
  line->p = p;
  line->len = n > 0 && p[n - 1] == '\r' ? n - 1 : n;
  if (memchr(p, '\r', line->len) || memchr(p, '\0', line->len)) {
    *bad = true;
  }
  return n + 1;
}

static bool parse_number(msock_http1_str s, int64_t *out) {
  int64_t v = 0;
  if (s.len == 0 || s.len > 18) {
    return false;
  }
  for (size_t i = 0; i < s.len; i++) {
    if (s.p[i] < '0' || s.p[i] > '9') {
      return false;
    }
    v = v * 10 + (s.p[i] - '0');
  }
  *out = v;
  return true;
}

static bool parse_version(msock_http1_str s, int *minor) {
  if (s.len != 8 || memcmp(s.p, "HTTP/1.", 7) != 0 || (s.p[7] != '0' && s.p[7] != '1')) {
    return false;
  }
  *minor = s.p[7] - '0';
  return true;
}

static bool parse_request_line(msock_http1_str line, msock_http1_head *h) {
  const char *sp1 = memchr(line.p, ' ', line.len);
  if (sp1 == NULL || sp1 == line.p) {
    return false;
  }
  const size_t rest = line.len - (size_t)(sp1 + 1 - line.p);
  const char *sp2 = memchr(sp1 + 1, ' ', rest);
  if (sp2 == NULL || sp2 == sp1 + 1) {
    return false;
  }
  h->method = (msock_http1_str){line.p, (size_t)(sp1 - line.p)};
  h->target = (msock_http1_str){sp1 + 1, (size_t)(sp2 - sp1 - 1)};
  for (size_t i = 0; i < h->method.len; i++) {
    if (!is_token_char((unsigned char)h->method.p[i])) {
      return false;
    }
  }
  for (size_t i = 0; i < h->target.len; i++) {
    if ((unsigned char)h->target.p[i] <= 0x20 || h->target.p[i] == 0x7f) {
      return false;
    }
  }
  return parse_version((msock_http1_str){sp2 + 1, line.len - (size_t)(sp2 + 1 - line.p)},
                       &h->minor_version);
}

static bool parse_status_line(msock_http1_str line, msock_http1_head *h) {
  int64_t status = 0;
  if (line.len < 12 || !parse_version((msock_http1_str){line.p, 8}, &h->minor_version) ||
      line.p[8] != ' ' || !parse_number((msock_http1_str){line.p + 9, 3}, &status) ||
      status < 100 || status > 599 || (line.len > 12 && line.p[12] != ' ')) {
    return false;
  }
  h->is_response = true;
  h->status = (int)status;
  h->reason = line.len > 13 ? trim(line.p + 13, line.len - 13) : (msock_http1_str){line.p + 12, 0};
  return true;
}

static bool parse_header(msock_http1_str line, msock_http1_head *h) {
  const char *colon = memchr(line.p, ':', line.len);
  if (colon == NULL || colon == line.p || h->n_headers == MSOCK_HTTP1_HEADERS_MAX) {
    return false;
  }
  msock_http1_header *f = &h->headers[h->n_headers];
  f->name = (msock_http1_str){line.p, (size_t)(colon - line.p)};
  for (size_t i = 0; i < f->name.len; i++) {
    if (!is_token_char((unsigned char)f->name.p[i])) {
      return false;
    }
  }
  f->value = trim(colon + 1, line.len - f->name.len - 1);
  h->n_headers++;

  if (msock_http1_str_is(f->name, "content-length")) {
    int64_t n = 0;
    if (!parse_number(f->value, &n) || (h->content_length >= 0 && h->content_length != n)) {
      return false;
    }
    h->content_length = n;
  } else if (msock_http1_str_is(f->name, "transfer-encoding")) {
    if (!msock_http1_str_is(f->value, "chunked")) {
      return false; /* the only coding that peers use here */
    }
    h->chunked = true;
  }
  return true;
}

static ptrdiff_t parse_head(const uint8_t *bytes, size_t len, bool response,
                            msock_http1_head *out) {
  const char *p = (const char *)bytes;
  const size_t limit = len < MSOCK_HTTP1_HEAD_MAX ? len : MSOCK_HTTP1_HEAD_MAX;
  msock_http1_head h;
  msock_http1_str line = {0};
  bool bad = false;
  size_t at;

  memset(&h, 0, sizeof h);
  h.content_length = -1;
  at = next_line(p, limit, &line, &bad);
  if (at == 0) {
    return len < MSOCK_HTTP1_HEAD_MAX ? MSOCK_ERR_AGAIN : MSOCK_ERR_INVALID;
  }
  if (bad || !(response ? parse_status_line(line, &h) : parse_request_line(line, &h))) {
    return MSOCK_ERR_INVALID;
  }
  for (;;) {
    const size_t n = next_line(p + at, limit - at, &line, &bad);
    if (bad) {
      return MSOCK_ERR_INVALID;
    }
    if (n == 0) {
      return len < MSOCK_HTTP1_HEAD_MAX ? MSOCK_ERR_AGAIN : MSOCK_ERR_INVALID;
    }
    at += n;
    if (line.len == 0) {
      break;
    }
    if (!parse_header(line, &h)) {
      return MSOCK_ERR_INVALID;
    }
  }
  if (h.chunked && h.content_length >= 0) {
    return MSOCK_ERR_INVALID;
  }
  *out = h;
  return (ptrdiff_t)at;
}

ptrdiff_t msock_http1_parse_request(const uint8_t *p, size_t len, msock_http1_head *out) {
  return parse_head(p, len, false, out);
}

ptrdiff_t msock_http1_parse_response(const uint8_t *p, size_t len, msock_http1_head *out) {
  return parse_head(p, len, true, out);
}

static void append(msock_http1_builder *b, const char *text, size_t len) {
  if (b->bad || len > b->cap - b->len) {
    b->bad = true;
    return;
  }
  memcpy(b->buf + b->len, text, len);
  b->len += len;
}

static void append_text(msock_http1_builder *b, const char *text) {
  if (strpbrk(text, "\r\n") != NULL) {
    b->bad = true;
    return;
  }
  append(b, text, strlen(text));
}

void msock_http1_begin_request(msock_http1_builder *b, char *buf, size_t cap, const char *method,
                               const char *target) {
  *b = (msock_http1_builder){.buf = buf, .cap = cap};
  if (strpbrk(target, " \t") != NULL) {
    b->bad = true;
  }
  append_text(b, method);
  append_text(b, " ");
  append_text(b, target);
  append(b, " HTTP/1.1\r\n", 11);
}

void msock_http1_begin_response(msock_http1_builder *b, char *buf, size_t cap, int status) {
  char line[16];
  *b = (msock_http1_builder){.buf = buf, .cap = cap};
  snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
  append_text(b, line);
  append_text(b, msock_http1_reason(status));
  append(b, "\r\n", 2);
}

void msock_http1_add(msock_http1_builder *b, const char *name, const char *value) {
  append_text(b, name);
  append_text(b, ": ");
  append_text(b, value);
  append(b, "\r\n", 2);
}

void msock_http1_add_number(msock_http1_builder *b, const char *name, uint64_t value) {
  char text[24];
  snprintf(text, sizeof text, "%llu", (unsigned long long)value);
  msock_http1_add(b, name, text);
}

ptrdiff_t msock_http1_finish(msock_http1_builder *b) {
  append(b, "\r\n", 2);
  if (b->bad) {
    return MSOCK_ERR_NOBUF;
  }
  if (b->len < b->cap) {
    b->buf[b->len] = '\0';
  }
  return (ptrdiff_t)b->len;
}

const char *msock_http1_reason(int status) {
  static const struct {
    int status;
    const char *text;
  } table[] = {
      {101, "Switching Protocols"},
      {200, "OK"},
      {204, "No Content"},
      {302, "Found"},
      {400, "Bad Request"},
      {403, "Forbidden"},
      {404, "Not Found"},
      {405, "Method Not Allowed"},
      {408, "Request Timeout"},
      {409, "Conflict"},
      {413, "Payload Too Large"},
      {426, "Upgrade Required"},
      {429, "Too Many Requests"},
      {431, "Request Header Fields Too Large"},
      {500, "Internal Server Error"},
      {501, "Not Implemented"},
      {503, "Service Unavailable"},
      {504, "Gateway Timeout"},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    if (table[i].status == status) {
      return table[i].text;
    }
  }
  return "Unknown";
}
