"""tsnode and stock tailscaled on tscontrol, with derper and with tscontrol's own relay."""
from lab import require, wait_until
from scenario import scenario
from scenarios_traffic import check_pings, check_transfers

TRANSFER_BYTES = 8 << 20


def join_all(lab, *nodes):
    """Joins nodes at once, and waits until each shows every other with its relay."""
    began = [node.start_up(lab.control.auth_key()) for node in nodes]
    for node, process in zip(nodes, began):
        node.finish_up(process)
    for node in nodes:
        require(node.backend_state() == "Running", f"{node.name} is {node.backend_state()}")
        for other in nodes:
            if other is not node:
                node.wait_peer(other, lambda peer: peer["Relay"] == lab.control.relay_code,
                               f"relay {lab.control.relay_code}")


# closes: CTRL-74 (by DERP)
@scenario(scheme="tscontrol")
def tscontrol_stock(lab):
    """a stock tailscaled and a tsnode on tscontrol with derper: Running, pings, TCP both ways"""
    ours, stock = lab.ours(), lab.stock()
    join_all(lab, ours, stock)
    pong = check_pings(ours, stock)
    return f"{pong}; {check_transfers(ours, stock, TRANSFER_BYTES)}"


# closes: CTRL-74 (directly)
@scenario(stand_in=False, scheme="tscontrol")
def tscontrol_direct(lab):
    """a stock tailscaled and a tsnode on tscontrol find their direct path, and ping each other on it"""
    ours, stock = lab.ours(direct=True), lab.stock()
    join_all(lab, ours, stock)

    def direct():
        pongs = [source.ping(target.address(), timeout_s=2.0)
                 for source, target in ((ours, stock), (stock, ours))]
        return all(pong.ok for pong in pongs) and pongs[0].via.startswith(stock.underlay_ip) and (
            stock.peer(ours)["CurAddr"].startswith(ours.underlay_ip)) and pongs
    pongs = wait_until(direct, 30.0, "a direct path, both ways")
    return f"{pongs[0].text}; {check_transfers(ours, stock, TRANSFER_BYTES)}"


# closes: CTRL-73
@scenario(scheme="tscontrol", relays=0)
def tscontrol_two_tsnodes(lab):
    """two tsnodes on tscontrol and its own relay: pings and TCP both ways"""
    first, second = lab.ours("first"), lab.ours("second")
    join_all(lab, first, second)
    pong = check_pings(first, second)
    return f"{pong}; {check_transfers(first, second, TRANSFER_BYTES)}"


@scenario(stand_in=False, scheme="tscontrol", relays=0)
def tscontrol_own_relay(lab):
    """stock nodes with UDP blocked meet by tscontrol's own relay: TLS, login, packets, pin"""
    first, second = lab.stock("first"), lab.stock("second")
    second.block_udp()
    join_all(lab, first, second)
    pong = check_pings(first, second)
    peer = first.peer(second)
    require(peer["CurAddr"] == "", f"not relayed: {peer['CurAddr']}")
    return f"{pong}; {check_transfers(first, second, TRANSFER_BYTES)}"


@scenario(scheme="tscontrol", relays=0)
def tscontrol_restart(lab):
    """tscontrol is killed and comes back on its state file: the same nodes, and pings go on"""
    ours, stock = lab.ours(), lab.stock()
    join_all(lab, ours, stock)
    ours.wait_ping(stock.address())
    before = ours.address(), stock.address()
    lab.control.kill()
    lab.control.start()
    for node, other in ((ours, stock), (stock, ours)):
        node.wait_ping(other.address(), timeout_s=60.0)
        node.wait_peer(other, lambda peer: peer["Online"], "online", timeout_s=60.0)
    require((ours.address(), stock.address()) == before, "addresses changed")


@scenario(scheme="tscontrol", relays=0)
def tscontrol_refuses(lab):
    """a wrong auth key is refused with the needs-login code; logout takes the node away"""
    ours, other = lab.ours(), lab.ours("other")
    ours.expect_exit(ours.try_up("not-the-key-of-it", timeout_s=10), "needs login")
    join_all(lab, ours, other)
    require(ours.cli("logout").returncode == 0, "logout failed")
    wait_until(lambda: not any(peer["HostName"] == ours.name
                               for peer in (other.status().get("Peer") or {}).values()),
               10.0, f"{ours.name} to be no peer after its logout")
