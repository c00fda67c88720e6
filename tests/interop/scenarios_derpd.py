"""derpd under stock clients: the only relay of two tailscaled without UDP, admission by headscale's
/verify, restarts, and what the stock tools say about it."""
import contextlib
import json
import pathlib
import re
import shutil
import socket
import time

from lab import DERP_NAME, HUB_IP, command, parse_json, require, wait_until
from peers import transfer
from scenario import scenario
from scenarios_traffic import check_pings, check_transfers, has_relay, join_both, pair
from servers import CONTROL_PORT, DERP_CODE, DERP_SITES, START_TIMEOUT_S, Derper

MESH_TIMEOUT_S = 20.0
MOVE_TIMEOUT_S = 90.0  # a stock node looks for another home every 20 to 26 s

BULK_BYTES = 100 << 20


def relayed_pair(lab):
    """Two stock nodes that have nothing but the relay."""
    first, second = lab.stock("first"), lab.stock("second")
    for node in (first, second):
        node.block_udp()
    join_both(first, second)
    first.wait_ping(second.address())
    return first, second


@scenario(stand_in=False)
def derpd_stock_pair(lab):
    """two stock nodes without UDP use derpd as their only region: pings, 100 MB over TCP"""
    # closes: M34 M35 M36
    first, second = relayed_pair(lab)
    log = lab.relay.process.log_since(0)
    for node in (first, second):  # the step of each in the relay's log: reserve, dial, communicate
        key = node.node_key()
        for event in ("reservation.accepted", "connection.opened"):
            require(re.search(rf" {event} .*key={key} ", log), f"no {event} of {node.name}")
        require(f"circuit.accepted src={key} " in log, f"no circuit.accepted of {node.name}")
    before = lab.relay.counters()
    pong = check_pings(first, second)
    seconds, intact = transfer(first, second, BULK_BYTES)
    require(intact, "bytes changed on the way")
    peer = first.peer(second)
    require(peer["CurAddr"] == "" and has_relay(peer), f"not relayed: {peer}")
    after = lab.relay.counters()
    relayed = after["derp_bytes_received"] - before["derp_bytes_received"]
    require(relayed >= BULK_BYTES, f"derpd saw {relayed:.0f} bytes of {BULK_BYTES}")
    return f"{pong}; {BULK_BYTES / seconds / 1e6:.1f} MB/s"


# -- restarts ------------------------------------------------------------------------------------

ECHO_PORT = 7103
ECHO_TIMEOUT_S = 60.0


class EchoSession:
    """A TCP session over the tunnel: what one end sends comes back from the other."""

    def __init__(self, first, second):
        listener = second.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind((second.address(), ECHO_PORT))
        listener.listen(1)
        self.near = first.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.near.settimeout(ECHO_TIMEOUT_S)
        self.near.connect((second.address(), ECHO_PORT))
        self.far, _ = listener.accept()
        self.far.settimeout(ECHO_TIMEOUT_S)
        listener.close()
        self.sent = 0

    def exchange(self, size_bytes=4096):
        """Bytes there and back; gives the seconds that took."""
        self.sent += 1
        return self.exchange_bytes(bytes([self.sent % 256]) * size_bytes)

    def exchange_bytes(self, payload):
        began = time.monotonic()
        self.near.sendall(payload)
        self.far.sendall(self.read(self.far, len(payload)))
        require(self.read(self.near, len(payload)) == payload, "bytes changed on the way")
        return time.monotonic() - began

    @staticmethod
    def read(link, size_bytes):
        got = b""
        while len(got) < size_bytes:
            chunk = link.recv(size_bytes - len(got))
            require(chunk, "the TCP session was lost")
            got += chunk
        return got

    def close(self):
        self.near.close()
        self.far.close()


@scenario(stand_in=False)
def derpd_restart(lab):
    """SIGTERM and a new derpd: no TCP session over the tunnel is lost, the exit status is 0"""
    # closes: M24 M43 SERVER-28
    first, second = relayed_pair(lab)
    session = EchoSession(first, second)
    session.exchange()
    key = relay_key(lab)
    require(lab.relay.health("/readyz") == 200, "not ready before the drain")
    healthy, ready = lab.relay.drain()
    require((healthy, ready) == (200, 503), f"while draining: healthz {healthy}, readyz {ready}")
    status = lab.relay.process.child.wait(START_TIMEOUT_S)
    lab.relay.process.child = None
    require(status == 0, f"derpd ended with status {status}")
    lab.relay.process.start()
    lab.relay.wait_ready()
    seconds = session.exchange()
    session.close()
    require(relay_key(lab) == key, "the relay has another key after its restart")
    return f"the session went on after {seconds:.1f} s"


