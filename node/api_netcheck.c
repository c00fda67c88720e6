/* LocalAPI's netcheck: each request waits for the end of one full round, shared with others. */
#include "node/netcheck_json.h"
#include "node/node_internal.h"

/* Two rounds of at most 5 s: one that is under way and is not full, then the full one. */
#define WAIT_US (12u * MSOCK_SEC)

static msock_localapi *api_of(const msock_node *n) {
  return msock_localapi_server_api(n->api_server);
}

static void on_wait_over(void *ctx, uint64_t now_us) {
  msock_node *n = ctx;
  for (size_t i = 0; i < n->netchecks.n; i++) {
    msock_localapi_reply_error(api_of(n), now_us, n->netchecks.reqs[i], 504,
                               "the network check did not end in time; is the node going down?");
  }
  n->netchecks.n = 0;
}

void msock_node_netcheck(void *ctx, msock_localapi_req req) {
  msock_node *n = ctx;
  const uint64_t now_us = msock_loop_now_us();

  if (msock_node_refuse_while_down(n, req)) {
    return;
  }
  if (n->netchecks.n == MSOCK_NODE_NETCHECKS_MAX) {
    msock_localapi_reply_error(api_of(n), now_us, req, 429,
                               "too many network checks at once: wait for some to end");
    return;
  }
  if (!msock_home_want_full(msock_homing_machine(n->homing), now_us)) {
    msock_localapi_reply_error(api_of(n), now_us, req, 503,
                               "there is no DERP map yet: the control server has not answered");
    return;
  }
  if (n->netchecks.n == 0) {
    msock_loop_timer_init(&n->netchecks.timer, on_wait_over, n);
    msock_loop_set_deadline(n->deps.loop, &n->netchecks.timer, now_us + WAIT_US);
  }
  n->netchecks.reqs[n->netchecks.n++] = req;
}

static msock_nat nat_of(const msock_node *n) {
  const msock_home_report *r = msock_home_report_of(msock_homing_machine(n->homing));
  const bool own_address = n->link && msock_link_has(n->link, &r->global_v4.ip);
  return msock_nat_of(r, own_address, msock_egress_allows(n->deps.egress, MSOCK_PURPOSE_DERP_HTTP));
}

void msock_node_netcheck_report(msock_node *n, uint64_t now_us, const msock_home_report *report) {
  if (n->netchecks.n == 0 || !report->final || !report->full) {
    return;
  }
  const msock_home *home = msock_homing_machine(n->homing);
  const msock_netcheck_view view = {
      .report = report,
      .map = msock_home_map(home),
      .home = msock_home_region(home),
      .nat = nat_of(n),
      .wall_us = msock_loop_wall_us() - (now_us - report->at_us),
  };
  for (size_t i = 0; i < n->netchecks.n; i++) {
    size_t len = 0;
    char *text = msock_netcheck_json(&view, &len);
    msock_localapi_reply(api_of(n), now_us, n->netchecks.reqs[i], 200, "application/json", text,
                         len);
  }
  n->netchecks.n = 0;
  msock_loop_set_deadline(n->deps.loop, &n->netchecks.timer, MSOCK_NEVER);
}

void msock_node_netcheck_gone(msock_node *n, msock_localapi_req req) {
  size_t kept = 0;
  for (size_t i = 0; i < n->netchecks.n; i++) {
    const msock_localapi_req *r = &n->netchecks.reqs[i];
    if (r->conn != req.conn || r->serial != req.serial) {
      n->netchecks.reqs[kept++] = *r;
    }
  }
  if (n->netchecks.n > 0 && kept == 0) {
    msock_loop_set_deadline(n->deps.loop, &n->netchecks.timer, MSOCK_NEVER);
  }
  n->netchecks.n = kept;
}

void msock_node_netcheck_stop(msock_node *n) {
  if (n->netchecks.n > 0) {
    n->netchecks.n = 0;
    msock_loop_set_deadline(n->deps.loop, &n->netchecks.timer, MSOCK_NEVER);
  }
}
