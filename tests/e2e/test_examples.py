"""Every file in examples/ runs as it stands, but for the text and the number of steps: examples must not rot. The paper's
protocol runs far enough to leap."""
import json
import re
import unittest

import cluster

# How an example says where its text is and how long it trains; everything else in the file is run as it is.
PATHS, STEPS, WARMUP = r"paths: \[.*\]", r"(?m)^    steps: \d+", r"(?m)^    warmup_steps: \d+"


class Examples(unittest.TestCase):
    def job_of(self, c, example, steps, warmup):
        text = example.read_text()
        for pattern, value in ((PATHS, f"paths: [{c.text(400_000)}]"), (STEPS, f"    steps: {steps}")):
            text, count = re.subn(pattern, value, text)
            self.assertEqual(count, 1, f"{example.name} has no line like {pattern}")
        path = c.folder / example.name
        path.write_text(re.sub(WARMUP, f"    warmup_steps: {warmup}", text))
        return path

    def test_each_is_accepted_and_trains(self):
        with cluster.Cluster() as c:
            c.start(workers=2, verifiers=2)
            examples = sorted((cluster.SOURCE / "examples").glob("*.yaml"))
            self.assertGreaterEqual(len(examples), 4)
            for example in examples:
                with self.subTest(example.name):
                    done = c.ctl_raw("submit", "--dry-run", example)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    job = c.ctl("submit", self.job_of(c, example, steps=2, warmup=1))["job"]
                    self.assertEqual(int(c.wait(job, 120)["result"]["step"]), 2)
                    self.assertIn("without leaps", c.ctl_raw("summary", job).stdout)

    def test_the_papers_protocol_leaps_as_published(self):
        """examples/paper.yaml with a smaller model, until it has leapt: strict, replace, the step counter advanced by K; its
        momentum fails as the paper reports, and is never committed."""
        with cluster.Cluster() as c:
            c.start(workers=2, verifiers=2)
            path = self.job_of(c, cluster.SOURCE / "examples" / "paper.yaml", steps=5000, warmup=50)
            config = json.loads(c.model_config().read_text())
            small = c.folder / "small.json"
            small.write_text(json.dumps({**config, "n_positions": 256}))
            text = path.read_text()
            self.assertEqual(text.count("\n  data:\n"), 1)
            path.write_text(text.replace("\n  data:\n", f"\n  model: {{config: {small}}}\n  data:\n"
                                         "    gate_sequences: 16\n    report_sequences: 16\n"))
            job = c.ctl("submit", path)["job"]

            def leapt():
                tried = {row["predictor"] for row in c.ledger("candidates", job)}
                applied = [row for row in c.ledger("leaps", job) if row["state"] == "APPLIED"]
                return len(applied) >= 2 and "momentum:paper" in tried
            cluster.wait_until(leapt, 200, "no leap, or momentum was not tried")
            c.ctl("cancel", job)
            tried = c.ledger("candidates", job)
            for row in tried:
                better = row["loss"] != "NaN" and float(row["loss"]) < float(row["baseline_loss"])
                self.assertTrue(better or not row.get("accepted"), row)
                self.assertEqual(row["reason"] == "not-better", not better, row)
                self.assertIn(int(row["horizon_steps"]), {5, 10, 25, 50, 75, 100})
            momentum = [row for row in tried if row["predictor"] == "momentum:paper"]
            self.assertFalse(any(row.get("accepted") for row in momentum), "the published failure")
            ratios = [float(row["loss"]) / float(row["baseline_loss"]) for row in momentum]
            self.assertGreater(max(ratios), 100, "published: 122 to 10764")
            applied = [row for row in c.ledger("leaps", job) if row["state"] == "APPLIED"]
            for leap in applied:
                horizon, late = int(leap["horizon_steps"]), int(leap["boundary_step"]) - int(leap["base_step"])
                self.assertEqual(leap["commit_rule"], "replace")
                self.assertEqual(float(leap["booked_steps"]), horizon)
                self.assertEqual(float(leap.get("net_steps", 0)), horizon - late)
            print(f"{len(applied)} leaps by {sorted({leap['predictor'] for leap in applied})};",
                  f"momentum refused {len(momentum)} times, loss {min(ratios):.0f} to {max(ratios):.0f} times the actual one")


if __name__ == "__main__":
    cluster.main()
