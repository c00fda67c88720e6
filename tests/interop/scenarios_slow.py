"""A big netmap over a slow link: traffic must go on while it comes."""
import time

from lab import FIRST_NODE_OCTET, must, require, wait_until
from probes import Train
from scenario import EXTRA, scenario
from scenarios_tscontrol import join_all

FAKE_PEERS = 5000
RATE = "1mbit"
QUEUE_MS = 400
MAP_S = 180.0        # sanity: some 1.2 MB compressed need about 10 s at this rate
LOST_SHARE = 0.25    # sanity: the pings share the link, and its queue, with the netmap


def slow_down(lab, node):
    """Everything that the node receives passes 1 Mbit/s with a short queue (tbf on its port)."""
    port = f"port{int(node.underlay_ip.rsplit('.', 1)[1]) - FIRST_NODE_OCTET}"
    must(lab.hub.wrap(["tc", "qdisc", "add", "dev", port, "root", "tbf", "rate", RATE,
                       "burst", "16kb", "latency", f"{QUEUE_MS}ms"]))


@scenario(stand_in=False, scheme="tscontrol", group=EXTRA)
def slow_link(lab):
    """a 5,000-peer netmap over 1 Mbit/s while pings flow over the same link"""
    ours, other = lab.ours("first"), lab.ours("second")
    join_all(lab, ours, other)
    ours.wait_ping(other.address())
    lab.control.kill()
    lab.control.process.argv += ["--fake-peers", str(FAKE_PEERS)]
    slow_down(lab, ours)
    train = Train(ours, other.address())
    lab.control.start()
    began = time.monotonic()
    wait_until(lambda: len(ours.status()["Peer"]) > FAKE_PEERS, MAP_S, "the whole netmap", interval_s=0.5)
    ended = time.monotonic()
    train.finish()
    silence = train.longest_silence(began, ended)
    lost, sent = train.lost(), len(train.sent)
    require(lost <= LOST_SHARE * sent, f"{lost} of {sent} pings lost")
    return (f"{FAKE_PEERS} peers after {ended - began:.1f} s at {RATE}; {lost} of {sent} pings lost, "
            f"longest silence {silence:.2f} s")
