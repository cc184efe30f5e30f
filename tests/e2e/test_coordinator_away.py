"""Issue 4, items 4 and 9, with real processes: leapctl while the coordinator is away; what a job waits for; a coordinator
whose ledger cannot be used."""
import os
import signal
import subprocess
import time
import unittest

import cluster


class Watch:
    """`leapctl watch JOB` in the background; what it has printed so far."""
    def __init__(self, c, job):
        self.folder = c.folder
        self.out, self.err = c.folder / "watch.out", c.folder / "watch.err"
        with open(self.out, "w") as out, open(self.err, "w") as err:
            self.popen = subprocess.Popen([cluster.program("leapctl"), "--coordinator", c.address, "watch", job],
                                          stdout=out, stderr=err, stdin=subprocess.DEVNULL)


class CoordinatorAway(unittest.TestCase):
    def test_watch_says_so_and_goes_on_and_nothing_else_hangs(self):
        with cluster.Cluster() as c:
            c.start(workers=2)
            # Slow enough to see it, quick enough to see the end.
            job = c.submit(c.spec(train={"steps": 1500}, leap={"policy": "off"}, verifiers={"max_replicas": 0}))
            before = c.wait_step(job, 20) and int(c.job(job)["progress"]["step"])
            watch = Watch(c, job)
            try:
                cluster.wait_until(lambda: job in watch.out.read_text(), 20, "watch shows nothing")
                c.processes["coordinator"].kill()
                cluster.wait_until(lambda: "coordinator unreachable since" in watch.err.read_text(), 20,
                                   "watch does not say that the coordinator is away")
                self.assertIn("workers train on without it", watch.err.read_text())
                for command in (["list"], ["get", job], ["describe", job], ["workers"], ["events", job],
                                ["watch", job], ["cancel", job]):
                    with self.subTest(command):
                        done = c.ctl_raw(*command, seconds=20)
                        self.assertEqual(done.returncode, 6, done.stderr)
                        self.assertEqual(done.stdout, "")
                        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                        self.assertIn(f"cannot reach the coordinator at {c.address} (connection refused)", done.stderr)
                self.assertIsNone(watch.popen.poll(), "watch waits for it")
                shown = len(watch.out.read_text())
                c.start_coordinator()
                cluster.wait_until(lambda: len(watch.out.read_text()) > shown, 30, "watch does not go on")
                after = int(c.wait_step(job, before + 1) and c.job(job)["progress"]["step"])
                self.assertGreater(after, before)
                end = c.wait(job, 150)
                self.assertEqual(int(end["epoch"]), 1, "the workers never noticed")
                self.assertEqual(watch.popen.wait(30), 0)
            finally:
                watch.popen.kill()
                watch.popen.wait()

    def test_a_coordinator_that_is_stopped_is_away_too(self):
        with cluster.Cluster() as c:
            c.start(workers=1)
            job = c.submit(c.spec(train={"steps": 100000}, workers={"replicas": 1}, leap={"policy": "off"}))
            c.wait_step(job, 5)
            watch = Watch(c, job)
            try:
                cluster.wait_until(lambda: job in watch.out.read_text(), 20, "watch shows nothing")
                c.processes["coordinator"].signal(signal.SIGSTOP)
                done = c.ctl_raw("get", job, seconds=30)
                self.assertEqual(done.returncode, 6, done.stderr)
                self.assertIn("does not answer", done.stderr)
                cluster.wait_until(lambda: "coordinator unreachable since" in watch.err.read_text(), 60,
                                   "watch does not say that the coordinator is away")
                c.processes["coordinator"].signal(signal.SIGCONT)
                c.ctl("cancel", job)
                self.assertEqual(watch.popen.wait(60), 8)
            finally:
                watch.popen.kill()
                watch.popen.wait()

    def test_a_coordinator_that_stood_still_for_two_leases_takes_nobody_for_lost(self):
        lease = 2
        with cluster.Cluster() as c:
            c.start(workers=2, verifiers=1)
            job = c.submit(c.spec(train={"steps": 1_000_000}, timeouts={"lease_seconds": lease},
                                  verifiers={"min_replicas": 1}, leap={"policy": "off"}))
            step, coordinator = 20, c.processes["coordinator"]
            for _ in range(3):
                c.wait_step(job, step)
                coordinator.signal(signal.SIGSTOP)
                over = time.monotonic() + 2 * lease
                cluster.wait_until(lambda: time.monotonic() > over, 3 * lease, "time stands still")
                coordinator.signal(signal.SIGCONT)
                step = int(c.job(job)["progress"]["step"]) + 200
            c.wait_step(job, step)
            self.assertIn("coordinator-stood-still", coordinator.text())
            self.assertEqual(int(c.job(job)["epoch"]), 1)
            lost = [event for event in c.ledger("events", job) if event["kind"] in ("worker-lost", "verifier-lost")]
            self.assertEqual(lost, [])
            c.ctl("cancel", job)

    def test_describe_says_what_a_job_waits_for(self):
        with cluster.Cluster() as c:
            c.start_coordinator()
            job = c.submit(c.spec(train={"steps": 100000}, leap={"interval_steps": 10, "warmup_steps": 100000}))

            def describe(*words):
                def there():
                    text = c.ctl_raw("describe", job).stdout
                    return all(word in text for word in words)
                cluster.wait_until(there, 30, f"describe never says {words}:\n{c.ctl_raw('describe', job).stdout}")

            describe("Waits for\n  workers       waits for 2 more main workers: 0 of 2 are here", "start leap-worker",
                     "since 20", "no other leap-worker is known",
                     "lease 5 s < collective 20 s < commit 30 s < epoch formation 60 s < job start 600 s")
            c.add("worker", "w0")
            describe("waits for 1 more main worker: 1 of 2 is here (w0 is free)")
            c.add("worker", "w1")
            describe("no verifier scores for this job", "start leap-verifier")
            c.add("verifier", "v0")
            describe("no candidate is tried: step", "before the end of warm-up", "training gets there by itself")
            c.ctl("pause", job)
            describe("paused by a person", f"leapctl resume {job}")
            c.processes["v0"].kill()
            c.processes["w1"].kill()
            c.ctl("cancel", job)
            self.assertNotIn("Waits for", c.ctl_raw("describe", job).stdout)

    def test_a_ladder_that_does_not_rise_is_refused_at_submit(self):
        with cluster.Cluster() as c:
            c.start_coordinator()
            path = c.folder / "ladder.yaml"
            path.write_text("apiVersion: leap/v1\nkind: Job\nmetadata: {name: a}\nspec:\n  data: {paths: [/tmp]}\n"
                            "  train: {steps: 10}\n  timeouts: {commit_seconds: 3}\n")
            done = c.ctl_raw("submit", path)
            self.assertEqual(done.returncode, 3)
            self.assertIn("the ladder must rise", done.stderr)


