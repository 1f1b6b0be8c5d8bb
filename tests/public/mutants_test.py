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

    def test_filters_are_read_as_catch_reads_them(self):
        names = ["a page, kept: FP8", "a page that is kept"]
        for pattern in ("a page that is kept", "a page that*", "*kept: FP8"):
            self.assertTrue(mutants.names_a_test(pattern, names), pattern)
        for pattern in ("a page*FP8", "a page, kept*", "a book*"):
            self.assertFalse(mutants.names_a_test(pattern, names), pattern)


if __name__ == "__main__":
    unittest.main()
