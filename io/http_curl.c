/* The libcurl provider: the multi interface on our loop. Sockets are opened by the egress module,
 * names are resolved there and given by CURLOPT_RESOLVE: libcurl itself never looks one up. */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/http1.h"
#include "io/file.h"
#include "io/http_internal.h"
#include "io/sockaddr.h"

#define CA_BYTES_MAX (4u << 20) /* a CA file; today's bundles have 0.2 MiB */
#define LIST_ENTRY_MAX 1200u    /* host:port: and 16 addresses */

typedef struct curl_state {
  msock_http_env env;
  msock_loop *loop;
  CURLM *multi;
  msock_loop_timer timer;
  msock_loop_timer reap; /* finished transfers are looked at outside libcurl's own calls */
  char *ca_pem;          /* system roots and ca_file together; NULL when there is no ca_file */
  size_t ca_pem_len;
  bool ca_failed;
  char ca_why[MSOCK_FILE_WHY_MAX];
} curl_state;

typedef struct call {
  curl_state *s;
  void *token;
  CURL *easy;
  bool added;
  struct curl_slist *headers, *resolve_list, *connect_to;
  msock_resolve *resolve;
  msock_purpose purpose;
  char look_up[256]; /* the name to resolve: the host, or the proxy's */
  uint16_t look_up_port;
  msock_loop_timer begin; /* start, or report a failure, in a later turn */
  char failure[MSOCK_HTTP_WHY_MAX];
  char curl_why[CURL_ERROR_SIZE];
  uint8_t *head, *body;
  size_t head_len, body_len, body_cap, max_body;
  bool too_long;
} call;

typedef struct watch {
  curl_state *s;
  msock_loop_fd *fd_watch;
  curl_socket_t fd;
} watch;

static const char *name(void) {
  static char text[32];
  snprintf(text, sizeof text, "libcurl/%s", curl_version_info(CURLVERSION_NOW)->version);
  return text;
}

/* libcurl's sockets and timer on the loop */

static void kick(curl_state *s, curl_socket_t fd, int mask) {
  int running;
  curl_multi_socket_action(s->multi, fd, mask, &running);
  msock_loop_set_deadline(s->loop, &s->reap, msock_loop_now_us());
}

static void on_watch(void *ctx, bool readable, bool writable) {
  watch *w = ctx;
  kick(w->s, w->fd, (readable ? CURL_CSELECT_IN : 0) | (writable ? CURL_CSELECT_OUT : 0));
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *of_socket) {
  curl_state *s = ctx;
  watch *w = of_socket;
  (void)easy;
  if (what == CURL_POLL_REMOVE) {
    if (w != NULL) {
      msock_loop_fd_free(w->fd_watch);
      free(w);
      curl_multi_assign(s->multi, fd, NULL);
    }
    return 0;
  }
  if (w == NULL) {
    w = calloc(1, sizeof *w);
    if (w == NULL) {
      return -1;
    }
    *w = (watch){.s = s, .fd = fd};
    w->fd_watch = msock_loop_fd_new(s->loop, fd, on_watch, w);
    if (w->fd_watch == NULL) {
      free(w);
      return -1;
    }
    curl_multi_assign(s->multi, fd, w);
  }
  msock_loop_fd_want(w->fd_watch, (what & CURL_POLL_IN) != 0, (what & CURL_POLL_OUT) != 0);
  return 0;
}

static int on_timeout(CURLM *multi, long ms, void *ctx) {
  curl_state *s = ctx;
  (void)multi;
  msock_loop_set_deadline(s->loop, &s->timer,
                          ms < 0 ? MSOCK_NEVER : msock_loop_now_us() + (uint64_t)ms * MSOCK_MS);
  return 0;
}

static void on_timer(void *ctx, uint64_t now_us) {
  (void)now_us;
  kick(ctx, CURL_SOCKET_TIMEOUT, 0);
}

