"""The servers of a lab, all in its hub: headscale, derper, and an nginx in front of headscale."""
import json
import os
import pathlib
import re
import shutil
import signal

from lab import CONTROL_NAME, DERP_NAME, HUB_IP, must, parse_json, require, wait_until

DERP_CODE = "lab"  # of the first relay
CONTROL_PORT = 8080
CONTROL_METRICS_PORT = 9090
START_TIMEOUT_S = 20.0
POLICY_TIMEOUT_S = 15.0
USER = "lab"

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
  server: {{{embedded}}}
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

# Headscale's own relay, which is served with its TLS certificate, and its STUN server.
EMBEDDED_REGION = 999
EMBEDDED_STUN_PORT = 3480
EMBEDDED_SERVER = """\
enabled: true, region_id: {region}, region_code: own, region_name: Own, verify_clients: true,
    stun_listen_addr: "0.0.0.0:{stun_port}", private_key_path: "{state}/derp.key",
    automatically_add_embedded_derp_region: true, ipv4: {ip}"""

# An IPv4 literal in the node entry: clients must not need DNS to reach the relay.
DERP_MAP_REGION = """\
  {region}:
    regionid: {region}
    regioncode: {code}
    regionname: Lab {region}
    nodes:
      - name: {region}a
        regionid: {region}
        hostname: {hostname}
        ipv4: {ip}
        ipv6: none
        stunport: {stun_port}
        derpport: {port}
"""


class DerpSite:
    """Where one relay of the lab listens, and how the DERP map names it."""

    def __init__(self, region, code, port, http_port, stun_port):
        self.region, self.code = region, code
        self.port, self.http_port, self.stun_port = port, http_port, stun_port

    def map_entry(self):
        return DERP_MAP_REGION.format(region=self.region, code=self.code, hostname=DERP_NAME,
                                      ip=HUB_IP, stun_port=self.stun_port, port=self.port)


DERP_SITES = (DerpSite(900, DERP_CODE, 443, 80, 3478), DerpSite(901, "lab2", 8444, 81, 3479))


