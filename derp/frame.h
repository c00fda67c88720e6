/* derp/frame.h: the DERP frame codec, both directions, every type of derp.md 2.1.
 *
 * A frame is [type:1][length:4 BE][payload:length]. Decoding works on one whole payload and borrows
 * from it; cutting the byte stream into frames is the business of the connection machine
 * (derp/client.c), which applies its limits to the header before it buffers a body.
 *
 * The room: frame (this codec), login (the two boxed JSON frames), queue (packets waiting for a
 * connection), client (one connection), dial (what to dial and how to check the certificate), route
 * (which connection last heard from a peer), pool (all regions), proxy (HTTP CONNECT), server (the
 * other side: a small relay). */
#ifndef MSOCK_DERP_FRAME_H
#define MSOCK_DERP_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"
#include "base/key.h"

/* Sizes: derp.md section 0. */
#define MSOCK_DERP_PROTOCOL_VERSION 2
#define MSOCK_DERP_HEADER_LEN 5u
#define MSOCK_DERP_MAGIC_LEN 8u
#define MSOCK_DERP_PACKET_MAX 65536u           /* relayed packet, after its key or keys */
#define MSOCK_DERP_CLIENT_PAYLOAD_MAX 1048576u /* a longer frame ends the client's connection */
#define MSOCK_DERP_SERVER_KEY_MIN 40u
#define MSOCK_DERP_SERVER_KEY_MAX 1024u
#define MSOCK_DERP_CLIENT_INFO_MIN 56u /* key 32 + nonce 24 */
#define MSOCK_DERP_CLIENT_INFO_MAX 262144u
#define MSOCK_DERP_PING_LEN 8u
#define MSOCK_DERP_PING_MAX 1000u /* a longer Ping ends the connection at the server */
/* Header and key in front of a sent or received packet. */
#define MSOCK_DERP_PACKET_OVERHEAD (MSOCK_DERP_HEADER_LEN + MSOCK_KEY_LEN)

typedef enum msock_derp_type {
  MSOCK_DERP_SERVER_KEY = 0x01,     /* s->c, first: magic 8 + server key 32 + ignored extension */
  MSOCK_DERP_CLIENT_INFO = 0x02,    /* c->s, first: client key 32 + nonce 24 + box */
  MSOCK_DERP_SERVER_INFO = 0x03,    /* s->c: nonce 24 + box */
  MSOCK_DERP_SEND_PACKET = 0x04,    /* c->s: destination 32 + packet */
  MSOCK_DERP_RECV_PACKET = 0x05,    /* s->c: source 32 + packet */
  MSOCK_DERP_KEEP_ALIVE = 0x06,     /* s->c: empty */
  MSOCK_DERP_NOTE_PREFERRED = 0x07, /* c->s: 1 byte, 0 = no */
  MSOCK_DERP_PEER_GONE = 0x08,      /* s->c: peer 32 + reason 1 (old servers: none) */
  MSOCK_DERP_PEER_PRESENT = 0x09,   /* s->mesh: peer 32 [+ ip 16 + port 2 [+ flags 1]] */
  MSOCK_DERP_FORWARD_PACKET = 0x0a, /* mesh->s: source 32 + destination 32 + packet */
  MSOCK_DERP_WATCH_CONNS = 0x10,    /* mesh->s: empty */
  MSOCK_DERP_CLOSE_PEER = 0x11,     /* mesh->s: peer 32 */
  MSOCK_DERP_PING = 0x12,           /* both: 8 bytes + ignored extension */
  MSOCK_DERP_PONG = 0x13,           /* both: 8 bytes */
  MSOCK_DERP_HEALTH = 0x14,         /* s->c: UTF-8 text; empty = healthy again */
  MSOCK_DERP_RESTARTING = 0x15      /* s->c: reconnect-in ms 4 BE + try-for ms 4 BE */
} msock_derp_type;

/* PeerGone reasons on the wire; others exist in the future and mean "remove the route". */
#define MSOCK_DERP_GONE_DISCONNECTED 0u
#define MSOCK_DERP_GONE_NOT_HERE 1u

