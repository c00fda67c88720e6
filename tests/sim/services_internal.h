/* tests/sim/services_internal.h: a server's process with the parts that all servers have. */
#ifndef MSOCK_TESTS_SIM_SERVICES_INTERNAL_H
#define MSOCK_TESTS_SIM_SERVICES_INTERNAL_H

#include "base/derp_map.h"
#include "io/egress.h"
#include "tests/sim/services.h"

typedef struct sim_server {
  sim_io *io;
  sim_host *host;
  char name[32];
  uint32_t runs;
  sim_process *process; /* NULL: down */
  msock_loop *loop;
  msock_egress *egress;
  uint64_t cpu_ns; /* of runs that are over */
} sim_server;

/* Starts the process and enters it: give the result to sim_process_leave. */
sim_process *sim_server_begin(sim_server *s);
/* The end: what is on top of the parts is gone; inside enter, which ends here. */
void sim_server_finish(sim_server *s, sim_process *before);
uint64_t sim_server_cpu_ns(const sim_server *s);

/* The region of this relay alone, with its pin. */
const msock_derp_region *sim_relay_map_region(const sim_relay *r);

#endif
