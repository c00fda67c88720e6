#include "io/egress.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "io/loop_internal.h"
#include "io/sockaddr.h"

#define TCP_USER_TIMEOUT_MS 15000u /* unacknowledged data: give the connection up (derp.md 3.4) */
#define LISTEN_BACKLOG 1024        /* a relay that restarts has all its clients back at once */

typedef enum rule {
  DENY = 0,
  ALLOW,
  LITERAL /* allowed, but never by name */
} rule;

/* netcheck.md 4.1; ipv6 is decided by the flag in the full profile. */
static const struct {
  const char *id;
  rule full, privacy;
} table[MSOCK_PURPOSE_COUNT] = {
    [MSOCK_PURPOSE_CTL] = {"ctl", ALLOW, LITERAL},
    [MSOCK_PURPOSE_DERP] = {"derp", ALLOW, LITERAL},
    [MSOCK_PURPOSE_DERP_HTTP] = {"derp-http", ALLOW, DENY},
    [MSOCK_PURPOSE_STUN] = {"stun", ALLOW, LITERAL},
    [MSOCK_PURPOSE_WG] = {"wg", ALLOW, LITERAL},
    [MSOCK_PURPOSE_DNS_SYS] = {"dns-sys", ALLOW, DENY},
    [MSOCK_PURPOSE_DNS_FWD] = {"dns-fwd", ALLOW, DENY},
    [MSOCK_PURPOSE_PORTMAP] = {"portmap", ALLOW, DENY},
    [MSOCK_PURPOSE_ICMP] = {"icmp", ALLOW, DENY},
    [MSOCK_PURPOSE_CAPTIVE] = {"captive", ALLOW, DENY},
    [MSOCK_PURPOSE_LOGS] = {"logs", DENY, DENY},
    [MSOCK_PURPOSE_UPDATE] = {"update", DENY, DENY},
    [MSOCK_PURPOSE_META] = {"meta", DENY, DENY},
    [MSOCK_PURPOSE_PROXY] = {"proxy", ALLOW, DENY},
    [MSOCK_PURPOSE_OCSP] = {"ocsp", DENY, DENY},
    [MSOCK_PURPOSE_IPV6] = {"ipv6", ALLOW, DENY},
    [MSOCK_PURPOSE_MCAST] = {"mcast", LITERAL, DENY},
    [MSOCK_PURPOSE_PEERAPI] = {"peerapi", ALLOW, LITERAL},
    [MSOCK_PURPOSE_LOCAL] = {"local", ALLOW, ALLOW},
    [MSOCK_PURPOSE_NETLINK] = {"netlink", ALLOW, ALLOW},
    [MSOCK_PURPOSE_ADMISSION] = {"admission", ALLOW, LITERAL},
    [MSOCK_PURPOSE_LISTEN] = {"listen", ALLOW, LITERAL},
};

struct msock_egress {
  msock_loop *loop;
  const msock_log *log;
  msock_egress_config config;
  bool mark_refused; /* logged once */
  msock_egress_row rows[MSOCK_PURPOSE_COUNT];
  msock_egress_remote remotes[MSOCK_EGRESS_REMOTES_MAX];
  size_t n_remotes;
  size_t last_remote; /* index of the last hit: batches repeat it */
  msock_egress_verdict verdicts[MSOCK_EGRESS_VERDICTS_MAX];
  uint64_t n_verdicts;      /* ever; the ring position is its remainder */
  msock_resolve *resolving; /* list of look-ups under way */
};

struct msock_resolve {
  uv_getaddrinfo_t req;
  msock_egress *eg;
  msock_resolve *prev, *next;
  msock_resolve_cb cb; /* NULL once cancelled */
  void *ctx;
  uint8_t family;
};

const char *msock_purpose_text(msock_purpose p) {
  return (unsigned)p < MSOCK_PURPOSE_COUNT ? table[p].id : "unknown";
}

msock_egress *msock_egress_new(msock_loop *loop, const msock_egress_config *config,
                               const msock_log *log) {
  msock_egress *eg = calloc(1, sizeof *eg);
  if (eg != NULL) {
    eg->loop = loop;
    eg->log = log;
    eg->config = *config;
  }
  return eg;
}

