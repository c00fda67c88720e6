#include "derpd/page.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHART_W 960.0
#define CHART_H 150.0
#define SHOWN_MIN 20u /* samples: five minutes */

static const char style[] =
    ":root{--bg:#f6f7f9;--card:#fff;--ink:#1c2330;--dim:#667085;--line:#e4e7ec;--in:#2563eb;"
    "--out:#0d9488;--bad:#c2410c;--ok:#15803d}"
    "@media(prefers-color-scheme:dark){:root{--bg:#0e1116;--card:#171b22;--ink:#e6e9ef;"
    "--dim:#8b94a5;--line:#262c36;--in:#60a5fa;--out:#2dd4bf;--bad:#fb923c;--ok:#4ade80}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);"
    "font:14px/1.45 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}"
    "main{max-width:1100px;margin:0 auto;padding:28px 20px 60px}"
    "header{display:flex;gap:14px;align-items:baseline;flex-wrap:wrap;margin-bottom:20px}"
    "h1{font-size:22px;margin:0;letter-spacing:-.01em}h2{font-size:14px;margin:0 0 10px;"
    "font-weight:600}.dim{color:var(--dim)}.pill{padding:2px "
    "10px;border-radius:99px;font-size:12px;"
    "font-weight:600;color:#fff;background:var(--ok)}.pill.drain{background:var(--bad)}"
    ".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));gap:12px}"
    ".card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px "
    "16px}"
    ".card b{display:block;font-size:24px;font-weight:650;letter-spacing:-.02em;margin-top:2px;"
    "font-variant-numeric:tabular-nums}section{margin-top:14px}.two{display:grid;gap:12px;"
    "grid-template-columns:repeat(auto-fit,minmax(320px,1fr))}table{width:100%;border-collapse:"
    "collapse;font-variant-numeric:tabular-nums}th{font-weight:500;color:var(--dim);text-align:"
    "left;"
    "font-size:12px}th,td{padding:6px 8px 6px 0;border-bottom:1px solid var(--line);white-space:"
    "nowrap}tr:last-child td{border-bottom:0}td.n,th.n{text-align:right}.scroll{overflow-x:auto}"
    "code{font:12.5px ui-monospace,SFMono-Regular,Menlo,monospace}.tag{font-size:11px;padding:1px "
    "6px;border-radius:5px;border:1px solid var(--line);color:var(--dim);margin-right:4px}"
    ".tag.warn{color:var(--bad);border-color:var(--bad)}.bar{height:6px;border-radius:3px;"
    "background:var(--bad);min-width:2px}td.w{width:40%;white-space:normal}svg{display:block;"
    "width:100%;height:auto}.key{display:inline-block;width:10px;height:10px;border-radius:3px;"
    "margin:0 5px 0 12px}.empty{color:var(--dim);padding:6px 0}";

/* --- the curve --- */

void msock_derpd_history_add(msock_derpd_history *h, uint64_t now_us, uint64_t bytes_in,
                             uint64_t bytes_out) {
  const uint64_t span_us = now_us - h->last_us;
  if (h->last_us != 0 && span_us > 0) {
    h->in[h->at] = (bytes_in - h->last_in) * 1000000 / span_us;
    h->out[h->at] = (bytes_out - h->last_out) * 1000000 / span_us;
    h->at = (h->at + 1) % MSOCK_DERPD_HISTORY;
    h->n += h->n < MSOCK_DERPD_HISTORY;
  }
  h->last_in = bytes_in;
  h->last_out = bytes_out;
  h->last_us = now_us;
}

static uint64_t sample(const msock_derpd_history *h, const uint64_t *ring, size_t i) {
  return ring[(h->at + MSOCK_DERPD_HISTORY - h->n + i) % MSOCK_DERPD_HISTORY];
}

/* How many samples the width stands for: a young relay does not hide in the corner. */
static size_t shown(const msock_derpd_history *h) {
  return h->n > SHOWN_MIN ? h->n : SHOWN_MIN;
}

/* is_area: filled below; else a dashed line, which shows over the other where both are equal. */
static void draw_curve(const msock_derpd_history *h, const uint64_t *ring, uint64_t top,
                       bool is_area, msock_derpd_text *t) {
  if (h->n < 2) {
    return;
  }
  const double step = CHART_W / (double)(shown(h) - 1);
  const double left = CHART_W - step * (double)(h->n - 1);
  if (is_area) {
    msock_derpd_text_add(t,
                         "<polygon fill=\"var(--in)\" fill-opacity=\".16\" stroke=\"var(--in)\" "
                         "stroke-width=\"1.5\" points=\"%.1f,%.1f ",
                         left, CHART_H);
  } else {
    msock_derpd_text_add(t, "<polyline fill=\"none\" stroke=\"var(--out)\" stroke-width=\"2\" "
                            "stroke-dasharray=\"7 5\" points=\"");
  }
  for (size_t i = 0; i < h->n; i++) {
    const double y = CHART_H - 1 - (CHART_H - 11) * (double)sample(h, ring, i) / (double)top;
    msock_derpd_text_add(t, "%.1f,%.1f ", left + step * (double)i, y);
  }
  if (is_area) {
    msock_derpd_text_add(t, "%.1f,%.1f", CHART_W, CHART_H);
  }
  msock_derpd_text_add(t, "\"/>");
}

