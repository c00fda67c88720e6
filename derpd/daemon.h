/* derpd/daemon.h: the running relay: wires settings, sockets, core, admission, quotas and the admin
 * listener; signals; the end. */
#ifndef MSOCK_DERPD_DAEMON_H
#define MSOCK_DERPD_DAEMON_H

#include "config/exit_codes.h"
#include "derpd/options.h"

/* Runs until a signal ends it. config is taken over. */
msock_exit msock_derpd_run(const msock_derpd_options *o, msock_config *config);
/* `derpd map`: key and certificate are made when absent, so that the pin is the one that the relay
 * will have. */
msock_exit msock_derpd_print_map(const msock_derpd_options *o, const msock_config *config);
/* Every problem on standard error; "derpd: file:line: field: ...". */
void msock_derpd_print_problems(const msock_config_report *r);

#endif
