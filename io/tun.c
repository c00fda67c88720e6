#include "io/tun.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SLOT_BYTES (MSOCK_PACKET_HEADROOM + MSOCK_TUN_PACKET_MAX + MSOCK_PACKET_TAILROOM)

struct msock_tun {
  int fd;
  char name[MSOCK_TUN_NAME_MAX];
  msock_loop_fd *watch;
  msock_tun_read_cb cb;
  void *ctx;
  msock_tun_stats stats;
  uint8_t *storage; /* MSOCK_BATCH_MAX slots */
  msock_packet pkts[MSOCK_BATCH_MAX];
};

static void on_readable(void *ctx, bool readable, bool writable) {
  msock_tun *t = ctx;
  size_t n = 0;
  (void)readable;
  (void)writable;

  while (n < MSOCK_BATCH_MAX) {
    uint8_t *slot = t->storage + n * SLOT_BYTES;
    const ssize_t got = read(t->fd, slot + MSOCK_PACKET_HEADROOM, MSOCK_TUN_PACKET_MAX);
    if (got <= 0) {
      break; /* EAGAIN; EIO while the device is down: the link monitor knows */
    }
    t->pkts[n++] = (msock_packet){
        .buf = slot, .cap = SLOT_BYTES, .off = MSOCK_PACKET_HEADROOM, .len = (uint32_t)got};
    t->stats.rx_packets++;
    t->stats.rx_bytes += (uint64_t)got;
  }
  if (n > 0) {
    t->cb(t->ctx, t->pkts, n, msock_loop_now_us());
  }
}

static msock_err refuse(const char *doing, char *why) {
  const int system_errno = errno;
  const char *hint = system_errno == EPERM || system_errno == EACCES
                         ? "; run as root or with CAP_NET_ADMIN, or use --tun none"
                     : system_errno == ENOENT || system_errno == ENODEV
                         ? "; load the tun module, or use --tun none"
                     : system_errno == EBUSY ? "; another program uses that device name"
                                             : "";
  snprintf(why, MSOCK_TUN_WHY_MAX, "cannot %s: %s%s", doing, strerror(system_errno), hint);
  return MSOCK_ERR_IO;
}

static msock_err attach(msock_tun *t, const char *name, char *why) {
  struct ifreq ifr = {.ifr_flags = IFF_TUN | IFF_NO_PI};
  if (strlen(name) >= sizeof ifr.ifr_name) {
    snprintf(why, MSOCK_TUN_WHY_MAX, "the TUN name %.40s is too long (at most 15 bytes)", name);
    return MSOCK_ERR_INVALID;
  }
  memcpy(ifr.ifr_name, name, strlen(name) + 1);
  t->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (t->fd < 0) {
    return refuse("open /dev/net/tun", why);
  }
  if (ioctl(t->fd, TUNSETIFF, &ifr) != 0) {
    return refuse("make the TUN device", why);
  }
  memcpy(t->name, ifr.ifr_name, sizeof t->name);
  t->name[sizeof t->name - 1] = '\0';
  return MSOCK_OK;
}

msock_err msock_tun_open(msock_loop *loop, const char *name, msock_tun_read_cb cb, void *ctx,
                         msock_tun **out, char why[static MSOCK_TUN_WHY_MAX]) {
  msock_tun *t = calloc(1, sizeof *t);
  if (t == NULL) {
    snprintf(why, MSOCK_TUN_WHY_MAX, "out of memory");
    return MSOCK_ERR_NOMEM;
  }
  t->cb = cb;
  t->ctx = ctx;
  t->fd = -1;
  const msock_err err = attach(t, name, why);
  if (err != MSOCK_OK) {
    msock_tun_free(t);
    return err;
  }
  t->storage = malloc(MSOCK_BATCH_MAX * SLOT_BYTES);
  t->watch = msock_loop_fd_new(loop, t->fd, on_readable, t);
  if (t->storage == NULL || t->watch == NULL) {
    msock_tun_free(t);
    snprintf(why, MSOCK_TUN_WHY_MAX, "out of memory");
    return MSOCK_ERR_NOMEM;
  }
  msock_loop_fd_want(t->watch, true, false);
  *out = t;
  return MSOCK_OK;
}

void msock_tun_free(msock_tun *t) {
  if (t == NULL) {
    return;
  }
  msock_loop_fd_free(t->watch);
  if (t->fd >= 0) {
    close(t->fd);
  }
  free(t->storage);
  free(t);
}

const char *msock_tun_name(const msock_tun *t) {
  return t->name;
}

size_t msock_tun_write(msock_tun *t, const msock_packet *pkts, size_t n) {
  size_t written = 0;
  for (size_t i = 0; i < n; i++) {
    const ssize_t rc = write(t->fd, msock_packet_data(&pkts[i]), pkts[i].len);
    if (rc < 0) {
      t->stats.tx_dropped++;
      continue;
    }
    written++;
    t->stats.tx_packets++;
    t->stats.tx_bytes += pkts[i].len;
  }
  return written;
}

void msock_tun_pause(msock_tun *t, bool pause) {
  msock_loop_fd_want(t->watch, !pause, false);
}

const msock_tun_stats *msock_tun_get_stats(const msock_tun *t) {
  return &t->stats;
}
