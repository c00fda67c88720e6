"""Namespaces, a bridge, processes and certificates: the machine room of the interop suite.

A Lab is one scenario's world:

        +-------------------- hub (namespace) --------------------+
        |  headscale 10.77.0.1:8080     derper 10.77.0.1:443 TLS  |
        |                                      + STUN 3478 UDP    |
        |   br0 10.77.0.1/24                                      |
        +----+---------------------+----------------------+-------+
             | veth                | veth                 | veth
        +----+------+         +----+------+          +----+------+
        |  node 1   |         |  node 2   |          |  node 3   |
        | eth0 .11  |         | eth0 .12  |          | eth0 .13  |
        | TUN 100.64.x        | TUN 100.64.x         | (no TUN)  |
        +-----------+         +-----------+          +-----------+

There is no default route, no name server and no uplink in any of them, so nothing that a program
under test does can leave the lab. Every name that we make carries our process id and a counter;
teardown removes exactly these names and kills exactly the processes that we started.
"""
import ctypes
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time

CLONE_NEWNET = 0x40000000
# A private address: with an http:// login server on any other, tailscaled's second dial goes to TLS
# on port 443, which is derper's here, and fails for two minutes.
HUB_IP = "10.77.0.1"
NODE_IP_FORMAT = "10.77.0.{}"
FIRST_NODE_OCTET = 11
DERP_NAME = "derp.lab.example"
CONTROL_NAME = "control.lab.example"
STOP_GRACE_S = 10.0  # SIGTERM to SIGKILL
LOG_TAIL_LINES = 25
LAB_NAME_MAX = 24  # a Unix socket's path has 107 bytes for all of it
HELD_SIGNALS = {signal.SIGALRM, signal.SIGINT, signal.SIGTERM}

# What programs under test inherit from our environment: sanitizer settings, and nothing else.
KEPT_ENVIRONMENT = ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS")


class Failure(Exception):
    """The scenario's verdict is FAIL, for the reason in the text."""


class Skip(Exception):
    """The scenario cannot say anything here, for the reason in the text."""


def require(condition, reason):
    """Fails the scenario with `reason` unless `condition` holds (assert vanishes under -O)."""
    if not condition:
        raise Failure(reason)


def wait_until(probe, timeout_s, what, interval_s=0.1):
    """Calls `probe` until it gives something true, and returns that.

    A probe may raise OSError, Failure, or ValueError (half-written JSON): it then has not
    succeeded yet, and the last such reason is part of the failure.
    """
    deadline = time.monotonic() + timeout_s
    reason = ""
    while True:
        try:
            value = probe()
            if value:
                return value
        except (OSError, Failure, ValueError, http.client.HTTPException) as error:
            reason = f" (last: {error})"
        if time.monotonic() > deadline:
            raise Failure(f"waited {timeout_s:g} s for {what}{reason}")
        time.sleep(interval_s)


def command(argv, timeout_s=30.0, **options):
    """Runs a short program and returns the CompletedProcess with text output; never raises on
    a non-zero status. A program that overstays is killed and counts as a scenario failure."""
    try:
        return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, errors="replace",
                              timeout=timeout_s, check=False, **options)
    except subprocess.TimeoutExpired:
        raise Failure(f"`{' '.join(map(str, argv))}` still ran after {timeout_s:g} s") from None


def must(argv, timeout_s=30.0, **options):
    """Like command(), for steps of the lab itself: a non-zero status ends the scenario."""
    done = command(argv, timeout_s, **options)
    if done.returncode != 0:
        raise Failure(f"`{' '.join(map(str, argv))}` gave {done.returncode}: "
                      f"{(done.stderr or done.stdout).strip()}")
    return done.stdout


