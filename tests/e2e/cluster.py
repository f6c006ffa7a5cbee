"""A real cluster on this machine: `remask up` with ports the system chooses, in a folder of its own."""

import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("RMK_BIN", ROOT / "build" / "release" / "bin")).resolve()
REMASK = BIN / "remask"
DEMO = ROOT / "models" / "demo"
START_SECONDS = 120


def wait_until(condition, what, seconds=60, pause=0.01):
    """Poll `condition` until it gives something true, which is returned."""
    due = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > due:
            raise TimeoutError(f"{what} did not happen in {seconds} s")
        time.sleep(pause)


def children_of(pid):
    try:
        text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def is_alive(pid):
    """Zombies are dead."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


class Cluster:
    """`with Cluster(model, ...) as cluster:`; on the way out everything is stopped, whatever happened."""

    def __init__(self, model=DEMO, groups=1, ranks=1, visions=1, flags=()):
        self.model = pathlib.Path(model)
        self.groups = groups
        self.ranks = ranks
        self.visions = visions
        self.flags = list(flags)
        self.folder = tempfile.TemporaryDirectory(prefix="remask-e2e-")
        self.environment = dict(os.environ, XDG_RUNTIME_DIR=self.folder.name)
        self.logs = pathlib.Path(self.folder.name) / "logs"
        self.seen = set()  # every process id there has been
        self.process = None

    def __enter__(self):
        command = [
            REMASK, "up", "--model", self.model, "--groups", self.groups, "--tp", self.ranks,
            "--vision", self.visions, "--port-base", 0, "--log-dir", self.logs,
            "--start-timeout", f"{START_SECONDS}s", "--stop-timeout", "5s", *self.flags,
        ]
        self.output = open(pathlib.Path(self.folder.name) / "up.log", "w+b")
        self.process = subprocess.Popen(
            [str(word) for word in command], cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=self.output, stderr=subprocess.STDOUT)
        try:
            wait_until(self._ready, "the start of the cluster", START_SECONDS + 10)
        except Exception as error:
            text = self.read_logs()
            self.__exit__(type(error), error, None)
            raise AssertionError(f"the cluster did not start: {error}\n{text}") from error
        return self

    def _ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"remask up ended with status {self.process.returncode}")
        return b"ready in" in self._output()

    def _output(self):
        return (pathlib.Path(self.folder.name) / "up.log").read_bytes()

    def __exit__(self, kind, value, trace):
        self.processes()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        left = [pid for pid in self.seen if is_alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        logs = self.read_logs()
        self.output.close()
        self.folder.cleanup()
        if kind is None:
            assert self.process.returncode == 0, f"remask up ended with status {self.process.returncode}\n{logs}"
            assert not left, f"processes {left} outlived remask up\n{logs}"
            assert not re.search(r"Sanitizer|runtime error:", logs), logs

    @property
    def state(self):
        return json.loads((pathlib.Path(self.folder.name) / "remask" / "default.json").read_text())

    @property
    def endpoint(self):
        return self.state["endpoint"]

    def processes(self):
        """Name to process id of what is alive: "coordinator", "text g0", "vision v0", and "text g0/1" for a rank."""
        found = {}
        try:
            state = self.state
        except OSError:
            return found
        for process in state["processes"]:
            pid = process["pid"]
            if pid == 0 or not is_alive(pid):
                continue
            found[process["name"]] = pid
            if process["name"].startswith("text "):
                ranks = children_of(pid) if self.ranks > 1 else [pid]
                for rank in ranks:
                    command = pathlib.Path(f"/proc/{rank}/cmdline").read_bytes().split(b"\0")
                    number = int(command[command.index(b"--rank") + 1]) if b"--rank" in command else 0
                    found[f"{process['name']}/{number}"] = rank
        self.seen.update(found.values())
        return found

    def kill(self, name):
        """SIGKILL, as a machine that fails would do it; returns the process id that is gone."""
        pid = wait_until(lambda: self.processes().get(name), f"process {name}")
        os.kill(pid, signal.SIGKILL)
        return pid

    def get(self, path):
        """GET on the metrics port: status and body."""
        connection = http.client.HTTPConnection(self.state["metrics"], timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def read_logs(self, lines=40):
        parts = [f"--- up\n{self._output().decode(errors='replace')}"]
        for path in sorted(self.logs.glob("*.log")):
            tail = path.read_text(errors="replace").splitlines()[-lines:]
            parts.append(f"--- {path.name}\n" + "\n".join(tail))
        return "\n".join(parts)


def run_remask(*arguments, cluster=None, timeout=120, stdin=""):
    """The command line program, its output captured."""
    environment = cluster.environment if cluster is not None else dict(os.environ)
    return subprocess.run(
        [str(REMASK), *[str(word) for word in arguments]], cwd=ROOT, env=environment, input=stdin,
        capture_output=True, text=True, timeout=timeout, check=False)
