#include "derp/frame.h"

#include <string.h>

#include "base/cursor.h"

static const uint8_t magic[MSOCK_DERP_MAGIC_LEN] = {0x44, 0x45, 0x52, 0x50, 0xf0, 0x9f, 0x94, 0x91};

msock_derp_header msock_derp_header_read(const uint8_t p[static MSOCK_DERP_HEADER_LEN]) {
  msock_reader r = msock_reader_init(p, MSOCK_DERP_HEADER_LEN);
  const uint8_t type = msock_read_u8(&r);
  return (msock_derp_header){.type = type, .len = msock_read_be32(&r)};
}

void msock_derp_header_write(uint8_t dst[static MSOCK_DERP_HEADER_LEN], msock_derp_header h) {
  msock_writer w = msock_writer_init(dst, MSOCK_DERP_HEADER_LEN);
  msock_write_u8(&w, h.type);
  msock_write_be32(&w, h.len);
}

static msock_node_key read_key(msock_reader *r) {
  msock_node_key k;
  msock_read_copy(r, k.b, sizeof k.b);
  return k;
}

/* Everything that is left. */
static const uint8_t *read_rest(msock_reader *r, size_t *len) {
  *len = r->bad ? 0 : r->left;
  return msock_read_bytes(r, *len);
}

static msock_err decode_server_key(msock_reader *r, msock_derp_frame *f) {
  if (r->left > MSOCK_DERP_SERVER_KEY_MAX) {
    return MSOCK_ERR_INVALID;
  }
  const uint8_t *m = msock_read_bytes(r, sizeof magic);
  f->u.server_key.key = read_key(r);
  f->u.server_key.extension = read_rest(r, &f->u.server_key.extension_len);
  return r->bad || memcmp(m, magic, sizeof magic) == 0 ? MSOCK_OK : MSOCK_ERR_INVALID;
}

static msock_err decode_client_info(msock_reader *r, msock_derp_frame *f) {
  if (r->left < MSOCK_DERP_CLIENT_INFO_MIN) {
    return MSOCK_ERR_SHORT;
  }
  if (r->left > MSOCK_DERP_CLIENT_INFO_MAX) {
    return MSOCK_ERR_INVALID;
  }
  f->u.client_info.key = read_key(r);
  f->u.client_info.box = read_rest(r, &f->u.client_info.box_len);
  return MSOCK_OK;
}

static msock_err decode_packet(msock_reader *r, msock_derp_frame *f) {
  f->u.packet.key = read_key(r);
  f->u.packet.data = read_rest(r, &f->u.packet.len);
  return f->u.packet.len <= MSOCK_DERP_PACKET_MAX ? MSOCK_OK : MSOCK_ERR_INVALID;
}

static msock_err decode_forward(msock_reader *r, msock_derp_frame *f) {
  f->u.forward.src = read_key(r);
  f->u.forward.dst = read_key(r);
  f->u.forward.data = read_rest(r, &f->u.forward.len);
  return f->u.forward.len <= MSOCK_DERP_PACKET_MAX ? MSOCK_OK : MSOCK_ERR_INVALID;
}

static void decode_peer_gone(msock_reader *r, msock_derp_frame *f) {
  f->u.peer_gone.key = read_key(r);
  f->u.peer_gone.has_reason = r->left > 0;
  if (f->u.peer_gone.has_reason) {
    f->u.peer_gone.reason = msock_read_u8(r);
  }
}

/* PEER: the address (18 bytes) and the flags (1) each came with a later server version. */
static void decode_peer_present(msock_reader *r, msock_derp_frame *f) {
  f->u.peer_present.key = read_key(r);
  if (r->left >= 18) {
    f->u.peer_present.has_addr = true;
    uint8_t ip[16];
    msock_read_copy(r, ip, sizeof ip);
    f->u.peer_present.addr.ip = msock_ip_unmap(msock_ip_from_bytes16(ip));
    f->u.peer_present.addr.port = msock_read_be16(r);
    f->u.peer_present.has_flags = r->left > 0;
    if (f->u.peer_present.has_flags) {
      f->u.peer_present.flags = msock_read_u8(r);
    }
  }
}

/* Frames whose size is fixed. */
static msock_err decode_exact(uint8_t type, msock_reader *r, msock_derp_frame *f) {
  switch (type) {
  case MSOCK_DERP_NOTE_PREFERRED:
    f->u.preferred = msock_read_u8(r) != 0;
    break;
  case MSOCK_DERP_CLOSE_PEER:
    f->u.close_peer = read_key(r);
    break;
  default: /* WatchConns: empty */
    break;
  }
  return r->left == 0 ? MSOCK_OK : MSOCK_ERR_INVALID;
}