class Namespace:
    """One network namespace, deleted by close()."""

    def __init__(self, name):
        self.name = name
        self.path = f"/run/netns/{name}"
        must(["ip", "netns", "add", name])
        self.ip("link set lo up")

    def ip(self, *lines):
        """Runs ip(8) commands inside, all in one process."""
        batch = "\n".join(lines) + "\n"
        done = subprocess.run(["ip", "-n", self.name, "-batch", "-"], input=batch, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            raise Failure(f"ip in {self.name}: {done.stdout.strip()} for {batch!r}")

    def wrap(self, argv):
        """The command line that runs `argv` inside; execs in place, so the pid stays ours."""
        return ["ip", "netns", "exec", self.name, *argv]

    def nft(self, ruleset):
        """Loads an nftables ruleset inside."""
        must(self.wrap(["nft", ruleset]))

    def socket(self, family, kind, proto=0):
        """A socket that lives in this namespace and can be used from any thread.

        Only the thread that calls socket(2) has to be inside, so a short-lived thread enters,
        creates it and ends; our own threads never leave the host's namespace.
        """
        box = []

        def create():
            libc = ctypes.CDLL(None, use_errno=True)
            try:
                with open(self.path, "rb") as handle:
                    if libc.setns(handle.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), f"setns {self.name}")
                box.append(socket.socket(family, kind, proto))
            except OSError as error:
                box.append(error)

        thread = threading.Thread(target=create)
        thread.start()
        thread.join()
        if isinstance(box[0], OSError):
            raise box[0]
        return box[0]

    def accepts(self, host, port, timeout_s=1.0):
        """True when a TCP connection from inside is taken."""
        link = self.socket(socket.AF_INET, socket.SOCK_STREAM)
        with link:
            link.settimeout(timeout_s)
            return link.connect_ex((host, port)) == 0

    def http_get(self, host, port, path, accept="*/*", timeout_s=3.0):
        """GET http://host:port/path from inside; gives (status, body text)."""
        link = self.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            link.settimeout(timeout_s)
            link.connect((host, port))
            client = http.client.HTTPConnection(host, port, timeout=timeout_s)
            client.sock = link
            client.request("GET", path, headers={"Accept": accept})
            answer = client.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            link.close()

    def tls_handshake(self, host, port, name, ca_path, timeout_s=3.0):
        """True when a verified TLS handshake for `name` completes from inside."""
        link = self.socket(socket.AF_INET, socket.SOCK_STREAM)
        link.settimeout(timeout_s)
        try:
            link.connect((host, port))
            context = ssl.create_default_context(cafile=str(ca_path))
            context.wrap_socket(link, server_hostname=name).close()
            return True
        finally:
            link.close()

    def close(self):
        command(["ip", "netns", "del", self.name])


class Process:
    """A long-running program under test, with its log file; restartable with the same arguments.

    Started from the main thread only: PR_SET_PDEATHSIG, which makes the kernel kill it should we
    be killed ourselves, is bound to the thread that forks.
    """

    def __init__(self, name, argv, log_path, env, expect_clean_exit=False):
        self.name = name
        self.argv = [str(word) for word in argv]
        self.log_path = pathlib.Path(log_path)
        self.env = env
        self.expect_clean_exit = expect_clean_exit
        self.child = None
        self.complaints = []

    def start(self):
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("Process.start outside the main thread")
        if self.child is not None:
            raise RuntimeError(f"{self.name} already runs")
        with open(self.log_path, "ab") as log:
            log.write(f"=== start {' '.join(self.argv)}\n".encode())
            log.flush()
            self.child = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log,
                                          stderr=subprocess.STDOUT, env=self.env,
                                          start_new_session=True)
        return self

    @property
    def pid(self):
        return self.child.pid

    def alive(self):
        return self.child is not None and self.child.poll() is None

    def check_alive(self):
        """Fails the scenario when the program has ended by itself."""
        if self.child is not None and self.child.poll() is not None:
            raise Failure(f"{self.name} ended by itself with status {self.child.returncode}")

    def send_signal(self, number):
        self.check_alive()
        os.kill(self.child.pid, number)

    def pause(self):
        self.send_signal(signal.SIGSTOP)

    def resume(self):
        self.send_signal(signal.SIGCONT)

    def stop(self, number=signal.SIGTERM):
        """Ends the program; what was wrong with the way it ended goes to `complaints`."""
        child, self.child = self.child, None
        if child is None:
            return
        early = child.poll()
        if early is not None:
            self.complaints.append(f"{self.name} ended by itself with status {early}")
            return
        os.kill(child.pid, signal.SIGCONT)
        os.kill(child.pid, number)
        try:
            status = child.wait(STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            self.complaints.append(f"{self.name} ignored signal {number} for {STOP_GRACE_S:g} s")
            return
        if self.expect_clean_exit and number == signal.SIGTERM and status != 0:
            self.complaints.append(f"{self.name} ended with status {status} on SIGTERM")

    def restart(self):
        self.stop()
        self.start()

    def log_size(self):
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    def log_since(self, offset):
        """What it logged after `offset` (a former log_size())."""
        with open(self.log_path, "rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")


class Certificates:
    """A CA of its own for the run, and server certificates signed by it (openssl, P-256)."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(mode=0o755)
        self.ca = self.directory / "ca.crt"
        self.ca_key = self.directory / "ca.key"
        self._openssl("req", "-x509", *self._new_key(), "-keyout", self.ca_key, "-out", self.ca,
                      "-days", "2", "-subj", "/CN=tsnode interop CA",
                      "-addext", "basicConstraints=critical,CA:TRUE",
                      "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        self.issue(DERP_NAME, [f"DNS:{DERP_NAME}", f"IP:{HUB_IP}"])
        self.issue(CONTROL_NAME, [f"DNS:{CONTROL_NAME}", f"IP:{HUB_IP}"])

    @staticmethod
    def _new_key():
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

    @staticmethod
    def _openssl(*words):
        must(["openssl", *map(str, words)])

    def issue(self, name, alternative_names):
        """Makes NAME.crt and NAME.key in the directory: the layout that derper's -certdir wants."""
        request = self.directory / f"{name}.csr"
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={','.join(alternative_names)}\n"
                              "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")
        self._openssl("req", *self._new_key(), "-keyout", self.key(name), "-out", request,
                      "-subj", f"/CN={name}")
        self._openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.ca_key,
                      "-CAcreateserial", "-days", "90", "-extfile", extensions,
                      "-out", self.certificate(name))

    def certificate(self, name):
        return self.directory / f"{name}.crt"

    def key(self, name):
        return self.directory / f"{name}.key"


