#!/usr/bin/env python3
"""Real processes under random faults: a coordinator, workers, verifiers and leapctl on loopback or, where the machine
allows it, in network namespaces. Processes are killed, terminated, stopped and cut off from one another while a job trains;
some verifiers are hot spares. Then the job has to finish,

  leaps off         with the weights and losses of the same job undisturbed, to the last bit;
  leaps verified    likewise, though verifiers score candidates all the time (none is committed);
  leaps committed   with equal weights on all ranks;

each time with a ledger that is consistent (tests/chaos/ledger.py), and with no process that ended by itself.

  tests/chaos/chaos.py --seed 7                    one round with each kind of job
  tests/chaos/chaos.py --seed 7 --only committed   one round
  tests/chaos/chaos.py --seed 7 --minutes 10       rounds with seeds 7, 8, ... (make chaos MINUTES=10 SEED=7)

A seed fixes the size of the cluster and which fault comes when (--plan prints it). A round that fails prints its command and
keeps its folder: ledger, logs, checkpoints.
"""
import argparse
import collections
import contextlib
import heapq
import pathlib
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import cluster  # noqa: E402
import ledger  # noqa: E402
import network  # noqa: E402
import schedule  # noqa: E402

JOBS = {
    "off": {"leap": {"policy": "off"}},
    "verified": {"leap": {"commit": False, "interval_steps": 25, "warmup_steps": 25}},
    "committed": {"leap": {"interval_steps": 25, "warmup_steps": 25, "criterion": {"name": "guard", "bound": 1.0}}},
}
COMMON = {
    "checkpoint": {"every_steps": 100, "resume": "auto"},
    "timeouts": {"lease_seconds": 2, "collective_seconds": 4, "commit_seconds": 6, "epoch_formation_seconds": 10,
                 "job_start_seconds": 60},
    "failure": [{"role": "worker", "cause": "lost", "action": "replace", "budget": 0}],
}
STEPS_A_SECOND = 100  # so many steps a job has for each second of faults
GOODBYE_SECONDS = 15  # what a process may take to end after SIGTERM
SUCCEEDED = 6  # a job's state, as in job.proto
FINISH_SECONDS = 120  # what a job may take once everything is there again


class ChaosCluster(cluster.Cluster):
    """A cluster whose processes may live in a network each."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        if net is not None:
            self.server_flags = ("--insecure-listen-anywhere",)
            self.client_flags = ("--insecure-connect-anywhere",)

    def host(self, name):
        return super().host(name) if self.net is None else self.net.address(name)

    def command(self, name, arguments):
        return arguments if self.net is None else self.net.command(name, arguments)

    def restart(self, name):
        if name == "coordinator":
            self.start_coordinator()
        elif name.startswith("w"):
            self.add("worker", name)
        else:  # s0: a verifier that may stand in for a lost worker
            self.add("verifier", name, *(["--bind-host", self.host(name)] if name.startswith("s") else []))


class Chaos:
    """Carries a plan out: does what is due, undoes it in time, and watches that nobody ends by himself."""

    def __init__(self, c, faults):
        self.c = c
        self.start = time.monotonic()
        self.todo = []  # (when, number, what)
        self.numbers = iter(range(1_000_000))
        self.away = {}  # name -> process that we ended; absent: it has to be alive
        self.stopped = collections.Counter()
        self.done = collections.Counter()
        self.wrong = []
        for fault in faults:
            self.later(fault.at, lambda fault=fault: self.begin(fault))

    def now(self):
        return time.monotonic() - self.start

    def later(self, when, what):
        heapq.heappush(self.todo, (when, next(self.numbers), what))

    def tick(self):
        while self.todo and self.todo[0][0] <= self.now():
            heapq.heappop(self.todo)[2]()
        for name, process in self.c.processes.items():
            if name not in self.away and not process.alive():
                self.wrong.append(f"{name} ended by itself with status {process.popen.poll()}")
                self.away[name] = process
                self.later(self.now(), lambda name=name: self.back(name))

    def calm(self):
        return not self.todo

    def begin(self, fault):
        print(f"  {self.now():6.2f} s  {fault}", flush=True)
        self.done[fault.kind] += 1
        if fault.kind == "cut":
            pairs = [frozenset((one, other)) for one in fault.targets for other in fault.others]
            self.c.net.cut(pairs)
            return self.later(self.now() + fault.seconds, lambda: self.c.net.heal(pairs))
        for name in fault.targets:
            if name in self.away:
                continue  # is down anyway
            process = self.c.processes[name]
            if fault.kind == "stop":
                self.stop(process, fault.seconds)
            elif fault.kind == "kill":
                process.kill()
                self.leave(name, process, self.now() + fault.seconds)
            elif not self.stopped[process]:  # whoever is stopped cannot say goodbye
                process.signal(signal.SIGTERM)
                self.leave(name, process, self.now() + fault.seconds)
        return None

    def stop(self, process, seconds):
        def go_on():
            self.stopped[process] -= 1
            if not self.stopped[process]:
                process.signal(signal.SIGCONT)

        self.stopped[process] += 1
        process.signal(signal.SIGSTOP)
        self.later(self.now() + seconds, go_on)

    def leave(self, name, process, back_at):
        self.away[name] = process
        begun = self.now()

        def come_back():
            if not process.alive():
                if process.popen.poll() not in (0, -signal.SIGKILL):
                    self.wrong.append(f"{name} was told to end, and did with status {process.popen.poll()}")
                return self.back(name)
            if self.now() - begun > GOODBYE_SECONDS + 5 * bool(self.stopped[process]):
                self.wrong.append(f"{name} did not end within {GOODBYE_SECONDS} s of SIGTERM")
                process.kill()
            return self.later(self.now() + 0.05, come_back)

        self.later(back_at, come_back)

    def back(self, name):
        self.c.restart(name)
        del self.away[name]


def keep(folder, name):
    """Where a copy of a cluster's folder stays when the cluster is gone."""
    kept = tempfile.mkdtemp(prefix=f"{name}-", dir=folder.parent)
    return shutil.copytree(folder, kept, symlinks=True, dirs_exist_ok=True)


