"""Evidence 4: a verifier killed twice in mid-verification changes no weight; a verifier that joins late is used."""
import unittest

import cluster


class VerifierLoss(unittest.TestCase):
    def test_killed_twice_in_mid_verification_and_a_late_one_is_used(self):
        with cluster.Cluster() as c:
            c.start(workers=2, verifiers=1)
            # A gate set so large that the verifier is nearly always at work.
            slow = {"data": {"gate_sequences": 400}, "train": {"steps": 2000},
                    "leap": {"commit": False, "interval_steps": 200, "warmup_steps": 200},
                    "verifiers": {"min_replicas": 1}}
            job = c.submit(c.spec(**slow))
            for kill in range(2):
                cluster.wait_until(lambda: int(c.job(job).get("leaps", {}).get("verifiers_busy", 0)) > 0, 60,
                                   "no verifier is ever busy")
                c.processes["v0"].kill()
                if kill == 0:
                    c.add("verifier", "v0")
            c.add("verifier", "late")
            end = c.wait(job, 150)
            self.assertIn("late", {row["verifier"] for row in c.ledger("candidates", job)},
                          "the late verifier was used")
            self.assertTrue(any("verifier" in event["kind"] for event in c.ledger("events", job)),
                            "the loss stands in the job's events")

            undisturbed = c.wait(c.submit(c.spec(**{**slow, "verifiers": {"max_replicas": 0}})), 150)
            self.assertEqual(end["result"]["weights_digest"], undisturbed["result"]["weights_digest"])
            self.assertEqual(int(c.job(job)["epoch"]), 1, "the main group never noticed")


if __name__ == "__main__":
    cluster.main()