class Headscale:
    """The control server, in the hub. scheme "https" serves the lab's certificate instead of
    plain HTTP; both listen on the same port. public_url: what nodes are told, when that is a
    proxy in front of it. embedded: with its own relay and STUN server, which needs "https"."""

    def __init__(self, lab, scheme="http", public_url=None, embedded=False):
        self.lab = lab
        self.state = lab.directory / "headscale"
        self.state.mkdir()
        self.url = public_url or f"{scheme}://{HUB_IP}:{CONTROL_PORT}"
        self.config = self.state / "config.yaml"
        tls = lab.run.certificates
        secure = scheme == "https"
        self.config.write_text(HEADSCALE_CONFIG.format(
            embedded=EMBEDDED_SERVER.format(
                region=EMBEDDED_REGION, stun_port=EMBEDDED_STUN_PORT, state=self.state,
                ip=HUB_IP) if embedded else "enabled: false",
            url=self.url, port=CONTROL_PORT, metrics_port=CONTROL_METRICS_PORT, state=self.state,
            certificate=tls.certificate(CONTROL_NAME) if secure else "",
            key=tls.key(CONTROL_NAME) if secure else ""))
        (self.state / "derp.yaml").write_text(
            "regions:\n" + "".join(relay.site.map_entry() for relay in lab.relays))
        self._write_policy(ALLOW_ALL)
        self.env = lab.run.environment(self.state)
        self.program = lab.run.peer("headscale")
        self.process = lab.process(lab.hub, "headscale",
                                   [self.program, "-c", self.config, "serve"], self.env)
        self.wait_ready()
        self.cli("users", "create", USER)

    def listens(self):
        self.process.check_alive()
        return self.lab.hub.accepts(HUB_IP, CONTROL_PORT)

    def wait_ready(self):
        wait_until(lambda: self.listens() and (self.state / "headscale.sock").exists(),
                   START_TIMEOUT_S, "headscale to listen", interval_s=0.05)

    def start(self):
        """Starts it again after stop(), on the same database."""
        self.process.start()
        self.wait_ready()

    def stop(self):
        self.process.stop()

    def kill(self):
        """kill -9: no goodbye on any connection."""
        self.process.stop(signal.SIGKILL)

    def new_noise_key(self):
        """Another server key from the next start() on; the database stays. Call while stopped."""
        (self.state / "noise.key").unlink()

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

    def expire(self, name):
        self.cli("nodes", "expire", "--identifier", self.node(name)["id"])

    def approve_routes(self, name, routes):
        """Approves exactly these routes of a node; "" withdraws all."""
        self.cli("nodes", "approve-routes", "--identifier", self.node(name)["id"],
                 "--routes", routes)

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
    """A relay and STUN server, in the hub, with TLS by the lab's CA. `flags` are further ones."""

    def __init__(self, lab, site=DERP_SITES[0], flags=()):
        self.lab = lab
        self.site = site
        name = f"derper-{site.region}"
        state = lab.directory / name
        state.mkdir()
        self.process = lab.process(
            lab.hub, name,
            [lab.run.peer("derper"), "-a", f":{site.port}", "-http-port", str(site.http_port),
             "-stun-port", str(site.stun_port), "-hostname", DERP_NAME,
             "-certmode", "manual", "-certdir", lab.run.certificates.directory,
             "-c", state / "derper.key", "-stun", *flags],
            lab.run.environment(state))
        self.wait_ready()

    def listens(self):
        self.process.check_alive()
        return self.lab.hub.accepts(HUB_IP, self.site.port)

    def wait_ready(self):
        def probe():
            self.process.check_alive()
            return self.lab.hub.tls_handshake(HUB_IP, self.site.port, DERP_NAME,
                                              self.lab.run.certificates.ca)
        wait_until(probe, START_TIMEOUT_S, "derper to serve TLS", interval_s=0.05)

    def kill(self):
        """kill -9: no goodbye on any connection."""
        self.process.stop(signal.SIGKILL)

    def restart(self):
        self.process.restart()
        self.wait_ready()

    def counters(self):
        """derper's counters: {name or name{labels}: number} (derp.md 4.7). /debug answers
        loopback clients only, which the hub is."""
        status, text = self.lab.hub.http_get("127.0.0.1", self.site.http_port, "/debug/varz")
        require(status == 200, f"derper /debug/varz answered {status}")
        found = re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (-?[0-9.e+]+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}


DEFAULT_DERPD = pathlib.Path(__file__).resolve().parent.parent.parent / "bin" / "derpd"


