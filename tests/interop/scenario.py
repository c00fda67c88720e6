"""The register of scenarios, and how one is run and judged.

A scenario is a function that takes a Tailnet (a lab with headscale and derper running), returns a
line of details, and raises Failure with the reason otherwise:

    @scenario()
    def join(lab):
        "docstring: what it proves, shown by --list"

Groups: "normal" runs by default, and in CI; "extra" (long faults), "bench" (times beside the
stock pair) and "full" (with stock peers) only when named or with the flag of that name. Where stand_in is true,
`stock:NAME` runs the same scenario with stock nodes in place of ours. That shows that the
scenario asks for nothing but what the real thing does, and is how a new one is written first.
"""
import signal
import time
import traceback

from lab import Failure, Skip
from peers import Ours, Stock, Tailnet

NORMAL = "normal"
BENCH = "bench"
EXTRA = "extra"
FULL = "full"
STAND_IN_PREFIX = "stock:"
LIMITS_S = {NORMAL: 120, EXTRA: 1200, BENCH: 1800, FULL: 180}

REGISTER = {}


class Scenario:
    """One registered scenario."""

    def __init__(self, function, group, stand_in, own_labs, world, ours_class=Ours):
        self.function = function
        self.group = group
        self.stand_in = stand_in
        self.own_labs = own_labs
        self.world = world  # options of Tailnet
        self.ours_class = ours_class
        self.name = (STAND_IN_PREFIX if ours_class is Stock else "") + function.__name__

    @property
    def summary(self):
        return (self.function.__doc__ or "").strip().splitlines()[0]

    def as_stand_in(self):
        return Scenario(self.function, self.group, True, self.own_labs, self.world, Stock)


def scenario(group=NORMAL, stand_in=True, own_labs=False, **world):
    """Registers a scenario; `world` are options of its Tailnet (scheme, relays), and lab_class where
    that is another class. own_labs: it takes `new_lab`, a function that makes Tailnets, instead of
    one Tailnet, because it needs several or none."""
    def register(function):
        entry = Scenario(function, group, stand_in, own_labs, world)
        REGISTER[entry.name] = entry
        return function
    return register


def find(name):
    """The scenario of this name, "stock:" forms included; None when there is none."""
    if name.startswith(STAND_IN_PREFIX):
        entry = REGISTER.get(name[len(STAND_IN_PREFIX):])
        return entry.as_stand_in() if entry is not None and entry.stand_in else None
    return REGISTER.get(name)


class Outcome:
    """The verdict on one scenario: "ok", "FAIL" or "skip"."""

    def __init__(self, name, verdict, seconds, text, logs=""):
        self.name, self.verdict, self.seconds = name, verdict, seconds
        self.text, self.logs = text, logs

    def line(self):
        if self.verdict == "ok":
            return f"ok {self.name} ({self.seconds:.2f} s) {self.text}".rstrip()
        return f"{self.verdict} {self.name}: {self.text}"


def perform(entry, run):
    """Runs one scenario in labs of its own, under a time limit, and judges it."""
    labs = []

    def new_lab(**world):
        options = {**entry.world, **world}
        lab = options.pop("lab_class", Tailnet)(run, entry.name, entry.ours_class, **options)
        labs.append(lab)
        return lab

    limit_s = LIMITS_S[entry.group]

    def too_long(_number, _frame):
        raise Failure(f"not done after {limit_s} s")

    began = time.monotonic()
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(limit_s)
    verdict, logs = "FAIL", ""
    try:
        text = _call(entry, new_lab) or ""
        verdict = "ok"
    except Skip as reason:
        verdict, text = "skip", str(reason)
    except Failure as reason:
        text = str(reason)
    except Exception:  # a bug in the scenario: show where, and go on with the next
        text = "the scenario broke: " + traceback.format_exc().strip()
    finally:
        signal.alarm(0)
    if verdict == "FAIL":
        text = "; also: ".join([text, *(line for lab in labs for line in lab.complaints()
                                        if line not in text)])
        logs = labs[-1].tails if labs else ""
    else:
        for lab in labs:
            lab.discard()
    return Outcome(entry.name, verdict, time.monotonic() - began, text, logs)


def _call(entry, new_lab):
    if entry.own_labs:
        return entry.function(new_lab)
    with new_lab() as lab:
        text = entry.function(lab)
        lab.check_processes()
        return text
