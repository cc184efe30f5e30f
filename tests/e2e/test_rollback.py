"""A leap that did harm is undone by real processes: the audit says so, the decision is in the ledger, every rank goes back
to the state of before, and training is then, to the last bit, what it would have been without the leap."""
import unittest

import cluster

ANY = ["unknown", "chaotic", "transition", "stable"]


class Rollback(unittest.TestCase):
    def test_training_goes_on_as_if_the_leap_had_never_been(self):
        with cluster.Cluster() as c:
            c.start(workers=2, verifiers=1)
            plain = c.submit(c.spec(train={"steps": 900}, leap={"policy": "off"},
                                    checkpoint={"dir": str(c.folder / "plain")}))
            expected = c.wait(plain)["result"]["weights_digest"]
            # eta 0 leaps back to the outer point, away with an interval's progress, under a guard that lets that pass.
            job = c.submit(c.spec(
                train={"steps": 900}, verifiers={"min_replicas": 1}, checkpoint={"every_steps": 15},
                leap={"interval_steps": 20, "warmup_steps": 40, "regimes": ANY, "audit_every_leaps": 1,
                      "rollback_bound": 0.001, "criterion": {"name": "guard", "bound": 1.0},
                      "predictors": [{"name": "outer-nesterov", "params": {"eta": 0, "mu": 0}}]}))
            done = c.wait(job)
            leaps = c.ledger("leaps", job)
            undone = [leap for leap in leaps if leap["state"] == "ROLLED_BACK"]
            self.assertGreaterEqual(len(undone), 1, leaps)
            self.assertIn("retained", undone[0]["reason"])
            self.assertGreaterEqual(int(done["leaps"]["rolled_back"]), 1)
            kinds = [event["kind"] for event in c.ledger("events", job)]
            self.assertIn("rollback", kinds)
            self.assertIn("leap-rolled-back", kinds)
            text = c.ctl_raw("describe", job).stdout
            self.assertIn("rolled back", text)
            left = [leap for leap in leaps if leap["state"] == "APPLIED"]
            self.assertLess(len(left), 2, "the policy was switched off; the first leap, from the outer point, moves nothing")
            self.assertEqual(done["result"]["weights_digest"], expected)
            # The steps that were trained again count against the leaps.
            self.assertLess(float(done["leaps"]["net_steps"]), 0)


if __name__ == "__main__":
    cluster.main()
