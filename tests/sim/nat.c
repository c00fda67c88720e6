#include "tests/sim/nat.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define PORTS 65536u
#define EPHEMERAL (PORTS - SIM_NAT_FIRST_PORT)

typedef struct mapping {
  sim_proto proto;
  msock_addr inside;
  msock_addr remote; /* what the mapping is for; port 0 or family 0 where it does not matter */
  uint16_t port;
  bool fixed; /* a manual forward */
  uint64_t used_us;
  msock_addr *sent_to; /* whom the filter lets in, the latest last */
  uint32_t n_sent, cap_sent;
} mapping;

struct sim_nat_table {
  sim_nat_config config;
  sim_rng rng;
  mapping **m; /* n in use, no holes */
  uint32_t n;
  uint16_t next_port;         /* of the sequential kind */
  mapping *by_port[2][PORTS]; /* outside port to mapping */
};

sim_nat_table *sim_nat_table_new(const sim_nat_config *config, sim_rng rng) {
  sim_nat_table *t = calloc(1, sizeof *t);
  if (t == NULL) {
    return NULL;
  }
  t->config = *config;
  t->config.udp_us = config->udp_us != 0 ? config->udp_us : SIM_NAT_UDP_US;
  t->config.table = config->table != 0 ? config->table : SIM_NAT_TABLE;
  t->rng = rng;
  t->m = calloc(t->config.table, sizeof *t->m);
  if (t->m == NULL) {
    free(t);
    return NULL;
  }
  t->next_port = (uint16_t)(SIM_NAT_FIRST_PORT + sim_rng_below(&t->rng, EPHEMERAL / 2));
  return t;
}

void sim_nat_table_free(sim_nat_table *t) {
  if (t == NULL) {
    return;
  }
  for (uint32_t i = 0; i < t->n; i++) {
    free(t->m[i]->sent_to);
    free(t->m[i]);
  }
  free(t->m);
  free(t);
}

const sim_nat_config *sim_nat_get_config(const sim_nat_table *t) {
  return &t->config;
}

static void drop(sim_nat_table *t, uint32_t i) {
  mapping *m = t->m[i];
  t->by_port[m->proto][m->port] = NULL;
  t->m[i] = t->m[--t->n];
  free(m->sent_to);
  free(m);
}

static bool over(const sim_nat_table *t, const mapping *m, uint64_t now_us) {
  const uint64_t life = m->proto == SIM_TCP ? SIM_NAT_TCP_US : t->config.udp_us;
  return !m->fixed && now_us >= m->used_us + life;
}

static void expire(sim_nat_table *t, uint64_t now_us) {
  for (uint32_t i = t->n; i-- > 0;) {
    if (over(t, t->m[i], now_us)) {
      drop(t, i);
    }
  }
}

/* The part of remote that selects a mapping. */
static msock_addr selector(const sim_nat_table *t, sim_proto proto, const msock_addr *remote) {
  if (proto == SIM_TCP) {
    return *remote; /* a stream's mapping is its own */
  }
  switch (t->config.mapping) {
  case SIM_EIM:
    return (msock_addr){0};
  case SIM_ADM:
    return (msock_addr){.ip = remote->ip};
  case SIM_EDM_SEQUENTIAL:
  case SIM_EDM_RANDOM:
    break;
  }
  return *remote;
}

static bool port_free(const sim_nat_table *t, sim_proto proto, uint16_t port) {
  return t->by_port[proto][port] == NULL;
}

static uint16_t pick_port(sim_nat_table *t, sim_proto proto, const msock_addr *inside) {
  if (t->config.preserve_port && port_free(t, proto, inside->port)) {
    return inside->port;
  }
  for (uint32_t tries = 0; tries < EPHEMERAL; tries++) {
    uint16_t port = t->next_port;
    if (t->config.mapping == SIM_EDM_SEQUENTIAL || tries > 64) {
      t->next_port = port == PORTS - 1 ? SIM_NAT_FIRST_PORT : (uint16_t)(port + 1);
    } else {
      port = (uint16_t)(SIM_NAT_FIRST_PORT + sim_rng_below(&t->rng, EPHEMERAL));
    }
    if (port_free(t, proto, port)) {
      return port;
    }
  }
  return 0;
}

static void make_room(sim_nat_table *t) {
  uint32_t oldest = UINT32_MAX;
  if (t->n < t->config.table) {
    return;
  }
  for (uint32_t i = 0; i < t->n; i++) {
    if (!t->m[i]->fixed && (oldest == UINT32_MAX || t->m[i]->used_us < t->m[oldest]->used_us)) {
      oldest = i;
    }
  }
  if (oldest != UINT32_MAX) {
    drop(t, oldest);
  }
}

