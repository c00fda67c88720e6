/* tests/sim/io_process.h: programs of simulated hosts: the real node, control server and relay,
 * each with a loop, descriptors, files, a seeded random stream and clocks of its own.
 *
 * Everything above the system calls is the shipped code, io room included: egress, tcp, stream,
 * udp, http run as they are. What is put in its place at link time: io_loop.c    io/loop.h: turns
 * on virtual time, and the resolver io_calls.c   the socket calls (ld --wrap), by io_socket.c over
 * the network of net.h io_tls.c     io/tls.h: the messages of a TLS 1.2 handshake in size and
 * number, then plain bytes io_system.c  io/netlink.h, tun.h, file.h, memory.h, unix_server.h; the
 * LocalAPI has no clients
 *
 * One process runs at a time; whoever calls its code from outside of its turns goes through
 * sim_process_enter and sim_process_leave. */
#ifndef MSOCK_TESTS_SIM_IO_PROCESS_H
#define MSOCK_TESTS_SIM_IO_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/env.h"
#include "base/log.h"
#include "io/loop.h"
#include "tests/sim/net.h"

#define SIM_RESOLVE_US (8 * MSOCK_MS) /* answer of the resolver, name known or not */
#define SIM_TURNS_AT_ONCE_MAX 20000u  /* turns of one process at one microsecond: it spins */
#define SIM_ADDRESSES_MAX 16u

/* What the processes of one network share: names. */
typedef struct sim_io sim_io;
sim_io *sim_io_new(sim_net *net);
void sim_io_free(sim_io *io); /* after its processes; before the network */
sim_net *sim_io_net(const sim_io *io);
sim_world *sim_io_world(const sim_io *io);
/* From now on the name has this address, in place of another of the family; family 0: none. */
void sim_io_set_name(sim_io *io, const char *name, const msock_ip *ip);

/* Log lines of every process, besides the trace: errors and warnings, and with a trace the rest.
 * NULL: nobody. */
typedef struct sim_process sim_process;
typedef void (*sim_log_cb)(void *ctx, const sim_process *p, msock_log_level level,
                           const char *event, const char *text);
void sim_io_set_log(sim_io *io, sim_log_cb cb, void *ctx);

/* Files that outlive a process: path to bytes. */
typedef struct sim_disk sim_disk;
sim_disk *sim_disk_new(void);
void sim_disk_free(sim_disk *d);
void sim_disk_write(sim_disk *d, const char *path, const void *bytes, size_t len);
void sim_disk_remove(sim_disk *d, const char *path); /* absent is fine */
/* Writes fail from now on, as on a full disk. */
void sim_disk_set_full(sim_disk *d, bool full);

/* name: for the trace and the random stream; run: which start of it this is, so that each draws
 * other random bytes. disk is borrowed, may be NULL. */
sim_process *sim_process_new(sim_io *io, sim_host *host, const char *name, uint32_t run,
                             sim_disk *disk);
/* The end as the kernel makes it: descriptors close (the other ends are told if the host is on).
 * Its objects must be freed before, inside enter and leave; what it still says then is not sent
 * after sim_process_mute. */
void sim_process_free(sim_process *p);
/* kill -9: nothing that it does from now on leaves the process. */
void sim_process_mute(sim_process *p);

/* Nests; gives who ran before, for leave. */
sim_process *sim_process_enter(sim_process *p);
void sim_process_leave(sim_process *before);
/* A turn soon: after work was done to its objects from outside. */
void sim_process_wake(sim_process *p);

sim_io *sim_process_io(const sim_process *p);
sim_host *sim_process_host(const sim_process *p);
sim_world *sim_process_world(const sim_process *p);
const char *sim_process_name(const sim_process *p);
const msock_log *sim_process_log(const sim_process *p); /* into the world's trace */
msock_env sim_process_env(sim_process *p);

/* Clocks: now_us of the loop is the world's plus boot_offset_us; the wall clock is
 * SIM_WALL_START_US + the world's time since its start + wall_offset_us. Set at any time: a jump.
 */
void sim_process_set_boot_offset(sim_process *p, uint64_t boot_offset_us); /* before its loop */
void sim_process_set_wall_offset(sim_process *p, int64_t wall_offset_us);
uint64_t sim_process_now_us(const sim_process *p);
/* No turns until resumed; then the loop tells its owner how long that was. Switch the host off and
 * on around it. */
void sim_process_suspend(sim_process *p);
void sim_process_resume(sim_process *p);
/* The program said msock_loop_stop. */
bool sim_process_stopped(const sim_process *p);

/* CPU time of its turns so far, when accounting was on: CLOCK_THREAD_CPUTIME_ID. */
void sim_io_set_accounting(sim_io *io, bool on);
uint64_t sim_process_cpu_ns(const sim_process *p);
uint64_t sim_process_turns(const sim_process *p);

/* The host's side of the process's TUN device. */
typedef void (*sim_tun_cb)(void *ctx, const uint8_t *packet, size_t len);
void sim_process_on_tun(sim_process *p, sim_tun_cb cb, void *ctx);
/* A packet that the host sends into the tunnel; copied, read in a later turn. False: no device, or
 * its queue is full. */
bool sim_process_tun_inject(sim_process *p, const uint8_t *packet, size_t len);
/* What is set on the device: at most cap; gives the number. */
size_t sim_process_tun_addresses(const sim_process *p, msock_prefix *dst, size_t cap);
size_t sim_process_tun_routes(const sim_process *p, msock_prefix *dst, size_t cap);

#endif
