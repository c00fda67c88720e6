"""A derpd under test and clients that speak DERP to it: Python's own TLS, libsodium by ctypes.

Everything is on loopback, with ports that the system chooses; what the relay listens on is read from
its banner.
"""
import base64
import ctypes
import ctypes.util
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

DERPD = os.environ.get("DERPD", "derpd")
START_TIMEOUT_S = 10.0
MAGIC = "DERP\U0001f511".encode()
SERVER_KEY, CLIENT_INFO, SERVER_INFO, SEND, RECV = 1, 2, 3, 4, 5
KEEP_ALIVE, NOTE_PREFERRED, PEER_GONE, PEER_PRESENT = 6, 7, 8, 9
WATCH_CONNS, CLOSE_PEER = 0x10, 0x11
PING, PONG, HEALTH, RESTARTING = 0x12, 0x13, 0x14, 0x15

sodium = ctypes.CDLL(ctypes.util.find_library("sodium"))
sodium.sodium_init()


def wait_until(probe, timeout_s=START_TIMEOUT_S, what="it"):
    deadline = time.monotonic() + timeout_s
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.01)


class Relay:
    """One derpd. Flags are added to those that put everything on loopback."""

    def __init__(self, *flags, state=None, env=None, start=True, listen=True):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="derpd-"))
        self.state = pathlib.Path(state) if state else self.directory / "state"
        own = ["--listen", "127.0.0.1:0", "--stun-listen", "127.0.0.1:0",
               "--admin-listen", "127.0.0.1:0"] if listen else []
        self.argv = [DERPD, *own, "--statedir", str(self.state), *map(str, flags)]
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.directory), **(env or {})}
        self.process = None
        if start:
            self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self):
        with open(self.directory / "out", "wb") as out, open(self.directory / "err", "wb") as err:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=err, env=self.env, cwd=self.directory)
        wait_until(self._is_ready, what="derpd to be ready")
        self.banner = self.output()
        self.port = self._port("clients")
        self.admin_port = self._port("status page")
        self.stun_port = self._port("STUN")
        self.key = bytes.fromhex(re.search(r"nodekey:([0-9a-f]{64})", self.banner)[1])
        return self

    def _is_ready(self):
        assert self.process.poll() is None, f"ended with {self.process.poll()}: {self.log()}"
        return "Stop with" in self.output()

    def _port(self, name):
        found = re.search(rf"^  {name} .*?:([0-9]+)[/ ,]", self.banner, re.MULTILINE)
        return int(found[1]) if found else None

    def output(self):
        return (self.directory / "out").read_text()

    def log(self):
        return (self.directory / "err").read_text()

    def events(self, name):
        """Log lines of this event; with --log-format json as dictionaries."""
        lines = [line for line in self.log().splitlines()]
        if "json" in self.argv:
            entries = [json.loads(line) for line in lines]
            return [e for e in entries if f"{e['comp']}.{e['msg']}" == name]
        return [line for line in lines if f" {name} " in f"{line} "]

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self, timeout_s=START_TIMEOUT_S):
        """SIGTERM; gives the exit status."""
        self.signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def reload(self):
        before = len(self.events("relay.reloaded")) + len(self.events("relay.not_reloaded"))
        self.signal(signal.SIGHUP)
        wait_until(lambda: len(self.events("relay.reloaded")) +
                   len(self.events("relay.not_reloaded")) > before, what="the reload")

    def admin(self, path):
        """(status, text) of the admin listener."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}",
                                        timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self):
        text = self.admin("/metrics")[1]
        found = re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (-?[0-9.e+]+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def https(self, request, timeout_s=5.0):
        """Raw bytes in, all bytes out, over TLS."""
        with tls(self.port, timeout_s) as link:
            link.sendall(request)
            return read_all(link)

    def rss_bytes(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(text.split()[1]) * os.sysconf("SC_PAGESIZE")


def run(*flags, env=None, timeout_s=10.0):
    """A derpd that ends by itself: (status, stdout, stderr)."""
    done = subprocess.run([DERPD, *map(str, flags)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=timeout_s, check=False,
                          env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(env or {})})
    return done.returncode, done.stdout, done.stderr


def plain(port, timeout_s=5.0, source=None):
    link = socket.create_connection(("127.0.0.1", port), timeout_s,
                                    source_address=(source, 0) if source else None)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link


def context():
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    return c


def tls(port, timeout_s=5.0, source=None):
    return context().wrap_socket(plain(port, timeout_s, source))


def read_all(link):
    got = b""
    try:
        while chunk := link.recv(65536):
            got += chunk
    except OSError:
        pass
    return got


class Closed(Exception):
    """The relay has ended the connection."""


class Client:
    """One DERP connection. As a context manager it is closed at the end."""

    def __init__(self, relay, secret=None, headers=(), info=None, source=None, login=True,
                 websocket=False, use_tls=True, timeout_s=5.0):
        self.relay = relay
        self.secret = secret or os.urandom(32)
        public = ctypes.create_string_buffer(32)
        sodium.crypto_scalarmult_base(public, self.secret)
        self.public = public.raw
        self.websocket = None
        self.buffer = b""
        self.link = (tls if use_tls else plain)(relay.port, timeout_s, source)
        if websocket:
            self.upgrade_websocket(headers)
        else:
            self.upgrade(headers)
        self.greeting = self.frame()
        assert self.greeting[0] == SERVER_KEY and self.greeting[1] == MAGIC + relay.key
        if login:
            self.login({"version": 2, "CanAckPings": True} if info is None else info)
            kind, body = self.frame()
            if kind == HEALTH:
                raise Refused(body.decode())
            assert kind == SERVER_INFO, kind
            self.server_info = json.loads(self.open_box(body))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.link.close()

    def key_text(self):
        return f"nodekey:{self.public.hex()}"

    # -- the way in ---------------------------------------------------------------------------

    def upgrade(self, headers):
        lines = ["GET /derp HTTP/1.1", "Host: relay", "Connection: Upgrade", "Upgrade: DERP",
                 *headers, "", ""]
        self.link.sendall("\r\n".join(lines).encode())
        head = self.head()
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise Closed(head.decode(errors="replace"))

    def upgrade_websocket(self, headers):
        key = base64.b64encode(os.urandom(16)).decode()
        lines = ["GET /derp HTTP/1.1", "Host: relay", "Connection: Upgrade", "Upgrade: websocket",
                 "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}",
                 "Sec-WebSocket-Protocol: derp", *headers, "", ""]
        self.link.sendall("\r\n".join(lines).encode())
        head = self.head().decode()
        accept = base64.b64encode(hashlib.sha1(
            (key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        assert " 101 " in head and accept in head and "Protocol: derp" in head, head
        self.websocket = b""

    def head(self):
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        return head

    def login(self, info):
        text = info if isinstance(info, bytes) else json.dumps(info).encode()
        nonce = os.urandom(24)
        box = ctypes.create_string_buffer(len(text) + 16)
        assert sodium.crypto_box_easy(box, text, ctypes.c_ulonglong(len(text)), nonce,
                                      self.relay.key, self.secret) == 0
        self.send_frame(CLIENT_INFO, self.public + nonce + box.raw)

    def open_box(self, body):
        text = ctypes.create_string_buffer(len(body) - 24 - 16)
        assert sodium.crypto_box_open_easy(text, body[24:], ctypes.c_ulonglong(len(body) - 24),
                                           body[:24], self.relay.key, self.secret) == 0
        return text.raw

    # -- frames -------------------------------------------------------------------------------

    def more(self):
        try:
            chunk = self.link.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError) as error:
            raise Closed(str(error)) from error
        if not chunk:
            raise Closed("end of stream")
        self.buffer += chunk

    def take(self, n):
        """n bytes of the stream, out of WebSocket messages where there are any."""
        if self.websocket is None:
            while len(self.buffer) < n:
                self.more()
            got, self.buffer = self.buffer[:n], self.buffer[n:]
            return got
        while len(self.websocket) < n:
            self.websocket += self.message()
        got, self.websocket = self.websocket[:n], self.websocket[n:]
        return got

    def raw(self, n):
        while len(self.buffer) < n:
            self.more()
        got, self.buffer = self.buffer[:n], self.buffer[n:]
        return got

    def message(self):
        first, length = self.raw(2)
        assert length < 128, "masked by the server"
        if length >= 126:
            length = int.from_bytes(self.raw(2 if length == 126 else 8), "big")
        payload = self.raw(length)
        if first & 0x0f == 8:
            raise Closed(f"close {int.from_bytes(payload[:2], 'big')}")
        if first & 0x0f == 10:
            self.pong = payload
            return b""
        assert first == 0x82, hex(first)
        return payload

    def send_message(self, payload, opcode=2, fin=True):
        mask = os.urandom(4)
        head = bytes([(0x80 if fin else 0) | opcode])
        if len(payload) < 126:
            head += bytes([0x80 | len(payload)])
        else:
            head += bytes([0x80 | 126]) + struct.pack(">H", len(payload))
        self.link.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload)))

    def send_bytes(self, data):
        if self.websocket is None:
            self.link.sendall(data)
        else:
            self.send_message(data)

    def send_frame(self, kind, payload=b""):
        self.send_bytes(struct.pack(">BI", kind, len(payload)) + payload)

    def frame(self):
        kind, length = struct.unpack(">BI", self.take(5))
        return kind, self.take(length)

    def send(self, to, packet):
        self.send_frame(SEND, (to.public if isinstance(to, Client) else to) + packet)

    def recv(self):
        """(source key, packet) of the next packet; other frames are passed over."""
        while True:
            kind, body = self.frame()
            if kind == RECV:
                return body[:32], body[32:]

    def wait_frame(self, wanted):
        while True:
            kind, body = self.frame()
            if kind == wanted:
                return body

    def is_closed(self, timeout_s=5.0):
        """Whether the relay ends it within this time; frames meanwhile are read."""
        self.link.settimeout(timeout_s)
        try:
            while True:
                self.frame()
        except Closed:
            return True
        except (TimeoutError, socket.timeout):
            return False


class Refused(Exception):
    """The relay has told why it does not let us in."""