void msock_egress_free(msock_egress *eg) {
  if (eg == NULL) {
    return;
  }
  while (eg->resolving != NULL) {
    msock_resolve_cancel(eg->resolving);
  }
  free(eg);
}

msock_loop *msock_egress_loop(const msock_egress *eg) {
  return eg->loop;
}

const msock_egress_config *msock_egress_get_config(const msock_egress *eg) {
  return &eg->config;
}

void msock_egress_set_mark(msock_egress *eg, uint32_t mark) {
  eg->config.mark = mark;
}

/* Verdicts */

static rule rule_of(const msock_egress *eg, msock_purpose p) {
  if ((unsigned)p >= MSOCK_PURPOSE_COUNT) {
    return DENY;
  }
  if (eg->config.profile != MSOCK_PROFILE_FULL) {
    return table[p].privacy;
  }
  return p == MSOCK_PURPOSE_IPV6 && !eg->config.ipv6 ? DENY : table[p].full;
}

bool msock_egress_allows(const msock_egress *eg, msock_purpose p) {
  return rule_of(eg, p) != DENY;
}

bool msock_egress_may_resolve(const msock_egress *eg, msock_purpose p) {
  return rule_of(eg, p) == ALLOW && rule_of(eg, MSOCK_PURPOSE_DNS_SYS) == ALLOW;
}

static void record_verdict(msock_egress *eg, msock_purpose p, const msock_addr *to, bool allowed) {
  msock_egress_verdict *v = &eg->verdicts[eg->n_verdicts++ % MSOCK_EGRESS_VERDICTS_MAX];
  *v = (msock_egress_verdict){
      .at_us = msock_loop_now_us(), .purpose = p, .allowed = allowed, .to = *to};
}

static msock_err decide(msock_egress *eg, msock_purpose p, const msock_addr *to, bool keep) {
  const bool v6 = to->ip.family == 6 && p != MSOCK_PURPOSE_LOCAL && p != MSOCK_PURPOSE_NETLINK;
  const bool v6_denied = v6 && rule_of(eg, MSOCK_PURPOSE_IPV6) == DENY;

  if ((unsigned)p >= MSOCK_PURPOSE_COUNT) {
    return MSOCK_ERR_DENIED;
  }
  if (rule_of(eg, p) == DENY || v6_denied) {
    eg->rows[p].denied++;
    if (v6_denied) {
      eg->rows[MSOCK_PURPOSE_IPV6].denied++;
    }
    record_verdict(eg, p, to, false);
    return MSOCK_ERR_DENIED;
  }
  eg->rows[p].allowed++;
  if (v6) {
    eg->rows[MSOCK_PURPOSE_IPV6].allowed++;
  }
  if (keep) {
    record_verdict(eg, p, to, true);
  }
  return MSOCK_OK;
}

msock_err msock_egress_check(msock_egress *eg, msock_purpose p, const msock_addr *to) {
  return decide(eg, p, to, false);
}

/* Ledger */

static size_t find_remote(msock_egress *eg, msock_purpose p, const msock_addr *remote) {
  const msock_egress_remote *last = &eg->remotes[eg->last_remote];
  if (eg->n_remotes > 0 && last->purpose == p && msock_addr_equal(&last->remote, remote)) {
    return eg->last_remote;
  }
  for (size_t i = 0; i < eg->n_remotes; i++) {
    if (eg->remotes[i].purpose == p && msock_addr_equal(&eg->remotes[i].remote, remote)) {
      return i;
    }
  }
  return eg->n_remotes;
}

static size_t new_remote(msock_egress *eg) {
  size_t oldest = 0;
  if (eg->n_remotes < MSOCK_EGRESS_REMOTES_MAX) {
    return eg->n_remotes++;
  }
  for (size_t i = 1; i < eg->n_remotes; i++) {
    if (eg->remotes[i].last_us < eg->remotes[oldest].last_us) {
      oldest = i;
    }
  }
  return oldest;
}

