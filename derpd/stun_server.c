#include "derpd/stun_server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "derpd/listen_error.h"
#include "io/udp_server.h"

struct msock_derpd_stun {
  bool is_public;
  msock_udp_server *at[MSOCK_DERPD_LISTEN_MAX];
  size_t n;
  msock_derpd_stun_stats stats;
};

static size_t answer(void *ctx, const msock_addr *from, const uint8_t *p, size_t len,
                     uint8_t *dst) {
  msock_derpd_stun *s = ctx;
  msock_stun_request q;
  const msock_stun_verdict verdict = msock_stun_check_request(p, len, s->is_public, &q);
  s->stats.verdicts[verdict]++;
  if (verdict != MSOCK_STUN_ACCEPT) {
    s->stats.not_stun++;
    return 0;
  }
  const msock_ip ip = msock_ip_unmap(from->ip);
  s->stats.family4 += ip.family == 4;
  s->stats.family6 += ip.family == 6;
  const ptrdiff_t n = msock_stun_encode_response(&q.txid, from, s->is_public && q.fingerprint, dst,
                                                 MSOCK_UDP_SERVER_ANSWER_MAX);
  return n > 0 ? (size_t)n : 0;
}

/* ":PORT" is one socket for both families, or IPv4 alone where the machine has no IPv6. */
static msock_err open_one(msock_derpd_stun *s, msock_egress *eg, const msock_addr *on) {
  msock_addr at = *on;
  if (at.ip.family != 0) {
    return msock_udp_server_new(eg, MSOCK_PURPOSE_LISTEN, &at, answer, s, &s->at[s->n]);
  }
  at.ip.family = 6;
  msock_err e = msock_udp_server_new(eg, MSOCK_PURPOSE_LISTEN, &at, answer, s, &s->at[s->n]);
  if (e == MSOCK_ERR_IO && errno != EADDRINUSE && errno != EACCES) {
    at.ip.family = 4;
    e = msock_udp_server_new(eg, MSOCK_PURPOSE_LISTEN, &at, answer, s, &s->at[s->n]);
  }
  return e;
}

msock_err msock_derpd_stun_new(msock_egress *eg, const msock_derpd_config *v,
                               msock_derpd_stun **out, char *why, size_t cap) {
  msock_derpd_stun *s = calloc(1, sizeof *s);
  if (s == NULL) {
    snprintf(why, cap, "out of memory");
    return MSOCK_ERR_NOMEM;
  }
  s->is_public = v->stun_public;
  for (size_t i = 0; !msock_derpd_is_none(&v->stun_listen) && i < v->stun_listen.n; i++) {
    msock_addr on;
    msock_err e = msock_derpd_parse_listen(v->stun_listen.v[i], &on);
    e = e == MSOCK_OK ? open_one(s, eg, &on) : e;
    if (e != MSOCK_OK) {
      msock_derpd_listen_error(e, "STUN on UDP", v->stun_listen.v[i], "stun_listen", why, cap);
      msock_derpd_stun_free(s);
      return e;
    }
    s->n++;
  }
  *out = s;
  return MSOCK_OK;
}

void msock_derpd_stun_free(msock_derpd_stun *s) {
  if (s != NULL) {
    for (size_t i = 0; i < s->n; i++) {
      msock_udp_server_free(s->at[i]);
    }
    free(s);
  }
}

void msock_derpd_stun_set_public(msock_derpd_stun *s, bool is_public) {
  s->is_public = is_public;
}

size_t msock_derpd_stun_count(const msock_derpd_stun *s) {
  return s->n;
}

msock_addr msock_derpd_stun_addr(const msock_derpd_stun *s, size_t i) {
  return msock_udp_server_addr(s->at[i]);
}

msock_derpd_stun_stats msock_derpd_stun_get_stats(const msock_derpd_stun *s) {
  msock_derpd_stun_stats st = s->stats;
  for (size_t i = 0; i < s->n; i++) {
    const msock_udp_server_stats io = msock_udp_server_get_stats(s->at[i]);
    st.success += io.answered;
    st.read_errors += io.read_errors;
    st.write_errors += io.write_errors;
  }
  return st;
}