/* PeerPresent flags; 0 = old server. */
#define MSOCK_DERP_PRESENT_REGULAR 1u
#define MSOCK_DERP_PRESENT_MESH 2u
#define MSOCK_DERP_PRESENT_PROBER 4u
#define MSOCK_DERP_PRESENT_NOT_IDEAL 8u

typedef struct msock_derp_header {
  uint8_t type; /* any value: unknown types are skipped by both sides */
  uint32_t len; /* payload bytes */
} msock_derp_header;

/* One decoded frame. Pointers borrow from the payload that was decoded. */
typedef struct msock_derp_frame {
  uint8_t type; /* msock_derp_type; tells which member is set */
  union {
    struct {
      msock_node_key key;
      const uint8_t *extension; /* for later protocol versions; ignored */
      size_t extension_len;
    } server_key;
    struct {
      msock_node_key key; /* CLAIMED until the box opens */
      const uint8_t *box; /* nonce 24 | tag 16 | ciphertext */
      size_t box_len;
    } client_info;
    struct {
      const uint8_t *box; /* nonce 24 | tag 16 | ciphertext */
      size_t box_len;
    } server_info;
    struct {
      msock_node_key key; /* SendPacket: destination. RecvPacket: source */
      const uint8_t *data;
      size_t len; /* 0 is legal */
    } packet;
    struct {
      msock_node_key src, dst;
      const uint8_t *data;
      size_t len;
    } forward;
    bool preferred;
    struct {
      msock_node_key key;
      uint8_t reason;  /* 0 when absent */
      bool has_reason; /* false from old servers */
    } peer_gone;
    struct {
      msock_node_key key;
      bool has_addr;   /* with 50 bytes or more */
      msock_addr addr; /* v4-mapped on the wire, plain IPv4 here */
      bool has_flags;  /* with 51 bytes or more */
      uint8_t flags;
    } peer_present;
    msock_node_key close_peer;
    uint8_t ping[MSOCK_DERP_PING_LEN]; /* Ping and Pong */
    struct {
      const char *text; /* not NUL-terminated, not yet checked to be UTF-8 */
      size_t len;
    } health;
    struct {
      uint32_t reconnect_in_ms;
      uint32_t try_for_ms;
    } restarting;
  } u;
} msock_derp_frame;

msock_derp_header msock_derp_header_read(const uint8_t p[static MSOCK_DERP_HEADER_LEN]);
void msock_derp_header_write(uint8_t dst[static MSOCK_DERP_HEADER_LEN], msock_derp_header h);

/* Reads the payload of one frame of the given type.
 *   out   filled only on MSOCK_OK; borrows from payload
 *   gives MSOCK_OK; MSOCK_ERR_SHORT: payload ends early; MSOCK_ERR_INVALID: wrong magic, wrong
 * exact size, or longer than the type allows; MSOCK_ERR_UNKNOWN: a type of the future PEER:
 * PeerGone may lack its reason, PeerPresent its address and flags; Ping, PeerPresent and KeepAlive
 * may be longer than known. */
msock_err msock_derp_frame_decode(uint8_t type, const uint8_t *payload, size_t len,
                                  msock_derp_frame *out);

/* Writes the whole frame, header included. Gives its length, MSOCK_ERR_NOBUF (dst untouched), or
 * MSOCK_ERR_INVALID (unknown type, packet over MSOCK_DERP_PACKET_MAX). */
ptrdiff_t msock_derp_frame_encode(const msock_derp_frame *f, uint8_t *dst, size_t cap);

/* What a server does with a frame of an established client by its header alone, before the body is
 * read (derp.md 2.1, column "server on bad length"). */
typedef enum msock_derp_verdict {
  MSOCK_DERP_HANDLE, /* decode it */
  MSOCK_DERP_SKIP,   /* read and discard the payload, keep the connection */
  MSOCK_DERP_FATAL   /* close the connection */
} msock_derp_verdict;
msock_derp_verdict msock_derp_from_client(msock_derp_header h, bool is_mesh);

#endif
