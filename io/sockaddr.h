/* io/sockaddr.h: msock_addr to and from struct sockaddr, inside this room. */
#ifndef MSOCK_IO_SOCKADDR_H
#define MSOCK_IO_SOCKADDR_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/addr.h"

/* Fills *sa, gives its length. An address of family 0 gives 0. */
socklen_t msock_sockaddr_from(const msock_addr *a, struct sockaddr_storage *sa);
/* IPv4-mapped addresses become IPv4. False: neither IPv4 nor IPv6. */
bool msock_sockaddr_to(const struct sockaddr *sa, msock_addr *out);
/* Address of a socket's own end and of its peer. */
bool msock_sockaddr_local(int fd, msock_addr *out);
bool msock_sockaddr_peer(int fd, msock_addr *out);

#endif
