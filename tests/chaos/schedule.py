"""What goes wrong, and when: drawn from a seed alone, so a seed replays the same faults at the same seconds (what the
processes make of them is up to the machine)."""
import dataclasses
import random


@dataclasses.dataclass(frozen=True)
class Fault:
    at: float          # seconds after the job began to train
    kind: str          # kill | term | stop | cut
    targets: tuple     # names of processes
    seconds: float     # until it is undone: started again, continued, connected
    others: tuple = ()  # cut: from whom

    def __str__(self):
        whom = ", ".join(self.targets) + (" from " + ", ".join(self.others) if self.others else "")
        return f"{self.kind} {whom} for {self.seconds:.2f} s"


# kind of fault: (weight, what)
RECIPES = {
    "kill a worker": 20, "kill two workers": 5, "kill all workers": 4, "kill everything": 2,
    "kill a verifier": 8, "kill the coordinator": 10, "kill the coordinator and a worker": 4,
    "term a worker": 5, "term a verifier": 3, "term the coordinator": 3,
    "stop a worker": 12, "stop a verifier": 4, "stop the coordinator": 6, "stop two workers": 3,
    "cut a worker": 8, "cut a verifier": 3, "cut the coordinator": 5, "cut a worker from the coordinator": 5,
    "cut two workers": 6, "cut the coordinator from the workers": 3,
}


def plan(seed, workers, verifiers, seconds, partitions, mean_pause=1.8):
    """Faults in order of time, all undone by `seconds` + 5."""
    dice = random.Random(seed)
    recipes = [name for name in RECIPES if partitions or not name.startswith("cut")]
    faults, at = [], 1.0 + dice.random()
    while at < seconds:
        recipe = dice.choices(recipes, [RECIPES[name] for name in recipes])[0]
        faults.append(_fault(dice, recipe, at, workers, verifiers))
        at += dice.expovariate(1 / mean_pause)
    return faults


def _fault(dice, recipe, at, workers, verifiers):
    kind = recipe.split()[0]
    two = dice.sample(workers, min(2, len(workers)))
    everybody = (*workers, *verifiers, "coordinator")
    targets, others = {
        "kill all workers": (workers, ()),
        "kill everything": (everybody, ()),
        "kill the coordinator and a worker": (("coordinator", two[0]), ()),
        "cut a worker from the coordinator": ((two[0],), ("coordinator",)),
        "cut two workers": ((two[0],), tuple(two[1:])),
        "cut the coordinator from the workers": (("coordinator",), workers),
    }.get(recipe, (None, ()))
    if targets is None:
        what = recipe.split(" ", 1)[1]
        targets = {"a worker": two[:1], "two workers": two, "a verifier": [dice.choice(verifiers)],
                   "the coordinator": ["coordinator"]}[what]
        if kind == "cut":
            others = [name for name in everybody if name not in targets]
    # Shorter and longer than the lease; a process that was killed comes back at once or a little later.
    longest = {"kill": 2.5, "term": 2.5, "stop": 5, "cut": 5}[kind]
    return Fault(round(at, 2), kind, tuple(targets), round(dice.uniform(0.05, longest), 2), tuple(others))