static curl_socket_t on_open(void *ctx, curlsocktype purpose, struct curl_sockaddr *to) {
  call *c = ctx;
  msock_addr addr;
  int fd = -1;
  if (purpose != CURLSOCKTYPE_IPCXN || to->socktype != SOCK_STREAM ||
      !msock_sockaddr_to(&to->addr, &addr)) {
    return CURL_SOCKET_BAD;
  }
  const msock_err err = msock_egress_tcp_open(c->s->env.eg, c->purpose, &addr, &fd);
  if (err == MSOCK_ERR_DENIED) {
    snprintf(c->failure, sizeof c->failure, "the active profile forbids %s over %s",
             msock_purpose_text(c->purpose), addr.ip.family == 6 ? "IPv6" : "IPv4");
  }
  return err == MSOCK_OK ? fd : CURL_SOCKET_BAD;
}

static int on_close(void *ctx, curl_socket_t fd) {
  (void)ctx;
  return close(fd);
}

/* Bytes of the answer */

static size_t on_head(char *p, size_t size, size_t n, void *ctx) {
  call *c = ctx;
  const size_t len = size * n;
  if (len > 5 && memcmp(p, "HTTP/", 5) == 0) {
    c->head_len = 0; /* a new answer: after a 1xx */
  }
  if (c->head == NULL && (c->head = malloc(MSOCK_HTTP1_HEAD_MAX)) == NULL) {
    return 0;
  }
  if (len > MSOCK_HTTP1_HEAD_MAX - c->head_len) {
    c->too_long = true;
    return 0;
  }
  memcpy(c->head + c->head_len, p, len);
  c->head_len += len;
  return len;
}

static size_t on_body(char *p, size_t size, size_t n, void *ctx) {
  call *c = ctx;
  const size_t len = size * n;
  if (len > c->max_body - c->body_len) {
    c->too_long = true;
    return 0;
  }
  if (c->body_len + len > c->body_cap) {
    const size_t cap = 2 * (c->body_len + len);
    uint8_t *bigger = realloc(c->body, cap);
    if (bigger == NULL) {
      return 0;
    }
    c->body = bigger;
    c->body_cap = cap;
  }
  memcpy(c->body + c->body_len, p, len);
  c->body_len += len;
  return len;
}

/* The end of a call */

static void free_call(call *c) {
  msock_loop_set_deadline(c->s->loop, &c->begin, MSOCK_NEVER);
  msock_resolve_cancel(c->resolve);
  if (c->added) {
    curl_multi_remove_handle(c->s->multi, c->easy);
  }
  curl_easy_cleanup(c->easy);
  curl_slist_free_all(c->headers);
  curl_slist_free_all(c->resolve_list);
  curl_slist_free_all(c->connect_to);
  free(c->head);
  free(c->body);
  free(c);
}

static void cancel(void *impl) {
  free_call(impl);
}

static msock_err error_of(const call *c, CURLcode code) {
  switch (code) {
  case CURLE_OK:
    return MSOCK_OK;
  case CURLE_PEER_FAILED_VERIFICATION:
  case CURLE_SSL_CERTPROBLEM:
  case CURLE_SSL_ISSUER_ERROR:
    return MSOCK_ERR_AUTH;
  case CURLE_OPERATION_TIMEDOUT:
    return MSOCK_ERR_TIMEOUT;
  case CURLE_WEIRD_SERVER_REPLY:
  case CURLE_UNSUPPORTED_PROTOCOL:
  case CURLE_HTTP2:
    return MSOCK_ERR_INVALID;
  case CURLE_OUT_OF_MEMORY:
    return MSOCK_ERR_NOMEM;
  case CURLE_WRITE_ERROR:
    return c->too_long ? MSOCK_ERR_INVALID : MSOCK_ERR_NOMEM;
  case CURLE_COULDNT_CONNECT:
    return c->failure[0] != '\0' ? MSOCK_ERR_DENIED : MSOCK_ERR_IO;
  default:
    return MSOCK_ERR_IO;
  }
}

static void account(call *c) {
  long port = 0, request = 0;
  curl_off_t upload = 0;
  char *ip = NULL;
  msock_addr remote = {0};
  curl_easy_getinfo(c->easy, CURLINFO_PRIMARY_IP, &ip);
  curl_easy_getinfo(c->easy, CURLINFO_PRIMARY_PORT, &port);
  curl_easy_getinfo(c->easy, CURLINFO_REQUEST_SIZE, &request);
  curl_easy_getinfo(c->easy, CURLINFO_SIZE_UPLOAD_T, &upload);
  if (ip != NULL && msock_ip_parse(ip, &remote.ip) == MSOCK_OK) {
    remote.port = (uint16_t)port;
    msock_egress_account(c->s->env.eg, c->purpose, &remote, 1,
                         (uint64_t)request + (uint64_t)upload);
  }
}

