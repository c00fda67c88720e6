#include "config/derp_map_file.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config/schema_internal.h"

#define REGION_ID_MAX ((UINT64_C(1) << 53) - 1) /* derp.md 1.1: exact in a JSON number */
#define DERP_PORT_DEFAULT 443u                  /* derp.md 1.1 */
#define STUN_PORT_DEFAULT 3478u                 /* derp.md 1.1 */
#define PIN_PREFIX "sha256-raw:"                /* derp.md 1.1 */
#define PIN_HEX_LEN 64u

/* A mapping of the file while its fields are read. */
typedef struct object {
  const msock_document *doc;
  const msock_document_node *node;
  msock_config_report *report;
  char path[MSOCK_CONFIG_FIELD_MAX]; /* "regions.900.nodes[0]" */
  bool bad;                          /* an error was reported */
} object;

static const char *const map_fields[] = {"Regions", "HomeParams", "omitDefaultRegions", NULL};
static const char *const home_fields[] = {"RegionScore", NULL};
static const char *const region_fields[] = {"RegionID",        "RegionCode", "RegionName",
                                            "Latitude",        "Longitude",  "Avoid",
                                            "NoMeasureNoHome", "Nodes",      NULL};
static const char *const node_fields[] = {
    "Name",     "RegionID", "HostName",         "CertName",  "IPv4",       "IPv6",       "DERPPort",
    "STUNPort", "STUNOnly", "InsecureForTests", "CanPort80", "STUNTestIP", "stun_plain", NULL};

/* -- problems ---------------------------------------------------------------------------------- */

/* at: the field that is wrong; NULL = the object itself, or its missing field `name` ("" = none).
 */
static void problem(object *o, bool warning, const msock_document_node *at, const char *name,
                    const char *way_out, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));

static void problem(object *o, bool warning, const msock_document_node *at, const char *name,
                    const char *way_out, const char *fmt, ...) {
  char where[MSOCK_CONFIG_WHERE_MAX], field[MSOCK_CONFIG_FIELD_MAX * 2];
  char reason[MSOCK_CONFIG_WHY_MAX];
  va_list ap;
  va_start(ap, fmt);
  (void)vsnprintf(reason, sizeof reason, fmt, ap);
  va_end(ap);
  name = at ? at->key : name; /* as it was written */
  (void)snprintf(field, sizeof field, "%s%s%s", o->path, o->path[0] && name[0] ? "." : "", name);
  msock_config_report_add(o->report, warning,
                          msock_document_where(o->doc, at ? at : o->node, where), field, way_out,
                          "%s", reason);
  o->bad = o->bad || !warning;
}

/* -- fields ------------------------------------------------------------------------------------ */

/* NULL when absent or null. */
static const msock_document_node *field_of(const object *o, const char *name) {
  for (const msock_document_node *n = o->node->first; n; n = n->next) {
    if (strcasecmp(n->key, name) == 0) {
      return msock_document_is_null(n) ? NULL : n;
    }
  }
  return NULL;
}

/* Names that nobody reads are a warning: newer servers may write new fields. The same name in two
 * spellings is an error. */
static void check_names(object *o, const char *const *known) {
  uint32_t seen = 0;
  for (const msock_document_node *n = o->node->first; n; n = n->next) {
    size_t i = 0, best = SIZE_MAX;
    char way[MSOCK_CONFIG_WHY_MAX] = "";
    while (known[i] && strcasecmp(known[i], n->key) != 0) {
      const size_t distance = msock_config_name_distance(n->key, known[i]);
      if (distance < best) {
        best = distance;
        (void)snprintf(way, sizeof way, "did you mean %s?", known[i]);
      }
      i++;
    }
    if (known[i] == NULL) {
      problem(o, true, n, "", way, "unknown field, left out");
    } else if (seen & UINT32_C(1) << i) {
      problem(o, false, n, "", "keep one of the two", "written twice");
    } else {
      seen |= UINT32_C(1) << i;
    }
  }
}

