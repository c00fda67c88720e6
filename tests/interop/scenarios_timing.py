"""How long from `up` to the first answer: tsnode beside the stock pair, in the same run."""
import select
import socket
import statistics
import threading
import time

from lab import require
from probes import PING_INTERVAL_S, echo_reply, echo_request, new_identifier
from scenario import BENCH, scenario

ROUNDS = 5
SETTLE_S = 1.0        # after the daemons' start, before `up`
SANITY_S = 45.0       # the only bound on absolute time: no answer at all
GOAL_S = 3.0          # printed, never gated
GOAL_UDP_BLOCKED_S = 6.0
# The first two nodes of a new headscale, in an order that nobody can know beforehand.
FIRST_ADDRESSES = ("100.64.0.1", "100.64.0.2")


class Pinger(threading.Thread):
    """Pings the two first addresses of the tailnet every 50 ms from a node's namespace until the
    one that is not its own answers.

    A loop of `ping -c 1` would measure the start of processes, and ping(8) needs to know the
    address, which is only given during the time that is measured.
    """

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node = node
        self.answered_at = None
        self.stopped = threading.Event()
        self.link = node.namespace.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self.link.setblocking(False)
        self.identifier = new_identifier()

    def run(self):
        targets = list(FIRST_ADDRESSES)
        sequence = 0
        tick = time.monotonic()
        while not self.stopped.is_set():
            sequence = (sequence + 1) & 0xffff
            for target in targets:
                try:
                    self.link.sendto(echo_request(self.identifier, sequence), (target, 0))
                except OSError:
                    pass  # no route yet
            tick += PING_INTERVAL_S
            answer = self._answer(targets, tick)
            if answer is not None:
                if not self._is_own(answer):
                    self.answered_at = time.monotonic()
                    return
                targets.remove(answer)

    def _answer(self, targets, until):
        """The first of `targets` that answers before `until`, or None."""
        while (left := until - time.monotonic()) > 0:
            if not select.select([self.link], [], [], left)[0]:
                return None
            packet, (source, _) = self.link.recvfrom(2048)
            if echo_reply(packet, self.identifier) is not None and source in targets:
                return source
        return None

    def _is_own(self, address):
        """True when `address` is one of the namespace's own: its kernel answers such pings."""
        with self.node.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((address, 0))
                return True
            except OSError:
                return False

    def stop(self):
        self.stopped.set()
        self.join()
        self.link.close()


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
