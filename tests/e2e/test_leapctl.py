"""The exit codes of docs/leapctl.md, each with real processes; and that `leapctl run` leaves nobody behind: on Ctrl-C typed
at its terminal, typed twice, a closed terminal, SIGTERM."""
import json
import os
import pathlib
import pty
import re
import secrets
import signal
import subprocess
import sys
import unittest

import cluster

INTERRUPTED = 130
ENDLESS = {"train": {"steps": 10_000_000}, "workers": {"replicas": 1}, "leap": {"policy": "off"}}


def documented():
    """Code -> meaning, of the page's table."""
    page = (cluster.SOURCE / "docs" / "leapctl.md").read_text()
    return {int(code): meaning for code, meaning in re.findall(r"^\| (\d+) \| (.+) \|$", page, re.M)}


class ExitCodes(unittest.TestCase):
    def test_each_that_is_documented(self):
        with cluster.Cluster() as c:
            roles = {"ann": "submitter", "bob": "submitter", "viv": "viewer", "pool": "worker"}
            tokens = {name: secrets.token_hex(32) for name in [*roles, "eve"]}
            table = self.keep(c, "table", "".join(f"{tokens[name]} {role} {name}\n" for name, role in roles.items()))
            show = {name: ["--token-path", self.keep(c, name, token)] for name, token in tokens.items()}
            c.start_coordinator("--token-file", table, "--max-jobs-per-submitter", 1)
            c.add("worker", "w0", *show["pool"])

            def ctl(*arguments, who="ann"):
                return c.ctl_raw(*arguments, *(show[who] if who else []))
            seen = {}

            def ends(code, words, done):
                with self.subTest(f"{code}: {words}"):
                    self.assertEqual(done.returncode, code, done.stderr)
                    self.assertIn(words, done.stdout + done.stderr)
                seen.setdefault(code, []).append(words)

            short, endless, bad, lost = (c.folder / f"{name}.yaml" for name in ("short", "endless", "bad", "lost"))
            one = {"workers": {"replicas": 1}, "leap": {"policy": "off"}, "train": {"steps": 5}}
            short.write_text(json.dumps(c.spec(**one)))
            endless.write_text(json.dumps(c.spec(**ENDLESS)))
            lost.write_text(json.dumps(c.spec(**cluster.merge(one, {"data": {"paths": ["/no/such/text"]}}))))
            bad.write_text(json.dumps(c.spec(trian={"steps": 1})))

            ends(0, "succeeded; reached step 5", ctl("submit", short, "--wait"))
            done = ctl("submit", lost, "--wait")
            ends(1, "/no/such/text", done)
            ends(2, "--last: Value 0 not in range", ctl("list", "--last", 0))
            ends(3, "unknown key 'trian'", ctl("submit", bad))
            ends(4, "there is no job 'nobody'", ctl("get", "nobody"))
            ended = re.search(r"submitted (\S+):", done.stdout).group(1)
            ends(5, "expected a running job", ctl("pause", ended))
            job = self.submitted(ctl("submit", endless))
            ends(5, "1 are allowed; wait for one to end or cancel it", ctl("submit", endless))
            ends(6, "cannot reach the coordinator", subprocess.run(
                [cluster.program("leapctl"), "--coordinator", "127.0.0.1:1", "list"], capture_output=True, text=True,
                timeout=20))
            ends(7, "who are you", ctl("list", who=None))
            ends(7, "not in the server's token file", ctl("list", who="eve"))
            ends(7, "it takes the role submitter", ctl("submit", short, who="viv"))
            ends(7, "it takes the role submitter", ctl("cancel", job, who="pool"))
            ends(7, "was submitted by 'ann'", ctl("cancel", job, who="bob"))

            watch = subprocess.Popen([cluster.program("leapctl"), "--coordinator", c.address, *map(str, show["viv"]), "watch",
                                      job], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            detached = subprocess.Popen(watch.args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for process in (watch, detached):
                self.assertTrue(process.stdout.readline(), "watch shows nothing")
            detached.send_signal(signal.SIGINT)
            ends(INTERRUPTED, "goes on without you", self.done(detached))
            cluster.wait_until(lambda: '"RUNNING"' in ctl("get", job, "-o", "json").stdout, 30, "it does not go on")
            self.assertEqual(ctl("cancel", job).returncode, 0)
            ends(8, "cancelled", self.done(watch))
            self.assertEqual(set(seen), set(documented()), "a code that the page tells of and this test does not, or "
                                                           "the other way round")

    def keep(self, c, name, text):
        path = c.folder / f"{name}.token"
        path.write_text(text)
        path.chmod(0o600)
        return path

    def submitted(self, done):
        self.assertEqual(done.returncode, 0, done.stderr)
        return re.search(r"submitted (\S+):", done.stdout).group(1)

    def done(self, process):
        with process:
            out, err = process.communicate(timeout=30)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def children(pid):
    """pid -> name of what a process has started and what runs."""
    found = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        except OSError:  # it has ended meanwhile
            continue
        state, parent = rest.split()[:2]
        if int(parent) == pid and state != "Z":
            found[int(stat.parent.name)] = name
    return found


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class LocalRun:
    """`leapctl run` at a terminal of its own, as a shell would start it; what it has shown so far."""

    def __init__(self, c, spec, *arguments):
        self.state = c.folder / "run"
        path = c.folder / "job.yaml"
        path.write_text(json.dumps(spec))
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execv(cluster.program("leapctl"), ["leapctl", "run", str(path), "--state-dir", str(self.state), *arguments])
        os.set_blocking(self.terminal, False)
        self.shown, self.status = "", None

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            print(f"\n--- leapctl run ---\n{self.screen()}", file=sys.stderr)
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait(10)

    def screen(self):
        """All that it has shown. Whoever waits for it looks again and again, so that it can always write on."""
        try:
            while data := os.read(self.terminal, 65536):
                self.shown += data.decode(errors="replace")
        except OSError:  # nothing now, or nothing ever: one end is closed
            pass
        return self.shown

    def says(self, words, seconds=30):
        cluster.wait_until(lambda: words in self.screen(), seconds, f"leapctl run does not say '{words}'")

    def trains(self):
        """All of its processes, once the job is under way."""
        cluster.wait_until(lambda: re.search(r"step +[1-9]", self.screen()), 60, "it does not train")
        started = children(self.pid)
        assert sorted(started.values()) == ["leap-coordinato", "leap-verifier", "leap-worker", "leap-worker"], started
        return list(started)

    def wait(self, seconds):
        """Its exit code, or minus the signal that ended it."""
        def ended():
            self.screen()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return pid and (status,)
        self.status = os.waitstatus_to_exitcode(cluster.wait_until(ended, seconds, "leapctl run does not end")[0])
        return self.status

    def log(self, name):
        return (self.state / f"{name}.log").read_text()


class RunEnds(unittest.TestCase):
    LOGS = ["coordinator", "worker-0", "worker-1", "verifier-0"]

    def run_locally(self, c):
        two = cluster.merge(ENDLESS, {"workers": {"replicas": 2}, "leap": {"policy": "default"}})
        return LocalRun(c, c.spec(**two), "--workers", "2", "--verifiers", "1")

    def in_order(self, run, processes):
        """Everybody was asked to end, and did."""
        self.assertEqual(run.wait(30), INTERRUPTED)
        self.assertEqual([pid for pid in processes if alive(pid)], [])
        for name in self.LOGS:
            self.assertIn("stopping", run.log(name), name)

    def test_ctrl_c(self):
        with cluster.Cluster() as c, self.run_locally(c) as run:
            processes = run.trains()
            os.write(run.terminal, b"\x03")
            self.in_order(run, processes)
            run.says("interrupted; stopping every process")
            run.says(f"Kept in {run.state}")

    def test_sigterm(self):
        with cluster.Cluster() as c, self.run_locally(c) as run:
            processes = run.trains()
            os.kill(run.pid, signal.SIGTERM)
            self.in_order(run, processes)
            run.says("interrupted; stopping every process")

    def test_its_terminal_is_closed(self):
        with cluster.Cluster() as c, self.run_locally(c) as run:
            processes = run.trains()
            os.close(run.terminal)
            self.in_order(run, processes)

    def test_ctrl_c_twice_waits_for_nobody(self):
        with cluster.Cluster() as c, self.run_locally(c) as run:
            processes = run.trains()
            worker = next(pid for pid, name in children(run.pid).items() if name == "leap-worker")
            os.kill(worker, signal.SIGSTOP)  # it cannot end in order
            os.write(run.terminal, b"\x03")
            run.says("interrupted; stopping every process")
            os.write(run.terminal, b"\x03")
            self.assertEqual(run.wait(10), -signal.SIGINT)
            cluster.wait_until(lambda: not any(map(alive, processes)), 10, "somebody was left behind")

    def test_ctrl_c_while_it_starts(self):
        with cluster.Cluster() as c, self.run_locally(c) as run:
            run.says("starting a coordinator")
            os.write(run.terminal, b"\x03")
            self.assertEqual(run.wait(30), INTERRUPTED)
            self.assertEqual(children(run.pid), {})


if __name__ == "__main__":
    cluster.main()