static void report(call *c, CURLcode code) {
  msock_http_result r = {.err = error_of(c, code), .why = ""};
  curl_off_t connect = 0, ready = 0, total = 0;
  long status = 0;

  account(c);
  curl_easy_getinfo(c->easy, CURLINFO_CONNECT_TIME_T, &connect);
  curl_easy_getinfo(c->easy, CURLINFO_PRETRANSFER_TIME_T, &ready);
  curl_easy_getinfo(c->easy, CURLINFO_TOTAL_TIME_T, &total);
  curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
  r.connect_us = (uint64_t)connect;
  r.answer_us = total > ready && ready > 0 ? (uint64_t)(total - ready) : 0;
  r.total_us = (uint64_t)total;
  if (r.err == MSOCK_OK) {
    r.status = (int)status;
    r.body = c->body;
    r.body_len = c->body_len;
    r.head = c->head;
    r.head_len = c->head_len;
  } else {
    r.why = c->too_long              ? "the server's answer is longer than expected"
            : c->failure[0] != '\0'  ? c->failure
            : c->curl_why[0] != '\0' ? c->curl_why
                                     : curl_easy_strerror(code);
  }
  msock_http_done(c->token, &r);
  free_call(c);
}

static void on_reap(void *ctx, uint64_t now_us) {
  curl_state *s = ctx;
  CURLMsg *m;
  int left;
  (void)now_us;
  while ((m = curl_multi_info_read(s->multi, &left)) != NULL) {
    call *c = NULL;
    if (m->msg == CURLMSG_DONE) {
      const CURLcode code = m->data.result;
      curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c);
      report(c, code);
    }
  }
}

static void fail(call *c, msock_err err, const char *why) {
  const msock_http_result r = {.err = err, .why = why};
  msock_http_done(c->token, &r);
  free_call(c);
}

/* The beginning of a call */

static void add_to_multi(call *c) {
  curl_easy_setopt(c->easy, CURLOPT_RESOLVE, c->resolve_list);
  if (curl_multi_add_handle(c->s->multi, c->easy) != CURLM_OK) {
    fail(c, MSOCK_ERR_NOMEM, "out of memory");
    return;
  }
  c->added = true;
}

static void on_names(void *ctx, msock_err err, const msock_ip *ips, size_t n, const char *why) {
  call *c = ctx;
  char entry[LIST_ENTRY_MAX], ip[MSOCK_IP_TEXT_MAX];

  c->resolve = NULL;
  if (err != MSOCK_OK) {
    snprintf(c->failure, sizeof c->failure, "look-up of %.200s: %.80s", c->look_up, why);
    fail(c, err, c->failure);
    return;
  }
  size_t at = (size_t)snprintf(entry, sizeof entry, "%s:%u:", c->look_up, c->look_up_port);
  for (size_t i = 0; i < n; i++) {
    msock_ip_text(&ips[i], ip);
    const bool v6 = ips[i].family == 6;
    at += (size_t)snprintf(entry + at, sizeof entry - at, "%s%s%s%s", i > 0 ? "," : "",
                           v6 ? "[" : "", ip, v6 ? "]" : "");
  }
  c->resolve_list = curl_slist_append(NULL, entry);
  add_to_multi(c);
}

static void on_begin(void *ctx, uint64_t now_us) {
  call *c = ctx;
  (void)now_us;
  if (c->s->ca_failed) {
    fail(c, MSOCK_ERR_IO, c->s->ca_why);
    return;
  }
  if (c->look_up[0] == '\0') {
    add_to_multi(c);
    return;
  }
  const msock_err err =
      msock_egress_resolve(c->s->env.eg, c->purpose, c->look_up, 0, on_names, c, &c->resolve);
  if (err != MSOCK_OK) {
    fail(c, err, "the active profile forbids name look-ups; pin an address");
  }
}

