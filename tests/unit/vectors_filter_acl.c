/* The captured policy of map_acl_filter.json against tests/data/filter_acl_packets.json: packets
 * as each node of the capture sees them, with the verdict that the policy asks for. The packet list
 * is written for that one capture, so both files come from this tree whatever TSNODE_VECTORS says.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "filter/filter.h"
#include "tests/unit/testing.h"
#include "tests/unit/vectors.h"

#define POLICY_FILE "map_acl_filter.json"
#define PACKETS_FILE "filter_acl_packets.json"

static size_t length(json_object *array) {
  return array ? json_object_array_length(array) : 0;
}

static const char *text_at(json_object *array, size_t i) {
  return json_object_get_string(json_object_array_get_idx(array, i));
}

static json_object *member(json_object *o, const char *name) {
  json_object *v = NULL;
  json_object_object_get_ex(o, name, &v);
  return v;
}

static void load_rule(json_object *from, msock_policy_rule *r) {
  json_object *srcs = member(from, "SrcIPs"), *dsts = member(from, "DstPorts");
  json_object *protos = member(from, "IPProto");
  r->srcs = calloc(length(srcs) + 1, sizeof *r->srcs);
  r->dsts = calloc(length(dsts) + 1, sizeof *r->dsts);
  r->protos = calloc(length(protos) + 1, 1);
  for (size_t i = 0; i < length(srcs); i++) {
    if (msock_ip_range_parse(text_at(srcs, i), &r->srcs[r->n_srcs].range) == MSOCK_OK) {
      r->n_srcs++;
    }
  }
  for (size_t i = 0; i < length(dsts); i++) {
    json_object *d = json_object_array_get_idx(dsts, i);
    json_object *ports = vectors_get(POLICY_FILE, d, "Ports");
    msock_policy_dst *dst = &r->dsts[r->n_dsts];
    if (msock_ip_range_parse(vectors_str(POLICY_FILE, d, "IP"), &dst->range) == MSOCK_OK) {
      dst->port_first = (uint16_t)json_object_get_int(vectors_get(POLICY_FILE, ports, "First"));
      dst->port_last = (uint16_t)json_object_get_int(vectors_get(POLICY_FILE, ports, "Last"));
      r->n_dsts++;
    }
  }
  for (size_t i = 0; i < length(protos); i++) {
    r->protos[r->n_protos++] = (uint8_t)json_object_get_int(json_object_array_get_idx(protos, i));
  }
}

/* The union of the named sets that the node's map messages carry. */
static void load_policy(json_object *messages, msock_policy *p) {
  for (size_t m = 0; m < length(messages); m++) {
    json_object *sets = member(json_object_array_get_idx(messages, m), "PacketFilters");
    if (!sets) {
      continue;
    }
    json_object_object_foreach(sets, name, set) {
      (void)name;
      p->rules = realloc(p->rules, (p->n_rules + length(set) + 1) * sizeof *p->rules);
      for (size_t i = 0; i < length(set); i++) {
        p->rules[p->n_rules] = (msock_policy_rule){0};
        load_rule(json_object_array_get_idx(set, i), &p->rules[p->n_rules++]);
      }
    }
  }
}

static size_t load_prefixes(json_object *array, msock_prefix *to, size_t cap) {
  size_t n = 0;
  for (size_t i = 0; i < length(array) && n < cap; i++) {
    if (msock_prefix_parse(text_at(array, i), &to[n]) == MSOCK_OK) {
      n++;
    }
  }
  return n;
}

static unsigned number(json_object *o, const char *name) {
  return (unsigned)json_object_get_int(member(o, name));
}

