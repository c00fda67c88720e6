/* ts2021, the client's side: handshake messages and records of any bytes, and a channel fed by a
 * hostile server: from its first byte, or behind a handshake that is done for it, as plain bytes
 * (early payload, HTTP/2) that are sealed into records here. */
#include <stdlib.h>
#include <string.h>

#include "control/channel.h"
#include "control/noise.h"
#include "crypto/x25519.h"
#include "tests/fuzz/fuzzing.h"

#define START_US (1000 * MSOCK_SEC)
#define VERSION 138

typedef struct ends {
  msock_env env;
  msock_machine_private machine, server;
  msock_machine_key server_public;
  uint8_t ephemeral[32];
} ends;

static void messages(msock_reader *r, const ends *e) {
  uint8_t init[MSOCK_CONTROL_INITIATION_LEN], resp[MSOCK_CONTROL_RESPONSE_LEN];
  msock_control_initiator hs;
  msock_control_records records = {0};
  msock_machine_key client;
  uint16_t version = 0;
  const uint8_t what = msock_read_u8(r);

  FUZZ_CHECK(msock_control_initiate(&hs, VERSION, &e->machine, &e->server_public, e->ephemeral,
                                    init) == MSOCK_OK);
  if (what & 1) { /* a few bytes of a true message altered, or none of it true */
    for (size_t i = 0; r->left >= 2 && i < 4; i++) {
      init[msock_read_u8(r) % sizeof init] ^= msock_read_u8(r);
    }
  } else {
    msock_read_copy(r, init, sizeof init);
  }
  const msock_err err =
      msock_control_respond(&e->server, e->ephemeral, init, resp, &version, &client, &records);
  FUZZ_CHECK(err == MSOCK_OK || err == MSOCK_ERR_INVALID || err == MSOCK_ERR_AUTH);
  FUZZ_CHECK(err != MSOCK_OK || version != 0);
  if (err != MSOCK_OK) {
    msock_read_copy(r, resp, sizeof resp);
  }
  msock_control_records mine = {0};
  (void)msock_control_initiator_finish(&hs, resp, &mine);
  msock_control_initiator_wipe(&hs);
}

/* Records one after the other, as they come or with their tag made right. */
static void records(msock_reader *r) {
  msock_control_records rx = {.rx_key = {1}, .tx_key = {1}}, tx = rx;
  uint8_t plain[MSOCK_CONTROL_FRAME_MAX], frame[MSOCK_CONTROL_FRAME_MAX];

  while (fuzz_more(r) && !rx.poisoned) {
    const bool sealed = (msock_read_u8(r) & 1) != 0;
    size_t len = 0;
    uint8_t *p = fuzz_take(r, msock_read_be16(r) % (MSOCK_CONTROL_PLAIN_MAX + 1), &len);
    if (sealed) {
      const ptrdiff_t n = msock_control_record_seal(&tx, p, len, frame);
      FUZZ_CHECK(n == (ptrdiff_t)len + 19 && msock_control_record_size(&rx, frame) == n);
      FUZZ_CHECK(msock_control_record_open(&rx, frame, (size_t)n, plain) == (ptrdiff_t)len);
      FUZZ_CHECK(memcmp(plain, p, len) == 0);
    } else if (len >= MSOCK_CONTROL_MSG_HEADER_LEN) {
      const ptrdiff_t n = msock_control_record_size(&rx, p);
      FUZZ_CHECK(n < 0 || n <= (ptrdiff_t)MSOCK_CONTROL_FRAME_MAX);
      if (n > 0 && (size_t)n <= len) {
        FUZZ_CHECK(msock_control_record_open(&rx, p, (size_t)n, plain) < 0 && rx.poisoned);
      }
    }
    free(p);
  }
}

static void poll_channel(msock_channel *ch) {
  msock_channel_event ev;
  const uint8_t *p = NULL;

  while (msock_channel_next_event(ch, &ev)) {
    if (ev.kind == MSOCK_CHANNEL_EV_DATA) {
      fuzz_touch(ev.p, ev.len); /* valid until the next feed */
    }
    FUZZ_CHECK(strlen(ev.retry_after) < sizeof ev.retry_after);
  }
  for (size_t n, turns = 0; (n = msock_channel_tx_peek(ch, &p)) > 0; turns++) {
    FUZZ_CHECK(turns < 4096);
    fuzz_touch(p, n);
    msock_channel_tx_consume(ch, n);
  }
}