/* Extra roots: libcurl takes one file or one blob, so both are put into one blob, once. */
static void load_ca(curl_state *s) {
  const char *system_path = msock_tls_roots_system_path(s->env.roots);
  const char *extra_path = msock_tls_roots_ca_file(s->env.roots);
  char *system = NULL, *extra = NULL;
  size_t system_len = 0, extra_len = 0;

  if (extra_path == NULL) {
    return;
  }
  s->ca_failed =
      (system_path[0] != '\0' && msock_file_read(system_path, CA_BYTES_MAX, false, &system,
                                                 &system_len, s->ca_why) != MSOCK_OK) ||
      msock_file_read(extra_path, CA_BYTES_MAX, false, &extra, &extra_len, s->ca_why) != MSOCK_OK;
  s->ca_pem = s->ca_failed ? NULL : malloc(system_len + extra_len + 1);
  if (s->ca_pem != NULL) {
    if (system_len > 0) {
      memcpy(s->ca_pem, system, system_len);
    }
    s->ca_pem[system_len] = '\n';
    memcpy(s->ca_pem + system_len + 1, extra, extra_len);
    s->ca_pem_len = system_len + 1 + extra_len;
  }
  free(system);
  free(extra);
}

static void set_tls(call *c, const msock_http_request *r) {
  const curl_state *s = c->s;
  const char *system_path = s->env.roots != NULL ? msock_tls_roots_system_path(s->env.roots) : "";
  curl_easy_setopt(c->easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
  curl_easy_setopt(c->easy, CURLOPT_SSL_VERIFYPEER, r->insecure_for_tests ? 0L : 1L);
  curl_easy_setopt(c->easy, CURLOPT_SSL_VERIFYHOST, r->insecure_for_tests ? 0L : 2L);
  if (s->ca_pem != NULL) {
    struct curl_blob blob = {.data = s->ca_pem, .len = s->ca_pem_len, .flags = CURL_BLOB_NOCOPY};
    curl_easy_setopt(c->easy, CURLOPT_CAINFO_BLOB, &blob);
  } else if (system_path[0] != '\0') {
    curl_easy_setopt(c->easy, CURLOPT_CAINFO, system_path);
  }
}

/* What to dial: a proxy, a given address, or the host after a look-up. */
static void set_route(call *c, const msock_http_request *r, const msock_http_url *u) {
  char text[400], ip[MSOCK_IP_TEXT_MAX];
  msock_http_url proxy;
  const uint16_t port = r->connect_port != 0 ? r->connect_port : u->port;
  const bool given = r->connect_ip.family != 0;

  curl_easy_setopt(c->easy, CURLOPT_PROXY, ""); /* never libcurl's own reading of the environment */
  if (!given && msock_egress_allows(c->s->env.eg, MSOCK_PURPOSE_PROXY) &&
      msock_http_env_proxy(u, text, sizeof text)) {
    /* The URL parser refuses user info: for the look-up only host and port matter. */
    const char *at = strrchr(text, '@');
    char bare[400];
    snprintf(bare, sizeof bare, "http://%s", at != NULL ? at + 1 : strstr(text, "://") + 3);
    curl_easy_setopt(c->easy, CURLOPT_PROXY, text);
    curl_easy_setopt(c->easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    if (msock_http_url_parse(bare, &proxy) == MSOCK_OK && !proxy.host_is_ip) {
      snprintf(c->look_up, sizeof c->look_up, "%s", proxy.host);
      c->look_up_port = proxy.port;
    }
    return;
  }
  if (given) {
    msock_ip_text(&r->connect_ip, ip);
    const bool v6 = r->connect_ip.family == 6;
    snprintf(text, sizeof text, "::%s%s%s:%u", v6 ? "[" : "", ip, v6 ? "]" : "", port);
    c->connect_to = curl_slist_append(NULL, text);
  } else if (!u->host_is_ip) {
    snprintf(c->look_up, sizeof c->look_up, "%s", u->host);
    c->look_up_port = port;
  }
  if (!given && port != u->port) {
    snprintf(text, sizeof text, ":::%u", port); /* any host, any port: the same host, that port */
    c->connect_to = curl_slist_append(NULL, text);
  }
  if (c->connect_to != NULL) {
    curl_easy_setopt(c->easy, CURLOPT_CONNECT_TO, c->connect_to);
  }
}

static void set_request(call *c, const msock_http_request *r) {
  CURL *e = c->easy;
  curl_easy_setopt(e, CURLOPT_URL, r->url);
  curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(e, CURLOPT_FORBID_REUSE, 1L);
  curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)(r->timeout_us / 1000 + 1));
  curl_easy_setopt(e, CURLOPT_ERRORBUFFER, c->curl_why);
  curl_easy_setopt(e, CURLOPT_PRIVATE, c);
  if (!msock_egress_allows(c->s->env.eg, MSOCK_PURPOSE_IPV6)) {
    curl_easy_setopt(e, CURLOPT_IPRESOLVE, (long)CURL_IPRESOLVE_V4);
  }
  curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_open);
  curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, c);
  curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, on_close);
  curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_head);
  curl_easy_setopt(e, CURLOPT_HEADERDATA, c);
  curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(e, CURLOPT_WRITEDATA, c);
  if (strcmp(r->method, "HEAD") == 0) {
    curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
  } else if (strcmp(r->method, "POST") == 0) {
    curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
    curl_easy_setopt(e, CURLOPT_COPYPOSTFIELDS, r->body_len > 0 ? r->body : "");
  }
  c->headers = curl_slist_append(NULL, "Expect:"); /* no 100-continue round trip */
  for (size_t i = 0; i < MSOCK_HTTP_HEADERS_MAX && r->headers[i] != NULL; i++) {
    c->headers = curl_slist_append(c->headers, r->headers[i]);
  }
  curl_easy_setopt(e, CURLOPT_HTTPHEADER, c->headers);
}

