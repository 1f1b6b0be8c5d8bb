"""That the mutation suite reads whatever a mutant prints. Usage: mutants_test.py SCRIPTS_LIB."""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(sys.argv.pop(1)).resolve()))
import mutants  # noqa: E402


class OutputTest(unittest.TestCase):
    def test_half_a_character_is_read(self):
        done = mutants.run("printf", r"half \303, whole \303\251")
        self.assertEqual((done.returncode, done.stdout), (0, "half \N{REPLACEMENT CHARACTER}, whole é"))


if __name__ == "__main__":
    unittest.main()
