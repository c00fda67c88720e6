#include "control/json_split.h"

#include <stdlib.h>
#include <string.h>

#define SCALAR_MAX 64u /* longest number or literal that Go writes is far below */
#define FIRST_BUFFER 1024u

typedef enum walk_state {
  WANT_VALUE = 0,
  WANT_VALUE_OR_CLOSE, /* after '[' */
  WANT_KEY_OR_CLOSE,   /* after '{' */
  WANT_KEY,            /* after ',' in an object */
  WANT_COLON,
  WANT_COMMA_OR_CLOSE,
  IN_STRING,
  IN_SCALAR,
  AT_END
} walk_state;

struct msock_json_split {
  msock_json_handler handler;
  walk_state state;
  msock_err failed;
  size_t depth;                    /* open containers */
  size_t path_depth;               /* of them, those that are descended into */
  char open[MSOCK_JSON_DEPTH_MAX]; /* '{' or '[' */
  char keys[MSOCK_JSON_PATH_MAX][MSOCK_JSON_KEY_MAX + 1];

  /* the value under way below the descended part */
  msock_json_mode mode;
  size_t base_depth; /* containers open where it began */
  bool too_long;
  char *buf;
  size_t len, cap;

  /* the token under way */
  bool string_is_key;
  uint8_t escape; /* 0 none, 1 after a backslash, 2..5 digits of \u left + 1 */
  uint16_t unicode;
  bool keep_key; /* the key names a value that the handler is asked about */
  bool key_too_long;
  size_t key_len;
  char scalar[SCALAR_MAX + 1];
  size_t scalar_len;
};

msock_json_split *msock_json_split_new(const msock_json_handler *handler) {
  msock_json_split *s = calloc(1, sizeof *s);
  if (s) {
    s->handler = *handler;
  }
  return s;
}

void msock_json_split_free(msock_json_split *s) {
  if (s) {
    free(s->buf);
    free(s);
  }
}

void msock_json_split_reset(msock_json_split *s) {
  const msock_json_handler handler = s->handler;
  char *buf = s->buf;
  size_t cap = s->cap;
  if (cap > MSOCK_JSON_KEEP_BUFFER) {
    free(buf);
    buf = NULL;
    cap = 0;
  }
  memset(s, 0, sizeof *s);
  s->handler = handler;
  s->buf = buf;
  s->cap = cap;
}

size_t msock_json_split_memory(const msock_json_split *s) {
  return s->cap;
}

static bool inside_value(const msock_json_split *s) {
  return s->mode != MSOCK_JSON_DESCEND && s->depth > s->path_depth;
}

static msock_json_path path_of(const msock_json_split *s, size_t depth) {
  msock_json_path path = {.depth = depth};
  for (size_t i = 0; i < depth; i++) {
    path.key[i] = s->open[i] == '[' ? "[]" : s->keys[i];
  }
  return path;
}

static msock_err emit(msock_json_split *s, msock_json_event_kind kind, size_t depth) {
  const msock_json_path path = path_of(s, depth);
  return s->handler.event(s->handler.ctx, kind, &path, kind == MSOCK_JSON_VALUE ? s->buf : "",
                          kind == MSOCK_JSON_VALUE ? s->len : 0);
}

static msock_err keep(msock_json_split *s, const uint8_t *p, size_t len) {
  if (s->mode != MSOCK_JSON_WHOLE || s->too_long) {
    return MSOCK_OK;
  }
  if (s->len + len > MSOCK_JSON_ELEMENT_MAX) {
    s->too_long = true;
    return MSOCK_OK;
  }
  if (s->len + len + 1 > s->cap) {
    size_t cap = s->cap ? s->cap : FIRST_BUFFER;
    while (cap < s->len + len + 1) {
      cap *= 2;
    }
    char *grown = realloc(s->buf, cap);
    if (grown == NULL) {
      return MSOCK_ERR_NOMEM;
    }
    s->buf = grown;
    s->cap = cap;
  }
  memcpy(s->buf + s->len, p, len);
  s->len += len;
  s->buf[s->len] = '\0';
  return MSOCK_OK;
}

/* A value ends; the containers that are open now are those around it. */
static msock_err end_value(msock_json_split *s) {
  msock_err err = MSOCK_OK;
  if (s->depth == s->path_depth) {
    if (s->mode == MSOCK_JSON_WHOLE) {
      err = emit(s, s->too_long ? MSOCK_JSON_TOO_LONG : MSOCK_JSON_VALUE, s->depth);
    }
    s->mode = MSOCK_JSON_DESCEND;
  }
  s->state = s->depth == 0 ? AT_END : WANT_COMMA_OR_CLOSE;
  return err;
}

