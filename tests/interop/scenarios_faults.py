"""What breaks around a node and what it must live through: servers that restart, a renamed peer."""
from lab import require, wait_until
from scenario import scenario
from scenarios_join import wait_online
from scenarios_traffic import has_relay, join_both, pair

RECOVERY_TIMEOUT_S = 60.0


@scenario()
def control_restart(lab):
    """headscale goes away and comes back: traffic goes on, and news arrive afterwards"""
    ours, stock = pair(lab)
    lab.control.stop()
    require(ours.host_ping(stock.address()), "traffic stopped with the control server")
    lab.control.start()
    late = lab.stock("late")
    late.up()
    ours.wait_peer(late, has_relay, "with relay", RECOVERY_TIMEOUT_S)
    wait_online(lab, ours)
    ours.wait_ping(late.address(), timeout_s=RECOVERY_TIMEOUT_S)


@scenario()
def relay_restart(lab):
    """derper restarts: pings get through again"""
    ours, stock = lab.ours(), lab.stock()
    if not ours.relay_only:
        ours.block_udp()
    join_both(ours, stock)
    ours.wait_ping(stock.address())
    lab.relay.restart()
    ours.wait_ping(stock.address(), timeout_s=RECOVERY_TIMEOUT_S)
    stock.wait_ping(ours.address(), timeout_s=RECOVERY_TIMEOUT_S)


@scenario()
def renamed_peer(lab):
    """the operator renames a peer: status shows the new DNS name"""
    ours, stock = pair(lab)
    lab.control.rename(stock.name, "renamed")
    ours.wait_peer(stock, lambda peer: peer["DNSName"] == "renamed.tailnet.example.", "renamed")
    require(ours.host_ping(stock.address()), "no answer from the renamed peer")


@scenario()
def paused_peer(lab):
    """a peer that sleeps for a while is reached again without a new login"""
    ours, stock = pair(lab)
    address = stock.address()
    stock.process.pause()
    require(not ours.host_ping(address, count=2, wait_s=1), "a stopped peer answered")
    stock.process.resume()
    wait_until(lambda: ours.host_ping(address, count=2, wait_s=1), RECOVERY_TIMEOUT_S,
               "the peer to answer again")