@scenario(stand_in=False)
def derpd_killed(lab):
    """kill -9 under load: clients are back, the session lives, the identity is kept"""
    # closes: M25
    first, second = relayed_pair(lab)
    session = EchoSession(first, second)
    key = relay_key(lab)
    for _ in range(20):
        session.exchange(65536)
    lab.relay.kill()
    lab.relay.process.start()
    lab.relay.wait_ready()
    seconds = session.exchange(65536)
    session.close()
    require(relay_key(lab) == key, "the relay has another key after it was killed")
    return f"the session went on after {seconds:.1f} s"


def relay_key(lab):
    """The relay's public key, as its log tells it."""
    found = re.findall(r"relay\.identity key=(nodekey:[0-9a-f]{64})", lab.relay.process.log_since(0))
    require(found, "derpd's log does not tell its key")
    return found[-1]


@scenario(stand_in=False)
def derpd_sees_nothing(lab):
    """plain text that two nodes exchange is nowhere in the relay's memory"""
    # closes: D05
    first, second = relayed_pair(lab)
    session = EchoSession(first, second)
    before = lab.relay.counters()["derp_bytes_received"]
    session.exchange_bytes(MARKER * 4096)
    relayed = lab.relay.counters()["derp_bytes_received"] - before
    session.close()
    require(relayed > 2 * 4096 * len(MARKER), "the text did not pass the relay")
    memory = b"".join(memory_of(lab.relay.process.pid))
    key = bytes.fromhex(first.node_key().split(":")[1])
    require(key in memory, "this is not the relay's memory: it does not hold the node's public key")
    require(MARKER not in memory, "plain text in the relay's memory")
    return f"{len(memory) / 1e6:.0f} MB searched"


MARKER = b"plain text of the nodes, for nobody else;"


def memory_of(pid):
    """What a process can write to, region by region."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps:
        regions = [line.split() for line in maps]
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for where, rights, *_ in regions:
            if rights.startswith("rw"):
                begin, end = (int(number, 16) for number in where.split("-"))
                memory.seek(begin)
                try:
                    yield memory.read(end - begin)
                except OSError:
                    continue  # the kernel's own page


@scenario(stand_in=False, relays=2)
def derpd_two_regions(lab):
    """with a second region nodes move there while the first restarts, and back; sessions live"""
    first, second = relayed_pair_anywhere(lab)
    session = EchoSession(first, second)
    session.exchange()
    home = first.status()["Self"]["Relay"]
    by_code = {relay.site.code: relay for relay in lab.relays}
    other = next(code for code in by_code if code != home)
    times = []
    for leave, to in ((home, other), (other, home)):
        by_code[leave].process.stop()
        wait_until(lambda to=to: all(node.status()["Self"]["Relay"] == to
                                     for node in (first, second)),
                   MOVE_TIMEOUT_S, f"both nodes to move to {to}")
        times.append(session.exchange())
        by_code[leave].process.start()
        by_code[leave].wait_ready()
    session.close()
    return f"{home} -> {other} -> {home}; exchanges took {times[0]:.1f} s and {times[1]:.1f} s"


ONLY_TO_HUB = ("add table inet lab; "
               "add chain inet lab out { type filter hook output priority 0; }; "
               'add rule inet lab out oifname "eth0" ip daddr != %s meta l4proto udp drop')


def relayed_pair_anywhere(lab):
    """As relayed_pair, with whatever region each node likes best. STUN works: without UDP a stock
    node takes an answer to its ICMP echo for a living relay, and both regions have one address."""
    first, second = lab.stock("first"), lab.stock("second")
    for node in (first, second):
        node.namespace.nft(ONLY_TO_HUB % HUB_IP)
        node.up()
    first.wait_peer(second, lambda peer: peer["Relay"], "with a relay")
    first.wait_ping(second.address())
    return first, second


# -- admission -----------------------------------------------------------------------------------

VERIFY_URL = f"http://{HUB_IP}:{CONTROL_PORT}/verify"


@scenario(stand_in=False, derpd_flags=("-verify-client-url", VERIFY_URL))
def derpd_verify(lab):
    """admission by headscale's /verify: its nodes are let in, a stranger's key is not"""
    # closes: SERVER-22
    first, second = relayed_pair(lab)
    seconds, intact = transfer(first, second, 1 << 20)
    require(intact, "bytes changed on the way")
    before = lab.relay.counters()
    require(before["tsderp_admission_admitted_total"] >= 2, "nobody was admitted by the URL")
    require(before["tsderp_admission_refused_total"] == 0, "a node of the tailnet was refused")
    done = derpprobe(lab)
    after = lab.relay.counters()
    require(done.returncode != 0, "derpprobe, whose key headscale does not know, was let in")
    refused = after["tsderp_admission_refused_total"]
    require(refused >= 1, "the log has no refusal")
    return f"{before['tsderp_admission_admitted_total']:.0f} admitted, {refused:.0f} refused"


# -- what the stock tools say --------------------------------------------------------------------


@contextlib.contextmanager
def hosts_of(lab):
    """Programs that start in the hub meanwhile know the relay's name."""
    names = pathlib.Path("/etc/netns") / lab.hub.name  # what ip-netns(8) puts over /etc
    names.mkdir(parents=True)
    try:
        (names / "hosts").write_text(f"{HUB_IP} {DERP_NAME}\n")
        yield
    finally:
        shutil.rmtree(names)


