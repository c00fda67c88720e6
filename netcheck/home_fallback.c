/* What a round does where UDP gets no answer: one HTTPS request to each region, and the look for a
 * captive portal (netcheck.md 2.5). */
#include <string.h>

#include "netcheck/home_internal.h"

/* (R) = the reference's, netcheck.md 2.5; (P) = ours. */
#define DECIDE_HTTPS_US (50u * MSOCK_MS)   /* (P) after the first answer */
#define HTTPS_OPEN_MAX 16u                 /* (P) requests at once; the others wait */
#define HTTPS_TRY_US (2000u * MSOCK_MS)    /* (P) of one node, so that the next has time as well */
#define CAPTIVE_DELAY_US (200u * MSOCK_MS) /* (R) */
#define CAPTIVE_TRY_US (3000u * MSOCK_MS)  /* (R) */
#define HTTP_PORT 80u

static uint64_t left_us(const msock_home *h, uint64_t now_us, uint64_t most_us) {
  const uint64_t end_us = h->round_us + HOME_ROUND_LIMIT_US;
  const uint64_t left = now_us < end_us ? end_us - now_us : 1;
  return left < most_us ? left : most_us;
}

/* HTTPS. */

void home_https_start(msock_home *h) {
  h->phase = PHASE_HTTPS;
  for (size_t i = 0; i < h->map.n_regions; i++) {
    const bool ask = !h->config.no_https && !h->map.regions[i].avoid && home_region_eligible(h, i);
    h->regions[i].https = ask ? HTTPS_WANTED : HTTPS_DONE;
    h->regions[i].https_node = 0;
    if (ask) {
      home_nodes_want(h, i, true, false);
    }
  }
}

size_t home_https_open(msock_home *h) {
  size_t open = 0;
  for (size_t i = 0; i < h->map.n_regions; i++) {
    home_region *r = &h->regions[i];
    msock_addr addr;
    while (r->https == HTTPS_WANTED && r->https_node < h->map.regions[i].n_nodes &&
           home_nodes_relay(h, i, r->https_node, &addr) == ADDRESS_NEVER) {
      r->https_node++;
    }
    if (r->https == HTTPS_WANTED && r->https_node == h->map.regions[i].n_nodes) {
      r->https = HTTPS_DONE;
    }
    open += r->https == HTTPS_WANTED || r->https == HTTPS_ASKED;
  }
  return open;
}

bool home_https_next(msock_home *h, uint64_t now_us, msock_home_output *out) {
  size_t open = 0;
  for (size_t i = 0; i < h->map.n_regions; i++) {
    open += h->regions[i].https == HTTPS_ASKED;
  }
  for (size_t i = 0; i < h->map.n_regions && open < HTTPS_OPEN_MAX; i++) {
    home_region *r = &h->regions[i];
    if (r->https == HTTPS_WANTED &&
        home_nodes_relay(h, i, r->https_node, &out->addr) == ADDRESS_KNOWN) {
      r->https = HTTPS_ASKED;
      r->https_family = out->addr.ip.family;
      out->kind = MSOCK_HOME_HTTPS_PROBE;
      out->id = home_question_id(h, QUESTION_HTTPS, i, r->https_node);
      out->region = h->map.regions[i].id;
      out->node = (uint32_t)r->https_node;
      out->target = &h->map.regions[i].nodes[r->https_node];
      out->budget_us = left_us(h, now_us, HTTPS_TRY_US);
      return true;
    }
  }
  return false;
}

void msock_home_on_https_result(msock_home *h, uint64_t now_us, uint32_t id, uint64_t latency_us) {
  size_t region = 0, node = 0;
  if (!home_question_read(h, id, QUESTION_HTTPS, &region, &node) ||
      h->regions[region].https != HTTPS_ASKED || h->regions[region].https_node != node) {
    return;
  }
  home_region *r = &h->regions[region];
  if (latency_us == 0) {
    r->https = HTTPS_WANTED;
    r->https_node++;
  } else {
    r->https = HTTPS_DONE;
    r->https_us = latency_us;
    h->now.ipv4 = h->now.ipv4 || r->https_family == 4;
    h->now.ipv6 = h->now.ipv6 || r->https_family == 6;
    if (home_needs_home(h) && h->decide_us == MSOCK_NEVER) {
      h->decide_us = now_us + DECIDE_HTTPS_US;
    }
  }
  home_advance(h, now_us);
}

/* Captive portals. */

void home_captive_plan(msock_home *h) {
  const bool look = h->full && !h->config.no_captive;
  h->captive = (home_captive){.at_us = look ? h->round_us + CAPTIVE_DELAY_US : MSOCK_NEVER};
}

/* The first node of a region that can be asked without a look-up. */
static bool captive_node(const msock_derp_region *r, size_t *node) {
  for (*node = 0; *node < r->n_nodes; ++*node) {
    if (r->nodes[*node].can_port80 && r->nodes[*node].v4 == MSOCK_DERP_FAMILY_LITERAL) {
      return true;
    }
  }
  return false;
}

static void captive_add(msock_home *h, size_t region) {
  home_captive *c = &h->captive;
  size_t node = 0;
  if (c->n < HOME_CAPTIVE_MAX && captive_node(&h->map.regions[region], &node)) {
    c->probes[c->n].region = region;
    c->probes[c->n].node = node;
    c->n++;
  }
}

void home_captive_start_if_due(msock_home *h, uint64_t now_us) {
  if (h->captive.at_us > now_us) {
    return;
  }
  h->captive.at_us = MSOCK_NEVER;
  if (h->now.udp) { /* nobody is in the way */
    return;
  }
  const size_t home = home_region_index(h, h->home);
  if (home < h->map.n_regions) {
    captive_add(h, home);
  }
  for (size_t i = 0; i < h->map.n_regions; i++) {
    if (i != home) {
      captive_add(h, i);
    }
  }
  h->captive.open = h->captive.n;
}

bool home_captive_next(msock_home *h, uint64_t now_us, msock_home_output *out) {
  home_captive *c = &h->captive;
  if (c->next == c->n) {
    return false;
  }
  const size_t region = c->probes[c->next].region, node = c->probes[c->next].node;
  c->next++;
  out->kind = MSOCK_HOME_CAPTIVE_PROBE;
  out->id = home_question_id(h, QUESTION_CAPTIVE, region, node);
  out->region = h->map.regions[region].id;
  out->node = (uint32_t)node;
  out->addr = (msock_addr){h->map.regions[region].nodes[node].ipv4, HTTP_PORT};
  msock_captive_challenge(&out->addr.ip, out->challenge);
  out->budget_us = left_us(h, now_us, CAPTIVE_TRY_US);
  return true;
}

void msock_home_on_captive_result(msock_home *h, uint64_t now_us, uint32_t id, bool found) {
  home_captive *c = &h->captive;
  size_t region = 0, node = 0, i = 0;
  if (!home_question_read(h, id, QUESTION_CAPTIVE, &region, &node)) {
    return;
  }
  while (i < c->next && (c->probes[i].region != region || c->probes[i].node != node)) {
    i++;
  }
  if (i == c->next || c->probes[i].done) {
    return;
  }
  c->probes[i].done = true;
  c->open--;
  if (found) {
    h->now.captive_portal = MSOCK_TRISTATE_TRUE;
  } else if (c->open == 0 && h->now.captive_portal == MSOCK_TRISTATE_UNKNOWN) {
    h->now.captive_portal = MSOCK_TRISTATE_FALSE;
  }
  home_advance(h, now_us);
}