/* A value begins with byte c: asks the handler when the value is not inside one already. */
static msock_err begin_value(msock_json_split *s, uint8_t c) {
  const bool container = c == '{' || c == '[';
  if (!inside_value(s)) {
    const msock_json_path path = path_of(s, s->depth);
    const bool in_object = s->depth > 0 && s->open[s->depth - 1] == '{';
    s->mode =
        in_object && s->key_too_long ? MSOCK_JSON_SKIP : s->handler.mode(s->handler.ctx, &path);
    s->len = 0;
    s->too_long = false;
    if (s->mode == MSOCK_JSON_DESCEND && (!container || s->depth == MSOCK_JSON_PATH_MAX)) {
      s->mode = MSOCK_JSON_WHOLE;
    }
  }
  if (!container) {
    return MSOCK_OK;
  }
  if (s->depth == MSOCK_JSON_DEPTH_MAX) {
    return MSOCK_ERR_INVALID;
  }
  msock_err err = MSOCK_OK;
  if (s->mode == MSOCK_JSON_DESCEND) {
    err = emit(s, c == '{' ? MSOCK_JSON_BEGIN_OBJECT : MSOCK_JSON_BEGIN_ARRAY, s->depth);
    s->path_depth = s->depth + 1;
  }
  s->open[s->depth++] = (char)c;
  s->state = c == '{' ? WANT_KEY_OR_CLOSE : WANT_VALUE_OR_CLOSE;
  return err;
}

static msock_err close_container(msock_json_split *s, uint8_t c) {
  const char want = c == '}' ? '{' : '[';
  if (s->depth == 0 || s->open[s->depth - 1] != want) {
    return MSOCK_ERR_INVALID;
  }
  const bool descended = s->depth == s->path_depth;
  s->depth--;
  if (!descended) {
    return end_value(s);
  }
  s->path_depth = s->depth;
  s->mode = MSOCK_JSON_DESCEND;
  s->state = s->depth == 0 ? AT_END : WANT_COMMA_OR_CLOSE;
  return emit(s, MSOCK_JSON_END, s->depth);
}

static void key_byte(msock_json_split *s, uint8_t c) {
  if (!s->keep_key) {
    return;
  }
  if (s->key_len == MSOCK_JSON_KEY_MAX || c == 0) {
    s->key_too_long = true;
    return;
  }
  s->keys[s->depth - 1][s->key_len++] = (char)c;
  s->keys[s->depth - 1][s->key_len] = '\0';
}

/* One UTF-16 unit of an escape as UTF-8. Halves of pairs become U+FFFD: no key we know has any. */
static void key_unicode(msock_json_split *s, uint16_t u) {
  if (u >= 0xd800 && u <= 0xdfff) {
    u = 0xfffd;
  }
  if (u < 0x80) {
    key_byte(s, (uint8_t)u);
  } else if (u < 0x800) {
    key_byte(s, (uint8_t)(0xc0 | u >> 6));
    key_byte(s, (uint8_t)(0x80 | (u & 63)));
  } else {
    key_byte(s, (uint8_t)(0xe0 | u >> 12));
    key_byte(s, (uint8_t)(0x80 | (u >> 6 & 63)));
    key_byte(s, (uint8_t)(0x80 | (u & 63)));
  }
}

static void begin_string(msock_json_split *s, bool is_key) {
  s->state = IN_STRING;
  s->escape = 0;
  s->string_is_key = is_key;
  s->keep_key = is_key && !inside_value(s);
  if (s->keep_key) {
    s->key_len = 0;
    s->key_too_long = false;
    s->keys[s->depth - 1][0] = '\0';
  }
}

static int hex_value(uint8_t c) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static msock_err escape_byte(msock_json_split *s, uint8_t c) {
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  if (s->escape > 1) {
    const int digit = hex_value(c);
    if (digit < 0) {
      return MSOCK_ERR_INVALID;
    }
    s->unicode = (uint16_t)(s->unicode << 4 | digit);
    if (--s->escape == 1) {
      key_unicode(s, s->unicode);
      s->escape = 0;
    }
    return MSOCK_OK;
  }
  const char *at = c ? strchr(from, c) : NULL;
  if (c == 'u') {
    s->escape = 5;
    s->unicode = 0;
    return MSOCK_OK;
  }
  if (at == NULL) {
    return MSOCK_ERR_INVALID;
  }
  key_byte(s, (uint8_t)to[at - from]);
  s->escape = 0;
  return MSOCK_OK;
}

static msock_err string_byte(msock_json_split *s, uint8_t c) {
  if (s->escape) {
    return escape_byte(s, c);
  }
  if (c == '\\') {
    s->escape = 1;
  } else if (c == '"') {
    if (s->string_is_key) {
      s->state = WANT_COLON;
      return MSOCK_OK;
    }
    return end_value(s);
  } else if (c < 0x20) {
    return MSOCK_ERR_INVALID;
  } else {
    key_byte(s, c);
  }
  return MSOCK_OK;
}

static size_t digits(const char *p) {
  return strspn(p, "0123456789");
}

