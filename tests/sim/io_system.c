/* The rest of the io room as a simulated host has it: links and addresses (io/netlink.h), the TUN
 * device (io/tun.h), the LocalAPI's socket (io/unix_server.h, nobody connects), the allocator
 * (io/memory.h: the machine's own), and libcurl's place (http_small.c does its work). */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/http_internal.h"
#include "io/memory.h"
#include "io/netlink.h"
#include "io/tun.h"
#include "io/unix_server.h"
#include "tests/sim/io_internal.h"

/* --- the tunnel device's addresses and routes --- */

struct msock_netlink {
  sim_process *p;
};

msock_err msock_netlink_new(msock_egress *eg, const char *device, msock_netlink **out) {
  (void)eg;
  (void)device;
  *out = calloc(1, sizeof **out);
  assert(*out != NULL);
  (*out)->p = sim_process_current();
  return MSOCK_OK;
}

void msock_netlink_free(msock_netlink *n) {
  free(n);
}

const char *msock_netlink_why(const msock_netlink *n) {
  (void)n;
  return "";
}

msock_err msock_netlink_set_mtu(msock_netlink *n, uint32_t mtu_bytes) {
  (void)n;
  (void)mtu_bytes;
  return MSOCK_OK;
}

msock_err msock_netlink_set_up(msock_netlink *n, bool up) {
  (void)n;
  (void)up;
  return MSOCK_OK;
}

static size_t keep(msock_prefix *dst, size_t cap, const msock_prefix *from, size_t n) {
  n = n < cap ? n : cap;
  memcpy(dst, from, n * sizeof *dst);
  return n;
}

msock_err msock_netlink_set_addresses(msock_netlink *n, const msock_prefix *addrs, size_t count) {
  n->p->n_addresses = count == 0 ? 0 : keep(n->p->addresses, SIM_ADDRESSES_MAX, addrs, count);
  return MSOCK_OK;
}

msock_err msock_netlink_set_routes(msock_netlink *n, const msock_prefix *routes, size_t count,
                                   uint32_t table) {
  (void)table;
  n->p->n_routes = count == 0 ? 0 : keep(n->p->routes, SIM_ROUTES_MAX, routes, count);
  return MSOCK_OK;
}

size_t sim_process_tun_addresses(const sim_process *p, msock_prefix *dst, size_t cap) {
  return keep(dst, cap, p->addresses, p->n_addresses);
}

size_t sim_process_tun_routes(const sim_process *p, msock_prefix *dst, size_t cap) {
  return keep(dst, cap, p->routes, p->n_routes);
}

/* --- the host's addresses --- */

msock_err msock_netlink_list_addresses(msock_egress *eg, const char *except,
                                       msock_netlink_addr *dst, size_t cap, size_t *n) {
  sim_interface up[SIM_INTERFACES];
  const size_t count = sim_host_interfaces(sim_process_current()->host, up);
  (void)eg;
  (void)except; /* the tunnel is not among the host's interfaces */
  *n = 0;
  for (size_t i = 0; i < count && *n < cap; i++) {
    msock_netlink_addr *a = &dst[(*n)++];
    *a = (msock_netlink_addr){.ip = up[i].ip, .bits = up[i].bits, .ifindex = up[i].index};
    snprintf(a->ifname, sizeof a->ifname, "%.15s", up[i].name);
  }
  return MSOCK_OK;
}

msock_err msock_netlink_default_route(msock_egress *eg, uint8_t family, const char *except,
                                      msock_netlink_route *out) {
  sim_interface up[SIM_INTERFACES];
  const size_t count = sim_host_interfaces(sim_process_current()->host, up);
  (void)eg;
  (void)except;
  for (size_t i = 0; i < count; i++) {
    if (up[i].ip.family == family) {
      *out = (msock_netlink_route){.ifindex = up[i].index};
      out->gateway = msock_prefix_mask((msock_prefix){up[i].ip, up[i].bits}).ip;
      out->gateway.b[family == 4 ? 3 : 15] |= 1;
      return MSOCK_OK;
    }
  }
  return MSOCK_ERR_UNKNOWN;
}

