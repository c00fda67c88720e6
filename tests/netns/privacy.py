"""What a tsnode puts on the wire, and what not: captures and system call traces."""
import re
import socket
import time

from capture import (DISCO_PING_BYTES, DISCO_PONG_BYTES, STUN_REQUEST, TCP, UDP, Capture, kind,
                     udp_ports)
from disco import borrow_private, ping, public_of, sender_key
from faults import OWN, TO_PUBLIC, TWO_RESTRICTED, back_on_direct, start_pair
from lab import HUB_IP, require, wait_until
from matrix import Convergence
from nat import GATEWAY, PUBLIC, RESTRICTED, NatLab
from paths import direct_address, local_status
from peers import Ours
from probes import FIRST_ADDRESSES, Train
from scenario import scenario
from tscontrol import CONTROL_PORT, OWN_RELAY_PORT

STUN_EVERY_S = 30.0
STUN_SLACK_S = 1.0
STUN_WATCH_S = 2 * STUN_EVERY_S + 5.0
ANSWER_S = 2.0         # for an answer to a crafted ping
DRAIN_S = 0.2
TRAFFIC_S = 3.0
DNS_PORTS = (53, 853, 5353, 5355)
PORT_MAP_PORTS = (1900, 5350, 5351)
METADATA_IP = "169.254.169.254"
PUBLIC_PAIR = {"lab_class": NatLab, "nats": {}}
HALF_PUBLIC = {"lab_class": NatLab, "nats": {"first": RESTRICTED, "second": PUBLIC}}


class Traced(Ours):
    """A tsnode whose network system calls go to a file."""

    def daemon_argv(self):
        self.trace_path = self.directory / "trace"
        return ["strace", "-D", "-f", "-qq", "-e", "trace=%network", "-o", self.trace_path,
                *super().daemon_argv()]

    def trace(self):
        return self.trace_path.read_text(errors="replace")


def data_port(node):
    """The port of the one UDP socket of a tsnode; fails when there is another number of them."""
    ports = udp_ports(node.process)
    require(len(ports) == 1, f"{node.name} has the UDP sockets {ports}")
    return next(iter(ports))


def check_one_source(packets, port):
    """Every outgoing STUN, disco and WireGuard datagram has the socket's port, and there is no
    other UDP. Gives how many there were of each kind."""
    counts = {}
    for packet in packets:
        if packet.proto == UDP and packet.out:
            what = kind(packet)
            counts[what] = counts.get(what, 0) + 1
            require(packet.sport == port and what != "other",
                    f"{what} from port {packet.sport} to {packet.dst}:{packet.dport}, "
                    f"the socket's is {port}")
    for what in ("stun", "disco", "wireguard"):
        require(counts.get(what), f"no {what} seen in {counts}")
    return counts


def check_no_side_traffic(packets):
    """No name look-up, port mapping, metadata or ICMP left the node. (Our own pings to the tailnet
    take the default route until the TUN is up.)"""
    for packet in packets:
        if packet.out:
            where = f"{packet.dst}:{packet.dport}"
            require(packet.dport not in DNS_PORTS, f"a name look-up to {where}")
            require(packet.dport not in PORT_MAP_PORTS, f"port mapping to {where}")
            require(packet.dst != METADATA_IP, f"cloud metadata asked at {where}")
            require(packet.proto in (TCP, UDP) or packet.dst in FIRST_ADDRESSES,
                    f"protocol {packet.proto} to {where}")


def check_confirmed_first(packets):
    """No WireGuard datagram leaves for an address before a pong came from there. Gives how many
    addresses were used."""
    confirmed, used = set(), set()
    for packet in packets:
        what = kind(packet)
        if not packet.out and what == "disco" and len(packet.payload) == DISCO_PONG_BYTES:
            confirmed.add((packet.src, packet.sport))
        if packet.out and what == "wireguard":
            address = (packet.dst, packet.dport)
            require(address in confirmed, f"WireGuard to {address} before a pong from there")
            used.add(address)
    require(used, "no WireGuard datagram was sent directly")
    return len(used)


def check_no_call_by_udp(packets):
    """Disco by UDP is pings and pongs, by their lengths; a call-me-maybe has 80 + 18 n bytes."""
    lengths = {len(packet.payload) for packet in packets if packet.out and kind(packet) == "disco"}
    require(lengths <= {DISCO_PING_BYTES, DISCO_PONG_BYTES}, f"disco of {lengths} bytes by UDP")


def check_trace(text, port):
    """Exactly one UDP socket was bound, to 0.0.0.0:0 or its later port, and no IPv6 one made."""
    made = re.findall(r"socket\((AF_INET6?), (SOCK_\w+)", text)
    require(made, "the trace has no socket call")
    families = {family for family, _ in made}
    require(families == {"AF_INET"}, f"sockets of {families}")
    datagram = sum(sort == "SOCK_DGRAM" for _, sort in made)
    require(datagram == 1, f"{datagram} UDP sockets made")
    udp = re.search(r"socket\(AF_INET, SOCK_DGRAM[^)]*\) = (\d+)", text)
    bound = re.findall(r"bind\(%s, \{sa_family=AF_INET, sin_port=htons\((\d+)\), "
                       r'sin_addr=inet_addr\("([0-9.]+)"\)' % udp.group(1), text)
    require(bound == [("0", "0.0.0.0")], f"the UDP socket was bound to {bound}")
    require(port > 0, "no port")


