/* Proxies from the environment: https_proxy, http_proxy, all_proxy, no_proxy; the lower-case name
 * first. HTTP_PROXY in capitals is not read: CGI servers let strangers set it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "io/http_internal.h"

static const char *variable(const char *lower, const char *upper) {
  const char *v = getenv(lower);
  if ((v == NULL || v[0] == '\0') && upper != NULL) {
    v = getenv(upper);
  }
  return v != NULL && v[0] != '\0' ? v : NULL;
}

/* An entry is a host or a domain suffix ("example.com" and ".example.com" both cover
 * a.example.com), an address, or a prefix. */
static bool entry_covers(const char *entry, const msock_http_url *url) {
  msock_prefix prefix;
  if (url->host_is_ip) {
    return msock_prefix_parse(entry, &prefix) == MSOCK_OK &&
           msock_prefix_contains(&prefix, &url->ip);
  }
  if (entry[0] == '.') {
    entry++;
  }
  const size_t host_len = strlen(url->host), len = strlen(entry);
  return len > 0 && host_len >= len && strcasecmp(url->host + host_len - len, entry) == 0 &&
         (host_len == len || url->host[host_len - len - 1] == '.');
}

static bool is_excluded(const char *list, const msock_http_url *url) {
  char entry[256];
  while (list != NULL && *list != '\0') {
    const size_t skip = strspn(list, ", ");
    const size_t len = strcspn(list + skip, ", ");
    snprintf(entry, sizeof entry, "%.*s", (int)(len < sizeof entry ? len : 0), list + skip);
    if (strcmp(entry, "*") == 0 || entry_covers(entry, url)) {
      return true;
    }
    list += skip + len;
  }
  return false;
}

bool msock_http_env_proxy(const msock_http_url *url, char *dst, size_t cap) {
  const char *proxy =
      url->https ? variable("https_proxy", "HTTPS_PROXY") : variable("http_proxy", NULL);
  if (proxy == NULL) {
    proxy = variable("all_proxy", "ALL_PROXY");
  }
  const bool loopback =
      strcmp(url->host, "localhost") == 0 || (url->host_is_ip && msock_ip_is_loopback(&url->ip));
  if (proxy == NULL || loopback || is_excluded(variable("no_proxy", "NO_PROXY"), url)) {
    return false;
  }
  const bool bare = strstr(proxy, "://") == NULL;
  if (!bare && strncasecmp(proxy, "http://", 7) != 0 && strncasecmp(proxy, "https://", 8) != 0) {
    return false; /* SOCKS: not spoken */
  }
  const int n = snprintf(dst, cap, "%s%s", bare ? "http://" : "", proxy);
  return n > 0 && (size_t)n < cap;
}
