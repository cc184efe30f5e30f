#!/usr/bin/env python3
"""Checks the rules of the house that a compiler does not: which room may include which, and what is banned where.

    scripts/check_house.py              checks the files git knows or would add; exit 1 and one line a finding
    scripts/check_house.py --self-test  checks the checker

A finding reads PATH:LINE: [rule] what is wrong; what to do instead. Exceptions stand in scripts/house_allow.txt with their
reason; the list only shrinks: an entry that nothing needs any more is a finding too.
"""
import fnmatch
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALLOW = "scripts/house_allow.txt"

# --- arrows between rooms ---------------------------------------------------------------------------------------------
# A file belongs to the longest room that its path begins with, and may include its own room and those named here. "leap"
# is the generated wire (leap/v1/...). tests/ and bench/ span rooms and may include all.
ARROWS = {
    "base": set(),
    "core": {"base"},
    "service": {"base", "core", "leap"},
    "engine": {"base", "core"},
    "rank": {"base", "core", "service", "engine", "leap"},
    "coordinator/machine": {"base", "core"},
    "worker/machine": {"base", "core"},
    "verifier/machine": {"base", "core"},
    "coordinator": {"base", "core", "service", "leap", "coordinator/machine"},
    "worker": {"base", "core", "service", "engine", "leap", "rank", "worker/machine"},
    "verifier": {"base", "core", "service", "engine", "leap", "rank", "verifier/machine"},
    "leapctl": {"base", "core", "service", "leap"},
}
FREE_ROOMS = ("tests", "bench")
PURE = ("core", "coordinator/machine", "worker/machine", "verifier/machine")

# Headers that a pure room may not see: values in, values out.
PURE_BANNED = re.compile(
    r"^(base/(clock|fake_clock|log|signals|mutex|bounded_queue|test_paths)\.h"
    r"|leap/v1/.*|grpc.*|google/.*|torch/.*|ATen/.*|c10/.*|prometheus/.*|sqlite3\.h|spdlog/.*"
    r"|absl/synchronization/.*|absl/time/clock\.h"
    r"|thread|mutex|shared_mutex|condition_variable|atomic|future|stop_token|semaphore|latch|barrier|chrono"
    r"|fstream|filesystem|iostream|cstdio|stdio\.h|ctime|time\.h|unistd\.h|fcntl\.h|poll\.h|signal\.h|csignal|sys/.*)$")
# A test of a pure room may read its own test data.
PURE_TEST_ALLOWED = {"base/test_paths.h", "fstream"}

TORCH = re.compile(r"^(torch|ATen|c10|caffe2|gloo)/")

# --- bans by words ----------------------------------------------------------------------------------------------------
# rule: (pattern, which files, what to do instead). Comments and string literals are blanked before matching.
PRODUCT = lambda path: not is_test(path) and not path.startswith(FREE_ROOMS)
EVERYWHERE = lambda path: True
BANS = {
    "wall-clock": (r"\babsl::Now\(|_clock::now\b|\bclock_gettime\(|\bgettimeofday\(|(?<![\w.>:])time\((NULL|nullptr|0)?\)",
                   lambda path: not path.startswith("bench"), "take `now` as an argument, or a Clock& (base/clock.h)"),
    "sleep": (r"\babsl::SleepFor\(|\bsleep_(for|until)\(|\b(u|nano)?sleep\(",
              EVERYWHERE, "wait on a condition with a deadline, or Clock::SleepFor"),
    "thread": (r"\bstd::(jthread|thread|async)\b(?!::)|\bpthread_create\(",
               PRODUCT, "threads live in runners and main.cc, each with an owner that joins it; new owners go on the list"),
    "random": (r"\brandom_device\b|(?<![\w.>:])s?rand\(|\bdefault_random_engine\b",
               EVERYWHERE, "take a seed or a seeded generator; identities come from base/ids.h"),
    "string-view": (r"\bstd::string_view\b|#\s*include\s*<string_view>",
                    EVERYWHERE, "text views are absl::string_view; Debian's Abseil converts neither way"),
    "mutex": (r"\babsl::(Mutex|MutexLock|ReaderMutexLock|WriterMutexLock|Condition|CondVar)\b"
              r"|\bstd::(recursive_|shared_|timed_)?mutex\b|\bstd::condition_variable",
              EVERYWHERE, "leap::Mutex (base/mutex.h), which ThreadSanitizer can see"),
    "throw": (r"\bthrow\b", EVERYWHERE, "return an absl::Status (base/error_reason.h)"),
    "using-namespace": (r"\busing namespace\b(?!\s+std::(literals|string_literals|chrono_literals))", EVERYWHERE,
                        "name what is used"),
}
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 70


def is_test(path):
    name = path.rsplit("/", 1)[-1]
    return path.startswith("tests/") or re.search(r"(_test|_testing|_fuzz|fake_\w+|test_\w+|status_matchers)\.(cc|h)$", name)


