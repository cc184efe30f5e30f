"""`cmake --install` gives a tree that runs wherever it is put: its programs take every library from the tree itself, but
for the C and C++ run-time libraries, and `leapctl run` finds the programs beside it."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import unittest

import cluster

# What the machine supplies (cmake/LeapInstall.cmake). A sanitizer's library comes with the compiler.
MACHINE = re.compile(r"(linux-vdso|ld-linux.*|libc|libm|libdl|librt|libutil|libpthread|libresolv|libstdc\+\+|libgcc_s"
                     r"|libasan|libubsan)\.so")
# Nothing of the shell that runs the test helps the programs.
BARE = {"PATH": "/usr/bin:/bin", **{key: os.environ[key] for key in ("LSAN_OPTIONS",) if key in os.environ}}


def run(*command, **how):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL, **how)


class Install(unittest.TestCase):
    def test_the_tree_runs_where_it_is_put(self):
        with cluster.Cluster() as c:
            place = cluster.BINARIES / "e2e_install"  # 470 MB: not for a temporary folder, which may be memory
            shutil.rmtree(place, ignore_errors=True)
            self.addCleanup(shutil.rmtree, place, ignore_errors=True)
            first, tree = place / "first", place / "moved" / "leap"
            done = run("cmake", "--install", cluster.BINARIES, "--prefix", first)
            self.assertEqual(done.returncode, 0, done.stderr)
            tree.parent.mkdir()
            first.rename(tree)
            for name in cluster.PROGRAMS:
                with self.subTest(name):
                    self.check_libraries(tree, tree / "bin" / name)
                    done = run(tree / "bin" / name, "--version", env=BARE)
                    self.assertRegex(done.stdout, rf"^{name} \d+\.\d+\.\d+$", done.stderr)
            self.train(c, tree)

    def check_libraries(self, tree, program):
        """`ldd` also follows what the libraries need in turn."""
        for line in run("ldd", program, env=BARE).stdout.splitlines():
            name, _, rest = line.strip().partition(" ")
            if MACHINE.match(pathlib.Path(name).name):
                continue
            found = rest.removeprefix("=> ").rpartition(" (")[0]
            self.assertTrue(found.startswith(str(tree)), f"{program.name} takes {line.strip()}")

    def train(self, c, tree):
        job = c.folder / "job.yaml"
        job.write_text(json.dumps(c.spec(train={"steps": 20})))
        state = c.folder / "run"
        done = run(tree / "bin" / "leapctl", "run", job, "--state-dir", state, env=BARE, cwd=c.folder)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"SUCCEEDED after .*, step 20 of 20")
        self.assertIn("after 20 trained steps", done.stdout)


if __name__ == "__main__":
    cluster.main()
