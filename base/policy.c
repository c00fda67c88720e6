#include "base/policy.h"

#include <stdlib.h>
#include <string.h>

static msock_ip last_of(msock_prefix p) {
  const size_t len = p.ip.family == 4 ? 4 : 16;
  for (size_t bit = p.bits; bit < len * 8; bit++) {
    p.ip.b[bit / 8] |= (uint8_t)(0x80u >> (bit % 8));
  }
  return p.ip;
}

msock_err msock_ip_range_parse(const char *text, msock_ip_range *out) {
  const char *dash = strchr(text, '-');
  char low[MSOCK_IP_TEXT_MAX];
  msock_ip_range r = {0};
  msock_prefix p;

  if (strcmp(text, "*") == 0) {
    r.any = true;
  } else if (dash) {
    if ((size_t)(dash - text) >= sizeof low) {
      return MSOCK_ERR_INVALID;
    }
    memcpy(low, text, (size_t)(dash - text));
    low[dash - text] = '\0';
    if (msock_ip_parse(low, &r.lo) != MSOCK_OK || msock_ip_parse(dash + 1, &r.hi) != MSOCK_OK ||
        r.lo.family != r.hi.family || msock_ip_compare(&r.lo, &r.hi) > 0) {
      return MSOCK_ERR_INVALID;
    }
  } else if (msock_prefix_parse(text, &p) == MSOCK_OK) {
    r.lo = p.ip;
    r.hi = last_of(p);
  } else {
    return MSOCK_ERR_INVALID;
  }
  *out = r;
  return MSOCK_OK;
}

bool msock_ip_range_contains(const msock_ip_range *r, const msock_ip *ip) {
  return r->any || (ip->family == r->lo.family && msock_ip_compare(&r->lo, ip) <= 0 &&
                    msock_ip_compare(ip, &r->hi) <= 0);
}

void msock_policy_rule_clear(msock_policy_rule *r) {
  for (size_t i = 0; i < r->n_srcs; i++) {
    free(r->srcs[i].cap);
  }
  for (size_t i = 0; i < r->n_grants; i++) {
    for (size_t j = 0; j < r->grants[i].n_caps; j++) {
      free(r->grants[i].caps[j]);
    }
    free(r->grants[i].caps);
    free(r->grants[i].dsts);
  }
  free(r->srcs);
  free(r->dsts);
  free(r->protos);
  free(r->grants);
  *r = (msock_policy_rule){0};
}

void msock_policy_clear(msock_policy *p) {
  for (size_t i = 0; i < p->n_rules; i++) {
    msock_policy_rule_clear(&p->rules[i]);
  }
  free(p->rules);
  *p = (msock_policy){0};
}
