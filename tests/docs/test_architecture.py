"""Every `Name::Function` and `Function` with a capital in docs/architecture.md exists in the source."""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROOMS = ("base", "core", "service", "engine", "coordinator", "rank", "worker", "verifier", "leapctl")


def sources():
    return {path: path.read_text() for room in ROOMS for path in (ROOT / room).rglob("*.*")
            if path.suffix in (".h", ".cc") and not path.name.endswith("_test.cc")}


class Architecture(unittest.TestCase):
    def test_every_name_in_the_page_is_in_the_source(self):
        page = (ROOT / "docs" / "architecture.md").read_text()
        files = sources()
        everything = "\n".join(files.values())
        names = set(re.findall(r"`([A-Z]\w*(?:::\w+)?)`", page))
        self.assertGreater(len(names), 50)
        missing = []
        for name in sorted(names):
            owner, _, member = name.rpartition("::")
            found = f"{name}(" in everything or (
                any((f"class {owner} " in text or f"struct {owner} " in text) and f" {member}(" in text
                    for text in files.values()) if owner else
                re.search(rf"\b(class|struct) {member}\b", everything))
            if not found:
                missing.append(name)
        self.assertEqual(missing, [])

    def test_every_path_in_the_page_exists(self):
        page = (ROOT / "docs" / "architecture.md").read_text()
        paths = re.findall(r"`((?:tests|scripts|docs|coordinator|leapctl)/[\w./]*)`", page)
        self.assertEqual([path for path in paths if not (ROOT / path).exists()], [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
