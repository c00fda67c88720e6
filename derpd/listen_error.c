#include "derpd/listen_error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void msock_derpd_listen_error(msock_err e, const char *what, const char *address, const char *key,
                              char *why, size_t cap) {
  const int code = e == MSOCK_ERR_IO ? errno : 0;
  const char *port = strrchr(address, ':');
  char way[160] = "";
  if (code == EADDRINUSE) {
    snprintf(way, sizeof way,
             ": another program has the port; see which with: ss -lntup 'sport = :%s', or choose "
             "another with %s",
             port ? port + 1 : address, key);
  } else if (code == EACCES) {
    snprintf(way, sizeof way,
             ": ports below 1024 are root's; run as a service with CAP_NET_BIND_SERVICE, or choose "
             "another with %s",
             key);
  } else if (code == EADDRNOTAVAIL) {
    snprintf(way, sizeof way, ": this machine does not have that address; correct %s", key);
  }
  snprintf(why, cap, "cannot listen for %s on %s: %s%s", what, address,
           code != 0 ? strerror(code) : msock_err_text(e), way);
}
