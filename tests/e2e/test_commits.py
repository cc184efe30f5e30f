"""Evidence 2: commits are exact. `replace`: the weights after a leap have the digest that the verifier scored.
`rebase`: they have the digest of live weights + (θ̂ - θ_t), computed here from the exports of a twin run that stops
where the leap was applied."""
import pathlib
import sys
import unittest

import cluster

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "outsider"))
try:
    import leap_numpy
except ImportError:
    leap_numpy = None

ANY = ["unknown", "chaotic", "transition", "stable"]
GENEROUS = {"name": "guard", "bound": 1.0}  # accepts nearly everything


def digest_of(row, key):
    return int(row[key], 16) if isinstance(row[key], str) and not row[key].isdigit() else int(row[key])


class Commits(unittest.TestCase):
    def applied(self, c, job):
        rows = [leap for leap in c.ledger("leaps", job) if leap["state"] == "APPLIED"]
        self.assertGreaterEqual(len(rows), 1, c.ledger("leaps", job))
        return rows

    def test_replace_leaves_exactly_what_the_verifier_scored(self):
        with cluster.Cluster() as c:
            c.start(workers=2, verifiers=1)
            job = c.submit(c.spec(
                train={"steps": 240}, verifiers={"min_replicas": 1},
                leap={"interval_steps": 40, "warmup_steps": 40, "regimes": ANY, "commit_rule": "replace",
                      "criterion": GENEROUS, "predictors": [{"name": "linear", "horizons_steps": [60]}]}))
            c.wait(job)
            for leap in self.applied(c, job):
                self.assertEqual(leap["weights_digest"], leap["candidate_digest"])
                candidate = [row for row in c.ledger("candidates", job) if row["base_step"] == leap["base_step"]
                             and row["accepted"]]
                self.assertEqual(candidate[0]["digest"], leap["candidate_digest"])

    def test_bf16_ranks_agree_with_one_another_and_with_the_verifier(self):
        """Autocast rounds activations, never weights: leaps are as exact as in fp32, and training goes on from them."""
        with cluster.Cluster() as c:
            c.start(workers=2, verifiers=1)
            job = c.submit(c.spec(
                train={"steps": 240, "precision": "bf16"}, verifiers={"min_replicas": 1},
                leap={"interval_steps": 40, "warmup_steps": 40, "regimes": ANY, "commit_rule": "replace",
                      "criterion": GENEROUS, "predictors": [{"name": "linear", "horizons_steps": [60]}]}))
            end = c.wait(job)
            for leap in self.applied(c, job):
                self.assertEqual(leap["weights_digest"], leap["candidate_digest"])
            self.assertFalse([row for row in c.ledger("events", job) if row["kind"] == "leap-disagreement"])
            self.assertEqual(int(end["progress"]["trained_steps"]), 240)
            losses = [row["gate_loss"] for row in c.ledger("snapshots", job)]
            self.assertLess(end["result"]["gate_loss"], losses[0] - 1)

    @unittest.skipIf(leap_numpy is None, "needs numpy")
    def test_rebase_equals_an_independent_computation(self):
        with cluster.Cluster() as c:
            c.start(workers=2, verifiers=1)
            linear = {"interval_steps": 40, "warmup_steps": 40, "regimes": ANY, "criterion": GENEROUS,
                      "predictors": [{"name": "linear", "horizons_steps": [10]}]}
            job = c.submit(c.spec(train={"steps": 240}, leap=linear, verifiers={"min_replicas": 1}))
            c.wait(job)
            leap = self.applied(c, job)[0]
            base, boundary = int(leap["base_step"]), int(leap["boundary_step"])

            def weights_at(step):  # of the same training without leaps, stopped at `step`
                twin = c.submit(c.spec(train={"steps": step}, leap={"policy": "off"},
                                       checkpoint={"dir": str(c.folder / f"twin-{step}")}))
                path = pathlib.Path(c.wait(twin)["checkpoint_path"]) / "model.safetensors"
                return leap_numpy.read_safetensors(path)[2]

            live, theta, before = weights_at(boundary), weights_at(base), weights_at(base - 40)
            predicted = leap_numpy.linear([theta, before], 10, 40)
            self.assertEqual(leap_numpy.digest(predicted), digest_of(leap, "candidate_digest"))
            rebased = live + (predicted - theta)
            self.assertEqual(leap_numpy.digest(rebased), digest_of(leap, "weights_digest"))


if __name__ == "__main__":
    cluster.main()
