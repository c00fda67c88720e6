/* Hosts, boxes, realms, and the way of a packet between them. */
#include "tests/sim/net.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/net_internal.h"

#define EPHEMERAL_FIRST 32768u /* Linux' ip_local_port_range */
#define EPHEMERAL_COUNT 28232u

sim_net *sim_net_new(sim_world *w) {
  sim_net *n = calloc(1, sizeof *n);
  if (n == NULL) {
    return NULL;
  }
  n->w = w;
  n->internet.prefix.ip = msock_ip_v4(198, 18, 0, 0); /* RFC 2544: public to every filter */
  n->internet.bits = 24;
  n->internet.next_ip = 10;
  sim_rng_init(&n->rng, w, "net");
  return n;
}

void sim_net_free(sim_net *n) {
  if (n == NULL) {
    return;
  }
  sim_net_free_udp(n);
  for (sim_host *h = n->hosts; h != NULL;) {
    sim_host *next = h->next;
    sim_host_free_streams(h);
    sim_world_cancel(n->w, &h->changed);
    free(h);
    h = next;
  }
  for (sim_nat *b = n->boxes; b != NULL;) {
    sim_nat *next = b->next;
    sim_nat_table_free(b->table);
    free(b->inside.owners);
    free(b);
    b = next;
  }
  free(n->internet.owners);
  free(n->pairs);
  free(n);
}

sim_world *sim_net_world(const sim_net *n) {
  return n->w;
}

void sim_net_set_tap(sim_net *n, void (*cb)(void *ctx, const sim_tap_event *ev), void *ctx) {
  n->tap = cb;
  n->tap_ctx = ctx;
}

const sim_net_stats *sim_net_get_stats(const sim_net *n) {
  return &n->stats;
}

sim_realm *sim_net_internet(sim_net *n) {
  return &n->internet;
}

/* --- who has which address --- */

/* The place of ip, or where it would be. */
static size_t owner_place(const sim_realm *r, const msock_ip *ip) {
  size_t low = 0, high = r->n;
  while (low < high) {
    const size_t mid = low + (high - low) / 2;
    if (msock_ip_compare(&r->owners[mid].ip, ip) < 0) {
      low = mid + 1;
    } else {
      high = mid;
    }
  }
  return low;
}

static const sim_owner *find_owner(const sim_realm *r, const msock_ip *ip) {
  const size_t i = owner_place(r, ip);
  return i < r->n && msock_ip_equal(&r->owners[i].ip, ip) ? &r->owners[i] : NULL;
}

static void add_owner(sim_realm *r, const sim_owner *o) {
  const size_t i = owner_place(r, &o->ip);
  assert(find_owner(r, &o->ip) == NULL); /* a scenario gave one address twice */
  if (r->n == r->cap) {
    r->cap = r->cap == 0 ? 16 : 2 * r->cap;
    r->owners = realloc(r->owners, r->cap * sizeof *r->owners);
    assert(r->owners != NULL);
  }
  memmove(&r->owners[i + 1], &r->owners[i], (r->n - i) * sizeof *r->owners);
  r->owners[i] = *o;
  r->n++;
}

static void remove_owner(sim_realm *r, const msock_ip *ip) {
  const size_t i = owner_place(r, ip);
  if (i < r->n && msock_ip_equal(&r->owners[i].ip, ip)) {
    r->n--;
    memmove(&r->owners[i], &r->owners[i + 1], (r->n - i) * sizeof *r->owners);
  }
}

/* .1 of a prefix is its gateway, .0 and .255 are nobody's. */
static msock_ip next_ip(sim_realm *r) {
  msock_ip ip;
  do {
    const uint32_t k = ++r->next_ip;
    ip = r->prefix.ip;
    ip.b[3] = (uint8_t)(k % 253 + 2);
    ip.b[2] = (uint8_t)(ip.b[2] + k / 253);
  } while (find_owner(r, &ip) != NULL);
  return ip;
}

/* --- boxes --- */

sim_nat *sim_nat_new(sim_net *n, const char *name, sim_realm *outside, const sim_nat_config *config,
                     const msock_ip *outside_ip, bool cgnat) {
  sim_nat *b = calloc(1, sizeof *b);
  sim_rng rng;
  if (b == NULL) {
    return NULL;
  }
  b->net = n;
  strncpy(b->name, name, sizeof b->name - 1);
  sim_rng_init(&rng, n->w, b->name);
  b->table = sim_nat_table_new(config, rng);
  if (b->table == NULL) {
    free(b);
    return NULL;
  }
  b->cgnat = cgnat;
  b->outside = outside;
  b->ip = outside_ip != NULL && outside_ip->family != 0 ? *outside_ip : next_ip(outside);
  add_owner(outside, &(sim_owner){.ip = b->ip, .box = b});
  n->n_boxes++;
  assert(n->n_boxes < 250);
  b->inside.gateway = b;
  b->inside.bits = 24;
  b->inside.prefix.ip = cgnat ? msock_ip_v4(100, 64, (uint8_t)n->n_boxes, 0)
                              : msock_ip_v4(192, 168, (uint8_t)n->n_boxes, 0);
  b->next = n->boxes;
  n->boxes = b;
  return b;
}

