"""A node's life with its control server: logins by a person, keys that expire, nodes that are
deleted, configuration instead of commands."""
import json
import os
import re
import signal
import subprocess
import time

from lab import require, wait_until
from scenario import scenario
from scenarios_join import wait_online, wait_state
from scenarios_traffic import pair

LOGIN_TIMEOUT_S = 30.0
RECOVERY_TIMEOUT_S = 60.0
REGISTER_URL = re.compile(r"https?://\S+/register/(\S+)")


def configured(lab, text, **options):
    """A node of ours whose settings stand in a file; `{url}` and `{key}` are filled in."""
    node = lab.ours(start=False, **options)
    path = node.directory / "tsnode.yaml"
    path.write_text(text)
    path.chmod(0o600)
    usual = node.daemon_argv
    node.daemon_argv = lambda: [*usual(), "--config", path]
    node.start()
    return node, path


def background(lab, node, *words):
    """A command of the node's CLI that goes on while the scenario does."""
    child = subprocess.Popen(
        node.namespace.wrap(node.cli_argv([str(word) for word in words])), env=node.env,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lab.commands.append(child)
    return child


def wait_log(node, mark, words, what):
    wait_until(lambda: words in node.process.log_since(mark), LOGIN_TIMEOUT_S, what, 0.1)


@scenario()
def interactive_login(lab):
    """`up` without a key prints a URL; an approval by headscale lets it finish"""
    node = lab.ours()
    child = node.start_up(None)
    try:
        wait_state(node, "NeedsLogin")
        wait_until(lambda: REGISTER_URL.search(node.status().get("AuthURL") or ""),
                   LOGIN_TIMEOUT_S, "an AuthURL in the status")
        auth_id = REGISTER_URL.search(node.status()["AuthURL"]).group(1)
        lab.control.cli("auth", "register", "--user", "lab", "--auth-id", auth_id)
        began = time.monotonic()
        output, _ = child.communicate(timeout=LOGIN_TIMEOUT_S)
        seconds = time.monotonic() - began
    finally:
        child.kill()
    require(child.returncode == 0, f"`up` gave {child.returncode}: {output!r}")
    require(REGISTER_URL.search(output), f"`up` showed no URL: {output!r}")
    require(node.backend_state() == "Running", f"state {node.backend_state()} after the approval")
    wait_online(lab, node)
    return f"`up` was done {seconds:.2f} s after the approval"


@scenario(stand_in=False)
def configuration(lab):
    """a file with server and key is all a node needs; SIGHUP takes a new one, and keeps it if bad"""
    text = (f"login_server: {lab.control.url}\nauth_key: {lab.control.auth_key()}\n"
            "accept_dns: false\nhostname: {name}\n")
    node, path = configured(lab, text.format(name="ours"))
    wait_state(node, "Running")
    wait_online(lab, node)
    path.write_text(text.format(name="renamed"))
    mark = node.process.log_size()
    node.process.send_signal(signal.SIGHUP)
    wait_until(lambda: [n["given_name"] for n in lab.control.nodes()] == ["renamed"],
               LOGIN_TIMEOUT_S, "headscale to see the new host name", 0.3)
    path.write_text("hostname: x\nno_such_key: 1\n")
    node.process.send_signal(signal.SIGHUP)
    wait_log(node, mark, "config.kept", "the bad file to be refused")
    require("no_such_key" in node.process.log_since(mark), "the bad key is not named")
    require(node.backend_state() == "Running", "a bad file stopped the node")
    path.write_text(text.format(name="renamed") + "mtu: 1300\n")
    node.process.send_signal(signal.SIGHUP)
    wait_log(node, mark, "config.needs_restart", "the need of a restart to be named")


@scenario(stand_in=False)
def key_expired(lab):
    """an expired node key is renewed with the key of the configuration, on the same record"""
    key = lab.control.auth_key(reusable=True)
    node, _ = configured(lab, f"login_server: {lab.control.url}\nauth_key: {key}\n"
                              "accept_dns: false\nhostname: ours\n")
    wait_state(node, "Running")
    wait_online(lab, node)
    before = lab.control.node("ours")
    began = time.monotonic()
    lab.control.cli("nodes", "expire", "--identifier", before["id"])
    wait_until(lambda: lab.control.node("ours")["node_key"] != before["node_key"],
               RECOVERY_TIMEOUT_S, "a new node key", 0.3)
    seconds = time.monotonic() - began
    wait_state(node, "Running")
    require(lab.control.node("ours")["id"] == before["id"], "another record")
    return f"renewed after {seconds:.2f} s"


@scenario(stand_in=False)
def deleted_node(lab):
    """a node that was deleted in headscale comes back with a reusable key, and reaches its peer"""
    node, other = lab.ours(), lab.stock()
    key = lab.control.auth_key(reusable=True)
    node.up(key)
    other.up()
    node.wait_ping(other.address())
    old = lab.control.node("ours")["id"]
    lab.control.cli("nodes", "delete", "--identifier", old)
    began = time.monotonic()
    node.cli("set", "--hostname=other-name")  # a lite update, which the server refuses

    def back():
        records = [n for n in lab.control.nodes() if n["given_name"] != other.name]
        return records and records[0]["id"] != old and records[0].get("online")
    wait_until(back, RECOVERY_TIMEOUT_S, "the node to register anew", 0.3)
    seconds = time.monotonic() - began
    node.wait_ping(other.address(), timeout_s=RECOVERY_TIMEOUT_S)
    return f"back after {seconds:.2f} s"


@scenario(stand_in=False)
def ephemeral(lab):
    """a daemon with --state=mem: writes nothing, and leaves the tailnet when it stops"""
    node = lab.ours(start=False)
    usual = node.daemon_argv
    node.daemon_argv = lambda: [*usual(), "--state=mem:"]
    node.start()
    node.up(lab.control.auth_key(ephemeral=True))
    wait_online(lab, node)
    require(not os.path.exists(node.state / "tsnode.state"), "a state file was written")
    node.stop()
    wait_until(lambda: not lab.control.nodes(), LOGIN_TIMEOUT_S, "headscale to forget the node", 0.3)


@scenario(stand_in=False)
def debug_verbs(lab):
    """debug derp, netmap, capture and bugreport say what they should, and no names or keys"""
    ours, other = pair(lab)
    derp = json.loads(ours.cli("debug", "derp", "--json").stdout)
    require(any(r["Home"] and r["State"] == "open" for r in derp["Regions"]), f"no home: {derp}")
    netmap = json.loads(ours.cli("debug", "netmap").stdout)
    require(len(netmap["Peers"]) == 1 and netmap["SelfNode"]["Key"] == ours.node_key(), "netmap")
    path = ours.directory / "x.pcap"
    child = background(lab, ours, "debug", "capture", "-o", path, "--duration=2s")
    ours.host_ping(other.address(), count=5)
    output, _ = child.communicate(timeout=15)
    require(child.returncode == 0, f"capture gave {child.returncode}: {output}")
    data = path.read_bytes()
    require(int.from_bytes(data[20:24], "little") == 101 and len(data) > 24 + 5 * 100,
            f"{len(data)} bytes of pcap")
    report = ours.cli("bugreport", "-o", "-").stdout
    for secret in (other.address(), ours.address(), ours.node_key(), other.node_key(),
                   "tailnet.example", lab.control.url.split("//")[1].split(":")[0]):
        require(secret not in report, f"the report holds {secret}")
    require("== log ==" in report and "BackendState" in report, "the report lacks its sections")
    return f"capture {len(data)} bytes, report {len(report)} bytes"
