"""Issue 4, item 8, with real processes: mutual TLS on every channel, roles, certificates replaced while all runs, nothing
open beyond this machine unless asked for, and no secret in anything that is written. The certificates are made by the
commands of docs/security.md, word by word."""
import json
import os
import pathlib
import re
import secrets
import subprocess
import unittest

import cluster

ANY = ["unknown", "chaotic", "transition", "stable"]
# Nearly every leap is accepted, so that commits happen.
LEAPS = {"train": {"steps": 400}, "verifiers": {"min_replicas": 1},
         "leap": {"interval_steps": 40, "warmup_steps": 40, "regimes": ANY,
                  "criterion": {"name": "guard", "bound": 1.0},
                  "predictors": [{"name": "linear", "horizons_steps": [10]}]}}
RELOAD = 10  # seconds, of service/tls.h
PATIENT = {"lease_seconds": 40, "collective_seconds": 60, "commit_seconds": 90, "epoch_formation_seconds": 120}


def commands(name):
    """The shell commands that docs/security.md shows under `<!-- NAME -->`."""
    text = (cluster.SOURCE / "docs" / "security.md").read_text()
    found = re.search(rf"<!-- {name} -->\n```bash\n(.*?)```", text, re.S)
    assert found, f"docs/security.md has no commands named {name}"
    return found.group(1)


def certificates(folder):
    """ca, and coordinator, worker-1, ann (a submitter), viv (a viewer), signed by it."""
    folder.mkdir(parents=True)
    script = "set -eu\n" + commands("authority") + commands("issue") + """
        issue coordinator DNS:localhost,IP:127.0.0.1
        issue worker-1 DNS:localhost,IP:127.0.0.1,URI:leap:worker
        issue ann URI:leap:submitter
        issue viv URI:leap:viewer
        """
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return folder


def flags(folder, name):
    return ["--tls-cert", folder / f"{name}.pem", "--tls-key", folder / f"{name}.key", "--tls-ca", folder / "ca.pem"]


class Secure(cluster.Cluster):
    """A cluster whose leapctl has flags of its own."""

    ctl_flags = ()

    def ctl_raw(self, *arguments, seconds=60):
        return super().ctl_raw(*arguments, *self.ctl_flags, seconds=seconds)

    def ctl_as(self, who, *arguments):
        before, self.ctl_flags = self.ctl_flags, who
        try:
            return self.ctl_raw(*arguments)
        finally:
            self.ctl_flags = before


