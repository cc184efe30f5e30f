"""Issue 4, item 6, on real memory: one bit of one rank's weights is flipped behind the worker's back (/proc/PID/mem).
The next snapshot's digests name the rank; it is put into quarantine, its place is taken from the healthy ones' state, and
no bad bit is left. Of two ranks nobody can say which is right, and the reason says so."""
import pathlib
import re
import signal
import struct
import unittest

import cluster

# A rate at which no weight moves: what is in a worker's memory is what `snapshot export` shows, whenever it is looked at.
STILL = {"train": {"steps": 100000, "lr": 1e-30, "threads": 1}, "leap": {"interval_steps": 50, "ring_depth": 16}}
PATTERN = 256  # bytes of weights to look for


def weights_of(c, job):
    """Some bytes from the middle of the exported weights of the newest snapshot."""
    path = c.folder / f"{job}.safetensors"
    path.unlink(missing_ok=True)

    def export():
        steps = [int(row["step"]) for row in c.ledger("snapshots", job)]
        done = c.ctl_raw("snapshot", "export", job, "--step", max(steps), "--out", path) if steps else None
        return path.read_bytes() if done and done.returncode == 0 else None
    data = cluster.wait_until(export, 60, "no snapshot to export")
    header, = struct.unpack("<Q", data[:8])
    middle = 8 + header + (len(data) - 8 - header) // 2 // 4 * 4
    return data[middle:middle + PATTERN]


def stopped(pid):
    """Whether every thread of it stands still after SIGSTOP."""
    states = [task.joinpath("stat").read_text().rpartition(")")[2].split()[0]
              for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]
    return set(states) <= {"T"}


def overwrite(process, pattern, new):
    """Writes `new` wherever `pattern` lies in the memory of `process`; how often that was. The process stands still while it
    is written to, and what has changed since it was looked for is left alone: it may be the allocator's by now."""
    pid, places, count = process.popen.pid, [], 0
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            begin, end, rights = re.match(r"(\w+)-(\w+) (\S+)", line).groups()
            begin, end = int(begin, 16), int(end, 16)
            if not rights.startswith("rw") or "[v" in line:
                continue
            try:
                memory.seek(begin)
                held = memory.read(end - begin)
            except (OSError, ValueError, OverflowError):
                continue
            place = held.find(pattern)
            while place >= 0:
                places.append(begin + place)
                place = held.find(pattern, place + 1)
        process.popen.send_signal(signal.SIGSTOP)
        try:
            cluster.wait_until(lambda: stopped(pid), 10, "SIGSTOP does not stop it")
            for place in places:
                try:
                    memory.seek(place)
                    if memory.read(len(pattern)) != pattern:
                        continue
                    memory.seek(place)
                    memory.write(new)
                    count += 1
                except OSError:  # no longer mapped
                    continue
        finally:
            process.popen.send_signal(signal.SIGCONT)
    return count


def flip(process, pattern):
    """Flips a bit of its first byte wherever it lies."""
    return overwrite(process, pattern, bytes([pattern[0] ^ 1]))


class Corruption(unittest.TestCase):
    def corrupt(self, c, job, victim):
        """Returns the bytes that were right."""
        clean = weights_of(c, job)
        try:
            flipped = flip(c.processes[victim], clean)
        except PermissionError:
            raise unittest.SkipTest("this machine lets nobody write another process's memory") from None
        self.assertGreater(flipped, 0, "the weights were not found in the worker's memory")
        return clean

    def test_of_three_ranks_the_odd_one_out_is_replaced(self):
        with cluster.Cluster() as c:
            c.start(workers=3)
            job = c.submit(c.spec(**cluster.merge(STILL, {"workers": {"replicas": 3}})))
            c.wait_step(job, 40)
            c.add("worker", "w3")

            def agents():
                return {agent["agent"]: agent for agent in c.ctl("workers")["agents"]}
            cluster.wait_until(lambda: "w3" in agents(), 30, "w3 does not come")
            victim = "w1"
            clean = self.corrupt(c, job, victim)
            cluster.wait_until(lambda: int(c.job(job)["epoch"]) == 2, 30, "no new epoch")
            cluster.wait_until(lambda: agents()["w3"].get("job") == job and not agents()[victim].get("job"), 30,
                               f"w3 does not stand in for {victim}")
            self.assertRegex(agents()[victim]["state"], r"quarantined: silent corruption at step \d+: rank \d digests "
                             r"shard \d differently from ranks \d and \d")
            step = int(c.job(job)["progress"]["step"])
            c.wait_step(job, step + 110)
            self.assertEqual(weights_of(c, job), clean)
            self.assertEqual(int(c.job(job)["epoch"]), 2)

    def test_of_two_ranks_nobody_can_tell_and_the_checkpoint_is_believed(self):
        with cluster.Cluster() as c:
            c.start(workers=2)
            job = c.submit(c.spec(**cluster.merge(STILL, {"checkpoint": {"every_steps": 50}})))
            cluster.wait_until(lambda: "checkpoint_path" in c.job(job), 60, "no checkpoint")
            clean = self.corrupt(c, job, "w0")
            cluster.wait_until(lambda: int(c.job(job)["epoch"]) == 2, 30, "no new epoch")
            reasons = " ".join(event["sentence"] for event in c.ledger("events", job))
            self.assertRegex(reasons, r"silent corruption at step \d+: ranks 0 and 1 digest shard \d differently, and nobody "
                             r"can tell who is right; the run goes back to the checkpoint at step \d+")
            step = int(c.job(job)["progress"]["step"])
            c.wait_step(job, step + 110)
            self.assertEqual(weights_of(c, job), clean)
            self.assertEqual({agent["state"] for agent in c.ctl("workers")["agents"]}, {"assigned"})


if __name__ == "__main__":
    cluster.main()