static mapping *add(sim_nat_table *t, sim_proto proto, const msock_addr *inside,
                    const msock_addr *remote, uint16_t port) {
  mapping *m = calloc(1, sizeof *m);
  assert(m != NULL);
  *m = (mapping){.proto = proto, .inside = *inside, .remote = *remote, .port = port};
  t->m[t->n++] = m;
  t->by_port[proto][port] = m;
  return m;
}

/* Its place, or n_sent. */
static uint32_t find_sent(const mapping *m, const msock_addr *remote, bool with_port) {
  for (uint32_t i = m->n_sent; i-- > 0;) {
    if (msock_ip_equal(&m->sent_to[i].ip, &remote->ip) &&
        (!with_port || m->sent_to[i].port == remote->port)) {
      return i;
    }
  }
  return m->n_sent;
}

static bool was_sent_to(const mapping *m, const msock_addr *remote, bool with_port) {
  return find_sent(m, remote, with_port) < m->n_sent;
}

static void note_sent(mapping *m, uint64_t now_us, const msock_addr *remote) {
  uint32_t i = find_sent(m, remote, true);
  m->used_us = now_us;
  if (i == m->n_sent && m->n_sent == SIM_NAT_REMOTES) {
    i = 0;
  } else if (i == m->n_sent) {
    if (m->n_sent == m->cap_sent) {
      m->cap_sent = m->cap_sent == 0 ? 8 : 2 * m->cap_sent;
      m->sent_to = realloc(m->sent_to, m->cap_sent * sizeof *m->sent_to);
      assert(m->sent_to != NULL);
    }
    m->n_sent++;
  }
  memmove(&m->sent_to[i], &m->sent_to[i + 1], (m->n_sent - i - 1) * sizeof *m->sent_to);
  m->sent_to[m->n_sent - 1] = *remote;
}

uint16_t sim_nat_out(sim_nat_table *t, uint64_t now_us, sim_proto proto, const msock_addr *inside,
                     const msock_addr *remote) {
  const msock_addr want = selector(t, proto, remote);

  expire(t, now_us);
  for (uint32_t i = 0; i < t->n; i++) {
    mapping *m = t->m[i];
    if (m->proto == proto && msock_addr_equal(&m->inside, inside) &&
        (m->fixed ? was_sent_to(m, remote, true) : msock_addr_equal(&m->remote, &want))) {
      note_sent(m, now_us, remote);
      return m->port;
    }
  }
  make_room(t);
  const uint16_t port = t->n < t->config.table ? pick_port(t, proto, inside) : 0;
  if (port != 0) {
    note_sent(add(t, proto, inside, &want, port), now_us, remote);
  }
  return port;
}

bool sim_nat_in(sim_nat_table *t, uint64_t now_us, sim_proto proto, uint16_t port,
                const msock_addr *remote, msock_addr *inside) {
  mapping *m = t->by_port[proto][port];
  bool pass = false;

  if (m == NULL || over(t, m, now_us)) {
    return false;
  }
  switch (proto == SIM_TCP ? SIM_APDF : t->config.filtering) {
  case SIM_EIF:
    pass = true;
    break;
  case SIM_ADF:
    pass = was_sent_to(m, remote, false);
    break;
  case SIM_APDF:
    pass = was_sent_to(m, remote, true);
    break;
  }
  if (m->fixed) {
    note_sent(m, now_us, remote); /* answers leave by the forwarded port */
  } else if (!pass) {
    return false;
  }
  *inside = m->inside;
  return true;
}

bool sim_nat_peek(const sim_nat_table *t, sim_proto proto, uint16_t port, msock_addr *inside) {
  const mapping *m = t->by_port[proto][port];
  if (m != NULL) {
    *inside = m->inside;
  }
  return m != NULL;
}

void sim_nat_flush(sim_nat_table *t) {
  for (uint32_t i = t->n; i-- > 0;) {
    if (!t->m[i]->fixed) {
      drop(t, i);
    }
  }
}

void sim_nat_flush_socket(sim_nat_table *t, const msock_addr *inside) {
  for (uint32_t i = t->n; i-- > 0;) {
    if (!t->m[i]->fixed && msock_addr_equal(&t->m[i]->inside, inside)) {
      drop(t, i);
    }
  }
}

void sim_nat_forward(sim_nat_table *t, uint16_t port, const msock_addr *inside) {
  assert(port_free(t, SIM_UDP, port));
  make_room(t);
  assert(t->n < t->config.table);
  add(t, SIM_UDP, inside, &(msock_addr){0}, port)->fixed = true;
}

uint32_t sim_nat_count(const sim_nat_table *t, uint64_t now_us) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < t->n; i++) {
    n += !over(t, t->m[i], now_us);
  }
  return n;
}