msock_err msock_derp_frame_decode(uint8_t type, const uint8_t *payload, size_t len,
                                  msock_derp_frame *out) {
  msock_reader r = msock_reader_init(payload, len);
  msock_derp_frame f = {.type = type};
  msock_err err = MSOCK_OK;

  switch (type) {
  case MSOCK_DERP_SERVER_KEY:
    err = decode_server_key(&r, &f);
    break;
  case MSOCK_DERP_CLIENT_INFO:
    err = decode_client_info(&r, &f);
    break;
  case MSOCK_DERP_SERVER_INFO:
    f.u.server_info.box = read_rest(&r, &f.u.server_info.box_len);
    break;
  case MSOCK_DERP_SEND_PACKET:
  case MSOCK_DERP_RECV_PACKET:
    err = decode_packet(&r, &f);
    break;
  case MSOCK_DERP_KEEP_ALIVE: /* PEER: any length is accepted */
    break;
  case MSOCK_DERP_PEER_GONE:
    decode_peer_gone(&r, &f);
    break;
  case MSOCK_DERP_PEER_PRESENT:
    decode_peer_present(&r, &f);
    break;
  case MSOCK_DERP_FORWARD_PACKET:
    err = decode_forward(&r, &f);
    break;
  case MSOCK_DERP_NOTE_PREFERRED:
  case MSOCK_DERP_WATCH_CONNS:
  case MSOCK_DERP_CLOSE_PEER:
    err = decode_exact(type, &r, &f);
    break;
  case MSOCK_DERP_PING:
  case MSOCK_DERP_PONG:
    msock_read_copy(&r, f.u.ping, sizeof f.u.ping);
    break;
  case MSOCK_DERP_HEALTH:
    f.u.health.text = (const char *)read_rest(&r, &f.u.health.len);
    break;
  case MSOCK_DERP_RESTARTING:
    f.u.restarting.reconnect_in_ms = msock_read_be32(&r);
    f.u.restarting.try_for_ms = msock_read_be32(&r);
    break;
  default:
    return MSOCK_ERR_UNKNOWN;
  }
  if (r.bad) {
    return MSOCK_ERR_SHORT;
  }
  if (err == MSOCK_OK) {
    *out = f;
  }
  return err;
}

static void write_key(msock_writer *w, const msock_node_key *k) {
  msock_write_copy(w, k->b, sizeof k->b);
}

static void write_peer_present(msock_writer *w, const msock_derp_frame *f) {
  static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
  const msock_addr *a = &f->u.peer_present.addr;
  write_key(w, &f->u.peer_present.key);
  if (!f->u.peer_present.has_addr) {
    return;
  }
  if (a->ip.family == 4) {
    msock_write_copy(w, mapped, sizeof mapped);
    msock_write_copy(w, a->ip.b, 4);
  } else {
    msock_write_copy(w, a->ip.b, 16);
  }
  msock_write_be16(w, a->port);
  if (f->u.peer_present.has_flags) {
    msock_write_u8(w, f->u.peer_present.flags);
  }
}

/* Payload of the frames that carry bytes of any length. */
static bool write_long(msock_writer *w, const msock_derp_frame *f) {
  switch (f->type) {
  case MSOCK_DERP_SERVER_KEY:
    msock_write_copy(w, magic, sizeof magic);
    write_key(w, &f->u.server_key.key);
    msock_write_copy(w, f->u.server_key.extension, f->u.server_key.extension_len);
    return true;
  case MSOCK_DERP_CLIENT_INFO:
    write_key(w, &f->u.client_info.key);
    msock_write_copy(w, f->u.client_info.box, f->u.client_info.box_len);
    return true;
  case MSOCK_DERP_SERVER_INFO:
    msock_write_copy(w, f->u.server_info.box, f->u.server_info.box_len);
    return true;
  case MSOCK_DERP_SEND_PACKET:
  case MSOCK_DERP_RECV_PACKET:
    write_key(w, &f->u.packet.key);
    msock_write_copy(w, f->u.packet.data, f->u.packet.len);
    return f->u.packet.len <= MSOCK_DERP_PACKET_MAX;
  case MSOCK_DERP_FORWARD_PACKET:
    write_key(w, &f->u.forward.src);
    write_key(w, &f->u.forward.dst);
    msock_write_copy(w, f->u.forward.data, f->u.forward.len);
    return f->u.forward.len <= MSOCK_DERP_PACKET_MAX;
  case MSOCK_DERP_HEALTH:
    msock_write_copy(w, f->u.health.text, f->u.health.len);
    return true;
  default:
    return false;
  }
}

