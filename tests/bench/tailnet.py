"""A tailnet on loopback for the benches: tscontrol, a relay whose certificate is verified against
the system's roots and one more, nodes without a TUN. No root, no network beyond 127.0.0.1."""
import asyncio
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time

SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"
AUTH_KEY = "bench-auth-key"
START_S = 20.0
STOP_S = 5.0
KB_PER_MB = 1024.0


def free_port():
    """A port that was free a moment ago, for TCP and UDP."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            try:
                udp.bind(tcp.getsockname())
                return tcp.getsockname()[1]
            except OSError:
                continue


def memory(pid):
    """Figures of a process in MB: rss, peak, anon (private), pss."""
    fields = {}
    for name in ("status", "smaps_rollup"):
        for line in pathlib.Path(f"/proc/{pid}/{name}").read_text().splitlines():
            key, _, value = line.partition(":")
            if value.strip().endswith("kB"):
                fields[f"{name}.{key}"] = int(value.split()[0]) / KB_PER_MB
    return {"rss": fields["status.VmRSS"], "peak": fields["status.VmHWM"],
            "anon": fields["status.RssAnon"], "pss": fields["smaps_rollup.Pss"]}


class TlsFront(threading.Thread):
    """TLS in front of a plain port: what a reverse proxy does for a control server."""

    def __init__(self, pem, target):
        super().__init__(daemon=True)
        self.pem, self.target, self.port = pem, target, free_port()
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()

    def run(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem)
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(
            asyncio.start_server(self.serve, "127.0.0.1", self.port, ssl=context))
        self.ready.set()
        self.loop.run_forever()

    async def serve(self, reader, writer):
        async def copy(source, sink):
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except (OSError, ssl.SSLError):
                pass
            sink.close()
        back = await asyncio.open_connection("127.0.0.1", self.target)
        await asyncio.gather(copy(reader, back[1]), copy(back[0], writer))


class Tailnet:
    """tscontrol with `fakes` peers that exist only in the netmap, and its relay."""

    def __init__(self, tscontrol, fakes=0, https=False):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="tsnode-bench-"))
        self.children = []
        try:
            self.make_certificates()
            control, relay = free_port(), free_port()
            # A tscontrol of its own is the relay: named by address only, so that nodes verify its
            # chain instead of a pin.
            self.spawn("relay", [tscontrol, "--listen", f"127.0.0.1:{free_port()}", "--relay",
                                 f"127.0.0.1:{relay}", "--relay-cert", self.pem,
                                 "--relay-name", "127.0.0.1"])
            self.spawn("control", [tscontrol, "--listen", f"127.0.0.1:{control}", "--relay", "none",
                                   "--derp", f"127.0.0.1:{relay}:{relay}", "--auth-key", AUTH_KEY,
                                   "--fake-peers", str(fakes)])
            self.wait_port(control)
            self.wait_port(relay)
            self.url = f"http://127.0.0.1:{control}"
            if https:
                front = TlsFront(self.pem, control)
                front.start()
                front.ready.wait(START_S)
                self.url = f"https://127.0.0.1:{front.port}"
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def openssl(self, *words):
        subprocess.run(["openssl", *words], cwd=self.directory, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def make_certificates(self):
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        self.openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30",
                     "-subj", "/CN=bench ca")
        self.openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj",
                     "/CN=127.0.0.1")
        (self.directory / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
        self.openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                     "-CAcreateserial", "-days", "30", "-extfile", "ext", "-out", "server.pem")
        read = lambda name: (self.directory / name).read_bytes()
        self.pem = self.directory / "relay.pem"
        self.pem.touch(mode=0o600)
        self.pem.write_bytes(read("server.pem") + read("server.key"))
        system = pathlib.Path(SYSTEM_ROOTS)
        roots = (system.read_bytes() if system.exists() else b"") + read("ca.pem")
        (self.directory / "roots.pem").write_bytes(roots)
        self.env = dict(os.environ, SSL_CERT_FILE=str(self.directory / "roots.pem"),
                        TS_NO_LOGS_NO_SUPPORT="true")

    def spawn(self, name, argv):
        with open(self.directory / f"{name}.log", "wb") as log:
            child = subprocess.Popen([str(word) for word in argv], stdin=subprocess.DEVNULL,
                                     stdout=log, stderr=log, env=self.env)
        self.children.append(child)
        return child

    def log(self, name):
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def wait_port(self, port):
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"tscontrol did not start: {self.log('control')}") from None
                time.sleep(0.05)

    def wait_socket(self, path, name):
        deadline = time.monotonic() + START_S
        while not path.exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start: {self.log(name)}")
            time.sleep(0.05)

    def up(self, argv, name):
        done = subprocess.run([str(word) for word in argv] +
                              [f"--login-server={self.url}", f"--auth-key={AUTH_KEY}",
                               f"--hostname={name}", "--accept-dns=false", "--timeout=60s"],
                              env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=90, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{name} does not join: {done.stdout}\n{self.log(name)[-2000:]}")

    def node(self, program, name):
        """Starts a tsnode, joins, gives its process."""
        place = self.directory / name
        place.mkdir(mode=0o700)
        child = self.spawn(name, [program, "daemon", "--statedir", place / "state", "--socket",
                                  place / "sock", "--tun", "none"])
        self.wait_socket(place / "sock", name)
        self.up([program, "--socket", place / "sock", "up"], name)
        return child

    def stock(self, tailscaled, name):
        """The same with tailscaled."""
        place = self.directory / name
        place.mkdir(mode=0o700)
        child = self.spawn(name, [tailscaled, f"--statedir={place / 'state'}",
                                  f"--socket={place / 'sock'}", "--tun=userspace-networking",
                                  "--port=0"])
        self.wait_socket(place / "sock", name)
        self.up([tailscaled.parent / "tailscale", f"--socket={place / 'sock'}", "up",
                 "--netfilter-mode=off"], name)
        return child

    def close(self):
        for child in reversed(self.children):
            child.send_signal(signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
