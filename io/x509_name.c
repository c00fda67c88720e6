#include "io/x509_name.h"

#include <string.h>

#include "base/hex.h"

/* DER tags used here. */
enum {
  TAG_INTEGER = 0x02,
  TAG_OCTETS = 0x04,
  TAG_OID = 0x06,
  TAG_BOOLEAN = 0x01,
  TAG_SEQUENCE = 0x30,
  TAG_SET = 0x31,
  TAG_EXTENSIONS = 0xa3, /* [3] EXPLICIT in TBSCertificate */
  TAG_VERSION = 0xa0,    /* [0] EXPLICIT */
  TAG_DNS_NAME = 0x82,   /* GeneralName dNSName [2] IA5String */
  TAG_IP_ADDRESS = 0x87  /* GeneralName iPAddress [7] OCTET STRING */
};

#define META_PREFIX "derpkey"
#define META_PREFIX_LEN 7u

static const uint8_t oid_san[] = {0x55, 0x1d, 0x11};
static const uint8_t oid_common_name[] = {0x55, 0x04, 0x03};

/* Takes one TLV from the front of *in. Definite lengths of at most three bytes. */
static bool take(msock_x509_span *in, uint8_t *tag, msock_x509_span *content) {
  size_t header = 2;
  size_t len;

  if (in->len < 2) {
    return false;
  }
  len = in->p[1];
  if (len >= 0x80) {
    const size_t n = len & 0x7fu;
    if (n == 0 || n > 3 || in->len < 2 + n) {
      return false;
    }
    len = 0;
    for (size_t i = 0; i < n; i++) {
      len = len << 8 | in->p[2 + i];
    }
    header += n;
  }
  if (len > in->len - header) {
    return false;
  }
  *tag = in->p[0];
  *content = (msock_x509_span){in->p + header, len};
  in->p += header + len;
  in->len -= header + len;
  return true;
}

static bool take_tag(msock_x509_span *in, uint8_t want, msock_x509_span *content) {
  uint8_t tag;
  return take(in, &tag, content) && tag == want;
}

static bool is_oid(msock_x509_span s, const uint8_t *oid, size_t len) {
  return s.len == len && memcmp(s.p, oid, len) == 0;
}

/* Extensions ::= SEQUENCE OF SEQUENCE { OID, BOOLEAN OPTIONAL, OCTET STRING }. A second
 * subjectAltName is malformed (RFC 5280 4.2). */
static bool find_san(msock_x509_span extensions, msock_x509_span *san) {
  msock_x509_span list, ext, oid, value;
  uint8_t tag;

  if (!take_tag(&extensions, TAG_SEQUENCE, &list) || extensions.len != 0) {
    return false;
  }
  while (list.len > 0) {
    if (!take_tag(&list, TAG_SEQUENCE, &ext) || !take_tag(&ext, TAG_OID, &oid) ||
        !take(&ext, &tag, &value)) {
      return false;
    }
    if (tag == TAG_BOOLEAN && !take(&ext, &tag, &value)) {
      return false;
    }
    if (tag != TAG_OCTETS || ext.len != 0) {
      return false;
    }
    if (is_oid(oid, oid_san, sizeof oid_san)) {
      if (san->p != NULL || !take_tag(&value, TAG_SEQUENCE, san) || value.len != 0) {
        return false;
      }
    }
  }
  return true;
}

bool msock_x509_parse(const uint8_t *der, size_t len, msock_x509_cert *out) {
  msock_x509_span all = {der, len}, cert, tbs, part;
  msock_x509_cert c = {0};
  uint8_t tag;

  if (!take_tag(&all, TAG_SEQUENCE, &cert) || all.len != 0 ||
      !take_tag(&cert, TAG_SEQUENCE, &tbs) || !take(&tbs, &tag, &part)) {
    return false;
  }
  if (tag == TAG_VERSION && !take(&tbs, &tag, &part)) {
    return false;
  }
  c.serial = part;
  if (tag != TAG_INTEGER || !take_tag(&tbs, TAG_SEQUENCE, &part) /* signature algorithm */
      || !take_tag(&tbs, TAG_SEQUENCE, &part)                    /* issuer */
      || !take_tag(&tbs, TAG_SEQUENCE, &part)                    /* validity */
      || !take_tag(&tbs, TAG_SEQUENCE, &c.subject)) {
    return false;
  }
  c.spki.p = tbs.p;
  if (!take_tag(&tbs, TAG_SEQUENCE, &part)) {
    return false;
  }
  c.spki.len = (size_t)(tbs.p - c.spki.p);
  while (tbs.len > 0) {
    if (!take(&tbs, &tag, &part) || (tag == TAG_EXTENSIONS && !find_san(part, &c.san))) {
      return false;
    }
  }
  *out = c;
  return true;
}