class Security(unittest.TestCase):
    def refused(self, done, *words):
        self.assertNotEqual(done.returncode, 0, done.stdout)
        for word in words:
            self.assertIn(word, done.stderr)

    def says(self, agent, words):
        cluster.wait_until(lambda: words in agent.text(), 20, f"{agent.name} does not say '{words}'")

    def applied(self, c, job):
        return [leap for leap in c.ledger("leaps", job) if leap["state"] == "APPLIED"]

    def start_secure(self, c, tls):
        c.start_coordinator(*flags(tls, "coordinator"))
        for name in ("w0", "w1"):
            c.add("worker", name, *flags(tls, "worker-1"))
        c.add("verifier", "v0", *flags(tls, "worker-1"))
        c.ctl_flags = flags(tls, "ann")

    def test_mutual_tls_trains_commits_and_lets_nobody_else_in(self):
        with Secure() as c:
            tls, other = certificates(c.folder / "tls"), certificates(c.folder / "other")
            self.start_secure(c, tls)
            job = c.submit(c.spec(**LEAPS))
            stranger = ["--tls-cert", other / "ann.pem", "--tls-key", other / "ann.key"]

            # No certificate, one of another authority, one without a role, one of a role too small.
            self.refused(c.ctl_as([], "list"), "give --tls-ca")
            self.refused(c.ctl_as(["--tls-ca", tls / "ca.pem"], "list"), "give --tls-cert")
            self.refused(c.ctl_as([*stranger, "--tls-ca", tls / "ca.pem"], "list"), "does not believe --tls-cert")
            self.refused(c.ctl_as([*stranger, "--tls-ca", other / "ca.pem"], "list"), "not signed by --tls-ca")
            self.refused(c.ctl_as(flags(tls, "coordinator"), "list"), "who are you")
            self.refused(c.ctl_as(flags(tls, "viv"), "cancel", job), "'viv' may not call", "submitter")
            self.refused(c.ctl_as(flags(tls, "worker-1"), "submit", c.folder / "job.yaml"), "may not call")
            self.says(c.add("worker", "plain"), "give --tls-ca")
            self.says(c.add("worker", "foreign", *flags(other, "worker-1")), "not signed by --tls-ca")
            self.says(c.add("verifier", "role", *flags(tls, "ann")), "it takes the role worker")
            self.snapshots_are_closed(c, tls)

            c.wait(job)
            self.assertGreaterEqual(len(self.applied(c, job)), 1, c.ledger("candidates", job))
            self.assertEqual(c.job(job)["submitter"], "ann")
            agents = {agent["agent"] for agent in c.ctl("workers").get("agents", [])}
            self.assertEqual(agents, {"w0", "w1", "v0"})

    def snapshots_are_closed(self, c, tls):
        """The workers' own servers: TLS, and only for whoever shows a certificate."""
        address = re.search(r"data_address=(\S+)", c.processes["w0"].text()).group(1)
        certificate = ["-cert", str(tls / "worker-1.pem"), "-key", str(tls / "worker-1.key")]

        def connect(*more):
            return subprocess.run(["openssl", "s_client", "-connect", address, "-CAfile", str(tls / "ca.pem"), "-alpn",
                                   "h2", "-verify_return_error", *more], input="", capture_output=True, text=True,
                                  errors="replace", timeout=20)  # the server's first bytes of HTTP/2 are no text
        self.assertIn("Verify return code: 0 (ok)", connect(*certificate).stdout)
        # TLS 1.2: with 1.3 the client would leave before it hears that it is not let in.
        bare = connect("-tls1_2")
        self.assertNotEqual(bare.returncode, 0, bare.stdout)

    def test_certificates_replaced_on_disk_are_used_without_a_restart(self):
        with Secure() as c:
            old, new = certificates(c.folder / "old"), certificates(c.folder / "new")
            tls = c.folder / "tls"
            tls.symlink_to(old)
            self.start_secure(c, tls)
            # A lease that outlives the time in which some have read the new files and others have not.
            job = c.submit(c.spec(**cluster.merge(LEAPS, {"train": {"steps": 100000}, "timeouts": PATIENT})))
            c.wait_step(job, 50)
            before = len(self.applied(c, job))

            following = c.folder / "following"
            following.symlink_to(new)
            os.replace(following, tls)  # all files at once, as docs/security.md says
            cluster.wait_until(lambda: c.ctl_raw("list").returncode == 0, 3 * RELOAD, "the new authority is not believed")
            self.refused(c.ctl_as(flags(old, "ann"), "list"), "not signed by --tls-ca")
            # Nobody but the coordinator is started again: all must come back with what is on disk now.
            c.processes["coordinator"].kill()
            c.start_coordinator(*flags(tls, "coordinator"))
            cluster.wait_until(lambda: len(self.assigned(c)) == 3, 60, "not all came back")
            cluster.wait_until(lambda: len(self.applied(c, job)) > before + 1, 120,
                               "no leap is applied with the new certificates")
            for name in ("w0", "w1", "v0"):
                self.assertTrue(c.processes[name].alive())
            self.assertEqual(int(c.job(job)["epoch"]), 1)

    def assigned(self, c):
        answer = c.ctl_raw("workers", "-o", "json")  # empty while the coordinator comes back
        agents = json.loads(answer.stdout).get("agents", []) if answer.returncode == 0 else []
        return [agent for agent in agents if agent.get("state") == "assigned"]

    def test_roles_by_token_and_no_token_is_ever_written(self):
        with Secure() as c:
            tls = certificates(c.folder / "tls")
            vault = c.folder / "vault"
            vault.mkdir()
            roles = {"viv": "viewer", "ann": "submitter", "bob": "submitter", "pool": "worker", "eve": "none"}
            tokens = {name: secrets.token_hex(32) for name in roles}

            def keep(name, text):
                path = vault / name
                path.write_text(text)
                path.chmod(0o600)
                return path
            table = keep("table", "".join(f"{tokens[name]} {role} {name}\n" for name, role in roles.items()
                                          if role != "none"))
            show = {name: ["--tls-ca", tls / "ca.pem", "--token-path", keep(name, tokens[name] + "\n")] for name in roles}
            server = [*flags(tls, "coordinator"), "--token-file", table, "--log-level", "debug"]
            agent = [*flags(tls, "coordinator"), "--token-file", table, "--token-path", vault / "pool", "--log-level",
                     "debug"]
            c.start_coordinator(*server)
            for role, name in (("worker", "w0"), ("worker", "w1"), ("verifier", "v0")):
                c.add(role, name, *agent)

            c.ctl_flags = show["ann"]
            job = c.submit(c.spec(**LEAPS))
            said = [c.ctl_as(show["pool"], "submit", c.folder / "job.yaml"), c.ctl_as(show["viv"], "cancel", job),
                    c.ctl_as(show["bob"], "cancel", job), c.ctl_as(show["eve"], "list"), c.ctl_as(
                        ["--tls-ca", tls / "ca.pem"], "list")]
            for done, words in zip(said, ("it takes the role submitter", "it takes the role submitter",
                                          "was submitted by 'ann'", "not in the server's token file", "who are you")):
                self.refused(done, words)
            said += [c.ctl_as(show["viv"], "get", job), c.ctl_as(show["viv"], "describe", job)]
            self.assertEqual([done.returncode for done in said[-2:]], [0, 0])
            late = c.add("verifier", "late", *flags(tls, "coordinator"), "--token-path", vault / "eve", "--log-level",
                         "debug")
            self.says(late, "not in the server")
            c.wait(job)
            self.assertGreaterEqual(len(self.applied(c, job)), 1)
            self.assertEqual(c.job(job)["submitter"], "ann")
            said += [c.ctl_raw(what, job) for what in ("events", "candidates", "leaps", "snapshots", "describe")]
            self.no_secret(c, vault, tokens.values(), "".join(done.stdout + done.stderr for done in said))

    def no_secret(self, c, vault, secret, said):
        """Not in a file of the cluster (logs, ledger, caches, checkpoints), not in what leapctl printed."""
        looked_at = 0
        for path in c.folder.rglob("*"):
            if not path.is_file() or path.parent == vault:
                continue
            data = path.read_bytes()
            looked_at += 1
            for token in secret:
                self.assertNotIn(token.encode(), data, path)
            if path.suffix != ".key":
                self.assertNotIn(b"PRIVATE KEY", data, path)
        self.assertGreater(looked_at, 10)
        names = {path.name for path in c.folder.rglob("*")}
        self.assertLessEqual({"ledger.db", "coordinator.log", "w0.log", "v0.log"}, names)
        for token in secret:
            self.assertNotIn(token, said)

    def test_a_job_file_reaches_nothing_outside_the_roots(self):
        with Secure() as c:
            text, config = pathlib.Path(c.text()), c.model_config()
            allowed = c.folder / "allowed"
            (allowed / "text").mkdir(parents=True)
            (allowed / "text" / "words.txt").write_bytes((text / "words.txt").read_bytes())
            (allowed / "config.json").write_bytes(config.read_bytes())
            (allowed / "link").symlink_to(text)
            (allowed / "shelf").mkdir()
            (allowed / "shelf" / "words.txt").symlink_to(text / "words.txt")
            roots = ["--path-root", allowed]
            c.start_coordinator(*roots)
            c.add("worker", "w0", *roots)
            inside = {"data": {"paths": [str(allowed / "text")]}, "model": {"config": str(allowed / "config.json")},
                      "workers": {"replicas": 1}, "train": {"steps": 20}, "checkpoint": {"dir": str(allowed / "out")}}

            def job(changes):
                return c.spec(**cluster.merge(inside, changes))

            # By its name: refused at submit.
            for changes in ({"data": {"paths": [str(text)]}}, {"data": {"paths": [f"{allowed}/../text"]}},
                            {"data": {"paths": [f"{c.folder}/t*/*.txt"]}}, {"model": {"config": str(config)}},
                            {"model": {"init": "/etc/passwd"}}, {"checkpoint": {"dir": str(c.folder / "out")}},
                            {"checkpoint": {"resume": "/etc"}}):
                with self.subTest(changes):
                    path = c.folder / "outside.yaml"
                    path.write_text(json.dumps(job(changes)))
                    self.refused(c.ctl_raw("submit", path), "--path-root", f"spec.{next(iter(changes))}")
            # By a link: refused by the worker, which sees the disk.
            for changes in ({"data": {"paths": [str(allowed / "link")]}}, {"data": {"paths": [str(allowed / "shelf")]}},
                            {"data": {"paths": [f"{allowed}/sh*/*.txt"]}},
                            {"checkpoint": {"dir": str(allowed / "link" / "out")}}):
                with self.subTest(changes):
                    end = c.wait(c.submit(job(changes)), state="FAILED")
                    self.assertIn(f"-> {text}", end["state_reason"])
                    self.assertFalse((text / "out").exists())
            c.wait(c.submit(job({})))
            self.assertTrue((allowed / "out").is_dir())

    def test_nothing_is_open_beyond_this_machine_unless_asked_for_by_a_word(self):
        with Secure() as c:
            c.start_coordinator()
            agent = ["--coordinator", c.address, "--state-dir", c.folder / "agents"]
            own = {"leap-coordinator": ["--state-dir", c.folder / "state-2"], "leap-worker": agent,
                   "leap-verifier": agent}
            cases = [(name, flag) for name in own for flag in ("--listen", "--metrics-listen")]
            cases += [("leap-worker", "--bind-host"), ("leap-verifier", "--bind-host")]
            here = ["--listen", "127.0.0.1:0"]
            for name, flag in cases:
                where = "0.0.0.0" if flag == "--bind-host" else "0.0.0.0:0"
                with self.subTest(f"{name} {flag}"):
                    arguments = [*own[name], flag, where, *(here if flag != "--listen" else [])]
                    done = subprocess.run([cluster.program(name), *map(str, arguments)], timeout=20,
                                          capture_output=True, text=True, cwd=c.folder)
                    self.refused(done, "0.0.0.0", "--insecure-")
                    told = re.findall(r"--insecure-[a-z-]+", done.stderr)[0]
                    self.assertEqual(told, "--insecure-listen-anywhere" if flag == "--listen" else
                                     "--insecure-plaintext-anywhere")
                    running = c.launch(f"{name}{flag}", cluster.program(name), *arguments, told)
                    self.says(running, "started")
                    self.assertEqual(running.terminate(), 0)
            for name in ("leap-worker", "leap-verifier"):
                done = subprocess.run([cluster.program(name), "--coordinator", "10.0.0.1:1", "--state-dir",
                                       str(c.folder / "agents")], timeout=20, capture_output=True, text=True)
                self.refused(done, "--insecure-connect-anywhere")
            c.address = "10.0.0.1:1"
            self.refused(c.ctl_raw("list"), "--insecure-connect-anywhere")


if __name__ == "__main__":
    cluster.main()
