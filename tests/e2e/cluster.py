"""A cluster of real processes on this machine, for tests: a coordinator, workers, verifiers, and leapctl to ask.

    with Cluster() as cluster:
        cluster.start(workers=2, verifiers=2)
        job = cluster.submit(spec(steps=60, leap={"commit": False}))
        cluster.wait(job)
        cluster.ledger("snapshots", job)

Every process gets a free port and a folder of its own under one temporary folder; leaving the `with` ends them all,
whatever happened (SIGTERM and Ctrl-C too), and removes the folder. If a test fails, the ends of all logs are printed. Standard library only.
"""
import errno
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BINARIES = pathlib.Path(os.environ.get("LEAP_BINARY_DIR", SOURCE / "build" / "dev")).resolve()
PROGRAMS = {"leap-coordinator": "coordinator", "leap-worker": "worker", "leap-verifier": "verifier",
            "leapctl": "leapctl"}


def program(name):
    """Where a program lies: in its room's build folder, or in bin/ of an installed tree."""
    for place in (BINARIES / PROGRAMS[name] / name, BINARIES / "bin" / name):
        if place.exists():
            return str(place)
    raise unittest.SkipTest(f"{name} was not built in {BINARIES}")


def snake(value):
    """Keys of proto's JSON in the spelling of the .proto files."""
    if isinstance(value, dict):
        return {re.sub(r"(?<!^)([A-Z])", r"_\1", key).lower(): snake(item) for key, item in value.items()}
    if isinstance(value, list):
        return [snake(item) for item in value]
    return value


def wait_until(check, seconds, what):
    """Polls until `check()` is true (its value is returned) or fails the test after so long."""
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s: {what}")
        time.sleep(0.05)


