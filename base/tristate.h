/* base/tristate.h: yes, no, or not known yet (Tailscale's opt.Bool). */
#ifndef MSOCK_BASE_TRISTATE_H
#define MSOCK_BASE_TRISTATE_H

typedef enum msock_tristate {
  MSOCK_TRISTATE_UNKNOWN = 0,
  MSOCK_TRISTATE_FALSE,
  MSOCK_TRISTATE_TRUE
} msock_tristate;

#endif
