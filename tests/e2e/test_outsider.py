"""Evidence 2, the outsider's half: from `leapctl snapshot export` and docs/formulas.md alone, numpy recomputes every
candidate in the ledger to the last bit."""
import pathlib
import sys
import unittest

import cluster

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "outsider"))
try:
    import leap_numpy
except ImportError:
    leap_numpy = None

DELTA, K = 40, 20
PREDICTORS = [
    {"name": "linear", "horizons_steps": [K]},
    {"name": "quadratic", "form": "newton", "horizons_steps": [K]},
    {"name": "quadratic", "form": "paper", "horizons_steps": [K]},
    {"name": "quadratic", "form": "code", "horizons_steps": [K]},
    {"name": "average", "params": {"n": 3}},
    {"name": "trend", "params": {"n": 3}, "horizons_steps": [K]},
]


def recompute(row, theta, layout):
    name = row["predictor"]
    if name.startswith("quadratic"):
        return leap_numpy.quadratic(theta, K, DELTA, name.split(":")[1] if ":" in name else "newton", layout)
    return {"linear": lambda: leap_numpy.linear(theta, K, DELTA), "average": lambda: leap_numpy.average(theta, 3),
            "trend": lambda: leap_numpy.trend(theta, K, DELTA, 3)}[name.split(":")[0]]()


@unittest.skipIf(leap_numpy is None, "needs numpy")
class Outsider(unittest.TestCase):
    def test_every_candidate_is_recomputed_to_the_last_bit(self):
        with cluster.Cluster() as c:
            c.start(workers=2, verifiers=2)
            job = c.submit(c.spec(train={"steps": 20000}, verifiers={"min_replicas": 2}, leap={
                "interval_steps": DELTA, "warmup_steps": DELTA, "commit": False, "ring_depth": 16, "exploration": 0,
                "regimes": ["unknown", "chaotic", "transition", "stable"], "predictors": PREDICTORS}))
            cluster.wait_until(lambda: len({row["predictor"] for row in c.ledger("candidates", job)}) >= 6, 60,
                               "not all predictors were tried")
            c.ctl("pause", job)
            held = sorted(int(row["step"]) for row in c.ledger("snapshots", job))[-12:]
            exports = {}

            def export(step):
                if step not in exports:
                    path = c.folder / f"{step}.safetensors"
                    done = c.ctl_raw("snapshot", "export", job, "--step", step, "--out", path)
                    exports[step] = leap_numpy.read_safetensors(path) if done.returncode == 0 else None
                return exports[step]

            checked = set()
            for row in c.ledger("candidates", job):
                steps = [int(row["base_step"]) - i * DELTA for i in range(3)]
                if min(steps) < held[0] or any(export(step) is None for step in steps):
                    continue
                names, shapes, _, _ = export(steps[0])
                theta = [export(step)[2] for step in steps]
                predicted = recompute(row, theta, leap_numpy.layout_of(names, shapes))
                self.assertEqual(leap_numpy.digest(predicted), int(row["digest"]), row)
                checked.add(row["predictor"])
            self.assertGreaterEqual(len(checked), 4, f"checked {checked}; exports {sorted(exports)}")
            print("recomputed to the last bit:", ", ".join(sorted(checked)))
            c.ctl("cancel", job)


if __name__ == "__main__":
    cluster.main()
