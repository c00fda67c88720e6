#include "base/addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

msock_err msock_ip_parse(const char *text, msock_ip *out) {
  msock_ip ip = {0};

  if (inet_pton(AF_INET, text, ip.b) == 1) {
    ip.family = 4;
  } else if (inet_pton(AF_INET6, text, ip.b) == 1) {
    ip.family = 6;
  } else {
    return MSOCK_ERR_INVALID;
  }
  *out = ip;
  return MSOCK_OK;
}

/* Reads a decimal number of at most max, without sign or leading zeros. */
static bool parse_decimal(const char *text, unsigned max, unsigned *out) {
  unsigned v = 0;
  size_t n = 0;

  for (; text[n] >= '0' && text[n] <= '9'; n++) {
    v = v * 10u + (unsigned)(text[n] - '0');
    if (v > max) {
      return false;
    }
  }
  if (n == 0 || text[n] != '\0' || (n > 1 && text[0] == '0')) {
    return false;
  }
  *out = v;
  return true;
}

msock_err msock_addr_parse(const char *text, msock_addr *out) {
  char host[MSOCK_IP_TEXT_MAX];
  const bool bracket = text[0] == '[';
  const char *begin = bracket ? text + 1 : text;
  const char *end = bracket ? strchr(begin, ']') : strrchr(begin, ':');
  msock_addr a = {0};
  unsigned port = 0;

  if (end == NULL || (size_t)(end - begin) >= sizeof host || (bracket && end[1] != ':')) {
    return MSOCK_ERR_INVALID;
  }
  memcpy(host, begin, (size_t)(end - begin));
  host[end - begin] = '\0';
  if (!parse_decimal(end + (bracket ? 2 : 1), 65535, &port) ||
      msock_ip_parse(host, &a.ip) != MSOCK_OK || (a.ip.family == 6) != bracket) {
    return MSOCK_ERR_INVALID;
  }
  a.port = (uint16_t)port;
  *out = a;
  return MSOCK_OK;
}

msock_err msock_prefix_parse(const char *text, msock_prefix *out) {
  char host[MSOCK_IP_TEXT_MAX];
  const char *slash = strchr(text, '/');
  const size_t hlen = slash ? (size_t)(slash - text) : strlen(text);
  msock_prefix p = {0};
  unsigned bits = 0;

  if (hlen >= sizeof host) {
    return MSOCK_ERR_INVALID;
  }
  memcpy(host, text, hlen);
  host[hlen] = '\0';
  if (msock_ip_parse(host, &p.ip) != MSOCK_OK) {
    return MSOCK_ERR_INVALID;
  }
  bits = msock_ip_bits(&p.ip);
  if (slash && !parse_decimal(slash + 1, bits, &bits)) {
    return MSOCK_ERR_INVALID;
  }
  p.bits = (uint8_t)bits;
  const msock_prefix masked = msock_prefix_mask(p);
  if (!msock_ip_equal(&masked.ip, &p.ip)) {
    return MSOCK_ERR_INVALID;
  }
  *out = p;
  return MSOCK_OK;
}

char *msock_ip_text(const msock_ip *ip, char buf[static MSOCK_IP_TEXT_MAX]) {
  if (ip->family == 4) {
    inet_ntop(AF_INET, ip->b, buf, MSOCK_IP_TEXT_MAX);
  } else if (ip->family == 6) {
    inet_ntop(AF_INET6, ip->b, buf, MSOCK_IP_TEXT_MAX);
  } else {
    memcpy(buf, "none", 5);
  }
  return buf;
}

char *msock_addr_text(const msock_addr *a, char buf[static MSOCK_ADDR_TEXT_MAX]) {
  char ip[MSOCK_IP_TEXT_MAX];
  msock_ip_text(&a->ip, ip);
  snprintf(buf, MSOCK_ADDR_TEXT_MAX, a->ip.family == 6 ? "[%s]:%u" : "%s:%u", ip, a->port);
  return buf;
}

char *msock_prefix_text(const msock_prefix *p, char buf[static MSOCK_PREFIX_TEXT_MAX]) {
  char ip[MSOCK_IP_TEXT_MAX];
  msock_ip_text(&p->ip, ip);
  snprintf(buf, MSOCK_PREFIX_TEXT_MAX, "%s/%u", ip, p->bits);
  return buf;
}

