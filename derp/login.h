/* derp/login.h: the two boxed JSON frames of the login, ClientInfo and ServerInfo, both sides.
 *
 * The box is NaCl crypto_box between the client's node key and the server's key (derp.md 2.2). Key
 * possession is proved by the box alone. */
#ifndef MSOCK_DERP_LOGIN_H
#define MSOCK_DERP_LOGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/err.h"
#include "base/key.h"

#define MSOCK_DERP_APP_NAME_MAX 64u     /* ours to send; longer ones from peers are cut */
#define MSOCK_DERP_LOGIN_FRAME_MAX 640u /* every ClientInfo and ServerInfo frame that we make */

typedef struct msock_derp_client_info {
  int64_t version;      /* 2; any value is accepted from peers, 0 = absent */
  bool can_ack_pings;   /* advisory */
  bool is_prober;       /* sent only when true */
  bool has_mesh_key;    /* false for every ordinary client: the field is then absent */
  uint8_t mesh_key[32]; /* a secret: compare with msock_ct_equal, wipe */
  char app_name[MSOCK_DERP_APP_NAME_MAX]; /* sent when not "" */
} msock_derp_client_info;

typedef struct msock_derp_server_info {
  int64_t version;
  uint64_t bytes_per_second; /* 0 = no limit */
  uint64_t burst_bytes;
} msock_derp_server_info;

/* What an ordinary node says: version 2, can_ack_pings. */
msock_derp_client_info msock_derp_client_info_default(void);

/* Writes the whole ClientInfo frame, sealed from `me` to `server` with a random nonce from env.
 * Gives its length, MSOCK_ERR_NOBUF (cap < MSOCK_DERP_LOGIN_FRAME_MAX may be too small),
 * MSOCK_ERR_AUTH (low-order server key) or MSOCK_ERR_NOMEM. */
ptrdiff_t msock_derp_client_info_seal(const msock_derp_client_info *info,
                                      const msock_node_private *me, const msock_node_key *server,
                                      const msock_env *env, uint8_t *dst, size_t cap);

/* Opens a ClientInfo payload at the server.
 *   client  the authenticated key; set, like info, only on MSOCK_OK
 *   gives   MSOCK_ERR_SHORT (< 56 bytes), MSOCK_ERR_INVALID (> 262144 bytes, bad JSON, wrong types,
 *           a mesh key that is not 64 hex digits), MSOCK_ERR_AUTH (zero key, or the box does not
 *           open), MSOCK_ERR_NOMEM. Each one means: close the connection.
 * PEER: field names without regard to case; unknown fields, {} and null are fine. */
msock_err msock_derp_client_info_open(const uint8_t *payload, size_t len,
                                      const msock_node_private *server, msock_node_key *client,
                                      msock_derp_client_info *info);

/* The ServerInfo frame, sealed from the server to the client; errors as for ClientInfo. */
ptrdiff_t msock_derp_server_info_seal(const msock_derp_server_info *info,
                                      const msock_node_private *server,
                                      const msock_node_key *client, const msock_env *env,
                                      uint8_t *dst, size_t cap);
/* Opens a ServerInfo payload at the client. Every error is fatal for the connection. */
msock_err msock_derp_server_info_open(const uint8_t *payload, size_t len,
                                      const msock_node_private *me, const msock_node_key *server,
                                      msock_derp_server_info *out);

#endif