static bool headers_ok(const msock_http_request *r) {
  for (size_t i = 0; i < MSOCK_HTTP_HEADERS_MAX && r->headers[i] != NULL; i++) {
    if (strpbrk(r->headers[i], "\r\n") != NULL || strchr(r->headers[i], ':') == NULL) {
      return false;
    }
  }
  return true;
}

static msock_err start(void *state, const msock_http_request *r, const msock_http_url *url,
                       void *token, void **impl) {
  curl_state *s = state;
  if (!headers_ok(r)) {
    return MSOCK_ERR_INVALID;
  }
  call *c = calloc(1, sizeof *c);
  if (c == NULL || (c->easy = curl_easy_init()) == NULL) {
    free(c);
    return MSOCK_ERR_NOMEM;
  }
  c->s = s;
  c->token = token;
  c->purpose = r->purpose;
  c->max_body = r->max_body;
  msock_loop_timer_init(&c->begin, on_begin, c);
  set_request(c, r);
  set_tls(c, r);
  set_route(c, r, url);
  msock_loop_set_deadline(s->loop, &c->begin, msock_loop_now_us());
  *impl = c;
  return MSOCK_OK;
}

static void *open_state(const msock_http_env *env) {
  curl_state *s = calloc(1, sizeof *s);
  if (s == NULL || (s->multi = curl_multi_init()) == NULL) {
    free(s);
    return NULL;
  }
  s->env = *env;
  s->loop = msock_egress_loop(env->eg);
  msock_loop_timer_init(&s->timer, on_timer, s);
  msock_loop_timer_init(&s->reap, on_reap, s);
  curl_multi_setopt(s->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
  curl_multi_setopt(s->multi, CURLMOPT_SOCKETDATA, s);
  curl_multi_setopt(s->multi, CURLMOPT_TIMERFUNCTION, on_timeout);
  curl_multi_setopt(s->multi, CURLMOPT_TIMERDATA, s);
  if (env->roots != NULL) {
    load_ca(s);
  }
  return s;
}

static void close_state(void *state) {
  curl_state *s = state;
  msock_loop_set_deadline(s->loop, &s->timer, MSOCK_NEVER);
  msock_loop_set_deadline(s->loop, &s->reap, MSOCK_NEVER);
  curl_multi_cleanup(s->multi);
  msock_loop_set_deadline(s->loop, &s->timer, MSOCK_NEVER); /* cleanup may have set it again */
  free(s->ca_pem);
  free(s);
}

const msock_http_provider_ops msock_http_curl = {
    .name = name, .open = open_state, .close = close_state, .start = start, .cancel = cancel};