void msock_egress_account(msock_egress *eg, msock_purpose p, const msock_addr *remote,
                          uint64_t packets, uint64_t bytes) {
  const uint64_t now_us = msock_loop_now_us();
  if ((unsigned)p >= MSOCK_PURPOSE_COUNT) {
    return;
  }
  msock_egress_row *row = &eg->rows[p];
  row->packets += packets;
  row->bytes += bytes;
  row->last_us = now_us;
  if (row->first_us == 0) {
    row->first_us = now_us;
  }
  if (remote->ip.family == 0) {
    return;
  }
  size_t i = find_remote(eg, p, remote);
  if (i == eg->n_remotes) {
    i = new_remote(eg);
    eg->remotes[i] = (msock_egress_remote){.purpose = p, .remote = *remote, .first_us = now_us};
  }
  eg->last_remote = i;
  eg->remotes[i].packets += packets;
  eg->remotes[i].bytes += bytes;
  eg->remotes[i].last_us = now_us;
}

const msock_egress_row *msock_egress_get_row(const msock_egress *eg, msock_purpose p) {
  return &eg->rows[p];
}

static int newer_first(const void *a, const void *b) {
  const msock_egress_remote *x = a, *y = b;
  return x->last_us < y->last_us ? 1 : x->last_us > y->last_us ? -1 : 0;
}

size_t msock_egress_remotes(const msock_egress *eg, msock_egress_remote *dst, size_t cap) {
  msock_egress_remote sorted[MSOCK_EGRESS_REMOTES_MAX];
  const size_t n = eg->n_remotes < cap ? eg->n_remotes : cap;
  memcpy(sorted, eg->remotes, eg->n_remotes * sizeof *sorted);
  qsort(sorted, eg->n_remotes, sizeof *sorted, newer_first);
  memcpy(dst, sorted, n * sizeof *dst);
  return n;
}

size_t msock_egress_verdicts(const msock_egress *eg, msock_egress_verdict *dst, size_t cap) {
  size_t n = 0;
  for (uint64_t i = eg->n_verdicts; i > 0 && n < cap && n < MSOCK_EGRESS_VERDICTS_MAX; i--) {
    dst[n++] = eg->verdicts[(i - 1) % MSOCK_EGRESS_VERDICTS_MAX];
  }
  return n;
}

/* Descriptors */

static void close_keep_errno(int fd) {
  const int saved = errno;
  close(fd);
  errno = saved;
}

static void set_mark(msock_egress *eg, int fd) {
  const uint32_t mark = eg->config.mark;
  if (mark == 0 || setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark) == 0) {
    return;
  }
  if (!eg->mark_refused) {
    eg->mark_refused = true;
    msock_logf(eg->log, MSOCK_LOG_WARN, "io.mark_refused",
               "mark=0x%x reason=\"%s\" hint=\"CAP_NET_ADMIN keeps our packets out of the tunnel\"",
               mark, strerror(errno));
  }
}

/* A configured interface is the only way out: without it there is no socket at all. Loopback leaves
 * the machine by none. */
static bool bind_to_device(const msock_egress *eg, int fd, const msock_ip *peer) {
  const char *name = eg->config.device;
  return name[0] == '\0' || msock_ip_is_loopback(peer) ||
         setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, (socklen_t)strlen(name)) == 0;
}

/* Opens an internet socket after the verdict. */
static msock_err open_inet(msock_egress *eg, msock_purpose p, const msock_addr *peer, int type,
                           int protocol, int *fd) {
  if (peer->ip.family != 4 && peer->ip.family != 6) {
    return MSOCK_ERR_INVALID;
  }
  const msock_err err = decide(eg, p, peer, true);
  if (err != MSOCK_OK) {
    return err;
  }
  *fd = socket(peer->ip.family == 4 ? AF_INET : AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC,
               protocol);
  if (*fd < 0) {
    return MSOCK_ERR_IO;
  }
  set_mark(eg, *fd);
  if (!bind_to_device(eg, *fd, &peer->ip)) {
    close_keep_errno(*fd);
    return MSOCK_ERR_IO;
  }
  return MSOCK_OK;
}

