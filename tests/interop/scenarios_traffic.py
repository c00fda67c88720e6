"""Packets between tsnode and a stock node: pings, TCP, packet filter, relay."""
import socket

from lab import require, wait_until
from peers import transfer
from scenario import scenario
from servers import ALLOW_ALL, DERP_CODE

STEADY_PINGS = 5
TRANSFER_BYTES = 20 << 20
RELAY_BYTES = 4 << 20
CONNECT_TIMEOUT_S = 1.5
POLICY_TIMEOUT_S = 20.0
OPEN_PORT = 7101
SHUT_PORT = 7102


def join_both(first, second):
    """Joins two nodes at once and waits until each has the other, with its relay, in its netmap:
    a handshake that is sent before is lost and repeated only 5 s later, which would dominate the
    suite's time."""
    began = [node.start_up(node.lab.control.auth_key()) for node in (first, second)]
    for node, process in zip((first, second), began):
        node.finish_up(process)
    first.wait_peer(second, has_relay, "with relay")
    second.wait_peer(first, has_relay, "with relay")


def has_relay(peer):
    return peer["Relay"] == DERP_CODE


def pair(lab):
    """One of ours and a stock node, joined, with a session."""
    ours, stock = lab.ours(), lab.stock()
    join_both(ours, stock)
    ours.wait_ping(stock.address())
    return ours, stock


def check_pings(first, second):
    """All kinds of ping that there are today, both ways. Gives the last pong's line."""
    for source, target in ((first, second), (second, first)):
        source.wait_ping(target.address(4), "icmp")
        for mode in ("icmp", "tsmp"):
            pong = check_every_ping(source, target, mode)
        for version in (4, 6):
            if source.tun:
                require(source.host_ping(target.address(version)),
                        f"ping(8) {source.name} -> {target.name} over IPv{version} got no answer")
    return pong.text.splitlines()[-1]


def check_every_ping(source, target, mode):
    """With a session up not one ping of the CLI may go unanswered. Gives the last result."""
    results = [source.ping(target.address(4), mode, timeout_s=2.0) for _ in range(STEADY_PINGS)]
    answered = sum(result.ok and result.ip == target.address(4) for result in results)
    require(answered == STEADY_PINGS, f"{source.name} -> {target.name}: {answered} of "
                                      f"{STEADY_PINGS} {mode} pings answered: {results[-1].text}")
    return results[-1]


def check_transfers(first, second, size_bytes=TRANSFER_BYTES):
    """TCP both ways; gives the speeds as text."""
    speeds = []
    for source, target in ((first, second), (second, first)):
        seconds, intact = transfer(source, target, size_bytes)
        require(intact, f"bytes changed on the way from {source.name} to {target.name}")
        speeds.append(f"{source.name}->{target.name} {size_bytes / seconds / 1e6:.1f} MB/s")
    return ", ".join(speeds)


@scenario(stand_in=False)
def stock_pair(lab):
    """baseline, no tsnode: two stock nodes join, ping and transfer, one with UDP blocked"""
    first, second = lab.stock("first"), lab.stock("second")
    second.block_udp()
    join_both(first, second)
    pong = check_pings(first, second)
    peer = first.peer(second)
    require(peer["CurAddr"] == "" and peer["Relay"] == DERP_CODE, f"not relayed: {peer}")
    return f"{pong}; {check_transfers(first, second)}"


@scenario()
def ping(lab):
    """tsnode and tailscaled ping each other: ICMP, TSMP and ping(8), IPv4 and IPv6"""
    ours, stock = pair(lab)
    return check_pings(ours, stock)


@scenario()
def ping_default(lab):
    """tsnode's ping without a mode flag, by address and by host name"""
    ours, stock = pair(lab)
    by_address = ours.wait_ping(stock.address(), mode=None)
    by_name = ours.wait_ping(stock.name, mode=None)
    require(by_address.ip == by_name.ip == stock.address(), by_name.text)
    require(by_address.name == stock.name, f"the pong is from {by_address.name}")
    if ours.relay_only:
        require(by_address.via == f"DERP({DERP_CODE})", f"via {by_address.via}")
    return by_address.text.splitlines()[-1]


