"""What befalls a pair that is on a direct path behind NATs: how long no ping is answered.

Goals are printed, never gated; what is gated is that traffic comes back within a bound that a busy
machine keeps too, and that it comes back on the path that is there.
"""
import statistics
import time

from lab import require, wait_until
from matrix import DIRECT_S, Convergence, explain
from nat import PUBLIC, RESTRICTED, SYMMETRIC, NatLab
from paths import PathWatch, direct_address
from probes import Train
from recovery import MIXED, STOCKS, TSNODES, Recovery, make_nodes, report
from scenario import BENCH, scenario

ROUNDS = 3
STEADY_S = 2.5         # pings before the fault: a heartbeat has passed
WATCH_S = 7.0          # pings after it
SLOW_WATCH_S = 11.0    # where the trust lifetime of 6.5 s has to pass
STOCK_WATCH_S = 20.0
STOCK_DIRECT_S = 30.0  # until a pair with stock nodes is on a direct path
AGAIN_S = 30.0         # until a pair of ours is direct again after a fault that allows it
NO_OUTAGE_S = 1.0
LOSS_WATCH_S = 20.0

# Seconds without an answer that a pair of ours may take in the gate: trust lifetime and a tick,
# with room for a busy machine.
GATE_S = 9.0


def start_pair(lab, pair, **ours):
    """The two nodes of a pair, on a direct path; `ours` are options of a tsnode."""
    if pair != STOCKS:
        ours["direct"] = True
    first, second = make_nodes(lab, pair, **ours)
    limit_s = DIRECT_S if pair == TSNODES else STOCK_DIRECT_S
    found = Convergence(lab, first, second, limit_s)
    require(found.direct_s, f"{pair}: no direct path in {limit_s:g} s; {explain(first, second)}")
    return first, second


def outage(lab, pair, fault, watch_s=None, **ours):
    """Sets a pair up, does fault(lab, first, second), and gives the Recovery with the longest time
    without an answer to first, and the two nodes."""
    watch_s = watch_s or (STOCK_WATCH_S if pair == STOCKS else SLOW_WATCH_S)
    first, second = start_pair(lab, pair, **ours)
    if isinstance(fault, Roam):
        fault.prepare(lab, first)
    train = Train(first, second.address())
    time.sleep(STEADY_S)
    began = time.monotonic()
    fault(lab, first, second)
    time.sleep(max(0.0, began + watch_s - time.monotonic()))
    ended = time.monotonic()
    train.finish()
    silence = train.longest_silence(began, ended)
    back = train.first_answer_since(ended - watch_s / 4) is not None
    recovery = Recovery(pair, silence if back else None, train.lost(began), len(train.sent),
                        watch_s)
    return recovery, first, second


# -- the faults ----------------------------------------------------------------------------------


def block_udp(lab, first, _second):
    """first's router drops all UDP"""
    lab.routers[first.name].block_udp()


def drop_mapping(lab, first, _second):
    """first's router forgets its UDP mappings"""
    lab.routers[first.name].forget_mappings()


def change_address(lab, first, _second):
    """first's router gets another public address"""
    lab.routers[first.name].change_address()


def restart_peer(_lab, _first, second):
    """second's daemon is restarted"""
    second.restart()


class Roam:
    """first moves to another network, with a NAT of its own"""

    def prepare(self, lab, first):
        self.router = lab.second_network(first)

    def __call__(self, lab, first, _second):
        lab.roam(first, self.router)


def kill_relay(lab, _first, _second):
    """kill -9 of the relay; without derper, of the control server that is the relay too"""
    (lab.relays[0] if lab.relays else lab.control).kill()


# -- the gate: our own programs ------------------------------------------------------------------

TWO_RESTRICTED = {"lab_class": NatLab, "nats": {"first": RESTRICTED, "second": RESTRICTED}}
TO_PUBLIC = {"lab_class": NatLab, "nats": {"first": SYMMETRIC, "second": PUBLIC}}
OWN = {"scheme": "tscontrol", "relays": 0}
REAL = {"scheme": "http", "derper": True}


def gate(lab, fault, watch_s=WATCH_S, **ours):
    """The fault with two tsnodes; gives (seconds without an answer, first, second)."""
    recovery, first, second = outage(lab, TSNODES, fault, watch_s, **ours)
    require(recovery.seconds is not None and recovery.seconds <= GATE_S,
            f"no answer for {recovery.text()}; {explain(first, second)}")
    return recovery.seconds, first, second


