"""NAT boxes made of namespaces and nftables, and the lab whose nodes sit behind them.

        +------------------------- hub -------------------------+
        |  control, relay 10.77.0.1      "Internet": br0        |
        |                                198.51.100.1/24        |
        +-----+-----------------------+-------------------+-----+
              | wan 198.51.100.11     | wan .12           |
        +-----+------------+  +-------+----------+        |
        | router of first  |  | router of second |        |
        | inside           |  | inside           |        |
        +-----+------------+  +-------+----------+        |
              | eth0 192.168.11.2     | 192.168.12.2      | eth0 198.51.100.13
           first                   second              a node without NAT

Nobody forwards between the hub and anything else, and no router has a route to another one's
inside: what a node sends to a private address of the other side is answered "unreachable".
Conntrack entries of an earlier run would help the next: each lab has routers of its own.
"""
from lab import HUB_IP, must, require
from peers import Tailnet

INTERNET_FORMAT = "198.51.100.{}"  # TEST-NET-2, RFC 5737: public for the nodes
INTERNET_NET = INTERNET_FORMAT.format("0/24")
GATEWAY = INTERNET_FORMAT.format(1)
INSIDE_FORMAT = "192.168.{}.{}"
FIRST_OCTET = 11
ROUTER_OCTET = 1
HOST_OCTET = 2

# Mapping and filtering as magicsock.md 6 names them.
PUBLIC = "public"          # no NAT, no filter
CONE = "cone"              # full cone: EIM + EIF
RESTRICTED = "restricted"  # port-restricted: EIM + APDF, what Linux' masquerade does
SYMMETRIC = "symmetric"    # EDM + APDF: another random port for each destination
BLOCKED = "blocked"        # as restricted for TCP; UDP goes nowhere
KINDS = (PUBLIC, CONE, RESTRICTED, SYMMETRIC, BLOCKED)

# Where a direct path must come to be (the table of magicsock.md 6), either way round.
MUST_BE_DIRECT = {frozenset(pair) for pair in (
    (PUBLIC, PUBLIC), (PUBLIC, CONE), (PUBLIC, RESTRICTED), (PUBLIC, SYMMETRIC), (CONE, CONE),
    (CONE, RESTRICTED), (CONE, SYMMETRIC), (RESTRICTED, RESTRICTED))}

# What comes unasked is dropped, as every home router does. Without that, conntrack would keep an
# entry for it, and the port that the node behind uses would be taken when the node answers.
ROUTER_RULES = """
table ip nat {
  chain own { type filter hook input priority 0; iifname "wan" ct state new drop; }
  chain after { type nat hook postrouting priority 100; oifname "wan" masquerade %s; }
}
"""

# Whoever sends to a port that a node behind us has sent from reaches that node.
CONE_RULES = """
table ip cone {
  map mapped {
    type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout 5m; size 65535;
  }
  chain learn {
    type filter hook forward priority 0;
    iifname "inside" meta l4proto udp update @mapped { udp sport : ip saddr . udp sport };
  }
  chain before {
    type nat hook prerouting priority -100;
    iifname "wan" dnat ip to udp dport map @mapped;
  }
}
"""

BLOCK_RULES = """
table ip blocked {
  chain through { type filter hook forward priority -10; meta l4proto udp drop; }
}
"""

FIREWALL_RULES = """
table ip firewall {
  chain through {
    type filter hook forward priority -10;
    meta l4proto udp ip saddr != %s ip daddr != %s drop;
  }
}
"""

LOSS_RULES = """
table ip loss {
  chain through { type filter hook forward priority -10; numgen random mod 100 < %d counter drop; }
}
"""


