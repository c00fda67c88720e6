#include "control/channel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/channel_internal.h"
#include "crypto/aead.h"
#include "crypto/wipe.h"

#define UPGRADE_TOKEN "tailscale-control-protocol"
#define UPGRADE_PATH "/ts2021"
#define HANDSHAKE_B64_LEN 136u /* 101 bytes, padded */
#define ERROR_TEXT_MAX 256u    /* of an error frame: control.md 2.4 */

static const uint8_t early_magic[5] = {0xff, 0xff, 0xff, 0x54, 0x53};

void msock_channel_fail(msock_channel *ch, msock_channel_failure why, const char *text,
                        size_t len) {
  if (ch->failure != MSOCK_CHANNEL_ALIVE) {
    return;
  }
  len = len < MSOCK_CHANNEL_TEXT_MAX ? len : MSOCK_CHANNEL_TEXT_MAX;
  for (size_t i = 0; i < len; i++) {
    ch->failure_text[i] = text[i] >= ' ' && text[i] < 0x7f ? text[i] : '?';
  }
  ch->failure_text[len] = '\0';
  ch->failure = why;
  msock_control_records_wipe(&ch->records);
}

static void fail(msock_channel *ch, msock_channel_failure why, const char *text) {
  msock_channel_fail(ch, why, text, strlen(text));
}

void msock_channel_queue(msock_channel *ch, channel_queued ev) {
  if (ch->events_len == ch->events_cap) {
    const size_t cap = ch->events_cap ? ch->events_cap * 2 : 8;
    channel_queued *grown =
        cap <= CHANNEL_EVENTS_MAX ? realloc(ch->events, cap * sizeof *grown) : NULL;
    if (grown == NULL) {
      fail(ch, MSOCK_CHANNEL_F_NOMEM, "event queue");
      return;
    }
    ch->events = grown;
    ch->events_cap = cap;
  }
  ch->events[ch->events_len++] = ev;
}

/* Standard base64 with padding (RFC 4648 section 4); dst holds 4 * ceil(len / 3) + 1 bytes. */
static void base64(const uint8_t *p, size_t len, char *dst) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < len; i += 3) {
    const uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < len ? (uint32_t)p[i + 1] << 8 : 0) |
                       (i + 2 < len ? p[i + 2] : 0);
    *dst++ = digits[v >> 18];
    *dst++ = digits[v >> 12 & 63];
    *dst++ = i + 1 < len ? digits[v >> 6 & 63] : '=';
    *dst++ = i + 2 < len ? digits[v & 63] : '=';
  }
  *dst = '\0';
}

static bool write_upgrade(msock_channel *ch, const msock_channel_cfg *cfg) {
  uint8_t initiation[MSOCK_CONTROL_INITIATION_LEN];
  char text[HANDSHAKE_B64_LEN + 1];
  uint8_t ephemeral[32];
  msock_http1_builder b;

  ch->env->random(ch->env->ctx, ephemeral, sizeof ephemeral);
  const msock_err err = msock_control_initiate(&ch->hs, cfg->version, cfg->machine, cfg->server,
                                               ephemeral, initiation);
  msock_wipe(ephemeral, sizeof ephemeral);
  if (err != MSOCK_OK) {
    return false;
  }
  base64(initiation, sizeof initiation, text);
  msock_http1_begin_request(&b, (char *)ch->tx, sizeof ch->tx, "POST", UPGRADE_PATH);
  msock_http1_add(&b, "Host", ch->authority);
  msock_http1_add(&b, "Upgrade", UPGRADE_TOKEN);
  msock_http1_add(&b, "Connection", "upgrade");
  msock_http1_add(&b, "X-Tailscale-Handshake", text);
  msock_http1_add(&b, "Content-Length", "0");
  const ptrdiff_t n = msock_http1_finish(&b);
  ch->tx_len = n > 0 ? (size_t)n : 0;
  return n > 0;
}

msock_channel *msock_channel_new(const msock_env *env, const msock_channel_cfg *cfg,
                                 uint64_t now_us) {
  const bool v6 = strchr(cfg->host, ':') != NULL;
  msock_channel *ch = calloc(1, sizeof *ch);
  if (ch == NULL) {
    return NULL;
  }
  ch->env = env;
  ch->deadline_us = now_us + MSOCK_CHANNEL_UPGRADE_US;
  ch->ping_due_us = MSOCK_NEVER;
  ch->last_rx_us = now_us;
  ch->head = malloc(MSOCK_HTTP1_HEAD_MAX);
  int n = snprintf(ch->authority, sizeof ch->authority, v6 ? "[%s]" : "%s", cfg->host);
  if (n > 0 && (size_t)n < sizeof ch->authority && !cfg->default_port) {
    n += snprintf(ch->authority + n, sizeof ch->authority - (size_t)n, ":%u", cfg->port);
  }
  if (ch->head == NULL || n <= 0 || (size_t)n >= sizeof ch->authority ||
      !msock_channel_h2_start(ch) || !write_upgrade(ch, cfg)) {
    msock_channel_free(ch);
    return NULL;
  }
  return ch;
}