struct msock_netlink_monitor {
  sim_process *p;
  msock_loop *loop;
  msock_loop_timer settle;
  void (*changed)(void *ctx);
  void *ctx;
};

static void on_settled(void *ctx, uint64_t now_us) {
  msock_netlink_monitor *m = ctx;
  (void)now_us;
  m->changed(m->ctx);
}

static void on_host_change(void *ctx) {
  msock_netlink_monitor *m = ctx;
  msock_loop_set_deadline(m->loop, &m->settle, sim_process_now_us(m->p) + MSOCK_NETLINK_SETTLE_US);
}

msock_err msock_netlink_monitor_new(msock_egress *eg, void (*changed)(void *ctx), void *ctx,
                                    msock_netlink_monitor **out) {
  msock_netlink_monitor *m = calloc(1, sizeof *m);
  assert(m != NULL);
  m->p = sim_process_current();
  m->loop = msock_egress_loop(eg);
  m->changed = changed;
  m->ctx = ctx;
  msock_loop_timer_init(&m->settle, on_settled, m);
  sim_host_on_change(m->p->host, on_host_change, m);
  *out = m;
  return MSOCK_OK;
}

void msock_netlink_monitor_free(msock_netlink_monitor *m) {
  if (m != NULL) {
    sim_host_on_change(m->p->host, NULL, NULL);
    msock_loop_set_deadline(m->loop, &m->settle, MSOCK_NEVER);
    free(m);
  }
}

/* --- TUN --- */

typedef struct queued {
  size_t len;
  uint8_t bytes[MSOCK_PACKET_HEADROOM + MSOCK_TUN_PACKET_MAX + MSOCK_PACKET_TAILROOM];
} queued;

struct msock_tun {
  sim_process *p;
  char name[MSOCK_TUN_NAME_MAX];
  msock_tun_read_cb cb;
  void *ctx;
  msock_loop_timer ready;
  queued *queue[SIM_TUN_QUEUE];
  size_t n;
  bool paused;
  msock_tun_stats stats;
};

static void on_tun_ready(void *ctx, uint64_t now_us) {
  msock_tun *t = ctx;
  msock_packet pkts[MSOCK_BATCH_MAX];
  queued *batch[MSOCK_BATCH_MAX];
  const size_t n = t->paused ? 0 : t->n < MSOCK_BATCH_MAX ? t->n : MSOCK_BATCH_MAX;
  for (size_t i = 0; i < n; i++) {
    batch[i] = t->queue[i];
    pkts[i] = (msock_packet){.buf = batch[i]->bytes,
                             .cap = sizeof batch[i]->bytes,
                             .off = MSOCK_PACKET_HEADROOM,
                             .len = (uint32_t)batch[i]->len};
    t->stats.rx_packets++;
    t->stats.rx_bytes += batch[i]->len;
  }
  t->n -= n;
  memmove(t->queue, t->queue + n, t->n * sizeof *t->queue);
  if (n > 0) {
    t->cb(t->ctx, pkts, n, now_us); /* the node never frees its device from here */
  }
  for (size_t i = 0; i < n; i++) {
    free(batch[i]);
  }
  if (t->n > 0 && !t->paused) {
    msock_loop_set_deadline(t->p->loop, &t->ready, now_us);
  }
}

msock_err msock_tun_open(msock_loop *loop, const char *name, msock_tun_read_cb cb, void *ctx,
                         msock_tun **out, char why[static MSOCK_TUN_WHY_MAX]) {
  msock_tun *t = calloc(1, sizeof *t);
  (void)loop;
  (void)why;
  assert(t != NULL);
  t->p = sim_process_current();
  assert(t->p->tun == NULL);
  snprintf(t->name, sizeof t->name, "%s", name);
  t->cb = cb;
  t->ctx = ctx;
  msock_loop_timer_init(&t->ready, on_tun_ready, t);
  t->p->tun = t;
  *out = t;
  return MSOCK_OK;
}