class Run:
    """What all scenarios of one run share: its directory, its CA, and where the programs are."""

    def __init__(self, directory, peers_bin, tsnode, keep=False):
        self.directory = pathlib.Path(directory)
        self.directory.chmod(0o755)  # an unprivileged node must reach its state below it
        self.peers_bin = pathlib.Path(peers_bin)
        # A copy: a build that runs beside us must not change the program between two scenarios.
        self.tsnode = self.public(tsnode) if pathlib.Path(tsnode).exists() else None
        self.certificates = Certificates(self.directory / "tls")
        self.resolv_conf = self.directory / "resolv.conf"
        self.resolv_conf.write_text("# no name server in the lab\n")
        self.keep = keep
        self.labs = 0
        self.times = []  # rows of the table of recoveries: (event, what, ours, stock, goal)

    def peer(self, name):
        """Path of a stock program."""
        return self.peers_bin / name

    def public(self, program):
        """A copy of `program` that an unprivileged user can reach (caches live below /root)."""
        copy = self.directory / "bin" / pathlib.Path(program).name
        if not copy.exists():
            copy.parent.mkdir(exist_ok=True)
            own = copy.with_suffix(f".{os.getpid()}")  # scenarios beside us may want it too
            shutil.copy(program, own)
            own.chmod(0o755)
            own.rename(copy)
        return copy

    def environment(self, home, **extra):
        """The environment of a program under test: nothing of ours but sanitizer settings."""
        env = {key: os.environ[key] for key in KEPT_ENVIRONMENT if key in os.environ}
        env.update(HOME=str(home), TMPDIR=str(home), LANG="C.UTF-8",
                   SSL_CERT_FILE=str(self.certificates.ca), TS_NO_LOGS_NO_SUPPORT="true")
        env.update(extra)
        return env

    def next_prefix(self):
        """A name prefix that no other run and no other scenario of this run uses."""
        self.labs += 1
        return f"tsi{os.getpid()}-{self.labs}"


