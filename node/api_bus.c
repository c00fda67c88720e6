/* LocalAPI's watch-ipn-bus: a line for each watcher whenever what the user sees has changed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/json_text.h"
#include "node/node_internal.h"
#include "node/status_json.h"

/* ipn.NotifyWatchOpt of tailscale 1.102: what a watcher gets at once. */
#define WANT_STATE (UINT64_C(1) << 1)
#define WANT_PREFS (UINT64_C(1) << 2)

/* What a line is about. */
enum { SAY_STATE = 1u << 0, SAY_URL = 1u << 1, SAY_PREFS = 1u << 2, SAY_ERROR = 1u << 3 };

static msock_localapi *api_of(const msock_node *n) {
  return msock_localapi_server_api(n->api_server);
}

static const char *url_of(const msock_node *n) {
  return n->control ? msock_control_auth_url(msock_control_link_machine(n->control)) : "";
}

/* One ipn.Notify, its newline in place of a NUL. Allocated; NULL without memory. */
static char *notify_text(const msock_node *n, unsigned say, size_t *len) {
  msock_json_text j = {0};
  char *prefs = (say & SAY_PREFS) != 0 ? msock_prefs_text(&n->state.prefs) : NULL;

  msock_json_open(&j, NULL, '{');
  msock_json_str(&j, "Version", TSNODE_VERSION);
  if ((say & SAY_STATE) != 0) {
    msock_json_u64(&j, "State", msock_status_state_number(n->bus.state));
  }
  if (prefs != NULL) {
    msock_json_raw(&j, "Prefs", prefs);
  }
  if ((say & SAY_URL) != 0) {
    msock_json_str(&j, "BrowseToURL", url_of(n));
  }
  if ((say & SAY_ERROR) != 0) { /* ErrMessage would end a stock client's wait */
    msock_json_open(&j, "TSNode", '{');
    msock_json_str(&j, "LastError", n->last_error);
    msock_json_close(&j, '}');
  }
  msock_json_close(&j, '}');
  free(prefs);
  char *text = msock_json_text_take(&j, len);
  if (text != NULL) {
    text[(*len)++] = '\n';
  }
  return text;
}

/* Without memory this line is missed; the next one tells the state again. */
static void push(msock_node *n, uint64_t now_us, msock_localapi_req req, unsigned say) {
  size_t len = 0;
  char *text = notify_text(n, say, &len);
  if (text != NULL) {
    msock_localapi_push(api_of(n), now_us, req, text, len);
    free(text);
  }
}

/* What of it differs from what was told last; that is now what was told. */
static unsigned news(msock_node *n) {
  msock_node_bus *b = &n->bus;
  const char *state = msock_node_backend_state(n);
  unsigned say = b->prefs_changed ? SAY_PREFS : 0;

  b->prefs_changed = false;
  if (b->state == NULL || strcmp(state, b->state) != 0) {
    b->state = state;
    say |= SAY_STATE;
  }
  if (strncmp(url_of(n), b->url, sizeof b->url - 1) != 0) {
    snprintf(b->url, sizeof b->url, "%s", url_of(n));
    say |= b->url[0] != '\0' ? SAY_URL : 0; /* a login that is over shows as the state */
  }
  if (strcmp(n->last_error, b->error) != 0) {
    memcpy(b->error, n->last_error, sizeof b->error);
    say |= SAY_ERROR;
  }
  return say;
}

void msock_node_watch(void *ctx, msock_localapi_req req, uint64_t mask) {
  msock_node *n = ctx;
  msock_node_bus *b = &n->bus;
  const uint64_t now_us = msock_loop_now_us();
  unsigned say = 0;

  if (b->n == MSOCK_NODE_WATCHERS_MAX) {
    msock_localapi_reply_error(api_of(n), now_us, req, 429,
                               "too many programs watch at once: end some of them");
    return;
  }
  msock_node_bus_pump(n, now_us); /* what is new by now is news to the others only */
  (void)news(n);
  b->reqs[b->n++] = req;
  msock_localapi_stream(api_of(n), now_us, req, "application/json");
  say |= (mask & WANT_STATE) != 0
             ? SAY_STATE | (*url_of(n) ? SAY_URL : 0) | (n->last_error[0] != '\0' ? SAY_ERROR : 0)
             : 0;
  say |= (mask & WANT_PREFS) != 0 ? SAY_PREFS : 0;
  push(n, now_us, req, say);
}

void msock_node_bus_gone(msock_node *n, msock_localapi_req req) {
  msock_node_bus *b = &n->bus;
  for (size_t i = 0; i < b->n; i++) {
    if (b->reqs[i].conn == req.conn && b->reqs[i].serial == req.serial) {
      b->reqs[i] = b->reqs[--b->n];
      return;
    }
  }
}

void msock_node_bus_pump(msock_node *n, uint64_t now_us) {
  if (n->bus.n == 0) {
    return;
  }
  const unsigned say = news(n);
  for (size_t i = 0; say != 0 && i < n->bus.n; i++) {
    push(n, now_us, n->bus.reqs[i], say);
  }
}