msock_ip msock_ip_v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
  return (msock_ip){.family = 4, .b = {a, b, c, d}};
}

msock_ip msock_ip_from_bytes4(const uint8_t b[static 4]) {
  msock_ip ip = {.family = 4};
  memcpy(ip.b, b, 4);
  return ip;
}

msock_ip msock_ip_from_bytes16(const uint8_t b[static 16]) {
  msock_ip ip = {.family = 6};
  memcpy(ip.b, b, 16);
  return ip;
}

msock_ip msock_ip_unmap(msock_ip ip) {
  static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
  if (ip.family == 6 && memcmp(ip.b, mapped, sizeof mapped) == 0) {
    return msock_ip_from_bytes4(ip.b + 12);
  }
  return ip;
}

uint8_t msock_ip_bits(const msock_ip *ip) {
  return ip->family == 4 ? 32 : ip->family == 6 ? 128 : 0;
}

int msock_ip_compare(const msock_ip *a, const msock_ip *b) {
  if (a->family != b->family) {
    return a->family < b->family ? -1 : 1;
  }
  return memcmp(a->b, b->b, sizeof a->b);
}

bool msock_ip_equal(const msock_ip *a, const msock_ip *b) {
  return msock_ip_compare(a, b) == 0;
}

bool msock_addr_equal(const msock_addr *a, const msock_addr *b) {
  return a->port == b->port && msock_ip_equal(&a->ip, &b->ip);
}

bool msock_prefix_equal(const msock_prefix *a, const msock_prefix *b) {
  return a->bits == b->bits && msock_ip_equal(&a->ip, &b->ip);
}

bool msock_prefix_contains(const msock_prefix *p, const msock_ip *ip) {
  if (p->ip.family != ip->family || ip->family == 0) {
    return false;
  }
  const size_t whole = p->bits / 8u;
  const unsigned rest = p->bits % 8u;
  if (memcmp(p->ip.b, ip->b, whole) != 0) {
    return false;
  }
  return rest == 0 || ((p->ip.b[whole] ^ ip->b[whole]) >> (8u - rest)) == 0;
}

msock_prefix msock_prefix_mask(msock_prefix p) {
  const size_t whole = p.bits / 8u;
  const unsigned rest = p.bits % 8u;
  size_t i = whole;

  if (rest != 0) {
    p.ip.b[i] &= (uint8_t)(0xff00u >> rest);
    i++;
  }
  for (; i < sizeof p.ip.b; i++) {
    p.ip.b[i] = 0;
  }
  return p;
}

bool msock_ip_is_unspecified(const msock_ip *ip) {
  static const uint8_t zero[16] = {0};
  return ip->family == 0 || memcmp(ip->b, zero, sizeof zero) == 0;
}

bool msock_ip_is_loopback(const msock_ip *ip) {
  static const uint8_t one[16] = {[15] = 1};
  return (ip->family == 4 && ip->b[0] == 127) ||
         (ip->family == 6 && memcmp(ip->b, one, sizeof one) == 0);
}

bool msock_ip_is_multicast(const msock_ip *ip) {
  static const uint8_t broadcast[4] = {255, 255, 255, 255};
  return (ip->family == 4 && ((ip->b[0] & 0xf0u) == 0xe0u || memcmp(ip->b, broadcast, 4) == 0)) ||
         (ip->family == 6 && ip->b[0] == 0xff);
}

bool msock_ip_is_link_local(const msock_ip *ip) {
  return (ip->family == 4 && ip->b[0] == 169 && ip->b[1] == 254) ||
         (ip->family == 6 && ip->b[0] == 0xfe && (ip->b[1] & 0xc0u) == 0x80u);
}

bool msock_ip_is_private(const msock_ip *ip) {
  if (ip->family == 4) {
    return ip->b[0] == 10 || (ip->b[0] == 172 && (ip->b[1] & 0xf0u) == 16) ||
           (ip->b[0] == 192 && ip->b[1] == 168);
  }
  return ip->family == 6 && (ip->b[0] & 0xfeu) == 0xfcu;
}
