/* tests/sim/io_internal.h: what the files of the simulated system share (io_process.h). */
#ifndef MSOCK_TESTS_SIM_IO_INTERNAL_H
#define MSOCK_TESTS_SIM_IO_INTERNAL_H

#include <sys/socket.h>

#include "io/loop.h"
#include "io/tun.h"
#include "tests/sim/io_process.h"

#define SIM_FD_BASE (1 << 20)            /* simulated descriptors begin here */
#define SIM_RECEIVE_BUFFER (256u * 1024) /* of a stream; above it the sender waits */
#define SIM_UDP_BUFFER (7u << 20)        /* MSOCK_UDP_SOCKET_BUFFER; full: datagrams are dropped */
#define SIM_TUN_QUEUE 500u               /* packets, as Linux; full: the host's packet is dropped */
#define SIM_ROUTES_MAX 64u               /* kept for questions */

typedef struct sim_fd sim_fd;

struct sim_process {
  sim_io *io;
  sim_host *host;
  char name[32];
  sim_rng rng;
  sim_disk *disk;
  msock_log log;
  uint64_t boot_offset_us;
  int64_t wall_offset_us;
  bool muted, stopped, in_turn;
  bool woken;       /* a turn is wanted, whatever the loop says */
  msock_loop *loop; /* NULL: none now */
  sim_event turn;
  uint64_t turns, cpu_ns;
  uint64_t busy_at_us; /* turns at this time: n_busy */
  uint32_t n_busy;
  bool asleep;
  uint64_t asleep_since_us;
  sim_fd *fds;
  msock_tun *tun;
  sim_tun_cb on_tun;
  void *on_tun_ctx;
  msock_prefix addresses[SIM_ADDRESSES_MAX], routes[SIM_ROUTES_MAX];
  size_t n_addresses, n_routes;
};

struct sim_io {
  sim_net *net;
  bool accounting;
  sim_log_cb log;
  void *log_ctx;
  struct sim_name *names;
};

/* io_process.c */
sim_process *sim_process_current(void); /* of the caller; there is one */
/* The address of a name; family 0: unknown. */
msock_ip sim_io_lookup(const sim_io *io, const char *name, uint8_t family);

/* io_loop.c */
void sim_loop_turn(msock_loop *loop, uint64_t slept_us);
/* When it has to turn next, by the world's clock. */
uint64_t sim_loop_next_us(const msock_loop *loop);
/* io_process.c: after that may have changed outside of a turn. */
void sim_process_rearm(sim_process *p);
void sim_loop_fd_changed(msock_loop_fd *w); /* its descriptor may be ready now; NULL is fine */

/* io_socket.c: one descriptor. Results are those of the system calls, errno set. */
sim_fd *sim_fd_of(int fd); /* NULL: not one of ours */
int sim_fd_open(bool datagram);
int sim_fd_bind(sim_fd *f, const msock_addr *on);
int sim_fd_connect(sim_fd *f, const msock_addr *to);
int sim_fd_listen(sim_fd *f);
int sim_fd_accept(sim_fd *f, msock_addr *peer);
void sim_fd_close(sim_fd *f);
void sim_fd_shutdown(sim_fd *f);
ssize_t sim_fd_send(sim_fd *f, const void *p, size_t len);
ssize_t sim_fd_recv(sim_fd *f, void *p, size_t cap);
int sim_fd_send_to(sim_fd *f, const msock_addr *to, const void *p, size_t len);
/* One datagram; its whole length, cut to cap in p. */
ssize_t sim_fd_recv_from(sim_fd *f, void *p, size_t cap, msock_addr *from);
int sim_fd_take_error(sim_fd *f);
msock_addr sim_fd_local(const sim_fd *f);
msock_addr sim_fd_remote(const sim_fd *f);
bool sim_fd_is_datagram(const sim_fd *f);
bool sim_fd_is_readable(const sim_fd *f);
bool sim_fd_is_writable(const sim_fd *f);
bool sim_fd_has_error(const sim_fd *f);
void sim_fd_watch(sim_fd *f, msock_loop_fd *w); /* who is told of changes; NULL: nobody */
/* What the end of a process does to its descriptors. */
void sim_fd_close_all(sim_process *p);

#endif
