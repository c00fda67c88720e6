/* node/localapi.h: LocalAPI: HTTP/1.1 for programs on this machine, with tailscaled's paths.
 *
 * A machine: bytes of connections in, bytes out, time as an argument; node/localapi_server.h puts
 * it on a Unix socket. The files: localapi_conn.h is one connection (head, body, answer), this one
 * is the table of connections, the rights and the routes.
 *
 * Life of a request: feed -> head complete -> route and right are checked -> body -> a function of
 * the backend with a msock_localapi_req -> msock_localapi_reply, inside that call or later -> bytes
 * from tx_peek. One request at a time per connection; later ones wait in its buffer. If the caller
 * goes away, the req goes stale: a late reply is dropped and its body freed.
 *
 *   GET   /localapi/v0/status[?peers=false]     read    ipnstate.Status
 *   GET   /localapi/v0/prefs                    read    ipn.Prefs
 *   PATCH /localapi/v0/prefs                    write   ipn.MaskedPrefs -> ipn.Prefs
 *   POST  /localapi/v0/start                    write   {"AuthKey","UpdatePrefs"} -> 204
 *   POST  /localapi/v0/login-interactive        write   -> 204
 *   POST  /localapi/v0/logout                   write   -> 204
 *   POST  /localapi/v0/ping?ip=&type=[&size=]   read    ipnstate.PingResult
 *   GET   /localapi/v0/whois?addr=              read    apitype.WhoIsResponse
 *   GET   /localapi/v0/metrics                  read    Prometheus text
 *   GET   /localapi/v0/watch-ipn-bus?mask=      read    a line of ipn.Notify for each change,
 * without end: State, BrowseToURL, Prefs, and as
 *                                                       {"TSNode":{"LastError"}} what went wrong.
 *                                                       mask: ipn.NotifyWatchOpt, the initial State
 *                                                       (2) and Prefs (4); others are ignored, no
 *                                                       NetMap is sent
 * and ours:
 *   GET   /localapi/v0/why?ip=                  read    text: why a peer is on its path
 *   GET   /localapi/v0/debug-endpoints          read    {"Self": [...], "Peers": [...]}
 *   POST  /localapi/v0/debug-rebind             write   -> 204
 *   GET   /localapi/v0/netcheck                 read    a fresh report: netcheck.Report and TSNode
 *   GET   /localapi/v0/debug-derp               read    {"Regions": [...]}
 *   GET   /localapi/v0/debug-netmap             read    self, peers, filter, DNS; no private data
 *   POST  /localapi/v0/debug-capture?seconds=&bytes=  write  pcap of the tunnel, when it is over
 *   POST  /localapi/v0/bugreport                write   text, anonymised
 *
 * Rights: root, the daemon's own user and the operator may write; whoever else can open the socket
 * may read (a ping changes nothing and counts as reading). Errors are {"error": "sentence"}. */
#ifndef MSOCK_NODE_LOCALAPI_H
#define MSOCK_NODE_LOCALAPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"
#include "base/log.h"
#include "node/prefs.h"

/* Limits and timers. All are ours. */
#define MSOCK_LOCALAPI_CONNS_MAX 64u               /* more are closed at once */
#define MSOCK_LOCALAPI_BODY_MAX (1024u * 1024u)    /* 413 above */
#define MSOCK_LOCALAPI_IDLE_US UINT64_C(60000000)  /* between requests */
#define MSOCK_LOCALAPI_RECV_US UINT64_C(10000000)  /* first to last byte of a request */
#define MSOCK_LOCALAPI_SEND_US UINT64_C(30000000)  /* without progress of an answer */
#define MSOCK_LOCALAPI_LINGER_US UINT64_C(5000000) /* after the last answer, for its end */
#define MSOCK_LOCALAPI_BACKLOG_MAX (64u * 1024u)   /* of a watcher that does not read; then over */
#define MSOCK_LOCALAPI_CAPTURE_S_MAX 600u          /* of one capture; memory is bounded as well */
#define MSOCK_LOCALAPI_PING_SIZE_MAX 1200u         /* payload bytes; fits the tunnel MTU of 1280 */

/* Refusals whose reason callers tell apart by the status. 501: not in this build. */
#define MSOCK_LOCALAPI_STATUS_NEEDS_LOGIN 401
#define MSOCK_LOCALAPI_STATUS_STOPPED 409

typedef struct msock_localapi msock_localapi;

/* Names one request of one connection; never reused while the table lives. Plain value. */
typedef struct msock_localapi_req {
  uint32_t conn;
  uint32_t serial;
} msock_localapi_req;

typedef enum msock_localapi_ping_type {
  MSOCK_LOCALAPI_PING_DISCO = 0,
  MSOCK_LOCALAPI_PING_TSMP,
  MSOCK_LOCALAPI_PING_ICMP
} msock_localapi_ping_type;

/* What the node gives. Each function must lead to exactly one msock_localapi_reply* for req, at
 * once or later; strings and documents are borrowed for the call. */
