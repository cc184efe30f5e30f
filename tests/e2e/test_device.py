"""device: cuda on a machine without a GPU. With a stand-in of the CUDA library (engine/cuda/host_plugin.cc) a whole job goes
through it and ends with the CPU's weights; without one, worker and verifier say what is missing and go on living."""
import json
import os
import unittest

import cluster

STAND_IN = cluster.BINARIES / "engine" / "cuda" / "host"
QUIET = {"train": {"steps": 60, "threads": 1}, "leap": {"policy": "off"}}
MISSING = "the job asks for spec.train.device: cuda, but libleap_engine_cuda.so is not where this program looks for it"


class Machines(cluster.Cluster):
    """Agents named in `gpus` have the stand-in."""
    gpus = ()
    shared = False  # they are all on one GPU

    def command(self, name, arguments):
        if name not in self.gpus:
            return arguments
        gpu = ["LEAP_HOST_PLUGIN_GPU=7"] if self.shared else []
        return ["env", f"LD_LIBRARY_PATH={STAND_IN}", f"LEAP_HOST_PLUGIN_COUNTS={self.folder / name}.counts", *gpu, *arguments]

    def counts(self, name):
        """What a process asked of its stand-in; ends the process."""
        process = self.processes[name]
        process.terminate()
        return json.loads((self.folder / f"{name}.counts.{process.popen.pid}").read_text())


def on_cuda(changes):
    return cluster.merge(changes, {"train": {"device": "cuda"}})


class DeviceTest(unittest.TestCase):
    @unittest.skipIf(not STAND_IN.exists(), "the stand-in was not built")
    def test_a_job_goes_through_the_library(self):
        with Machines() as c:
            c.gpus = ("w0", "w1", "v0")
            c.start(workers=2, verifiers=1)
            expected = c.wait(c.submit(c.spec(**QUIET)))["result"]["weights_digest"]
            end = c.wait(c.submit(c.spec(**on_cuda(QUIET))))
            self.assertEqual(end["result"]["weights_digest"], expected)

            job = c.submit(c.spec(**on_cuda({
                "train": {"steps": 240, "threads": 1}, "verifiers": {"min_replicas": 1},
                "leap": {"interval_steps": 40, "warmup_steps": 40, "criterion": {"name": "guard", "bound": 1.0}}})))
            c.wait(job)
            leaps = [leap for leap in c.ledger("leaps", job) if leap["state"] == "APPLIED"]
            self.assertGreaterEqual(len(leaps), 1, c.ledger("leaps", job))
            for name in ("w0", "w1"):
                counts = c.counts(name)
                self.assertEqual(counts["joins"], 2, counts)  # one a job on this device
                self.assertEqual(counts["rebases"], len(leaps), counts)
                self.assertGreater(counts["early"], 0, counts)
                self.assertEqual(counts["pinned"], 0, counts)
            self.assertGreaterEqual(c.counts("v0")["copiers"], 1)  # its model is there, too

    @unittest.skipIf(not STAND_IN.exists(), "the stand-in was not built")
    def test_two_workers_on_one_gpu_are_told_so(self):
        with Machines() as c:
            c.gpus, c.shared = ("w0", "w1"), True
            c.start(workers=2)
            end = c.wait(c.submit(c.spec(**on_cuda(QUIET))), state="FAILED")
            self.assertIn("ranks 0 and 1 are on the same GPU; start each worker with a GPU of its own (CUDA_VISIBLE_DEVICES",
                          end["state_reason"])
            c.wait(c.submit(c.spec(**QUIET)))  # the same processes are of use again

    def test_a_worker_without_it_says_what_is_missing(self):
        with Machines() as c:
            c.start(workers=2)
            end = c.wait(c.submit(c.spec(**on_cuda(QUIET))), state="FAILED")
            self.assertIn(MISSING, end["state_reason"])
            self.assertIn("or set spec.train.device: cpu", end["state_reason"])
            c.wait(c.submit(c.spec(**QUIET)))  # the same processes are of use again
            self.assertTrue(c.processes["w0"].alive() and c.processes["w1"].alive())

    @unittest.skipIf(not STAND_IN.exists(), "the stand-in was not built")
    def test_a_verifier_without_it_says_what_is_missing(self):
        with Machines() as c:
            c.gpus = ("w0", "w1")
            c.start(workers=2, verifiers=1)
            job = c.submit(c.spec(**on_cuda({"train": {"steps": 120, "threads": 1}, "verifiers": {"min_replicas": 1}})))
            c.wait(job)  # nobody scores, nothing leaps, training goes on
            reasons = [event for event in c.ledger("events", job) if event["kind"] == "verifier-quarantined"]
            self.assertEqual(len(reasons), 1, c.ledger("events", job))
            self.assertIn(MISSING, json.dumps(reasons))
            self.assertIn("job_unusable", c.processes["v0"].text())
            self.assertTrue(c.processes["v0"].alive())


if __name__ == "__main__":
    cluster.main()
