"""Relays side by side: derpd and, where the interop peers were built, derper.

Both serve TLS on loopback, each pinned to core 0, the generator (derp_load) to core 1. The servers
take turns run by run, so that both see the same machine. A run in which others had more than a
share of the cores is thrown away and said; CPU time per message is the server's own (/proc/PID/stat)
and suffers less from them than rates and latencies do."""

import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PEERS = pathlib.Path(os.environ.get("TSNODE_PEERS", "~/.cache/tsnode/peers")).expanduser() / "bin"
RUNS = 5
TRIES = 2  # for each run that counts
SECONDS = 3
BURST = 8  # messages that the generator hands over at once: with one it is slower than the servers
LATENCY_RATE = 2000  # messages a second, in all
SIZES = (64, 1280)
PAIRS = (1, 10, 100)
IDLE = (1000, 10000)
FILES_EACH = 1  # descriptors of one connection, at each end
FILES_OTHER = 200
START_TIMEOUT_S = 20
FOREIGN_PERCENT = 10
GOAL_CPU = 0.5
GOAL_IDLE_KIB = 16


class Relay:
    """A server process on a loopback port of the system's choice."""

    def __init__(self, name, command, directory):
        self.name = name
        self.directory = pathlib.Path(directory) / f"{name}-{time.monotonic_ns()}"
        self.directory.mkdir(mode=0o700)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        with open(self.directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                command(self.port, self.directory), stdout=log, stderr=log, cwd=self.directory,
                preexec_fn=lambda: os.sched_setaffinity(0, {0}))
        self.wait_ready()

    def wait_ready(self):
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end and self.process.poll() is None:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        text = (self.directory / "log").read_text(errors="replace")
        raise RuntimeError(f"{self.name} does not serve: {text[-500:]}")

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.directory)


def derpd_command(path):
    def command(port, directory):
        return [path, "--statedir", directory, "--listen", f"127.0.0.1:{port}",
                "--hostname", "127.0.0.1", "--stun-listen", "none", "--admin-listen", "none",
                "--log-level", "error"]
    return command


def derper_command(path):
    def command(port, directory):
        return [path, "-a", f"127.0.0.1:{port}", "-http-port", "-1", "-stun=false",
                "-hostname", "127.0.0.1", "-certmode", "manual", "-certdir", directory,
                "-c", directory / "derper.key"]
    return command


def contenders(build):
    found = {}
    for path in (pathlib.Path(build).resolve() / "derpd/derpd", ROOT / "bin/derpd"):
        if path.exists():
            found["derpd"] = derpd_command(path)
            break
    else:
        print("derpd: not built (./dev build)")
    if (PEERS / "derper").exists():
        found["derper"] = derper_command(PEERS / "derper")
    else:
        print(f"derper: not in {PEERS} (./dev interop builds it): nothing to compare with")
    return found


def generate(build, relay, mode, *options):
    command = [pathlib.Path(build) / "tests/bench/derp_load", mode, f"127.0.0.1:{relay.port}",
               "--pid", relay.process.pid, "--cpu", "1", *options]
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


class Quiet:
    """Runs a measurement for each server in turn until each has enough quiet ones."""

    def __init__(self, runs, foreign_percent):
        self.runs = runs
        self.foreign = foreign_percent / 100
        self.thrown_away = 0

    def measure(self, relays, once):
        kept = {name: [] for name in relays}
        for _ in range(self.runs * TRIES):
            for name, relay in relays.items():
                if len(kept[name]) < self.runs:
                    got = once(relay)
                    if got["foreign_s"] > self.foreign * got["seconds"] * os.cpu_count():
                        self.thrown_away += 1
                    else:
                        kept[name].append(got)
            if all(len(k) >= self.runs for k in kept.values()):
                break
        return kept


def median(rows, figure):
    return statistics.median(figure(r) for r in rows)


def compare(name, value, kept, figure, goal):
    """The ratio to derper, for derpd's line."""
    if name != "derpd" or not kept.get("derper"):
        return ""
    return f"   {value / median(kept['derper'], figure):.2f} of derper's; goal {goal}"


def us_per_message(row):
    return row["server_cpu_s"] * 1e6 / max(row["messages"], 1)