/* Decimal digits without sign or leading zeros. */
static bool parse_id(const char *text, msock_region_id *out) {
  uint64_t n = 0;
  if (*text == '\0' || *text == '0' || strlen(text) > 16) {
    return false;
  }
  for (; *text != '\0'; text++) {
    if (!isdigit((unsigned char)*text)) {
      return false;
    }
    n = n * 10 + (uint64_t)(*text - '0');
  }
  *out = n;
  return n <= REGION_ID_MAX;
}

static const char *text_of(const msock_document_node *n) {
  return n->kind == MSOCK_DOCUMENT_SCALAR ? n->text : "a list or mapping";
}

/* Copies a text; "" when absent. */
static void read_text(object *o, const char *name, char *dst, size_t cap) {
  const msock_document_node *n = field_of(o, name);
  dst[0] = '\0';
  if (n == NULL) {
    return;
  }
  if (n->kind != MSOCK_DOCUMENT_SCALAR || strlen(n->text) >= cap) {
    problem(o, false, n, "", NULL, "expected a text of at most %zu bytes", cap - 1);
    return;
  }
  for (const char *p = n->text; *p != '\0'; p++) {
    if ((unsigned char)*p < 0x20 || *p == 0x7f) {
      problem(o, false, n, "", NULL, "expected a text without control characters");
      return;
    }
  }
  memcpy(dst, n->text, strlen(n->text) + 1);
}

static bool read_bool(object *o, const char *name) {
  const msock_document_node *n = field_of(o, name);
  bool value = false;
  if (n && (n->kind != MSOCK_DOCUMENT_SCALAR || !msock_config_parse_bool(n->text, &value))) {
    problem(o, false, n, "", NULL, "expected true or false, found \"%.40s\"", text_of(n));
  }
  return value;
}

/* A port; 0 or absence gives the default, -1 gives 0 where it is allowed. */
static uint16_t read_port(object *o, const char *name, uint16_t fallback, bool may_be_off) {
  const msock_document_node *n = field_of(o, name);
  if (n == NULL || strcmp(n->text, "0") == 0) {
    return fallback;
  }
  if (may_be_off && strcmp(n->text, "-1") == 0) {
    return 0;
  }
  msock_region_id port = 0;
  if (!parse_id(n->text, &port) || port > UINT16_MAX) {
    problem(o, false, n, "", NULL, "expected a port from %s to 65535, found \"%.40s\"",
            may_be_off ? "-1" : "0", text_of(n));
    return fallback;
  }
  return (uint16_t)port;
}

/* An id that must be wanted; absence is filled in with a warning. */
static void check_id(object *o, msock_region_id wanted, const char *from) {
  const msock_document_node *n = field_of(o, "RegionID");
  msock_region_id id = 0;
  if (n == NULL) {
    problem(o, true, NULL, "RegionID", "write it: some programs need it",
            "missing, taken from %s: %" PRIu64, from, wanted);
  } else if (!parse_id(n->text, &id) || id != wanted) {
    problem(o, false, n, "", NULL, "expected %" PRIu64 " as in %s, found \"%.40s\"", wanted, from,
            text_of(n));
  }
}

/* -- nodes ------------------------------------------------------------------------------------- */

/* Letters, digits and what DNS names and IP literals have besides. */
static bool is_host(const char *text) {
  for (const char *p = text; *p != '\0'; p++) {
    if (!isalnum((unsigned char)*p) && !strchr("-._:", *p)) {
      return false;
    }
  }
  return *text != '\0';
}