msock_err msock_egress_tcp_open(msock_egress *eg, msock_purpose p, const msock_addr *to, int *fd) {
  const int on = 1;
  const unsigned timeout_ms = TCP_USER_TIMEOUT_MS;
  const msock_err err = open_inet(eg, p, to, SOCK_STREAM, 0, fd);
  if (err != MSOCK_OK) {
    return err;
  }
  setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(*fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
  msock_egress_account(eg, p, to, 0, 0);
  return MSOCK_OK;
}

msock_err msock_egress_tcp_connect(msock_egress *eg, msock_purpose p, const msock_addr *to,
                                   int *out) {
  struct sockaddr_storage sa;
  int fd = -1;
  const msock_err err = msock_egress_tcp_open(eg, p, to, &fd);
  if (err != MSOCK_OK) {
    return err;
  }
  const socklen_t len = msock_sockaddr_from(to, &sa);
  if (connect(fd, (struct sockaddr *)&sa, len) != 0 && errno != EINPROGRESS) {
    close_keep_errno(fd);
    return MSOCK_ERR_IO;
  }
  *out = fd;
  return MSOCK_OK;
}

static msock_err bind_at(int fd, const msock_addr *on, msock_addr *at) {
  struct sockaddr_storage sa;
  const socklen_t len = msock_sockaddr_from(on, &sa);
  if (bind(fd, (struct sockaddr *)&sa, len) != 0) {
    return MSOCK_ERR_IO;
  }
  return at == NULL || msock_sockaddr_local(fd, at) ? MSOCK_OK : MSOCK_ERR_IO;
}

msock_err msock_egress_tcp_listen(msock_egress *eg, msock_purpose p, const msock_addr *on, int *out,
                                  msock_addr *at) {
  const int yes = 1;
  int fd = -1;
  msock_err err = open_inet(eg, p, on, SOCK_STREAM, 0, &fd);
  if (err != MSOCK_OK) {
    return err;
  }
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (on->ip.family == 6) {
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
  }
  err = bind_at(fd, on, at);
  if (err == MSOCK_OK && listen(fd, LISTEN_BACKLOG) != 0) {
    err = MSOCK_ERR_IO;
  }
  if (err != MSOCK_OK) {
    close_keep_errno(fd);
    return err;
  }
  *out = fd;
  return MSOCK_OK;
}

#define IPV6_SWITCH "/proc/sys/net/ipv6/conf/all/disable_ipv6"

/* The kernel binds [::] even where IPv6 is switched off: the switch itself has to be asked. */
static bool ipv6_is_switched_off(void) {
  char value = '0';
  const int fd = open(IPV6_SWITCH, O_RDONLY | O_CLOEXEC);
  const bool known = fd >= 0 && read(fd, &value, 1) == 1;
  if (fd >= 0) {
    close(fd);
  }
  return known && value == '1';
}

/* One socket for both families. The default of V6ONLY differs by system: set, and read back
 * (magicsock.md 5.2). */
static bool make_dual_stack(int fd) {
  int v6_only = 0;
  socklen_t len = sizeof v6_only;
  if (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof v6_only) != 0 ||
      getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, &len) != 0) {
    return false;
  }
  errno = EAFNOSUPPORT;
  return v6_only == 0 && !ipv6_is_switched_off();
}

msock_err msock_egress_udp_bind(msock_egress *eg, msock_purpose p, const msock_addr *on, int *out,
                                msock_addr *at) {
  int fd = -1;
  msock_err err = open_inet(eg, p, on, SOCK_DGRAM, 0, &fd);
  if (err != MSOCK_OK) {
    return err;
  }
  err = on->ip.family == 6 && !make_dual_stack(fd) ? MSOCK_ERR_IO : bind_at(fd, on, at);
  if (err != MSOCK_OK) {
    close_keep_errno(fd);
    return err;
  }
  *out = fd;
  return MSOCK_OK;
}

