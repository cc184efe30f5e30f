"""A main worker that is killed, or stopped, in the middle of training: a verifier takes its rank (a hot spare), training
goes on after seconds at most, and ends with the weights of an undisturbed run, to the last bit."""
import signal
import time
import unittest
import urllib.request

import cluster

# Leaps off: then the trajectory is that of the undisturbed run. `threads: 1`: sums of one order on every machine.
QUIET = {"train": {"steps": 900, "threads": 1}, "leap": {"policy": "off"}, "timeouts": {"lease_seconds": 3}}
BOUND = {"kill": 2.0, "stop": 3.0 + 2.0}  # seconds: the goal on a machine of one's own
SLACK = 4.0  # seconds that a busy machine may add


class Watched(cluster.Cluster):
    """Two workers whose steps can be counted from outside, and a verifier that can stand in."""

    def __enter__(self):
        self.start_coordinator()
        for name in ("w0", "w1"):
            self.add("worker", name, "--metrics-listen", "127.0.0.1:0", "--metrics-port-file", "metrics-port")
        self.add("verifier", "v0", "--bind-host", "127.0.0.1")
        return self

    def steps(self, name):
        page = urllib.request.urlopen(f"http://127.0.0.1:{self.port_of(name, 'metrics-port')}/metrics", timeout=10)
        for line in page.read().decode().splitlines():
            if line.startswith("leap_worker_trained_steps_total"):
                return float(line.split()[-1])
        raise AssertionError("no leap_worker_trained_steps_total")

    def lose(self, victim, how, survivor):
        """Seconds from the signal to the survivor's next step in the new epoch."""
        self.processes[victim].signal(how)
        start = time.monotonic()
        time.sleep(0.2)  # a step that was whole when the signal came is over by now
        before = self.steps(survivor)
        cluster.wait_until(lambda: self.steps(survivor) > before, 60, f"{survivor} does not train on")
        return time.monotonic() - start


def undisturbed(c):
    job = c.submit(c.spec(**QUIET))
    return c.wait(job)["result"]["weights_digest"]


class WorkerLoss(unittest.TestCase):
    def check(self, how, name):
        with Watched() as c:
            expected = undisturbed(c)
            job = c.submit(c.spec(**QUIET))
            c.wait_step(job, 200)
            seconds = c.lose("w1", how, "w0")
            print(f"{name} of a main worker: the survivor's next step came after {seconds:.2f} s "
                  f"(goal {BOUND[name]:.0f} s)")
            agents = {agent["agent"]: agent for agent in c.ctl("workers").get("agents", [])}
            self.assertEqual(agents["v0"].get("job"), job)
            c.processes["w1"].signal(signal.SIGCONT)
            end = c.wait(job)
            self.assertEqual(end["result"]["weights_digest"], expected)
            self.assertEqual(int(end["epoch"]), 2)
            self.assertLess(seconds, BOUND[name] + SLACK)
            again = c.submit(c.spec(**QUIET, workers={"replicas": 1}))  # what was lost or stood in is of use again
            c.wait(again)

    def test_without_a_spare_fewer_go_on_and_who_comes_is_let_in(self):
        with cluster.Cluster() as c:
            c.start(workers=2)
            job = c.submit(c.spec(**cluster.merge(QUIET, {"train": {"steps": 1000000}})))
            c.wait_step(job, 50)
            c.processes["w1"].kill()
            self.assertEqual(self.members(c, job, 1), {"w0"})
            step = int(c.job(job)["progress"]["step"])
            c.wait_step(job, step + 20)
            c.add("worker", "w1")
            self.assertEqual(self.members(c, job, 2), {"w0", "w1"})
            step = int(c.job(job)["progress"]["step"])
            c.wait_step(job, step + 20)
            self.assertEqual(int(c.job(job)["epoch"]), 3)
            c.ctl("cancel", job)

    def members(self, c, job, count):
        """Who trains, as soon as it is so many."""
        def training():
            now = c.job(job)
            return now["state"] == "RUNNING" and len(now["members"]) == count and now["members"]
        return {member["agent"] for member in cluster.wait_until(training, 60, f"not {count} members")}

    def test_killed(self):
        self.check(signal.SIGKILL, "kill")

    def test_stopped(self):
        self.check(signal.SIGSTOP, "stop")


if __name__ == "__main__":
    cluster.main()