class Router:
    """The NAT box of one node, and what can happen to it."""

    def __init__(self, lab, role, kind):
        require(kind in KINDS and kind != PUBLIC, f"no router of kind {kind!r}")
        self.lab, self.kind = lab, kind
        self.namespace = lab.new_namespace(f"{role}-router")
        self.octet = FIRST_OCTET + lab.plug(self.namespace, "wan")
        self.public_ip = INTERNET_FORMAT.format(self.octet)
        self.inside_ip = INSIDE_FORMAT.format(self.octet, ROUTER_OCTET)
        self.host_ip = INSIDE_FORMAT.format(self.octet, HOST_OCTET)
        self.namespace.ip(f"addr add {self.public_ip}/24 dev wan", "link set wan up",
                          f"route add {HUB_IP} via {GATEWAY}")
        must(self.namespace.wrap(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]))
        self.namespace.nft(ROUTER_RULES % ("fully-random" if kind == SYMMETRIC else ""))
        if kind == CONE:
            self.namespace.nft(CONE_RULES)
        if kind == BLOCKED:
            self.block_udp()

    def plug_in(self, host, interface):
        """A cable between this router and `host`, whose end of it is still down."""
        must(["ip", "link", "add", interface, "netns", host.name, "type", "veth",
              "peer", "name", "inside", "netns", self.namespace.name])
        self.namespace.ip(f"addr add {self.inside_ip}/24 dev inside", "link set inside up")
        self.interface = interface

    def lease(self):
        """ip(8) lines that a host behind this router runs to be on its network."""
        return (f"addr add {self.host_ip}/24 dev {self.interface}",
                f"link set {self.interface} up", f"route add default via {self.inside_ip}")

    def block_udp(self):
        self.namespace.nft(BLOCK_RULES)

    def unblock_udp(self):
        self.namespace.nft("delete table ip blocked")

    def only_servers(self):
        """A firewall that lets UDP through to the lab's servers, for STUN, and nowhere else."""
        self.namespace.nft(FIREWALL_RULES % (HUB_IP, HUB_IP))

    def lose(self, percent):
        """From now on drops so many of a hundred packets, each way."""
        self.namespace.nft(LOSS_RULES % percent)

    def forget_mappings(self):
        """All UDP mappings are gone, as after the router's restart."""
        must(self.namespace.wrap(["conntrack", "-D", "-p", "udp"]))
        if self.kind == CONE:
            self.namespace.nft("flush map ip cone mapped")

    def change_address(self):
        """The provider gives another public address; every mapping, of TCP too, dies with it."""
        old, self.public_ip = self.public_ip, INTERNET_FORMAT.format(self.octet + 100)
        self.namespace.ip(f"addr del {old}/24 dev wan", f"addr add {self.public_ip}/24 dev wan",
                          f"route replace {HUB_IP} via {GATEWAY} dev wan")
        must(self.namespace.wrap(["conntrack", "-F"]))


class NatLab(Tailnet):
    """A Tailnet whose nodes sit behind NAT boxes. nats: node name to kind; others are public."""

    # Servers that do not choose answer from the address that clients know, not from the nearer one.
    hub_wiring = (*Tailnet.hub_wiring, f"addr add {GATEWAY}/24 dev br0",
                  f"route replace {INTERNET_NET} dev br0 src {HUB_IP}")

    def __init__(self, run, scenario_name, ours_class, nats=(), **world):
        super().__init__(run, scenario_name, ours_class, **world)
        self.nats = dict(nats)
        self.routers = {}

    def node_namespace(self, role):
        kind = self.nats.get(role, PUBLIC)
        namespace = self.new_namespace(role)
        if kind == PUBLIC:
            address = INTERNET_FORMAT.format(FIRST_OCTET + self.plug(namespace, "eth0"))
            namespace.ip(f"addr add {address}/24 dev eth0", "link set eth0 up",
                         f"route add default via {GATEWAY}")
            return namespace, address
        router = self.routers[role] = Router(self, role, kind)
        router.plug_in(namespace, "eth0")
        namespace.ip(*router.lease())
        return namespace, router.host_ip

    def second_network(self, node):
        """Another router of the same kind that `node` has a cable to, for roam()."""
        router = Router(self, f"{node.name}-2", self.routers[node.name].kind)
        router.plug_in(node.namespace, "eth1")
        return router

    def roam(self, node, router):
        """The node leaves its network and is on that of `router`, as from one wifi to another."""
        node.namespace.ip(f"link set {self.routers[node.name].interface} down", *router.lease())
        self.routers[node.name] = router
        node.underlay_ip = router.host_ip

    def public_ip(self, node):
        """The address by which the Internet knows a node."""
        router = self.routers.get(node.name)
        return router.public_ip if router else node.underlay_ip
