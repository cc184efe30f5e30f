"""Evidence 2, the outsider's half: from `leapctl snapshot export` and docs/formulas.md alone, numpy recomputes every
candidate in the ledger to the last bit, with what predictors read beside the weights: Adam's moments, outer state. And a
GPT-2 in numpy and float64 says the same gate losses, of θ_t and of θ̂, to 1e-5."""
import json
import pathlib
import sys
import unittest

import cluster

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "outsider"))
try:
    import gpt2_numpy
    import leap_numpy
except ImportError:
    leap_numpy = None

DELTA, K = 40, 20
ALL = ["unknown", "chaotic", "transition", "stable"]
ADAM = {"lr": 0.001, "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8, "weight_decay": 0.1}
# Each with its twin: f(theta, moments, state, layout, adam).
OF_WEIGHTS = [
    ({"name": "linear", "horizons_steps": [K]}, lambda t, *_: leap_numpy.linear(t, K, DELTA)),
    ({"name": "quadratic", "form": "newton", "horizons_steps": [K]},
     lambda t, *_: leap_numpy.quadratic(t, K, DELTA, "newton")),
    ({"name": "quadratic", "form": "paper", "horizons_steps": [K]},
     lambda t, *_: leap_numpy.quadratic(t, K, DELTA, "paper")),
    ({"name": "quadratic", "form": "code", "horizons_steps": [K]},
     lambda t, m, s, layout, adam: leap_numpy.quadratic(t, K, DELTA, "code", layout)),
    ({"name": "average", "params": {"n": 3}}, lambda t, *_: leap_numpy.average(t, 3)),
    ({"name": "trend", "params": {"n": 3}, "horizons_steps": [K]}, lambda t, *_: leap_numpy.trend(t, K, DELTA, 3)),
]
OF_OPTIMIZER_AND_STATE = [
    ({"name": "momentum", "form": "adam", "horizons_steps": [K], "params": {"damping": 0.9}},
     lambda t, m, s, layout, adam: leap_numpy.momentum(t, *m, K, adam, layout, "adam", damping=0.9)),
    ({"name": "momentum", "form": "paper", "horizons_steps": [K]},
     lambda t, m, s, layout, adam: leap_numpy.momentum(t, *m, K, adam, layout, "paper")),
    ({"name": "momentum", "form": "code", "horizons_steps": [K], "params": {"scale": 1.2, "fp16_moments": 1}},
     lambda t, m, s, layout, adam: leap_numpy.momentum(t, *m, K, adam, layout, "code", scale=1.2, fp16_moments=1)),
    ({"name": "last-update", "horizons_steps": [K]},
     lambda t, m, s, layout, adam: leap_numpy.last_update(t, *m, K, adam, layout)),
    ({"name": "outer-nesterov", "params": {"eta": 0.7, "mu": 0.6}},
     lambda t, m, s, layout, adam: leap_numpy.outer_nesterov(t, *s, 0.7, 0.6)),
]


def label(predictor):
    """As in the ledger: name[:form], the form that goes without saying included."""
    return predictor["name"] + (":" + predictor["form"] if "form" in predictor else "")


class Exports:
    """What a paused job still holds, one file a vector, each fetched once."""

    def __init__(self, c, job):
        self.c, self.job, self.files = c, job, {}

    def get(self, step, buffer="weights"):
        """(names, shapes, flat) or None: nobody holds it any more."""
        if (step, buffer) not in self.files:
            path = self.c.folder / f"{self.job}-{step}-{buffer}.safetensors"
            done = self.c.ctl_raw("snapshot", "export", self.job, "--step", step, "--buffer", buffer, "--out", path)
            if done.returncode == 0:
                self.files[step, buffer] = leap_numpy.read_safetensors(path)[:3]
            elif "nobody holds" in done.stderr or "not held" in done.stderr or "no longer" in done.stderr:
                self.files[step, buffer] = None
            else:
                raise AssertionError(done.stderr)
        return self.files[step, buffer]

    def flats(self, step, *buffers):
        found = [self.get(step, buffer) for buffer in buffers]
        return [item[2] for item in found] if all(found) else None

    def layout(self, step):
        return leap_numpy.layout_of(*self.get(step)[:2])


class GateLoss:
    """Mean loss on the gate set, from the job's description, its token file and its config.json."""

    def __init__(self, c, job):
        data = c.ctl("describe", job)["data"]
        spec = c.spec()["spec"]["data"]
        tokens = leap_numpy.read_tokens(c.folder / "tokens" / f"{data['content_digest']}.tokens")
        self.rows = leap_numpy.held_out(tokens, int(data["gate_begin"]), int(data["gate_end"]), spec["gate_sequences"],
                                        spec["sequence_length_tokens"])
        self.config = json.loads(c.model_config().read_text())

    def of(self, names, shapes, flat):
        weights = {name: flat[offset:offset + size].reshape(shapes[name]).astype(float)
                   for name, offset, size, _ in leap_numpy.layout_of(names, shapes)}
        losses = [gpt2_numpy.row_loss(self.config, weights, row) for row in self.rows]
        return sum(losses) / len(losses)


@unittest.skipIf(leap_numpy is None, "needs numpy")
class Outsider(unittest.TestCase):
    def run_and_pause(self, c, predictors, **leap):
        """A job that goes on until each predictor was tried on what its rings still hold, then pauses."""
        spec = c.spec(train={"steps": 20000, **ADAM}, verifiers={"min_replicas": 2},
                      data={"cache_dir": str(c.folder / "tokens")}, leap={
            "interval_steps": DELTA, "warmup_steps": DELTA, "ring_depth": 16, "exploration": 0, "regimes": ALL,
            "predictors": predictors, **leap})
        job = c.submit(spec)
        wanted = {label(predictor) for predictor in predictors}

        def all_tried_lately():
            rows = c.ledger("candidates", job)
            newest = max((int(row["base_step"]) for row in rows), default=0)
            return newest >= 5 * DELTA and wanted <= {
                row["predictor"] for row in rows if int(row["base_step"]) > max(newest - 6 * DELTA, 2 * DELTA)}
        cluster.wait_until(all_tried_lately, 90, f"not all of {wanted} were tried")
        c.ctl("pause", job)
        cluster.wait_until(lambda: c.job(job)["state"] == "PAUSED", 30, "the job does not pause")
        return job, Exports(c, job)

    def check(self, c, twins):
        job, exports = self.run_and_pause(c, [predictor for predictor, _ in twins], commit=False)
        twin_of = {label(predictor): (predictor, twin) for predictor, twin in twins}
        gate = GateLoss(c, job)
        checked, worst = {}, 0
        for row in c.ledger("candidates", job):
            step = int(row["base_step"])
            predictor, twin = twin_of[row["predictor"]]
            name = predictor["name"]
            reads = 1 if twins is OF_OPTIMIZER_AND_STATE else 3
            theta = [exports.flats(step - i * DELTA, "weights") for i in range(reads)]
            moments = exports.flats(step, "exp_avg", "exp_avg_sq") if name in ("momentum", "last-update") else []
            state = exports.flats(step, "state_0", "state_1") if name == "outer-nesterov" else []
            if None in theta or moments is None or state is None:
                continue  # not held any more
            # No leap was applied, so Adam has done as many updates as training.
            predicted = twin([flat for flat, in theta], moments, state, exports.layout(step), {**ADAM, "adam_step": step})
            self.assertEqual(leap_numpy.digest(predicted), int(row["digest"]), row)
            named = exports.get(step)[:2]
            for flat, loss in ((theta[0][0], row["baseline_loss"]), (predicted, row["loss"])):
                off = abs(gate.of(*named, flat) - float(loss)) / max(1, float(loss))
                self.assertLess(off, 1e-5, row)
                worst = max(worst, off)
            checked[row["predictor"]] = checked.get(row["predictor"], 0) + 1
        self.assertEqual(set(checked), set(twin_of), f"exports {sorted(k for k, v in exports.files.items() if v)}")
        print(f"recomputed to the last bit: {checked}; gate losses to {worst:.1e}")
        return job, exports

    def test_candidates_of_snapshots_alone(self):
        with cluster.Cluster() as c:
            c.start(workers=2, verifiers=2)
            self.check(c, OF_WEIGHTS)

    def test_candidates_of_moments_and_of_state(self):
        with cluster.Cluster() as c:
            c.start(workers=2, verifiers=2)
            self.check(c, OF_OPTIMIZER_AND_STATE)

    def test_outer_state_follows_what_was_committed(self):
        """State at each snapshot from the state before, anchored at the θ̂ of the leap that was applied in between."""
        with cluster.Cluster() as c:
            c.start(workers=2, verifiers=2)
            job, exports = self.run_and_pause(c, [{"name": "outer-nesterov", "params": {"eta": 0.8, "mu": 0.5}}])
            applied = {int(row["base_step"]): int(row["candidate_digest"]) for row in c.ledger("leaps", job)
                       if row["state"] == "APPLIED"}
            leapt, plain = 0, 0
            for row in c.ledger("snapshots", job):
                step = int(row["step"])
                before = exports.flats(step - DELTA, "weights", "state_0", "state_1")
                now = exports.flats(step, "weights", "state_0", "state_1")
                if before is None or now is None:
                    continue
                anchor = before[0]
                if step - DELTA in applied:
                    anchor = leap_numpy.outer_nesterov([before[0]], *before[1:])
                    self.assertEqual(leap_numpy.digest(anchor), applied[step - DELTA])
                    leapt += 1
                else:
                    plain += 1
                state = leap_numpy.advance_outer(anchor, now[0], before[2])
                for mine, exported in zip(state, now[1:]):
                    self.assertEqual(leap_numpy.digest(mine), leap_numpy.digest(exported), step)
            self.assertGreaterEqual(leapt, 1, f"applied {applied}")
            print(f"outer state recomputed over {leapt} leaps and {plain} intervals without one")


if __name__ == "__main__":
    cluster.main()
