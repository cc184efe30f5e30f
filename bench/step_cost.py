#!/usr/bin/env python3
"""What speculation costs training: the main workers' step time with snapshots and verification, against the same training
with neither, by real processes on this machine.

    bench/step_cost.py [--build build/release] [--steps 150] [--pairs 3] [--workers 2] [--verifiers 2] [--nice 10] [--pin]
                       [--device cpu] [--preset gpt2-tiny] [--precision fp32] [--batch 16]

One cluster runs three kinds of jobs in turn, `--pairs` times, each in the order off, snapshots, verified, then backwards
(so that a machine that slows down or speeds up touches all alike), same model, text and seed:

    off        leaps off, no verifier
    snapshots  a snapshot every --interval steps, nobody to verify it
    verified   the same, every candidate scored by --verifiers verifiers, none committed: what is trained stays the same

A job's step time is its training seconds over its steps, as the coordinator reports them; the CPU time is that of all main
workers, user and system, from submission to end, over the steps: it says what a step costs where other programs share the
machine. Verifiers are niced (--nice), or with --pin kept on cores of their own (the last ones, one each), the workers on
the others. Ratios of medians are printed, with the smallest and largest ratio of a pair. Commits are bench/commit_pause's
matter.
"""
import argparse
import os
import pathlib
import platform
import statistics
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parents[1]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=str(SOURCE / "build" / "release"))
    parser.add_argument("--text", default="/usr/include/c++")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--interval", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--verifiers", type=int, default=2)
    parser.add_argument("--nice", type=int, default=10)
    parser.add_argument("--pin", action="store_true")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: each worker wants a GPU of its own")
    parser.add_argument("--preset", default="gpt2-tiny")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--batch", type=int, default=16, help="sequences a step, over all workers")
    return parser.parse_args()


def spec(args, kind):
    leap = {"policy": "off"} if kind == "off" else {
        "interval_steps": args.interval, "warmup_steps": 0, "commit": False, "audit_every_leaps": 0}
    verifiers = {"min_replicas": args.verifiers} if kind == "verified" else {"max_replicas": 0}
    return {"apiVersion": "leap/v1", "kind": "Job", "metadata": {"name": kind}, "spec": {
        "data": {"paths": [args.text]}, "leap": leap, "verifiers": verifiers,
        "train": {"steps": args.steps, "seed": args.seed, "device": args.device, "precision": args.precision,
                  "batch_sequences": args.batch},
        "model": {"preset": args.preset}, "workers": {"replicas": args.workers},
        "checkpoint": {"every_steps": 0, "resume": "never"}}}


def pin(c, args):
    """Verifiers on the last cores, one each; workers on the rest."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) <= args.verifiers:
        sys.exit(f"--pin: {args.verifiers} verifiers want a core each and leave one for workers; there are {len(cores)}")
    for name, process in c.processes.items():
        if name[0] == "v":
            mine = {cores[-1 - int(name[1:])]}
        else:
            mine = set(cores[:-args.verifiers])
        for thread in os.listdir(f"/proc/{process.popen.pid}/task"):
            os.sched_setaffinity(int(thread), mine)


def cpu_seconds(c):
    """Of all main workers, since they started."""
    total = 0
    for name, process in c.processes.items():
        if name[0] == "w":
            fields = pathlib.Path(f"/proc/{process.popen.pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def measure(c, args):
    """{kind: [(seconds a step, CPU seconds a step), ...]}, one for each pair."""
    seconds = {"off": [], "snapshots": [], "verified": []}
    for i in range(args.pairs):
        order = list(seconds) if i % 2 == 0 else list(seconds)[::-1]
        for kind in order:
            before = cpu_seconds(c)
            job = c.submit(spec(args, kind))
            end = c.wait(job, 1800)
            wall, cpu = end["result"]["training_seconds"] / args.steps, (cpu_seconds(c) - before) / args.steps
            seconds[kind].append((wall, cpu))
            tried = len(c.ledger("candidates", job)) if kind == "verified" else 0
            print(f"  pair {i + 1} {kind:<10} {wall * 1e3:9.2f} ms a step, {cpu * 1e3:9.2f} ms of CPU"
                  + (f", {tried} candidates scored" if tried else ""), flush=True)
    return seconds


def main():
    args = arguments()
    os.environ["LEAP_BINARY_DIR"] = args.build
    sys.path.insert(0, str(SOURCE / "tests" / "e2e"))
    import cluster  # reads LEAP_BINARY_DIR
    commit = subprocess.run(["git", "-C", str(SOURCE), "describe", "--always", "--dirty"], capture_output=True, text=True)
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    print("command ", " ".join(sys.argv))
    print(f"machine  {model}, {os.cpu_count()} cores, Linux {platform.release()}; load before {os.getloadavg()[0]:.2f}")
    print(f"commit   {commit.stdout.strip()}   seed {args.seed}   verifiers "
          + ("on cores of their own" if args.pin else f"niced by {args.nice}"), flush=True)
    with cluster.Cluster() as c:
        c.start(args.workers, args.verifiers, verifier_arguments=("--nice", str(0 if args.pin else args.nice)))
        cluster.wait_until(lambda: len(c.ctl("workers").get("agents", [])) == args.workers + args.verifiers, 30,
                           "agents are missing")
        if args.pin:
            pin(c, args)
        c.wait(c.submit(spec(args, "off")), 1800)  # warms caches, and makes the token file
        seconds = measure(c, args)
    for column, what in enumerate(("ms a step", "ms of the workers' CPU a step")):
        values = {kind: [row[column] for row in rows] for kind, rows in seconds.items()}
        off = statistics.median(values["off"])
        print(f"{'off':<10} {off * 1e3:9.2f} {what}, median of {args.pairs}")
        for kind in ("snapshots", "verified"):
            ratios = [mine / plain for mine, plain in zip(values[kind], values["off"])]
            middle = statistics.median(values[kind])
            print(f"{kind:<10} {middle * 1e3:9.2f} {what}, ratio {middle / off:.4f} "
                  f"(of a pair: {min(ratios):.4f} to {max(ratios):.4f})")
    print(f"load after {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
