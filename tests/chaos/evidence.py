#!/usr/bin/env python3
"""What a loss costs: a job trains on main workers on loopback, something is lost, and the table says how many steps were
trained twice, how long training stood still, whether the weights are those of the undisturbed run, and whether the ledger is
consistent (tests/chaos/ledger.py). Every try is a job of its own; verifiers score candidates all the time, none is committed.

  tests/chaos/evidence.py --tries 3 --seed 1      (make evidence)

Without spares, whoever was killed is started again at once, as a supervisor would; whoever was stopped goes on after
STOPPED_SECONDS. With spares (two verifiers with --bind-host) nothing of that happens before training goes on.
"""
import argparse
import collections
import dataclasses
import os
import pathlib
import platform
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import chaos  # noqa: E402
import cluster  # noqa: E402
import ledger  # noqa: E402

STEPS = 150
EVERY = 25  # steps between snapshots, and between checkpoints
STOPPED_SECONDS = 8
JOB_SECONDS = 120  # what a job may take
LEASE_SECONDS = 3
JOB = {
    "train": {"steps": STEPS, "threads": 1},
    "leap": {"commit": False, "interval_steps": EVERY, "warmup_steps": EVERY},
    "checkpoint": {"every_steps": EVERY, "resume": "auto"},
    "timeouts": {"lease_seconds": LEASE_SECONDS, "collective_seconds": 6, "commit_seconds": 8, "epoch_formation_seconds": 20,
                 "job_start_seconds": 100},
}


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    how: str
    signal: int = signal.SIGKILL


ROWS = (Row("nothing", "for comparison"), Row("a verifier", "kill -9"), Row("a worker", "kill -9"),
        Row("a worker", "SIGSTOP", signal.SIGSTOP), Row("two workers", "kill -9"), Row("the coordinator", "kill -9"),
        Row("all workers", "kill -9"), Row("everything", "kill -9"))


class Watched(chaos.ChaosCluster):
    """w0 is never chosen as the only victim: on its page one reads what survivors do."""

    def __init__(self, workers, verifiers):
        super().__init__(None)
        self.workers = [f"w{i}" for i in range(workers)]
        self.verifiers = verifiers

    def __enter__(self):
        for name in ("coordinator", *self.workers, *self.verifiers):
            self.restart(name)
        return self

    def add(self, role, name, *arguments):
        (self.folder / name / "metrics-port").unlink(missing_ok=True)
        return super().add(role, name, "--metrics-listen", "127.0.0.1:0", "--metrics-port-file", "metrics-port", *arguments)

    def page(self, name):
        """Steps trained by this process, or None if it does not answer."""
        try:
            port = int((self.folder / name / "metrics-port").read_text())
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2).read().decode()
        except (OSError, ValueError):
            return None
        return sum(int(float(line.split()[-1])) for line in text.splitlines()
                   if line.startswith("leap_worker_trained_steps_total"))

    def rested(self):
        """Everybody is there and has nothing to do."""
        agents = {agent["agent"]: agent for agent in self.ctl("workers").get("agents", [])}
        return all(name in agents and agents[name]["state"] == "idle" and not agents[name].get("job")
                   for name in (*self.workers, *self.verifiers))

    def submit_one(self, number):
        spec = self.spec(**JOB, workers={"replicas": len(self.workers), "min_replicas": len(self.workers)})
        spec["spec"]["checkpoint"]["dir"] = str(self.folder / "checkpoints" / str(number))
        return self.submit(spec)

    def ended(self, job):
        row = chaos.Round.look(self, job)
        return row if row is not None and row["end_time"] is not None else None


class Watch(threading.Thread):
    """When w0 finished a step, as seen on its page."""

    def __init__(self, c):
        super().__init__(daemon=True)
        self.c, self.seen, self.over = c, [], False
        self.start()

    def run(self):
        before = self.c.page("w0")
        while not self.over:
            count = self.c.page("w0")
            if count is not None and before is not None and count > before:
                self.seen.append((time.monotonic(), count))
            before = before if count is None else count  # a new process counts from 0
            time.sleep(0.005)

    def pause(self, fault):
        """Seconds that training stood still, from `fault` on."""
        times = [when for when, *_ in self.seen]
        return max(end - max(start, fault) for start, end in zip(times, times[1:]) if end > fault)