/* A pin is compared in lower case (derp.md 1.3). */
static void read_cert_name(object *o, msock_derp_node *out) {
  read_text(o, "CertName", out->cert_name, sizeof out->cert_name);
  char *pin = out->cert_name + strlen(PIN_PREFIX);
  if (out->cert_name[0] == '\0') {
    return;
  }
  if (strncmp(out->cert_name, PIN_PREFIX, strlen(PIN_PREFIX)) != 0) {
    if (!is_host(out->cert_name)) {
      problem(o, false, field_of(o, "CertName"), "CertName", NULL,
              "expected a host name or " PIN_PREFIX "<64 hex digits>");
    }
    return;
  }
  for (char *p = pin; *p != '\0'; p++) {
    *p = (char)tolower((unsigned char)*p);
  }
  if (strlen(pin) != PIN_HEX_LEN || strspn(pin, "0123456789abcdef") != PIN_HEX_LEN) {
    problem(o, false, field_of(o, "CertName"), "CertName",
            "it is the SHA-256 of the certificate in DER form",
            "expected " PIN_PREFIX " and 64 hex digits");
  }
}

static void read_families(object *o, msock_derp_node *out) {
  char text[256];
  read_text(o, "IPv4", text, sizeof text);
  msock_derp_node_set_ipv4(out, text);
  if (out->v4 == MSOCK_DERP_FAMILY_OFF && strcmp(text, "none") != 0) {
    problem(o, true, field_of(o, "IPv4"), "IPv4", "write an IPv4 address or none",
            "no IPv4 address: IPv4 is off for this node");
  }
  read_text(o, "IPv6", text, sizeof text);
  msock_derp_node_set_ipv6(out, text);
  if (out->v6 == MSOCK_DERP_FAMILY_OFF && strcmp(text, "none") != 0) {
    problem(o, true, field_of(o, "IPv6"), "IPv6", "write an IPv6 address or none",
            "no IPv6 address: IPv6 is off for this node");
  }
  if (out->v4 == MSOCK_DERP_FAMILY_OFF && out->v6 == MSOCK_DERP_FAMILY_OFF) {
    problem(o, false, NULL, "", "write the address of one of the two",
            "IPv4 and IPv6 are both off: nobody can reach it");
  }
  read_text(o, "STUNTestIP", text, sizeof text);
  if (text[0] != '\0' && msock_ip_parse(text, &out->stun_test_ip) != MSOCK_OK) {
    problem(o, false, field_of(o, "STUNTestIP"), "STUNTestIP", NULL, "expected an IP address");
  }
}

/* index: place in its region, for the name that is made up when it has none. */
static void read_node(object *o, msock_region_id region, size_t index, msock_derp_node *out) {
  if (o->node->kind != MSOCK_DOCUMENT_MAPPING) {
    problem(o, false, NULL, "", NULL, "expected a mapping with name, hostname and so on");
    return;
  }
  check_names(o, node_fields);
  check_id(o, region, "its region");
  out->region_id = region;
  read_text(o, "Name", out->name, sizeof out->name);
  if (out->name[0] == '\0' && !o->bad) {
    (void)snprintf(out->name, sizeof out->name, "%" PRIu64 "%c", region, (char)('a' + index));
    problem(o, true, NULL, "Name", "write one that no other node has", "missing, called %s",
            out->name);
  }
  read_text(o, "HostName", out->host_name, sizeof out->host_name);
  if (!is_host(out->host_name)) {
    problem(o, false, field_of(o, "HostName"), "HostName", "for example: derp.example.com",
            "expected a DNS name or an IP address");
  }
  read_cert_name(o, out);
  read_families(o, out);
  out->derp_port = read_port(o, "DERPPort", DERP_PORT_DEFAULT, false);
  out->stun_port = read_port(o, "STUNPort", STUN_PORT_DEFAULT, true);
  out->stun_only = read_bool(o, "STUNOnly");
  out->insecure_for_tests = read_bool(o, "InsecureForTests");
  out->can_port80 = read_bool(o, "CanPort80");
  out->stun_plain = read_bool(o, "stun_plain");
}

/* -- regions ----------------------------------------------------------------------------------- */