class Round:
    def __init__(self, options, seed, kind, references):
        self.options, self.seed, self.kind, self.references = options, seed, kind, references
        dice = random.Random(f"{seed} cluster")
        self.replicas = dice.randint(2, 4)
        self.workers = tuple(f"w{i}" for i in range(self.replicas + dice.randint(0, 1)))
        spares = dice.randint(0, 2)  # hot ones
        self.verifiers = tuple([f"s{i}" for i in range(spares)] + [f"v{i}" for i in range(dice.randint(not spares, 1))])
        self.steps = int(options.seconds * STEPS_A_SECOND)

    def faults(self):
        return schedule.plan(self.seed, self.workers, self.verifiers, self.options.seconds, self.options.partitions)

    def plan(self):
        return [f"  {fault.at:6.2f} s  {fault}" for fault in self.faults()]

    def command(self):
        return f"tests/chaos/chaos.py --seed {self.seed} --only {self.kind} --seconds {self.options.seconds:g}"

    def run(self):
        """What is wrong, a sentence each."""
        names = ("coordinator", *self.workers, *self.verifiers)
        with contextlib.ExitStack() as stack:
            net = stack.enter_context(network.Network(names)) if self.options.partitions else None
            c = stack.enter_context(ChaosCluster(net))
            for name in names:
                c.restart(name)
            try:
                wrong = self.trouble(c)
            except Exception:  # whatever it was: it belongs to this seed, and its logs are wanted
                wrong = [traceback.format_exc()]
            return [*wrong, f"kept: {self.keep(c)}"] if wrong else []

    def spec(self, c, name, changes):
        return c.spec(**cluster.merge(COMMON, changes), train={"steps": self.steps, "threads": 1}, workers={
            "replicas": self.replicas, "min_replicas": self.replicas}) | {"metadata": {"name": name}}

    def submit(self, c, name, changes):
        spec = self.spec(c, name, changes)
        spec["spec"]["checkpoint"]["dir"] = str(c.folder / "checkpoints" / name)
        return c.submit(spec)

    def reference(self, c):
        """Result of the job undisturbed, leaps off; the same for all rounds of one size."""
        key = (self.replicas, self.steps)
        if key not in self.references:
            self.references[key] = c.wait(self.submit(c, "undisturbed", JOBS["off"]), 60 + self.steps / 5)["result"]
        return self.references[key]

    def trouble(self, c):
        expected = self.reference(c) if self.kind != "committed" else None
        job = self.submit(c, "disturbed", JOBS[self.kind])
        c.wait_step(job, 1)
        chaos = Chaos(c, self.faults())
        try:
            end = self.follow(c, job, chaos)
        except AssertionError as error:
            return [*chaos.wrong, str(error)]
        wrong = chaos.wrong + ledger.Checker(c.folder, job, self.replicas).check()
        if expected is not None:
            for key in ("step", "weights_digest", "train_loss", "gate_loss", "report_loss"):
                if end["result"][key] != expected[key]:
                    wrong.append(f"{key} is {end['result'][key]}, undisturbed it is {expected[key]}")
        self.tell(c, job, chaos, end)
        return wrong

    def follow(self, c, job, chaos):
        """Until the job has ended. Faults end in time; then it has so long to finish."""
        calm_since, row = None, None
        while True:
            chaos.tick()
            if calm_since is None and chaos.calm():
                calm_since = time.monotonic()
            row = self.look(c, job) or row
            if row["end_time"] is not None and chaos.calm():
                break
            if calm_since is not None and time.monotonic() - calm_since > FINISH_SECONDS:
                raise AssertionError(f"{job} has not ended {FINISH_SECONDS} s after the last fault: {c.job(job)}")
            time.sleep(0.05)
        if row["state"] != SUCCEEDED:
            raise AssertionError(f"{job} ended in state {row['state']}: {row['state_reason']}")
        return c.job(job)

    @staticmethod
    def look(c, job):
        """The job's row in the ledger: whoever is stopped or cut off cannot keep us waiting for an answer."""
        try:
            return next(row for row in ledger.read(c.folder / "state" / "ledger.db", ["jobs"])["jobs"] if row["job"] == job)
        except sqlite3.OperationalError:
            return None  # just being started

    def tell(self, c, job, chaos, end):
        rows = ledger.read(c.folder / "state" / "ledger.db")
        epochs = [row for row in rows["epochs"] if row["job"] == job]
        states = collections.Counter(ledger.LEAP_STATES[row["state"]] for row in rows["leaps"] if row["job"] == job)
        formed = [row for row in epochs if row["formed_time"] is not None]
        print(f"  {dict(chaos.done)} in {chaos.now():.0f} s; {len(epochs)} epochs, {len(formed)} formed, "
              f"{sum(row['from_checkpoint'] for row in formed)} from a checkpoint; leaps {dict(states)}; "
              f"weights {ledger.unsigned(int(end['result']['weights_digest'])):016x}", flush=True)

    def keep(self, c):
        (c.folder / "plan.txt").write_text("\n".join([self.command(), *self.plan()]) + "\n")
        return keep(c.folder, f"leap-chaos-{self.seed}-{self.kind}")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=25, help="of faults, each round")
    parser.add_argument("--minutes", type=float, default=0, help="rounds with rising seeds for so long; 0: each kind once")
    parser.add_argument("--only", choices=JOBS)
    parser.add_argument("--kinds", default="off,verified,committed", help="for rounds without --only")
    parser.add_argument("--loopback", action="store_true", help="no namespaces, no partitions")
    parser.add_argument("--plan", action="store_true", help="print the faults and do nothing")
    return parser.parse_args()


def main():
    options = parse()
    reason = "asked for" if options.loopback else ("" if options.plan else network.enter())
    options.partitions = not reason
    if reason:
        print(f"chaos: SKIPPED: partitions: no network namespaces here ({reason})")
    kinds = [options.only] if options.only else options.kinds.split(",")
    failed, references, begun, rounds = [], {}, time.monotonic(), 0
    while rounds < (1 if options.only else len(kinds)) or time.monotonic() - begun < options.minutes * 60:
        seed = options.seed + rounds // len(kinds)
        one = Round(options, seed, kinds[rounds % len(kinds)], references)
        rounds += 1
        print(f"chaos: {one.command()}  ({one.replicas} of {len(one.workers)} workers, verifiers "
              f"{' '.join(one.verifiers)}, {one.steps} steps)", flush=True)
        if options.plan:
            print("\n".join(one.plan()))
            continue
        wrong = one.run()
        for sentence in wrong:
            print(f"  WRONG: {sentence}")
        if wrong:
            failed.append(one.command())
    if failed:
        print("\n".join(["chaos: FAILED; replay with", *(f"  {command}" for command in failed)]))
        return 1
    print(f"chaos: {rounds} rounds passed in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
