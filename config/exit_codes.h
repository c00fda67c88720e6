/* config/exit_codes.h: what a program's exit code says (requirements.md 5.3). Stable. */
#ifndef MSOCK_CONFIG_EXIT_CODES_H
#define MSOCK_CONFIG_EXIT_CODES_H

typedef enum msock_exit {
  MSOCK_EXIT_OK = 0,
  MSOCK_EXIT_OTHER = 1,
  MSOCK_EXIT_USAGE = 2,
  MSOCK_EXIT_NO_DAEMON = 3,
  MSOCK_EXIT_NEEDS_LOGIN = 4, /* also: the auth key was refused, an admin has to approve */
  MSOCK_EXIT_STOPPED = 5,
  MSOCK_EXIT_TIMEOUT = 6,
  MSOCK_EXIT_UNREACHABLE = 7, /* the peer gave no answer, or there is no such peer */
  MSOCK_EXIT_NOT_DIRECT = 8,  /* it answers, but only by a relay (--until-direct) */
  MSOCK_EXIT_REFUSED = 9,     /* by profile or policy */
  MSOCK_EXIT_CONFIG = 10,     /* configuration or state file refused */
  MSOCK_EXIT_NOT_BUILT = 11   /* feature not in this build */
} msock_exit;

#endif
