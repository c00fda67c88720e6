#include "node/paths.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

struct msock_paths {
  msock_node_deps deps;
  msock_paths_handlers handlers;
  void *ctx;
  bool hide_addresses;
  msock_engine *engine;
  msock_udp *udp;
  uint8_t buf[MSOCK_ENGINE_PACKET_MAX];
};

msock_paths *msock_paths_new(const msock_node_deps *deps, const msock_engine_config *cfg,
                             const msock_disco_private *disco, const msock_paths_handlers *handlers,
                             void *ctx) {
  msock_paths *p = calloc(1, sizeof *p);
  if (p == NULL) {
    return NULL;
  }
  p->deps = *deps;
  p->handlers = *handlers;
  p->ctx = ctx;
  p->hide_addresses = cfg->hide_addresses;
  p->engine = msock_engine_new(cfg, &p->deps.env, disco, msock_loop_now_us());
  if (p->engine == NULL) {
    free(p);
    return NULL;
  }
  return p;
}

void msock_paths_free(msock_paths *p) {
  if (p) {
    msock_engine_free(p->engine);
    free(p);
  }
}

msock_engine *msock_paths_engine(msock_paths *p) {
  return p->engine;
}

uint64_t msock_paths_next_expiry(const msock_paths *p) {
  return msock_engine_next_expiry(p->engine);
}

void msock_paths_set_socket(msock_paths *p, uint64_t now_us, msock_udp *udp) {
  p->udp = udp;
  msock_engine_on_socket(p->engine, now_us, udp ? msock_udp_local(udp).port : 0);
}

static void send_udp(msock_paths *p, uint64_t now_us, const msock_engine_output *o, size_t len) {
  if (p->udp == NULL) {
    return;
  }
  const msock_err e = msock_egress_sendto(p->deps.egress, MSOCK_PURPOSE_WG, msock_udp_fd(p->udp),
                                          &o->addr, p->buf, len);
  msock_send_error why = MSOCK_SEND_BROKEN;
  if (e == MSOCK_OK || e == MSOCK_ERR_AGAIN || e == MSOCK_ERR_DENIED) {
    return;
  }
  switch (errno) { /* magicsock.md 5.3 */
  case EPERM:
  case EACCES:
    why = MSOCK_SEND_REFUSED;
    break;
  case EHOSTUNREACH:
  case EHOSTDOWN:
  case ECONNREFUSED:
    why = MSOCK_SEND_UNREACHABLE;
    break;
  case ENETUNREACH:
  case EADDRNOTAVAIL:
  case EAFNOSUPPORT:
  case EINVAL:
    why = MSOCK_SEND_NO_ROUTE;
    break;
  case ENOBUFS:
  case EMSGSIZE:
    return;
  default:
    break;
  }
  msock_engine_on_send_error(p->engine, now_us, o->peer, &o->addr, why);
}

static void log_path(const msock_paths *p, const msock_engine_output *o) {
  char key[MSOCK_KEY_SHORT_MAX], addr[MSOCK_ADDR_TEXT_MAX];
  if (o->via == MSOCK_VIA_DIRECT) {
    msock_logf(p->deps.log, MSOCK_LOG_INFO, "path.confirmed",
               "peer=%s via=udp addr=%s rtt_us=%" PRIu64, msock_node_key_short(&o->node, key),
               p->hide_addresses ? "-" : msock_addr_text(&o->addr, addr), o->rtt_us);
  } else {
    msock_logf(p->deps.log, MSOCK_LOG_INFO, "path.lost", "peer=%s via=derp region=%" PRIu64,
               msock_node_key_short(&o->node, key), o->region);
  }
}

void msock_paths_pump(msock_paths *p, uint64_t now_us) {
  msock_engine_output o;
  size_t len = 0;

  if (msock_engine_next_expiry(p->engine) <= now_us) {
    msock_engine_on_expiry(p->engine, now_us);
  }
  while (msock_engine_next_output(p->engine, now_us, &o, p->buf, sizeof p->buf, &len) > 0) {
    switch (o.kind) {
    case MSOCK_ENGINE_SEND_UDP:
      send_udp(p, now_us, &o, len);
      break;
    case MSOCK_ENGINE_SEND_DERP:
      p->handlers.send_relay(p->ctx, now_us, &o.node, o.region, p->buf, len);
      break;
    case MSOCK_ENGINE_PATH_CHANGED:
      log_path(p, &o);
      break;
    case MSOCK_ENGINE_PUBLISH:
      p->handlers.publish(p->ctx, now_us, o.endpoints, o.n_endpoints);
      break;
    case MSOCK_ENGINE_PING_RESULT:
      p->handlers.ping_done(p->ctx, now_us, &o);
      break;
    case MSOCK_ENGINE_KICK_HANDSHAKE:
      p->handlers.kick(p->ctx, now_us, &o.node);
      break;
    case MSOCK_ENGINE_WANT_STUN:
      p->handlers.want_stun(p->ctx, now_us);
      break;
    case MSOCK_ENGINE_WANT_REBIND:
      p->handlers.want_rebind(p->ctx, now_us);
      break;
    }
  }
}
