"""Direct paths: disco over one UDP socket, CallMeMaybe through the relay, and back to the relay."""
import time

from lab import require, wait_until
from probes import Train
from scenario import scenario
from scenarios_traffic import check_transfers, join_both
from servers import DERP_CODE

DIRECT_S = 15.0     # sanity: on one segment a path is there within seconds
BACK_S = 12.0       # trust lifetime 6.5 s and a tick, with room for a busy machine
SETTLE_S = 0.5


def direct_pair(lab, stock_peer=True):
    """A tsnode and a stock node (or two tsnodes), joined, on one segment without NAT."""
    first = lab.ours("first", direct=True)
    second = lab.stock("second") if stock_peer else lab.ours("second", direct=True)
    join_both(first, second)
    return first, second


def wait_direct(node, peer, timeout_s=DIRECT_S):
    """Pings until the pong came by UDP; gives (seconds, the pong's line)."""
    began = time.monotonic()

    def probe():
        result = node.ping(peer.address(), mode=None, timeout_s=2.0)
        return result if result.ok and not result.via.startswith("DERP") else None
    result = wait_until(probe, timeout_s, f"{node.name} to reach {peer.name} directly")
    return time.monotonic() - began, result.text.splitlines()[-1]


def cur_addr(node, peer):
    """CurAddr of `peer` in node's status, "" when relayed."""
    return node.peer(peer)["CurAddr"]


@scenario()
def direct(lab):
    """a tsnode and a stock node find a direct path; plain `tailscale ping` (disco) is answered"""
    ours, stock = direct_pair(lab)
    took, line = wait_direct(ours, stock)
    back, _ = wait_direct(stock, ours)
    wait_until(lambda: cur_addr(ours, stock).startswith(stock.underlay_ip), DIRECT_S,
               "ours to show the direct address")
    wait_until(lambda: cur_addr(stock, ours).startswith(ours.underlay_ip), DIRECT_S,
               "the stock node to show the direct address")
    rates = check_transfers(ours, stock)
    return f"direct after {took:.2f} s (stock side {back:.2f} s): {line}; {rates}"


@scenario()
def direct_two_tsnodes(lab):
    """two tsnodes find a direct path, transfer over it, and say why"""
    first, second = direct_pair(lab, stock_peer=False)
    took, line = wait_direct(first, second)
    why = first.cli("why", second.address())
    require(why.returncode == 0 and "direct" in why.stdout, f"why said: {why.stdout}{why.stderr}")
    return f"direct after {took:.2f} s: {line}; {check_transfers(first, second)}"


def outage_when_blocked(lab, stock_peer):
    """Blocks UDP at our side; gives what happened as text."""
    ours, stock = direct_pair(lab, stock_peer)
    wait_direct(ours, stock)
    train = Train(ours, stock.address())
    time.sleep(SETTLE_S)
    began = time.monotonic()
    ours.block_udp()
    wait_until(lambda: train.answers_since(began + SETTLE_S), BACK_S, "answers through the relay")
    train.finish()
    outage = train.longest_silence(began, time.monotonic())
    relayed = ours.wait_ping(stock.address(), mode=None)
    require(relayed.via == f"DERP({DERP_CODE})", f"via {relayed.via} while UDP is blocked")
    ours.namespace.nft("delete table inet lab")
    took, _ = wait_direct(ours, stock, 60.0)
    return f"outage {outage:.2f} s, direct again {took:.1f} s after the block ended"


@scenario()
def direct_udp_blocked(lab):
    """UDP blocked at our side in a session with a stock node: the relay takes over, then direct again"""
    return outage_when_blocked(lab, stock_peer=True)


@scenario()
def direct_udp_blocked_tsnodes(lab):
    """the same between two tsnodes: goal 2 s"""
    return outage_when_blocked(lab, stock_peer=False)


@scenario()
def direct_rebind(lab):
    """`debug rebind`: another socket, the relay meanwhile, and a direct path again"""
    ours, stock = direct_pair(lab)
    wait_direct(ours, stock)
    done = ours.cli("debug", "rebind")
    require(done.returncode == 0, f"debug rebind: {done.stderr}")
    ours.wait_ping(stock.address(), "icmp", timeout_s=5.0)
    took, line = wait_direct(ours, stock)
    return f"direct again after {took:.2f} s: {line}"
