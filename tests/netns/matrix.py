"""The NAT matrix: which pairs of NATs get a direct path, how soon, and beside stock nodes."""
import collections
import itertools
import statistics
import time

from lab import require
from nat import BLOCKED, KINDS, MUST_BE_DIRECT, SYMMETRIC, NatLab
from paths import PathWatch
from probes import Pinger, Train, wait_moment
from recovery import BEHIND, MIXED, STOCKS, TSNODES, make_nodes
from scenario import FULL, REGISTER, Scenario, NORMAL
from peers import Ours

ANSWER_S = 45.0         # sanity: no first ping at all
DIRECT_S = 15.0         # sanity, after the first ping: a pair that must be direct is
NOT_DIRECT_S = 5.0      # how long a pair of ours that need not be direct is watched
STOCK_WATCH_S = 20.0    # the same beside stock nodes, whose search takes longer
RELAYED_PINGS_S = 1.0
LOST_AT_MOST = 0.1      # share of the pings of a relayed pair: it has no reason to lose any

# One run of one pair: NAT kinds of first and second, which nodes they are, seconds from `up`.
Cell = collections.namedtuple("Cell", "first second pair ping_s direct_s")


class Convergence:
    """Seconds from a simultaneous `up` to first's first answer, and to a direct path on both
    sides; direct_s None: not within watch_s after the first answer."""

    def __init__(self, lab, first, second, watch_s):
        keys = [lab.control.auth_key(), lab.control.auth_key()]
        pinger = Pinger(first)
        watches = [PathWatch(first), PathWatch(second)]
        began = time.monotonic()
        ups = [node.start_up(key) for node, key in zip((first, second), keys)]
        pinger.start()
        pinger.join(ANSWER_S)
        pinger.stop()
        require(pinger.answered_at, f"no answer from {second.name} in {ANSWER_S:g} s")
        self.ping_s = pinger.answered_at - began
        self.train = Train(first, pinger.answered_by)
        both = wait_moment(lambda: all(watch.direct_since() for watch in watches), watch_s)
        self.direct_s = both and max(watch.direct_since() for watch in watches) - began
        if not both:
            time.sleep(RELAYED_PINGS_S)
        self.train.finish()
        for watch in watches:
            watch.stop()
        for node, up in zip((first, second), ups):
            node.finish_up(up)
        self.addresses = [watch.address() for watch in watches]


def check_addresses(lab, first, second, found):
    """Both sides are where the other one's NAT is, or the node itself without one."""
    for node, address in zip((second, first), found.addresses):
        require(address.rsplit(":", 1)[0] == lab.public_ip(node),
                f"{node.name} is reached at {address}, not at {lab.public_ip(node)}")


def run_cell(kinds, pair, lab):
    """One cell of the matrix: joins, converges, judges, and puts a row into the run's table."""
    must = pair != STOCKS and frozenset(kinds) in MUST_BE_DIRECT
    watch_s = DIRECT_S if must else NOT_DIRECT_S if pair == TSNODES else STOCK_WATCH_S
    first, second = make_nodes(lab, pair, **({} if pair == STOCKS else {"direct": True}))
    found = Convergence(lab, first, second, watch_s)
    lab.run.times.append(Cell(*kinds, pair, found.ping_s, found.direct_s))
    if found.direct_s is None:
        require(not must, f"answered after {found.ping_s:.2f} s, not direct {watch_s:g} s later; "
                          f"{explain(first, second)}")
        lost = found.train.lost() / max(len(found.train.sent), 1)
        require(pair == STOCKS or lost <= LOST_AT_MOST, f"{lost:.0%} of the relayed pings lost")
        if pair == TSNODES:
            check_why(kinds[0], kinds[1], first, second)
            check_why(kinds[1], kinds[0], second, first)
        return f"first ping {found.ping_s:.2f} s, by the relay"
    check_addresses(lab, first, second, found)
    return f"first ping {found.ping_s:.2f} s, direct {found.direct_s:.2f} s"


