"""Everybody who trains is lost, or somebody for whom there is no replacement: training goes on from the newest checkpoint
that is sound, or on a smaller world, exact to the sample."""
import functools
import json
import pathlib
import signal
import sys
import unittest

import cluster

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))
import ledger  # noqa: E402

# Leaps off and `threads: 1`: the trajectory is that of the undisturbed run, and sums have one order on every machine.
QUIET = {"train": {"steps": 500, "threads": 1}, "leap": {"policy": "off"}, "timeouts": {"lease_seconds": 3},
         "workers": {"replicas": 2, "min_replicas": 2}}
EVERY = 50  # steps between checkpoints
# What a run on another number of ranks may differ by: sums have another order, so the last bits drift apart. Another batch
# at the last step would differ by some hundred times as much.
CLOSE = 2e-4  # nats a token
ANY = ["unknown", "chaotic", "transition", "stable"]


class Run(cluster.Cluster):
    def quiet(self, folder, **changes):
        """A job whose checkpoints lie in a folder of this name; not submitted yet."""
        saving = {"checkpoint": {"every_steps": EVERY, "keep": 3, "resume": "auto", "dir": str(self.folder / folder)}}
        return self.spec(**cluster.merge(cluster.merge(QUIET, saving), changes))

    def kill_workers(self, *names):
        for name in names:
            self.processes[name].signal(signal.SIGKILL)
        for name in names:
            self.processes[name].wait(10)

    def sentences(self, job, kind):
        return [event["sentence"] for event in self.ledger("events", job) if event["kind"] == kind]


class SmallRun(cluster.SmallDisk, Run):
    pass


@functools.cache
def undisturbed():
    """Result of the run that nothing happens to."""
    with Run() as c:
        c.start(workers=2)
        return c.wait(c.submit(c.quiet("undisturbed")))["result"]


def newest(folder):
    return max(pathlib.Path(folder).glob("step-*"), key=lambda path: int(path.name.split("-")[1]))


def flip_one_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