static void feed(msock_channel *ch, const uint8_t *p, size_t len, uint8_t how) {
  int status = 0;
  const char *text = NULL;

  for (size_t at = 0; at < len;) {
    const size_t n = fuzz_piece(how, len - at);
    uint8_t *piece = malloc(n);
    memcpy(piece, p + at, n);
    for (size_t used = 0; used < n;) {
      const size_t more = msock_channel_feed(ch, START_US, piece + used, n - used);
      poll_channel(ch);
      used += more;
      if (more == 0 && msock_channel_failed(ch, &status, &text) != MSOCK_CHANNEL_ALIVE) {
        FUZZ_CHECK(text != NULL && strlen(text) <= MSOCK_CHANNEL_TEXT_MAX);
        free(piece);
        return;
      }
    }
    free(piece);
    at += n;
  }
}

/* Reads the initiation out of the upgrade request and answers it. */
static msock_control_records answer(msock_channel *ch, const ends *e, uint8_t how) {
  static const char head[] = "HTTP/1.1 101 Switching Protocols\r\n"
                             "Upgrade: tailscale-control-protocol\r\nConnection: upgrade\r\n\r\n";
  uint8_t init[MSOCK_CONTROL_INITIATION_LEN], resp[MSOCK_CONTROL_RESPONSE_LEN];
  msock_control_initiator hs;
  msock_control_records records = {0};
  msock_machine_key client;
  uint16_t version = 0;

  /* The channel drew its ephemeral from the same fixed sequence: make the same message. */
  FUZZ_CHECK(msock_control_initiate(&hs, VERSION, &e->machine, &e->server_public, e->ephemeral,
                                    init) == MSOCK_OK);
  msock_control_initiator_wipe(&hs);
  FUZZ_CHECK(msock_control_respond(&e->server, e->ephemeral, init, resp, &version, &client,
                                   &records) == MSOCK_OK);
  feed(ch, (const uint8_t *)head, sizeof head - 1, how);
  feed(ch, resp, sizeof resp, how);
  FUZZ_CHECK(msock_channel_is_ready(ch));
  return records;
}

static void seal_and_feed(msock_channel *ch, msock_control_records *tx, msock_reader *r,
                          uint8_t how) {
  uint8_t frame[MSOCK_CONTROL_FRAME_MAX];

  while (fuzz_more(r)) {
    size_t len = 0;
    /* A length byte in front of each record: borders of records and frames need not agree. */
    uint8_t *p = fuzz_take(r, (size_t)msock_read_u8(r) * 16, &len);
    const ptrdiff_t n = msock_control_record_seal(tx, p, len, frame);
    FUZZ_CHECK(n > 0);
    feed(ch, frame, (size_t)n, how);
    free(p);
  }
}

static void fixed_ephemeral(void *ctx, void *dst, size_t len) {
  const ends *e = ctx;
  uint8_t *p = dst;
  for (size_t i = 0; i < len; i++) {
    p[i] = e->ephemeral[i % sizeof e->ephemeral];
  }
}

static void channel(msock_reader *r, ends *e) {
  const uint8_t flags = msock_read_u8(r), how = msock_read_u8(r);
  const msock_env env = {.ctx = e, .random = fixed_ephemeral, .log = e->env.log};
  const msock_channel_cfg cfg = {.host = "control.example",
                                 .port = 8080,
                                 .version = VERSION,
                                 .machine = &e->machine,
                                 .server = &e->server_public};
  msock_channel *ch = msock_channel_new(&env, &cfg, START_US);
  size_t len = 0;

  FUZZ_CHECK(ch != NULL);
  if (flags & 2) {
    (void)msock_channel_request(ch, "POST", "/machine/map", "{}", 2);
    (void)msock_channel_request(ch, "GET", "/health", NULL, 0);
  }
  if (flags & 1) {
    msock_control_records tx = answer(ch, e, how);
    seal_and_feed(ch, &tx, r, how);
  } else {
    uint8_t *p = fuzz_rest(r, &len);
    feed(ch, p, len, how);
    free(p);
  }
  if (flags & 4) {
    msock_channel_eof(ch);
  } else {
    msock_channel_on_expiry(ch, START_US + 60 * MSOCK_SEC);
  }
  poll_channel(ch);
  msock_channel_free(ch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  msock_reader r = msock_reader_init(data, size);
  fuzz_rng rng;
  ends e = {.env = fuzz_env(&rng, 1)};

  msock_machine_private_generate(&e.env, &e.machine);
  msock_machine_private_generate(&e.env, &e.server);
  e.server_public = msock_machine_private_public(&e.server);
  msock_x25519_generate(&e.env, e.ephemeral);
  switch (fuzz_choice(&r, 4)) {
  case 0:
    messages(&r, &e);
    break;
  case 1:
    records(&r);
    break;
  default:
    channel(&r, &e);
    break;
  }
  return 0;
}
