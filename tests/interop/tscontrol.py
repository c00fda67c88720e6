"""tscontrol in a lab's hub: what Headscale is for the other scenarios (servers.py)."""
import os
import pathlib
import signal

from lab import HUB_IP, wait_until

CONTROL_PORT = 8080
OWN_RELAY_PORT = 3340
OWN_RELAY_CODE = "demo"
AUTH_KEY = "demo-key-of-the-lab"
START_TIMEOUT_S = 20.0
BUILT = pathlib.Path(__file__).resolve().parent.parent.parent / "bin" / "tscontrol"


class TsControl:
    """The control server. With relays in the lab it announces these, else it serves its own."""

    def __init__(self, lab):
        self.lab = lab
        self.url = f"http://{HUB_IP}:{CONTROL_PORT}"
        self.relay_code = lab.relays[0].site.code if lab.relays else OWN_RELAY_CODE
        self.state = lab.directory / "tscontrol"
        self.state.mkdir(mode=0o700)
        argv = [os.environ.get("TSCONTROL", BUILT), "--listen", f"{HUB_IP}:{CONTROL_PORT}",
                "--state", self.state / "state.json", "--auth-key", AUTH_KEY,
                "--domain", "tailnet.example", "--log-level", "debug"]
        if lab.relays:
            derp_map = self.state / "derp.yaml"
            derp_map.write_text("regions:\n" + "".join(relay.site.map_entry()
                                                       for relay in lab.relays))
            argv += ["--derp-map", derp_map]
        else:
            argv += ["--relay", f"{HUB_IP}:{OWN_RELAY_PORT}"]
        self.process = lab.process(lab.hub, "tscontrol", argv, lab.run.environment(self.state),
                                   expect_clean_exit=True)
        self.wait_ready()

    def wait_ready(self):
        def listens():
            self.process.check_alive()
            return self.lab.hub.accepts(HUB_IP, CONTROL_PORT)
        wait_until(listens, START_TIMEOUT_S, "tscontrol to listen", interval_s=0.02)

    def auth_key(self):
        return AUTH_KEY

    def kill(self):
        """kill -9: no goodbye on any connection."""
        self.process.stop(signal.SIGKILL)

    def start(self):
        """Starts it again, on the same state file."""
        self.process.start()
        self.wait_ready()
