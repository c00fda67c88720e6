/* tscontrol/relay.h: the demo's relay: DERP over TLS and STUN over UDP at one address and port
 * number, so that a tailnet needs no other program. The core is derp/server.h. */
#ifndef MSOCK_TSCONTROL_RELAY_H
#define MSOCK_TSCONTROL_RELAY_H

#include "base/addr.h"
#include "base/derp_map.h"
#include "base/err.h"
#include "base/log.h"
#include "io/egress.h"
#include "io/loop.h"
#include "io/tls.h"

typedef struct msock_tscontrol_relay msock_tscontrol_relay;

typedef struct msock_tscontrol_relay_cfg {
  msock_addr on;        /* port 0: any that is free for both */
  const char *pem;      /* certificate and key; NULL: one is made for this run, known by its pin */
  const char *name;     /* host name of the certificate; "" = the address */
  const msock_log *log; /* borrowed for life */
} msock_tscontrol_relay_cfg;

/* MSOCK_ERR_IO, MSOCK_ERR_INVALID (pem), MSOCK_ERR_NOMEM, with a sentence in why. */
msock_err msock_tscontrol_relay_new(msock_loop *loop, msock_egress *eg,
                                    const msock_tscontrol_relay_cfg *cfg,
                                    msock_tscontrol_relay **out,
                                    char why[static MSOCK_TLS_WHY_MAX]);
void msock_tscontrol_relay_free(msock_tscontrol_relay *r);
msock_addr msock_tscontrol_relay_addr(const msock_tscontrol_relay *r);
/* One region with this relay; MSOCK_ERR_NOMEM leaves it empty. */
msock_err msock_tscontrol_relay_map(const msock_tscontrol_relay *r, msock_derp_map *out);

#endif