def check_why(own, other, node, peer):
    """A pair that stays relayed says what its NATs are (docs/why.md)."""
    if own == BLOCKED:
        reason = "STUN got no answer"
    elif other == BLOCKED:
        reason = "the peer knows only private addresses"
    elif own == SYMMETRIC:
        reason = f"hard NAT on {'both sides' if other == SYMMETRIC else 'our side'}"
    else:
        reason = "hard NAT on the peer's side"
    said = node.cli("why", peer.address()).stdout
    require(f"\nwhy: {reason}" in said and "\nadvice: " in said, f"no {reason!r} in {said!r}")


def explain(first, second):
    """What the tsnodes of a pair say about it."""
    return "; ".join(f"{node.name}: " + node.cli("why", other.address()).stdout.replace("\n", " | ")
                     for node, other in ((first, second), (second, first))
                     if isinstance(node, Ours))


def register(kinds, pair, group, **world):
    """A scenario of its own for each cell, so that they run side by side and fail one by one."""
    def cell(lab):
        return run_cell(kinds, pair, lab)
    cell.__name__ = f"nat-{kinds[0]}-{kinds[1]}" + ("" if group == NORMAL else f":{pair}")
    cell.__doc__ = f"{kinds[0]} and {kinds[1]} NAT, {pair}: first ping, and direct or not"
    world = {"lab_class": NatLab, "nats": {"first": kinds[0], "second": kinds[1]}, **world}
    REGISTER[cell.__name__] = Scenario(cell, group, False, False, world)


def register_all():
    """Every cell, the gate's and those with stock nodes."""
    for kinds in itertools.combinations_with_replacement(KINDS, 2):
        register(kinds, TSNODES, NORMAL, scheme="tscontrol", relays=2)
        for pair in (TSNODES, MIXED, BEHIND, STOCKS):
            if pair != BEHIND or kinds[0] != kinds[1]:
                register(kinds, pair, FULL, scheme="http", relays=2, derper=True)


# -- the table -----------------------------------------------------------------------------------


def shown(cell):
    return "-" if cell is None else (
        f"{cell.ping_s:.1f} / " + ("relay" if cell.direct_s is None else f"{cell.direct_s:.1f}"))


def median(cells):
    """One cell of several runs: the medians; relayed when most of them were. None of none."""
    if not cells:
        return None
    direct = [cell.direct_s for cell in cells if cell.direct_s is not None]
    return cells[0]._replace(
        ping_s=statistics.median(cell.ping_s for cell in cells),
        direct_s=statistics.median(direct) if 2 * len(direct) > len(cells) else None)


def print_matrix(rows):
    """Side by side: the four pairs of each two NATs. Gives what is worse than with stock nodes:
    a pair that only they connect directly."""
    cells = collections.defaultdict(list)
    for row in rows:
        cells[row.first, row.second, row.pair].append(row)
    pairs = [pair for pair in (TSNODES, MIXED, BEHIND, STOCKS)
             if any(key[2] == pair for key in cells)]
    lines, worse = [("first", "second", *pairs)], []
    for kinds in dict.fromkeys((row.first, row.second) for row in rows):
        found = {pair: median(cells[(*kinds, pair)]) for pair in pairs}
        if STOCKS in found and found[STOCKS] and found[STOCKS].direct_s is not None:
            worse += [f"{'-'.join(kinds)}:{pair}" for pair, cell in found.items()
                      if cell and cell.direct_s is None]
        lines.append((*kinds, *(shown(cell) for cell in found.values())))
    widths = [max(map(len, column)) for column in zip(*lines)]
    print("\nNAT matrix: seconds from `up` to the first ping / to direct on both sides")
    for line in lines:
        print("  " + "  ".join(map(str.ljust, line, widths)).rstrip())
    return worse