static msock_err read_nodes(object *o, msock_derp_region *out) {
  const msock_document_node *nodes = field_of(o, "Nodes");
  if (nodes == NULL || (nodes->kind == MSOCK_DOCUMENT_SEQUENCE && nodes->n_children == 0)) {
    problem(o, true, nodes, "Nodes", "list its nodes, or write null for the whole region",
            "no nodes: the region is left out");
    return MSOCK_OK;
  }
  if (nodes->kind != MSOCK_DOCUMENT_SEQUENCE || nodes->n_children > MSOCK_DERP_NODES_MAX) {
    problem(o, false, nodes, "", NULL, "expected a list of at most %u nodes", MSOCK_DERP_NODES_MAX);
    return MSOCK_OK;
  }
  out->nodes = calloc(nodes->n_children, sizeof *out->nodes);
  if (out->nodes == NULL) {
    problem(o, false, nodes, "", NULL, "not enough memory");
    return MSOCK_ERR_NOMEM;
  }
  for (const msock_document_node *n = nodes->first; n; n = n->next) {
    object node = {.doc = o->doc, .node = n, .report = o->report};
    (void)snprintf(node.path, sizeof node.path, "%.*s.%.8s[%zu]", (int)sizeof node.path - 16,
                   o->path, nodes->key, out->n_nodes);
    read_node(&node, out->id, out->n_nodes, &out->nodes[out->n_nodes]);
    out->n_nodes++;
    o->bad = o->bad || node.bad;
  }
  return MSOCK_OK;
}

static msock_err read_region(object *o, msock_derp_region *out) {
  out->score = 1.0;
  if (!parse_id(o->node->key, &out->id)) {
    problem(o, false, NULL, "", "900 to 999 are kept for relays of your own",
            "expected a region number from 1 to %" PRIu64 " as the key", REGION_ID_MAX);
    return MSOCK_OK;
  }
  if (o->node->kind != MSOCK_DOCUMENT_MAPPING) {
    problem(o, false, NULL, "", NULL, "expected a mapping with regionid, nodes and so on");
    return MSOCK_OK;
  }
  check_names(o, region_fields);
  check_id(o, out->id, "its key");
  read_text(o, "RegionCode", out->code, sizeof out->code);
  read_text(o, "RegionName", out->name, sizeof out->name);
  out->no_measure_no_home = read_bool(o, "NoMeasureNoHome");
  out->avoid = read_bool(o, "Avoid");
  return read_nodes(o, out);
}

static int by_id(const void *a, const void *b) {
  const msock_region_id x = ((const msock_derp_region *)a)->id;
  const msock_region_id y = ((const msock_derp_region *)b)->id;
  return (x > y) - (x < y);
}

static msock_err read_regions(object *o, msock_derp_map *out) {
  const msock_document_node *regions = field_of(o, "Regions");
  if (regions == NULL || regions->kind != MSOCK_DOCUMENT_MAPPING ||
      regions->n_children > MSOCK_DERP_REGIONS_MAX) {
    problem(o, false, regions, "regions", "write regions: and below it 900: with its nodes",
            "expected a mapping of at most %u region numbers", MSOCK_DERP_REGIONS_MAX);
    return MSOCK_OK;
  }
  out->regions = calloc(regions->n_children + 1, sizeof *out->regions);
  if (out->regions == NULL) {
    problem(o, false, regions, "regions", NULL, "not enough memory");
    return MSOCK_ERR_NOMEM;
  }
  for (const msock_document_node *n = regions->first; n; n = n->next) {
    msock_derp_region *region = &out->regions[out->n_regions];
    object child = {.doc = o->doc, .node = n, .report = o->report};
    if (msock_document_is_null(n)) { /* control.md 4.6: a region that is null is dropped */
      continue;
    }
    (void)snprintf(child.path, sizeof child.path, "%.8s.%.24s", regions->key, n->key);
    const msock_err err = read_region(&child, region);
    o->bad = o->bad || child.bad;
    if (region->n_nodes > 0 || child.bad) {
      out->n_regions++;
    }
    if (err != MSOCK_OK) {
      return err;
    }
  }
  qsort(out->regions, out->n_regions, sizeof *out->regions, by_id);
  return MSOCK_OK;
}