sim_realm *sim_nat_inside(sim_nat *b) {
  return &b->inside;
}

msock_ip sim_nat_address(const sim_nat *b) {
  return b->ip;
}

sim_nat_table *sim_nat_table_of(sim_nat *b) {
  return b->table;
}

void sim_nat_renumber(sim_nat *b, const msock_ip *ip) {
  char text[MSOCK_IP_TEXT_MAX];
  remove_owner(b->outside, &b->ip);
  b->ip = ip != NULL ? *ip : next_ip(b->outside);
  add_owner(b->outside, &(sim_owner){.ip = b->ip, .box = b});
  sim_nat_flush(b->table);
  sim_trace(b->net->w, b->name, "public address is now %s", msock_ip_text(&b->ip, text));
}

void sim_nat_reboot(sim_nat *b, uint64_t down_us) {
  sim_nat_flush(b->table);
  b->down_until_us = sim_world_now_us(b->net->w) + down_us;
  sim_trace(b->net->w, b->name, "reboots");
}

void sim_nat_drop_mappings(sim_nat *b) {
  sim_nat_flush(b->table);
  sim_trace(b->net->w, b->name, "forgets its mappings");
}

/* --- hosts --- */

static void tell_change(void *ctx) {
  sim_host *h = ctx;
  if (h->on_change != NULL) {
    h->on_change(h->on_change_ctx);
  }
}

static void changed(sim_host *h) {
  if (!sim_event_is_set(&h->changed)) {
    sim_world_set(h->net->w, &h->changed, sim_world_now_us(h->net->w));
  }
}

sim_host *sim_host_new(sim_net *n, const char *name) {
  sim_host *h = calloc(1, sizeof *h);
  if (h == NULL) {
    return NULL;
  }
  h->net = n;
  h->id = ++n->n_hosts;
  h->on = true;
  strncpy(h->name, name, sizeof h->name - 1);
  sim_rng_init(&h->rng, n->w, h->name);
  sim_event_init(&h->changed, tell_change, h);
  h->next = n->hosts;
  n->hosts = h;
  return h;
}

const char *sim_host_name(const sim_host *h) {
  return h->name;
}

sim_net *sim_host_net(const sim_host *h) {
  return h->net;
}

static void give_address(sim_host *h, sim_interface *i, const msock_ip *ip) {
  char text[MSOCK_IP_TEXT_MAX];
  i->ip = ip != NULL ? *ip : next_ip(i->realm);
  i->bits = i->ip.family == 6 ? 64 : i->realm->bits;
  add_owner(i->realm, &(sim_owner){.ip = i->ip, .host = h});
  sim_trace(h->net->w, h->name, "%s is %s", i->name, msock_ip_text(&i->ip, text));
  changed(h);
}

uint32_t sim_host_attach(sim_host *h, sim_realm *r, const msock_ip *ip, const char *ifname) {
  assert(h->n_interfaces < SIM_INTERFACES);
  sim_interface *i = &h->interfaces[h->n_interfaces++];
  *i = (sim_interface){.index = h->n_interfaces, .realm = r, .up = true};
  strncpy(i->name, ifname, sizeof i->name - 1);
  give_address(h, i, ip);
  return i->index;
}

static sim_interface *interface(sim_host *h, uint32_t ifindex) {
  assert(ifindex >= 1 && ifindex <= h->n_interfaces);
  return &h->interfaces[ifindex - 1];
}

void sim_host_move(sim_host *h, uint32_t ifindex, sim_realm *r, const msock_ip *ip) {
  sim_interface *i = interface(h, ifindex);
  if (i->up) {
    remove_owner(i->realm, &i->ip);
  }
  i->realm = r;
  i->up = true;
  give_address(h, i, ip);
}

void sim_host_renumber(sim_host *h, uint32_t ifindex, const msock_ip *ip) {
  sim_host_move(h, ifindex, interface(h, ifindex)->realm, ip);
}

