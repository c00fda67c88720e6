#include "derpd/map.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "derpd/identity.h"

#define HTTPS_PORT 443u
#define STUN_PORT 3478

typedef struct entry {
  uint64_t region;
  const char *code, *name;
  char host[256];
  const char *ipv4, *ipv6; /* "" = look the name up */
  const char *pin;
  unsigned derp_port; /* 0 = 443 */
  int stun_port;      /* 0 = 3478, -1 = none */
  bool can_port80;
} entry;

static bool is_plain(const char *text) {
  for (; *text; text++) {
    if (*text < ' ' || *text == '"' || *text == '\\' || *text == 0x7f) {
      return false;
    }
  }
  return true;
}

static uint16_t first_port(const msock_config_strings *list) {
  msock_addr a = {0};
  if (!msock_derpd_is_none(list)) {
    (void)msock_derpd_parse_listen(list->v[0], &a);
  }
  return a.port;
}

static bool fill(const msock_derpd_config *v, const msock_derpd_map_options *m, const char *pin,
                 entry *e, char *why, size_t cap) {
  char *end = NULL;
  msock_ip ip;
  *e = (entry){.region = m->region ? strtoull(m->region, &end, 10) : MSOCK_DERPD_REGION,
               .code = m->code ? m->code : "own",
               .name = m->name ? m->name : "Own relay",
               .ipv4 = "",
               .ipv6 = "",
               .pin = pin};
  if ((m->region && (*end || e->region == 0 || e->region >> 53)) || !is_plain(e->code) ||
      !is_plain(e->name)) {
    snprintf(why, cap,
             "--region-id is a number from 1 (900 to 999 are for self-hosters), "
             "--region-code and --region-name are plain text");
    return false;
  }
  msock_derpd_cert_host(v, e->host);
  const char *literal = m->address ? m->address : e->host;
  if (msock_ip_parse(literal, &ip) == MSOCK_OK) {
    e->ipv4 = ip.family == 4 ? literal : "none";
    e->ipv6 = ip.family == 6 ? literal : "none";
  } else if (m->address) {
    snprintf(why, cap, "--address is an IPv4 or IPv6 address without a port");
    return false;
  }
  const uint16_t port = first_port(&v->listen), stun = first_port(&v->stun_listen);
  e->derp_port = port == HTTPS_PORT || !v->tls ? 0 : port; /* a proxy in front has its own */
  e->stun_port = msock_derpd_is_none(&v->stun_listen) ? -1 : stun == STUN_PORT ? 0 : stun;
  e->can_port80 = first_port(&v->http_listen) == 80;
  return true;
}

static void write_yaml(const entry *e, msock_derpd_text *t) {
  msock_derpd_text_add(t,
                       "# A file for derp.paths in Headscale's configuration.\nregions:\n"
                       "  %" PRIu64 ":\n    regionid: %" PRIu64 "\n    regioncode: \"%s\"\n"
                       "    regionname: \"%s\"\n    nodes:\n",
                       e->region, e->region, e->code, e->name);
  msock_derpd_text_add(t, "      - name: \"%" PRIu64 "a\"\n        regionid: %" PRIu64 "\n",
                       e->region, e->region);
  msock_derpd_text_add(t, "        hostname: \"%s\"\n", e->host);
  if (e->pin[0]) {
    msock_derpd_text_add(t, "        certname: \"%s\"\n", e->pin);
  }
  if (e->ipv4[0]) {
    msock_derpd_text_add(t, "        ipv4: \"%s\"\n", e->ipv4);
  }
  if (e->ipv6[0]) {
    msock_derpd_text_add(t, "        ipv6: \"%s\"\n", e->ipv6);
  }
  msock_derpd_text_add(t, "        derpport: %u\n        stunport: %d\n        stunonly: false\n",
                       e->derp_port, e->stun_port);
  if (e->can_port80) {
    msock_derpd_text_add(t, "        canport80: true\n");
  }
}

static void write_json(const entry *e, msock_derpd_text *t) {
  msock_derpd_text_add(t,
                       "{\n  \"Regions\": {\n    \"%" PRIu64 "\": {\n"
                       "      \"RegionID\": %" PRIu64 ",\n      \"RegionCode\": \"%s\",\n"
                       "      \"RegionName\": \"%s\",\n      \"Nodes\": [\n        {\n",
                       e->region, e->region, e->code, e->name);
  msock_derpd_text_add(t,
                       "          \"Name\": \"%" PRIu64 "a\",\n          \"RegionID\": %" PRIu64
                       ",\n          \"HostName\": \"%s\"",
                       e->region, e->region, e->host);
  if (e->pin[0]) {
    msock_derpd_text_add(t, ",\n          \"CertName\": \"%s\"", e->pin);
  }
  if (e->ipv4[0]) {
    msock_derpd_text_add(t, ",\n          \"IPv4\": \"%s\"", e->ipv4);
  }
  if (e->ipv6[0]) {
    msock_derpd_text_add(t, ",\n          \"IPv6\": \"%s\"", e->ipv6);
  }
  if (e->derp_port) {
    msock_derpd_text_add(t, ",\n          \"DERPPort\": %u", e->derp_port);
  }
  if (e->stun_port) {
    msock_derpd_text_add(t, ",\n          \"STUNPort\": %d", e->stun_port);
  }
  if (e->can_port80) {
    msock_derpd_text_add(t, ",\n          \"CanPort80\": true");
  }
  msock_derpd_text_add(t, "\n        }\n      ]\n    }\n  }\n}\n");
}

bool msock_derpd_map_write(const msock_derpd_config *v, const msock_derpd_map_options *m,
                           const char *pin, msock_derpd_text *t, char *why, size_t cap) {
  entry e;
  const bool json = m->format != NULL && strcmp(m->format, "json") == 0;
  if (m->format != NULL && !json && strcmp(m->format, "yaml") != 0) {
    snprintf(why, cap, "--format is yaml (Headscale) or json (tailscale)");
    return false;
  }
  if (!fill(v, m, pin, &e, why, cap)) {
    return false;
  }
  if (json) {
    write_json(&e, t);
  } else {
    write_yaml(&e, t);
  }
  return true;
}
