"""Disco pings that a member of the tailnet could send, sealed with libsodium: for showing which of
them a node answers. Source of the bytes: magicsock.md 1.1, 1.3."""
import ctypes
import ctypes.util
import os
import re

from capture import DISCO_HEAD_BYTES, DISCO_MAGIC
from lab import require

KEY_BYTES = 32
NONCE_BYTES = 24
TAG_BYTES = 16
TXID_BYTES = 12
PING, VERSION = 1, 0


def sodium():
    name = ctypes.util.find_library("sodium")
    require(name, "libsodium is not installed")
    return ctypes.CDLL(name)


def public_of(private):
    out = ctypes.create_string_buffer(KEY_BYTES)
    sodium().crypto_scalarmult_base(out, private)
    return out.raw


def sender_key(packet):
    """The disco key in the head of a captured disco datagram."""
    return packet.payload[len(DISCO_MAGIC):len(DISCO_MAGIC) + KEY_BYTES]


def ping(private, own_public, peer_public, claimed_node_key):
    """A sealed ping from the holder of `private` to `peer_public`."""
    body = bytes((PING, VERSION)) + os.urandom(TXID_BYTES) + claimed_node_key
    nonce = os.urandom(NONCE_BYTES)
    box = ctypes.create_string_buffer(TAG_BYTES + len(body))
    failed = sodium().crypto_box_easy(box, body, ctypes.c_ulonglong(len(body)), nonce, peer_public,
                                      private)
    require(failed == 0, "libsodium refused a key")
    packet = DISCO_MAGIC + own_public + nonce + box.raw
    require(len(packet) == DISCO_HEAD_BYTES + len(box.raw), "a ping of another length")
    return packet


def borrow_private(process, public):
    """The private disco key of a running daemon, found in its memory: keys live nowhere else. Root
    may read that; the lab needs a member that lies."""
    library = sodium()
    out = ctypes.create_string_buffer(KEY_BYTES)
    with open(f"/proc/{process.pid}/maps", encoding="ascii") as maps, \
            open(f"/proc/{process.pid}/mem", "rb") as memory:
        for line in maps:
            area = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw-p .* 0 *(\[heap\])?$", line)
            if not area:
                continue
            begin, end = int(area.group(1), 16), int(area.group(2), 16)
            memory.seek(begin)
            try:
                data = memory.read(end - begin)
            except OSError:
                continue  # not a page of ours to read
            for at in range(len(data) - KEY_BYTES + 1):
                # Clamped as X25519 asks: few places in memory look so.
                if data[at] & 7 or data[at + 31] & 0xc0 != 0x40:
                    continue
                candidate = data[at:at + KEY_BYTES]
                library.crypto_scalarmult_base(out, candidate)
                if out.raw == public:
                    return candidate
    require(False, "no private disco key in the daemon's memory")
    return None