/* A whole IP packet of the case, so that the parser is part of the test. Gives its length. */
static size_t build(json_object *c, uint8_t pkt[static 64]) {
  static const size_t upper_len = 20; /* enough for every upper header here */
  msock_ip src, dst;
  if (msock_ip_parse(vectors_str(PACKETS_FILE, c, "src"), &src) != MSOCK_OK ||
      msock_ip_parse(vectors_str(PACKETS_FILE, c, "dst"), &dst) != MSOCK_OK) {
    return 0;
  }
  const uint8_t proto = (uint8_t)json_object_get_int(vectors_get(PACKETS_FILE, c, "proto"));
  const size_t header = src.family == 4 ? 20 : 40;
  memset(pkt, 0, 64);
  if (src.family == 4) {
    pkt[0] = 0x45;
    pkt[3] = (uint8_t)(header + upper_len);
    pkt[9] = proto;
    memcpy(pkt + 12, src.b, 4);
    memcpy(pkt + 16, dst.b, 4);
  } else {
    pkt[0] = 0x60;
    pkt[5] = (uint8_t)upper_len;
    pkt[6] = proto;
    memcpy(pkt + 8, src.b, 16);
    memcpy(pkt + 24, dst.b, 16);
  }
  uint8_t *u = pkt + header;
  if (member(c, "dst_port")) {
    u[0] = (uint8_t)(number(c, "src_port") >> 8);
    u[1] = (uint8_t)number(c, "src_port");
    u[2] = (uint8_t)(number(c, "dst_port") >> 8);
    u[3] = (uint8_t)number(c, "dst_port");
  }
  if (member(c, "icmp_type")) {
    u[0] = (uint8_t)number(c, "icmp_type");
  }
  if (member(c, "tcp_flags")) {
    const char *flags = json_object_get_string(member(c, "tcp_flags"));
    u[13] = (uint8_t)((strchr(flags, 'S') ? MSOCK_TCP_SYN : 0) |
                      (strchr(flags, 'A') ? MSOCK_TCP_ACK : 0));
  }
  return header + upper_len;
}

static msock_filter *filter_of(json_object *maps, json_object *nodes, const char *node) {
  char field[32];
  testing_rng rng;
  msock_policy policy = {0};
  msock_prefix own[8], routes[8];
  json_object *n = vectors_get(PACKETS_FILE, nodes, node);
  const msock_filter_config config = {.env = testing_env(&rng, 1)};
  msock_filter *f = msock_filter_new(&config);

  snprintf(field, sizeof field, "seen_by_%s", node);
  load_policy(vectors_get(POLICY_FILE, maps, field), &policy);
  const size_t n_own = load_prefixes(vectors_get(PACKETS_FILE, n, "addresses"), own, 8);
  const size_t n_routes = load_prefixes(vectors_get(PACKETS_FILE, n, "routes"), routes, 8);
  if (!f || msock_filter_set_local(f, own, n_own, routes, n_routes) != MSOCK_OK ||
      msock_filter_set_policy(f, &policy) != MSOCK_OK) {
    exit(1);
  }
  msock_policy_clear(&policy);
  return f;
}

static json_object *open_packets(void) {
  char path[PATH_MAX];
  const char *vectors = getenv("TSNODE_VECTORS_DEFAULT");
  snprintf(path, sizeof path, "%s/../data/" PACKETS_FILE, vectors ? vectors : "tests/vectors");
  return json_object_from_file(path);
}

/* closes: CTRL-65 */
int main(void) {
  unsetenv("TSNODE_VECTORS");
  json_object *maps = vectors_open(POLICY_FILE);
  json_object *list = open_packets();
  if (!maps || !list) {
    printf("vectors: %s: failed: cannot be read\n", maps ? PACKETS_FILE : POLICY_FILE);
    return 1;
  }
  json_object *nodes = vectors_get(PACKETS_FILE, list, "nodes");
  json_object *packets = vectors_get(PACKETS_FILE, list, "packets");
  for (size_t i = 0; i < length(packets); i++) {
    uint8_t pkt[64], verdict = MSOCK_FILTER_VERDICTS;
    json_object *c = json_object_array_get_idx(packets, i);
    msock_filter *f = filter_of(maps, nodes, vectors_str(PACKETS_FILE, c, "seen_by"));
    const msock_packet p = {pkt, sizeof pkt, 0, (uint32_t)build(c, pkt)};
    const char *want = vectors_str(PACKETS_FILE, c, "verdict");
    msock_filter_in(f, &p, 1, &verdict);
    vectors_case(PACKETS_FILE, vectors_str(PACKETS_FILE, c, "name"),
                 strcmp(msock_filter_verdict_name(verdict), want) == 0, "want %s, got %s", want,
                 msock_filter_verdict_name(verdict));
    msock_filter_free(f);
  }
  vectors_done(PACKETS_FILE);
  json_object_put(list);
  json_object_put(maps);
  return vectors_exit();
}
