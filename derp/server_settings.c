#include "derp/server_settings.h"

msock_derp_server_settings msock_derp_server_settings_default(void) {
  return (msock_derp_server_settings){
      .conns_per_key = MSOCK_DERP_SERVER_CONNS_PER_KEY,
      .half_open = MSOCK_DERP_SERVER_HALF_OPEN,
      .prefix4_bits = MSOCK_DERP_SERVER_PREFIX4_BITS,
      .prefix6_bits = MSOCK_DERP_SERVER_PREFIX6_BITS,
      .flows = MSOCK_DERP_SERVER_FLOWS,
      .flow_idle_us = MSOCK_DERP_SERVER_FLOW_IDLE_US,
      .flow_pause_us = MSOCK_DERP_SERVER_FLOW_PAUSE_US,
      .queue_packets = MSOCK_DERP_SERVER_QUEUE_PACKETS,
      .queue_bytes = MSOCK_DERP_SERVER_QUEUE_BYTES,
      .queue_disco = MSOCK_DERP_SERVER_QUEUE_DISCO,
      .memory_bytes = MSOCK_DERP_SERVER_MEMORY_BYTES,
      .login_us = MSOCK_DERP_SERVER_LOGIN_US,
      .stall_us = MSOCK_DERP_SERVER_STALL_US,
      .mesh_stall_us = MSOCK_DERP_SERVER_MESH_STALL_US,
      .refusal_us = MSOCK_DERP_SERVER_REFUSAL_US,
  };
}

const char *msock_derp_server_settings_check(const msock_derp_server_settings *s) {
  const struct {
    bool bad;
    const char *why;
  } checks[] = {
      {s->half_open == 0, "half_open is 0: nobody could log in"},
      {s->half_open > MSOCK_DERP_SERVER_CONNS_MAX / 2, "half_open is over 65536"},
      {s->conns > MSOCK_DERP_SERVER_CONNS_MAX / 2, "conns is over 65536"},
      {s->prefix4_bits < 1 || s->prefix4_bits > 32, "prefix4_bits is not 1..32"},
      {s->prefix6_bits < 1 || s->prefix6_bits > 128, "prefix6_bits is not 1..128"},
      {s->accept.per_s > 0 && s->accept.burst == 0, "accept: a burst of 0 lets nobody in"},
      {s->accept_prefix.per_s > 0 && s->accept_prefix.burst == 0,
       "accept_prefix: a burst of 0 lets nobody in"},
      {s->flows == 0, "flows is 0: no packet could pass"},
      {s->flow_idle_us == 0, "flow_idle_us is 0"},
      {s->queue_packets == 0 || s->queue_disco == 0, "queue_packets or queue_disco is 0"},
      {s->queue_bytes < MSOCK_DERP_SERVER_BURST_MIN + 64, "queue_bytes is under one packet"},
      {s->memory_bytes < 1u << 20, "memory_bytes is under 1 MiB"},
      {s->login_us == 0 || s->stall_us == 0 || s->mesh_stall_us == 0,
       "login_us, stall_us or mesh_stall_us is 0"},
  };
  for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
    if (checks[i].bad) {
      return checks[i].why;
    }
  }
  return NULL;
}
