"""The programs under test and their peers: headscale, derper, stock tailscaled, and tsnode.

Stock and Ours have one interface (Node), so a scenario says `lab_node.ping(other)` and does not
care which of the two it holds; in baseline mode every Ours is a Stock (see scenario.py).
"""
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

from lab import (CONTROL_NAME, DERP_NAME, HUB_IP, Failure, Lab, command, must, parse_json,
                 require, wait_until)

DERP_REGION = 900
DERP_CODE = "lab"
CONTROL_PORT = 8080
CONTROL_METRICS_PORT = 9090
START_TIMEOUT_S = 20.0
JOIN_TIMEOUT_S = 60.0
POLICY_TIMEOUT_S = 15.0
NOBODY_UID = 65534
USER = "lab"

# TSMP pongs of tailscale have the peer's PeerAPI port beside the address.
PONG = re.compile(r"pong from (\S+) \(([0-9a-f.:]+)(?:, \d+)?\) via (\S+) in (\S+)")

ALLOW_ALL = {"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}

HEADSCALE_CONFIG = """\
server_url: {url}
listen_addr: 0.0.0.0:{port}
metrics_listen_addr: 127.0.0.1:{metrics_port}
grpc_listen_addr: 127.0.0.1:50443
grpc_allow_insecure: false
noise: {{private_key_path: {state}/noise.key}}
prefixes: {{v4: 100.64.0.0/10, v6: "fd7a:115c:a1e0::/48", allocation: sequential}}
derp:
  server: {{enabled: false}}
  urls: []
  paths: ["{state}/derp.yaml"]
  auto_update_enabled: false
disable_check_updates: true
database: {{type: sqlite, sqlite: {{path: "{state}/db.sqlite", write_ahead_log: true}}}}
log: {{level: debug, format: text}}
policy: {{mode: file, path: "{state}/policy.json"}}
dns:
  magic_dns: true
  base_domain: tailnet.example
  override_local_dns: false
  nameservers: {{global: []}}
unix_socket: {state}/headscale.sock
unix_socket_permission: "0700"
logtail: {{enabled: false}}
tls_cert_path: "{certificate}"
tls_key_path: "{key}"
"""

# An IPv4 literal in the node entry: clients must not need DNS to reach the relay.
DERP_MAP = f"""\
regions:
  {DERP_REGION}:
    regionid: {DERP_REGION}
    regioncode: {DERP_CODE}
    regionname: Lab
    nodes:
      - name: {DERP_REGION}a
        regionid: {DERP_REGION}
        hostname: {DERP_NAME}
        ipv4: {HUB_IP}
        ipv6: none
        stunport: 3478
        derpport: 443
"""


class Headscale:
    """The control server, in the hub. scheme "https" serves the lab's certificate instead of
    plain HTTP; both listen on the same port."""

    def __init__(self, lab, scheme="http"):
        self.lab = lab
        self.state = lab.directory / "headscale"
        self.state.mkdir()
        self.url = f"{scheme}://{HUB_IP}:{CONTROL_PORT}"
        self.config = self.state / "config.yaml"
        tls = lab.run.certificates
        secure = scheme == "https"
        self.config.write_text(HEADSCALE_CONFIG.format(
            url=self.url, port=CONTROL_PORT, metrics_port=CONTROL_METRICS_PORT, state=self.state,
            certificate=tls.certificate(CONTROL_NAME) if secure else "",
            key=tls.key(CONTROL_NAME) if secure else ""))
        (self.state / "derp.yaml").write_text(DERP_MAP)
        self._write_policy(ALLOW_ALL)
        self.env = lab.run.environment(self.state)
        self.program = lab.run.peer("headscale")
        self.process = lab.process(lab.hub, "headscale",
                                   [self.program, "-c", self.config, "serve"], self.env)
        self.wait_ready()
        self.cli("users", "create", USER)

    def wait_ready(self):
        def probe():
            self.process.check_alive()
            link = self.lab.hub.socket(socket.AF_INET, socket.SOCK_STREAM)
            with link:
                link.settimeout(1.0)
                link.connect((HUB_IP, CONTROL_PORT))
            return (self.state / "headscale.sock").exists()
        wait_until(probe, START_TIMEOUT_S, "headscale to listen", interval_s=0.05)

    def start(self):
        """Starts it again after stop(), on the same database."""
        self.process.start()
        self.wait_ready()

    def stop(self):
        self.process.stop()

    def cli(self, *words):
        """Runs a headscale command against this server and returns its parsed JSON output."""
        argv = [self.program, "-c", self.config, "--force", "-o", "json", *words]
        text = must(self.lab.hub.wrap([str(word) for word in argv]), env=self.env)
        return parse_json(text, f"headscale {words[0]}") if text.strip() else None

    def auth_key(self, reusable=False, ephemeral=False, expiration="1h"):
        """A new pre-auth key of the lab's user."""
        words = ["preauthkeys", "create", "--user", "1", "--expiration", expiration]
        words += ["--reusable"] if reusable else []
        words += ["--ephemeral"] if ephemeral else []
        return self.cli(*words)["key"]

    def nodes(self):
        return self.cli("nodes", "list") or []

    def node(self, name):
        """The one node record with this given name; fails when there is none, or more."""
        found = [node for node in self.nodes() if node["given_name"] == name]
        require(len(found) == 1, f"headscale has {len(found)} nodes named {name}, not one")
        return found[0]

    def online(self, name):
        return bool(self.node(name).get("online"))

    def rename(self, name, new_name):
        self.cli("nodes", "rename", "--identifier", self.node(name)["id"], new_name)

    def stored_node(self, name):
        """The full in-memory record: unlike `nodes list` it has the endpoints and Hostinfo."""
        status, text = self.lab.hub.http_get("127.0.0.1", CONTROL_METRICS_PORT,
                                             "/debug/nodestore", accept="application/json")
        require(status == 200, f"headscale /debug/nodestore answered {status}")
        store = parse_json(text, "headscale /debug/nodestore")
        records = store.values() if isinstance(store, dict) else store
        found = [node for node in records if node.get("GivenName", node.get("given_name")) == name]
        require(len(found) == 1, f"headscale's node store has {len(found)} nodes named {name}")
        return found[0]

    def _write_policy(self, policy):
        (self.state / "policy.json").write_text(json.dumps(policy, indent=2))

    def set_policy(self, policy):
        """Replaces the policy while nodes are connected (SIGHUP). Nodes learn of it a moment
        later, so callers wait for an effect that only the new policy has."""
        self._write_policy(policy)
        mark = self.process.log_size()
        self.process.send_signal(signal.SIGHUP)

        def loaded():
            text = self.process.log_since(mark)
            require(" ERR " not in text, "headscale refused the policy")
            return "reloading ACL policy" in text
        wait_until(loaded, POLICY_TIMEOUT_S, "headscale to reload its policy", interval_s=0.05)


class Derper:
    """The relay and STUN server, in the hub, with TLS by the lab's CA."""

    def __init__(self, lab):
        self.lab = lab
        state = lab.directory / "derper"
        state.mkdir()
        self.process = lab.process(
            lab.hub, "derper",
            [lab.run.peer("derper"), "-a", f":{443}", "-http-port", "80", "-hostname", DERP_NAME,
             "-certmode", "manual", "-certdir", lab.run.certificates.directory,
             "-c", state / "derper.key", "-stun"],
            lab.run.environment(state))
        self.wait_ready()

    def wait_ready(self):
        def probe():
            self.process.check_alive()
            return self.lab.hub.tls_handshake(HUB_IP, 443, DERP_NAME, self.lab.run.certificates.ca)
        wait_until(probe, START_TIMEOUT_S, "derper to serve TLS", interval_s=0.05)

    def restart(self):
        self.process.restart()
        self.wait_ready()

    def counters(self):
        """derper's counters: {name or name{labels}: number} (derp.md 4.7). /debug answers
        loopback clients only, which the hub is."""
        status, text = self.lab.hub.http_get("127.0.0.1", 80, "/debug/varz")
        require(status == 200, f"derper /debug/varz answered {status}")
        found = re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (-?[0-9.e+]+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}


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

    def __init__(self, lab, name, tun=True, uid=None, port=0, start=True):
        self.lab = lab
        self.name = name
        self.tun = tun
        self.uid = uid
        self.port = port
        self.namespace, self.underlay_ip = lab.node_namespace(name)
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
    """A Lab with headscale and derper running, and with makers of nodes."""

    def __init__(self, run, scenario_name, ours_class=Ours, scheme="http"):
        super().__init__(run, scenario_name)
        self.ours_class = ours_class
        self.scheme = scheme
        self.control = None
        self.relay = None

    def __enter__(self):
        super().__enter__()
        try:
            self.relay = Derper(self)
            self.control = Headscale(self, self.scheme)
        except BaseException:
            self.close()
            raise
        return self

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
