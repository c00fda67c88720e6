"""The nodes of a lab, tsnode and stock tailscaled, and the Tailnet that they join.

Stock and Ours have one interface (Node), so a scenario says `lab_node.ping(other)` and does not
care which of the two it holds; in baseline mode every Ours is a Stock (see scenario.py).
"""
import hashlib
import os
import re
import socket
import subprocess
import threading
import time

from lab import Failure, Lab, command, parse_json, require, wait_until
from servers import DERP_SITES, Derpd, Derper, Headscale, TlsProxy
from tscontrol import TsControl

START_TIMEOUT_S = 20.0
JOIN_TIMEOUT_S = 60.0
NOBODY_UID = 65534

# TSMP pongs of tailscale have the peer's PeerAPI port beside the address.
PONG = re.compile(r"pong from (\S+) \(([0-9a-f.:]+)(?:, \d+)?\) via (\S+) in (\S+)")


class PingResult:
    """What one `ping` command of a CLI said."""

    def __init__(self, done):
        self.status = done.returncode
        self.text = (done.stdout + done.stderr).strip()
        match = PONG.search(self.text)
        self.ok = done.returncode == 0 and match is not None
        self.name, self.ip, self.via, self.time = match.groups() if match else (None,) * 4


class Node:
    """A member of the tailnet in a namespace of its own. Subclasses say which programs it is."""

    kind = "?"
    exit_codes = {}     # meaning to status, where the program promises one
    relay_only = False  # True: has no UDP paths, so publishes no endpoints

    def __init__(self, lab, name, tun=True, uid=None, port=0, start=True, beside=None):
        """beside: another node without a TUN, whose namespace this one shares."""
        self.lab = lab
        self.name = name
        self.tun = tun
        self.uid = uid
        self.port = port
        if beside is None:
            self.namespace, self.underlay_ip = lab.node_namespace(name)
        else:
            self.namespace, self.underlay_ip = beside.namespace, beside.underlay_ip
        self.directory = lab.directory / name
        self.directory.mkdir(mode=0o700)
        if uid is not None:
            os.chown(self.directory, uid, uid)
        self.socket_path = self.directory / "control.sock"
        self.state = self.directory / "state"
        self.env = lab.run.environment(self.directory)
        self.process = None
        if start:
            self.start()

    # -- the two programs; subclasses fill these in ------------------------------------------

    def daemon_argv(self):
        raise NotImplementedError

    def cli_argv(self, words):
        raise NotImplementedError

    def tun_name(self):
        raise NotImplementedError

    # -- life -------------------------------------------------------------------------------

    def start(self):
        """Starts the daemon and waits until its local socket answers."""
        if self.process is None:
            self.process = self.lab.process(
                self.namespace, f"{self.name}-{self.kind}", self.daemon_argv(), self.env,
                private_resolv_conf=True, uid=self.uid, expect_clean_exit=True)
        else:
            self.process.start()
        wait_until(self._socket_answers, START_TIMEOUT_S, f"the socket of {self.name}", 0.05)

    def _socket_answers(self):
        self.process.check_alive()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.connect(str(self.socket_path))
        return True

    def stop(self):
        self.process.stop()

    def restart(self):
        self.stop()
        self.start()

    def cli(self, *words, timeout_s=30.0):
        """Runs a command of the node's CLI inside its namespace; gives the CompletedProcess."""
        argv = self.cli_argv([str(word) for word in words])
        if self.uid is not None:
            argv = ["setpriv", "--reuid", str(self.uid), "--regid", str(self.uid),
                    "--clear-groups", *argv]
        done = command(self.namespace.wrap(argv), timeout_s, env=self.env)
        done.verb = " ".join(str(word) for word in words)
        return done

    def up_words(self, auth_key=None, url=None, timeout_s=JOIN_TIMEOUT_S, flags=()):
        words = ["up", f"--login-server={url or self.lab.control.url}",
                 f"--hostname={self.name}", "--accept-dns=false", f"--timeout={timeout_s:g}s"]
        return words + ([f"--auth-key={auth_key}"] if auth_key else []) + list(flags)

    def try_up(self, auth_key=None, timeout_s=JOIN_TIMEOUT_S, **options):
        """`up`; gives the CompletedProcess whatever its status."""
        return self.cli(*self.up_words(auth_key, timeout_s=timeout_s, **options),
                        timeout_s=timeout_s + 10)

    def up(self, auth_key=None, **options):
        """`up`, which must succeed. Without a key a fresh one-shot key is made."""
        done = self.try_up(auth_key or self.lab.control.auth_key(), **options)
        require(done.returncode == 0, f"`up` on {self.name} gave {done.returncode}: "
                                      f"{(done.stderr or done.stdout).strip()}")

    def start_up(self, auth_key):
        """Begins `up` and returns its Popen at once, for several nodes side by side."""
        child = subprocess.Popen(
            self.namespace.wrap(self.cli_argv(self.up_words(auth_key))), env=self.env,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lab.commands.append(child)
        return child

    def finish_up(self, process):
        """Waits for what start_up() began; it must have succeeded."""
        try:
            output, _ = process.communicate(timeout=JOIN_TIMEOUT_S + 10)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        require(process.returncode == 0,
                f"`up` on {self.name} gave {process.returncode}: {output.strip()}")

    def wrong_exit(self, done, *meanings):
        """None when a CLI command ended with the status of one of these meanings, else what is
        wrong. The stock program promises none: there, any failure will do."""
        codes = [self.exit_codes[meaning] for meaning in meanings if self.exit_codes]
        if done.returncode in codes or (not codes and done.returncode != 0):
            return None
        return (f"`{done.verb}` gave {done.returncode}, not "
                f"{' or '.join(map(str, codes)) or 'a failure'} ({' or '.join(meanings)}): "
                f"{(done.stderr or done.stdout).strip()!r}")

    def expect_exit(self, done, *meanings):
        """Fails unless a CLI command ended with the status of one of these meanings."""
        wrong = self.wrong_exit(done, *meanings)
        require(wrong is None, wrong)

    # -- what it says -----------------------------------------------------------------------

    def status(self):
        done = self.cli("status", "--json")
        return parse_json(done.stdout, f"{self.name}: status --json (exit {done.returncode}, "
                                       f"{done.stderr.strip()!r})")

    def backend_state(self):
        return self.status()["BackendState"]

    def address(self, version=4):
        """Its tailnet address, by its own `ip` command."""
        done = self.cli("ip", f"-{version}")
        require(done.returncode == 0 and done.stdout.strip(),
                f"`ip -{version}` on {self.name} gave {done.returncode}: {done.stderr.strip()}")
        return done.stdout.split()[0]

    def node_key(self):
        return self.status()["Self"]["PublicKey"]

    def peer(self, other):
        """How this node's status shows `other` (looked up by its address); None when absent."""
        address = other.address()
        for peer in (self.status().get("Peer") or {}).values():
            if address in (peer.get("TailscaleIPs") or []):
                return peer
        return None

    def wait_peer(self, other, accept=lambda peer: True, what="peer", timeout_s=20.0):
        """Waits until `other` is in this node's status and `accept` likes its entry."""
        def probe():
            peer = self.peer(other)
            return peer if peer is not None and accept(peer) else None
        return wait_until(probe, timeout_s, f"{self.name} to show {other.name} ({what})")

    # -- packets ----------------------------------------------------------------------------

    def ping(self, target, mode="icmp", count=1, timeout_s=5.0):
        """The CLI's ping; mode "icmp", "tsmp", or None for the program's own default."""
        words = ["ping", *([f"--{mode}"] if mode else []), *self.ping_flags(), "-c", count,
                 f"--timeout={timeout_s:g}s", target]
        return PingResult(self.cli(*words, timeout_s=count * (timeout_s + 1) + 10))

    def ping_flags(self):
        return []

    def wait_ping(self, target, mode="icmp", timeout_s=30.0):
        """Pings until answered; the first pings may meet a peer that is not yet in the netmap."""
        def probe():
            result = self.ping(target, mode, timeout_s=2.0)
            if not result.ok:
                raise Failure(result.text.replace("\n", "; "))
            return result
        return wait_until(probe, timeout_s, f"{self.name} to get a {mode} pong from {target}")

    def host_ping(self, target, count=3, wait_s=3):
        """The kernel's way: ping(8) through the TUN. True when at least one answer came."""
        done = command(self.namespace.wrap(["ping", "-n", "-c", str(count), "-i", "0.2",
                                            "-W", str(wait_s), target]), timeout_s=60.0)
        return done.returncode == 0

    def block_udp(self):
        """Drops all UDP between this node and the lab, both ways: the relay is all that is left.
        The tunnel's own interface is untouched."""
        self.namespace.nft('add table inet lab; '
                           'add chain inet lab out { type filter hook output priority 0; }; '
                           'add chain inet lab in { type filter hook input priority 0; }; '
                           'add rule inet lab out oifname "eth0" meta l4proto udp counter drop; '
                           'add rule inet lab in iifname "eth0" meta l4proto udp counter drop')


class Stock(Node):
    """tailscaled and tailscale as they are."""

    kind = "tailscaled"

    def tun_name(self):
        return "tailscale0"

    def daemon_argv(self):
        program = self.lab.run.peer("tailscaled")
        if self.uid is not None:
            program = self.lab.run.public(program)
        return [program, f"--statedir={self.state}",
                f"--socket={self.socket_path}", f"--port={self.port}",
                f"--tun={self.tun_name() if self.tun else 'userspace-networking'}"]

    def cli_argv(self, words):
        program = self.lab.run.peer("tailscale")
        if self.uid is not None:
            program = self.lab.run.public(program)
        return [str(program), f"--socket={self.socket_path}", *words]

    def up_words(self, *arguments, **options):
        # The lab's namespaces are the firewall; tailscaled's own rules would need iptables here.
        return super().up_words(*arguments, **options) + ["--netfilter-mode=off"]

    def ping_flags(self):
        return ["--until-direct=false"]


class Ours(Node):
    """tsnode."""

    kind = "tsnode"
    # requirements.md 5.3
    exit_codes = {"usage": 2, "no daemon": 3, "needs login": 4, "stopped": 5, "time-out": 6,
                  "unreachable": 7}
    relay_only = True

    def __init__(self, lab, name, direct=False, settings=None, **options):
        """direct: may use UDP paths; the scenarios about relays go without. settings: further keys
        of the configuration."""
        self.relay_only = not direct
        super().__init__(lab, name, start=False, **{k: v for k, v in options.items() if k != "start"})
        self.env["TSNODE_DIRECT"] = "true" if direct else "false"
        for key, value in (settings or {}).items():
            self.env[f"TSNODE_{key.upper()}"] = str(value)
        if options.get("start", True):
            self.start()

    def tun_name(self):
        return "ts0"

    def daemon_argv(self):
        require(self.lab.run.tsnode, "tsnode is not built (./dev build), and no --tsnode was given")
        return [self.lab.run.tsnode, "daemon", "--statedir", self.state, "--socket",
                self.socket_path, "--tun", self.tun_name() if self.tun else "none",
                "--port", str(self.port), "-v"]

    def cli_argv(self, words):
        return [str(self.lab.run.tsnode), "--socket", str(self.socket_path), *words]


class Tailnet(Lab):
    """A Lab with headscale and one or two relays running, and with makers of nodes. The relays are
    derpd, or the real derper where a scenario asks for it.

    scheme: "http", "https", or "proxied": headscale speaks plain HTTP behind an nginx with TLS;
    "tscontrol": no headscale, and with no relays tscontrol's own.
    embedded: headscale (https) runs its own relay and STUN server as well.
    """

    def __init__(self, run, scenario_name, ours_class=Ours, scheme="http", relays=1,
                 derper=False, derpd_flags=(), pinned=False, embedded=False):
        super().__init__(run, scenario_name)
        self.ours_class = ours_class
        self.scheme = scheme
        self.sites = DERP_SITES[:relays]
        self.derper = derper
        self.derpd_flags = derpd_flags
        self.pinned = pinned
        self.embedded = embedded
        self.control = None
        self.proxy = None
        self.relays = []

    def __enter__(self):
        super().__enter__()
        try:
            for site in self.sites:
                self.relays.append(Derper(self, site) if self.derper
                                   else Derpd(self, site, self.derpd_flags, self.pinned))
            if self.scheme == "proxied":
                self.proxy = TlsProxy(self)
                self.control = Headscale(self, "http", self.proxy.url)
            elif self.scheme == "tscontrol":
                self.control = TsControl(self)
            else:
                self.control = Headscale(self, self.scheme, embedded=self.embedded)
        except BaseException:
            self.close()
            raise
        return self

    @property
    def relay(self):
        return self.relays[0]

    def stock(self, name="stock", **options):
        return Stock(self, name, **options)

    def ours(self, name="ours", **options):
        return self.ours_class(self, name, **options)


def transfer(sender, receiver, size_bytes, port=7001, timeout_s=60.0):
    """Sends random bytes over TCP between the tailnet addresses of two TUN nodes.

    Both sockets are ours, opened inside the two namespaces. Gives (seconds, True when the
    receiver's SHA-256 equals the sender's).
    """
    data = os.urandom(size_bytes)
    digest = hashlib.sha256()
    problem = []
    listener = receiver.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.settimeout(timeout_s)
    listener.bind((receiver.address(), port))
    listener.listen(1)

    def receive():
        try:
            link, _ = listener.accept()
            with link:
                link.settimeout(timeout_s)
                while chunk := link.recv(1 << 16):
                    digest.update(chunk)
                link.sendall(b".")
        except OSError as error:
            problem.append(f"receiver: {error}")

    thread = threading.Thread(target=receive)
    thread.start()
    link = sender.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    began = time.monotonic()
    try:
        link.settimeout(timeout_s)
        link.bind((sender.address(), 0))
        link.connect((receiver.address(), port))
        began = time.monotonic()
        link.sendall(data)
        link.shutdown(socket.SHUT_WR)
        link.recv(1)  # the receiver has read to the end
    except OSError as error:
        problem.append(f"sender: {error}")
    finally:
        link.close()
    seconds = time.monotonic() - began
    thread.join(timeout_s)
    listener.close()
    require(not problem, f"TCP {sender.name} -> {receiver.name}: {'; '.join(problem)}")
    return seconds, digest.digest() == hashlib.sha256(data).digest()
