"""Is a job's ledger consistent with itself, with what its workers logged, and with its last checkpoint? Read straight from
SQLite, not through leapctl. `check()` returns what is wrong, a sentence each; nothing: all is well."""
import collections
import contextlib
import json
import pathlib
import re
import sqlite3

LEAP_STATES = {1: "PREPARING", 2: "COMMITTED", 3: "APPLIED", 4: "ABORTED", 5: "EXPIRED", 6: "ROLLED_BACK",
               7: "ROLLING_BACK"}
JSON_COLUMNS = {"members", "progress", "leaps", "result", "shards", "state_digests"}


TABLES = ("jobs", "epochs", "snapshots", "candidates", "leaps", "events", "budgets", "agents")


def read(path, tables=TABLES):
    """{table: [row as a dict]}, in the order of writing."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as ledger:
        ledger.row_factory = sqlite3.Row
        return {table: [_decode(row) for row in ledger.execute(f"SELECT * FROM {table} ORDER BY rowid")]
                for table in tables}


def _decode(row):
    return {key: json.loads(row[key]) if key in JSON_COLUMNS and isinstance(row[key], str) else row[key]
            for key in row.keys()}


def unsigned(value):
    return int(value) % 2**64


def log_lines(folder, event):
    """Fields of the lines about `event` in the logs of all ranks below `folder`: (who, {key: value})."""
    for path in sorted(pathlib.Path(folder).glob("*/*.log")):
        for line in path.read_text(errors="replace").splitlines():
            words = line.split(" ", 4)
            if len(words) > 4 and words[2] != "leap-coordinator" and words[3] == event:
                yield path.stem, dict(re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', line))


class Checker:
    def __init__(self, folder, job, replicas):
        """`folder`: of the cluster."""
        self.folder = pathlib.Path(folder)
        self.rows = {table: [row for row in rows if row.get("job", job) == job]
                     for table, rows in read(self.folder / "state" / "ledger.db").items()}
        self.job = self.rows["jobs"][0]
        self.replicas = replicas
        self.wrong = []
        self.applied = [leap for leap in self.rows["leaps"] if LEAP_STATES[leap["state"]] == "APPLIED"]

    def expect(self, true, sentence):
        if not true:
            self.wrong.append(sentence)

    def check(self):
        for part in (self.epochs, self.snapshots, self.leaps, self.decisions, self.logs, self.totals, self.events, self.end):
            part()
        return self.wrong

    def epochs(self):
        before = None
        for row in self.rows["epochs"]:
            name = f"epoch {row['epoch']}"
            agents = [member["agent"] for member in row["members"]]
            self.expect(len(agents) == self.replicas == len(set(agents)), f"{name} has members {agents}")
            self.expect([m["rank"] for m in row["members"]] == list(range(len(agents))), f"{name}: ranks out of order")
            if before is not None:
                self.expect(row["epoch"] == before["epoch"] + 1, f"{name} follows epoch {before['epoch']}")
                self.expect(row["create_time"] >= before["create_time"], f"{name} is older than the one before")
            if row["formed_time"] is not None:
                earlier = [e for e in self.rows["epochs"] if e["epoch"] < row["epoch"] and e["formed_time"] is not None]
                if earlier and not row["from_checkpoint"]:
                    self.expect(row["step"] >= earlier[-1]["step"], f"{name} goes back to step {row['step']} from "
                                f"{earlier[-1]['step']}, and not from a checkpoint")
            before = row
        self.expect(before is not None and before["epoch"] == self.job["epoch"], "the job's epoch is not the newest one")

    def snapshots(self):
        epochs = {row["epoch"] for row in self.rows["epochs"]}
        history = collections.defaultdict(set)  # (step, leaps in the weights) -> digests
        for row in self.rows["snapshots"]:
            name = f"snapshot {row['step']} of epoch {row['epoch']}"
            self.expect(row["epoch"] in epochs, f"{name}: there is no such epoch")
            shards = sorted(row["shards"], key=lambda shard: shard["rank"])
            whole = all(one["end"] == other["begin"] for one, other in zip(shards, shards[1:]))
            self.expect(len(shards) == self.replicas and whole and shards[0]["begin"] == 0, f"{name} is not whole")
            if not self.rows["leaps"]:
                history[row["step"]].add(row["weights_digest"])
        for step, digests in history.items():
            self.expect(len(digests) == 1, f"two different weights at step {step}, and no leap between")

    def leaps(self):
        """One decision, one base that was verified, one boundary each; nothing open."""
        snapshots = {(row["epoch"], row["step"]): row for row in self.rows["snapshots"]}
        accepted = {(row["epoch"], row["base_step"], row["digest"]) for row in self.rows["candidates"] if row["accepted"]}
        boundary = 0
        for leap in self.rows["leaps"]:
            state = LEAP_STATES[leap["state"]]
            name = f"leap {leap['leap']} ({state})"
            self.expect(state not in ("PREPARING", "COMMITTED", "ROLLING_BACK") or self.job["end_time"] is None,
                        f"{name} is still open, and the job has ended")
            base = snapshots.get((leap["epoch"], leap["base_step"]))
            self.expect(base is not None and base["weights_digest"] == leap["base_digest"],
                        f"{name} starts from weights that are no snapshot")
            self.expect((leap["epoch"], leap["base_step"], leap["candidate_digest"]) in accepted,
                        f"{name} goes to weights that nobody accepted")
            if state != "APPLIED":
                continue
            # A boundary is not known if whoever could have told it is gone; then it stands as 0.
            if leap["boundary_step"]:
                self.expect(leap["boundary_step"] >= leap["base_step"], f"{name} was applied before its base")
                self.expect(leap["boundary_step"] > boundary, f"{name} and the one before share a boundary, or go back")
                boundary = leap["boundary_step"]
        numbers = [leap["base_step"] for leap in self.applied]
        self.expect(numbers == sorted(set(numbers)), f"bases of the applied leaps do not rise: {numbers}")

    def decisions(self):
        """Whatever a rank applied was decided, and whatever counts as applied was applied at one boundary."""
        rows = {leap["leap"]: leap for leap in self.rows["leaps"]}
        seen = collections.defaultdict(set)
        for who, line in log_lines(self.folder, "leap-applied"):
            if line.get("job") == self.job["job"]:
                seen[int(line["leap"])].add((int(line["boundary_step"]), line["weights_digest"]))
        for number, facts in seen.items():
            self.expect(len(facts) == 1, f"leap {number} was applied as {sorted(facts)}")
            state = LEAP_STATES[rows[number]["state"]] if number in rows else "not in the ledger"
            self.expect(state in ("APPLIED", "ROLLED_BACK", "ROLLING_BACK"), f"a rank applied leap {number}, which is {state}")
            step, digest = min(facts)
            known = rows.get(number, {}).get("boundary_step") and state == "APPLIED"
            if known:
                self.expect((step, int(digest, 16)) == (rows[number]["boundary_step"], unsigned(rows[number]["weights_digest"])),
                            f"leap {number}: the ledger has another boundary or digest than the ranks")

    def logs(self):
        """All ranks hold equal weights, when they meet and when they end."""
        for event in ("epoch-joined", "training-done"):
            said = collections.defaultdict(set)
            for _, line in log_lines(self.folder, event):
                if line.get("job") == self.job["job"]:
                    said[int(line["epoch"])].add((int(line["step"]), line["weights_digest"]))
            for epoch, facts in said.items():
                self.expect(len(facts) == 1, f"{event} in epoch {epoch}: ranks hold different weights: {sorted(facts)}")
            if event == "training-done":
                ends = set().union(*said.values()) if said else set()
                result = self.job["result"]
                self.expect(ends == {(result["step"], f"{unsigned(result['weights_digest']):016x}")},
                            f"the ranks ended with {sorted(ends)}, the ledger says {result['step']}, "
                            f"{unsigned(result['weights_digest']):016x}")

    def totals(self):
        totals = self.job["leaps"]
        tried = self.rows["candidates"]
        count = collections.Counter(LEAP_STATES[leap["state"]] for leap in self.rows["leaps"])
        for what, has in (("committed", sum(count.values()) - count["PREPARING"] - count["ABORTED"]),
                          ("aborted", count["ABORTED"]), ("rolled_back", count["ROLLED_BACK"]),
                          ("candidates", len(tried)), ("accepted", sum(row["accepted"] for row in tried)),
                          ("booked_steps", sum(leap["booked_steps"] for leap in self.applied)),
                          ("net_steps", sum(leap["net_steps"] for leap in self.applied))):
            self.expect(totals[what] == has, f"the job counts {totals[what]} {what}, its rows {has}")
        self.expect(totals["accepted"] + totals["rejected"] == totals["candidates"], "accepted + rejected != candidates")

    def events(self):
        numbers = [row["sequence"] for row in self.rows["events"]]
        self.expect(numbers == list(range(numbers[0], numbers[0] + len(numbers))), "the events' numbers have a hole")

    def end(self):
        self.expect(self.job["end_time"] is not None, "the job has no end")
        path = pathlib.Path(self.job["checkpoint_path"])
        try:
            state = json.loads((path / "state.json").read_text())
        except OSError as error:
            return self.expect(False, f"the last checkpoint: {error}")
        result = self.job["result"]
        self.expect(state["step"] == state["data_position"] == result["step"] == self.job["progress"]["steps"],
                    "step, data position and ledger do not agree at the end")
        self.expect(state["leaps_applied"] == len(self.applied),
                    f"the weights have {state['leaps_applied']} leaps, the ledger {len(self.applied)}")
        self.expect(state["digests"]["weights"] == f"{unsigned(result['weights_digest']):016x}",
                    f"the last checkpoint has weights {state['digests']['weights']}, the ledger another digest")
