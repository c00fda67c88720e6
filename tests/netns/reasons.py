"""What `tsnode why` says in situations that the matrix and the faults do not make (docs/why.md)."""
import time

from faults import OWN, TWO_RESTRICTED, start_pair
from lab import require, wait_until
from matrix import Convergence
from nat import PUBLIC, NatLab
from probes import Train
from scenario import scenario

PATIENCE_S = 6.0  # a search is not called failed before 5 s
OFFLINE_S = 30.0


def check(node, address, reason, advice):
    """`why` must give this reason, and advice in its last line."""
    said = node.cli("why", address).stdout
    last = said.splitlines()[-1] if said else ""
    require(f"\nwhy: {reason}" in said and last.startswith(f"advice: {advice}"),
            f"no {reason!r}, {advice!r} in {said!r}")


@scenario(stand_in=False, **TWO_RESTRICTED, **OWN)
def why_firewall(lab):
    """STUN passes a firewall, other UDP does not: pings sent to N addresses, no pong"""
    first, second = lab.ours("first", direct=True), lab.ours("second", direct=True)
    lab.routers["second"].only_servers()
    require(not Convergence(lab, first, second, PATIENCE_S).direct_s, "direct through a firewall")
    for node, peer in ((first, second), (second, first)):
        check(node, peer.address(), "pings sent to 2 addresses, no pong; no ping of the peer",
              "a firewall drops UDP on one side")


@scenario(stand_in=False, **TWO_RESTRICTED, **OWN)
def why_offline(lab):
    """the peer's daemon is stopped: control says so, and why does"""
    first, second = start_pair(lab, "tsnode-tsnode")
    check(first, second.address(), "pongs come from there", "none needed")
    address = second.address()
    train = Train(first, address)
    second.stop()
    try:
        wait_until(lambda: "offline" in first.cli("why", address).stdout, OFFLINE_S,
                   "why to name the peer offline", 0.5)
    finally:
        train.finish()
    check(first, address, "control says that the peer is offline", "start the node")


@scenario(stand_in=False, lab_class=NatLab, nats={"first": PUBLIC, "second": PUBLIC}, **OWN)
def why_direct_off(lab):
    """direct paths switched off on one node: both sides say so"""
    first, second = lab.ours("first"), lab.ours("second", direct=True)
    require(not Convergence(lab, first, second, 1.0).direct_s, "direct although it is off")
    time.sleep(PATIENCE_S)
    check(first, second.address(), "direct paths are switched off on this node", "allow direct")
    check(second, first.address(), "the peer lists no address", "allow direct paths on the other")
