"""Runs scenarios in processes of their own, a few side by side.

Most of a scenario's time is waiting, so two at a time on two cores halve the suite's time. Each is
a fork of the runner: its namespaces carry its own process id, and its programs die with it.
"""
import collections
import ctypes
import multiprocessing
import multiprocessing.connection
import signal

import scenario

PR_SET_PDEATHSIG = 1


def _work(entry, run, pipe):
    """In the child: one scenario, then its outcome and its rows for the table of recoveries."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    run.times = []
    try:
        pipe.send((scenario.perform(entry, run), run.times))
    except KeyboardInterrupt:
        pass  # its labs are gone, and nobody waits for an outcome


def _receive(entry, pipe):
    try:
        return pipe.recv()
    except EOFError:
        return scenario.Outcome(entry.name, "FAIL", 0.0, "the scenario's process died"), []


def perform_all(entries, run, jobs):
    """Gives the outcome of each entry as it is done, `jobs` of them at a time. Closing the
    generator ends what still runs, in order."""
    fork = multiprocessing.get_context("fork")
    waiting = collections.deque(entries)
    running = {}  # pipe to (entry, process)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                entry = waiting.popleft()
                here, there = fork.Pipe(duplex=False)
                process = fork.Process(target=_work, args=(entry, run, there))
                process.start()
                there.close()
                running[here] = entry, process
            for pipe in multiprocessing.connection.wait(list(running)):
                entry, process = running[pipe]
                outcome, times = _receive(entry, pipe)
                process.join()
                del running[pipe]
                run.times += times
                yield outcome
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()