msock_err msock_egress_sendto(msock_egress *eg, msock_purpose p, int fd, const msock_addr *to,
                              const void *data, size_t len) {
  struct sockaddr_storage sa;
  const msock_err err = decide(eg, p, to, false);
  if (err != MSOCK_OK) {
    return err;
  }
  const socklen_t sa_len = msock_sockaddr_from(to, &sa);
  if (sendto(fd, data, len, MSG_NOSIGNAL, (struct sockaddr *)&sa, sa_len) < 0) {
    return errno == EAGAIN || errno == ENOBUFS ? MSOCK_ERR_AGAIN : MSOCK_ERR_IO;
  }
  msock_egress_account(eg, p, to, 1, len);
  return MSOCK_OK;
}

msock_err msock_egress_icmp(msock_egress *eg, uint8_t family, int *out) {
  const msock_addr any = {.ip.family = family};
  return open_inet(eg, MSOCK_PURPOSE_ICMP, &any, SOCK_DGRAM,
                   family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, out);
}

/* Local sockets */

static bool unix_address(const char *path, struct sockaddr_un *sa) {
  *sa = (struct sockaddr_un){.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof sa->sun_path) {
    errno = ENAMETOOLONG;
    return false;
  }
  memcpy(sa->sun_path, path, strlen(path) + 1);
  return true;
}

/* Whether somebody accepts on path now. */
static bool unix_is_live(const struct sockaddr_un *sa) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return false;
  }
  const bool live = connect(fd, (const struct sockaddr *)sa, sizeof *sa) == 0 || errno == EAGAIN;
  close(fd);
  return live;
}

msock_err msock_egress_unix_listen(msock_egress *eg, const char *path, unsigned mode, int *out) {
  struct sockaddr_un sa;
  struct stat st;
  const msock_addr none = {0};

  if (!unix_address(path, &sa)) {
    return MSOCK_ERR_INVALID;
  }
  const msock_err err = decide(eg, MSOCK_PURPOSE_LOCAL, &none, true);
  if (err != MSOCK_OK) {
    return err;
  }
  if (lstat(path, &st) == 0) {
    if (!S_ISSOCK(st.st_mode)) {
      errno = EEXIST; /* not ours to remove */
      return MSOCK_ERR_IO;
    }
    if (unix_is_live(&sa)) {
      return MSOCK_ERR_AGAIN;
    }
    unlink(path);
  }
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return MSOCK_ERR_IO;
  }
  /* Closed to all until the mode is set: nobody connects in between. */
  const mode_t old_mask = umask(0777);
  const int rc = bind(fd, (struct sockaddr *)&sa, sizeof sa);
  umask(old_mask);
  if (rc != 0 || chmod(path, (mode_t)mode) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
    close_keep_errno(fd);
    return MSOCK_ERR_IO;
  }
  *out = fd;
  return MSOCK_OK;
}

msock_err msock_egress_unix_connect(msock_egress *eg, const char *path, int *out) {
  struct sockaddr_un sa;
  const msock_addr none = {0};

  if (!unix_address(path, &sa)) {
    return MSOCK_ERR_INVALID;
  }
  const msock_err err = eg == NULL ? MSOCK_OK : decide(eg, MSOCK_PURPOSE_LOCAL, &none, true);
  if (err != MSOCK_OK) {
    return err;
  }
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return MSOCK_ERR_IO;
  }
  if (connect(fd, (struct sockaddr *)&sa, sizeof sa) != 0) {
    close_keep_errno(fd);
    return MSOCK_ERR_IO;
  }
  *out = fd;
  return MSOCK_OK;
}

msock_err msock_egress_netlink(msock_egress *eg, uint32_t groups, int *out) {
  const msock_addr none = {0};
  struct sockaddr_nl sa = {.nl_family = AF_NETLINK, .nl_groups = groups};

  const msock_err err = decide(eg, MSOCK_PURPOSE_NETLINK, &none, true);
  if (err != MSOCK_OK) {
    return err;
  }
  const int type = SOCK_RAW | SOCK_CLOEXEC | (groups != 0 ? SOCK_NONBLOCK : 0);
  const int fd = socket(AF_NETLINK, type, NETLINK_ROUTE);
  if (fd < 0) {
    return MSOCK_ERR_IO;
  }
  if (bind(fd, (struct sockaddr *)&sa, sizeof sa) != 0) {
    close_keep_errno(fd);
    return MSOCK_ERR_IO;
  }
  *out = fd;
  return MSOCK_OK;
}

