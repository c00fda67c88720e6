#include "tsnode/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "io/unix_client.h"
#include "node/localapi.h"
#include "node/status_json.h"

#define WATCH_TARGET "/localapi/v0/watch-ipn-bus?mask=2" /* ipn.NotifyInitialState */
#define RETRY_US UINT64_C(200000) /* between looks while nobody can tell what is new */
#define SYSTEM_SOCKET "/run/tsnode/tsnode.sock"
#define SYSTEM_STATEDIR "/var/lib/tsnode"

msock_exit msock_cli_fail(msock_exit code, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  fputs("tsnode: ", stderr);
  vfprintf(stderr, fmt, ap);
  fputc('\n', stderr);
  va_end(ap);
  return code;
}

bool msock_cli_flags(const msock_verb *verb, const msock_flag *flags, size_t n_flags, int argc,
                     char **argv, size_t max_words, msock_words *words, msock_exit *code) {
  char why[MSOCK_FLAGS_WHY_MAX];
  bool help = false;
  *code = msock_flags_parse(flags, n_flags, argc, argv, words, &help, why);
  if (*code != MSOCK_EXIT_OK) {
    msock_cli_fail(*code, "%s: %s (see tsnode %s --help)", verb->name, why, verb->name);
    return false;
  }
  if (help) {
    printf("usage: tsnode [--socket PATH] %s%s%s\n\n%s\n", verb->name, *verb->usage ? " " : "",
           verb->usage, verb->sentence);
    if (n_flags > 0) {
      puts("\nflags:");
      msock_flags_print(stdout, flags, n_flags);
    }
    return false;
  }
  if (words->n > max_words) {
    *code = msock_cli_fail(MSOCK_EXIT_USAGE, "%s: unexpected \"%s\" (see tsnode %s --help)",
                           verb->name, words->at[max_words], verb->name);
    return false;
  }
  return true;
}

json_object *msock_cli_get(json_object *o, const char *name) {
  json_object *v = NULL;
  return json_object_is_type(o, json_type_object) && json_object_object_get_ex(o, name, &v) ? v
                                                                                            : NULL;
}

const char *msock_cli_str(json_object *o, const char *name) {
  json_object *v = msock_cli_get(o, name);
  return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
}

bool msock_cli_bool(json_object *o, const char *name) {
  json_object *v = msock_cli_get(o, name);
  return json_object_is_type(v, json_type_boolean) && json_object_get_boolean(v);
}

uint64_t msock_cli_u64(json_object *o, const char *name) {
  json_object *v = msock_cli_get(o, name);
  return json_object_is_type(v, json_type_int) ? json_object_get_uint64(v) : 0;
}

static msock_exit no_daemon(const msock_cli *cli, msock_err e, bool quiet) {
  if (quiet) {
    return e == MSOCK_ERR_TIMEOUT ? MSOCK_EXIT_TIMEOUT : MSOCK_EXIT_NO_DAEMON;
  }
  if (e == MSOCK_ERR_TIMEOUT) {
    return msock_cli_fail(MSOCK_EXIT_TIMEOUT, "the daemon on %s does not answer in time",
                          cli->socket);
  }
  if (e == MSOCK_ERR_DENIED) {
    return msock_cli_fail(MSOCK_EXIT_OTHER,
                          "no permission to open %s: try sudo, or name another socket with "
                          "--socket",
                          cli->socket);
  }
  if (e == MSOCK_ERR_IO) {
    return msock_cli_fail(MSOCK_EXIT_NO_DAEMON,
                          "the daemon is not running (nobody answers on %s). Start it with: %s\n"
                          "        or name the socket of a running one with --socket PATH",
                          cli->socket, geteuid() == 0 ? "tsnode daemon" : "sudo tsnode daemon");
  }
  return msock_cli_fail(MSOCK_EXIT_OTHER, "unexpected answer on %s: %s", cli->socket,
                        msock_err_text(e));
}

/* A refusal of the daemon, in its words. */
static msock_exit refused(const msock_unix_response *r, bool quiet) {
  json_object *doc = json_tokener_parse(r->body);
  const char *why = msock_cli_str(doc, "error");
  const msock_exit code = r->status == 400                                 ? MSOCK_EXIT_USAGE
                          : r->status == MSOCK_LOCALAPI_STATUS_NEEDS_LOGIN ? MSOCK_EXIT_NEEDS_LOGIN
                          : r->status == MSOCK_LOCALAPI_STATUS_STOPPED     ? MSOCK_EXIT_STOPPED
                          : r->status == 501                               ? MSOCK_EXIT_NOT_BUILT
                                                                           : MSOCK_EXIT_OTHER;
  if (!quiet) {
    if (*why) {
      msock_cli_fail(code, "%s", why);
    } else {
      msock_cli_fail(code, "the daemon answered with status %d", r->status);
    }
  }
  json_object_put(doc);
  return code;
}