def room_of(path):
    rooms = [room for room in ARROWS if path == room or path.startswith(room + "/")]
    return max(rooms, key=len) if rooms else None


def blank(text):
    """The text with comments and literals replaced by spaces; line breaks stay where they are."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])\'', re.S)
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match.group(0)), text)


def includes(text):
    for number, line in enumerate(text.split("\n"), 1):
        match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if match:
            yield number, match.group(2)


def check_includes(path, text):
    room = room_of(path)
    for number, header in includes(text):
        if TORCH.match(header) and not torch_allowed(path):
            yield number, "torch", f"{header}: LibTorch stays in engine/*.cc and engine/internal/*.h"
        if path.startswith(FREE_ROOMS) or room is None:
            continue
        target = "leap" if header.startswith("leap/v1/") else room_of(header)
        if target is not None and target != room and target not in ARROWS[room]:
            yield number, "arrow", f"{room} may not include {target} ({header})"
        if header.startswith("engine/internal/") and room != "engine":
            yield number, "arrow", f"{header} is engine's own"
        if room in PURE and PURE_BANNED.match(header):
            if not (is_test(path) and header in PURE_TEST_ALLOWED):
                yield number, "pure", f"{header}: {room} takes values and gives values; move the effect to the skin"


def torch_allowed(path):
    in_engine = path.startswith("engine/") and (path.endswith(".cc") or path.startswith("engine/internal/"))
    return in_engine or path.startswith("engine/cuda/") or (path.startswith(FREE_ROOMS) and path.endswith(".cc"))


def check_bans(path, text):
    lines = blank(text).split("\n")
    for rule, (pattern, applies, instead) in BANS.items():
        if not applies(path):
            continue
        for number, line in enumerate(lines, 1):
            match = re.search(pattern, line)
            if match:
                yield number, rule, f"'{match.group(0).strip()}'; {instead}"


def check_sizes(path, text):
    lines = blank(text).split("\n")
    if len(lines) - 1 > MAX_FILE_LINES:
        yield 1, "file-size", f"{len(lines) - 1} lines, at most {MAX_FILE_LINES}; a file has one subject"
    # Formatted code: a function at namespace level starts in column 0 and ends with a brace in column 0.
    start = None
    for number, line in enumerate(lines, 1):
        if re.match(r"[A-Za-z_\[~]", line) and not re.match(r"(namespace|class|struct|enum|union|extern|#|using|typedef)\b", line):
            if start is None:
                start = number
        if line.rstrip().endswith(";") and not line.startswith((" ", "}")):
            start = None  # a declaration
        if line.startswith("}"):
            length = number - start + 1 if start else 0
            if length > MAX_FUNCTION_LINES and not line.startswith("};"):
                yield start, "function-size", f"{length} lines, at most {MAX_FUNCTION_LINES}; a function fits on a screen"
            start = None


def findings(files):
    """[(path, line, rule, message)] for {path: text}, before the allow-list."""
    result = []
    for path, text in sorted(files.items()):
        for check in (check_includes, check_bans, check_sizes):
            result += [(path, number, rule, message) for number, rule, message in check(path, text)]
    return result


def read_allow_list(text):
    entries = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            words = line.split(None, 2)
            if len(words) < 3:
                raise SystemExit(f"{ALLOW}:{number}: expected RULE PATH and a reason")
            entries.append((number, words[0], words[1]))
    return entries


def apply_allow_list(found, entries):
    used = set()
    left = []
    for path, number, rule, message in found:
        matching = [entry for entry in entries if entry[1] == rule and fnmatch.fnmatch(path, entry[2])]
        used.update(entry[0] for entry in matching)
        if not matching:
            left.append((path, number, rule, message))
    for number, rule, path in entries:
        if number not in used:
            left.append((ALLOW, number, "allow-list", f"'{rule} {path}' lets nothing pass any more; remove it"))
    return left


def repository_files():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "--", "*.h", "*.cc", "*.cu", "*.cuh"],
                            cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return {path: (ROOT / path).read_text() for path in listed if (ROOT / path).exists()}


# --- self-test --------------------------------------------------------------------------------------------------------

SELF_TEST = [
    ("core/a.h", '#include "base/ids.h"\n#include "core/b.h"\n', []),
    ("core/a.h", '#include "service/tls.h"\n', ["arrow"]),
    ("core/a.cc", '#include "leap/v1/job.pb.h"\n', ["arrow", "pure"]),
    ("core/a.cc", "#include <thread>\n", ["pure"]),
    ("core/a.cc", '#include "base/clock.h"\n', ["pure"]),
    ("core/a.cc", "#include <fstream>\n", ["pure"]),
    ("core/a_test.cc", "#include <fstream>\n", []),
    ("coordinator/machine/a.cc", '#include "coordinator/store.h"\n', ["arrow"]),
    ("coordinator/machine/a.cc", '#include "coordinator/machine/b.h"\n#include "core/c.h"\n', []),
    ("coordinator/store.cc", '#include "coordinator/machine/a.h"\n', []),
    ("coordinator/a.cc", '#include "worker/machine/a.h"\n', ["arrow"]),
    ("coordinator/a.cc", '#include "engine/model.h"\n', ["arrow"]),
    ("leapctl/a.cc", '#include "coordinator/a.h"\n', ["arrow"]),
    ("verifier/main.cc", '#include "rank/agent.h"\n#include "engine/group.h"\n', []),
    ("verifier/main.cc", '#include "worker/agent.h"\n', ["arrow"]),
    ("rank/agent.cc", '#include "verifier/agent.h"\n', ["arrow"]),
    ("coordinator/a.cc", '#include "rank/agent.h"\n', ["arrow"]),
    ("base/a.cc", '#include "core/a.h"\n', ["arrow"]),
    ("tests/sim/a.cc", '#include "coordinator/machine/a.h"\n#include "worker/machine/a.h"\n', []),
    ("engine/model.cc", "#include <torch/torch.h>\n", []),
    ("engine/internal/tensors.h", "#include <ATen/ATen.h>\n", []),
    ("engine/model.h", "#include <torch/torch.h>\n", ["torch"]),
    ("worker/loop.cc", "#include <torch/torch.h>\n", ["torch"]),
    ("worker/loop.cc", '#include "engine/internal/tensors.h"\n', ["arrow"]),
    ("worker/loop.cc", "auto t = absl::Now();\n", ["wall-clock"]),
    ("worker/loop.cc", "// absl::Now() is banned\nauto s = \"absl::Now()\";\n", []),
    ("worker/loop.cc", "auto t = std::chrono::steady_clock::now();\n", ["wall-clock"]),
    ("worker/loop.cc", "const double time(0);\nx.time(); wall_time();\n", ["wall-clock"]),
    ("worker/loop.cc", "clock.SleepFor(d); std::this_thread::sleep_for(d);\n", ["sleep"]),
    ("worker/loop.cc", "std::thread t; auto n = std::thread::hardware_concurrency();\n", ["thread"]),
    ("worker/loop_test.cc", "std::thread t;\n", []),
    ("worker/loop.cc", "auto n = std::thread::hardware_concurrency();\n", []),
    ("worker/loop.cc", "std::random_device d; int r = rand();\n", ["random"]),
    ("worker/loop.cc", "int operand(int x); operand(3);\n", []),
    ("worker/loop.cc", "void F(std::string_view text);\n", ["string-view"]),
    ("worker/loop.cc", "absl::Mutex m;\n", ["mutex"]),
    ("worker/loop.cc", "Mutex m; MutexLock lock(&m);\n", []),
    ("worker/loop.cc", "throw 1;\n", ["throw"]),
    ("worker/loop.cc", "int a = 1'000'000; throw 1; int b = 1'000;\n", ["throw"]),
    ("worker/loop.cc", "using namespace std;\n", ["using-namespace"]),
    ("worker/loop.cc", "void F() {\n" + "  G();\n" * 68 + "}\n", []),
    ("worker/loop.cc", "void F() {\n" + "  G();\n" * 69 + "}\n", ["function-size"]),
    ("worker/loop.cc", "int x = 3;\n" * 80 + "void F() {\n}\n", []),
    ("worker/loop.cc", "class C {\n" + "  void G();\n" * 100 + "};\n", []),
    ("worker/loop.cc", "int x;\n" * 601, ["file-size"]),
]


def self_test():
    failed = 0
    for path, text, expected in SELF_TEST:
        seen = [rule for _, _, rule, _ in findings({path: text})]
        if seen != expected:
            failed += 1
            print(f"self-test: {path}: expected {expected}, saw {seen} in:\n{text[:200]}")
    entries = [(1, "throw", "worker/*"), (2, "sleep", "worker/a.cc")]
    left = apply_allow_list([("worker/a.cc", 1, "throw", ""), ("engine/a.cc", 1, "throw", "")], entries)
    if [(path, rule) for path, _, rule, _ in left] != [("engine/a.cc", "throw"), (ALLOW, "allow-list")]:
        failed += 1
        print(f"self-test: allow-list: saw {left}")
    print(f"check_house self-test: {len(SELF_TEST) + 1 - failed} passed, {failed} failed")
    return failed


def main():
    if sys.argv[1:] == ["--self-test"]:
        return 1 if self_test() else 0
    if sys.argv[1:]:
        raise SystemExit(__doc__)
    files = repository_files()
    left = apply_allow_list(findings(files), read_allow_list((ROOT / ALLOW).read_text()))
    for path, number, rule, message in left:
        print(f"{path}:{number}: [{rule}] {message}")
    print(f"check_house: {len(files)} files, {len(left)} findings")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
