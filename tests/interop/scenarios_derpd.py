"""derpd under stock clients: the only relay of two tailscaled without UDP, admission by headscale's
/verify, restarts, and what the stock tools say about it."""
from lab import require
from peers import transfer
from scenario import scenario
from scenarios_traffic import check_pings, has_relay, join_both

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
    # closes: M34 M35
    first, second = relayed_pair(lab)
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
