/* Disco: any datagram of the socket, any message inside a box that opens, and what we make of it.
 * Input: one byte of what it is, then the bytes. --long runs what DISCO-25 asks for. */
#include <stdlib.h>
#include <string.h>

#include "base/disco_look.h"
#include "disco/disco.h"
#include "tests/fuzz/fuzzing.h"

enum { DATAGRAM, MESSAGE, SEALED, INPUTS };

typedef union any_message {
  msock_disco_ping ping;
  msock_disco_pong pong;
  msock_disco_call_me_maybe cmm;
  msock_disco_bind bind;
  msock_disco_relay_endpoint via;
  msock_disco_allocate_request request;
  msock_disco_allocate_response response;
} any_message;

static msock_err decode(msock_disco_type type, const uint8_t *p, size_t len, any_message *m) {
  switch (type) {
  case MSOCK_DISCO_PING:
    return msock_disco_decode_ping(p, len, &m->ping);
  case MSOCK_DISCO_PONG:
    return msock_disco_decode_pong(p, len, &m->pong);
  case MSOCK_DISCO_CALL_ME_MAYBE:
    return msock_disco_decode_call_me_maybe(p, len, &m->cmm);
  case MSOCK_DISCO_BIND:
  case MSOCK_DISCO_BIND_CHALLENGE:
  case MSOCK_DISCO_BIND_ANSWER:
    return msock_disco_decode_bind(p, len, &m->bind);
  case MSOCK_DISCO_CALL_ME_MAYBE_VIA:
    return msock_disco_decode_call_me_maybe_via(p, len, &m->via);
  case MSOCK_DISCO_ALLOCATE_REQUEST:
    return msock_disco_decode_allocate_request(p, len, &m->request);
  case MSOCK_DISCO_ALLOCATE_RESPONSE:
    return msock_disco_decode_allocate_response(p, len, &m->response);
  }
  return MSOCK_ERR_UNKNOWN;
}

static ptrdiff_t encode(msock_disco_type type, const any_message *m, uint8_t *dst, size_t cap) {
  switch (type) {
  case MSOCK_DISCO_PING:
    return msock_disco_encode_ping(&m->ping, dst, cap);
  case MSOCK_DISCO_PONG:
    return msock_disco_encode_pong(&m->pong, dst, cap);
  case MSOCK_DISCO_CALL_ME_MAYBE:
    return msock_disco_encode_call_me_maybe(&m->cmm, dst, cap);
  case MSOCK_DISCO_BIND:
  case MSOCK_DISCO_BIND_CHALLENGE:
  case MSOCK_DISCO_BIND_ANSWER:
    return msock_disco_encode_bind(&m->bind, dst, cap);
  case MSOCK_DISCO_CALL_ME_MAYBE_VIA:
    return msock_disco_encode_call_me_maybe_via(&m->via, dst, cap);
  case MSOCK_DISCO_ALLOCATE_REQUEST:
    return msock_disco_encode_allocate_request(&m->request, dst, cap);
  case MSOCK_DISCO_ALLOCATE_RESPONSE:
    return msock_disco_encode_allocate_response(&m->response, dst, cap);
  }
  return MSOCK_ERR_UNKNOWN;
}

/* A message that is read can be sent, and what was sent is read as the same again. */
static void on_message(const uint8_t *p, size_t len) {
  msock_disco_type type;
  any_message m, before;

  memset(&m, 0x77, sizeof m);
  before = m;
  if (msock_disco_type_of(p, len, &type) != MSOCK_OK) {
    return;
  }
  FUZZ_CHECK(strcmp(msock_disco_type_text(type), "unknown") != 0);
  if (decode(type, p, len, &m) != MSOCK_OK) {
    FUZZ_CHECK(memcmp(&m, &before, sizeof m) == 0);
    return;
  }
  const size_t cap = len + MSOCK_DISCO_MESSAGE_MAX;
  uint8_t *first = malloc(cap), *second = malloc(cap);
  any_message again;
  FUZZ_CHECK(first != NULL && second != NULL);
  const ptrdiff_t n = encode(type, &m, first, cap);
  FUZZ_CHECK(n > 0 && (size_t)n <= len); /* less when addresses or trailing bytes are left out */
  FUZZ_CHECK(encode(type, &m, second, (size_t)n - 1) == MSOCK_ERR_NOBUF);
  FUZZ_CHECK(decode(type, first, (size_t)n, &again) == MSOCK_OK);
  FUZZ_CHECK(encode(type, &again, second, cap) == n);
  FUZZ_CHECK(memcmp(first, second, (size_t)n) == 0);
  free(first);
  free(second);
}

