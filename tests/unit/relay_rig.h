/* tests/unit/relay_rig.h: raw clients of the relay core (derp/server.h): bytes and frames by hand.
 */
#ifndef MSOCK_TESTS_RELAY_RIG_H
#define MSOCK_TESTS_RELAY_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "derp/frame.h"
#include "derp/login.h"
#include "derp/server.h"

#define RELAY_RIG_RX_MAX (8u << 20)

typedef struct relay_client {
  msock_derp_server *server;
  const msock_env *env;
  uint32_t conn;
  bool open;
  msock_node_private secret;
  msock_node_key key;
  uint8_t *rx; /* bytes of the server not yet taken */
  size_t rx_len;
  uint8_t body[MSOCK_DERP_PACKET_MAX + 64]; /* of the frame that was taken last */
} relay_client;

/* Opens a connection; secret may be NULL: a random one. */
void relay_client_init(relay_client *c, const msock_env *env, msock_derp_server *s, uint64_t now,
                       const msock_node_private *secret);
void relay_client_free(relay_client *c); /* closes */
void relay_client_close(relay_client *c, uint64_t now);
/* Sends bytes; false: the server reads no more. */
bool relay_client_write(relay_client *c, uint64_t now, const void *p, size_t len);
bool relay_client_frame(relay_client *c, uint64_t now, const msock_derp_frame *f);
bool relay_client_packet(relay_client *c, uint64_t now, const msock_node_key *to, const void *p,
                         size_t len);
/* Takes all that the server has for it. */
void relay_client_pump(relay_client *c, uint64_t now);
/* The next whole frame, out of what came; borrows from body. False: there is none. */
bool relay_client_take(relay_client *c, uint64_t now, msock_derp_frame *f);
/* Reads a response head; gives the status. */
int relay_client_head(relay_client *c, uint64_t now);
/* 101, ServerKey, ClientInfo, ServerInfo. */
void relay_client_login(relay_client *c, uint64_t now);
/* The same up to ClientInfo, which says what info says; the answer is left to be read. */
void relay_client_introduce(relay_client *c, uint64_t now, const msock_derp_client_info *info);
void relay_client_login_as(relay_client *c, uint64_t now, const msock_derp_client_info *info);

#endif
