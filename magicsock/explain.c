/* From facts to sentences: what tsnode why prints. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/env.h"
#include "magicsock/why.h"

#define RECENT_US (120 * MSOCK_SEC) /* a path lost since then is the news */
#define PATIENCE_US (5 * MSOCK_SEC) /* a search so young has not failed yet */
#define EVENTS_SHOWN 6u

typedef struct text {
  char *buf;
  size_t cap, len;
} text;

static void add(text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(text *t, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  const size_t left = t->len < t->cap ? t->cap - t->len : 0;
  const int n = vsnprintf(left > 0 ? t->buf + t->len : NULL, left, fmt, ap);
  va_end(ap);
  t->len += n > 0 ? (size_t)n : 0;
}

/* "0.8 s", "12 s", "3 min", "2 h" */
static const char *span(uint64_t us, char buf[static 24]) {
  const uint64_t s = us / MSOCK_SEC;
  if (s < 10) {
    snprintf(buf, 24, "%" PRIu64 ".%" PRIu64 " s", s, us / (100 * MSOCK_MS) % 10);
  } else if (s < 120) {
    snprintf(buf, 24, "%" PRIu64 " s", s);
  } else if (s < 7200) {
    snprintf(buf, 24, "%" PRIu64 " min", s / 60);
  } else {
    snprintf(buf, 24, "%" PRIu64 " h", s / 3600);
  }
  return buf;
}

static const char *millis(uint64_t us, char buf[static 24]) {
  snprintf(buf, 24, "%" PRIu64 ".%" PRIu64 " ms", us / 1000, us / 100 % 10);
  return buf;
}

static const char *addresses(uint32_t n) {
  return n == 1 ? "address" : "addresses";
}

static const char *place(const msock_addr *a, bool hide, char buf[static MSOCK_ADDR_TEXT_MAX]) {
  return hide ? "(hidden)" : msock_addr_text(a, buf);
}

static bool is_loss(uint8_t kind) {
  return kind == MSOCK_WHY_SILENT || kind == MSOCK_WHY_LAPSED || kind == MSOCK_WHY_WITHDRAWN ||
         kind == MSOCK_WHY_UNREACHABLE || kind == MSOCK_WHY_REBOUND ||
         kind == MSOCK_WHY_KEY_CHANGED;
}

static const msock_why_event *last_loss(const msock_why *w) {
  for (size_t i = w->n_events; i-- > 0;) {
    if (is_loss(w->events[i].kind)) {
      return w->now_us - w->events[i].at_us < RECENT_US ? &w->events[i] : NULL;
    }
  }
  return NULL;
}

/* When the search under way began: the first burst since the last path. */
static bool search_is_young(const msock_why *w) {
  uint64_t began_us = MSOCK_NEVER;
  for (size_t i = w->n_events; i-- > 0 && !is_loss(w->events[i].kind);) {
    const uint8_t kind = w->events[i].kind;
    if (kind == MSOCK_WHY_CONFIRMED) {
      break;
    }
    if (kind == MSOCK_WHY_BURST || kind == MSOCK_WHY_PEER_NEW) {
      began_us = w->events[i].at_us;
    }
  }
  return began_us != MSOCK_NEVER && w->now_us - began_us < PATIENCE_US;
}

/* Things that no waiting will change. */
static bool judge_fixed(const msock_why *w, msock_why_situation *out) {
  if (w->direct_off) {
    *out = MSOCK_WHY_IS_DIRECT_OFF;
  } else if (w->inert) {
    *out = MSOCK_WHY_IS_INERT;
  } else if (w->no_disco_key) {
    *out = MSOCK_WHY_IS_NO_DISCO_KEY;
  } else if (w->barred) {
    *out = MSOCK_WHY_IS_DATA_STALLED;
  } else if (w->lossy) {
    *out = MSOCK_WHY_IS_LOSSY;
  } else {
    return false;
  }
  return true;
}

msock_why_situation msock_why_judge(const msock_why *w) {
  msock_why_situation fixed;

  if (w->direct) {
    return MSOCK_WHY_IS_DIRECT;
  }
  if (judge_fixed(w, &fixed)) {
    return fixed;
  }
  if (w->offline) {
    return MSOCK_WHY_IS_OFFLINE;
  }
  if (last_loss(w) != NULL) {
    return MSOCK_WHY_IS_LOST;
  }
  if (search_is_young(w)) {
    return MSOCK_WHY_IS_PROBING;
  }
  if (!w->self_reflexive && !w->ping_heard) {
    return MSOCK_WHY_IS_NO_REFLEXIVE;
  }
  if (w->n_candidates == 0) {
    return MSOCK_WHY_IS_NO_CANDIDATES;
  }
  if (w->n_pinged > 0 && w->peer_private && !w->ping_heard) {
    return MSOCK_WHY_IS_PEER_PRIVATE; /* whatever our NAT is, it has nothing to meet */
  }
  if (w->self_hard) {
    return w->peer_hard ? MSOCK_WHY_IS_HARD_BOTH : MSOCK_WHY_IS_HARD_SELF;
  }
  if (w->n_pinged == 0) {
    return MSOCK_WHY_IS_IDLE;
  }
  return w->peer_hard ? MSOCK_WHY_IS_HARD_PEER : MSOCK_WHY_IS_NO_PONG;
}

static void add_path(text *t, const msock_why *w, const char *peer, const char *relay, bool hide) {
  char addr[MSOCK_ADDR_TEXT_MAX], rtt[24], age[24];

  if (w->direct) {
    add(t, "%s: direct %s, %s", peer, place(&w->addr, hide, addr), millis(w->rtt_us, rtt));
    if (w->pong_us != MSOCK_NEVER) {
      add(t, ", confirmed %s ago", span(w->now_us - w->pong_us, age));
    }
    add(t, "\n");
  } else if (!w->has_relay) {
    add(t, "%s: no path: neither a direct one nor a relay is known\n", peer);
  } else if (relay != NULL) {
    add(t, "%s: relay \"%s\"\n", peer, relay);
  } else {
    add(t, "%s: relay region %" PRIu64 "\n", peer, w->region);
  }
}

static void add_loss(text *t, const msock_why *w, bool hide) {
  const msock_why_event *ev = last_loss(w);
  char addr[MSOCK_ADDR_TEXT_MAX], age[24];

  add(t, "why: the path by %s was lost %s ago", place(&ev->addr, hide, addr),
      span(w->now_us - ev->at_us, age));
  switch (ev->kind) {
  case MSOCK_WHY_SILENT:
    add(t, " after %" PRIu32 " heartbeats without an answer\n", ev->value);
    break;
  case MSOCK_WHY_LAPSED:
    add(t, ": no pong for 6.5 s\n");
    break;
  case MSOCK_WHY_WITHDRAWN:
    add(t, ": the peer does not have that address any more\n");
    break;
  case MSOCK_WHY_UNREACHABLE:
    add(t, ": this system has no route to it\n");
    break;
  case MSOCK_WHY_REBOUND:
    add(t, ": our network or socket changed\n");
    break;
  default:
    add(t, ": a disco key changed\n");
    break;
  }
}

static void add_reason(text *t, const msock_why *w, msock_why_situation is, bool hide) {
  char left[24];
  const uint64_t wait = w->barred_until_us > w->now_us ? w->barred_until_us - w->now_us : 0;

  switch (is) {
  case MSOCK_WHY_IS_DIRECT:
    add(t, "why: pongs come from there");
    if (w->loss_permille > 0) {
      add(t, "; of the last pings %" PRIu32 ".%" PRIu32 " %% were lost", w->loss_permille / 10,
          w->loss_permille % 10);
    }
    add(t, "\n");
    break;
  case MSOCK_WHY_IS_DIRECT_OFF:
    add(t, "why: direct paths are switched off on this node\n");
    break;
  case MSOCK_WHY_IS_INERT:
    add(t, "why: this node has no UDP socket: binding it failed\n");
    break;
  case MSOCK_WHY_IS_NO_DISCO_KEY:
    add(t, "why: control knows no disco key of this peer: it cannot test paths\n");
    break;
  case MSOCK_WHY_IS_DATA_STALLED:
    add(t, "why: pings pass on the direct path and WireGuard does not; next try in %s\n",
        span(wait, left));
    break;
  case MSOCK_WHY_IS_LOSSY:
    add(t,
        "why: the direct path loses %" PRIu32 ".%" PRIu32
        " %% of pings, the relay hardly any; next look in %s\n",
        w->loss_permille / 10, w->loss_permille % 10, span(wait, left));
    break;
  case MSOCK_WHY_IS_LOST:
    add_loss(t, w, hide);
    break;
  case MSOCK_WHY_IS_NO_CANDIDATES:
    if (w->n_filtered > 0) {
      add(t, "why: no address of the peer may be used (%" PRIu32 " refused by policy)\n",
          w->n_filtered);
    } else {
      add(t, "why: the peer lists no address: relays only, or it has no network\n");
    }
    break;
  case MSOCK_WHY_IS_NO_REFLEXIVE:
    add(t, "why: STUN got no answer: no address of ours is known from outside\n");
    break;
  case MSOCK_WHY_IS_HARD_BOTH:
    add(t, "why: hard NAT on both sides: each destination sees other ports\n");
    break;
  case MSOCK_WHY_IS_HARD_SELF:
    add(t, "why: hard NAT on our side: each destination sees another port of ours\n");
    break;
  case MSOCK_WHY_IS_HARD_PEER:
    add(t, "why: hard NAT on the peer's side, it seems: it lists one address with several ports\n");
    break;
  case MSOCK_WHY_IS_PEER_PRIVATE:
    add(t, "why: the peer knows only private addresses of its own, and they give no pong here\n");
    break;
  case MSOCK_WHY_IS_OFFLINE:
    add(t, "why: control says that the peer is offline\n");
    break;
  case MSOCK_WHY_IS_PROBING:
    add(t, "why: looking for a direct path: pings sent to %" PRIu32 " %s\n", w->n_pinged,
        addresses(w->n_pinged));
    break;
  case MSOCK_WHY_IS_NO_PONG:
    add(t, "why: pings sent to %" PRIu32 " %s, no pong; %s\n", w->n_pinged, addresses(w->n_pinged),
        w->ping_heard  ? "the peer's pings do arrive here"
        : w->cmm_heard ? "no ping of the peer arrives, though it was heard by the relay"
                       : "nothing was heard from the peer either");
    break;
  case MSOCK_WHY_IS_IDLE:
    add(t, "why: nothing has been sent to this peer lately\n");
    break;
  }
}

static const char *advice(const msock_why *w, msock_why_situation is) {
  switch (is) {
  case MSOCK_WHY_IS_DIRECT:
    return "none needed";
  case MSOCK_WHY_IS_DIRECT_OFF:
    return "allow direct paths in the configuration if the relay is too slow";
  case MSOCK_WHY_IS_INERT:
    return "see the log for the error of bind: another program may have the port";
  case MSOCK_WHY_IS_NO_DISCO_KEY:
    return "start or update the node on the other side";
  case MSOCK_WHY_IS_DATA_STALLED:
    return "look for a firewall or MTU limit that drops large or unknown UDP between the two";
  case MSOCK_WHY_IS_LOSSY:
    return "check the link that loses packets; the relay is used until it is better";
  case MSOCK_WHY_IS_LOST:
    return "none while the search runs; if it stays so, check the peer's link or firewall";
  case MSOCK_WHY_IS_NO_CANDIDATES:
    return w->n_filtered > 0 ? "turn lan or ipv6 on if the peer is in the same network"
                             : "allow direct paths on the other node, if it is meant to have them";
  case MSOCK_WHY_IS_NO_REFLEXIVE:
    return "let UDP out to the relays' STUN ports (3478), or check that they answer";
  case MSOCK_WHY_IS_HARD_BOTH:
    return "forward a UDP port to one of the two nodes and give it as its fixed port";
  case MSOCK_WHY_IS_HARD_SELF:
    return "forward a UDP port on our side and set it as fixed port, unless the other side is open";
  case MSOCK_WHY_IS_HARD_PEER:
    return "forward a UDP port to one of the two nodes and give it as its fixed port";
  case MSOCK_WHY_IS_PEER_PRIVATE:
    return "run netcheck on the peer: its STUN gets no answer; let UDP out there";
  case MSOCK_WHY_IS_OFFLINE:
    return "start the node on the other side, or see what keeps it from its control server";
  case MSOCK_WHY_IS_PROBING:
    return "wait some seconds";
  case MSOCK_WHY_IS_NO_PONG:
    return w->ping_heard ? "our UDP does not reach the peer: check firewalls on its side and ours"
                         : "a firewall drops UDP on one side: forward a UDP port there";
  case MSOCK_WHY_IS_IDLE:
    break;
  }
  return "send something: the search starts with the first packet";
}

/* Events about an address: what stands before it and behind it. */
static const struct {
  const char *before, *after;
} of_address[] = {
    [MSOCK_WHY_PING_IN] = {"its ping came from ", ""},
    [MSOCK_WHY_CONFIRMED] = {"confirmed ", ", "},
    [MSOCK_WHY_SWITCHED] = {"changed to ", ", "},
    [MSOCK_WHY_SILENT] = {"left ", ": heartbeats without an answer: "},
    [MSOCK_WHY_LAPSED] = {"left ", ": no pong for 6.5 s"},
    [MSOCK_WHY_WITHDRAWN] = {"left ", ": withdrawn"},
    [MSOCK_WHY_UNREACHABLE] = {"left ", ": no route"},
    [MSOCK_WHY_DATA_STALLED] = {"left ", " for a while: WireGuard does not pass there"},
    [MSOCK_WHY_LOSSY] = {"left ", " for a while: loss in permille: "},
    [MSOCK_WHY_RETURNED] = {"", " may be used again"},
    [MSOCK_WHY_REBOUND] = {"left ", ": our network or socket changed"},
    [MSOCK_WHY_KEY_CHANGED] = {"left ", ": a disco key changed"},
    [MSOCK_WHY_FLAP_GUARD] = {"", " keeps being lost; pongs in a row that it needs: "},
};

static void add_address_event(text *t, const msock_why_event *ev, bool hide) {
  char addr[MSOCK_ADDR_TEXT_MAX], rtt[24];

  add(t, "%s%s%s", of_address[ev->kind].before, place(&ev->addr, hide, addr),
      of_address[ev->kind].after);
  if (ev->kind == MSOCK_WHY_CONFIRMED || ev->kind == MSOCK_WHY_SWITCHED) {
    add(t, "%s", millis(ev->value, rtt));
  } else if (ev->kind == MSOCK_WHY_SILENT || ev->kind == MSOCK_WHY_LOSSY ||
             ev->kind == MSOCK_WHY_FLAP_GUARD) {
    add(t, "%" PRIu32, ev->value);
  }
}

static void add_event(text *t, const msock_why *w, const msock_why_event *ev, bool hide) {
  char age[24];

  add(t, "  %s ago: ", span(w->now_us - ev->at_us, age));
  switch ((msock_why_kind)ev->kind) {
  case MSOCK_WHY_PEER_NEW:
    add(t, "new in the netmap, %" PRIu32 " usable %s", ev->value, addresses(ev->value));
    break;
  case MSOCK_WHY_BURST:
    add(t, "pinged %" PRIu32 " %s", ev->value, addresses(ev->value));
    break;
  case MSOCK_WHY_CMM_IN:
    add(t, "it called, with %" PRIu32 " usable %s", ev->value, addresses(ev->value));
    break;
  case MSOCK_WHY_CMM_OUT:
    add(t, "called it by the relay, with %" PRIu32 " %s", ev->value, addresses(ev->value));
    break;
  case MSOCK_WHY_CMM_HELD:
    add(t, "did not call: no address of ours is known from outside");
    break;
  case MSOCK_WHY_CMM_NO_REGION:
    add(t, "did not call: no relay is known for it");
    break;
  case MSOCK_WHY_NONE:
    break;
  default:
    add_address_event(t, ev, hide);
    break;
  }
  add(t, "\n");
}

size_t msock_why_explain(const msock_why *w, const char *peer, const char *relay, bool hide,
                         char *buf, size_t cap) {
  text t = {.buf = buf, .cap = cap};
  const msock_why_situation is = msock_why_judge(w);

  add_path(&t, w, peer, relay, hide);
  add_reason(&t, w, is, hide);
  if (w->n_events > 0) {
    add(&t, "last:\n");
  }
  for (size_t i = w->n_events > EVENTS_SHOWN ? w->n_events - EVENTS_SHOWN : 0; i < w->n_events;
       i++) {
    add_event(&t, w, &w->events[i], hide);
  }
  add(&t, "advice: %s\n", advice(w, is));
  return t.len;
}