/* -- across regions ---------------------------------------------------------------------------- */

/* The name is what a relay is told and what reports call it: two nodes must not share one. */
static void check_node_names(object *o, const msock_derp_map *m) {
  for (size_t r = 0; r < m->n_regions; r++) {
    for (size_t i = 0; i < m->regions[r].n_nodes; i++) {
      const char *name = m->regions[r].nodes[i].name;
      for (size_t r2 = r; r2 < m->n_regions; r2++) {
        for (size_t j = r2 == r ? i + 1 : 0; j < m->regions[r2].n_nodes; j++) {
          if (strcmp(name, m->regions[r2].nodes[j].name) == 0) {
            problem(o, false, NULL, "regions", "give each node a name of its own, such as 900a",
                    "two nodes are called \"%.40s\", in regions %" PRIu64 " and %" PRIu64, name,
                    m->regions[r].id, m->regions[r2].id);
          }
        }
      }
    }
  }
}

static bool parse_score(const char *text, double *out) {
  char *end;
  if (strspn(text, "0123456789.eE+-") != strlen(text)) {
    return false;
  }
  *out = strtod(text, &end);
  return *text != '\0' && *end == '\0' && isfinite(*out) && *out > 0;
}

static void read_scores(object *o, msock_derp_map *m) {
  const msock_document_node *home = field_of(o, "HomeParams");
  if (home == NULL) {
    return;
  }
  object params = {.doc = o->doc, .node = home, .report = o->report};
  (void)snprintf(params.path, sizeof params.path, "%.16s", home->key);
  check_names(&params, home_fields);
  const msock_document_node *scores = field_of(&params, "RegionScore");
  for (const msock_document_node *n = scores ? scores->first : NULL; n && n->key; n = n->next) {
    msock_region_id id = 0;
    double score;
    const bool known = parse_id(n->key, &id) && msock_derp_map_find(m, id) != NULL;
    if (!known || !parse_score(n->text, &score)) {
      problem(&params, true, n, "", NULL, "%s, left out",
              known ? "expected a factor above 0" : "no such region");
      continue;
    }
    for (size_t i = 0; i < m->n_regions; i++) {
      m->regions[i].score = m->regions[i].id == id ? score : m->regions[i].score;
    }
  }
  o->bad = o->bad || params.bad;
}

/* -- public ------------------------------------------------------------------------------------ */

msock_err msock_derp_map_from_document(const msock_document *d, msock_derp_map *out,
                                       msock_config_report *report) {
  object o = {.doc = d, .node = msock_document_root(d), .report = report};
  msock_derp_map m = {0};
  *out = m;
  if (o.node->kind != MSOCK_DOCUMENT_MAPPING) {
    problem(&o, false, NULL, "", "write regions: and below it 900: with its nodes",
            "expected a DERP map: a mapping with regions");
    return MSOCK_ERR_INVALID;
  }
  check_names(&o, map_fields);
  msock_err err = read_regions(&o, &m);
  if (err == MSOCK_OK && !o.bad) {
    check_node_names(&o, &m);
    read_scores(&o, &m);
    if (m.n_regions == 0) {
      problem(&o, true, NULL, "regions", NULL, "the map holds no region");
    }
  }
  err = err == MSOCK_OK && o.bad ? MSOCK_ERR_INVALID : err;
  if (err != MSOCK_OK) {
    msock_derp_map_clear(&m);
    return err;
  }
  *out = m;
  return MSOCK_OK;
}

msock_err msock_derp_map_read(const char *file_name, const uint8_t *bytes, size_t len,
                              msock_derp_map *out, msock_config_report *report) {
  *out = (msock_derp_map){0};
  msock_document *d = msock_document_read(file_name, bytes, len, report);
  if (d == NULL) {
    return MSOCK_ERR_INVALID;
  }
  const msock_err err = msock_derp_map_from_document(d, out, report);
  msock_document_free(d);
  return err;
}
