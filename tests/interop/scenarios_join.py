"""Joining and leaving: auth keys, what headscale records, restart, logout, exit codes."""
import ipaddress
import re
import time

from lab import command, require, wait_until
from peers import NOBODY_UID
from scenario import scenario
from scenarios_traffic import check_every_ping, join_both

ONLINE_TIMEOUT_S = 15.0
STATE_TIMEOUT_S = 20.0
RESTART_TIMEOUT_S = 30.0
JOIN_GOAL_S = 2.0  # CTRL-31; printed, never gated
TAILNET_V4 = ipaddress.ip_network("100.64.0.0/10")
TAILNET_V6 = ipaddress.ip_network("fd7a:115c:a1e0::/48")

# Well formed, and unknown to every headscale.
WRONG_SECRET = "0123456789abcdef" * 4
WRONG_KEY = f"hskey-auth-AbCdEfGhIjKl-{WRONG_SECRET}"


def wait_online(lab, node):
    wait_until(lambda: lab.control.online(node.name), ONLINE_TIMEOUT_S,
               f"headscale to show {node.name} online", interval_s=0.3)


def wait_state(node, state):
    wait_until(lambda: node.backend_state() == state, STATE_TIMEOUT_S,
               f"{node.name} to be in state {state}")


# closes: CTRL-31
@scenario()
def join(lab):
    """joins by auth key; headscale shows it online, and both agree on its addresses"""
    node = lab.ours()
    began = time.monotonic()
    node.up()
    seconds = time.monotonic() - began
    wait_online(lab, node)
    record = lab.control.node(node.name)
    addresses = [node.address(4), node.address(6)]
    require(ipaddress.ip_address(addresses[0]) in TAILNET_V4, f"odd address {addresses[0]}")
    require(ipaddress.ip_address(addresses[1]) in TAILNET_V6, f"odd address {addresses[1]}")
    require(record["ip_addresses"] == addresses,
            f"headscale says {record['ip_addresses']}, the node says {addresses}")
    status = node.status()
    require(status["BackendState"] == "Running", f"state {status['BackendState']} after `up`")
    require(status["Self"]["PublicKey"] == record["node_key"], "node keys differ")
    require(node.name == status["Self"]["HostName"], f"HostName {status['Self']['HostName']}")
    plain = node.cli("status")
    require(plain.returncode == 0 and addresses[0] in plain.stdout,
            f"`status` gave {plain.returncode}: {plain.stdout!r} {plain.stderr!r}")
    version = node.cli("version")
    require(version.returncode == 0 and version.stdout.strip(), "`version` failed")
    return f"up took {seconds:.2f} s, goal {JOIN_GOAL_S:g} s, {addresses[0]}"


@scenario(scheme="https")
def join_https(lab):
    """joins a headscale with TLS whose certificate is from a private CA (SSL_CERT_FILE)"""
    node = lab.ours()
    node.up()
    wait_online(lab, node)
    return lab.control.url


@scenario()
def auth_key_file(lab):
    """takes the auth key from a file by --auth-key=file:PATH"""
    node = lab.ours()
    path = node.directory / "key"
    path.write_text(lab.control.auth_key() + "\n")
    path.chmod(0o600)
    node.up(auth_key=f"file:{path}")
    wait_online(lab, node)


@scenario()
def wrong_auth_key(lab):
    """a wrong auth key gives an error that says so, the right exit code, and no leaked key"""
    node = lab.ours()
    began = time.monotonic()
    done = node.try_up(auth_key=WRONG_KEY, timeout_s=20.0)
    seconds = time.monotonic() - began
    text = (done.stdout + done.stderr).strip()
    node.expect_exit(done, "needs login")
    require(re.search(r"auth[ -]?key", text, re.IGNORECASE), f"the cause is not named: {text!r}")
    require(WRONG_SECRET not in text, "`up` printed the auth key")
    if node.exit_codes:  # a promise of ours; tailscaled makes none
        require(seconds < 10.0, f"took {seconds:.1f} s to say that the key is wrong")
        require(WRONG_SECRET not in node.process.log_since(0), "the daemon logged the auth key")
    require(not lab.control.nodes(), "headscale made a node for a wrong key")
    node.up()
    return f"{seconds:.2f} s: {text.splitlines()[0][:120]}"


@scenario()
def used_auth_key(lab):
    """a one-shot key that another node used is refused, and says why"""
    first, second = lab.stock(), lab.ours()
    key = lab.control.auth_key()
    first.up(key)
    done = second.try_up(auth_key=key, timeout_s=20.0)
    text = (done.stdout + done.stderr).strip()
    second.expect_exit(done, "needs login")
    require("already used" in text, f"the cause is not named: {text!r}")