def print_pairs(kept):
    for name, rows in kept.items():
        if not rows:
            print(f"    {name:8} no quiet run")
            continue
        cpu = median(rows, us_per_message)
        print(f"    {name:8}{cpu:8.2f} us{median(rows, lambda r: r['messages'] / r['seconds']):10,.0f}"
              f"/s  p50 {median(rows, lambda r: r['p50_us']):7,.0f}"
              f"  p99 {median(rows, lambda r: r['p99_us']):7,.0f} us"
              f"  generator {median(rows, lambda r: r['own_cpu_s'] * 1e6 / max(r['messages'], 1)):.2f}"
              f"  n={len(rows)}{compare(name, cpu, kept, us_per_message, GOAL_CPU)}", flush=True)


def bench_pairs(build, relays, quiet, seconds):
    print(f"CPU of the server per message, messages a second, latency in a window of 16 per pair "
          f"({BURST} handed over at once)")
    for size in SIZES:
        for pairs in PAIRS:
            print(f"  {size} bytes, {pairs} pair{'s' if pairs > 1 else ''}")
            print_pairs(quiet.measure(relays, lambda r: generate(
                build, r, "pairs", "--size", size, "--pairs", pairs, "--seconds", seconds,
                "--burst", BURST)))
    print(f"  1280 bytes, 10 pairs, {LATENCY_RATE:,} messages a second")
    print_pairs(quiet.measure(relays, lambda r: generate(
        build, r, "pairs", "--pairs", 10, "--seconds", seconds, "--rate", LATENCY_RATE)))


def bench_setups(build, relays, quiet, seconds):
    def cost(row):
        return row["server_cpu_s"] * 1e3 / max(row["setups"], 1)
    print("\nset-ups: TCP, TLS, 101, login; 16 at a time")
    kept = quiet.measure(relays, lambda r: generate(build, r, "setups", "--seconds", seconds))
    for name, rows in kept.items():
        if not rows:
            print(f"    {name:8} no quiet run")
            continue
        print(f"    {name:8}{median(rows, cost):8.3f} ms"
              f"{median(rows, lambda r: r['setups'] / r['seconds']):10,.0f}/s"
              f"  generator {median(rows, lambda r: r['own_cpu_s'] * 1e3 / max(r['setups'], 1)):.3f} ms"
              f"  n={len(rows)}{compare(name, median(rows, cost), kept, cost, 1)}", flush=True)


def files_allowed(wanted):
    """Raises the limit of descriptors for this process and those it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return True
        except (ValueError, OSError):
            return False
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return True


def bench_idle(build, found, directory):
    print("\nmemory of an idle connection (RSS of the server, a fresh process each)")
    for count in IDLE:
        wanted = count * FILES_EACH + FILES_OTHER
        if not files_allowed(wanted):
            print(f"  {count:,}: not measured: {wanted:,} descriptors are needed, the limit is "
                  f"{resource.getrlimit(resource.RLIMIT_NOFILE)[1]:,} (ulimit -Hn)")
            continue
        print(f"  {count:,} connections")
        for name, command in found.items():
            relay = Relay(name, command, directory)
            try:
                row = generate(build, relay, "idle", "--connections", count)
                goal = f"   goal {GOAL_IDLE_KIB}" if name == "derpd" else ""
                print(f"    {name:8}{row['kib_each']:8.2f} KiB each, {row['after_kib'] / 1024:.1f} MiB"
                      f" in all; {row['idle_cpu_s']:.2f} s of CPU in {row['settle_s']} s{goal}",
                      flush=True)
            except subprocess.CalledProcessError:
                print(f"    {name:8} failed")
            finally:
                relay.stop()


def bench(build, runs, seconds, foreign_percent):
    found = contenders(build)
    if not found or os.cpu_count() < 2:
        print("derp: needs a server and two cores")
        return
    quiet = Quiet(runs, foreign_percent)
    with tempfile.TemporaryDirectory(prefix="tsnode-bench-") as directory:
        relays = {}
        try:
            for name, command in found.items():
                relays[name] = Relay(name, command, directory)
            bench_pairs(build, relays, quiet, seconds)
            bench_setups(build, relays, quiet, seconds)
        finally:
            for relay in relays.values():
                relay.stop()
        bench_idle(build, found, directory)
    if quiet.thrown_away:
        print(f"\n{quiet.thrown_away} runs were thrown away: others had more than "
              f"{foreign_percent:g} % of the cores")