def wait_direct(lab, node, peer):
    """Waits until `node` reaches `peer` by the address that its NAT has now, under traffic."""
    train = Train(node, peer.address())
    began = time.monotonic()
    try:
        wait_until(lambda: direct_address(node).startswith(lab.public_ip(peer) + ":"), AGAIN_S,
                   f"{node.name} to reach {peer.name} directly at {lab.public_ip(peer)}")
        return time.monotonic() - began
    finally:
        train.finish()


def back_on_direct(lab, first, second):
    """Both sides are on a direct path again; gives it as text."""
    seconds = max(wait_direct(lab, first, second), wait_direct(lab, second, first))
    return f"direct again, {seconds:.1f} s later"


@scenario(stand_in=False, **TWO_RESTRICTED, **OWN)
def udp_blocked(lab):
    """UDP blocked at one side: the relay takes over; and direct again when it is over"""
    seconds, first, second = gate(lab, block_udp)
    require(not direct_address(first), "still called direct")
    said = first.cli("why", second.address()).stdout
    require("\nwhy: the path by " in said and " heartbeats without an answer\n" in said,
            f"why said {said!r}")
    lab.routers["first"].unblock_udp()
    return f"no answer for {seconds:.2f} s, {back_on_direct(lab, first, second)}"


@scenario(stand_in=False, **TWO_RESTRICTED, **OWN)
def udp_blocked_slow(lab):
    """the same without fast_failover: the trust lifetime of 6.5 s and a tick"""
    seconds, _, _ = gate(lab, block_udp, SLOW_WATCH_S, settings={"fast_failover": "false"})
    return f"no answer for {seconds:.2f} s"


@scenario(stand_in=False, **TWO_RESTRICTED, **OWN)
def mapping_dropped(lab):
    """the NAT forgets its mappings (same port again)"""
    seconds, first, second = gate(lab, drop_mapping)
    return f"no answer for {seconds:.2f} s, {back_on_direct(lab, first, second)}"


@scenario(stand_in=False, **TO_PUBLIC, **OWN)
def mapping_dropped_hard(lab):
    """a symmetric NAT forgets its mappings: another port, to a public peer"""
    seconds, first, second = gate(lab, drop_mapping)
    return f"no answer for {seconds:.2f} s, {back_on_direct(lab, first, second)}"


@scenario(stand_in=False, **TWO_RESTRICTED, **OWN)
def address_changed(lab):
    """the NAT gets another public address"""
    seconds, first, second = gate(lab, change_address)
    return f"no answer for {seconds:.2f} s, {back_on_direct(lab, first, second)}"


@scenario(stand_in=False, **TWO_RESTRICTED, **OWN)
def peer_restarted(lab):
    """the peer's daemon is restarted"""
    seconds, first, second = gate(lab, restart_peer)
    return f"no answer for {seconds:.2f} s, {back_on_direct(lab, first, second)}"


@scenario(stand_in=False, **TWO_RESTRICTED, **OWN)
def roamed(lab):
    """the host moves to another network behind another NAT"""
    seconds, first, second = gate(lab, Roam())
    return f"no answer for {seconds:.2f} s, {back_on_direct(lab, first, second)}"


@scenario(stand_in=False, **TWO_RESTRICTED, **OWN)
def relay_killed(lab):
    """control server and relay die while the path is direct: nobody notices"""
    recovery, first, second = outage(lab, TSNODES, kill_relay)
    require(recovery.seconds is not None and recovery.seconds < NO_OUTAGE_S and recovery.lost == 0,
            f"no answer for {recovery.text(with_lost=True)}")
    require(direct_address(first) and direct_address(second), "not direct any more")
    return f"no answer for {recovery.seconds:.2f} s at most"


def under_loss(lab, percent):
    """Pings while first's router drops; gives (share lost, changes of path, what happened)."""
    first, second = start_pair(lab, TSNODES)
    lab.routers["first"].lose(percent)
    watch = PathWatch(first)
    train = Train(first, second.address())
    time.sleep(LOSS_WATCH_S)
    train.finish()
    watch.stop()
    lost = train.lost() / len(train.sent)
    passes = (1 - percent / 100) ** 2  # there and back
    return lost, len(watch.changes) - 1, (f"{lost:.0%} of {len(train.sent)} pings lost, expected "
                                          f"{1 - passes:.0%}; path changed {len(watch.changes) - 1}"
                                          " times")