void sim_host_set_interface_up(sim_host *h, uint32_t ifindex, bool up) {
  sim_interface *i = interface(h, ifindex);
  if (i->up == up) {
    return;
  }
  i->up = up;
  if (up) {
    add_owner(i->realm, &(sim_owner){.ip = i->ip, .host = h});
  } else {
    remove_owner(i->realm, &i->ip);
  }
  sim_trace(h->net->w, h->name, "%s is %s", i->name, up ? "up" : "down");
  changed(h);
}

size_t sim_host_interfaces(const sim_host *h, sim_interface out[SIM_INTERFACES]) {
  size_t n = 0;
  for (uint32_t i = 0; i < h->n_interfaces; i++) {
    if (h->interfaces[i].up) {
      out[n++] = h->interfaces[i];
    }
  }
  return n;
}

msock_ip sim_host_address(const sim_host *h) {
  for (uint32_t i = 0; i < h->n_interfaces; i++) {
    if (h->interfaces[i].up && h->interfaces[i].ip.family == 4) {
      return h->interfaces[i].ip;
    }
  }
  return (msock_ip){0};
}

bool sim_host_has(const sim_host *h, const msock_ip *ip) {
  for (uint32_t i = 0; i < h->n_interfaces; i++) {
    if (h->interfaces[i].up && msock_ip_equal(&h->interfaces[i].ip, ip)) {
      return true;
    }
  }
  return false;
}

void sim_host_set_power(sim_host *h, bool on) {
  h->on = on;
  sim_trace(h->net->w, h->name, "is switched %s", on ? "on" : "off");
}

void sim_host_on_change(sim_host *h, void (*cb)(void *ctx), void *ctx) {
  h->on_change = cb;
  h->on_change_ctx = ctx;
}

static bool on_link(const sim_interface *i, const msock_ip *to) {
  return msock_prefix_contains(
      &(msock_prefix){.ip = msock_prefix_mask((msock_prefix){i->ip, i->bits}).ip, .bits = i->bits},
      to);
}

const sim_interface *sim_host_route(const sim_host *h, const msock_addr *to, const msock_ip *fixed,
                                    int *error) {
  const sim_interface *best = NULL;

  if (fixed->family != 0 && !sim_host_has(h, fixed)) {
    *error = EINVAL; /* Linux: the bound source address is nobody's any more */
    return NULL;
  }
  for (uint32_t k = 0; k < h->n_interfaces; k++) {
    const sim_interface *i = &h->interfaces[k];
    if (!i->up || i->ip.family != to->ip.family ||
        (fixed->family != 0 && !msock_ip_equal(&i->ip, fixed))) {
      continue;
    }
    if (on_link(i, &to->ip)) {
      return i;
    }
    best = best != NULL ? best : i;
  }
  *error = ENETUNREACH;
  return best;
}

uint16_t sim_host_ephemeral(sim_host *h, bool (*taken)(const sim_host *h, uint16_t port)) {
  uint16_t port;
  do {
    port = (uint16_t)(EPHEMERAL_FIRST + sim_rng_below(&h->rng, EPHEMERAL_COUNT));
  } while (taken(h, port));
  return port;
}

/* --- the way through boxes --- */

void sim_net_climb(sim_net *n, sim_realm *from, sim_proto proto, const msock_addr *src,
                   const msock_addr *dst, sim_climb *out) {
  *out = (sim_climb){
      .realm = from, .src = *src, .lan = from->gateway != NULL && !from->gateway->cgnat};
  for (uint32_t depth = 0; depth <= SIM_CHAIN; depth++) {
    sim_nat *b = out->realm->gateway;
    if (find_owner(out->realm, &dst->ip) != NULL) {
      return;
    }
    if (b == NULL || dst->ip.family != 4) {
      break;
    }
    if (sim_world_now_us(n->w) < b->down_until_us) {
      out->lost = "box is down";
      return;
    }
    const uint16_t port = sim_nat_out(b->table, sim_world_now_us(n->w), proto, &out->src, dst);
    if (port == 0) {
      out->lost = "box has no port left";
      return;
    }
    out->src = (msock_addr){.ip = b->ip, .port = port};
    out->realm = b->outside;
    if (msock_ip_equal(&dst->ip, &b->ip)) { /* its own outside address: turns round */
      out->lost = sim_nat_get_config(b->table)->hairpin ? NULL : "no hairpin";
      out->lan = out->lan && !b->cgnat;
      return;
    }
    out->lan = false;
  }
  out->lost = "no route";
}