@scenario()
def tcp(lab):
    """20 MB over TCP each way through the TUNs of a tsnode and a stock node"""
    ours, stock = pair(lab)
    return check_transfers(ours, stock)


@scenario()
def two_tsnodes(lab):
    """two tsnodes ping each other and transfer 20 MB each way"""
    first, second = lab.ours("first"), lab.ours("second")
    join_both(first, second)
    pong = check_pings(first, second)
    return f"{pong}; {check_transfers(first, second)}"


@scenario()
def status(lab):
    """each side's `status --json` shows the other with name, address, relay and counters"""
    ours, stock = pair(lab)
    for viewer, other in ((stock, ours), (ours, stock)):
        peer = viewer.wait_peer(other, has_relay, "with relay")
        require(peer["HostName"] == other.name, f"HostName {peer['HostName']}")
        require(peer["DNSName"] == f"{other.name}.tailnet.example.", f"DNSName {peer['DNSName']}")
        addresses = [other.address(4), other.address(6)]
        require(peer["TailscaleIPs"] == addresses, f"TailscaleIPs {peer['TailscaleIPs']}")
        require(peer["PublicKey"] == other.node_key(), f"PublicKey {peer['PublicKey']}")
        require(peer["Online"], f"{viewer.name} shows {other.name} offline")
        require(peer["RxBytes"] > 0 and peer["TxBytes"] > 0, "no bytes counted")
        if ours.relay_only:
            require(peer["CurAddr"] == "", f"CurAddr {peer['CurAddr']}")
        own = viewer.status()["Self"]["Relay"]
        require(own == DERP_CODE, f"{viewer.name} says its own relay is {own!r}")


@scenario()
def relay_carried(lab):
    """the bytes went through derper, and the node publishes no UDP endpoints"""
    ours, stock = lab.ours(), lab.stock()
    if not ours.relay_only:
        ours.block_udp()
    join_both(ours, stock)
    ours.wait_ping(stock.address())
    before = lab.relay.counters()
    speeds = check_transfers(ours, stock, RELAY_BYTES)
    after = lab.relay.counters()
    relayed = after["derp_bytes_received"] - before["derp_bytes_received"]
    require(relayed >= 2 * RELAY_BYTES, f"derper saw {relayed:.0f} bytes of {2 * RELAY_BYTES}")
    require(stock.peer(ours)["CurAddr"] == "", "the stock node uses a direct path")
    if ours.relay_only:
        endpoints = lab.control.stored_node(ours.name)["Endpoints"]
        require(not endpoints, f"headscale has endpoints {endpoints}")
    return f"{relayed / 1e6:.1f} MB relayed, {speeds}"


@scenario()
def stock_udp_blocked(lab):
    """the stock node has no UDP at all: pings and TCP still work"""
    ours, stock = lab.ours(), lab.stock()
    stock.block_udp()
    join_both(ours, stock)
    pong = check_pings(ours, stock)
    return f"{pong}; {check_transfers(ours, stock, RELAY_BYTES)}"


# -- policy ------------------------------------------------------------------------------------


def connect(source, target, port):
    """One TCP connection attempt between tailnet addresses: "open", "refused" or "blocked"."""
    link = source.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    with link:
        link.settimeout(CONNECT_TIMEOUT_S)
        try:
            link.connect((target.address(), port))
            return "open"
        except ConnectionRefusedError:
            return "refused"
        except OSError:
            return "blocked"


def listen(node, *ports):
    """Listening sockets on a node's tailnet address; its kernel does the rest."""
    sockets = []
    for port in ports:
        sock = node.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((node.address(), port))
        sock.listen(16)
        sockets.append(sock)
    return sockets