def merge(base, changes):
    out = dict(base)
    for key, value in changes.items():
        out[key] = merge(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


class Process:
    def __init__(self, name, arguments, folder):
        self.name = name
        self.log = folder / f"{name}.log"
        folder.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            self.popen = subprocess.Popen(arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder,
                                          start_new_session=True)

    def alive(self):
        return self.popen.poll() is None

    def signal(self, number):
        if self.alive():
            self.popen.send_signal(number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.popen.wait()

    def terminate(self, seconds=15):
        """SIGTERM, then the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds):
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {seconds} s") from None

    def text(self):
        return self.log.read_text(errors="replace")


class Cluster:
    server_flags = ()  # of everything that listens
    client_flags = ()  # of everything that connects

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="leap-e2e-"))
        self.processes = {}
        self.address = None

    def __enter__(self):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # `timeout` sends it; then __exit__ runs
        return self

    def __exit__(self, kind, *_):
        if kind is not None and issubclass(kind, Exception) and kind is not unittest.SkipTest:
            self.print_logs()
        for process in self.processes.values():
            process.signal(signal.SIGCONT)
            process.kill()
        if not os.environ.get("LEAP_E2E_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)

    def print_logs(self, lines=40):
        for process in self.processes.values():
            tail = "\n".join(process.text().splitlines()[-lines:])
            print(f"\n--- {process.name} (exit {process.popen.poll()}) ---\n{tail}", file=sys.stderr)

    # --- processes ---

    def host(self, name):
        """The address that a process has; tests/chaos gives each one of its own."""
        return "127.0.0.1"

    def command(self, name, arguments):
        """How a process is started where it belongs."""
        return arguments

    def launch(self, name, *arguments):
        process = Process(name, self.command(name, [str(argument) for argument in arguments]), self.folder / name)
        self.processes[name] = process
        return process

    def port_of(self, name, what="port"):
        path = self.folder / name / what
        process = self.processes[name]
        def read():
            if not process.alive():
                raise AssertionError(f"{name} ended at once:\n{process.text()}")
            return path.exists() and path.read_text().strip()
        return int(wait_until(read, 20, f"{name} has no {what}"))

    def start_coordinator(self, *arguments):
        host = self.host("coordinator")
        (self.folder / "coordinator" / "port").unlink(missing_ok=True)  # of the one before: this one is not up yet
        self.launch("coordinator", program("leap-coordinator"), "--listen", self.address or f"{host}:0", "--port-file",
                    "port", "--state-dir", self.folder / "state", *self.server_flags, *arguments)
        self.address = f"{host}:{self.port_of('coordinator')}"

    def add(self, role, name, *arguments):
        place = ["--listen", f"{self.host(name)}:0"] + (["--bind-host", self.host(name)] if role == "worker" else [])
        return self.launch(name, program(f"leap-{role}"), "--coordinator", self.address, "--name", name, "--state-dir",
                           self.folder / "agents", *place, *self.server_flags, *self.client_flags, *arguments)

    def start(self, workers=2, verifiers=0, verifier_arguments=()):
        self.start_coordinator()
        for i in range(workers):
            self.add("worker", f"w{i}")
        for i in range(verifiers):
            self.add("verifier", f"v{i}", *verifier_arguments)

    # --- leapctl ---

    def ctl_raw(self, *arguments, seconds=60):
        return subprocess.run([program("leapctl"), "--coordinator", self.address, *self.client_flags,
                               *map(str, arguments)],
                              capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)

    def ctl(self, *arguments):
        """What `leapctl ... -o json` answers, with the keys of the .proto files."""
        done = self.ctl_raw(*arguments, "-o", "json")
        if done.returncode != 0:
            raise AssertionError(f"leapctl {' '.join(map(str, arguments))}: exit {done.returncode}: {done.stderr}")
        return snake(json.loads(done.stdout))

    def submit(self, job_spec):
        path = self.folder / "job.yaml"
        path.write_text(json.dumps(job_spec))  # JSON is YAML
        return self.ctl("submit", path)["job"]

    def job(self, job):
        return self.ctl("get", job)

    def wait(self, job, seconds=120, state="SUCCEEDED"):
        def ended():
            now = self.job(job)
            return now if now["state"] in ("SUCCEEDED", "FAILED", "CANCELLED") else None
        last = wait_until(ended, seconds, f"{job} has not ended")
        if last["state"] != state:
            raise AssertionError(f"{job} is {last['state']}, expected {state}: {last.get('state_reason')}")
        return last

    def wait_step(self, job, step, seconds=60):
        return wait_until(lambda: int(self.job(job).get("progress", {}).get("step", 0)) >= step, seconds,
                          f"{job} has not reached step {step}")

    def ledger(self, what, job):
        """Rows of `leapctl snapshots|candidates|leaps|events JOB`."""
        answer = self.ctl(what, job)
        return answer if isinstance(answer, list) else answer.get(what, [])

    def text(self, size=200_000):
        """A folder of text that is the same on every machine and compresses a little."""
        folder = self.folder / "text"
        if not folder.exists():
            folder.mkdir()
            words, state, out = "the a leap step of weights loss and in is small true gate run".split(), 1, []
            length = 0
            while length < size:
                state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
                word = words[(state >> 33) % len(words)]
                out.append(word)
                length += len(word) + 1
            (folder / "words.txt").write_text(" ".join(out))
        return str(folder)

    def spec(self, **changes):
        """A small job: seconds on a core. Keys of `spec`; nested ones are merged."""
        base = {
            "data": {"paths": [self.text()], "sequence_length_tokens": 32, "gate_sequences": 16, "report_sequences": 16},
            "model": {"config": str(self.model_config())},
            "train": {"steps": 60, "batch_sequences": 8, "schedule": "constant", "warmup_steps": 5},
            "workers": {"replicas": 2},
            "leap": {"interval_steps": 10, "warmup_steps": 10, "audit_every_leaps": 0},
            "regime": {"probes": 8},
            "checkpoint": {"every_steps": 0, "resume": "never", "dir": str(self.folder / "checkpoints"), "resume": "never"},
        }
        return {"apiVersion": "leap/v1", "kind": "Job", "metadata": {"name": "e2e"}, "spec": merge(base, changes)}

    def model_config(self):
        path = self.folder / "config.json"
        path.write_text(json.dumps({"model_type": "gpt2", "vocab_size": 257, "n_positions": 32, "n_embd": 48,
                                    "n_layer": 2, "n_head": 4}))
        return path


class SmallDisk(Cluster):
    """Of one process a folder lies on a disk of its own, which can be full. Skips the test where nobody may mount one."""

    def __init__(self, whose, folder, size_kib=8192):
        super().__init__()
        self.whose, self.size_kib, self.disk = whose, size_kib, self.folder / folder

    def __enter__(self):
        self.disk.mkdir()
        trial = subprocess.run(self.command(self.whose, ["true"]), capture_output=True, text=True, timeout=20)
        if trial.returncode != 0:
            shutil.rmtree(self.folder)
            raise unittest.SkipTest(f"nobody may mount a disk here: {trial.stderr}")
        return super().__enter__()

    def command(self, name, arguments):
        if name != self.whose:
            return arguments
        own = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
        mount = f'mount -t tmpfs -o size={self.size_kib}k tmpfs "$0" && exec "$@"'
        return [*own, "sh", "-c", mount, str(self.disk), *arguments]

    def filler(self):
        return pathlib.Path(f"/proc/{self.processes[self.whose].popen.pid}/root{self.disk}/filler")

    def fill(self):
        with open(self.filler(), "ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def make_room(self):
        self.filler().unlink()


def main():
    unittest.main(verbosity=2)
