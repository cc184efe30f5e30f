"""SIGTERM, which a host sends before it takes a machine away: each program ends in order, and who is left is told, so that
nobody waits for a lease. The leases here are longer than any of these tests."""
import re
import time
import unittest
import urllib.request

import cluster

PATIENT = {"lease_seconds": 100, "collective_seconds": 150, "commit_seconds": 200, "epoch_formation_seconds": 250}
# Leaps off and `threads: 1`: the trajectory is that of the undisturbed run.
QUIET = {"train": {"steps": 800, "threads": 1}, "leap": {"policy": "off"}, "timeouts": PATIENT}
ANY = ["unknown", "chaotic", "transition", "stable"]
SOON = 20  # seconds, on a busy machine; a lease would be five times as long


class Worker(unittest.TestCase):
    def sentences(self, c, job, kind):
        return [event["sentence"] for event in c.ledger("events", job) if event["kind"] == kind]

    def leave(self, c, job):
        """w1 is told to end in the middle of training."""
        c.wait_step(job, 100)
        self.assertEqual(c.processes["w1"].terminate(SOON), 0)
        cluster.wait_until(lambda: self.sentences(c, job, "worker-left"), SOON, "nobody noticed that w1 left")
        self.assertRegex(self.sentences(c, job, "worker-left")[0], r"rank \d \(w1\): said goodbye")

    def test_the_job_says_that_it_waits_for_another_and_goes_on_with_it(self):
        with cluster.Cluster() as c:
            c.start(workers=2)
            both = cluster.merge(QUIET, {"workers": {"min_replicas": 2}})
            expected = c.wait(c.submit(c.spec(**both)))["result"]["weights_digest"]
            job = c.submit(c.spec(**both))
            self.leave(c, job)

            def described():
                text = c.ctl_raw("describe", job).stdout
                return all(word in text for word in ("waits for 1 more main worker: 1 of 2 is here", "start leap-worker"))
            cluster.wait_until(described, SOON, "describe does not say what the job waits for")
            c.add("worker", "w2")
            end = c.wait(job)
            self.assertEqual(end["result"]["weights_digest"], expected)
            self.assertEqual(int(end["epoch"]), 2)

    def test_the_job_goes_on_with_fewer(self):
        with cluster.Cluster() as c:
            c.start(workers=2)
            job = c.submit(c.spec(**cluster.merge(QUIET, {"train": {"steps": 1_000_000}, "workers": {"min_replicas": 1}})))
            self.leave(c, job)
            step = int(c.job(job)["progress"]["step"])
            c.wait_step(job, step + 100, SOON)
            self.assertEqual(int(c.job(job)["epoch"]), 2)


class Verifier(unittest.TestCase):
    def at_work(self, c, job, than=None):
        """(name, step) of a verifier, other than `than`, that scores a snapshot."""
        reasons = " ".join(wait["reason"] for wait in c.job(job).get("waits", []) if wait["what"] == "scores")
        found = [(name, step) for name, step in re.findall(r"(v\d) at the baseline of step (\d+)", reasons) if name != than]
        return found and found[0]

    def test_its_task_is_given_to_another_at_once(self):
        with cluster.Cluster() as c:
            c.start(workers=1, verifiers=2)
            # Seconds of scoring for each snapshot, and more between them.
            job = c.submit(c.spec(data={"gate_sequences": 3000}, train={"steps": 10_000_000}, timeouts=PATIENT,
                                  workers={"replicas": 1}, verifiers={"min_replicas": 2},
                                  leap={"interval_steps": 4000, "warmup_steps": 0, "commit": False}))
            name, step = cluster.wait_until(lambda: self.at_work(c, job), 120, "nobody scores a snapshot")
            self.assertEqual(c.processes[name].terminate(SOON), 0)
            other, again = cluster.wait_until(lambda: self.at_work(c, job, than=name), SOON, "nobody takes its place")
            self.assertEqual(again, step)
            scored = cluster.wait_until(lambda: [row for row in c.ledger("snapshots", job) if row["step"] == step
                                                 and row.get("gate_loss")], 60, f"step {step} is never scored")
            self.assertEqual(len(scored), 1)
            self.assertEqual(int(c.job(job)["epoch"]), 1, "training did not notice")


class Coordinator(unittest.TestCase):
    def steps(self, c, name):
        page = urllib.request.urlopen(f"http://127.0.0.1:{c.port_of(name, 'metrics-port')}/metrics", timeout=10)
        return float(re.search(r"^leap_worker_trained_steps_total\S* (\S+)$", page.read().decode(), re.M).group(1))

    def applied(self, c, job):
        return [leap for leap in c.ledger("leaps", job) if leap["state"] == "APPLIED"]

    def test_training_goes_on_and_all_come_to_its_successor(self):
        with cluster.Cluster() as c:
            c.start_coordinator()
            for name in ("w0", "w1"):
                c.add("worker", name, "--metrics-listen", "127.0.0.1:0", "--metrics-port-file", "metrics-port")
            c.add("verifier", "v0")
            job = c.submit(c.spec(train={"steps": 1_000_000}, timeouts=PATIENT, verifiers={"min_replicas": 1}, leap={
                "interval_steps": 40, "warmup_steps": 40, "regimes": ANY, "criterion": {"name": "guard", "bound": 1.0},
                "predictors": [{"name": "linear", "horizons_steps": [10]}]}))
            cluster.wait_until(lambda: self.applied(c, job), 60, "no leap is applied")
            self.assertEqual(c.processes["coordinator"].terminate(SOON), 0)
            before = self.steps(c, "w0")
            cluster.wait_until(lambda: self.steps(c, "w0") > before + 50, SOON, "training stands still")

            began = time.monotonic()
            c.start_coordinator()
            before = len(self.applied(c, job))
            cluster.wait_until(lambda: len(self.applied(c, job)) > before, 60, "no leap is applied any more")
            print(f"the first leap under the next coordinator was applied {time.monotonic() - began:.1f} s after its start")
            now = c.job(job)
            self.assertEqual((now["state"], int(now["epoch"])), ("RUNNING", 1))
            agents = {agent["agent"]: agent["state"] for agent in c.ctl("workers")["agents"]}
            self.assertEqual(agents, {name: "assigned" for name in ("w0", "w1", "v0")})


if __name__ == "__main__":
    cluster.main()