sim_host *sim_net_descend(sim_net *n, sim_realm *at, sim_proto proto, const msock_addr *src,
                          const msock_addr *dst, bool peek, msock_addr *inside, const char **why) {
  msock_addr to = *dst;
  *why = "nobody has this address";
  for (uint32_t depth = 0; depth <= SIM_CHAIN; depth++) {
    const sim_owner *o = find_owner(at, &to.ip);
    if (o == NULL) {
      return NULL;
    }
    if (o->host != NULL) {
      *inside = to;
      return o->host;
    }
    const uint64_t now_us = sim_world_now_us(n->w);
    const bool in = peek ? sim_nat_peek(o->box->table, proto, to.port, &to)
                         : now_us >= o->box->down_until_us &&
                               sim_nat_in(o->box->table, now_us, proto, to.port, src, &to);
    if (!in) {
      *why = "box lets nobody in";
      return NULL;
    }
    at = &o->box->inside;
  }
  return NULL;
}

/* --- figures of a path --- */

static sim_pair *pair_place(const sim_net *n, uint32_t from, uint32_t to) {
  uint32_t i = (from * 2654435761u ^ to * 40503u) & (n->cap_pairs - 1);
  while (n->pairs[i].used && (n->pairs[i].from != from || n->pairs[i].to != to)) {
    i = (i + 1) & (n->cap_pairs - 1);
  }
  return &n->pairs[i];
}

sim_pair *sim_net_pair(const sim_net *n, const sim_host *from, const sim_host *to) {
  if (n->n_pairs == 0) {
    return NULL;
  }
  sim_pair *p = pair_place(n, from->id, to->id);
  return p->used ? p : NULL;
}

static void grow_pairs(sim_net *n) {
  sim_pair *old = n->pairs;
  const uint32_t cap = n->cap_pairs;
  n->cap_pairs = cap == 0 ? 64 : 2 * cap;
  n->pairs = calloc(n->cap_pairs, sizeof *n->pairs);
  assert(n->pairs != NULL);
  for (uint32_t i = 0; i < cap; i++) {
    if (old[i].used) {
      *pair_place(n, old[i].from, old[i].to) = old[i];
    }
  }
  free(old);
}

sim_pair *sim_net_make_pair(sim_net *n, const sim_host *from, const sim_host *to) {
  if (2 * (n->n_pairs + 1) > n->cap_pairs) {
    grow_pairs(n);
  }
  sim_pair *p = pair_place(n, from->id, to->id);
  if (!p->used) {
    *p = (sim_pair){.from = from->id, .to = to->id, .used = true};
    n->n_pairs++;
  }
  return p;
}

void sim_net_set_pair(sim_net *n, const sim_host *from, const sim_host *to, const sim_link *l) {
  sim_pair *p = sim_net_make_pair(n, from, to);
  p->has_link = l != NULL;
  p->link = l != NULL ? *l : (sim_link){0};
}

sim_link *sim_host_up(sim_host *h) {
  return &h->up;
}

sim_link *sim_host_down(sim_host *h) {
  return &h->down;
}

void sim_host_set_latency(sim_host *h, uint64_t latency_us) {
  h->up.latency_us = h->down.latency_us = latency_us;
}

void sim_host_block_udp(sim_host *h, bool in, bool out) {
  h->down.udp_blocked = in;
  h->up.udp_blocked = out;
  sim_trace(h->net->w, h->name, "UDP in %s, out %s", in ? "blocked" : "free",
            out ? "blocked" : "free");
}

static uint64_t draw(sim_net *n, const sim_link *l) {
  if (l->jitter_us == 0) {
    return l->latency_us;
  }
  const uint64_t late = l->latency_us + sim_rng_below(&n->rng, 2 * l->jitter_us + 1);
  return late > l->jitter_us ? late - l->jitter_us : 0;
}

uint64_t sim_net_delay(sim_net *n, const sim_host *from, const sim_host *to, bool lan) {
  uint64_t us = lan ? SIM_LAN_US : draw(n, &from->up);
  if (to != NULL) {
    const sim_pair *p = sim_net_pair(n, from, to);
    us += lan ? 0 : draw(n, &to->down);
    us += p != NULL && p->has_link ? draw(n, &p->link) : 0;
  }
  return us;
}

uint32_t sim_net_loss_permille(const sim_net *n, const sim_host *from, const sim_host *to) {
  uint32_t pass = 1000 - from->up.loss_permille;
  if (to != NULL) {
    const sim_pair *p = sim_net_pair(n, from, to);
    pass = pass * (1000 - to->down.loss_permille) / 1000;
    pass = p != NULL && p->has_link ? pass * (1000 - p->link.loss_permille) / 1000 : pass;
  }
  return 1000 - pass;
}
