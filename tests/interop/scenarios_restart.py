"""Restarts and outages of servers and daemons: how long until everything flows again, and what is
lost meanwhile, beside a stock pair that goes through the same.

Pings run every 50 ms through the whole outage. Goals are printed, never gated; what is gated is
that things come back at all, in generous time.
"""
import time

from lab import require
from probes import Train, wait_moment
from recovery import BACK_TIMEOUT_S, BEHIND, MIXED, STOCKS, TSNODES, Recovery, make_nodes, report
from scenario import BENCH, EXTRA, scenario
from scenarios_join import wait_online
from scenarios_traffic import join_both

STOCK_TIMEOUT_S = 30.0  # how long a stock pair is watched; "> 30 s" when that was not enough
STEADY_S = 1.0          # pings before the fault
SETTLE_S = 2.0          # pings after the recovery, so that a relapse is seen
LONGEST_SILENCE_S = 1.0 # between two answers while control alone is away
CONTROL_DOWN_S = 3.0
CONTROL_LONG_DOWN_S = 600.0
CONTROL_GOAL_S = 5.0
RELAY_GOAL_S = 1.0
RELAY_DOWN_S = 10.0
PAUSE_S = 20.0
LONG_PAUSE_S = 130.0
LONG_TIMEOUT_S = 90.0   # stock nodes need up to a minute after a long sleep


def make_pair(lab, kind, relayed):
    """Two joined nodes that reach each other. relayed: by derper alone, as the second has no UDP
    (a tsnode without direct paths needs no help)."""
    first, second = make_nodes(lab, kind)
    if relayed and not (first.relay_only or second.relay_only):
        second.block_udp()
    join_both(first, second)
    first.wait_ping(second.address())
    return first, second


# -- headscale -----------------------------------------------------------------------------------


def online_in_store(lab, *nodes):
    return all(lab.control.stored_node(node.name).get("IsOnline") for node in nodes)


def control_outage(lab, kind, down_s):
    """kill -9 of headscale for a while, pings flowing. Time from its listening until it shows both
    nodes online."""
    limit_s = STOCK_TIMEOUT_S if kind == STOCKS else BACK_TIMEOUT_S
    first, second = make_pair(lab, kind, relayed=False)
    wait_online(lab, first)
    wait_online(lab, second)
    train = Train(first, second.address())
    began = time.monotonic()
    time.sleep(STEADY_S)
    lab.control.kill()
    time.sleep(down_s)
    lab.control.process.start()
    listening = wait_moment(lab.control.listens, BACK_TIMEOUT_S, 0.005)
    require(listening, "headscale does not listen after its restart")
    nodes = (first,) if kind == MIXED else (first, second)
    back = wait_moment(lambda: online_in_store(lab, *nodes), limit_s)
    time.sleep(SETTLE_S)
    lab.control.wait_ready()
    ended = time.monotonic()
    train.finish()
    if kind != STOCKS:
        silence = train.longest_silence(began, ended)
        require(silence < LONGEST_SILENCE_S,
                f"{kind}: no answer for {silence:.2f} s while only headscale was away")
    return Recovery(kind, back and back - listening, train.lost(), len(train.sent), limit_s)


def control_outages(new_lab, scheme, kinds, down_s=CONTROL_DOWN_S):
    recoveries = []
    for kind in kinds:
        with new_lab(scheme=scheme) as lab:
            recoveries.append(control_outage(lab, kind, down_s))
            recoveries[-1].require_back("the connection to headscale")
            run = lab.run
    return report(run, f"headscale killed, back after {down_s:g} s, {scheme}", recoveries,
                  CONTROL_GOAL_S, with_lost=True)


# closes: CTRL-69
@scenario(own_labs=True, stand_in=False)
def control_killed(new_lab):
    """kill -9 of headscale (http): pings go on without loss, and both nodes come back to it"""
    return control_outages(new_lab, "http", [TSNODES])


@scenario(own_labs=True, stand_in=False)
def control_killed_https(new_lab):
    """control_killed over https, with a stock node as the peer"""
    return control_outages(new_lab, "https", [MIXED])


@scenario(group=BENCH, own_labs=True, stand_in=False)
def control_killed_times(new_lab):
    """control_killed by http and https, beside a stock pair that is watched for 30 s"""
    lines = [control_outages(new_lab, scheme, [TSNODES, MIXED, STOCKS])
             for scheme in ("http", "https")]
    return " | ".join(lines)


# closes: CTRL-67
@scenario(group=EXTRA, own_labs=True, stand_in=False)
def control_down_long(new_lab):
    """headscale is away for 10 minutes: through all rekeys not one gap in the pings"""
    return control_outages(new_lab, "http", [MIXED], CONTROL_LONG_DOWN_S)


# -- derper --------------------------------------------------------------------------------------


