"""tsnode and tailscaled behind port-restricted NATs of the namespace lab (tests/netns)."""
import time

from capture import udp_ports
from lab import require, wait_until
from matrix import Convergence, check_addresses
from nat import RESTRICTED, NatLab
from paths import direct_address
from probes import Train
from scenario import scenario

DIRECT_S = 30.0   # the stock side may need two rounds of 5 s
RESTART_S = 60.0
OWN_ENDPOINT_S = 10.0
RESTRICTED_PAIR = {"lab_class": NatLab, "nats": {"first": RESTRICTED, "second": RESTRICTED}}


def both_direct(lab, first, second):
    """Waits, under traffic, until each reaches the other at its NAT's address; gives the seconds."""
    train = Train(first, second.address())
    began = time.monotonic()
    try:
        for node, peer in ((first, second), (second, first)):
            wait_until(lambda n=node, p=peer: direct_address(n).startswith(lab.public_ip(p) + ":"),
                       RESTART_S, f"{node.name} to reach {peer.name} directly")
        return time.monotonic() - began
    finally:
        train.finish()


# closes: PATH-37
@scenario(stand_in=False, derper=True, **RESTRICTED_PAIR)
def nat_stock(lab):
    """port-restricted NATs: a tsnode and a stock node are direct both ways, also after a restart of
    either daemon"""
    ours, stock = lab.ours("first", direct=True), lab.stock("second")
    found = Convergence(lab, ours, stock, DIRECT_S)
    require(found.direct_s, "no direct path on both sides")
    check_addresses(lab, ours, stock, found)
    text = [f"direct {found.direct_s:.1f} s after up"]
    for node in (stock, ours):
        node.restart()
        wait_until(lambda n=node: n.backend_state() == "Running", RESTART_S, "Running again")
        text.append(f"{both_direct(lab, ours, stock):.1f} s after the restart of {node.kind}")
        for source, target in ((ours, stock), (stock, ours)):
            require(source.host_ping(target.address()), f"no answer to {source.name}")
    return ", ".join(text)


# The types, which headscale uses and does not keep, are test_control_client's.
# closes: T37 T38
@scenario(stand_in=False, derper=True, **RESTRICTED_PAIR)
def endpoints_recorded(lab):
    """headscale's record of a node lists its local and its reflexive address, and nothing else"""
    ours = lab.ours("first", direct=True)
    ours.up()
    (port,) = udp_ports(ours.process)
    want = {f"{ours.underlay_ip}:{port}", f"{lab.public_ip(ours)}:{port}"}
    wait_until(lambda: set(lab.control.stored_node("first").get("Endpoints") or []) == want,
               OWN_ENDPOINT_S, f"headscale to list {want}")
    return ", ".join(sorted(want))