/* RFC 8259 section 6, and the three literals. */
static bool scalar_is_valid(const char *p) {
  if (strcmp(p, "true") == 0 || strcmp(p, "false") == 0 || strcmp(p, "null") == 0) {
    return true;
  }
  p += *p == '-';
  size_t n = digits(p);
  if (n == 0 || (n > 1 && *p == '0')) {
    return false;
  }
  p += n;
  if (*p == '.') {
    n = digits(++p);
    p += n;
    if (n == 0) {
      return false;
    }
  }
  if (*p == 'e' || *p == 'E') {
    p++;
    p += *p == '+' || *p == '-';
    n = digits(p);
    p += n;
    if (n == 0) {
      return false;
    }
  }
  return *p == '\0';
}

static bool is_scalar_byte(uint8_t c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-' || c == '+' || c == '.' ||
         c == 'E';
}

static bool is_space(uint8_t c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* One byte between tokens. */
static msock_err structural_byte(msock_json_split *s, uint8_t c) {
  switch (s->state) {
  case WANT_VALUE_OR_CLOSE:
    if (c == ']') {
      return close_container(s, c);
    }
    /* fall through */
  case WANT_VALUE: {
    const msock_err err = begin_value(s, c);
    if (err != MSOCK_OK || c == '{' || c == '[') {
      return err;
    }
    if (c == '"') {
      begin_string(s, false);
      return MSOCK_OK;
    }
    s->scalar_len = 1;
    s->scalar[0] = (char)c;
    s->state = IN_SCALAR;
    return is_scalar_byte(c) ? MSOCK_OK : MSOCK_ERR_INVALID;
  }
  case WANT_KEY_OR_CLOSE:
    if (c == '}') {
      return close_container(s, c);
    }
    /* fall through */
  case WANT_KEY:
    if (c != '"') {
      return MSOCK_ERR_INVALID;
    }
    begin_string(s, true);
    return MSOCK_OK;
  case WANT_COLON:
    s->state = WANT_VALUE;
    return c == ':' ? MSOCK_OK : MSOCK_ERR_INVALID;
  case WANT_COMMA_OR_CLOSE:
    if (c == ',') {
      s->state = s->open[s->depth - 1] == '{' ? WANT_KEY : WANT_VALUE;
      return MSOCK_OK;
    }
    return c == '}' || c == ']' ? close_container(s, c) : MSOCK_ERR_INVALID;
  case IN_STRING:
  case IN_SCALAR:
  case AT_END:
    break;
  }
  return MSOCK_ERR_INVALID;
}

static msock_err end_scalar(msock_json_split *s) {
  s->scalar[s->scalar_len] = '\0';
  return scalar_is_valid(s->scalar) ? end_value(s) : MSOCK_ERR_INVALID;
}

static msock_err walk_byte(msock_json_split *s, uint8_t c) {
  if (s->state == IN_SCALAR) {
    if (is_scalar_byte(c)) {
      if (s->scalar_len == SCALAR_MAX) {
        return MSOCK_ERR_INVALID;
      }
      s->scalar[s->scalar_len++] = (char)c;
      return keep(s, &c, 1);
    }
    const msock_err err = end_scalar(s);
    if (err != MSOCK_OK) {
      return err;
    }
  }
  if (s->state != IN_STRING && is_space(c)) {
    return MSOCK_OK; /* blanks between tokens are not kept */
  }
  /* The byte belongs to the WHOLE value that is open before or after it. The closing byte has to be
   * kept before the value ends, the opening one after it began. */
  const bool inside = inside_value(s) || s->state == IN_STRING;
  msock_err err = inside ? keep(s, &c, 1) : MSOCK_OK;
  if (err == MSOCK_OK) {
    err = s->state == IN_STRING ? string_byte(s, c) : structural_byte(s, c);
  }
  if (err == MSOCK_OK && !inside && s->mode == MSOCK_JSON_WHOLE) {
    err = keep(s, &c, 1);
  }
  return err;
}

msock_err msock_json_split_feed(msock_json_split *s, const uint8_t *p, size_t len) {
  for (size_t i = 0; i < len && s->failed == MSOCK_OK; i++) {
    if (s->state == IN_STRING && s->escape == 0 && !s->keep_key) {
      /* The long run of a string at once. */
      size_t n = 0;
      while (i + n < len && p[i + n] != '"' && p[i + n] != '\\' && p[i + n] >= 0x20) {
        n++;
      }
      s->failed = keep(s, p + i, n);
      i += n;
      if (i == len || s->failed != MSOCK_OK) {
        break;
      }
    }
    s->failed = walk_byte(s, p[i]);
  }
  return s->failed;
}

msock_err msock_json_split_finish(msock_json_split *s) {
  if (s->failed == MSOCK_OK && s->state == IN_SCALAR && s->depth == 0) {
    s->failed = end_scalar(s);
  }
  if (s->failed == MSOCK_OK && s->state != AT_END) {
    s->failed = MSOCK_ERR_SHORT;
  }
  return s->failed;
}