class Try:
    def __init__(self, c, row, spares, number, dice):
        self.c, self.row, self.spares, self.number, self.dice = c, row, spares, number, dice

    def victims(self):
        c = self.c
        return {"nothing": [], "a verifier": [self.dice.choice(c.verifiers)], "a worker": self.dice.sample(c.workers[1:], 1),
                "two workers": self.dice.sample(c.workers[1:], 2), "the coordinator": ["coordinator"],
                "all workers": c.workers, "everything": ["coordinator", *c.workers, *c.verifiers]}[self.row.name]

    def run(self):
        """(steps lost, seconds to recover, weights' digest, what is wrong with the ledger)"""
        c, at, victims = self.c, EVERY + self.dice.randint(5, 40), self.victims()
        cluster.wait_until(c.rested, 60, "somebody is not there, or still at work")
        before = c.page("w0")
        job = c.submit_one(self.number)
        watch = Watch(c)
        try:
            cluster.wait_until(lambda: watch.seen and watch.seen[-1][1] - before >= at, 60,
                               f"{job} does not reach step {at}")
            last = watch.seen[-1][1] - before
            self.strike(victims)
            fault = time.monotonic()
            self.repair(victims, watch, job)
            row = cluster.wait_until(lambda: c.ended(job), JOB_SECONDS, f"{job} has not ended")
            time.sleep(0.2)  # its last step is on the page by then
        finally:
            watch.over = True
            watch.join()
        if row["state"] != chaos.SUCCEEDED:
            raise AssertionError(f"{job}: {row['state_reason']}")
        checker = ledger.Checker(c.folder, job, len(c.workers))
        wrong = checker.check()
        if "w0" in victims:  # what it had trained, less what the checkpoint kept
            lost = last - checker.rows["epochs"][-1]["step"]
        else:
            lost = c.page("w0") - before - STEPS
        return lost, watch.pause(fault), ledger.unsigned(row["result"]["weights_digest"]), wrong

    def strike(self, victims):
        for name in victims:
            self.c.processes[name].signal(self.row.signal)

    def repair(self, victims, watch, job):
        """Whatever is needed at once; the rest when training goes on."""
        struck, count = time.monotonic(), len(watch.seen)
        enough = self.spares and self.row.name in ("a worker", "two workers", "a verifier")
        if enough:
            cluster.wait_until(lambda: (len(watch.seen) > count + 5 and time.monotonic() > struck + 2 * LEASE_SECONDS) or
                               self.c.ended(job), 60, "training does not go on")
        elif self.row.signal == signal.SIGSTOP:
            time.sleep(STOPPED_SECONDS)
        for name in victims:
            process = self.c.processes[name]
            process.signal(signal.SIGCONT)
            if self.row.signal == signal.SIGKILL:
                process.wait(10)
                self.c.restart(name)


def measure(options, spares, dice):
    """Lines of the table for clusters with or without spares."""
    names = ["s0", "s1"] if spares else ["v0", "v1"]
    lines, bad = [], []
    with Watched(options.workers, names) as c:
        expected = Try(c, ROWS[0], spares, "undisturbed", dice).run()[2]
        for row in ROWS:
            said = collections.defaultdict(list)
            for number in range(options.tries):
                try:
                    one = Try(c, row, spares, f"{row.name}-{row.how}-{number}".replace(" ", "-"), dice)
                    lost, seconds, digest, wrong = one.run()
                except Exception:  # a try that failed is a result too
                    bad.append(f"{row.name}, {row.how}: {traceback.format_exc()}")
                    continue
                print(f"  {row.name}, {row.how}: {lost} steps, {seconds:.2f} s {wrong}", file=sys.stderr, flush=True)
                said["lost"].append(lost)
                said["seconds"].append(seconds)
                said["same"].append(digest == expected)
                said["consistent"].append(not wrong)
                bad += [f"{row.name}, {row.how}: {sentence}" for sentence in wrong]
            lines.append(line(row, spares, options.tries, said))
        if bad:
            bad.append(f"kept: {chaos.keep(c.folder, 'leap-evidence')}")
    return lines, bad


def line(row, spares, tries, said):
    def spread(values, form):
        low, high = (format(value, form) for value in (min(values), max(values))) if values else ("-", "-")
        return low if low == high else f"{low} to {high}"

    def share(key):
        return ("yes" if all(said[key]) and len(said[key]) == tries else "NO") + f", {sum(said[key])} of {tries}"

    return (f"| {row.name} | {row.how} | {'two' if spares else 'none'} | {tries} | {spread(said['lost'], 'd')} | "
            f"{spread(said['seconds'], '.2f')} | {share('same')} | {share('consistent')} |")


def machine():
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
        model = next(row.split(":", 1)[1].strip() for row in text.splitlines() if row.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, {platform.system()} {platform.release()}"


def commit():
    done = subprocess.run(["git", "-C", str(cluster.SOURCE), "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def load():
    return "%.1f" % os.getloadavg()[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tries", type=int, default=3, help="of each row")
    parser.add_argument("--workers", type=int, default=8, help="main workers")
    options = parser.parse_args()
    dice, before, begun = random.Random(options.seed), load(), time.monotonic()
    lines, bad = [], []
    for spares in (False, True):
        more, wrong = measure(options, spares, dice)
        lines += more
        bad += wrong
    print(f"Command: `tests/chaos/evidence.py --workers {options.workers} --tries {options.tries} --seed {options.seed}`  \n"
          f"Machine: {machine()}  \nCommit: {commit()} · seed {options.seed} · load before {before}, at the end {load()} · "
          f"{time.monotonic() - begun:.0f} s in all  \n"
          f"Job: {STEPS} steps on {options.workers} main workers, a checkpoint every {EVERY} steps, a lease of "
          f"{LEASE_SECONDS} s, two verifiers\n\n"
          "| lost | how | spares | times tried | steps lost | seconds to recover | bit-identical | ledger consistent |\n"
          "| --- | --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(lines))
    for sentence in bad:
        print(f"WRONG: {sentence}")
    return 1 if bad or any("NO" in one for one in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