def allow(source, target, ports):
    """A policy of one rule."""
    return {"acls": [{"action": "accept", "src": [f"{source.address()}/32"],
                      "dst": [f"{target.address()}/32:{ports}"]}]}


def wait_connect(source, target, port, want):
    """Waits until a policy change has arrived: connection attempts end in `want`."""
    wait_until(lambda: connect(source, target, port) == want, POLICY_TIMEOUT_S,
               f"port {port} of {target.name} to be {want} for {source.name}")


def received_bytes(node, peer):
    return node.peer(peer)["RxBytes"]


@scenario()
def policy_port(lab):
    """a policy for one port lets just that port through, while packets for others do arrive"""
    ours, stock = pair(lab)
    with_listeners = listen(ours, OPEN_PORT, SHUT_PORT)
    require(connect(stock, ours, SHUT_PORT) == "open", "no connection under allow-all")
    lab.control.set_policy(allow(stock, ours, OPEN_PORT))
    wait_connect(stock, ours, SHUT_PORT, "blocked")
    for _ in range(2):
        require(connect(stock, ours, OPEN_PORT) == "open", "the allowed port is shut")
        before = received_bytes(ours, stock)
        require(connect(stock, ours, SHUT_PORT) == "blocked", "the other port is open")
        require(received_bytes(ours, stock) > before,
                "the refused packets never came to the receiver: it is not what blocks")
    # A rule for any port of an address opens ICMP to it (control.md 5.2).
    require(stock.host_ping(ours.address()), "ping is refused although a port is open")
    require(connect(ours, stock, OPEN_PORT) == "blocked", "the rule works backwards too")
    for sock in with_listeners:
        sock.close()


@scenario()
def policy_deny(lab):
    """a policy without a rule towards a node shuts it: TCP and ping; its own flows go on"""
    ours, stock = pair(lab)
    ports = listen(ours, OPEN_PORT) + listen(stock, OPEN_PORT)
    require(connect(stock, ours, OPEN_PORT) == "open", "no connection under allow-all")
    lab.control.set_policy(allow(ours, stock, "*"))
    wait_connect(stock, ours, OPEN_PORT, "blocked")
    before = received_bytes(ours, stock)
    require(not stock.host_ping(ours.address(), wait_s=1), "a denied ping was answered")
    require(received_bytes(ours, stock) > before, "the pings never came to the receiver")
    require(connect(ours, stock, OPEN_PORT) == "open", "the allowed direction is shut")
    require(ours.host_ping(stock.address()), "no ping in the allowed direction")
    stock.wait_ping(ours.address(), "tsmp")  # always let through, so the path itself lives

    lab.control.set_policy({"acls": []})
    wait_connect(ours, stock, OPEN_PORT, "blocked")
    require(connect(stock, ours, OPEN_PORT) == "blocked", "open under deny-all")

    lab.control.set_policy(ALLOW_ALL)
    wait_connect(stock, ours, OPEN_PORT, "open")
    wait_connect(ours, stock, OPEN_PORT, "open")
    for sock in ports:
        sock.close()


@scenario()
def policy_flow(lab):
    """a TCP connection that is up when the policy shuts its port goes on; new ones do not"""
    ours, stock = pair(lab)
    (listener,) = listen(ours, OPEN_PORT)
    listener.settimeout(5.0)
    client = stock.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    client.settimeout(5.0)
    client.connect((ours.address(), OPEN_PORT))
    server, _ = listener.accept()
    server.settimeout(5.0)
    lab.control.set_policy(allow(ours, stock, "*"))
    wait_connect(stock, ours, OPEN_PORT, "blocked")
    for word in (b"still", b"alive"):
        client.sendall(word)
        require(server.recv(16) == word, "the open connection was cut")
        server.sendall(word)
        require(client.recv(16) == word, "the open connection was cut on the way back")
    for sock in (client, server, listener):
        sock.close()