static void write_chart(const msock_derpd_history *h, msock_derpd_text *t) {
  uint64_t top = 1000;
  for (size_t i = 0; i < h->n; i++) {
    top = sample(h, h->in, i) > top ? sample(h, h->in, i) : top;
    top = sample(h, h->out, i) > top ? sample(h, h->out, i) : top;
  }
  msock_derpd_text_add(t,
                       "<section class=\"card\"><h2>Traffic, last %zu min"
                       "<span class=\"key\" style=\"background:var(--in)\"></span><span "
                       "class=\"dim\">from clients</span><span class=\"key\" "
                       "style=\"background:var(--out)\"></span><span class=\"dim\">to clients"
                       "</span><span class=\"dim\" style=\"float:right\">peak ",
                       shown(h) * (size_t)(MSOCK_DERPD_HISTORY_STEP_US / MSOCK_SEC) / 60);
  msock_derpd_text_size(t, top);
  msock_derpd_text_add(t,
                       "/s</span></h2><svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" "
                       "aria-label=\"bytes per second\">",
                       CHART_W, CHART_H);
  for (unsigned i = 1; i <= 3; i++) {
    msock_derpd_text_add(t,
                         "<line x1=\"0\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\" "
                         "stroke=\"var(--line)\"/>",
                         CHART_W, CHART_H * i / 4, CHART_H * i / 4);
  }
  draw_curve(h, h->in, top, true, t);
  draw_curve(h, h->out, top, false, t);
  msock_derpd_text_add(t, "</svg></section>");
}

/* --- numbers --- */

static void card(msock_derpd_text *t, const char *name, uint64_t v, const char *note) {
  msock_derpd_text_add(t,
                       "<div class=\"card\"><span class=\"dim\">%s</span><b>%" PRIu64 "</b>"
                       "<span class=\"dim\">%s</span></div>",
                       name, v, note);
}

static void size_card(msock_derpd_text *t, const char *name, uint64_t bytes, uint64_t packets) {
  msock_derpd_text_add(t, "<div class=\"card\"><span class=\"dim\">%s</span><b>", name);
  msock_derpd_text_size(t, bytes);
  msock_derpd_text_add(t, "</b><span class=\"dim\">%" PRIu64 " packets</span></div>", packets);
}

static uint64_t all_dropped(const msock_derp_server_stats *c) {
  uint64_t n = 0;
  for (unsigned d = 0; d < MSOCK_DERP_DROPS; d++) {
    n += c->dropped[d][0] + c->dropped[d][1];
  }
  return n;
}

static void write_cards(const msock_derpd_snapshot *s, msock_derpd_text *t) {
  const msock_derp_server_stats *c = &s->core;
  char note[64];
  uint64_t refused = 0;
  for (unsigned i = 0; i < MSOCK_DERP_CAUSES; i++) {
    refused += c->refused[i];
  }
  msock_derpd_text_add(t, "<div class=\"cards\">");
  snprintf(note, sizeof note, "%" PRIu64 " have their home here", c->home);
  card(t, "Connections", c->conns, note);
  snprintf(note, sizeof note, "%" PRIu64 " with several connections", c->dup_keys);
  card(t, "Nodes", c->keys, note);
  snprintf(note, sizeof note, "%" PRIu64 " since the start", c->flows_opened);
  card(t, "Pairs that talk", c->flows_open, note);
  size_card(t, "Relayed", c->bytes_out, c->packets_out);
  snprintf(note, sizeof note, "of %" PRIu64 " received", c->packets_in);
  card(t, "Dropped", all_dropped(c), note);
  card(t, "Refused", refused, "connections and pairs");
  snprintf(note, sizeof note, "%" PRIu64 " were not for us", s->stun.not_stun);
  card(t, "STUN answers", s->stun.success, note);
  msock_derpd_text_add(t, "<div class=\"card\"><span class=\"dim\">Memory</span><b>");
  msock_derpd_text_size(t, s->rss_bytes);
  msock_derpd_text_add(t, "</b><span class=\"dim\">");
  msock_derpd_text_size(t, c->memory_bytes);
  msock_derpd_text_add(t, " of waiting packets</span></div></div>");
}

/* --- reasons --- */