/* Payload of the others. */
static bool write_fixed(msock_writer *w, const msock_derp_frame *f) {
  switch (f->type) {
  case MSOCK_DERP_KEEP_ALIVE:
  case MSOCK_DERP_WATCH_CONNS:
    return true;
  case MSOCK_DERP_NOTE_PREFERRED:
    msock_write_u8(w, f->u.preferred ? 1 : 0);
    return true;
  case MSOCK_DERP_PEER_GONE:
    write_key(w, &f->u.peer_gone.key);
    if (f->u.peer_gone.has_reason) {
      msock_write_u8(w, f->u.peer_gone.reason);
    }
    return true;
  case MSOCK_DERP_PEER_PRESENT:
    write_peer_present(w, f);
    return true;
  case MSOCK_DERP_CLOSE_PEER:
    write_key(w, &f->u.close_peer);
    return true;
  case MSOCK_DERP_PING:
  case MSOCK_DERP_PONG:
    msock_write_copy(w, f->u.ping, sizeof f->u.ping);
    return true;
  case MSOCK_DERP_RESTARTING:
    msock_write_be32(w, f->u.restarting.reconnect_in_ms);
    msock_write_be32(w, f->u.restarting.try_for_ms);
    return true;
  default:
    return false;
  }
}

/* Payload length by type, so that nothing is written when it does not fit. */
static size_t payload_len(const msock_derp_frame *f) {
  switch (f->type) {
  case MSOCK_DERP_SERVER_KEY:
    return MSOCK_DERP_SERVER_KEY_MIN + f->u.server_key.extension_len;
  case MSOCK_DERP_CLIENT_INFO:
    return MSOCK_KEY_LEN + f->u.client_info.box_len;
  case MSOCK_DERP_SERVER_INFO:
    return f->u.server_info.box_len;
  case MSOCK_DERP_SEND_PACKET:
  case MSOCK_DERP_RECV_PACKET:
    return MSOCK_KEY_LEN + f->u.packet.len;
  case MSOCK_DERP_FORWARD_PACKET:
    return 2 * MSOCK_KEY_LEN + f->u.forward.len;
  case MSOCK_DERP_NOTE_PREFERRED:
    return 1;
  case MSOCK_DERP_PEER_GONE:
    return MSOCK_KEY_LEN + (f->u.peer_gone.has_reason ? 1 : 0);
  case MSOCK_DERP_PEER_PRESENT:
    return MSOCK_KEY_LEN + (f->u.peer_present.has_addr ? 18 : 0) +
           (f->u.peer_present.has_addr && f->u.peer_present.has_flags ? 1 : 0);
  case MSOCK_DERP_CLOSE_PEER:
    return MSOCK_KEY_LEN;
  case MSOCK_DERP_PING:
  case MSOCK_DERP_PONG:
  case MSOCK_DERP_RESTARTING:
    return 8;
  case MSOCK_DERP_HEALTH:
    return f->u.health.len;
  default:
    return 0;
  }
}

ptrdiff_t msock_derp_frame_encode(const msock_derp_frame *f, uint8_t *dst, size_t cap) {
  const size_t len = payload_len(f);
  if (len > UINT32_MAX) {
    return MSOCK_ERR_INVALID;
  }
  if (cap < MSOCK_DERP_HEADER_LEN || cap - MSOCK_DERP_HEADER_LEN < len) {
    return MSOCK_ERR_NOBUF;
  }
  msock_writer w = msock_writer_init(dst + MSOCK_DERP_HEADER_LEN, len);
  if (!write_long(&w, f) && !write_fixed(&w, f)) {
    return MSOCK_ERR_INVALID;
  }
  msock_derp_header_write(dst, (msock_derp_header){.type = f->type, .len = (uint32_t)len});
  return (ptrdiff_t)(MSOCK_DERP_HEADER_LEN + len);
}

msock_derp_verdict msock_derp_from_client(msock_derp_header h, bool is_mesh) {
  bool ok = true;
  switch (h.type) {
  case MSOCK_DERP_SEND_PACKET:
    ok = h.len >= MSOCK_KEY_LEN && h.len <= MSOCK_KEY_LEN + MSOCK_DERP_PACKET_MAX;
    break;
  case MSOCK_DERP_NOTE_PREFERRED:
    ok = h.len == 1;
    break;
  case MSOCK_DERP_PING:
    ok = h.len >= MSOCK_DERP_PING_LEN && h.len <= MSOCK_DERP_PING_MAX;
    break;
  case MSOCK_DERP_FORWARD_PACKET:
    ok =
        is_mesh && h.len >= 2 * MSOCK_KEY_LEN && h.len <= 2 * MSOCK_KEY_LEN + MSOCK_DERP_PACKET_MAX;
    break;
  case MSOCK_DERP_WATCH_CONNS:
    ok = is_mesh && h.len == 0;
    break;
  case MSOCK_DERP_CLOSE_PEER:
    ok = is_mesh && h.len == MSOCK_KEY_LEN;
    break;
  default:
    return MSOCK_DERP_SKIP;
  }
  return ok ? MSOCK_DERP_HANDLE : MSOCK_DERP_FATAL;
}