# closes: CTRL-33
@scenario()
def restart(lab):
    """a restarted daemon comes back by itself with the same node, key and addresses"""
    node, other = lab.ours(), lab.stock()
    join_both(node, other)
    node.wait_ping(other.address())
    before = (lab.control.node(node.name)["id"], node.node_key(), node.address(4), node.address(6))
    node.restart()
    began = time.monotonic()
    wait_state(node, "Running")
    seconds = time.monotonic() - began
    after = (lab.control.node(node.name)["id"], node.node_key(), node.address(4), node.address(6))
    require(before == after, f"identity changed from {before} to {after}")
    require(len(lab.control.nodes()) == 2, "headscale has another node now")
    node.wait_ping(other.address(), timeout_s=RESTART_TIMEOUT_S)
    return f"running again after {seconds:.2f} s"


@scenario()
def logout(lab):
    """logout expires the node in headscale; a new login by key takes the same record"""
    node = lab.ours()
    node.up()
    wait_online(lab, node)
    old = lab.control.node(node.name)
    done = node.cli("logout")
    require(done.returncode == 0, f"`logout` gave {done.returncode}: {done.stderr.strip()}")
    wait_state(node, "NeedsLogin")

    def expired():
        expiry = lab.control.node(node.name).get("expiry") or {}
        return 0 < expiry.get("seconds", 0) <= time.time()
    wait_until(expired, ONLINE_TIMEOUT_S, "headscale to show the node expired", interval_s=0.3)
    node.up()
    new = lab.control.node(node.name)
    require(len(lab.control.nodes()) == 1, "a second node after the new login")
    require(new["id"] == old["id"], "another node id after the new login")
    require(new["node_key"] != old["node_key"], "logout kept the old node key")


@scenario()
def down_up(lab):
    """down stops the tunnel, up without a key brings it back"""
    node, other = lab.ours(), lab.stock()
    join_both(node, other)
    node.wait_ping(other.address())
    done = node.cli("down")
    require(done.returncode == 0, f"`down` gave {done.returncode}: {done.stderr.strip()}")
    wait_state(node, "Stopped")
    require(not node.host_ping(other.address(), count=1, wait_s=1), "answered while down")
    done = node.try_up()
    require(done.returncode == 0, f"`up` gave {done.returncode}: {done.stderr.strip()}")
    node.wait_ping(other.address())


@scenario()
def exit_codes(lab):
    """the documented exit codes: usage, no daemon, needs login, stopped, unreachable"""
    node, other = lab.ours(), lab.stock()
    wrong = []

    def expect(meanings, *words):
        fault = node.wrong_exit(node.cli(*words), *meanings)
        if fault:
            wrong.append(fault)

    expect(["usage"], "--no-such-flag")
    expect(["usage"], "ping", "--no-such-flag", "100.64.0.1")
    expect(["usage"], "no-such-verb")
    expect(["needs login"], "ping", "-c", "1", "--timeout=2s", "100.64.0.1")
    join_both(node, other)
    address = other.address()
    node.wait_ping(address)
    other.process.pause()
    expect(["time-out", "unreachable"], "ping", "--icmp", "-c", "1", "--timeout=2s", address)
    other.process.resume()
    expect(["unreachable"], "ping", "-c", "1", "--timeout=2s", "100.127.255.254")
    node.cli("down")
    expect(["stopped"], "ping", "-c", "1", "--timeout=2s", address)
    node.stop()
    expect(["no daemon"], "status")
    require(not wrong, "; ".join(wrong))


@scenario()
def userspace(lab):
    """--tun=none as an unprivileged user joins, answers pings and pings"""
    node, other = lab.ours(tun=False, uid=NOBODY_UID), lab.stock()
    join_both(node, other)
    other.wait_ping(node.address(), "icmp")
    other.wait_ping(node.address(), "tsmp")
    require(other.host_ping(node.address(4)), "no answer to the host's ping")
    require(other.host_ping(node.address(6)), "no answer to the host's IPv6 ping")
    check_every_ping(node, other, "icmp")
    pong = check_every_ping(node, other, "tsmp")
    links = command(node.namespace.wrap(["ip", "-o", "link", "show"])).stdout
    require(len(links.splitlines()) == 2, f"unexpected interfaces: {links}")
    return f"pid {node.process.pid} as uid {NOBODY_UID}, {pong.text.splitlines()[-1]}"