static const char *const drop_texts[MSOCK_DERP_DROPS] = {
    [MSOCK_DERP_DROP_UNKNOWN_DEST] = "The destination is not connected here",
    [MSOCK_DERP_DROP_UNKNOWN_DEST_ON_FWD] = "The same, for packets from the mesh",
    [MSOCK_DERP_DROP_GONE_DISCONNECTED] = "The destination left before its turn came",
    [MSOCK_DERP_DROP_QUEUE_HEAD] = "The destination reads too slowly: oldest packet of its queue",
    [MSOCK_DERP_DROP_QUEUE_TAIL] = "No room: packet larger than the queue, or memory used up",
    [MSOCK_DERP_DROP_WRITE_ERROR] = "The destination's connection broke while sending",
    [MSOCK_DERP_DROP_DUP_CLIENT] = "Several connections of the key, none of them active",
    [MSOCK_DERP_DROP_FLOW_LIMIT] = "A limit on pairs (limits.flow_*)",
};

static void reason_row(msock_derpd_text *t, const char *text, uint64_t n, uint64_t top) {
  msock_derpd_text_add(t, "<tr><td class=\"w\">");
  msock_derpd_text_html(t, text);
  msock_derpd_text_add(t,
                       "</td><td style=\"width:35%%\"><div class=\"bar\" style=\"width:%.1f%%\">"
                       "</div></td><td class=\"n\">%" PRIu64 "</td></tr>",
                       100.0 * (double)n / (double)top, n);
}

static void write_drops(const msock_derp_server_stats *c, msock_derpd_text *t) {
  uint64_t top = 0;
  for (unsigned d = 0; d < MSOCK_DERP_DROPS; d++) {
    const uint64_t n = c->dropped[d][0] + c->dropped[d][1];
    top = n > top ? n : top;
  }
  msock_derpd_text_add(t, "<div class=\"card\"><h2>Dropped packets, and why</h2>");
  if (top == 0) {
    msock_derpd_text_add(t, "<div class=\"empty\">None.</div></div>");
    return;
  }
  msock_derpd_text_add(t, "<table>");
  for (unsigned d = 0; d < MSOCK_DERP_DROPS; d++) {
    const uint64_t n = c->dropped[d][0] + c->dropped[d][1];
    if (n > 0) {
      reason_row(t, drop_texts[d], n, top);
    }
  }
  msock_derpd_text_add(t, "</table></div>");
}

static void write_refusals(const msock_derp_server_stats *c, msock_derpd_text *t) {
  uint64_t top = 0;
  for (unsigned i = 0; i < MSOCK_DERP_CAUSES; i++) {
    top = c->refused[i] > top ? c->refused[i] : top;
  }
  msock_derpd_text_add(t, "<div class=\"card\"><h2>Refused, and why</h2>");
  if (top == 0) {
    msock_derpd_text_add(t, "<div class=\"empty\">Nobody.</div></div>");
    return;
  }
  msock_derpd_text_add(t, "<table>");
  for (unsigned i = 0; i < MSOCK_DERP_CAUSES; i++) {
    if (c->refused[i] > 0) {
      reason_row(t, msock_derp_cause_text((msock_derp_cause)i), c->refused[i], top);
    }
  }
  msock_derpd_text_add(t, "</table></div>");
}

/* --- peers --- */

static uint64_t busy(const msock_derp_server_peer *p) {
  return p->rate_in + p->rate_out;
}

/* The busiest first, then those that have sent most. */
static int by_rate(const void *a, const void *b) {
  const msock_derp_server_peer *x = a, *y = b;
  if (busy(x) != busy(y)) {
    return busy(x) < busy(y) ? 1 : -1;
  }
  const uint64_t n = x->bytes_in + x->bytes_out, m = y->bytes_in + y->bytes_out;
  return n < m ? 1 : n > m ? -1 : 0;
}

static void size_cell(msock_derpd_text *t, uint64_t bytes, const char *per) {
  msock_derpd_text_add(t, "<td class=\"n\">");
  msock_derpd_text_size(t, bytes);
  msock_derpd_text_add(t, "%s</td>", per);
}

static void tag(msock_derpd_text *t, bool is, const char *name, bool warn) {
  if (is) {
    msock_derpd_text_add(t, "<span class=\"tag%s\">%s</span>", warn ? " warn" : "", name);
  }
}

