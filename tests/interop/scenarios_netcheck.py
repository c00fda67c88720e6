"""What netcheck says about the lab: beside the stock program's, with UDP and without."""
from lab import parse_json, require
from scenario import scenario
from servers import DERP_CODE, EMBEDDED_REGION

OWN_KEY = "TSNode"
# What we never find out here, and the stock program does: it probes for port mapping.
NOT_PROBED = {"UPnP", "PMP", "PCP"}


def netcheck(node, *flags):
    """(the text form, the JSON document) of one node."""
    text = node.cli("netcheck", *flags)
    require(text.returncode == 0, f"netcheck on {node.name} gave {text.returncode}: {text.stderr}")
    done = node.cli("netcheck", "--format=json", *flags)
    require(done.returncode == 0, f"netcheck --format=json gave {done.returncode}: {done.stderr}")
    return text.stdout, parse_json(done.stdout, f"netcheck of {node.name}")


def check_lines(text, *lines):
    for line in lines:
        require(f"\t* {line}\n" in text, f"no line {line!r} in:\n{text}")


def region(lab):
    return lab.relay.site.region


# closes: STUN-17 (our client, the reference relay) PATH-26 (derper)
@scenario(derper=True)
def netcheck_open(lab):
    """netcheck finds UDP, the nearest region and our own address"""
    ours = lab.ours()
    ours.up()
    text, report = netcheck(ours)
    mapped = report["GlobalV4"]
    check_lines(text, "UDP: true", f"Nearest DERP: Lab {region(lab)}", "DERP latency:")
    require(f"- {DERP_CODE}: " in text, f"no latency of {DERP_CODE} in:\n{text}")
    require(report["UDP"] and report["IPv4"] and report["IPv4CanSend"], f"no UDP: {report}")
    require(mapped.startswith(ours.underlay_ip + ":"), f"mapped to {mapped}")
    require(report["GlobalV4Counters"].get(mapped, 0) >= 1, f"not counted: {report}")
    require(report["PreferredDERP"] == region(lab), f"prefers {report['PreferredDERP']}")
    nanoseconds = report["RegionLatency"][str(region(lab))]
    require(0 < nanoseconds < 1_000_000_000, f"a latency of {nanoseconds} ns")
    if OWN_KEY in report:  # a stock node has no sentence
        require(report[OWN_KEY]["NAT"] == "none-private", f"NAT: {report[OWN_KEY]}")
        require(text.endswith(report[OWN_KEY]["Sentence"] + "\n"), f"no sentence in:\n{text}")
    return f"{nanoseconds / 1e6:.1f} ms to {DERP_CODE}"


# closes: PATH-26 (headscale)
@scenario(scheme="https", embedded=True)
def netcheck_embedded(lab):
    """headscale's own STUN server answers within the first round"""
    ours = lab.ours()
    ours.up()
    _, report = netcheck(ours)
    nanoseconds = report["RegionV4Latency"].get(str(EMBEDDED_REGION), 0)
    require(0 < nanoseconds < 1_000_000_000, f"no STUN answer of headscale: {report}")
    require(report["GlobalV4"].startswith(ours.underlay_ip + ":"), f"mapped: {report}")
    return f"{nanoseconds / 1e6:.1f} ms to headscale's STUN"


# closes: NC-16 (live)
@scenario()
def netcheck_blocked(lab):
    """netcheck without UDP: relays are measured by HTTPS, and the sentence says what it means"""
    ours = lab.ours()
    ours.block_udp()
    ours.up()
    text, report = netcheck(ours)
    check_lines(text, "UDP: false", "IPv4: (no addr found)", f"Nearest DERP: Lab {region(lab)}")
    require(not report["UDP"] and report["GlobalV4"] == "", f"UDP: {report}")
    nanoseconds = report["RegionLatency"].get(str(region(lab)), 0)
    require(0 < nanoseconds < 2_000_000_000, f"a latency of {nanoseconds} ns")
    require(report["RegionV4Latency"] in ({}, None), f"STUN latencies: {report}")
    if OWN_KEY in report:
        require(report[OWN_KEY]["RegionHTTPSLatency"][str(region(lab))] == nanoseconds,
                f"not by HTTPS: {report}")
        require(report["IPv4CanSend"], "a local firewall counts as loss on the wire")
        require("UDP is blocked: peers are reached through relays only." in text, text)
    return f"{nanoseconds / 1e6:.1f} ms by HTTPS"


@scenario(stand_in=False)
def netcheck_names(lab):
    """every name in our netcheck document is one of the stock program's, with a value of its type"""
    ours, stock = lab.ours(), lab.stock()
    ours.up()
    stock.up()
    _, mine = netcheck(ours)
    _, theirs = netcheck(stock)
    unknown = set(mine) - set(theirs) - {OWN_KEY}
    require(not unknown, f"not names of netcheck.Report: {sorted(unknown)}")
    said = {name for name, value in theirs.items() if value is not None} - NOT_PROBED
    require(not said - set(mine) - {"CaptivePortal"}, f"absent: {sorted(said - set(mine))}")
    wrong = [name for name in said & set(mine)
             if type(mine[name]) is not type(theirs[name])]  # bool is not int here
    require(not wrong, f"other types: {[(name, mine[name], theirs[name]) for name in wrong]}")
    line = ours.cli("netcheck", "--format=json-line").stdout
    require(line.count("\n") == 1 and parse_json(line, "json-line"), f"not one line: {line!r}")
    refused = ours.cli("netcheck", "--bind-port=7000")
    require(refused.returncode == 11, f"--bind-port gave {refused.returncode}")
    return f"{len(said & set(mine))} names in common"
