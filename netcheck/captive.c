#include "netcheck/captive.h"

#include <stdio.h>
#include <string.h>

#define NO_CONTENT 204

char *msock_captive_challenge(const msock_ip *host, char buf[static MSOCK_CAPTIVE_TEXT_MAX]) {
  char text[MSOCK_IP_TEXT_MAX];
  snprintf(buf, MSOCK_CAPTIVE_TEXT_MAX, "ts_%s", msock_ip_text(host, text));
  return buf;
}

bool msock_captive_found(int status, const char *response, const char *challenge) {
  static const char prefix[] = "response ";
  const size_t len = strlen(prefix);
  return status != NO_CONTENT || strncmp(response, prefix, len) != 0 ||
         strcmp(response + len, challenge) != 0;
}
