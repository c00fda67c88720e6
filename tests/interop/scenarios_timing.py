"""How long from `up` to the first answer: tsnode beside the stock pair, in the same run."""
import statistics
import time

from lab import require
from probes import Pinger
from scenario import BENCH, scenario

ROUNDS = 5
SETTLE_S = 1.0        # after the daemons' start, before `up`
SANITY_S = 45.0       # the only bound on absolute time: no answer at all
GOAL_S = 3.0          # printed, never gated
GOAL_UDP_BLOCKED_S = 6.0


def round_trip_time(lab, source, target):
    """Seconds from `up`, begun at the same moment on both, to source's first answer."""
    keys = [lab.control.auth_key(), lab.control.auth_key()]
    time.sleep(SETTLE_S)
    pinger = Pinger(source)
    began = time.monotonic()
    ups = [source.start_up(keys[0]), target.start_up(keys[1])]
    pinger.start()
    pinger.join(SANITY_S)
    pinger.stop()
    for node, process in zip((source, target), ups):
        node.finish_up(process)
    require(pinger.answered_at is not None,
            f"no answer from {target.name} to {source.name} in {SANITY_S:g} s")
    return pinger.answered_at - began


def measure(new_lab, direction, block_udp, rounds):
    """The times of one direction: "ours-stock", "stock-ours" or "stock-stock", each round in a
    new lab. With block_udp the stock node (the second one of the stock pair) has no UDP."""
    times = []
    for _ in range(rounds):
        with new_lab() as lab:
            first = lab.stock("first") if direction == "stock-stock" else lab.ours()
            second = lab.stock("second")
            if block_udp:
                second.block_udp()
            source, target = (second, first) if direction == "stock-ours" else (first, second)
            times.append(round_trip_time(lab, source, target))
    return times


def shown(times):
    return f"{statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})"


def compare(new_lab, block_udp, rounds):
    """Measures the three directions and puts them in one line, with ratio and goal."""
    ours = measure(new_lab, "ours-stock", block_udp, rounds)
    back = measure(new_lab, "stock-ours", block_udp, rounds)
    both = measure(new_lab, "stock-stock", block_udp, rounds)
    ratio = statistics.median(ours) / statistics.median(both)
    goal = GOAL_UDP_BLOCKED_S if block_udp else GOAL_S
    return (f"tsnode->stock {shown(ours)}, goal {goal:g} s; stock->tsnode {shown(back)}; "
            f"stock->stock {shown(both)}; ratio to stock {ratio:.2f}")


@scenario(own_labs=True)
def first_ping_once(new_lab):
    """one round of first_ping: tsnode to stock beside the stock pair"""
    ours = measure(new_lab, "ours-stock", False, 1)
    both = measure(new_lab, "stock-stock", False, 1)
    return (f"tsnode->stock {ours[0]:.2f} s, goal {GOAL_S:g} s; stock->stock {both[0]:.2f} s; "
            f"ratio {ours[0] / both[0]:.2f}")


@scenario(group=BENCH, own_labs=True)
def first_ping(new_lab):
    """median of 5, from simultaneous `up` to the first answer, beside the stock pair"""
    return compare(new_lab, False, ROUNDS)


@scenario(group=BENCH, own_labs=True)
def first_ping_udp_blocked(new_lab):
    """first_ping with all UDP of the stock node dropped"""
    return compare(new_lab, True, ROUNDS)