void msock_tun_free(msock_tun *t) {
  if (t == NULL) {
    return;
  }
  msock_loop_set_deadline(t->p->loop, &t->ready, MSOCK_NEVER);
  for (size_t i = 0; i < t->n; i++) {
    free(t->queue[i]);
  }
  t->p->tun = NULL;
  t->p->n_addresses = t->p->n_routes = 0;
  free(t);
}

const char *msock_tun_name(const msock_tun *t) {
  return t->name;
}

size_t msock_tun_write(msock_tun *t, const msock_packet *pkts, size_t n) {
  for (size_t i = 0; i < n; i++) {
    t->stats.tx_packets++;
    t->stats.tx_bytes += pkts[i].len;
    if (t->p->on_tun != NULL && !t->p->muted) {
      t->p->on_tun(t->p->on_tun_ctx, msock_packet_data(&pkts[i]), pkts[i].len);
    }
  }
  return n;
}

void msock_tun_pause(msock_tun *t, bool pause) {
  t->paused = pause;
  if (!pause && t->n > 0) {
    msock_loop_set_deadline(t->p->loop, &t->ready, sim_process_now_us(t->p));
  }
}

const msock_tun_stats *msock_tun_get_stats(const msock_tun *t) {
  return &t->stats;
}

void sim_process_on_tun(sim_process *p, sim_tun_cb cb, void *ctx) {
  p->on_tun = cb;
  p->on_tun_ctx = ctx;
}

bool sim_process_tun_inject(sim_process *p, const uint8_t *packet, size_t len) {
  msock_tun *t = p->tun;
  if (t == NULL || t->n == SIM_TUN_QUEUE || len > MSOCK_TUN_PACKET_MAX) {
    return false;
  }
  queued *q = malloc(sizeof *q);
  assert(q != NULL);
  q->len = len;
  memcpy(q->bytes + MSOCK_PACKET_HEADROOM, packet, len);
  t->queue[t->n++] = q;
  if (!t->paused) {
    msock_loop_set_deadline(p->loop, &t->ready, sim_process_now_us(p));
  }
  return true;
}

/* --- LocalAPI --- */

struct msock_unix_server {
  char path[1];
};

msock_err msock_unix_server_new(msock_egress *eg, const char *path, unsigned mode,
                                void (*accepted)(void *ctx, int fd, const msock_unix_peer *peer),
                                void *ctx, msock_unix_server **out) {
  (void)eg;
  (void)path;
  (void)mode;
  (void)accepted;
  (void)ctx;
  *out = calloc(1, sizeof **out);
  assert(*out != NULL);
  return MSOCK_OK;
}

void msock_unix_server_free(msock_unix_server *s) {
  free(s);
}

/* --- the allocator --- */

void msock_memory_setup(void) {
}

void msock_memory_trim(void) {
}

/* --- HTTP: one provider --- */

static const char *http_name(void) {
  return "simulated";
}

static void *http_open(const msock_http_env *env) {
  return msock_http_small.open(env);
}

static void http_close(void *state) {
  msock_http_small.close(state);
}

static msock_err http_start(void *state, const msock_http_request *r, const msock_http_url *url,
                            void *token, void **impl) {
  return msock_http_small.start(state, r, url, token, impl);
}

static void http_cancel(void *impl) {
  msock_http_small.cancel(impl);
}

/* What http.c of an ordinary build calls. */
const msock_http_provider_ops msock_http_curl = {.name = http_name,
                                                 .open = http_open,
                                                 .close = http_close,
                                                 .start = http_start,
                                                 .cancel = http_cancel};
