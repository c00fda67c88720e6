"""The network around a node: subnet routes, many peers, a proxy before headscale, blocked UDP, a
relay that stays away."""
import concurrent.futures
import re
import time

from lab import Failure, require, wait_until
from scenario import EXTRA, scenario
from scenarios_join import wait_online
from scenarios_timing import GOAL_UDP_BLOCKED_S, round_trip_time
from scenarios_traffic import TRANSFER_BYTES, check_pings, check_transfers, has_relay, join_both
from servers import DERP_SITES

RECOVERY_TIMEOUT_S = 60.0
SEEN_GOAL_S = 2.0  # CTRL-40; printed, never gated

# -- subnet routes ---------------------------------------------------------------------------------

ROUTE = "10.99.0.0/24"
ROUTER_ADDRESS = "10.99.0.1/24"
HOST_ADDRESS = "10.99.0.2"


def reaches(node, address):
    return node.host_ping(address, count=1, wait_s=1)


def check_route(lab, router, user):
    """`router` offers a network behind it to `user`: nothing before headscale's approval, nothing
    after its withdrawal, and nothing for a user that does not accept routes."""
    lab.network_behind(router.namespace, "behind", ROUTER_ADDRESS, f"{HOST_ADDRESS}/24")
    router.start()
    began = [node.start_up(lab.control.auth_key()) for node in (router, user)]
    for node, process in zip((router, user), began):
        node.finish_up(process)
    for node, flag in ((router, f"--advertise-routes={ROUTE}"), (user, "--accept-routes")):
        done = node.cli("set", flag)
        require(done.returncode == 0, f"`set {flag}` on {node.name}: {done.stderr.strip()}")
    user.wait_peer(router, has_relay, "with relay")
    user.wait_ping(router.address())
    wait_until(lambda: ROUTE in lab.control.node(router.name).get("available_routes", []), 20.0,
               f"headscale to hear of {ROUTE}", 0.3)
    require(not reaches(user, HOST_ADDRESS), "the route works before its approval")
    began = time.monotonic()
    lab.control.approve_routes(router.name, ROUTE)
    wait_until(lambda: reaches(user, HOST_ADDRESS), 20.0, "the approved route to work")
    seconds = time.monotonic() - began
    require(ROUTE in user.peer(router)["AllowedIPs"], "status does not show the route")
    done = user.cli("set", "--accept-routes=false")
    require(done.returncode == 0, f"`set --accept-routes=false`: {done.stderr.strip()}")
    wait_until(lambda: not reaches(user, HOST_ADDRESS), 10.0, "the refused route to be gone")
    user.cli("set", "--accept-routes")
    wait_until(lambda: reaches(user, HOST_ADDRESS), 10.0, "the route to work again")
    lab.control.approve_routes(router.name, "")
    wait_until(lambda: not reaches(user, HOST_ADDRESS), 20.0, "the withdrawn route to be gone")
    return f"{seconds:.2f} s from the approval"


@scenario()
def route_used(lab):
    """a network behind a stock node: reached when headscale approved it and we accept routes"""
    return check_route(lab, lab.stock("router", start=False), lab.ours("user"))


@scenario()
def route_offered(lab):
    """a network behind our node: a stock node reaches it when headscale approved it"""
    return check_route(lab, lab.ours("router", start=False), lab.stock("user"))


# -- proxies, relays, UDP --------------------------------------------------------------------------


@scenario(scheme="proxied")
def tls_proxy(lab):
    """headscale behind nginx with TLS: joins, survives the proxy's restart, names a deaf proxy"""
    ours, stock = lab.ours(), lab.stock()
    join_both(ours, stock)
    ours.wait_ping(stock.address())
    lab.proxy.restart()
    ours.wait_ping(stock.address())
    began = time.monotonic()
    lab.control.rename(stock.name, "renamed")
    ours.wait_peer(stock, lambda peer: peer["DNSName"] == "renamed.tailnet.example.", "renamed",
                   RECOVERY_TIMEOUT_S)
    seconds = time.monotonic() - began
    wait_online(lab, ours)
    other = lab.ours("other")
    done = other.try_up(lab.control.auth_key(), url=lab.proxy.deaf_url, timeout_s=4.0)
    text = done.stdout + done.stderr
    other.expect_exit(done, "time-out")
    if other.exit_codes:
        require("Upgrade" in text and "proxy" in text, f"the cause is not named: {text!r}")
    return f"news {seconds:.2f} s after the proxy's restart; a deaf proxy: {text.strip()[:160]!r}"