void msock_channel_free(msock_channel *ch) {
  if (ch == NULL) {
    return;
  }
  msock_channel_h2_stop(ch);
  free(ch->head);
  free(ch->events);
  msock_wipe(ch, sizeof *ch);
  free(ch);
}

/* Anything but a proper 101: name what answered, it is mostly a proxy (control.md 2.2). */
static void fail_status(msock_channel *ch, const msock_http1_head *h) {
  const msock_http1_header *server = msock_http1_find(h, "server");
  char text[MSOCK_CHANNEL_TEXT_MAX + 1];
  snprintf(text, sizeof text,
           "HTTP %d instead of 101 from \"%.*s\": a proxy in between must pass Upgrade on POST",
           h->status, server ? (int)(server->value.len < 60 ? server->value.len : 60) : 7,
           server ? server->value.p : "unnamed");
  ch->failure_status = h->status;
  fail(ch, MSOCK_CHANNEL_F_STATUS, text);
}

/* Gives the bytes used: what follows the blank line stays for the next phase. */
static size_t feed_head(msock_channel *ch, const uint8_t *p, size_t len) {
  const size_t before = ch->head_len;
  const size_t room = MSOCK_HTTP1_HEAD_MAX - before;
  const size_t take = len < room ? len : room;
  msock_http1_head h;

  memcpy(ch->head + before, p, take);
  ch->head_len += take;
  const ptrdiff_t n = msock_http1_parse_response(ch->head, ch->head_len, &h);
  if (n == MSOCK_ERR_AGAIN) {
    return take;
  }
  if (n < 0) {
    fail(ch, MSOCK_CHANNEL_F_STATUS, "the answer to the upgrade is not HTTP");
    return take;
  }
  const msock_http1_header *upgrade = msock_http1_find(&h, "upgrade");
  if (h.status != 101 || upgrade == NULL || !msock_http1_str_is(upgrade->value, UPGRADE_TOKEN)) {
    fail_status(ch, &h);
    return take;
  }
  free(ch->head);
  ch->head = NULL;
  ch->phase = PHASE_RESPONSE;
  return (size_t)n - before;
}

/* Gathers bytes until rx holds want. Gives the bytes used. */
static size_t gather(msock_channel *ch, size_t want, const uint8_t *p, size_t len) {
  size_t take = want > ch->rx_len ? want - ch->rx_len : 0;
  take = take < len ? take : len;
  memcpy(ch->rx + ch->rx_len, p, take);
  ch->rx_len += take;
  return take;
}

static size_t feed_response(msock_channel *ch, const uint8_t *p, size_t len) {
  size_t used = gather(ch, MSOCK_CONTROL_MSG_HEADER_LEN, p, len);
  size_t want = MSOCK_CONTROL_RESPONSE_LEN;
  bool refused = false;

  if (ch->rx_len < MSOCK_CONTROL_MSG_HEADER_LEN) {
    return used;
  }
  if (ch->rx[0] == MSOCK_CONTROL_MSG_ERROR) {
    const size_t text_len = (size_t)(ch->rx[1] << 8 | ch->rx[2]);
    want = MSOCK_CONTROL_MSG_HEADER_LEN + (text_len < ERROR_TEXT_MAX ? text_len : ERROR_TEXT_MAX);
    refused = true;
  } else if (ch->rx[0] != MSOCK_CONTROL_MSG_RESPONSE) {
    fail(ch, MSOCK_CHANNEL_F_HANDSHAKE, "unexpected message during the handshake");
    return used;
  }
  used += gather(ch, want, p + used, len - used);
  if (ch->rx_len < want) {
    return used;
  }
  if (refused) { /* unauthenticated text: for the log only */
    msock_channel_fail(ch, MSOCK_CHANNEL_F_REJECTED,
                       (const char *)ch->rx + MSOCK_CONTROL_MSG_HEADER_LEN,
                       want - MSOCK_CONTROL_MSG_HEADER_LEN);
  } else if (msock_control_initiator_finish(&ch->hs, ch->rx, &ch->records) != MSOCK_OK) {
    fail(ch, MSOCK_CHANNEL_F_HANDSHAKE, "the server's handshake message does not open");
  } else {
    ch->phase = PHASE_EARLY;
    ch->rx_len = 0;
    ch->deadline_us = MSOCK_NEVER;
    msock_channel_queue(ch, (channel_queued){.kind = MSOCK_CHANNEL_EV_READY});
  }
  return used;
}

