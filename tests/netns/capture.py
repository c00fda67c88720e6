"""Everything that a node puts on its wire and takes from it: an AF_PACKET reader."""
import collections
import os
import re
import select
import socket
import struct
import threading
import time

ETH_P_ALL = 3
ETH_P_IP = 0x0800
PACKET_OUTGOING = 4  # linux/if_packet.h
SO_RCVBUFFORCE = 33
SOL_PACKET, PACKET_STATISTICS = 263, 6
BUFFER_BYTES = 16 << 20
SNAP_BYTES = 2048
POLL_S = 0.1
TCP, UDP = 6, 17

STUN_COOKIE = bytes.fromhex("2112a442")
STUN_REQUEST = bytes.fromhex("0001")
DISCO_MAGIC = bytes.fromhex("5453f09f92ac")
DISCO_HEAD_BYTES = 62       # magic, sender's key, nonce
DISCO_PING_BYTES = 124      # magicsock.md 1.3
DISCO_PONG_BYTES = 110

Packet = collections.namedtuple("Packet", "when out proto src sport dst dport payload")


def parse(data, when, out):
    """A Packet of an IPv4 datagram; None for anything else that is too short to be one."""
    if len(data) < 20 or data[0] >> 4 != 4:
        return None
    head = (data[0] & 15) * 4
    proto = data[9]
    src, dst = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
    body = data[head:int.from_bytes(data[2:4], "big")]
    if proto in (TCP, UDP) and len(body) >= 8:
        sport, dport = struct.unpack("!HH", body[:4])
        return Packet(when, out, proto, src, sport, dst, dport, body[8:] if proto == UDP else b"")
    return Packet(when, out, proto, src, 0, dst, 0, body)


def kind(packet):
    """"stun", "disco", "wireguard", or "other"; None for what is not UDP."""
    data = packet.payload
    if packet.proto != UDP:
        return None
    if len(data) >= 20 and data[4:8] == STUN_COOKIE and data[0] & 0xc0 == 0:
        return "stun"
    if data.startswith(DISCO_MAGIC):
        return "disco"
    if len(data) >= 4 and 1 <= data[0] <= 4 and data[1:4] == b"\0\0\0":
        return "wireguard"
    return "other"


class Capture(threading.Thread):
    """Reads an interface from its making until stop(). A kernel drop would hide a packet, and is a
    failure."""

    def __init__(self, namespace, interface="eth0"):
        super().__init__(daemon=True)
        self.packets = []
        self.other_protocols = collections.Counter()  # EtherTypes of outgoing frames: ARP, IPv6
        self.link = namespace.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self.link.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self.link.bind((interface, ETH_P_ALL))
        self.stopped = threading.Event()
        self.start()

    def run(self):
        while True:
            if not select.select([self.link], [], [], POLL_S)[0]:
                if self.stopped.is_set():
                    return
                continue
            data, address = self.link.recvfrom(SNAP_BYTES)
            out = address[2] == PACKET_OUTGOING
            packet = parse(data, time.monotonic(), out) if address[1] == ETH_P_IP else None
            if packet:
                self.packets.append(packet)
            elif out:
                self.other_protocols[address[1]] += 1

    def stop(self):
        """Ends it; gives the packets."""
        self.stopped.set()
        self.join()
        _, dropped = struct.unpack(
            "II", self.link.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self.link.close()
        if dropped:
            raise OSError(f"the capture lost {dropped} packets")
        return self.packets

    def sent(self, since=0.0):
        """Outgoing packets so far."""
        return [packet for packet in list(self.packets) if packet.out and packet.when >= since]


def udp_ports(process):
    """{local port: (address, inode)} of the UDP sockets of a process, both families, by /proc. The
    address is the kernel's hexadecimal form: 00000000 is 0.0.0.0."""
    own = set()
    for name in os.listdir(f"/proc/{process.pid}/fd"):
        try:
            match = re.match(r"socket:\[(\d+)\]", os.readlink(f"/proc/{process.pid}/fd/{name}"))
        except OSError:
            continue
        if match:
            own.add(match.group(1))
    found = {}
    for table in ("udp", "udp6"):
        with open(f"/proc/{process.pid}/net/{table}", encoding="ascii") as lines:
            for line in list(lines)[1:]:
                words = line.split()
                address, port = words[1].split(":")
                if words[9] in own:
                    found[int(port, 16)] = (address, int(words[9]))
    return found
