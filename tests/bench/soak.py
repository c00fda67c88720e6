"""A relay under churn for a long time: does its memory stay flat?

Every cycle connects and leaves with some hundreds of clients, sets up short connections as fast as
a few seconds allow, and relays between pairs; then the resident memory of derpd is read. What
counts is the growth after the first sixth of the time, when pools and tables have found their size.
"""

import os
import tempfile
import time

import derp
import tailnet

MINUTES = 60
CYCLE_S = 30
IDLE_CONNECTIONS = 400
IDLE_SETTLE_S = 3
SETUP_S = 3
PAIRS = 20
PAIRS_RATE = 2000  # messages a second, in all
PAIRS_S = 8
PAIRS_SIZE = 1280
REPORT_S = 300
SETTLED = 1 / 6  # of the time: figures count from here on
FLAT_PERCENT = 5


def cycle(build, relay):
    """One round of clients; the connections and messages that it made."""
    derp.generate(build, relay, "idle", "--connections", IDLE_CONNECTIONS,
                  "--settle", IDLE_SETTLE_S)
    setups = derp.generate(build, relay, "setups", "--seconds", SETUP_S)
    pairs = derp.generate(build, relay, "pairs", "--pairs", PAIRS, "--rate", PAIRS_RATE,
                          "--seconds", PAIRS_S, "--size", PAIRS_SIZE)
    return IDLE_CONNECTIONS + setups["setups"] + 2 * PAIRS, pairs["messages"]


def soak(build, relay, minutes):
    start = time.monotonic()
    samples, connections, messages, reported = [], 0, 0, 0.0
    while time.monotonic() - start < minutes * 60:
        begun = time.monotonic()
        made = cycle(build, relay)
        connections, messages = connections + made[0], messages + made[1]
        time.sleep(max(0, begun + CYCLE_S - time.monotonic()))
        if relay.process.poll() is not None:
            raise RuntimeError("derpd ended: " + (relay.directory / "log").read_text()[-500:])
        at = time.monotonic() - start
        samples.append((at, tailnet.memory(relay.process.pid)["rss"]))
        files = len(os.listdir(f"/proc/{relay.process.pid}/fd"))
        if at - reported >= REPORT_S or len(samples) == 1:
            reported = at
            print(f"  {at / 60:6.1f} min  RSS {samples[-1][1]:7.2f} MB  {files:4} descriptors  "
                  f"{connections:9,} connections  {messages:10,} messages", flush=True)
    return samples, connections, messages


def bench(build, minutes):
    found = derp.contenders(build)
    if "derpd" not in found:
        return
    print(f"derpd under churn for {minutes:g} minutes; its memory is to stay flat "
          f"after the first {minutes * SETTLED:.0f}")
    with tempfile.TemporaryDirectory(prefix="tsnode-bench-") as directory:
        relay = derp.Relay("derpd", found["derpd"], directory)
        try:
            samples, connections, messages = soak(build, relay, minutes)
        finally:
            relay.stop()
    settled = [rss for at, rss in samples if at >= minutes * 60 * SETTLED]
    if not settled:
        print("  too short to say anything")
        return
    first, last, most = settled[0], settled[-1], max(settled)
    growth = 100 * (most - first) / first
    print(f"  {connections:,} connections, {messages:,} messages; RSS {first:.2f} MB, at most "
          f"{most:.2f}, at the end {last:.2f}: {'flat' if growth <= FLAT_PERCENT else 'GROWS'} "
          f"({growth:+.1f} %; goal: within {FLAT_PERCENT})")