static msock_exit ask(const msock_cli *cli, const msock_cli_call *call, msock_unix_response *r) {
  const uint64_t timeout_us = call->timeout_us ? call->timeout_us : MSOCK_CLI_CALL_US;
  const msock_err e =
      msock_unix_request(cli->socket, call->method, call->target, call->body, timeout_us, r);
  if (e != MSOCK_OK) {
    return no_daemon(cli, e, call->quiet);
  }
  if (r->status / 100 != 2) {
    const msock_exit code = refused(r, call->quiet);
    msock_unix_response_clear(r);
    return code;
  }
  return MSOCK_EXIT_OK;
}

msock_exit msock_cli_ask(const msock_cli *cli, const msock_cli_call *call, json_object **doc) {
  msock_unix_response r = {0};
  const msock_exit code = ask(cli, call, &r);
  *doc = NULL;
  if (code != MSOCK_EXIT_OK) {
    return code;
  }
  if (r.body_len > 0) {
    *doc = json_tokener_parse(r.body);
    if (*doc == NULL) {
      msock_unix_response_clear(&r);
      return msock_cli_fail(MSOCK_EXIT_OTHER, "the answer of the daemon is not JSON");
    }
  }
  msock_unix_response_clear(&r);
  return MSOCK_EXIT_OK;
}

msock_exit msock_cli_ask_bytes(const msock_cli *cli, const msock_cli_call *call, char **bytes,
                               size_t *len) {
  msock_unix_response r = {0};
  const msock_exit code = ask(cli, call, &r);
  *bytes = NULL;
  *len = 0;
  if (code == MSOCK_EXIT_OK) { /* the body is NUL-terminated, or absent */
    *bytes = r.body ? r.body : strdup("");
    *len = r.body_len;
  }
  return code;
}

msock_exit msock_cli_status(const msock_cli *cli, bool with_peers, bool quiet, json_object **doc) {
  const msock_cli_call call = {
      .method = "GET",
      .target = with_peers ? "/localapi/v0/status" : "/localapi/v0/status?peers=false",
      .quiet = quiet,
  };
  return msock_cli_ask(cli, &call, doc);
}

typedef struct news_wait {
  uint64_t state;
  const char *url;
  bool known; /* the first line, what is now, was read */
} news_wait;

static bool on_news(void *ctx, const char *text) {
  news_wait *w = ctx;
  json_object *doc = json_tokener_parse(text);
  const char *url = msock_cli_str(doc, "BrowseToURL");
  const bool same = !w->known && msock_cli_u64(doc, "State") == w->state &&
                    (*url == '\0' || strcmp(url, w->url) == 0);
  w->known = true;
  json_object_put(doc);
  return same;
}

void msock_cli_await_news(const msock_cli *cli, json_object *seen, uint64_t max_us) {
  news_wait w = {.state = msock_status_state_number(msock_cli_str(seen, "BackendState")),
                 .url = msock_cli_str(seen, "AuthURL")};
  int status = 0;
  const msock_err e = seen == NULL ? MSOCK_ERR_IO
                                   : msock_unix_request_lines(cli->socket, "GET", WATCH_TARGET,
                                                              NULL, max_us, on_news, &w, &status);
  if (e != MSOCK_ERR_TIMEOUT && (e != MSOCK_OK || status != 200)) {
    msock_cli_sleep_us(max_us < RETRY_US ? max_us : RETRY_US); /* no daemon, or it is busy */
  }
}

static bool has_ip(json_object *node, const char *text) {
  json_object *ips = msock_cli_get(node, "TailscaleIPs");
  const size_t n = json_object_is_type(ips, json_type_array) ? json_object_array_length(ips) : 0;
  for (size_t i = 0; i < n; i++) {
    const char *ip = json_object_get_string(json_object_array_get_idx(ips, i));
    if (ip != NULL && strcasecmp(ip, text) == 0) {
      return true;
    }
  }
  return false;
}