@scenario(stand_in=False, **TWO_RESTRICTED, **OWN)
def loss_5(lab):
    """5 % of packets lost each way: no more pings are lost than that, and the path stays"""
    lost, changes, text = under_loss(lab, 5)
    require(lost < 0.2 and changes == 0, text)
    return text


@scenario(stand_in=False, **TWO_RESTRICTED, **OWN)
def loss_20(lab):
    """20 % of packets lost each way: traffic goes on"""
    lost, _, text = under_loss(lab, 20)
    require(lost < 0.5, text)
    return text


# -- beside stock pairs --------------------------------------------------------------------------


def compare(new_lab, event, fault, goal_s, pairs=(TSNODES, STOCKS), rounds=ROUNDS, **ours):
    """Medians of a fault for several pairs, each round in a new lab: one row of the table."""
    recoveries = []
    for pair in pairs:
        found = []
        for _ in range(rounds):
            with new_lab() as lab:
                options = ours if pair != STOCKS else {}
                found.append(outage(lab, pair, fault, **options)[0])
                run = lab.run
        never = STOCK_WATCH_S + 1  # longer than any that came back
        middle = statistics.median(never if one.seconds is None else one.seconds for one in found)
        recoveries.append(Recovery(pair, None if middle == never else middle,
                                   limit_s=found[0].limit_s))
        recoveries[-1].require_back(event)
    return report(run, event, recoveries, goal_s)


@scenario(group=BENCH, stand_in=False, own_labs=True, **TWO_RESTRICTED, **REAL)
def compare_udp_blocked(new_lab):
    """UDP blocked in mid-session, medians of 3 beside stock pairs"""
    return compare(new_lab, "UDP blocked", block_udp, 2.0, (TSNODES, MIXED, STOCKS))


@scenario(group=BENCH, stand_in=False, own_labs=True, **TWO_RESTRICTED, **REAL)
def compare_udp_blocked_slow(new_lab):
    """the same without fast_failover"""
    return compare(new_lab, "UDP blocked, no fast_failover", block_udp, 8.5, (TSNODES,),
                   settings={"fast_failover": "false"})


@scenario(group=BENCH, stand_in=False, own_labs=True, **TWO_RESTRICTED, **REAL)
def compare_mapping_dropped(new_lab):
    """NAT mappings dropped, medians of 3 beside stock pairs"""
    return compare(new_lab, "NAT mappings dropped", drop_mapping, 2.0)


@scenario(group=BENCH, stand_in=False, own_labs=True, **TO_PUBLIC, **REAL)
def compare_mapping_dropped_hard(new_lab):
    """mappings of a symmetric NAT dropped, medians of 3 beside stock pairs"""
    return compare(new_lab, "NAT mappings dropped, symmetric to public", drop_mapping, 2.0)


@scenario(group=BENCH, stand_in=False, own_labs=True, **TWO_RESTRICTED, **REAL)
def compare_address_changed(new_lab):
    """another public address of the NAT, medians of 3 beside stock pairs"""
    return compare(new_lab, "NAT's address changed", change_address, 2.0)


@scenario(group=BENCH, stand_in=False, own_labs=True, **TWO_RESTRICTED, **REAL)
def compare_peer_restarted(new_lab):
    """the peer restarted, medians of 3 beside stock pairs"""
    return compare(new_lab, "peer restarted", restart_peer, 2.0)


@scenario(group=BENCH, stand_in=False, own_labs=True, **TWO_RESTRICTED, **REAL)
def compare_roamed(new_lab):
    """the host roams to another network, medians of 3 beside stock pairs"""
    return compare(new_lab, "host roamed to another network", Roam(), 1.0)


@scenario(group=BENCH, stand_in=False, own_labs=True, **TWO_RESTRICTED, **REAL)
def compare_relay_killed(new_lab):
    """the relay killed while the path is direct, medians of 3 beside stock pairs"""
    return compare(new_lab, "relay killed while direct", kill_relay, 0.5)