@scenario(own_labs=True)
def ours_udp_blocked(new_lab):
    """our node has no UDP at all: home by TCP connect time, joins, pings, transfers"""
    with new_lab() as lab:
        ours, stock = lab.ours(), lab.stock()
        ours.block_udp()
        seconds = round_trip_time(lab, ours, stock)
        for first, second in ((ours, stock), (stock, ours)):
            first.wait_peer(second, has_relay, "with relay")
        pong = check_pings(ours, stock)
        speeds = check_transfers(ours, stock, TRANSFER_BYTES // 4)
        run = lab.run
    with new_lab() as lab:
        first, second = lab.stock("first"), lab.stock("second")
        first.block_udp()
        baseline = round_trip_time(lab, first, second)
    run.times.append(("joining without UDP, first ping",
                      {"tsnode-stock": f"{seconds:.2f} s", "stock-stock": f"{baseline:.2f} s"},
                      GOAL_UDP_BLOCKED_S))
    return (f"first ping {seconds:.2f} s, stock pair {baseline:.2f} s, "
            f"goal {GOAL_UDP_BLOCKED_S:g} s; {pong}; {speeds}")


# closes: CTRL-40
@scenario(relays=2)
def relay_moves(lab):
    """the home relay stays away: the node moves to the other one, and its peer learns it at once"""
    ours, stock = lab.ours(), lab.stock()
    joined = [node.start_up(lab.control.auth_key()) for node in (ours, stock)]
    for node, process in zip((ours, stock), joined):
        node.finish_up(process)

    def home(node):
        return node.status()["Self"]["Relay"]

    wait_until(lambda: home(ours) and home(stock), 20.0, "both nodes to have a home")
    ours.wait_ping(stock.address())
    codes = [site.code for site in DERP_SITES]
    old = home(ours)
    new = codes[1 - codes.index(old)]
    lab.relays[codes.index(old)].kill()
    killed = time.monotonic()
    wait_until(lambda: home(ours) == new, RECOVERY_TIMEOUT_S, "our node to move its home", 0.05)
    moved = time.monotonic()
    stock.wait_peer(ours, lambda peer: peer["Relay"] == new, f"at {new}", RECOVERY_TIMEOUT_S)
    seen = time.monotonic()
    wait_until(lambda: home(stock) == new, RECOVERY_TIMEOUT_S, "the stock node to move", 0.2)
    ours.wait_ping(stock.address(), timeout_s=RECOVERY_TIMEOUT_S)
    back = time.monotonic()
    return (f"home moved {moved - killed:.2f} s after the relay was killed, peer saw it "
            f"{seen - moved:.2f} s later, goal {SEEN_GOAL_S:g} s; pings at {back - killed:.2f} s")


# -- many peers ------------------------------------------------------------------------------------

PEERS = 60
NAMESPACES = 6
BATCH = 10
PING_SAMPLE = 20
CROWD_TIMEOUT_S = 120.0


def make_crowd(lab):
    """60 nodes without TUN in 6 namespaces, joined in batches."""
    nodes = []
    key = lab.control.auth_key(reusable=True)
    for number in range(PEERS):
        beside = nodes[number % NAMESPACES] if number >= NAMESPACES else None
        nodes.append(lab.ours(f"n{number:02}", tun=False, beside=beside))
    began = time.monotonic()
    for start in range(0, PEERS, BATCH):
        ups = [(node, node.start_up(key)) for node in nodes[start:start + BATCH]]
        for node, process in ups:
            node.finish_up(process)
    return nodes, time.monotonic() - began


def rss_kib(node):
    text = open(f"/proc/{node.process.pid}/status", encoding="ascii").read()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text).group(1))


def sees_all(node):
    peers = (node.status().get("Peer") or {}).values()
    ready = [peer for peer in peers if peer["Online"] and peer["Relay"]]
    if len(ready) != PEERS - 1:
        raise Failure(f"{node.name} shows {len(peers)} peers, {len(ready)} of them ready")
    return True


@scenario(group=EXTRA, stand_in=False)
def sixty_peers(lab):
    """60 nodes: each sees all others online, a sample pings across, and all notice who leaves"""
    nodes, joined_s = make_crowd(lab)
    began = time.monotonic()
    for node in nodes:
        wait_until(lambda node=node: sees_all(node), CROWD_TIMEOUT_S, f"{node.name} to see all")
    seen_s = time.monotonic() - began
    pairs = [(nodes[i], nodes[(i * 7 + 13) % PEERS]) for i in range(PING_SAMPLE)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda pair: pair[0].wait_ping(pair[1].address()), pairs))
    memory = [rss_kib(node) for node in nodes]
    leaver = nodes[-1]
    address = leaver.address()
    leaver.stop()

    def gone(node):
        for peer in node.status()["Peer"].values():
            if address in peer["TailscaleIPs"]:
                return not peer["Online"]
        return True
    for node in nodes[:-1]:
        wait_until(lambda node=node: gone(node), CROWD_TIMEOUT_S, f"{node.name} to miss the leaver")
    return (f"joined in {joined_s:.1f} s, all seen {seen_s:.1f} s later, {PING_SAMPLE} pings, "
            f"RSS {min(memory)} to {max(memory)} KiB")
