"""Evidence 6, the flags: a table of flags that cannot work, each with the words its program says and its exit code. No
program runs on with a flag that it does not understand, and each says which flag it was."""
import os
import pathlib
import subprocess
import tempfile
import unittest

import cluster

COORDINATOR, WORKER, VERIFIER, CTL = "leap-coordinator", "leap-worker", "leap-verifier", "leapctl"
SERVERS = (COORDINATOR, WORKER, VERIFIER)
AGENTS = (WORKER, VERIFIER)
ADDRESS = "expected host:port with a port from 0 to 65535"
PAIR = "a certificate and its key come together: give both --tls-cert and --tls-key, or neither"
BEYOND = "'{0}' is beyond this machine, and there is no TLS"
LONG = "x" * 65

# (programs, flags, words, exit code). In the folder lie: text (a file), open.token (readable by all), bad.token.
TABLE = [
    (SERVERS, "--no-such-flag", "--no-such-flag", 2),
    (SERVERS, "an-argument", "an-argument", 2),
    (SERVERS, "--listen", "--listen: 1 required", 2),
    (SERVERS, "--listen nowhere", f"--listen: {ADDRESS}, saw 'nowhere'", 2),
    (SERVERS, "--listen 127.0.0.1:99999", f"--listen: {ADDRESS}, saw '127.0.0.1:99999'", 2),
    (SERVERS, "--listen 0.0.0.0:0", BEYOND.format("0.0.0.0:0"), 2),
    (SERVERS, "--metrics-listen nowhere", f"--metrics-listen: {ADDRESS}, saw 'nowhere'", 2),
    (SERVERS, "--metrics-listen 0.0.0.0:0", "metrics at '0.0.0.0:0' can be read beyond this machine", 2),
    (SERVERS, "--port-file /no/such/port", "cannot write '/no/such/port'", 2),
    (SERVERS, "--metrics-listen 127.0.0.1:0 --metrics-port-file /no/such/port", "cannot write '/no/such/port'", 2),
    (SERVERS, "--log-level loud", "expected a log level of debug, info, warning or error, saw 'loud'", 2),
    (SERVERS, "--state-dir text", "--state-dir text: Not a directory", 1),
    (SERVERS, "--path-root relative", "--path-root: expected", 2),
    (SERVERS, "--tls-ca /no/such.pem", "cannot read the certificate file '/no/such.pem'", 2),
    (SERVERS, "--tls-cert text", PAIR, 2),
    (SERVERS, "--tls-key text", PAIR, 2),
    (SERVERS, "--tls-cert text --tls-key text --tls-ca text", "'text' holds no certificate in PEM form", 2),
    (SERVERS, "--token-file /no/such", "token file '/no/such': cannot be read", 2),
    (SERVERS, "--token-file open.token", "'open.token': can be read by everybody on this machine; chmod o-r it", 2),
    (SERVERS, "--token-file bad.token", "bad.token line 1", 2),
    ([COORDINATOR], "--advertise host", "--advertise", 2),
    ([COORDINATOR], "--max-jobs-per-submitter 0", "--max-jobs-per-submitter: Value 0 not in range 1 to 1000", 2),
    ([COORDINATOR], "--max-jobs-per-submitter many", "Value many not in range 1 to 1000", 2),
    (AGENTS, "--name two/words", "--name: expected 1 to 64 of a-z A-Z 0-9 . _ -, saw 'two/words'", 2),
    (AGENTS, f"--name {LONG}", f"saw '{LONG}'", 2),
    (AGENTS, "--coordinator nonsense", f"--coordinator: {ADDRESS}, saw 'nonsense'", 2),
    (AGENTS, "--coordinator 127.0.0.1:0", "expected a host and a port above 0", 2),
    (AGENTS, "--coordinator 10.1.2.3:7070", BEYOND.format("10.1.2.3:7070"), 2),
    (AGENTS, "--token-path /no/such", "token file '/no/such': cannot be read", 2),
    (AGENTS, "--token-path open.token", "'open.token': can be read by everybody on this machine; chmod o-r it", 2),
    (AGENTS, "--bind-host 10.1.2.3", "--bind-host '10.1.2.3' is beyond this machine", 2),
    (AGENTS, "--bind-host no.such.host.invalid --insecure-plaintext-anywhere", "cannot bind 'no.such.host.invalid'", 1),
    (AGENTS, "--advertise host:99999", "--advertise: expected host or host:port, saw 'host:99999'", 2),
    (AGENTS, "--path-root /no/such", "--path-root: expected the absolute path of a folder, saw '/no/such'", 2),
    ([VERIFIER], "--nice 20", "--nice: Value 20 not in range 0 to 19", 2),
    ([WORKER], "--nice 3", "--nice", 2),
    ([CTL], "", "expected a command", 2),
    ([CTL], "sumbit job.yaml", "unknown command 'sumbit', did you mean 'submit'?", 2),
    ([CTL], "list --lst 3", "unknown flag '--lst', did you mean '--last'?", 2),
    ([CTL], "list -o xml", "--output: expected one of table, json, yaml, jsonl, saw 'xml'", 2),
    ([CTL], "list --last 0", "--last: Value 0 not in range", 2),
    ([CTL], "get", "JOB is required", 2),
    ([CTL], "get a b", "b", 2),
    ([CTL], "--coordinator nonsense list", f"--coordinator: {ADDRESS}, saw 'nonsense'", 2),
    ([CTL], "--coordinator 10.1.2.3:7070 list", BEYOND.format("10.1.2.3:7070"), 2),
    ([CTL], "--coordinator 127.0.0.1:1 list", "cannot reach the coordinator at 127.0.0.1:1", 6),
    ([CTL], "--tls-cert text list", PAIR, 2),
    ([CTL], "--tls-ca /no/such.pem list", "cannot read the certificate file '/no/such.pem'", 2),
    ([CTL], "--token-path open.token list", "can be read by everybody on this machine; chmod o-r it", 2),
    ([CTL], "submit /no/such.yaml", "cannot read the job file '/no/such.yaml'", 4),
    ([CTL], "submit .", "cannot read the job file '.'", 4),
    ([CTL], "submit text", "text:1: expected a job", 3),
    ([CTL], "run text", "text:1: expected a job", 3),
    ([CTL], "run text --workers 0", "--workers: Value 0 not in range 1 to 64", 2),
    ([CTL], "run text --nice 20", "--nice: Value 20 not in range 0 to 19", 2),
    ([CTL], "snapshot", "expected a command: export", 2),
    ([CTL], "snapshot export a --step 1 --out x --buffer grads", "--buffer: grads not in", 2),
    ([CTL], "completion tcsh", "SHELL: tcsh not in", 2),
]


class BadFlags(unittest.TestCase):
    def test_each_gets_its_words(self):
        self.assertGreaterEqual(sum(len(programs) for programs, *_ in TABLE), 100)
        with tempfile.TemporaryDirectory() as folder:
            for name, text, mode in (("text", "text", 0o600), ("open.token", "x" * 20, 0o644), ("bad.token", "one", 0o600)):
                path = pathlib.Path(folder) / name
                path.write_text(text)
                path.chmod(mode)
            home = {**os.environ, "XDG_STATE_HOME": folder}
            for programs, flags, words, code in TABLE:
                for name in programs:
                    with self.subTest(f"{name} {flags}"):
                        first = ["--listen", "127.0.0.1:0"] if name == COORDINATOR and "--listen" not in flags.split() else []
                        done = subprocess.run([cluster.program(name), *first, *flags.split()], cwd=folder, env=home, text=True,
                                              capture_output=True, timeout=30, stdin=subprocess.DEVNULL)
                        self.assertIn(words, done.stderr + done.stdout)
                        self.assertEqual(done.returncode, code, done.stderr)


if __name__ == "__main__":
    cluster.main()