typedef struct msock_localapi_backend {
  void *ctx;
  void (*status)(void *ctx, msock_localapi_req req, bool with_peers);
  void (*prefs)(void *ctx, msock_localapi_req req);
  /* doc is an object: hand it to msock_prefs_apply_masked, answer the new preferences. */
  void (*edit_prefs)(void *ctx, msock_localapi_req req, json_object *doc);
  /* auth_key "" = none: wipe your copy after use. update_prefs NULL = none; else for
   * msock_prefs_apply. force is our own "ForceReauth": a new node key even when logged in. */
  void (*start)(void *ctx, msock_localapi_req req, const char *auth_key, json_object *update_prefs,
                bool force);
  void (*login)(void *ctx, msock_localapi_req req);
  void (*logout)(void *ctx, msock_localapi_req req);
  void (*ping)(void *ctx, msock_localapi_req req, const msock_ip *ip, msock_localapi_ping_type type,
               uint32_t size);
  /* addr is as given: an IP, ip:port, or "nodekey:<hex>". 404 when there is no such node. */
  void (*whois)(void *ctx, msock_localapi_req req, const char *addr);
  void (*metrics)(void *ctx, msock_localapi_req req);
  /* Answers with msock_localapi_stream and pushes until gone. */
  void (*watch)(void *ctx, msock_localapi_req req, uint64_t mask);
  /* Text, or 404 when no peer has the address. */
  void (*why)(void *ctx, msock_localapi_req req, const msock_ip *ip);
  void (*debug_endpoints)(void *ctx, msock_localapi_req req);
  void (*debug_rebind)(void *ctx, msock_localapi_req req);
  /* Answers when one full round has ended, up to 12 s later. */
  void (*netcheck)(void *ctx, msock_localapi_req req);
  void (*debug_derp)(void *ctx, msock_localapi_req req);
  void (*debug_netmap)(void *ctx, msock_localapi_req req);
  /* Answers when the time is over, or earlier at bytes of pcap. */
  void (*capture)(void *ctx, msock_localapi_req req, uint64_t seconds, uint64_t bytes);
  void (*bugreport)(void *ctx, msock_localapi_req req);
  /* The caller of req went away before its answer: stop working for it. May be NULL. */
  void (*gone)(void *ctx, msock_localapi_req req);
} msock_localapi_backend;

/* The backend is copied; ctx and log (may be NULL) are borrowed until free. own_uid: the daemon's
 * user. NULL without memory. */
msock_localapi *msock_localapi_new(const msock_localapi_backend *backend, uint32_t own_uid,
                                   const msock_log *log);
/* Calls no backend function; open requests go stale. */
void msock_localapi_free(msock_localapi *l);

/* The operator's uid after Prefs.OperatorUser changed; false = there is no operator. Open
 * connections are judged by it from their next request on. */
void msock_localapi_set_operator(msock_localapi *l, bool present, uint32_t uid);

typedef enum msock_localapi_phase {
  MSOCK_LOCALAPI_OPEN = 0,
  MSOCK_LOCALAPI_FINISH, /* all is sent and no more will be: shut down the sending side */
  MSOCK_LOCALAPI_OVER    /* close the socket now */
} msock_localapi_phase;

/* Connections. open gives the id 0 .. CONNS_MAX-1, or MSOCK_ERR_AGAIN when the table is full:
 * close the socket. closed frees the id; the caller closes the socket itself. */
int msock_localapi_open(msock_localapi *l, uint64_t now_us, uint32_t uid);
void msock_localapi_closed(msock_localapi *l, uint32_t conn);
/* Bytes from the socket. After the connection has gone to FINISH they are ignored. */
void msock_localapi_feed(msock_localapi *l, uint64_t now_us, uint32_t conn, const uint8_t *p,
                         size_t len);
/* Bytes to send, 0 = none; *p stays valid until they are consumed. */
size_t msock_localapi_tx_peek(const msock_localapi *l, uint32_t conn, const uint8_t **p);
void msock_localapi_tx_consume(msock_localapi *l, uint64_t now_us, uint32_t conn, size_t n);
msock_localapi_phase msock_localapi_conn_phase(const msock_localapi *l, uint32_t conn);
uint64_t msock_localapi_next_expiry(const msock_localapi *l);
/* Moves connections whose deadline passed: to OVER, or to a 408 answer. */
void msock_localapi_on_expiry(msock_localapi *l, uint64_t now_us);

/* Answers. now_us is the present time. A stale req is dropped. They only queue bytes: after a late
 * answer the owner of the sockets drains (msock_localapi_next_ready).
 *   reply        body is allocated and taken (freed even when stale); NULL body = 500
 *   reply_error  {"error": message}
 *   reply_none   204 */
void msock_localapi_reply(msock_localapi *l, uint64_t now_us, msock_localapi_req req, int status,
                          const char *content_type, char *body, size_t len);
void msock_localapi_reply_error(msock_localapi *l, uint64_t now_us, msock_localapi_req req,
                                int status, const char *message);
void msock_localapi_reply_none(msock_localapi *l, uint64_t now_us, msock_localapi_req req);
/* An answer that goes on: its head now, its body in pieces until the caller leaves (gone). A caller
 * that does not read them is dropped. Pieces for a stale req are dropped. */
void msock_localapi_stream(msock_localapi *l, uint64_t now_us, msock_localapi_req req,
                           const char *content_type);
void msock_localapi_push(msock_localapi *l, uint64_t now_us, msock_localapi_req req, const char *p,
                         size_t len);
/* First connection at or after from that has bytes to send or is not OPEN; -1 = none. The drain of
 * the owner: for (c = next_ready(l, 0); c >= 0; c = next_ready(l, c + 1)) send. */
int msock_localapi_next_ready(const msock_localapi *l, uint32_t from);

#endif
