"""Evidence 6, process level: bad input gets a clear error, nothing is lost, nothing crashes."""
import pathlib
import subprocess
import unittest

import cluster


class BadInput(unittest.TestCase):
    def says(self, done, *words, code=None):
        """The program ended by itself, not by a signal, with these words on standard error."""
        text = done.stderr + done.stdout
        if code is not None:
            self.assertEqual(done.returncode, code, text)
        self.assertGreater(done.returncode, 0, f"killed by a signal or happy: {text}")
        for word in words:
            self.assertIn(word.lower(), text.lower())
        self.assertNotIn("terminate called", text)

    def run_program(self, c, name, *arguments):
        return subprocess.run([cluster.program(name), *map(str, arguments)], capture_output=True, text=True, timeout=30,
                              cwd=c.folder)

    def test_unknown_flags_are_named(self):
        with cluster.Cluster() as c:
            for name in cluster.PROGRAMS:
                with self.subTest(name):
                    self.says(self.run_program(c, name, "--no-such-flag"), "no-such-flag")

    def test_flags_that_cannot_work(self):
        with cluster.Cluster() as c:
            c.start_coordinator()
            for name in ("leap-worker", "leap-verifier"):
                common = ["--coordinator", c.address, "--state-dir", c.folder / "s"]
                with self.subTest(name + " bad name"):
                    self.says(self.run_program(c, name, *common, "--name", "no spaces please"), "name")
                with self.subTest(name + " bad level"):
                    self.says(self.run_program(c, name, *common, "--log-level", "loud"), "loud")
                with self.subTest(name + " bad listen"):
                    self.says(self.run_program(c, name, *common, "--listen", "nowhere"), "nowhere")
                with self.subTest(name + " insecure"):
                    self.says(self.run_program(c, name, *common, "--listen", "0.0.0.0:0"), "insecure")
                with self.subTest(name + " no such certificate"):
                    self.says(self.run_program(c, name, *common, "--tls-ca", "/no/such/ca.pem"), "/no/such/ca.pem")
                with self.subTest(name + " state dir"):
                    self.says(self.run_program(c, name, "--coordinator", c.address, "--state-dir", "/proc/no"),
                              "/proc/no")

    def test_a_port_that_is_taken_is_named(self):
        with cluster.Cluster() as c:
            c.start_coordinator()
            for name, role in (("leap-coordinator", ()), ("leap-worker", ("--coordinator", c.address)),
                               ("leap-verifier", ("--coordinator", c.address))):
                for flag in ("--listen", "--metrics-listen"):
                    with self.subTest(f"{name} {flag}"):
                        done = self.run_program(c, name, *role, "--state-dir", c.folder / name, flag, c.address)
                        self.says(done, c.address.split(":")[1])
            self.assertTrue(c.processes["coordinator"].alive())

    def test_an_unreachable_coordinator(self):
        with cluster.Cluster() as c:
            c.address = "127.0.0.1:1"
            done = c.ctl_raw("list")
            self.says(done, "coordinator", code=6)
            agent = c.add("verifier", "v0")  # goes on trying, and says so once
            cluster.wait_until(lambda: "coordinator_lost" in agent.text() or "unreachable" in agent.text(), 20,
                               "the verifier says nothing")
            self.assertTrue(agent.alive())
            self.assertEqual(agent.terminate(), 0)

    def test_two_workers_of_one_name(self):
        with cluster.Cluster() as c:
            c.start(workers=1)
            cluster.wait_until(lambda: len(c.ctl("workers").get("agents", [])) == 1, 20, "w0 is not there")
            first = c.processes["w0"]
            second = c.launch("w0-again", cluster.program("leap-worker"), "--coordinator", c.address, "--name", "w0",
                              "--state-dir", c.folder / "agents")
            cluster.wait_until(lambda: "w0" in second.text() and "another" in second.text().lower(), 20,
                               "the second w0 is not told that the name is taken")
            self.assertTrue(first.alive())
            job = c.submit(c.spec(workers={"replicas": 1}, train={"steps": 20}))
            c.wait(job)  # the first one works on

    def test_losses_that_are_not_numbers_end_the_job_with_the_reason(self):
        with cluster.Cluster() as c:
            c.start(workers=1)
            one = {"workers": {"replicas": 1}}
            sound = c.wait(c.submit(c.spec(**one, train={"steps": 1, "warmup_steps": 1})))
            weights = pathlib.Path(sound["checkpoint_path"]) / "model.safetensors"
            data = bytearray(weights.read_bytes())
            data[-4000:] = b"\x00\x00\xc0\x7f" * 1000  # NaN
            broken = c.folder / "broken.safetensors"
            broken.write_bytes(data)
            model = {"config": str(c.model_config()), "init": str(broken)}
            end = c.wait(c.submit(c.spec(**one, model=model)), 120, state="FAILED")
            self.assertRegex(end["state_reason"].lower(), "nan|finite")

    def test_candidates_that_are_not_numbers_are_refused(self):
        with cluster.Cluster() as c:
            c.start(workers=1, verifiers=1)
            # K so large that the prediction overflows.
            wild = {"regimes": ["unknown", "chaotic", "transition", "stable"], "predictors": [
                {"name": "linear", "horizons_steps": [100000]}], "criterion": {"name": "guard"}}
            job = c.submit(c.spec(workers={"replicas": 1}, leap=wild, verifiers={"min_replicas": 1}))
            c.wait(job)
            rows = c.ledger("candidates", job)
            self.assertGreaterEqual(len(rows), 1)
            self.assertEqual({row.get("accepted", False) for row in rows}, {False})

    def test_text_that_is_not_there(self):
        with cluster.Cluster() as c:
            c.start(workers=1)
            job = c.submit(c.spec(workers={"replicas": 1}, data={"paths": ["/no/such/folder"]}))
            end = c.wait(job, 60, state="FAILED")
            self.assertIn("/no/such/folder", end["state_reason"])


if __name__ == "__main__":
    cluster.main()