class Ledger(unittest.TestCase):
    def start(self, c, **more):
        return subprocess.run([cluster.program("leap-coordinator"), "--listen", "127.0.0.1:0", "--state-dir",
                               c.folder / "state"], capture_output=True, text=True, timeout=30, **more)

    def refused(self, done, *words):
        self.assertEqual(done.returncode, 1, done.stderr)
        last = done.stderr.splitlines()[-1]
        self.assertTrue(last.startswith("leap-coordinator: "), done.stderr)
        for word in words:
            self.assertIn(word, last)

    def test_a_coordinator_that_cannot_use_its_ledger_ends_with_one_sentence(self):
        with cluster.Cluster() as c:
            c.start_coordinator()
            c.submit(c.spec())
            ledger = c.folder / "state" / "ledger.db"
            self.refused(self.start(c), "another coordinator", "--state-dir")
            c.processes["coordinator"].terminate()
            whole = ledger.read_bytes()
            ledger.write_bytes(b"no ledger at all" * 256)
            self.refused(self.start(c), str(ledger), "restore it from a backup")
            ledger.write_bytes(whole[:4096] + b"\xab" * (len(whole) - 4096))
            self.refused(self.start(c), str(ledger), "restore it from a backup")
            ledger.write_bytes(whole)
            ledger.chmod(0o444)
            (c.folder / "state").chmod(0o555)
            if os.geteuid() == 0:  # root may write anything
                c.folder.chmod(0o755)
                self.refused(self.start(c, user=65534), "writable")
            else:
                self.refused(self.start(c), "writable")
            (c.folder / "state").chmod(0o755)
            ledger.chmod(0o644)
            c.start_coordinator()  # and all is as it was
            self.assertEqual(len(c.ctl("list")["jobs"]), 1)


class FullDisk(unittest.TestCase):
    def test_nothing_is_committed_until_there_is_space_again(self):
        with cluster.SmallDisk("coordinator", "state") as c:
            c.start(workers=2, verifiers=1)
            job = c.submit(c.spec(train={"steps": 1_000_000}, verifiers={"min_replicas": 1}, leap={
                "interval_steps": 40, "warmup_steps": 40, "regimes": ["unknown", "chaotic", "transition", "stable"],
                "criterion": {"name": "guard", "bound": 1.0},
                "predictors": [{"name": "linear", "horizons_steps": [10]}]}))

            def committed():
                return int(c.job(job).get("leaps", {}).get("committed", 0))

            def waits_for_the_ledger():
                return [wait for wait in c.job(job).get("waits", []) if wait["what"] == "ledger" and "full" in wait["reason"]]
            cluster.wait_until(committed, 60, "no leap is committed")
            c.fill()
            cluster.wait_until(waits_for_the_ledger, 60, "nobody notices that the disk is full")
            before, step = committed(), int(c.job(job)["progress"]["step"])
            self.assertIn("training goes on, and nothing is decided meanwhile", c.ctl_raw("describe", job).stdout)
            refused = c.ctl_raw("submit", c.folder / "job.yaml")
            self.assertEqual(refused.returncode, 5, refused.stderr)
            self.assertIn("free space", refused.stderr)
            c.wait_step(job, step + 400)
            self.assertTrue(waits_for_the_ledger())
            self.assertEqual(committed(), before)
            self.assertEqual(len(c.ctl("list")["jobs"]), 1)

            c.make_room()
            cluster.wait_until(lambda: committed() > before + 1, 60, "no leap is committed any more")
            self.assertFalse(waits_for_the_ledger())
            self.assertEqual(int(c.job(job)["epoch"]), 1)
            c.ctl("cancel", job)

    def test_a_coordinator_does_not_start_on_one(self):
        with cluster.SmallDisk("coordinator", "state", size_kib=8) as c:
            done = c.launch("coordinator", cluster.program("leap-coordinator"), "--listen", "127.0.0.1:0", "--state-dir",
                            c.folder / "state")
            self.assertEqual(done.wait(20), 1)
            last = done.text().splitlines()[-1]
            self.assertTrue(last.startswith("leap-coordinator: "), last)
            self.assertIn("free space", last)


if __name__ == "__main__":
    cluster.main()