class Lab:
    """One scenario's namespaces and programs. Use as a context manager: leaving it removes all."""

    hub_wiring = (f"addr add {HUB_IP}/24 dev br0",)  # lines for ip(8)

    def __init__(self, run, scenario_name):
        self.run = run
        self.prefix = run.next_prefix()
        name = scenario_name.replace(":", "-")[:LAB_NAME_MAX]
        self.directory = run.directory / f"{self.prefix}-{name}"
        self.directory.mkdir(mode=0o755)
        self.namespaces = []
        self.ports = 0  # of the bridge
        self.processes = []
        self.commands = []  # short programs that run beside the scenario (Popen)
        self.tails = ""  # the last lines of every log, for the report of a failure
        self.hub = None

    def __enter__(self):
        try:
            self.hub = self.new_namespace("hub")
            self.hub.ip("link add br0 type bridge", "link set br0 up", *self.hub_wiring)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None:  # before the shutdown's own lines push the interesting ones out
            self.tails = self._log_tails()
        self.close()
        if kind is None:
            self.tails = self._log_tails()
        if kind is None and self.complaints():
            raise Failure("; ".join(self.complaints()))

    def new_namespace(self, role):
        namespace = Namespace(f"{self.prefix}-{role}")
        self.namespaces.append(namespace)
        return namespace

    def node_namespace(self, role):
        """A namespace wired to the bridge; gives (namespace, its IPv4 address)."""
        namespace = self.new_namespace(role)
        address = NODE_IP_FORMAT.format(FIRST_NODE_OCTET + self.plug(namespace, "eth0"))
        namespace.ip(f"addr add {address}/24 dev eth0", "link set eth0 up")
        return namespace, address

    def plug(self, namespace, interface):
        """Wires an interface of `namespace` to the bridge; gives the number of the port there."""
        number, self.ports = self.ports, self.ports + 1
        must(["ip", "link", "add", interface, "netns", namespace.name, "type", "veth",
              "peer", "name", f"port{number}", "netns", self.hub.name])
        self.hub.ip(f"link set port{number} master br0 up")
        return number

    def network_behind(self, namespace, role, router, host):
        """A namespace that is reached through another one only, by a link with these two
        addresses ("10.99.0.1/24"); the other one is its router and forwards."""
        behind = self.new_namespace(role)
        must(["ip", "link", "add", "eth0", "netns", behind.name, "type", "veth",
              "peer", "name", "inside", "netns", namespace.name])
        namespace.ip(f"addr add {router} dev inside", "link set inside up")
        must(namespace.wrap(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]))
        behind.ip(f"addr add {host} dev eth0", "link set eth0 up",
                  f"route add default via {router.split('/')[0]}")
        return behind

    def process(self, namespace, name, argv, env, private_resolv_conf=False, uid=None,
                expect_clean_exit=False):
        """Starts a program inside `namespace`; it ends with the lab, or with us.

        private_resolv_conf hides the host's /etc/resolv.conf (`ip netns exec` already gave the
        program a mount namespace of its own); uid runs it without any privilege.
        """
        inner = ["setpriv", "--pdeathsig", "KILL", *map(str, argv)]
        if uid is not None:
            inner = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups",
                     "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", *inner]
        if private_resolv_conf:
            inner = ["sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"',
                     str(self.run.resolv_conf), *inner]
        process = Process(name, namespace.wrap(inner), self.directory / f"{name}.log", env,
                          expect_clean_exit)
        self.processes.append(process)
        return process.start()

    def check_processes(self):
        """Fails when a program of the lab died unasked: a peer's crash must not look like luck."""
        for process in self.processes:
            process.check_alive()

    def _log_tails(self):
        """The last lines of every log."""
        parts = []
        for process in self.processes:
            lines = process.log_since(0).splitlines() if process.log_path.exists() else []
            parts.append(f"--- {process.name} ({process.log_path}), last lines:")
            parts.extend("    " + line[:400] for line in lines[-LOG_TAIL_LINES:])
        return "\n".join(parts)

    def complaints(self):
        """What was wrong with the way programs ended; complete after close()."""
        return [line for process in self.processes for line in process.complaints]

    def close(self):
        """Stops the programs, nodes before servers, and deletes the namespaces. A time limit or
        Ctrl-C that comes meanwhile waits until that is done."""
        held = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
        try:
            for child in self.commands:
                if child.poll() is None:
                    child.kill()
                    child.communicate()
            for process in reversed(self.processes):
                process.stop()
            while self.namespaces:
                self.namespaces.pop().close()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def discard(self):
        """Removes the lab's files (state, logs), unless they are wanted; for scenarios that
        passed."""
        if not self.run.keep:
            shutil.rmtree(self.directory, ignore_errors=True)


def parse_json(text, source):
    """JSON that a program printed; a syntax error names the program."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise Failure(f"{source} printed no JSON ({error}): {text[:200]!r}") from None
