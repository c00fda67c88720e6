"""What a control server may do to a node: change its key, expire or delete the node, and what the
node then tells its user."""
import re
import subprocess
import time

from lab import require, wait_until
from probes import Train
from scenario import EXTRA, scenario
from scenarios_join import wait_online, wait_state
from scenarios_traffic import join_both, pair

NOTICE_TIMEOUT_S = 30.0
REFUSAL_S = 4.0         # how long a node must hold out against a server with another key
# The periodic update comes at the latest after 10 minutes (control.md 4.3): CTRL-42.
DELETED_LIMIT_S = 660.0
# With a new node key a node is a new peer: a login, an update to the others, and one handshake.
RENEWAL_LIMIT_S = 10.0


def problem(node):
    """What the node's status says is wrong, in all places where it may say it."""
    status = node.status()
    return " ".join([(status.get("TSNode") or {}).get("LastError") or "",
                     *(status.get("Health") or [])])


def plain_status(node):
    done = node.cli("status")
    return done, (done.stdout + done.stderr).strip()


def change_server_key(lab):
    """headscale comes back on the same database with another noise key."""
    lab.control.stop()
    lab.control.new_noise_key()
    lab.control.start()


# closes: CTRL-08
@scenario(stand_in=False)
def wrong_server_key(lab):
    """over http another server key is refused, named, survives a restart, and can be accepted"""
    ours, stock = pair(lab)
    wait_online(lab, ours)
    change_server_key(lab)
    changed = time.monotonic()
    wait_until(lambda: "key" in problem(ours), NOTICE_TIMEOUT_S, "the changed key to be reported")
    seconds = time.monotonic() - changed
    time.sleep(REFUSAL_S)
    require(not lab.control.online(ours.name), "connected to a server with another key")
    require(ours.host_ping(stock.address()), "traffic stopped with the control server")
    _, text = plain_status(ours)
    require("key" in text and "log out" in text, f"`status` does not say what to do: {text!r}")
    ours.restart()
    wait_until(lambda: "key" in problem(ours), NOTICE_TIMEOUT_S,
               "the changed key to be reported after a restart")
    done = ours.try_up(timeout_s=3.0)
    require(done.returncode != 0 and "key" in done.stdout + done.stderr,
            f"`up` gave {done.returncode}: {(done.stdout + done.stderr).strip()!r}")
    done = ours.cli("logout")
    require(done.returncode == 0, f"`logout` gave {done.returncode}: {done.stderr.strip()}")
    ours.up()
    wait_online(lab, ours)
    late = lab.stock("late")  # the other stock node goes on with the old key for ever
    late.up()
    ours.wait_ping(late.address())
    return f"reported after {seconds:.2f} s: {text.splitlines()[-1][:200]}"


@scenario(scheme="https", stand_in=False)
def new_server_key_https(lab):
    """over https the certificate vouches for a new server key: the node comes back by itself"""
    ours, stock = pair(lab)
    wait_online(lab, ours)
    change_server_key(lab)
    began = time.monotonic()
    wait_until(lambda: lab.control.online(ours.name), NOTICE_TIMEOUT_S, "our node to be online")
    seconds = time.monotonic() - began
    require(ours.host_ping(stock.address()), "no traffic afterwards")
    return f"online {seconds:.2f} s after headscale's return"


@scenario(stand_in=False)
def key_expired_by_hand(lab):
    """an expired node without a stored key says so, asks for a login, and returns with a key"""
    ours, stock = pair(lab)
    before = lab.control.node(ours.name)
    lab.control.expire(ours.name)
    wait_state(ours, "NeedsLogin")
    done, text = plain_status(ours)
    ours.expect_exit(done, "needs login")
    require("expired" in text, f"`status` does not say that the key has expired: {text!r}")
    wait_until(lambda: ours.status().get("AuthURL"), NOTICE_TIMEOUT_S, "an AuthURL")
    ours.up()
    after = lab.control.node(ours.name)
    require(after["id"] == before["id"], "another record")
    require(after["node_key"] != before["node_key"], "the expired key was kept")
    ours.wait_ping(stock.address())
    return text.splitlines()[-1][:160]


