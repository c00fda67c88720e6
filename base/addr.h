/* base/addr.h: IP addresses, address:port pairs and prefixes as values. No resolver, no sockaddr
 * (io/ converts). Text forms: "192.0.2.1", "2001:db8::1", "192.0.2.1:41641", "[2001:db8::1]:41641",
 * "100.64.0.0/10". IPv6 zones are refused. */
#ifndef MSOCK_BASE_ADDR_H
#define MSOCK_BASE_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define MSOCK_IP_TEXT_MAX 46u     /* longest IPv6 text + NUL */
#define MSOCK_ADDR_TEXT_MAX 56u   /* "[...]:65535" + NUL */
#define MSOCK_PREFIX_TEXT_MAX 52u /* ".../128" + NUL */

typedef struct msock_ip {
  uint8_t family; /* 4, 6, or 0 = none */
  uint8_t b[16];  /* network order; an IPv4 address uses b[0..3], the rest is zero */
} msock_ip;

typedef struct msock_addr {
  msock_ip ip;
  uint16_t port; /* host order */
} msock_addr;

typedef struct msock_prefix {
  msock_ip ip;  /* host bits are zero when parsed; see msock_prefix_mask */
  uint8_t bits; /* 0..32 or 0..128 */
} msock_prefix;

/* Parsers take the whole NUL-terminated text; MSOCK_ERR_INVALID otherwise, out untouched. */
msock_err msock_ip_parse(const char *text, msock_ip *out);
msock_err msock_addr_parse(const char *text, msock_addr *out);
/* "ip/bits", or a bare ip = its full length. Host bits set are MSOCK_ERR_INVALID. */
msock_err msock_prefix_parse(const char *text, msock_prefix *out);

/* Formatters return buf. Family 0 prints "none". */
char *msock_ip_text(const msock_ip *ip, char buf[static MSOCK_IP_TEXT_MAX]);
char *msock_addr_text(const msock_addr *a, char buf[static MSOCK_ADDR_TEXT_MAX]);
char *msock_prefix_text(const msock_prefix *p, char buf[static MSOCK_PREFIX_TEXT_MAX]);

msock_ip msock_ip_v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d);
msock_ip msock_ip_from_bytes4(const uint8_t b[static 4]);
msock_ip msock_ip_from_bytes16(const uint8_t b[static 16]); /* keeps v4-mapped as IPv6 */
msock_ip msock_ip_unmap(msock_ip ip);                       /* ::ffff:a.b.c.d becomes a.b.c.d */
uint8_t msock_ip_bits(const msock_ip *ip);                  /* 32, 128, 0 for none */
int msock_ip_compare(const msock_ip *a, const msock_ip *b); /* family first, then bytes */
bool msock_ip_equal(const msock_ip *a, const msock_ip *b);
bool msock_addr_equal(const msock_addr *a, const msock_addr *b);
bool msock_prefix_equal(const msock_prefix *a, const msock_prefix *b);
bool msock_prefix_contains(const msock_prefix *p, const msock_ip *ip); /* false across families */
msock_prefix msock_prefix_mask(msock_prefix p);                        /* clears the host bits */

bool msock_ip_is_unspecified(const msock_ip *ip);
bool msock_ip_is_loopback(const msock_ip *ip);
bool msock_ip_is_multicast(const msock_ip *ip); /* also 255.255.255.255 */
bool msock_ip_is_link_local(const msock_ip *ip);
bool msock_ip_is_private(const msock_ip *ip); /* RFC 1918 and fc00::/7; not 100.64.0.0/10 */

#endif