def relay_outage(lab, kind, down_s):
    """kill -9 of derper; time from its listening until a ping gets through."""
    limit_s = STOCK_TIMEOUT_S if kind == STOCKS else BACK_TIMEOUT_S
    first, second = make_pair(lab, kind, relayed=True)
    train = Train(first, second.address())
    time.sleep(STEADY_S)
    lab.relay.kill()
    time.sleep(down_s)
    lab.relay.process.start()
    listening = wait_moment(lab.relay.listens, BACK_TIMEOUT_S, 0.005)
    require(listening, "derper does not listen after its restart")
    back = wait_moment(lambda: train.first_answer_since(listening), limit_s)
    time.sleep(SETTLE_S)
    train.finish()
    if back is None:
        return Recovery(kind, None, train.lost(), len(train.sent), limit_s)
    recovered = train.first_answer_since(listening)
    relapse = train.lost(since=recovered)
    require(kind == STOCKS or relapse == 0, f"{kind}: {relapse} pings lost after the recovery")
    return Recovery(kind, recovered - listening, train.lost(), len(train.sent), limit_s)


def relay_outages(new_lab, kinds, down_s):
    recoveries = []
    for kind in kinds:
        with new_lab() as lab:
            recoveries.append(relay_outage(lab, kind, down_s))
            recoveries[-1].require_back("the path by derper")
            run = lab.run
    when = f"after {down_s:g} s" if down_s else "at once"
    return report(run, f"derper killed, back {when}", recoveries, RELAY_GOAL_S)


@scenario(own_labs=True, stand_in=False)
def relay_killed(new_lab):
    """kill -9 of derper, started again at once: pings flow again soon"""
    return relay_outages(new_lab, [TSNODES], 0)


@scenario(group=BENCH, own_labs=True, stand_in=False)
def relay_killed_times(new_lab):
    """derper killed and back at once, and after 10 s, beside a stock pair"""
    lines = [relay_outages(new_lab, [TSNODES, MIXED, STOCKS], down_s)
             for down_s in (0, RELAY_DOWN_S)]
    return " | ".join(lines)


# -- the daemon itself -----------------------------------------------------------------------------


def daemon_restart(lab, kind, who):
    """The first node's daemon is killed and started again. who "own": time until its own pings are
    answered; "peer": until the other's are."""
    limit_s = STOCK_TIMEOUT_S if kind == STOCKS else BACK_TIMEOUT_S
    first, second = make_pair(lab, kind, relayed=True)
    source, target = (first, second) if who == "own" else (second, first)
    train = Train(source, target.address())
    time.sleep(STEADY_S)
    first.stop()
    began = time.monotonic()
    first.start()
    back = wait_moment(lambda: train.first_answer_since(began), limit_s)
    time.sleep(SETTLE_S)
    train.finish()
    return Recovery(kind, back and train.first_answer_since(began) - began, limit_s=limit_s)


@scenario(group=BENCH, own_labs=True, stand_in=False)
def daemon_restart_times(new_lab):
    """a node's daemon restarts: time until its pings flow, and until its peer's do"""
    lines = []
    for who in ("own", "peer"):
        recoveries = []
        for kind in (TSNODES, MIXED, BEHIND, STOCKS):
            with new_lab() as lab:
                recoveries.append(daemon_restart(lab, kind, who))
                recoveries[-1].require_back("the tunnel")
                run = lab.run
        lines.append(report(run, f"daemon restarted, {who} pings", recoveries, CONTROL_GOAL_S))
    return " | ".join(lines)


def daemon_pause(lab, kind, pause_s):
    """SIGSTOP and SIGCONT of the first node's daemon; time until its peer's pings are answered."""
    limit_s = LONG_TIMEOUT_S
    first, second = make_pair(lab, kind, relayed=True)
    wait_online(lab, first)
    key = first.node_key()
    train = Train(second, first.address())
    time.sleep(STEADY_S)
    first.process.pause()
    time.sleep(pause_s)
    first.process.resume()
    awake = time.monotonic()
    back = wait_moment(lambda: train.first_answer_since(awake), limit_s)
    if kind != STOCKS:
        wait_online(lab, first)
        require(first.node_key() == key, "another node key after a sleep")
    train.finish()
    return Recovery(kind, back and train.first_answer_since(awake) - awake, limit_s=limit_s)


def daemon_pauses(new_lab, kinds, pause_s):
    recoveries = []
    for kind in kinds:
        with new_lab() as lab:
            recoveries.append(daemon_pause(lab, kind, pause_s))
            recoveries[-1].require_back("the paused node")
            run = lab.run
    return report(run, f"daemon asleep for {pause_s:g} s", recoveries, CONTROL_GOAL_S)


@scenario(own_labs=True, stand_in=False)
def daemon_paused(new_lab):
    """SIGSTOP of the daemon for 20 s: afterwards it answers, as the same node"""
    return daemon_pauses(new_lab, [MIXED], PAUSE_S)


@scenario(group=BENCH, own_labs=True, stand_in=False)
def daemon_paused_long(new_lab):
    """SIGSTOP of the daemon for 130 s, beside a stock pair"""
    return daemon_pauses(new_lab, [TSNODES, MIXED, STOCKS], LONG_PAUSE_S)
