/* control/noise.h: ts2021's Noise_IK handshake, both sides, and its records.
 *
 * Pure: bytes in, bytes out. The symmetric state is crypto/noise.h. Byte shapes: control.md 2.4
 * (messages), 2.5 (records: nonce with a BIG-endian counter, unlike plain Noise). */
#ifndef MSOCK_CONTROL_NOISE_H
#define MSOCK_CONTROL_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/key.h"
#include "crypto/noise.h"

#define MSOCK_CONTROL_INITIATION_LEN 101u
#define MSOCK_CONTROL_RESPONSE_LEN 51u
#define MSOCK_CONTROL_MSG_HEADER_LEN 3u /* response, error frame, record */
#define MSOCK_CONTROL_FRAME_MAX 4096u   /* whole record */
#define MSOCK_CONTROL_PLAIN_MAX 4077u   /* 4096 - 3 - 16 */

typedef enum msock_control_msg_type {
  MSOCK_CONTROL_MSG_INITIATION = 1,
  MSOCK_CONTROL_MSG_RESPONSE = 2,
  MSOCK_CONTROL_MSG_ERROR = 3,
  MSOCK_CONTROL_MSG_RECORD = 4
} msock_control_msg_type;

/* Transport state of one connection; secret. poisoned: one failed open or seal ends it. */
typedef struct msock_control_records {
  uint8_t tx_key[32], rx_key[32];
  uint64_t tx_n, rx_n; /* counter of the next record */
  uint8_t hash[32];    /* handshake hash */
  bool poisoned;
} msock_control_records;
void msock_control_records_wipe(msock_control_records *r);

/* The initiator between its two messages; secret. */
typedef struct msock_control_initiator {
  msock_noise noise;
  uint8_t machine[32];
  uint8_t ephemeral[32];
} msock_control_initiator;
void msock_control_initiator_wipe(msock_control_initiator *hs);

/* Writes the initiation. ephemeral: fresh random private bytes. MSOCK_ERR_AUTH when a DH result is
 * all zero; hs is wiped then. */
msock_err msock_control_initiate(msock_control_initiator *hs, uint16_t version,
                                 const msock_machine_private *machine,
                                 const msock_machine_key *server,
                                 const uint8_t ephemeral[static 32],
                                 uint8_t out[static MSOCK_CONTROL_INITIATION_LEN]);
/* Reads the response (header included); on MSOCK_OK records is ready and hs wiped. MSOCK_ERR_
 * INVALID: not a response; MSOCK_ERR_AUTH: does not open. Either way hs is of no use any more. */
msock_err msock_control_initiator_finish(msock_control_initiator *hs,
                                         const uint8_t msg[static MSOCK_CONTROL_RESPONSE_LEN],
                                         msock_control_records *records);

/* The responder: reads an initiation, writes the response. version and client are filled on
 * MSOCK_OK only. MSOCK_ERR_INVALID: type, length or version 0; MSOCK_ERR_AUTH: does not open, or
 * all-zero DH. After an error nothing was written to out and the connection is to be closed. */
msock_err msock_control_respond(const msock_machine_private *server,
                                const uint8_t ephemeral[static 32],
                                const uint8_t msg[static MSOCK_CONTROL_INITIATION_LEN],
                                uint8_t out[static MSOCK_CONTROL_RESPONSE_LEN], uint16_t *version,
                                msock_machine_key *client, msock_control_records *records);

/* Nonce of record n: 4 zero bytes, then n big-endian. */
void msock_control_nonce(uint64_t n, uint8_t out[static 12]);

/* Seals len <= MSOCK_CONTROL_PLAIN_MAX bytes into one record; dst holds len + 19. Gives the
 * record's length, or MSOCK_ERR_CLOSED when poisoned or the counter is used up. */
ptrdiff_t msock_control_record_seal(msock_control_records *r, const uint8_t *src, size_t len,
                                    uint8_t *dst);
/* Length of the whole record whose first three bytes these are, or MSOCK_ERR_INVALID (type is not
 * 4, ciphertext under 16 or over 4093): poisons. */
ptrdiff_t msock_control_record_size(msock_control_records *r,
                                    const uint8_t head[static MSOCK_CONTROL_MSG_HEADER_LEN]);
/* Opens one whole record of frame_len bytes; dst gets frame_len - 19 bytes (may be 0). Gives that
 * length; MSOCK_ERR_AUTH poisons, MSOCK_ERR_CLOSED when poisoned before. */
ptrdiff_t msock_control_record_open(msock_control_records *r, const uint8_t *frame,
                                    size_t frame_len, uint8_t *dst);

#endif
