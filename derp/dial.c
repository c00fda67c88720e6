#include "derp/dial.h"

#include <stdio.h>
#include <string.h>

#define PIN_PREFIX "sha256-raw:" /* derp.md 1.1 */

static void add_family(msock_derp_dial_plan *plan, const msock_derp_node *node, uint8_t family) {
  const msock_derp_family mode = family == 4 ? node->v4 : node->v6;
  msock_derp_candidate c = {.family = family, .port = node->derp_port};
  msock_ip host = {0};

  if (mode == MSOCK_DERP_FAMILY_OFF) {
    return;
  }
  if (mode == MSOCK_DERP_FAMILY_LITERAL) {
    c.ip = family == 4 ? node->ipv4 : node->ipv6;
  } else if (msock_ip_parse(node->host_name, &host) == MSOCK_OK) {
    if (host.family != family) {
      return;
    }
    c.ip = host;
  } else {
    c.resolve = true;
  }
  plan->candidate[plan->n++] = c;
}

msock_derp_dial_plan msock_derp_dial_plan_make(const msock_derp_node *node, bool allow_v6,
                                               bool v6_works) {
  msock_derp_dial_plan plan = {0};
  if (allow_v6) {
    add_family(&plan, node, 6);
  }
  const bool has_v6 = plan.n > 0;
  add_family(&plan, node, 4);
  if (has_v6 && plan.n == 2 && v6_works) {
    plan.candidate[1].start_delay_us = MSOCK_DERP_V4_DELAY_US;
  }
  return plan;
}

static int hex_value(char c) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  if (c >= 'a' && c <= 'f') {
    return c - 'a' + 10;
  }
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Either case: people paste pins from tools that print upper-case. */
static bool parse_pin(const char *text, uint8_t pin[static 32]) {
  if (strlen(text) != 64) {
    return false;
  }
  for (size_t i = 0; i < 32; i++) {
    const int hi = hex_value(text[2 * i]);
    const int lo = hex_value(text[2 * i + 1]);
    if (hi < 0 || lo < 0) {
      return false;
    }
    pin[i] = (uint8_t)(hi << 4 | lo);
  }
  return true;
}

msock_err msock_derp_check_make(const msock_derp_node *node, msock_derp_check *out) {
  msock_derp_check c = {0};
  const bool host_is_ip = msock_ip_parse(node->host_name, &c.ip) == MSOCK_OK;

  if (!host_is_ip) {
    snprintf(c.sni, sizeof c.sni, "%s", node->host_name);
  }
  if (strncmp(node->cert_name, PIN_PREFIX, strlen(PIN_PREFIX)) == 0) {
    if (!parse_pin(node->cert_name + strlen(PIN_PREFIX), c.pin)) {
      return MSOCK_ERR_INVALID;
    }
    c.kind = MSOCK_DERP_CHECK_PIN;
  } else if (node->insecure_for_tests) {
    c.kind = MSOCK_DERP_CHECK_NONE;
  } else if (node->cert_name[0] != '\0') {
    c.kind = msock_ip_parse(node->cert_name, &c.ip) == MSOCK_OK ? MSOCK_DERP_CHECK_IP
                                                                : MSOCK_DERP_CHECK_NAME;
    snprintf(c.name, sizeof c.name, "%s", node->cert_name);
  } else if (host_is_ip) {
    c.kind = MSOCK_DERP_CHECK_IP;
  } else {
    c.kind = MSOCK_DERP_CHECK_NAME;
    snprintf(c.name, sizeof c.name, "%s", node->host_name);
  }
  *out = c;
  return MSOCK_OK;
}

char *msock_derp_host_header(const msock_derp_node *node, char *buf, size_t cap) {
  msock_ip host = {0};
  const bool is_v6 = msock_ip_parse(node->host_name, &host) == MSOCK_OK && host.family == 6;
  const char *open = is_v6 ? "[" : "";
  const char *close = is_v6 ? "]" : "";

  if (node->derp_port == MSOCK_DERP_DEFAULT_PORT) {
    snprintf(buf, cap, "%s%s%s", open, node->host_name, close);
  } else {
    snprintf(buf, cap, "%s%s%s:%u", open, node->host_name, close, (unsigned)node->derp_port);
  }
  return buf;
}
