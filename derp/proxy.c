#include "derp/proxy.h"

#include <stdio.h>

#include "base/http1.h"

ptrdiff_t msock_derp_proxy_request(const msock_derp_node *node, const char *authorization,
                                   char *dst, size_t cap) {
  char authority[sizeof node->host_name + 16];
  msock_ip ip;
  const bool is_v6 = msock_ip_parse(node->host_name, &ip) == MSOCK_OK && ip.family == 6;
  msock_http1_builder b;

  /* CONNECT names the port always, 443 too */
  snprintf(authority, sizeof authority, is_v6 ? "[%s]:%u" : "%s:%u", node->host_name,
           (unsigned)node->derp_port);
  msock_http1_begin_request(&b, dst, cap, "CONNECT", authority);
  msock_http1_add(&b, "Host", authority);
  if (authorization != NULL) {
    msock_http1_add(&b, "Proxy-Authorization", authorization);
  }
  return msock_http1_finish(&b);
}

ptrdiff_t msock_derp_proxy_reply(const uint8_t *p, size_t len, int *status) {
  msock_http1_head head;
  if (len == 0) {
    return MSOCK_ERR_AGAIN;
  }
  const ptrdiff_t n = msock_http1_parse_response(p, len, &head);
  if (n < 0) {
    return n;
  }
  *status = head.status;
  return head.status == 200 ? n : MSOCK_ERR_DENIED;
}
