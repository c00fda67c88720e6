/* tscontrol/server.h: the tiny control server on the loop: a listener, connections, one tailnet.
 *
 * The program: main.c (start, banner, stop), options.c (command line), state.c (the state file),
 * server.c, relay.c (the relay and STUN server beside it). What the server says is decided in
 * control/: server_conn.h and tailnet.h. */
#ifndef MSOCK_TSCONTROL_SERVER_H
#define MSOCK_TSCONTROL_SERVER_H

#include "base/addr.h"
#include "base/err.h"
#include "base/key.h"
#include "base/log.h"
#include "control/tailnet.h"
#include "io/egress.h"
#include "io/loop.h"

#define MSOCK_TSCONTROL_CONNS_MAX 128u /* at once; more are closed */

typedef struct msock_tscontrol msock_tscontrol;

typedef struct msock_tscontrol_cfg { /* borrowed for life */
  msock_addr listen;
  const msock_machine_private *key;
  msock_tailnet *tailnet;
  bool early_payload;
  void (*changed)(void *ctx); /* msock_tailnet_is_dirty: time to save. NULL: nothing is saved */
  void *ctx;
  const msock_log *log;
} msock_tscontrol_cfg;

/* MSOCK_ERR_IO: cannot listen, errno tells why. */
msock_err msock_tscontrol_new(msock_loop *loop, msock_egress *eg, const msock_tscontrol_cfg *cfg,
                              msock_tscontrol **out);
void msock_tscontrol_free(msock_tscontrol *s);
msock_addr msock_tscontrol_addr(const msock_tscontrol *s);

#endif
