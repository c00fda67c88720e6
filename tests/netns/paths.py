"""What path a node's own status tells, asked for often and without starting programs."""
import http.client
import json
import socket
import threading
import time

STATUS_INTERVAL_S = 0.05
LOCAL_API_HOST = "local-tailscaled.sock"  # what tailscaled asks for; tsnode does not care
ANSWER_S = 5.0


def local_status(node):
    """The status document of a node, by its LocalAPI."""
    link = http.client.HTTPConnection(LOCAL_API_HOST, timeout=ANSWER_S)
    link.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        link.sock.settimeout(ANSWER_S)
        link.sock.connect(str(node.socket_path))
        link.request("GET", "/localapi/v0/status")
        return json.loads(link.getresponse().read())
    finally:
        link.close()


def direct_address(node):
    """The address by which a node with one peer reaches that directly; "" by the relay."""
    peers = local_status(node).get("Peer") or {}
    return next((peer["CurAddr"] for peer in peers.values() if peer["CurAddr"]), "")


class PathWatch(threading.Thread):
    """Asks a node with one peer for its path, from start() until stop()."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node = node
        self.changes = []  # (moment, address; "" = relay), the first one being what it began with
        self.stopped = threading.Event()
        self.start()

    def run(self):
        while not self.stopped.wait(STATUS_INTERVAL_S):
            try:
                address = direct_address(self.node)
            except (OSError, ValueError, http.client.HTTPException):
                continue  # not up yet, or between two lives
            if not self.changes or self.changes[-1][1] != address:
                self.changes.append((time.monotonic(), address))

    def direct_since(self, moment=0.0):
        """When it first was on a direct path after `moment`; None: not yet."""
        return next((when for when, address in list(self.changes)
                     if address and when >= moment), None)

    def address(self):
        return self.changes[-1][1] if self.changes else ""

    def stop(self):
        self.stopped.set()
        self.join()