class Derpd(Derper):
    """derpd in derper's place: the same addresses, the same certificate, derper's own flags where
    it has them. `flags` are further ones. pinned: no certificate is given and no name; the map that
    nodes get is what `derpd map` prints."""

    ADMIN_PORT_OFFSET = 10000  # its admin listener stands on loopback

    def __init__(self, lab, site=DERP_SITES[0], flags=(), pinned=False):
        self.lab = lab
        self.site = site
        self.pinned = pinned
        name = f"derpd-{site.region}"
        self.state = lab.directory / name
        self.state.mkdir(mode=0o700)
        self.admin_port = self.ADMIN_PORT_OFFSET + site.port
        program = pathlib.Path(os.environ.get("DERPD", DEFAULT_DERPD))
        require(program.exists(), f"{program} is not built (./dev build)")
        self.program = lab.run.public(program)
        certificate = (["-hostname", HUB_IP] if pinned else
                       ["-hostname", DERP_NAME, "-certmode", "manual",
                        "-certdir", lab.run.certificates.directory])
        self.flags = ["-a", f":{site.port}", "-http-port", str(site.http_port),
                      "-stun-port", str(site.stun_port), *certificate,
                      "--statedir", self.state, "-stun", "--log-level", "debug",
                      "--admin-listen", f"127.0.0.1:{self.admin_port}", *flags]
        self.env = lab.run.environment(self.state)
        if pinned:
            self.site = PinnedSite(site, self.map("yaml"))
        self.process = lab.process(lab.hub, name, [self.program, *self.flags], self.env)
        self.wait_ready()

    def map(self, form, *flags):
        """What `derpd map` prints for these settings."""
        words = [self.program, "map", "--format", form, "--region-id", self.site.region,
                 "--region-code", self.site.code, *flags, *self.flags]
        return must(self.lab.hub.wrap([str(word) for word in words]), env=self.env)

    def wait_ready(self):
        if self.pinned:
            wait_until(self.listens, START_TIMEOUT_S, "derpd to listen", interval_s=0.05)
        else:
            super().wait_ready()

    def counters(self):
        status, text = self.lab.hub.http_get("127.0.0.1", self.admin_port, "/metrics")
        require(status == 200, f"derpd /metrics answered {status}")
        found = re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (-?[0-9.e+]+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def health(self, path):
        """Status of /healthz or /readyz."""
        return self.lab.hub.http_get("127.0.0.1", self.admin_port, path)[0]

    def drain(self):
        """SIGTERM, and what /healthz and /readyz say then."""
        self.process.send_signal(signal.SIGTERM)
        return wait_until(lambda: (self.health("/readyz") == 503 and
                                   (self.health("/healthz"), self.health("/readyz"))),
                          START_TIMEOUT_S, "derpd to drain", interval_s=0.02)


class PinnedSite(DerpSite):
    """A relay whose map entry is derpd's own word."""

    def __init__(self, site, text):
        super().__init__(site.region, site.code, site.port, site.http_port, site.stun_port)
        self.text = text

    def map_entry(self):
        return self.text.split("regions:\n", 1)[1]


PROXY_CONFIG = """\
daemon off;
master_process off;
pid {state}/nginx.pid;
error_log stderr notice;
events {{}}
http {{
  access_log {state}/access.log;
  client_body_temp_path {state}/body;
  proxy_temp_path {state}/proxy;
  fastcgi_temp_path {state}/fastcgi;
  uwsgi_temp_path {state}/uwsgi;
  scgi_temp_path {state}/scgi;
  ssl_certificate {certificate};
  ssl_certificate_key {key};
  map $http_upgrade $connection_upgrade {{ default upgrade; "" close; }}
  server {{
    listen {port} ssl;
    location / {{
      proxy_pass http://{ip}:{control_port};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header Host $host;
      proxy_buffering off;
      proxy_read_timeout 1h;
    }}
  }}
  server {{
    listen {deaf_port} ssl;
    location / {{ proxy_pass http://{ip}:{control_port}; proxy_http_version 1.1; }}
  }}
}}
"""


class TlsProxy:
    """An nginx in front of headscale, in the hub, as headscale's documentation sets it up: TLS, and
    Upgrade passed on. `deaf_url` is a second server that forgets Upgrade, as many do."""

    PORT = 8443
    DEAF_PORT = 8445

    def __init__(self, lab):
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        require(program, "nginx is not installed (Debian: nginx-light)")
        self.lab = lab
        self.url = f"https://{HUB_IP}:{self.PORT}"
        self.deaf_url = f"https://{HUB_IP}:{self.DEAF_PORT}"
        state = lab.directory / "nginx"
        state.mkdir()
        tls = lab.run.certificates
        config = state / "nginx.conf"
        config.write_text(PROXY_CONFIG.format(
            state=state, certificate=tls.certificate(CONTROL_NAME), key=tls.key(CONTROL_NAME),
            ip=HUB_IP, port=self.PORT, deaf_port=self.DEAF_PORT, control_port=CONTROL_PORT))
        self.process = lab.process(lab.hub, "nginx", [program, "-c", config, "-p", state],
                                   lab.run.environment(state))
        wait_until(self.listens, START_TIMEOUT_S, "nginx to listen", interval_s=0.05)

    def listens(self):
        self.process.check_alive()
        return self.lab.hub.accepts(HUB_IP, self.PORT)

    def restart(self):
        """kill -9 and a new start: every connection through it is gone."""
        self.process.stop(signal.SIGKILL)
        self.process.start()
        wait_until(self.listens, START_TIMEOUT_S, "nginx to listen", interval_s=0.05)
