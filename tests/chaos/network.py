"""A network of its own for every process of a test, so that any two of them can be cut off from one another.

`enter()` starts the running script once more in new network and process namespaces: nothing in there is seen outside, and
all of it, processes included, is gone when the script ends, however it ends. In there `Network` makes a bridge and, for
each name, a namespace with an address of its own. A cut is silent, as when a cable is pulled: packets are sent to a
hardware address that nobody has, so connections neither fail nor answer.

Linux only; needs root, or user namespaces open to everybody, and `ip` (iproute2).
"""
import collections
import os
import shutil
import subprocess
import sys

MARK = "LEAP_CHAOS_NETWORK"
NOBODY = "02:77:00:00:ff:ff"
UNSHARE = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
TRIAL = "ip link set lo up && ip link add trial type bridge && ip link add trial0 type veth peer name trial1 && unshare --net true"


def why_not():
    """(command that makes the namespaces, "") or (None, why there can be none)."""
    for tool in ("unshare", "nsenter", "ip"):
        if shutil.which(tool) is None:
            return None, f"there is no {tool}"
    said = ""
    for command in (UNSHARE, [*UNSHARE, "--user", "--map-root-user"]):
        done = subprocess.run([*command, "sh", "-c", TRIAL], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode == 0:
            return command, ""
        said = said or done.stderr.strip().splitlines()[-1] if done.stderr.strip() else said
    return None, said or "unshare failed"


def enter():
    """Runs this script again inside new namespaces and exits as it does. Returns "" if this is that second run, else why
    namespaces are not to be had."""
    if os.environ.get(MARK):
        return ""
    command, reason = why_not()
    if command is None:
        return reason
    done = subprocess.run([*command, sys.executable, *sys.argv], env={**os.environ, MARK: "1"})
    sys.exit(done.returncode)


def ip(*words, within=None):
    into = [] if within is None else ["nsenter", f"--net=/proc/{within}/ns/net", "--"]
    subprocess.run([*into, "ip", *words], check=True, stdin=subprocess.DEVNULL)


class Network:
    """The script itself sits at the bridge, as 10.77.0.254, and is never cut off."""

    def __init__(self, names):
        self.numbers = {name: i + 1 for i, name in enumerate(names)}
        self.holders = {}  # a sleeping process for each namespace: while it lives, the namespace does
        self.cuts = collections.Counter()  # pairs, and how many faults cut each
        ip("link", "set", "lo", "up")
        ip("link", "add", "bridge", "type", "bridge")
        ip("addr", "add", "10.77.0.254/24", "dev", "bridge")
        ip("link", "set", "bridge", "up")
        for name in names:
            self._add(name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for holder in self.holders.values():
            holder.kill()
            holder.wait()
        ip("link", "del", "bridge")

    def _add(self, name):
        number = self.numbers[name]
        holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE)
        holder.stdout.readline()  # it is in its namespace now
        self.holders[name] = holder
        ip("link", "add", f"port{number}", "type", "veth", "peer", "name", f"peer{number}")
        ip("link", "set", f"peer{number}", "netns", str(holder.pid))
        ip("link", "set", f"port{number}", "master", "bridge", "up")
        for words in (("link", "set", "lo", "up"),
                      ("link", "set", f"peer{number}", "name", "eth0", "address", self._hardware(number)),
                      ("addr", "add", f"{self.address(name)}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
            ip(*words, within=holder.pid)
        for other in self.holders:
            if other != name:
                self._point(name, other, True)
                self._point(other, name, True)

    @staticmethod
    def _hardware(number):
        return f"02:77:00:00:00:{number:02x}"

    def _point(self, name, other, right):
        hardware = self._hardware(self.numbers[other]) if right else NOBODY
        ip("neigh", "replace", self.address(other), "lladdr", hardware, "dev", "eth0", "nud", "permanent",
           within=self.holders[name].pid)

    def address(self, name):
        return f"10.77.0.{self.numbers[name]}"

    def command(self, name, arguments):
        return ["nsenter", f"--net=/proc/{self.holders[name].pid}/ns/net", "--", *arguments]

    def cut(self, pairs):
        for pair in pairs:
            self.cuts[pair] += 1
            if self.cuts[pair] == 1:
                self._set(pair, False)

    def heal(self, pairs):
        for pair in pairs:
            self.cuts[pair] -= 1
            if self.cuts[pair] == 0:
                self._set(pair, True)

    def _set(self, pair, right):
        one, other = sorted(pair)
        self._point(one, other, right)
        self._point(other, one, right)
