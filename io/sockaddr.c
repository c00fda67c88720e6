#include "io/sockaddr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

socklen_t msock_sockaddr_from(const msock_addr *a, struct sockaddr_storage *sa) {
  memset(sa, 0, sizeof *sa);
  if (a->ip.family == 4) {
    struct sockaddr_in *in = (struct sockaddr_in *)sa;
    in->sin_family = AF_INET;
    in->sin_port = htons(a->port);
    memcpy(&in->sin_addr, a->ip.b, 4);
    return sizeof *in;
  }
  if (a->ip.family == 6) {
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)sa;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(a->port);
    memcpy(&in6->sin6_addr, a->ip.b, 16);
    return sizeof *in6;
  }
  return 0;
}

bool msock_sockaddr_to(const struct sockaddr *sa, msock_addr *out) {
  if (sa->sa_family == AF_INET) {
    struct sockaddr_in in;
    memcpy(&in, sa, sizeof in);
    out->ip = msock_ip_from_bytes4((const uint8_t *)&in.sin_addr);
    out->port = ntohs(in.sin_port);
    return true;
  }
  if (sa->sa_family == AF_INET6) {
    struct sockaddr_in6 in6;
    memcpy(&in6, sa, sizeof in6);
    out->ip = msock_ip_unmap(msock_ip_from_bytes16((const uint8_t *)&in6.sin6_addr));
    out->port = ntohs(in6.sin6_port);
    return true;
  }
  return false;
}

bool msock_sockaddr_local(int fd, msock_addr *out) {
  struct sockaddr_storage sa = {0};
  socklen_t len = sizeof sa;
  return getsockname(fd, (struct sockaddr *)&sa, &len) == 0 &&
         msock_sockaddr_to((const struct sockaddr *)&sa, out);
}

bool msock_sockaddr_peer(int fd, msock_addr *out) {
  struct sockaddr_storage sa = {0};
  socklen_t len = sizeof sa;
  return getpeername(fd, (struct sockaddr *)&sa, &len) == 0 &&
         msock_sockaddr_to((const struct sockaddr *)&sa, out);
}
