/* magicsock/pings.h: the pings of one peer that wait for a pong. A pong is believed for the address
 * that its ping was SENT to, which only this table knows. */
#ifndef MSOCK_MAGICSOCK_PINGS_H
#define MSOCK_MAGICSOCK_PINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "magicsock/candidates.h"
#include "magicsock/limits.h"

typedef struct msock_ping {
  uint8_t txid[MSOCK_TXID_LEN];
  bool derp;       /* sent by a relay: addr is empty */
  bool heartbeat;  /* counts for the measure of loss */
  bool relay_test; /* measures the relay */
  uint32_t beat;   /* number of the heartbeat */
  msock_addr addr;
  uint64_t sent_us;
  uint64_t user; /* msock_engine_ping's, by its serial number; 0 = none */
} msock_ping;

typedef struct msock_pings {
  msock_ping *at; /* oldest first */
  uint16_t n, cap;
} msock_pings;

void msock_pings_free(msock_pings *t);
void msock_pings_clear(msock_pings *t);
/* The oldest is forgotten when the table is full. False: no memory; do not send it then. */
bool msock_pings_add(msock_pings *t, const msock_ping *ping);
/* NULL: unknown, or MSOCK_ENGINE_PING_LIFE_US old. Valid until the table changes. */
msock_ping *msock_pings_find(const msock_pings *t, uint64_t now_us,
                             const uint8_t txid[static MSOCK_TXID_LEN]);
void msock_pings_remove(msock_pings *t, msock_ping *ping);
/* Forgets what nobody may answer any more. */
void msock_pings_expire(msock_pings *t, uint64_t now_us);

#endif