/* First plaintext bytes: the 9-byte head of the early payload, or HTTP/2 at once. */
static void feed_early(msock_channel *ch, const uint8_t *p, size_t len) {
  if (ch->early_len < sizeof ch->early) {
    const size_t room = sizeof ch->early - ch->early_len;
    const size_t take = len < room ? len : room;
    memcpy(ch->early + ch->early_len, p, take);
    ch->early_len += take;
    p += take;
    len -= take;
    if (ch->early_len < sizeof ch->early) {
      return;
    }
    if (memcmp(ch->early, early_magic, sizeof early_magic) != 0) {
      ch->phase = PHASE_HTTP2;
      msock_channel_h2_recv(ch, ch->early, sizeof ch->early);
    } else {
      ch->early_skip = (size_t)ch->early[5] << 24 | (size_t)ch->early[6] << 16 |
                       (size_t)ch->early[7] << 8 | ch->early[8];
      if (ch->early_skip > MSOCK_CHANNEL_EARLY_MAX) {
        fail(ch, MSOCK_CHANNEL_F_EARLY, "early payload too long");
      }
    }
  }
  /* The node key challenge inside is not used: nothing in Headscale checks an answer. */
  const size_t skip = len < ch->early_skip ? len : ch->early_skip;
  ch->early_skip -= skip;
  p += skip;
  len -= skip;
  if (ch->failure == MSOCK_CHANNEL_ALIVE && ch->early_skip == 0) {
    ch->phase = PHASE_HTTP2;
    if (len > 0) {
      msock_channel_h2_recv(ch, p, len);
    }
  }
}

static size_t feed_record(msock_channel *ch, const uint8_t *p, size_t len) {
  size_t used = gather(ch, MSOCK_CONTROL_MSG_HEADER_LEN, p, len);
  if (ch->rx_len < MSOCK_CONTROL_MSG_HEADER_LEN) {
    return used;
  }
  const ptrdiff_t size = msock_control_record_size(&ch->records, ch->rx);
  if (size < 0) {
    fail(ch, MSOCK_CHANNEL_F_RECORD, "bad record header");
    return used;
  }
  used += gather(ch, (size_t)size, p + used, len - used);
  if (ch->rx_len < (size_t)size) {
    return used;
  }
  ch->rx_len = 0;
  const ptrdiff_t n = msock_control_record_open(&ch->records, ch->rx, (size_t)size, ch->plain);
  if (n < 0) {
    fail(ch, MSOCK_CHANNEL_F_RECORD, "a record does not open");
  } else if (n > 0 && ch->phase == PHASE_EARLY) {
    feed_early(ch, ch->plain, (size_t)n);
  } else if (n > 0) {
    msock_channel_h2_recv(ch, ch->plain, (size_t)n);
  }
  return used;
}

size_t msock_channel_feed(msock_channel *ch, uint64_t now_us, const uint8_t *p, size_t len) {
  size_t used = 0;
  if (len > 0) {
    ch->last_rx_us = now_us;
  }
  while (used < len && ch->failure == MSOCK_CHANNEL_ALIVE && ch->events_at == ch->events_len) {
    ch->events_at = ch->events_len = 0;
    switch (ch->phase) {
    case PHASE_HEAD:
      used += feed_head(ch, p + used, len - used);
      break;
    case PHASE_RESPONSE:
      used += feed_response(ch, p + used, len - used);
      break;
    case PHASE_EARLY:
    case PHASE_HTTP2:
      used += feed_record(ch, p + used, len - used);
      break;
    }
  }
  return used;
}

void msock_channel_eof(msock_channel *ch) {
  if (ch->phase == PHASE_RESPONSE && ch->rx_len == 0) {
    fail(ch, MSOCK_CHANNEL_F_REJECTED,
         "server rejected handshake: key changed or client version too old");
  } else if (ch->phase == PHASE_RESPONSE) {
    fail(ch, MSOCK_CHANNEL_F_HANDSHAKE, "connection ended inside the handshake");
  } else {
    fail(ch, MSOCK_CHANNEL_F_EOF, "closed by the server");
  }
}

