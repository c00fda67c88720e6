#include "config/tsnode_alpha.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "config/schema_internal.h"

static const struct {
  const char *name;
  const char *key; /* NULL = not in this build */
} fields[] = {
    {"ServerURL", "login_server"},
    {"AuthKey", "auth_key"}, /* "file:PATH" too */
    {"Enabled", "enabled"},
    {"OperatorUser", "operator"},
    {"Hostname", "hostname"},
    {"acceptDNS", "accept_dns"},
    {"acceptRoutes", "accept_routes"},
    {"exitNode", "exit_node"},
    {"allowLANWhileUsingExitNode", "exit_node_allow_lan_access"},
    {"AdvertiseRoutes", "advertise_routes"},
    {"NetfilterMode", "netfilter_mode"},
    {"ShieldsUp", "shields_up"},
    {"Locked", NULL},
    {"DisableSNAT", NULL},
    {"AdvertiseServices", NULL},
    {"AppConnector", NULL},
    {"NoStatefulFiltering", NULL},
    {"PostureChecking", NULL},
    {"RunSSHServer", NULL},
    {"RunWebClient", NULL},
    {"AutoUpdate", NULL},
    {"ServeConfigTemp", NULL},
    {"StaticEndpoints", NULL},
    {"RelayServerPort", NULL},
    {"RelayServerStaticEndpoints", NULL},
};
#define N_FIELDS (sizeof fields / sizeof fields[0])

static const msock_document_node *version_of(const msock_document *d) {
  const msock_document_node *root = msock_document_root(d);
  for (const msock_document_node *n = root->first; n && root->kind == MSOCK_DOCUMENT_MAPPING;
       n = n->next) {
    if (strcasecmp(n->key, "version") == 0) {
      return n;
    }
  }
  return NULL;
}

bool msock_tsnode_is_alpha(const msock_document *d) {
  return version_of(d) != NULL;
}

/* null, false, "" and empty containers ask for nothing. */
static bool asks_for_something(const msock_document_node *n) {
  if (n->kind != MSOCK_DOCUMENT_SCALAR) {
    return n->n_children > 0;
  }
  return !msock_document_is_null(n) && n->text[0] != '\0' && strcmp(n->text, "false") != 0;
}

static msock_err refuse_unknown(const msock_document *d, const msock_document_node *n,
                                msock_config_report *report) {
  char where[MSOCK_CONFIG_WHERE_MAX], way[MSOCK_CONFIG_WHY_MAX];
  size_t best = SIZE_MAX;
  (void)snprintf(way, sizeof way, "remove it");
  for (size_t i = 0; i < N_FIELDS; i++) {
    const size_t distance = msock_config_name_distance(n->key, fields[i].name);
    if (distance < best) {
      best = distance;
      (void)snprintf(way, sizeof way, "did you mean %s?", fields[i].name);
    }
  }
  msock_config_report_add(report, false, msock_document_key_where(d, n, where), n->key, way,
                          "unknown field");
  return MSOCK_ERR_INVALID;
}

static msock_err apply_field(msock_config *c, const msock_document *d, const msock_document_node *n,
                             msock_config_report *report) {
  char where[MSOCK_CONFIG_WHERE_MAX];
  for (size_t i = 0; i < N_FIELDS; i++) {
    if (strcasecmp(fields[i].name, n->key) != 0) {
      continue;
    }
    if (fields[i].key) {
      return msock_config_apply_node(c, fields[i].key, d, n, report);
    }
    if (asks_for_something(n)) {
      msock_config_report_add(report, true, msock_document_key_where(d, n, where), n->key,
                              "remove it, or keep it for a later version",
                              "not in this build: it has no effect");
    }
    return MSOCK_OK;
  }
  return refuse_unknown(d, n, report);
}

msock_err msock_tsnode_apply_alpha(msock_config *c, const msock_document *d,
                                   msock_config_report *report) {
  char where[MSOCK_CONFIG_WHERE_MAX];
  const msock_document_node *version = version_of(d);
  msock_err result = MSOCK_OK;
  if (version->kind != MSOCK_DOCUMENT_SCALAR || strcmp(version->text, "alpha0") != 0) {
    msock_config_report_add(report, false, msock_document_where(d, version, where), version->key,
                            "write \"version\": \"alpha0\", or use the keys of tsnode.yaml without "
                            "a version",
                            "expected alpha0, found \"%.40s\"", version->text);
    return MSOCK_ERR_INVALID;
  }
  for (const msock_document_node *n = msock_document_root(d)->first; n; n = n->next) {
    const msock_err err = n == version ? MSOCK_OK : apply_field(c, d, n, report);
    result = err != MSOCK_OK ? err : result;
  }
  return result;
}