class Resume(unittest.TestCase):
    def same_run(self, result):
        expected = undisturbed()
        for key in ("step", "weights_digest", "train_loss", "gate_loss", "report_loss"):
            self.assertEqual(result[key], expected[key], key)

    def same_samples(self, result, what):
        """The loss of the last step is that of its batch, up to rounding; so are the held-out losses."""
        expected = undisturbed()
        apart = {key: abs(float(result[key]) - float(expected[key])) for key in ("train_loss", "gate_loss", "report_loss")}
        print(f"{what}: losses differ by " + ", ".join(f"{key} {value:.1e}" for key, value in apart.items()))
        self.assertEqual(result["step"], expected["step"])
        for key, value in apart.items():
            self.assertLess(value, CLOSE, key)

    def test_all_workers_killed(self):
        with Run() as c:
            c.start(workers=2)
            job = c.submit(c.quiet("job"))
            c.wait_step(job, 4 * EVERY)
            c.kill_workers("w0", "w1")
            saved = int(newest(c.folder / "job").name.split("-")[1])
            for name in ("w0", "w1"):
                c.add("worker", name)
            end = c.wait(job)
            self.same_run(end["result"])
            began = [line for line in c.sentences(job, "epoch-formed") if "epoch 2" in line]
            self.assertIn(f"from step {saved}:", began[0])
            self.assertIn("from the newest checkpoint", began[0])
            state = json.loads((pathlib.Path(end["checkpoint_path"]) / "state.json").read_text())
            self.assertEqual(state["data_position"], QUIET["train"]["steps"])

    def test_one_bit_flipped_in_the_newest_checkpoint(self):
        with Run() as c:
            c.start(workers=2)
            job = c.submit(c.quiet("job"))
            c.wait_step(job, 4 * EVERY)
            c.kill_workers("w0", "w1")
            damaged = newest(c.folder / "job")
            flip_one_bit(damaged / "model.safetensors")
            older = damaged.with_name(f"step-{int(damaged.name.split('-')[1]) - EVERY}")
            for name in ("w0", "w1"):
                c.add("worker", name)
            said = cluster.wait_until(lambda: [line for line in c.sentences(job, "rank-recovered") if "passed over" in line],
                                      60, "no event names the damaged checkpoint")
            self.assertIn(f"{damaged}/model.safetensors: expected checksum", said[0])
            self.assertIn(f"from checkpoint {older}", said[0])
            self.same_run(c.wait(job)["result"])

    def test_a_damaged_checkpoint_asked_for_by_name(self):
        with Run() as c:
            c.start(workers=1)
            steps = {"train": {"steps": 3 * EVERY}, "workers": {"replicas": 1, "min_replicas": 1}}
            c.wait(c.submit(c.quiet("job", **steps)))
            damaged = newest(c.folder / "job")
            flip_one_bit(damaged / "optimizer.safetensors")
            job = c.submit(c.quiet("other", **cluster.merge(steps, {"checkpoint": {"resume": str(damaged)}})))
            reason = c.wait(job, state="FAILED")["state_reason"]
            self.assertIn(f"{damaged}/optimizer.safetensors: expected checksum", reason)
            self.assertIn(f"the next older checkpoint is {damaged.with_name(f'step-{2 * EVERY}')}", reason)

    def test_on_another_number_of_workers(self):
        """A checkpoint of two ranks goes on on one, and one of one rank on two, with the same batches."""
        with Run() as c:
            c.start(workers=2)
            for before, after in ((2, 1), (1, 2)):
                name = f"from-{before}-to-{after}"
                c.wait(c.submit(c.quiet(name, train={"steps": 250}, workers={"replicas": before, "min_replicas": before})))
                job = c.submit(c.quiet(name, workers={"replicas": after, "min_replicas": after}))
                self.same_samples(c.wait(job)["result"], f"{before} ranks, then {after}")
                began = c.sentences(job, "epoch-formed")[0]
                self.assertIn("from step 250:", began)

    def test_goes_on_with_fewer_and_the_same_global_batch(self):
        with Run() as c:
            c.start(workers=2)
            job = c.submit(c.quiet("job", workers={"replicas": 2, "min_replicas": 1}))
            c.wait_step(job, 200)
            c.kill_workers("w1")
            end = c.wait(job)
            self.same_samples(end["result"], "one of two ranks lost at step 200 or later")
            self.assertEqual(int(end["epoch"]), 2)
            began = c.sentences(job, "epoch-formed")[1]
            self.assertIn("1 main workers, state from a peer", began)
            self.assertGreaterEqual(int(began.split("from step ")[1].split(":")[0]), 200, "a step was lost")
            state = json.loads((pathlib.Path(end["checkpoint_path"]) / "state.json").read_text())
            self.assertEqual(state["data_position"], QUIET["train"]["steps"])