static void peer_row(const msock_derp_server_peer *p, uint64_t now_us, msock_derpd_text *t) {
  char key[MSOCK_KEY_TEXT_MAX], brief[MSOCK_KEY_SHORT_MAX], from[MSOCK_ADDR_TEXT_MAX];
  msock_derpd_text_add(t, "<tr><td><code title=\"%s\">%s</code></td><td>%s</td><td>",
                       msock_node_key_text(&p->key, key), msock_node_key_short(&p->key, brief),
                       msock_addr_text(&p->from, from));
  msock_derpd_text_span(t, now_us - p->since_us);
  msock_derpd_text_add(t, "</td>");
  size_cell(t, p->rate_in, "/s");
  size_cell(t, p->rate_out, "/s");
  size_cell(t, p->bytes_in, "");
  size_cell(t, p->bytes_out, "");
  msock_derpd_text_add(t, "<td class=\"n\">%" PRIu32 "</td><td class=\"n\">%" PRIu64 "</td><td>",
                       p->queued, p->dropped);
  tag(t, p->is_home, "home", false);
  tag(t, p->is_mesh, "mesh", false);
  tag(t, p->is_watcher, "watches", false);
  tag(t, p->is_prober, "prober", false);
  tag(t, p->is_not_ideal, "not ideal", false);
  tag(t, p->conns > 1, p->is_active ? "duplicate, active" : "duplicate", true);
  tag(t, p->is_held, "held back", true);
  tag(t, p->is_over_quota, "over quota", true);
  msock_derpd_text_add(t, "</td></tr>");
}

/* Keeps the busiest rows of all connections in v; gives how many. */
static size_t gather(const msock_derp_server *core, uint64_t now_us, msock_derp_server_peer *v,
                     size_t cap) {
  uint32_t cursor = 0;
  size_t n = 0;
  msock_derp_server_peer p;
  while (msock_derp_server_next_peer(core, now_us, &cursor, &p)) {
    if (n == cap) { /* the lesser half makes room */
      qsort(v, n, sizeof *v, by_rate);
      n = cap / 2;
    }
    v[n++] = p;
  }
  qsort(v, n, sizeof *v, by_rate);
  return n < MSOCK_DERPD_PAGE_PEERS ? n : MSOCK_DERPD_PAGE_PEERS;
}

static void write_peers(const msock_derpd_snapshot *s, const msock_derp_server *core,
                        msock_derpd_text *t) {
  const size_t cap = 2 * MSOCK_DERPD_PAGE_PEERS;
  msock_derp_server_peer *v = calloc(cap, sizeof *v);
  const size_t n = v ? gather(core, s->now_us, v, cap) : 0;
  msock_derpd_text_add(t, "<section class=\"card\"><h2>Who is connected");
  if (s->core.conns > n) {
    msock_derpd_text_add(t, " <span class=\"dim\">the busiest %zu of %" PRIu64 "</span>", n,
                         s->core.conns);
  }
  msock_derpd_text_add(t, "</h2>");
  if (n == 0) {
    msock_derpd_text_add(t, "<div class=\"empty\">Nobody yet. <code>derpd map</code> prints what "
                            "the control server needs to send nodes here.</div>");
  } else {
    msock_derpd_text_add(
        t, "<div class=\"scroll\"><table><tr><th>Node<th>From<th>For<th class=\"n\">In"
           "<th class=\"n\">Out<th class=\"n\">Total in<th class=\"n\">Total out"
           "<th class=\"n\">Queue<th class=\"n\">Dropped<th></tr>");
    for (size_t i = 0; i < n; i++) {
      peer_row(&v[i], s->now_us, t);
    }
    msock_derpd_text_add(t, "</table></div>");
  }
  msock_derpd_text_add(t, "</section>");
  free(v);
}

void msock_derpd_page_write(const msock_derpd_snapshot *s, const msock_derpd_history *h,
                            const msock_derp_server *core, msock_derpd_text *t) {
  char key[MSOCK_KEY_TEXT_MAX];
  msock_derpd_text_add(t,
                       "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta "
                       "name=\"viewport\" content=\"width=device-width\"><meta http-equiv="
                       "\"refresh\" content=\"%u\"><title>derpd: ",
                       MSOCK_DERPD_PAGE_REFRESH_S);
  msock_derpd_text_html(t, s->hostname);
  msock_derpd_text_add(t, "</title><style>");
  msock_derpd_text_bytes(t, style, sizeof style - 1);
  msock_derpd_text_add(t, "</style></head><body><main><header><h1>");
  msock_derpd_text_html(t, s->hostname);
  msock_derpd_text_add(
      t, "</h1><span class=\"pill%s\">%s</span><span class=\"dim\">derpd " TSNODE_VERSION ", up ",
      s->draining ? " drain" : "", s->draining ? "draining" : "ready");
  msock_derpd_text_span(t, s->now_us - s->started_us);
  msock_derpd_text_add(t, "</span><code class=\"dim\">%s</code></header>",
                       msock_node_key_text(&s->key, key));
  write_cards(s, t);
  write_chart(h, t);
  write_peers(s, core, t);
  msock_derpd_text_add(t, "<section class=\"two\">");
  write_drops(&s->core, t);
  write_refusals(&s->core, t);
  msock_derpd_text_add(t, "</section></main></body></html>\n");
}