def derpprobe_map(lab, derp_map, timeout_s=60.0):
    """derper's prober, once, against the relays of a map: TLS, STUN, and packets through them."""
    path = lab.directory / "derpmap.json"
    path.write_text(derp_map)
    argv = [str(lab.run.peer("derpprobe")), "-once", "-spread=false", "-derp-map", f"file://{path}"]
    return command(lab.hub.wrap(argv), timeout_s, env=lab.run.environment(lab.directory))


def derpprobe(lab):
    """The same against the first relay."""
    with hosts_of(lab):
        return derpprobe_map(lab, lab.relay.map("json", "--address", HUB_IP))


# closes: STUN-17 (the reference client, our server)
@scenario(stand_in=False)
def derpd_derpprobe(lab):
    """derper's own prober is content: TLS, STUN, and packets through the relay"""
    done = derpprobe(lab)
    text = f"{done.stdout}{done.stderr}"
    require(done.returncode == 0 and " bad: " not in text, f"derpprobe: {text.strip()}")
    good = re.findall(r" good: (\S+):", text)
    require(any(name.endswith("/mesh") for name in good) and
            any(name.endswith("/tls") for name in good), f"derpprobe left out probes: {good}")
    return f"{len(good)} probes"


@scenario(stand_in=False, pinned=True)
def derpd_debug_derp(lab):
    """`tailscale debug derp` finds nothing wrong"""
    node = lab.stock("node")
    node.up()
    report = parse_json(node.cli("debug", "derp", DERP_CODE).stdout, "debug derp")
    # The map says that the relay has no IPv6; the tool tries it all the same. And it dislikes every
    # map with one region.
    errors = [text for text in report.get("Errors") or [] if "over IPv6" not in text]
    require(not errors, f"errors: {errors}")
    warnings = [text for text in report.get("Warnings") or [] if "only a single" not in text]
    require(not warnings, f"warnings: {warnings}")
    return f"{len(report['Info'])} lines"


@scenario(stand_in=False, pinned=True)
def derpd_pinned(lab):
    """a relay with a certificate of its own at a bare address: `derpd map` is all that is needed"""
    # closes: CLIENT-16
    first, second = relayed_pair(lab)
    seconds, intact = transfer(first, second, 4 << 20)
    require(intact, "bytes changed on the way")
    counters = lab.relay.counters()
    fast = counters['derper_tls_active_version{version="tls13"}']
    require(fast >= 2, f"{fast:.0f} connections over TLS 1.3")
    return f"{(4 << 20) / seconds / 1e6:.1f} MB/s"


# -- a region with a derper ----------------------------------------------------------------------

MESH_KEY = "6d657368" * 8
OTHER = DERP_SITES[1]


@scenario(stand_in=False, derpd_flags=("--mesh-key", MESH_KEY, "--mesh-with",
                                       f"{DERP_NAME}:{OTHER.port}/{HUB_IP}"))
def derpd_mesh_with_derper(lab):
    """derpd and the real derper are one region: derper's prober crosses from each to the other"""
    # closes: SERVER-17 SERVER-18
    psk = lab.directory / "mesh.key"
    psk.write_text(MESH_KEY)
    with hosts_of(lab):  # derper looks the other's name up
        derper = Derper(lab, OTHER, ("-mesh-psk-file", psk, "-mesh-with", DERP_NAME))
        wait_until(lambda: lab.relay.counters()["tsderp_mesh_links"] == 1 and
                   lab.relay.counters()["derp_watchers"] == 1, MESH_TIMEOUT_S, "links both ways")
        regions = json.loads(lab.relay.map("json", "--address", HUB_IP))
        nodes = regions["Regions"]["900"]["Nodes"]
        nodes.append({**nodes[0], "Name": "900b", "DERPPort": OTHER.port,
                      "STUNPort": OTHER.stun_port})
        done = derpprobe_map(lab, json.dumps(regions))
    text = f"{done.stdout}{done.stderr}"
    good = re.findall(r" good: (\S+):", text)
    for way in ("900a/900b/mesh", "900b/900a/mesh"):
        require(any(name.endswith(way) for name in good), f"no packet {way}: {text.strip()}")
    after = lab.relay.counters()
    derper.process.stop()
    return (f"{after['derp_packets_forwarded_out']:.0f} packets forwarded to derper, "
            f"{after['derp_packets_forwarded_in']:.0f} from it")


# -- the original --------------------------------------------------------------------------------


@scenario(derper=True)
def real_derper(lab):
    """tsnode and a stock node over the real derper: pings, 20 MB over TCP each way"""
    ours, stock = pair(lab)
    pong = check_pings(ours, stock)
    require(has_relay(stock.peer(ours)), "not at the relay")
    return f"{pong}; {check_transfers(ours, stock)}"