size_t msock_channel_tx_peek(msock_channel *ch, const uint8_t **p) {
  uint8_t plain[MSOCK_CONTROL_PLAIN_MAX];
  if (ch->tx_at > 0) {
    memmove(ch->tx, ch->tx + ch->tx_at, ch->tx_len - ch->tx_at);
    ch->tx_len -= ch->tx_at;
    ch->tx_at = 0;
  }
  while (ch->phase >= PHASE_EARLY && ch->failure == MSOCK_CHANNEL_ALIVE &&
         sizeof ch->tx - ch->tx_len >= MSOCK_CONTROL_FRAME_MAX) {
    const size_t n = msock_channel_h2_send(ch, plain, sizeof plain);
    if (n == 0) {
      break;
    }
    const ptrdiff_t sealed = msock_control_record_seal(&ch->records, plain, n, ch->tx + ch->tx_len);
    if (sealed < 0) {
      fail(ch, MSOCK_CHANNEL_F_RECORD, "cannot seal");
      break;
    }
    ch->tx_len += (size_t)sealed;
  }
  msock_wipe(plain, sizeof plain); /* a register body holds the auth key */
  *p = ch->tx;
  return ch->failure == MSOCK_CHANNEL_ALIVE ? ch->tx_len : 0;
}

void msock_channel_tx_consume(msock_channel *ch, size_t n) {
  ch->tx_at += n < ch->tx_len - ch->tx_at ? n : ch->tx_len - ch->tx_at;
}

bool msock_channel_next_event(msock_channel *ch, msock_channel_event *out) {
  while (ch->events_at < ch->events_len) {
    const channel_queued *q = &ch->events[ch->events_at++];
    const bool of_stream = q->kind != MSOCK_CHANNEL_EV_READY && q->kind != MSOCK_CHANNEL_EV_GOAWAY;
    if (of_stream && q->stream == 0) {
      continue; /* cancelled meanwhile */
    }
    *out = (msock_channel_event){.kind = q->kind,
                                 .stream = q->stream,
                                 .status = q->status,
                                 .p = q->p,
                                 .len = q->len,
                                 .clean = q->code == NGHTTP2_NO_ERROR,
                                 .code = q->code};
    memcpy(out->retry_after, q->retry_after, sizeof out->retry_after);
    return true;
  }
  return false;
}

void msock_channel_ping(msock_channel *ch, uint64_t now_us, uint64_t limit_us) {
  if (ch->phase < PHASE_EARLY || ch->failure != MSOCK_CHANNEL_ALIVE) {
    return; /* the upgrade has its own deadline */
  }
  if (ch->ping_due_us == MSOCK_NEVER) {
    msock_channel_h2_ping(ch);
  }
  if (now_us + limit_us < ch->ping_due_us) {
    ch->ping_due_us = now_us + limit_us;
  }
}

void msock_channel_on_expiry(msock_channel *ch, uint64_t now_us) {
  if (now_us >= ch->deadline_us) {
    fail(ch, MSOCK_CHANNEL_F_TIMEOUT, "no answer to the upgrade or the handshake in 5 s");
  } else if (now_us >= ch->ping_due_us) {
    fail(ch, MSOCK_CHANNEL_F_TIMEOUT, "no answer to PING");
  } else if (ch->ping_due_us == MSOCK_NEVER && now_us >= ch->last_rx_us + MSOCK_CHANNEL_IDLE_US) {
    msock_channel_ping(ch, now_us, MSOCK_CHANNEL_PING_ACK_US);
  }
}

uint64_t msock_channel_next_expiry(const msock_channel *ch) {
  if (ch->failure != MSOCK_CHANNEL_ALIVE) {
    return MSOCK_NEVER;
  }
  if (ch->phase < PHASE_EARLY) {
    return ch->deadline_us;
  }
  return ch->ping_due_us != MSOCK_NEVER ? ch->ping_due_us : ch->last_rx_us + MSOCK_CHANNEL_IDLE_US;
}

msock_channel_failure msock_channel_failed(const msock_channel *ch, int *status,
                                           const char **text) {
  *status = ch->failure_status;
  *text = ch->failure_text;
  return ch->failure;
}

bool msock_channel_is_ready(const msock_channel *ch) {
  return ch->phase >= PHASE_EARLY && ch->failure == MSOCK_CHANNEL_ALIVE;
}

bool msock_channel_is_draining(const msock_channel *ch) {
  return ch->draining;
}