def stun_gaps(packets):
    """Seconds between the STUN requests to each server."""
    servers = {}
    for packet in packets:
        if packet.out and kind(packet) == "stun" and packet.payload.startswith(STUN_REQUEST):
            servers.setdefault((packet.dst, packet.dport), []).append(packet.when)
    return {server: [after - before for before, after in zip(times, times[1:])]
            for server, times in servers.items()}


# closes: T01 T02 T14 T27 T35 T46 PRIV-01 PRIV-02 (sockets) PRIV-04
@scenario(stand_in=False, **HALF_PUBLIC, **OWN)
def one_socket(lab):
    """trace and capture for 70 s, netcheck included: one UDP socket, 0.0.0.0:0, sends everything;
    no IPv6, no DNS, STUN at least every 30 s, nothing to an unconfirmed address"""
    node = Traced(lab, "first", direct=True)
    capture = Capture(node.namespace)
    peer = lab.ours("second", direct=True)
    found = Convergence(lab, node, peer, 15.0)
    require(found.direct_s, "no direct path")
    port = data_port(node)
    done = node.cli("netcheck", "--format=json")
    require(done.returncode == 0, f"netcheck gave {done.returncode}: {done.stderr}")
    train = Train(node, peer.address())
    rounds_began = time.monotonic()
    time.sleep(STUN_WATCH_S)
    train.finish()
    packets = capture.stop()
    counts = check_one_source(packets, port)
    check_no_side_traffic(packets)
    check_confirmed_first(packets)
    check_no_call_by_udp(packets)
    check_trace(node.trace(), port)
    steady = stun_gaps([packet for packet in packets if packet.when >= rounds_began])
    require(steady, "no STUN while nothing happened")
    for server, gaps in steady.items():
        require(gaps and max(gaps) <= STUN_EVERY_S + STUN_SLACK_S,
                f"STUN to {server} with gaps of {gaps} s")
    return (f"port {port}: {counts}; STUN gaps "
            f"{[round(gap, 1) for gaps in steady.values() for gap in gaps]} s")


# closes: PRIV-13 NC-22
@scenario(stand_in=False, **HALF_PUBLIC, **OWN)
def privacy_profile(lab):
    """a node with profile privacy-proxy: control, relay, STUN and peers get packets, nobody else"""
    settings = {"profile": "privacy-proxy"}
    node = lab.ours("first", direct=True, settings=settings)
    capture = Capture(node.namespace)
    peer = lab.ours("second", direct=True, settings=settings)
    found = Convergence(lab, node, peer, 15.0)
    require(found.direct_s, "no direct path")
    port = data_port(node)
    node.cli("netcheck")
    train = Train(node, peer.address())
    time.sleep(TRAFFIC_S)
    train.finish()
    packets = capture.stop()
    counts = check_one_source(packets, port)
    check_no_side_traffic(packets)
    check_confirmed_first(packets)
    remotes = {(packet.dst, packet.proto, packet.dport) for packet in packets
               if packet.out and packet.dst not in FIRST_ADDRESSES}
    allowed = {(HUB_IP, TCP, CONTROL_PORT), (HUB_IP, TCP, OWN_RELAY_PORT),
               (HUB_IP, UDP, OWN_RELAY_PORT), (lab.public_ip(peer), UDP, data_port(peer))}
    require(remotes <= allowed, f"packets to {remotes - allowed}")
    return f"{counts}, to {len(remotes)} remote sockets"


class Liar:
    """Sends disco pings to a node that has a public address, from a third place, with the disco
    key of its peer."""

    def __init__(self, lab, node, peer, capture):
        heard = [packet for packet in capture.packets if kind(packet) == "disco"]
        self.node_disco = sender_key(next(packet for packet in heard if packet.out))
        self.peer_disco = sender_key(next(packet for packet in heard if not packet.out))
        self.private = borrow_private(peer.process, self.peer_disco)
        require(public_of(self.private) == self.peer_disco, "found another key")
        self.target = (node.underlay_ip, data_port(node))
        self.link = lab.hub.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.link.bind((GATEWAY, 0))

    def answered(self, claimed_node_key, private=None):
        """True when a ping that claims this node key got any datagram back. What came before, such
        as the node's own pings after an honest one, is no answer."""
        private = private or self.private
        self.link.settimeout(DRAIN_S)
        try:
            while self.link.recv(2048):
                pass
        except TimeoutError:
            pass
        self.link.settimeout(ANSWER_S)
        self.link.sendto(ping(private, public_of(private), self.node_disco, claimed_node_key),
                         self.target)
        try:
            answer, _ = self.link.recvfrom(2048)
        except (TimeoutError, ConnectionRefusedError):
            return False
        return bool(answer)


