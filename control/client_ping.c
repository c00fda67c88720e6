/* control/client_ping.c: PingRequest (control.md 4.7): only HEAD, only to our own server. */
#include <stdio.h>
#include <string.h>

#include "base/addr.h"
#include "control/client_internal.h"
#include "crypto/blake2s.h"

#define C2N_NOT_FOUND "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"

/* The path of an URL whose scheme, host and port are the configured ones, else NULL. */
static const char *own_path(const msock_control *c, const char *url) {
  const char *scheme = c->https ? "https://" : "http://";
  const bool v6 = strchr(c->host, ':') != NULL;
  const uint16_t usual = c->https ? 443 : 80;
  char origin[CLIENT_HOST_MAX + 32];

  const int bare = snprintf(origin, sizeof origin, v6 ? "%s[%s]" : "%s%s", scheme, c->host);
  const bool no_port = strncmp(url, origin, (size_t)bare) == 0 && url[bare] == '/';
  if (no_port) {
    return c->port == usual ? url + bare : NULL;
  }
  const int full =
      bare + snprintf(origin + bare, sizeof origin - (size_t)bare, ":%u/", (unsigned)c->port);
  return strncmp(url, origin, (size_t)full) == 0 ? url + full - 1 : NULL;
}

/* Each URL is answered once. */
static bool is_repeated(msock_control *c, const char *url) {
  uint8_t digest[32];
  msock_blake2s(digest, &(msock_bytes){url, strlen(url)}, 1);
  for (size_t i = 0; i < CLIENT_PING_MEMORY; i++) {
    if (memcmp(c->ping_seen[i], digest, sizeof c->ping_seen[i]) == 0) {
      return true;
    }
  }
  memcpy(c->ping_seen[c->ping_at], digest, sizeof c->ping_seen[0]);
  c->ping_at = (c->ping_at + 1) % CLIENT_PING_MEMORY;
  return false;
}

static bool queue_head(msock_control *c, const char *url) {
  for (size_t i = 0; i < CLIENT_PINGS_MAX; i++) {
    if (c->pings[i] == NULL) {
      return client_set_text(&c->pings[i], url);
    }
  }
  return false;
}

void client_on_ping(msock_control *c, const msock_map_notice *notice) {
  const char *url = notice->ping_url;
  const bool c2n = strcmp(notice->ping_types, "c2n") == 0;
  if (*url == '\0' || is_repeated(c, url)) {
    return;
  }
  const char *path = msock_auth_url_is_sane(url) ? own_path(c, url) : NULL;
  bool done = false;
  if (path && c2n && c->channel) { /* nothing is offered there: say so */
    done = msock_channel_request(c->channel, "POST", path, C2N_NOT_FOUND,
                                 sizeof C2N_NOT_FOUND - 1) > 0;
  } else if (path && *notice->ping_types == '\0' && notice->ping_is_noise && c->channel) {
    done = msock_channel_request(c->channel, "HEAD", path, NULL, 0) > 0;
  } else if (path && *notice->ping_types == '\0' && !notice->ping_is_noise) {
    done = queue_head(c, url);
  }
  c->stats.pings_answered += done;
  c->stats.pings_refused += !done;
  if (!done) {
    msock_logf(c->env->log, MSOCK_LOG_WARN, "control.ping-refused", "types=\"%s\" own_origin=%d",
               notice->ping_types, path != NULL);
  }
}
