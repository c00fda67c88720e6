/* What every backend of io/tls_server.h shares. */
#include <stdlib.h>
#include <string.h>

#include "crypto/wipe.h"
#include "io/tls_server.h"

msock_err msock_tls_identity_self_signed(const char *host, uint64_t wall_us,
                                         msock_tls_identity **out,
                                         char why[static MSOCK_TLS_WHY_MAX]) {
  char *pem = NULL;
  msock_err e = msock_tls_self_signed_pem(host, MSOCK_TLS_SELF_SIGNED_DAYS, wall_us, &pem, why);
  if (e == MSOCK_OK) {
    e = msock_tls_identity_from_pem(pem, out, why);
    msock_wipe(pem, strlen(pem));
  }
  free(pem);
  return e;
}