def node_key_bytes(node):
    return bytes.fromhex(node.node_key().split(":")[1])


def counters(node):
    return local_status(node)["TSNode"]["Counters"]


# closes: T18 T19 T21 PRIV-06 PRIV-10 (live, beside the unit tests)
@scenario(stand_in=False, **PUBLIC_PAIR, **OWN)
def false_claims(lab):
    """a member that claims another's node key and a stranger get no answer, the honest member does;
    after a logout nobody does"""
    node = lab.ours("first", direct=True)
    capture = Capture(node.namespace)
    peer = lab.ours("second", direct=True)
    require(Convergence(lab, node, peer, 15.0).direct_s, "no direct path")
    liar = Liar(lab, node, peer, capture)
    own, honest = node_key_bytes(node), node_key_bytes(peer)
    before = counters(node)
    require(not liar.answered(own), "a ping that claims the node's own key was answered")
    require(not liar.answered(bytes(31) + b"\x01"), "a ping with an invented key was answered")
    require(not liar.answered(honest, private=b"\x08" + bytes(30) + b"\x40"),
            "a ping of a stranger was answered")
    after = counters(node)
    require(after["disco_rx_claim"] - before["disco_rx_claim"] == 2 and
            after["disco_rx_stranger"] - before["disco_rx_stranger"] == 1,
            f"counted {before} and {after}")
    require(liar.answered(honest), "the honest ping was not answered: the lab is wrong")
    logout = node.cli("logout")
    require(logout.returncode == 0, f"logout gave {logout.returncode}: {logout.stderr}")
    wait_until(lambda: local_status(node)["BackendState"] == "NeedsLogin", 10.0, "the logout")
    silent_since = time.monotonic()
    require(not liar.answered(honest), "a node without a netmap answered")
    capture.stop()
    said = {kind(packet) for packet in capture.sent(silent_since)} - {"stun", None}
    require(not said, f"without a netmap it sent {said}")


# closes: T15
@scenario(stand_in=False, **TWO_RESTRICTED, **OWN)
def rebind(lab):
    """debug rebind: another socket (inode) on the same port, and pings go on without a restart"""
    first, second = start_pair(lab, "tsnode-tsnode")
    before = udp_ports(first.process)
    train = Train(first, second.address())
    time.sleep(1.0)
    moment = time.monotonic()
    done = first.cli("debug", "rebind")
    require(done.returncode == 0, f"debug rebind: {done.stderr}")
    wait_until(lambda: train.first_answer_since(moment), 5.0, "an answer after the rebind")
    text = back_on_direct(lab, first, second)
    train.finish()
    after = udp_ports(first.process)
    require(list(before) == list(after), f"port {list(before)} became {list(after)}")
    port = next(iter(after))
    require(before[port][1] != after[port][1], "the same socket")
    silence = train.longest_silence(moment, moment + 2.0)
    return f"{text}, no answer for {silence:.2f} s at most, {train.lost(moment)} pings lost"


# closes: T47
@scenario(stand_in=False, **TO_PUBLIC, **OWN)
def called_by_relay(lab):
    """a relayed call-me-maybe makes the called node ping, and is no junk for WireGuard"""
    first, second = start_pair(lab, "tsnode-tsnode")
    capture = Capture(second.namespace)
    lab.routers["first"].block_udp()
    train = Train(first, second.address())
    wait_until(lambda: not direct_address(second), 15.0, "the relay to take over")
    lab.routers["first"].unblock_udp()
    wait_until(lambda: direct_address(second), 30.0, "a direct path again")
    train.finish()
    capture.stop()
    why = second.cli("why", first.address()).stdout
    require("it called, with" in why, f"no call came: {why}")
    found = counters(second)
    bad = {name: found[name] for name in ("rx_udp_junk", "wg_rx_bad_message", "wg_rx_auth_fail")
           if found[name]}
    require(not bad, f"taken for data: {bad}")
    return f"{sum(kind(packet) == 'disco' for packet in capture.sent())} disco datagrams sent"


# closes: T48
@scenario(stand_in=False, **TWO_RESTRICTED, **OWN)
def no_relay(lab):
    """without a relay rounds are skipped and loops live; when it is back it is used, and then a
    direct path"""
    first, second = start_pair(lab, "tsnode-tsnode")
    lab.control.kill()
    lab.routers["first"].block_udp()
    wait_until(lambda: not direct_address(first), 15.0, "the direct path to be left")
    require(not first.host_ping(second.address(), count=2, wait_s=1), "an answer by no path")
    lab.control.start()
    train = Train(first, second.address())
    began = time.monotonic()
    wait_until(lambda: train.answers_since(began), 60.0, "answers by the relay that is back")
    relayed = time.monotonic() - began
    lab.routers["first"].unblock_udp()
    train.finish()
    return f"relayed {relayed:.1f} s after its return, {back_on_direct(lab, first, second)}"
