"""Evidence 1: leaps that are verified and not committed change nothing. The weights at every snapshot, and at the end,
are those of the same training without verifiers, and of the same training with leaps off, to the last bit."""
import unittest

import cluster

TRAIN = {"steps": 240}
EVERY = {"interval_steps": 40, "warmup_steps": 40}


class RejectedLeaps(unittest.TestCase):
    def test_not_committed_is_bit_identical_to_no_verifiers_and_to_leaps_off(self):
        with cluster.Cluster() as c:
            c.start(workers=2, verifiers=2)
            dry = c.submit(c.spec(train=TRAIN, leap={"commit": False, **EVERY}, verifiers={"min_replicas": 2}))
            dry_end = c.wait(dry)
            alone = c.submit(c.spec(train=TRAIN, leap={"commit": False, **EVERY}, verifiers={"max_replicas": 0}))
            alone_end = c.wait(alone)
            off = c.submit(c.spec(train=TRAIN, leap={"policy": "off"}, verifiers={"max_replicas": 0}))
            off_end = c.wait(off)

            tried = c.ledger("candidates", dry)
            self.assertGreaterEqual(len(tried), 3, "candidates were verified")
            self.assertEqual(c.ledger("candidates", alone), [])
            self.assertEqual([leap for leap in c.ledger("leaps", dry) if leap["state"] == "APPLIED"], [])

            digests = {job: {row["step"]: row["weights_digest"] for row in c.ledger("snapshots", job)}
                       for job in (dry, alone)}
            self.assertEqual(sorted(map(int, digests[dry])), list(range(40, 241, 40)))
            self.assertEqual(digests[dry], digests[alone])
            ends = [end["result"]["weights_digest"] for end in (dry_end, alone_end, off_end)]
            self.assertEqual(len(set(ends)), 1, ends)
            losses = [end["result"]["train_loss"] for end in (dry_end, alone_end, off_end)]
            self.assertEqual(len(set(losses)), 1, losses)

    def test_every_candidate_rejected_by_the_criterion_is_bit_identical_too(self):
        with cluster.Cluster() as c:
            c.start(workers=2, verifiers=1)
            # A step ten times too long is worse by far: the paired test rejects every one.
            rejecting = {"policy": "line-search", **EVERY, "regimes": ["unknown", "chaotic", "transition",
                         "stable"], "predictors": [{"name": "momentum", "horizons_steps": [5], "form": "paper"}],
                         "criterion": {"name": "strict"}}
            tried = c.submit(c.spec(train=TRAIN, leap=rejecting, verifiers={"min_replicas": 1}))
            tried_end = c.wait(tried)
            alone = c.submit(c.spec(train=TRAIN, leap=rejecting, verifiers={"max_replicas": 0}))
            alone_end = c.wait(alone)
            candidates = c.ledger("candidates", tried)
            self.assertGreaterEqual(len(candidates), 3)
            self.assertEqual({row.get("accepted", False) for row in candidates}, {False})
            self.assertEqual(tried_end["result"]["weights_digest"], alone_end["result"]["weights_digest"])
            digests = [{row["step"]: row["weights_digest"] for row in c.ledger("snapshots", job)} for job in (tried, alone)]
            self.assertEqual(sorted(map(int, digests[0])), list(range(40, 241, 40)))
            self.assertEqual(digests[0], digests[1], "at every snapshot as without verifiers")


if __name__ == "__main__":
    cluster.main()