class FullDisk(unittest.TestCase):
    ONE = {"workers": {"replicas": 1, "min_replicas": 1}, "train": {"steps": 800}}

    def waits(self, c, job):
        return [wait for wait in c.job(job).get("waits", []) if wait["what"] == "checkpoint"]

    def trained_on_a_full_disk(self, c):
        """A job that has trained to its end and could not write its checkpoints."""
        job = c.submit(c.quiet("job", **self.ONE))
        cluster.wait_until(lambda: c.job(job).get("checkpoint_path"), 60, "no checkpoint is written")
        c.fill()
        cluster.wait_until(lambda: c.sentences(job, "checkpoint-failed"), 60, "nobody tells of the full disk")
        self.assertRegex(c.sentences(job, "checkpoint-failed")[0], r"step \d+: cannot write .* No space left on device; free")
        c.wait_step(job, 800)
        waits = cluster.wait_until(lambda: [wait for wait in self.waits(c, job) if "step 800: cannot" in wait["reason"]], 60,
                                   "describe does not say what the end waits for")
        self.assertIn("the job ends when it is written", waits[0]["resolution"])
        self.assertEqual(c.job(job)["state"], "RUNNING")
        return job

    def test_of_checkpoints_loses_nothing(self):
        with Run() as c:
            c.start(workers=1)
            expected = c.wait(c.submit(c.quiet("undisturbed", **self.ONE)))["result"]
        with SmallRun("w0", "job") as c:
            c.start(workers=1)
            job = self.trained_on_a_full_disk(c)
            c.make_room()
            end = c.wait(job, 60)
            self.assertEqual(end["result"]["weights_digest"], expected["weights_digest"])
            self.assertTrue(end["checkpoint_path"].endswith("step-800"), end["checkpoint_path"])
            self.assertEqual(self.waits(c, job), [])

    def test_of_checkpoints_holds_nobody_who_is_told_to_go(self):
        with SmallRun("w0", "job") as c:
            c.start(workers=1)
            c.ctl("cancel", self.trained_on_a_full_disk(c))
            c.wait(c.submit(c.quiet("other", **self.ONE)))  # the worker is free
            c.make_room()
            again = c.submit(c.quiet("job", **cluster.merge(self.ONE, {"checkpoint": {"resume": "never"}})))
            c.wait_step(again, 100)
            c.fill()
            cluster.wait_until(lambda: any("step 800: cannot" in wait["reason"] for wait in self.waits(c, again)), 60,
                               "it does not wait")
            self.assertEqual(c.processes["w0"].terminate(), 0)


    def test_of_a_machine_that_is_to_replace_a_lost_one(self):
        with SmallRun("w2", "agents", size_kib=64) as c:
            c.start(workers=2)
            job = c.submit(c.quiet("job"))
            c.wait_step(job, 100)
            c.kill_workers("w1")
            c.add("worker", "w2")
            said = cluster.wait_until(lambda: c.sentences(job, "worker-quarantined"), 60, "nobody notices that w2 cannot")
            self.assertRegex(said[0], r"w2: rank \d stopped \(internal\): cannot write .* No space left on device")
            waits = cluster.wait_until(lambda: [wait["reason"] for wait in c.job(job).get("waits", [])
                                                if "w2 is in quarantine" in wait["reason"]], 30, "the job does not say so")
            self.assertIn("waits for 1 more main worker: 1 of 2 is here", waits[0])
            c.add("worker", "w3")
            self.assertEqual(c.wait(job)["result"]["weights_digest"], undisturbed()["weights_digest"])


class LeapsGoOn(unittest.TestCase):
    def test_after_a_worker_is_lost(self):
        with Run() as c:
            c.start(workers=3, verifiers=1)
            job = c.submit(c.quiet("job", train={"steps": 1500}, verifiers={"min_replicas": 1}, leap={
                "policy": "default", "interval_steps": 50, "warmup_steps": 50, "regimes": ANY,
                "criterion": {"name": "guard", "bound": 1.0}}))

            def applied(epoch):
                return [leap for leap in c.ledger("leaps", job) if leap["state"] == "APPLIED" and int(leap["epoch"]) == epoch]

            cluster.wait_until(lambda: applied(1), 60, "no leap was applied")
            members = {row["agent"]: row for row in c.job(job)["members"] if int(row.get("rank", 0)) >= 0}
            lost = next(name for name, row in members.items() if int(row.get("rank", 0)) == 1)
            c.kill_workers(lost)
            end = c.wait(job)
            self.assertGreaterEqual(len(applied(2)), 1, "no leap was committed after the loss")
            self.assertEqual(ledger.Checker(c.folder, job, 2).check(), [])
            ended = [line for _, line in ledger.log_lines(c.folder, "training-done") if line["job"] == job]
            self.assertEqual(len(ended), 2)
            self.assertEqual({line["weights_digest"] for line in ended},
                             {f"{ledger.unsigned(end['result']['weights_digest']):016x}"})


if __name__ == "__main__":
    cluster.main()