def renew_key(lab, node, other):
    """`node` logs in again with a new node key while both ping each other; gives the longest
    silence of the two trains."""
    before = lab.control.node(node.name)
    trains = [Train(node, other.address()), Train(other, node.address())]
    began = time.monotonic()
    node.up(flags=["--force-reauth"])
    wait_until(lambda: all(train.first_answer_since(time.monotonic() - 1) for train in trains),
               NOTICE_TIMEOUT_S, f"pings both ways after {node.name}'s new key")
    ended = time.monotonic()
    after = lab.control.node(node.name)
    require(after["node_key"] != before["node_key"], f"{node.name} has kept its node key")
    require(after["id"] == before["id"], f"{node.name} is another record")
    silence = max(train.finish().longest_silence(began, ended) for train in trains)
    require(silence < RENEWAL_LIMIT_S, f"{silence:.2f} s without an answer after "
                                       f"{node.name}'s new key")
    return silence


@scenario()
def key_renewed(lab):
    """a node logs in again with a new key under traffic, ours and the peer: pings go on at once"""
    ours, stock = pair(lab)
    texts = []
    for node, other in ((stock, ours), (ours, stock), (ours, stock)):
        texts.append(f"{node.kind} {renew_key(lab, node, other):.2f} s")
    return "longest silence after a new key of " + ", ".join(texts)


@scenario()
def key_renewed_relayed(lab):
    """key_renewed between two of ours whose packets go by derper, over an expiry of one key too"""
    first, second = lab.ours("first"), lab.ours("second")
    if not first.relay_only:
        first.block_udp()
    join_both(first, second)
    first.wait_ping(second.address())
    texts = [f"{renew_key(lab, first, second):.2f} s", f"{renew_key(lab, second, first):.2f} s"]
    lab.control.expire(second.name)
    wait_state(second, "NeedsLogin")
    second.up()
    began = time.monotonic()
    first.wait_ping(second.address())
    require(second.host_ping(first.address()), "no answer after the expiry")
    return (f"longest silence after a new key {', '.join(texts)}; pings "
            f"{time.monotonic() - began:.2f} s after the login that ends an expiry")


@scenario()
def registered_by_hand(lab):
    """`headscale nodes register` approves a login whose URL `up` shows"""
    node = lab.ours()
    child = node.start_up(None)
    wait_until(lambda: node.status().get("AuthURL"), NOTICE_TIMEOUT_S, "an AuthURL")
    key = node.status()["AuthURL"].rsplit("/", 1)[1]
    require(child.poll() is None, "`up` did not wait for the approval")
    lab.control.cli("nodes", "register", "--user", "lab", "--key", key)
    approved = time.monotonic()
    try:
        output, _ = child.communicate(timeout=NOTICE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        output = "(still waiting)"
    require(child.returncode == 0, f"`up` gave {child.returncode}: {output!r}")
    require(re.search(f"https?://\\S+/{re.escape(key)}", output), f"no URL shown: {output!r}")
    return f"`up` was done {time.monotonic() - approved:.2f} s after the approval"


# closes: CTRL-42
@scenario(group=EXTRA, stand_in=False)
def deleted_unasked(lab):
    """a deleted node that has no reason to speak to headscale comes back within 11 minutes"""
    ours, stock = lab.ours(), lab.stock()
    ours.up(lab.control.auth_key(reusable=True))
    stock.up()
    ours.wait_ping(stock.address())
    old = lab.control.node(ours.name)["id"]
    lab.control.cli("nodes", "delete", "--identifier", old)
    began = time.monotonic()

    def back():
        records = [node for node in lab.control.nodes() if node["given_name"] == ours.name]
        return records and records[0]["id"] != old and records[0].get("online")
    wait_until(back, DELETED_LIMIT_S, "the node to register anew", 1.0)
    seconds = time.monotonic() - began
    ours.wait_ping(stock.address())
    return f"back after {seconds:.1f} s"