static uint8_t lower(uint8_t c) {
  return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

static bool same_label_text(const uint8_t *a, const uint8_t *b, size_t len) {
  for (size_t i = 0; i < len; i++) {
    if (lower(a[i]) != lower(b[i])) {
      return false;
    }
  }
  return true;
}

static bool dns_matches(msock_x509_span pattern, const uint8_t *name, size_t len) {
  if (pattern.len == len && same_label_text(pattern.p, name, len)) {
    return memchr(pattern.p, '*', len) == NULL;
  }
  if (pattern.len < 2 || pattern.p[0] != '*' || pattern.p[1] != '.') {
    return false;
  }
  const uint8_t *rest = pattern.p + 1; /* ".example.com" */
  const size_t rest_len = pattern.len - 1;
  const uint8_t *dot = memchr(name, '.', len);
  if (dot == NULL || dot == name || memchr(rest + 1, '.', rest_len - 1) == NULL ||
      memchr(rest, '*', rest_len) != NULL) {
    return false;
  }
  return (size_t)(name + len - dot) == rest_len && same_label_text(rest, dot, rest_len);
}

bool msock_x509_has_dns(const msock_x509_cert *c, const char *name) {
  msock_x509_span list = c->san, item;
  size_t len = strlen(name);
  uint8_t tag;

  if (len > 0 && name[len - 1] == '.') {
    len--;
  }
  while (len > 0 && list.len > 0 && take(&list, &tag, &item)) {
    if (tag == TAG_DNS_NAME && dns_matches(item, (const uint8_t *)name, len)) {
      return true;
    }
  }
  return false;
}

bool msock_x509_has_ip(const msock_x509_cert *c, const msock_ip *ip) {
  msock_x509_span list = c->san, item;
  const size_t want = ip->family == 4 ? 4 : 16;
  uint8_t tag;

  while (ip->family != 0 && list.len > 0 && take(&list, &tag, &item)) {
    if (tag == TAG_IP_ADDRESS && item.len == want && memcmp(item.p, ip->b, want) == 0) {
      return true;
    }
  }
  return false;
}

bool msock_x509_common_name(const msock_x509_cert *c, msock_x509_span *out) {
  msock_x509_span name = c->subject, set, attribute, oid, value;
  uint8_t tag;

  while (name.len > 0) {
    if (!take_tag(&name, TAG_SET, &set)) {
      return false;
    }
    while (set.len > 0) {
      if (!take_tag(&set, TAG_SEQUENCE, &attribute) || !take_tag(&attribute, TAG_OID, &oid) ||
          !take(&attribute, &tag, &value)) {
        return false;
      }
      if (is_oid(oid, oid_common_name, sizeof oid_common_name)) {
        *out = value;
        return true;
      }
    }
  }
  return false;
}

bool msock_x509_is_meta(const msock_x509_cert *c) {
  msock_x509_span cn;
  return msock_x509_common_name(c, &cn) && cn.len >= META_PREFIX_LEN &&
         memcmp(cn.p, META_PREFIX, META_PREFIX_LEN) == 0;
}

bool msock_x509_meta_key(const msock_x509_cert *c, uint8_t key[static 32], uint8_t *version) {
  msock_x509_span cn;
  char hex[65];

  if (!msock_x509_is_meta(c) || !msock_x509_common_name(c, &cn) || cn.len != META_PREFIX_LEN + 64 ||
      c->serial.len == 0 || c->serial.len > 2 || (c->serial.len == 2 && c->serial.p[0] != 0)) {
    return false;
  }
  memcpy(hex, cn.p + META_PREFIX_LEN, 64);
  hex[64] = '\0';
  *version = c->serial.p[c->serial.len - 1];
  return msock_hex_decode(hex, key, 32);
}
