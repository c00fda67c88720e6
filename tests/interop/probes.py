"""Trains of pings and moments: how long something was away, and what was lost meanwhile."""
import itertools
import os
import select
import socket
import struct
import threading
import time

PING_INTERVAL_S = 0.05
LAST_ANSWERS_S = 1.5  # for the answers of the last pings of a train
ICMP_ECHO_REPLY = 0
ICMP_ECHO_REQUEST = 8
SEQUENCES = 1 << 16
# The first two nodes of a new control server, in an order that nobody can know beforehand.
FIRST_ADDRESSES = ("100.64.0.1", "100.64.0.2")

_identifiers = itertools.count(os.getpid())


def checksum(data):
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xffff) + (total >> 16)
    return ~(total + (total >> 16)) & 0xffff


def echo_request(identifier, sequence):
    head = struct.pack("!BBHHH", ICMP_ECHO_REQUEST, 0, 0, identifier, sequence)
    payload = b"tsnode interop.."
    value = checksum(head + payload)
    return struct.pack("!BBHHH", ICMP_ECHO_REQUEST, 0, value, identifier, sequence) + payload


def echo_reply(packet, identifier):
    """The sequence number of an answer to one of our requests; None for other packets."""
    body = packet[(packet[0] & 15) * 4:]
    if body[0] != ICMP_ECHO_REPLY or body[4:6] != identifier.to_bytes(2, "big"):
        return None
    return int.from_bytes(body[6:8], "big")


def new_identifier():
    """An ICMP identifier that no other pinger of this process has."""
    return next(_identifiers) & 0xffff


class Train(threading.Thread):
    """Pings an address every 50 ms through a node's TUN, from its start to finish().

    One socket, no processes: so a train shows a gap of 50 ms, and the numbers of two trains can be
    compared. A train of more than 65,536 pings (54 minutes) would reuse its sequence numbers.
    """

    def __init__(self, node, target):
        super().__init__(daemon=True)
        self.target = target
        self.sent = {}      # sequence number to the moment it was sent
        self.answered = {}  # sequence number to the moment of its first answer
        self.unsent = 0     # the kernel refused them: no route, no interface
        self.until = None   # when to stop listening; None: sends on
        self.link = node.namespace.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self.link.setblocking(False)
        self.identifier = new_identifier()
        self.start()

    def run(self):
        sequence = 0
        tick = time.monotonic()
        while self.until is None or tick < self.until:
            if self.until is None and sequence < SEQUENCES:
                self._send(sequence)
                sequence += 1
            tick += PING_INTERVAL_S
            self._listen(tick)

    def _send(self, sequence):
        try:
            self.link.sendto(echo_request(self.identifier, sequence), (self.target, 0))
            self.sent[sequence] = time.monotonic()
        except OSError:
            self.unsent += 1

    def _listen(self, until):
        while (left := until - time.monotonic()) > 0:
            if not select.select([self.link], [], [], left)[0]:
                return
            packet, (source, _) = self.link.recvfrom(2048)
            sequence = echo_reply(packet, self.identifier)
            if sequence is not None and source == self.target:
                self.answered.setdefault(sequence, time.monotonic())

    def answers_since(self, moment):
        return [when for when in list(self.answered.values()) if when >= moment]

    def first_answer_since(self, moment):
        """When the first answer came to a ping that was itself sent after `moment`; None so far.
        Answers to older ones may have waited in a queue and say nothing about the path now."""
        found = [when for sequence, when in list(self.answered.items())
                 if self.sent[sequence] >= moment]
        return min(found, default=None)

    def finish(self):
        """Stops sending, and waits for the last answers."""
        self.until = time.monotonic() + LAST_ANSWERS_S
        self.join()
        self.link.close()
        return self

    def lost(self, since=0.0):
        """Pings sent after `since` that nobody answered, and those that could not be sent."""
        missing = [sequence for sequence, when in self.sent.items()
                   if when >= since and sequence not in self.answered]
        return len(missing) + self.unsent

    def longest_silence(self, since, until):
        """The longest time without an answer between two moments."""
        inside = sorted(when for when in self.answered.values() if since <= when <= until)
        marks = [since, *inside, until]
        return max(after - before for before, after in zip(marks, marks[1:]))


class Pinger(threading.Thread):
    """Pings the two first addresses of the tailnet every 50 ms from a node's namespace until the
    one that is not its own answers.

    A loop of `ping -c 1` would measure the start of processes, and ping(8) needs to know the
    address, which is only given during the time that is measured.
    """

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node = node
        self.answered_at = None
        self.answered_by = None
        self.stopped = threading.Event()
        self.link = node.namespace.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self.link.setblocking(False)
        self.identifier = new_identifier()

    def run(self):
        targets = list(FIRST_ADDRESSES)
        sequence = 0
        tick = time.monotonic()
        while not self.stopped.is_set():
            sequence = (sequence + 1) & 0xffff
            for target in targets:
                try:
                    self.link.sendto(echo_request(self.identifier, sequence), (target, 0))
                except OSError:
                    pass  # no route yet
            tick += PING_INTERVAL_S
            answer = self._answer(targets, tick)
            if answer is not None:
                if not self._is_own(answer):
                    self.answered_by, self.answered_at = answer, time.monotonic()
                    return
                targets.remove(answer)

    def _answer(self, targets, until):
        """The first of `targets` that answers before `until`, or None."""
        while (left := until - time.monotonic()) > 0:
            if not select.select([self.link], [], [], left)[0]:
                return None
            packet, (source, _) = self.link.recvfrom(2048)
            if echo_reply(packet, self.identifier) is not None and source in targets:
                return source
        return None

    def _is_own(self, address):
        """True when `address` is one of the namespace's own: its kernel answers such pings."""
        with self.node.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((address, 0))
                return True
            except OSError:
                return False

    def stop(self):
        self.stopped.set()
        self.join()
        self.link.close()


def wait_moment(probe, timeout_s, interval_s=0.02):
    """Calls `probe` until it is true; gives the moment, or None when it did not come in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if probe():
                return time.monotonic()
        except OSError:
            pass  # not there yet
        time.sleep(interval_s)
    return None
