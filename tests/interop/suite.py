"""What the runners of scenarios share (tests/interop/run, tests/netns/run): flags, the choice of
scenarios, side-by-side runs, tables, and the verdict.

Exit status: 0 no failure, 1 failures, 2 usage, 77 nothing could run here, which under CI=true is a
failure instead.
"""
import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import scenario
import workers
from lab import Run

HERE = pathlib.Path(__file__).resolve().parent
EXIT_SKIPPED = 77
NEEDED_PROGRAMS = ("ip", "nft", "openssl", "setpriv", "ping")
DEFAULT_TSNODE = HERE.parent.parent / "bin" / "tsnode"


class Suite:
    """One runner: its name, the groups of scenarios that flags add (flag to help text), and how many
    scenarios run side by side for each processor."""

    def __init__(self, name, groups, jobs_per_cpu=1):
        self.name = name
        self.groups = groups
        self.jobs = min(jobs_per_cpu * (os.cpu_count() or 1), 4)

    def parser(self):
        parser = argparse.ArgumentParser(prog=f"tests/{self.name}/run", allow_abbrev=False)
        parser.add_argument("names", nargs="*", metavar="SCENARIO",
                            help="only these; stock:NAME puts stock nodes in place of ours")
        parser.add_argument("--list", action="store_true", help="list the scenarios and stop")
        for group, text in self.groups.items():
            parser.add_argument(f"--{group}", action="store_true", help=text)
        parser.add_argument("--baseline", action="store_true",
                            help="all scenarios with stock nodes in place of ours")
        parser.add_argument("--repeat", type=int, default=1, metavar="N",
                            help="run everything N times")
        parser.add_argument("--jobs", type=int, default=self.jobs, metavar="N",
                            help="N scenarios side by side (with --bench always one)")
        parser.add_argument("--keep", action="store_true", help="leave logs and state behind")
        parser.add_argument("--tsnode", type=pathlib.Path, metavar="PATH",
                            default=os.environ.get("TSNODE", DEFAULT_TSNODE))
        return parser

    def chosen(self, options):
        """The scenarios that the command line asks for; ends with status 2 for an unknown name."""
        if options.names:
            unknown = [name for name in options.names if scenario.find(name) is None]
            if unknown:
                print(f"run: no scenario named {', '.join(unknown)} (see --list)", file=sys.stderr)
                sys.exit(2)
            return [scenario.find(name) for name in options.names]
        groups = {scenario.NORMAL}
        groups |= {group for group in self.groups if getattr(options, group)}
        entries = [entry for entry in scenario.REGISTER.values() if entry.group in groups]
        if options.baseline:
            return [entry.as_stand_in() for entry in entries if entry.stand_in]
        return entries

    def skip_all(self, reason):
        """Nothing can run. CI must not pass without these tests, so there it is a failure."""
        if os.environ.get("CI") == "true":
            print(f"FAIL {self.name}: {reason}\n0 passed, 1 failed")
            return 1
        print(f"skip {self.name}: {reason}\n0 passed, 0 failed, 1 skipped")
        return EXIT_SKIPPED

    def run(self, find_peers, tables):
        """The main function of a runner. find_peers(entries) gives (directory of the stock
        programs, None) or (None, why nothing can run); tables(outcomes, run) prints what the
        scenarios measured, and may add outcomes about all of them together."""
        options = self.parser().parse_args()
        if options.list:
            print_list()
            return 0
        entries = self.chosen(options)
        directory, reason = find_peers(entries)
        if reason:
            return self.skip_all(reason)
        signal.signal(signal.SIGTERM, on_terminate)
        signal.signal(signal.SIGINT, on_terminate)
        files = pathlib.Path(tempfile.mkdtemp(prefix=f"tsnode-{self.name}-"))
        keep = options.keep
        try:
            run = Run(files, directory, options.tsnode, options.keep)
            # Times are compared only when nothing runs beside them.
            timed = any(entry.group == scenario.BENCH for entry in entries)
            outcomes = perform_all(entries * options.repeat, run, 1 if timed else options.jobs)
            tables(outcomes, run)
            failed = any(outcome.verdict == "FAIL" for outcome in outcomes)
            keep = options.keep or failed
            if keep:
                print(f"logs and state: {files}")
            status = print_summary(outcomes)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            status = 130
        finally:
            if not keep:
                shutil.rmtree(files, ignore_errors=True)
        return status


def print_list():
    for entry in scenario.REGISTER.values():
        group = "" if entry.group == scenario.NORMAL else f" [{entry.group}]"
        print(f"{entry.name}{group}: {entry.summary}")


def cannot_run():
    """Why no scenario can run here at all; None when they can."""
    if os.geteuid() != 0:
        return "not root: network namespaces cannot be made"
    missing = [name for name in NEEDED_PROGRAMS if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


def stock_programs():
    """(directory of headscale, derper and tailscaled, None), or (None, why there are none)."""
    reason = cannot_run()
    if reason:
        return None, reason
    done = subprocess.run([HERE / "peers" / "build.sh"], stdout=subprocess.PIPE, text=True,
                          check=False)
    if done.returncode != 0:
        return None, f"peers/build.sh gave {done.returncode}: no headscale, derper, tailscaled"
    return done.stdout.splitlines()[-1], None


def perform_all(entries, run, jobs):
    outcomes = []
    with contextlib.closing(workers.perform_all(entries, run, jobs)) as done:
        for outcome in done:
            print(outcome.line(), flush=True)
            if outcome.logs:
                print(outcome.logs, flush=True)
            outcomes.append(outcome)
    return outcomes


def print_table(outcomes):
    width = max(len(outcome.name) for outcome in outcomes)
    print("\ntimes")
    for outcome in outcomes:
        print(f"  {outcome.name:<{width}} {outcome.seconds:7.2f} s  {outcome.verdict}")
    print(f"  {'total':<{width}} {sum(outcome.seconds for outcome in outcomes):7.2f} s")


def print_recoveries(rows):
    """The table of outages: each pair's time, and the goal, which gates nothing."""
    if not rows:
        return
    kinds = list(dict.fromkeys(kind for _, texts, _ in rows for kind in texts))
    lines = [("after the outage of", *kinds, "goal")]
    lines += [(event, *(texts.get(kind, "-") for kind in kinds), f"{goal_s:g} s")
              for event, texts, goal_s in rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    print("\nrecoveries")
    for line in lines:
        print("  " + "  ".join(map(str.ljust, line, widths)).rstrip())


def print_summary(outcomes):
    counts = {verdict: sum(outcome.verdict == verdict for outcome in outcomes)
              for verdict in ("ok", "FAIL", "skip")}
    skipped = f", {counts['skip']} skipped" if counts["skip"] else ""
    print(f"{counts['ok']} passed, {counts['FAIL']} failed{skipped}")
    return 1 if counts["FAIL"] else 0


def on_terminate(_number, _frame):
    """SIGTERM unwinds like Ctrl-C, so that every lab is removed; and Ctrl-C does so also where a
    script started us with SIGINT ignored."""
    raise KeyboardInterrupt
