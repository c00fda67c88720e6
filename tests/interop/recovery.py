"""Pairs of nodes, and what an outage cost each of them: one row of a table, beside the goal."""
from lab import require

BACK_TIMEOUT_S = 60.0  # sanity: ours is back by then

# First and second node of a pair; the fault is in the first where it is in a node.
TSNODES = "tsnode-tsnode"
MIXED = "tsnode-stock"
BEHIND = "stock-tsnode"
STOCKS = "stock-stock"


def make_nodes(lab, kind, **ours):
    """The two nodes of a pair, named first and second; `ours` are options of a tsnode."""
    first = lab.stock("first") if kind in (BEHIND, STOCKS) else lab.ours("first", **ours)
    second = lab.ours("second", **ours) if kind in (BEHIND, TSNODES) else lab.stock("second")
    return first, second


def shown(seconds, limit_s):
    """Seconds as text; None is what did not happen in `limit_s`."""
    return f"> {limit_s:g} s" if seconds is None else f"{seconds:.2f} s"


class Recovery:
    """What one outage cost one pair."""

    def __init__(self, kind, seconds, lost=0, sent=0, limit_s=BACK_TIMEOUT_S):
        self.kind, self.seconds, self.limit_s = kind, seconds, limit_s
        self.lost, self.sent = lost, sent

    def text(self, with_lost=False):
        lost = f", {self.lost} of {self.sent} lost" if with_lost else ""
        return shown(self.seconds, self.limit_s) + lost

    def require_back(self, what):
        """Stock nodes may take as long as they like: they are here to be compared with."""
        if self.kind != STOCKS:
            require(self.seconds is not None,
                    f"{self.kind}: {what} not back in {self.limit_s:g} s")


def report(run, event, recoveries, goal_s, with_lost=False):
    """Puts a row into the run's table, and gives it as the scenario's line."""
    texts = {recovery.kind: recovery.text(with_lost) for recovery in recoveries}
    run.times.append((event, texts, goal_s))
    return "; ".join([*(f"{kind} {text}" for kind, text in texts.items()), f"goal {goal_s:g} s"])
