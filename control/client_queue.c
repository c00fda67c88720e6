/* control/client_queue.c: what the machine shows outside: events, actions, texts for people. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/client_internal.h"

bool client_set_text(char **slot, const char *text) {
  char *copy = text ? strdup(text) : NULL;
  free(*slot);
  *slot = copy;
  return copy != NULL || text == NULL;
}

/* Makes room: the oldest ERROR or STATE goes first, they are said again. */
static void make_room(msock_control *c) {
  size_t victim = 0;
  for (size_t i = 0; i < c->n_events; i++) {
    if (c->events[i].kind == MSOCK_CONTROL_EV_ERROR ||
        c->events[i].kind == MSOCK_CONTROL_EV_STATE) {
      victim = i;
      break;
    }
  }
  free(c->events[victim].text);
  memmove(&c->events[victim], &c->events[victim + 1],
          (c->n_events - victim - 1) * sizeof *c->events);
  c->n_events--;
}

void client_push(msock_control *c, client_event e, const char *text) {
  if (e.kind == MSOCK_CONTROL_EV_NETMAP) { /* one says it for all */
    for (size_t i = 0; i < c->n_events; i++) {
      if (c->events[i].kind == MSOCK_CONTROL_EV_NETMAP) {
        return;
      }
    }
  }
  if (c->n_events == CLIENT_EVENTS_MAX) {
    make_room(c);
  }
  e.text = text && *text ? strdup(text) : NULL;
  c->events[c->n_events++] = e;
}

void client_error(msock_control *c, msock_control_error e, const char *text) {
  msock_logf(c->env->log, MSOCK_LOG_WARN, "control.error", "error=%s text=\"%s\"",
             msock_control_error_name(e), text);
  client_push(c, (client_event){.kind = MSOCK_CONTROL_EV_ERROR, .error = e}, text);
}

void client_set_state(msock_control *c, msock_control_state s) {
  if (c->state == s) {
    return;
  }
  msock_logf(c->env->log, MSOCK_LOG_INFO, "control.state", "from=%s to=%s",
             msock_control_state_name(c->state), msock_control_state_name(s));
  c->state = s;
  client_push(c, (client_event){.kind = MSOCK_CONTROL_EV_STATE, .state = s}, NULL);
}

bool msock_control_next_event(msock_control *c, msock_control_event *out) {
  if (c->n_events == 0) {
    return false;
  }
  client_event *e = &c->events[0];
  *out = (msock_control_event){.kind = e->kind,
                               .state = e->state,
                               .error = e->error,
                               .server_key = e->server_key,
                               .node_key = e->node_key};
  snprintf(out->text, sizeof out->text, "%s", e->text ? e->text : "");
  free(e->text);
  c->n_events--;
  memmove(&c->events[0], &c->events[1], c->n_events * sizeof *c->events);
  return true;
}

bool msock_control_next_action(msock_control *c, msock_control_action *out) {
  *out = (msock_control_action){.kind = MSOCK_CONTROL_NONE};
  if (c->act_close) {
    c->act_close = false;
    out->kind = MSOCK_CONTROL_CLOSE;
    return true;
  }
  if (c->act_fetch) {
    c->act_fetch = false;
    out->kind = MSOCK_CONTROL_FETCH_KEY;
    snprintf(out->text, sizeof out->text, "/key?v=%u", (unsigned)c->version);
    return true;
  }
  if (c->act_dial) {
    c->act_dial = false;
    c->dial_taken = true;
    out->kind = MSOCK_CONTROL_DIAL;
    out->host = c->host;
    out->port = c->port;
    out->tls = c->https;
    return true;
  }
  for (size_t i = 0; i < CLIENT_PINGS_MAX; i++) {
    if (c->pings[i]) {
      out->kind = MSOCK_CONTROL_PING_HEAD;
      snprintf(out->text, sizeof out->text, "%s", c->pings[i]);
      client_set_text(&c->pings[i], NULL);
      return true;
    }
  }
  return false;
}

void client_queue_free(msock_control *c) {
  for (size_t i = 0; i < c->n_events; i++) {
    free(c->events[i].text);
  }
  c->n_events = 0;
  for (size_t i = 0; i < CLIENT_PINGS_MAX; i++) {
    client_set_text(&c->pings[i], NULL);
  }
}