static bool is_named(json_object *node, const char *text) {
  const char *dns = msock_cli_str(node, "DNSName");
  const size_t len = strlen(text), dns_len = strlen(dns);
  const size_t label = strcspn(dns, ".");
  if (len == 0) {
    return false;
  }
  if (len == label && strncasecmp(dns, text, len) == 0) {
    return true;
  }
  if (strcasecmp(dns, text) == 0 ||
      (dns_len > 1 && len == dns_len - 1 && strncasecmp(dns, text, len) == 0)) {
    return true;
  }
  return strcasecmp(msock_cli_str(node, "HostName"), text) == 0;
}

json_object *msock_cli_find_node(json_object *status, const char *text) {
  json_object *self = msock_cli_get(status, "Self");
  json_object *peers = msock_cli_get(status, "Peer");
  if (has_ip(self, text)) {
    return self;
  }
  if (json_object_is_type(peers, json_type_object)) {
    json_object_object_foreach(peers, key, peer) {
      (void)key;
      if (has_ip(peer, text) || is_named(peer, text)) {
        return peer;
      }
    }
  }
  return is_named(self, text) ? self : NULL;
}

char *msock_cli_node_name(json_object *node, char buf[static MSOCK_CLI_NAME_MAX]) {
  const char *dns = msock_cli_str(node, "DNSName");
  if (*dns) {
    snprintf(buf, MSOCK_CLI_NAME_MAX, "%.*s", (int)strcspn(dns, "."), dns);
  } else {
    snprintf(buf, MSOCK_CLI_NAME_MAX, "%s", msock_cli_str(node, "HostName"));
  }
  return buf;
}

const char *msock_cli_node_ip(json_object *node, int family) {
  json_object *ips = msock_cli_get(node, "TailscaleIPs");
  const size_t n = json_object_is_type(ips, json_type_array) ? json_object_array_length(ips) : 0;
  for (size_t i = 0; i < n; i++) {
    const char *ip = json_object_get_string(json_object_array_get_idx(ips, i));
    if (ip != NULL && (family == 0 || (strchr(ip, ':') != NULL) == (family == 6))) {
      return ip;
    }
  }
  return "";
}

void msock_cli_sleep_us(uint64_t us) {
  struct timespec t = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000 * 1000)};
  while (nanosleep(&t, &t) != 0 && errno == EINTR) {
  }
}

static const char *variable(const char *name) {
  const char *v = getenv(name);
  return v != NULL && *v ? v : NULL;
}

char *msock_cli_default_socket(bool for_daemon, char buf[static MSOCK_CLI_PATH_MAX]) {
  const char *named = variable("TSNODE_SOCKET");
  const char *run = variable("XDG_RUNTIME_DIR");
  named = named ? named : variable("TS_SOCKET");
  if (named != NULL) {
    snprintf(buf, MSOCK_CLI_PATH_MAX, "%s", named);
    return buf;
  }
  if (geteuid() != 0 && run != NULL) {
    snprintf(buf, MSOCK_CLI_PATH_MAX, "%s/tsnode/tsnode.sock", run);
    if (for_daemon || access(buf, F_OK) == 0) { /* else the machine's daemon is meant */
      return buf;
    }
  } else if (geteuid() != 0 && for_daemon) {
    char dir[MSOCK_CLI_PATH_MAX];
    snprintf(buf, MSOCK_CLI_PATH_MAX, "%.200s/tsnode.sock", msock_cli_default_statedir(dir));
    return buf;
  }
  snprintf(buf, MSOCK_CLI_PATH_MAX, "%s", SYSTEM_SOCKET);
  return buf;
}

char *msock_cli_default_statedir(char buf[static MSOCK_CLI_PATH_MAX]) {
  const char *named = variable("TSNODE_STATE_DIR");
  const char *state = variable("XDG_STATE_HOME"), *home = variable("HOME");
  named = named ? named : variable("TS_STATE_DIR");
  if (named != NULL) {
    snprintf(buf, MSOCK_CLI_PATH_MAX, "%s", named);
  } else if (geteuid() != 0 && state != NULL) {
    snprintf(buf, MSOCK_CLI_PATH_MAX, "%s/tsnode", state);
  } else if (geteuid() != 0 && home != NULL) {
    snprintf(buf, MSOCK_CLI_PATH_MAX, "%s/.local/state/tsnode", home);
  } else {
    snprintf(buf, MSOCK_CLI_PATH_MAX, "%s", SYSTEM_STATEDIR);
  }
  return buf;
}