/* Names */

static void detach(msock_resolve *r) {
  if (r->prev != NULL) {
    r->prev->next = r->next;
  } else {
    r->eg->resolving = r->next;
  }
  if (r->next != NULL) {
    r->next->prev = r->prev;
  }
}

static size_t collect(const msock_egress *eg, const struct addrinfo *list, uint8_t family,
                      msock_ip *ips) {
  size_t n = 0;
  for (const struct addrinfo *a = list; a != NULL && n < MSOCK_RESOLVE_IPS_MAX; a = a->ai_next) {
    msock_addr addr;
    if (!msock_sockaddr_to((const struct sockaddr *)a->ai_addr, &addr) ||
        (family != 0 && addr.ip.family != family) ||
        (addr.ip.family == 6 && rule_of(eg, MSOCK_PURPOSE_IPV6) == DENY)) {
      continue;
    }
    bool seen = false;
    for (size_t i = 0; i < n; i++) {
      seen = seen || msock_ip_equal(&ips[i], &addr.ip);
    }
    if (!seen) {
      ips[n++] = addr.ip;
    }
  }
  return n;
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list) {
  msock_resolve *r = req->data;
  msock_ip ips[MSOCK_RESOLVE_IPS_MAX];

  if (r->cb != NULL) {
    msock_egress *eg = r->eg;
    const size_t n = status == 0 ? collect(eg, list, r->family, ips) : 0;
    const char *why = status != 0 ? uv_strerror(status)
                      : n == 0    ? "no address of a permitted family"
                                  : "";
    detach(r);
    r->cb(r->ctx, n > 0 ? MSOCK_OK : MSOCK_ERR_IO, ips, n, why);
  }
  uv_freeaddrinfo(list);
  free(r);
}

msock_err msock_egress_resolve(msock_egress *eg, msock_purpose p, const char *name, uint8_t family,
                               msock_resolve_cb cb, void *ctx, msock_resolve **out) {
  const msock_addr none = {0};
  const bool v4_only = family == 4 || rule_of(eg, MSOCK_PURPOSE_IPV6) == DENY;
  const struct addrinfo hints = {.ai_family = v4_only       ? AF_INET
                                              : family == 6 ? AF_INET6
                                                            : AF_UNSPEC,
                                 .ai_socktype = SOCK_STREAM};
  msock_ip literal;

  if (name[0] == '\0' || strlen(name) > 255 || msock_ip_parse(name, &literal) == MSOCK_OK) {
    return MSOCK_ERR_INVALID;
  }
  if (!msock_egress_may_resolve(eg, p) || (family == 6 && v4_only)) {
    eg->rows[MSOCK_PURPOSE_DNS_SYS].denied++;
    record_verdict(eg, MSOCK_PURPOSE_DNS_SYS, &none, false);
    return MSOCK_ERR_DENIED;
  }
  msock_resolve *r = calloc(1, sizeof *r);
  if (r == NULL) {
    return MSOCK_ERR_NOMEM;
  }
  *r = (msock_resolve){.eg = eg, .cb = cb, .ctx = ctx, .family = family, .next = eg->resolving};
  r->req.data = r;
  if (uv_getaddrinfo(msock_loop_uv(eg->loop), &r->req, on_resolved, name, NULL, &hints) != 0) {
    free(r);
    return MSOCK_ERR_NOMEM;
  }
  if (r->next != NULL) {
    r->next->prev = r;
  }
  eg->resolving = r;
  eg->rows[MSOCK_PURPOSE_DNS_SYS].allowed++;
  record_verdict(eg, MSOCK_PURPOSE_DNS_SYS, &none, true);
  msock_egress_account(eg, MSOCK_PURPOSE_DNS_SYS, &none, 1, 0);
  *out = r;
  return MSOCK_OK;
}

void msock_resolve_cancel(msock_resolve *r) {
  if (r == NULL) {
    return;
  }
  detach(r);
  r->cb = NULL; /* memory goes when the pool hands the request back */
  uv_cancel((uv_req_t *)&r->req);
}
