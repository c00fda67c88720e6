#include "base/key.h"

#include <string.h>

#include "base/hex.h"

static msock_err parse_key(const char *text, const char *prefix,
                           uint8_t out[static MSOCK_KEY_LEN]) {
  const size_t plen = strlen(prefix);
  uint8_t tmp[MSOCK_KEY_LEN];

  if (strncmp(text, prefix, plen) != 0 || strlen(text) != plen + 2u * MSOCK_KEY_LEN ||
      !msock_hex_decode(text + plen, tmp, sizeof tmp)) {
    return MSOCK_ERR_INVALID;
  }
  memcpy(out, tmp, sizeof tmp);
  return MSOCK_OK;
}

static char *key_text(const char *prefix, const uint8_t *key, char *buf) {
  const size_t plen = strlen(prefix);
  memcpy(buf, prefix, plen);
  msock_hex_encode(key, MSOCK_KEY_LEN, buf + plen);
  return buf;
}

static char *key_short(const uint8_t *key, char *buf) {
  static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const uint64_t bits =
      (uint64_t)key[0] << 24 | (uint64_t)key[1] << 16 | (uint64_t)key[2] << 8 | (uint64_t)key[3];
  buf[0] = '[';
  for (unsigned i = 0; i < 5; i++) {
    buf[1 + i] = alphabet[(bits >> (26 - 6 * i)) & 63u];
  }
  buf[6] = ']';
  buf[7] = '\0';
  return buf;
}

static bool is_zero(const uint8_t *key) {
  uint8_t any = 0;
  for (size_t i = 0; i < MSOCK_KEY_LEN; i++) {
    any |= key[i];
  }
  return any == 0;
}

msock_err msock_node_key_parse(const char *text, msock_node_key *out) {
  return parse_key(text, "nodekey:", out->b);
}
msock_err msock_disco_key_parse(const char *text, msock_disco_key *out) {
  return parse_key(text, "discokey:", out->b);
}
msock_err msock_machine_key_parse(const char *text, msock_machine_key *out) {
  return parse_key(text, "mkey:", out->b);
}
msock_err msock_challenge_key_parse(const char *text, msock_challenge_key *out) {
  return parse_key(text, "chalpub:", out->b);
}
msock_err msock_node_private_parse(const char *text, msock_node_private *out) {
  return parse_key(text, "privkey:", out->b);
}
msock_err msock_machine_private_parse(const char *text, msock_machine_private *out) {
  return parse_key(text, "privkey:", out->b);
}

char *msock_node_key_text(const msock_node_key *k, char buf[static MSOCK_KEY_TEXT_MAX]) {
  return key_text("nodekey:", k->b, buf);
}
char *msock_disco_key_text(const msock_disco_key *k, char buf[static MSOCK_KEY_TEXT_MAX]) {
  return key_text("discokey:", k->b, buf);
}
char *msock_machine_key_text(const msock_machine_key *k, char buf[static MSOCK_KEY_TEXT_MAX]) {
  return key_text("mkey:", k->b, buf);
}
char *msock_challenge_key_text(const msock_challenge_key *k, char buf[static MSOCK_KEY_TEXT_MAX]) {
  return key_text("chalpub:", k->b, buf);
}
char *msock_node_private_text(const msock_node_private *k, char buf[static MSOCK_KEY_TEXT_MAX]) {
  return key_text("privkey:", k->b, buf);
}
char *msock_machine_private_text(const msock_machine_private *k,
                                 char buf[static MSOCK_KEY_TEXT_MAX]) {
  return key_text("privkey:", k->b, buf);
}

char *msock_node_key_short(const msock_node_key *k, char buf[static MSOCK_KEY_SHORT_MAX]) {
  return key_short(k->b, buf);
}
char *msock_disco_key_short(const msock_disco_key *k, char buf[static MSOCK_KEY_SHORT_MAX]) {
  return key_short(k->b, buf);
}

bool msock_node_key_is_zero(const msock_node_key *k) {
  return is_zero(k->b);
}
bool msock_disco_key_is_zero(const msock_disco_key *k) {
  return is_zero(k->b);
}
bool msock_machine_key_is_zero(const msock_machine_key *k) {
  return is_zero(k->b);
}
bool msock_node_key_equal(const msock_node_key *a, const msock_node_key *b) {
  return memcmp(a->b, b->b, MSOCK_KEY_LEN) == 0;
}
bool msock_disco_key_equal(const msock_disco_key *a, const msock_disco_key *b) {
  return memcmp(a->b, b->b, MSOCK_KEY_LEN) == 0;
}
bool msock_machine_key_equal(const msock_machine_key *a, const msock_machine_key *b) {
  return memcmp(a->b, b->b, MSOCK_KEY_LEN) == 0;
}