/* Two nodes and what they share: constants, computed once because an X25519 costs more than an
 * input. */
typedef struct two_nodes {
  msock_disco_identity me, peer;
  msock_disco_shared shared;
} two_nodes;

static const two_nodes *nodes(void) {
  static two_nodes n;
  static bool ready;
  if (!ready) {
    const msock_disco_private mine = {{8}}, theirs = {{16}}; /* clamping clears the low bits */
    n.me = msock_disco_identity_of(&mine);
    n.peer = msock_disco_identity_of(&theirs);
    FUZZ_CHECK(msock_disco_shared_init(&n.shared, &n.me, &n.peer.key) == MSOCK_OK);
    ready = true;
  }
  return &n;
}

static void open_packet(const msock_disco_shared *shared, const uint8_t *p, size_t len,
                        bool must_open) {
  uint8_t *msg = malloc(len);
  FUZZ_CHECK(msg != NULL || len == 0);
  const ptrdiff_t n = msock_disco_open(shared, p, len, msg, len);
  FUZZ_CHECK(n < 0 || (size_t)n + MSOCK_DISCO_OVERHEAD == len);
  FUZZ_CHECK(n >= 0 || !must_open);
  if (n >= 0) {
    on_message(msg, (size_t)n);
  }
  free(msg);
}

static void on_datagram(const uint8_t *p, size_t len, bool must_open) {
  const msock_datagram d = msock_disco_classify(p, len);
  const bool geneve =
      d.kind == MSOCK_DATAGRAM_GENEVE_DISCO || d.kind == MSOCK_DATAGRAM_GENEVE_WIREGUARD;
  const bool disco = d.kind == MSOCK_DATAGRAM_DISCO || d.kind == MSOCK_DATAGRAM_GENEVE_DISCO;
  const two_nodes *n = nodes();
  msock_disco_key sender;

  FUZZ_CHECK(d.payload == p + (geneve ? MSOCK_GENEVE_LEN : 0));
  FUZZ_CHECK(d.len == len - (geneve ? MSOCK_GENEVE_LEN : 0));
  FUZZ_CHECK(disco == msock_routes_as_disco(d.payload, d.len));
  FUZZ_CHECK(geneve || d.geneve.vni == 0);
  FUZZ_CHECK(disco || !must_open);
  if (!disco) {
    return;
  }
  if (msock_disco_sender(d.payload, d.len, &sender)) {
    msock_disco_shared other;
    FUZZ_CHECK(d.len >= MSOCK_DISCO_LOOK_MIN);
    if (!msock_disco_key_equal(&sender, &n->peer.key) &&
        msock_disco_shared_init(&other, &n->me, &sender) == MSOCK_OK) {
      open_packet(&other, d.payload, d.len, must_open);
    }
  }
  open_packet(&n->shared, d.payload, d.len, must_open);
}

/* The bytes as a message of the peer, sealed for us. */
static void on_sealed(const uint8_t *msg, size_t len) {
  fuzz_rng rng;
  const msock_env env = fuzz_env(&rng, 1);
  const two_nodes *n = nodes();
  const size_t cap = len + MSOCK_DISCO_OVERHEAD;
  uint8_t *packet = malloc(cap);

  FUZZ_CHECK(packet != NULL);
  FUZZ_CHECK(msock_disco_seal(&n->peer, &n->shared, &env, msg, len, packet, cap) == (ptrdiff_t)cap);
  on_datagram(packet, cap, true);
  free(packet);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  msock_reader r = msock_reader_init(data, size);
  const unsigned what = fuzz_choice(&r, INPUTS);
  size_t len = 0;
  uint8_t *p = fuzz_rest(&r, &len);

  if (what == DATAGRAM) {
    on_datagram(p, len, false);
  } else if (what == MESSAGE) {
    on_message(p, len);
  } else {
    on_sealed(p, len);
  }
  free(p);
  fuzz_count_messages(1);
  return 0;
}
