"""The statistics behind scripts/bench_pair.sh. Usage: bench_pair_test.py SCRIPTS_LIB."""
import math
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(sys.argv.pop(1)).resolve()))
import bench_pair  # noqa: E402

# A dsv32-bench of two rows; `quick` prints at once, `slow` never ends.
PROGRAM = '''#!/bin/sh
[ "$1" != --list ] || { echo "quick 1 x; y"; echo "slow 1 x; y"; echo "last 1 x; y"; exit; }
echo "machine none"
for row in quick slow last; do
  case " $* " in *" $row "*) [ $row != slow ] || exec sleep 60; echo "$row 1.0" ;; esac
done
'''


def row(value, note="", higher_is_better=True):
    return {"value": value, "note": note, "higher_is_better": higher_is_better}


class IntervalTest(unittest.TestCase):
    def test_ranks_are_those_of_the_binomial_law(self):
        # Tables of the sign test at 5 %: the 1st of 6, 2nd of 10, 4th of 15, 6th of 20 from either end.
        for n, rank in ((6, 1), (8, 1), (9, 2), (10, 2), (12, 3), (15, 4), (20, 6)):
            values = list(range(n, 0, -1))
            self.assertEqual(bench_pair.interval(values), (rank, n + 1 - rank), n)

    def test_five_values_bound_nothing(self):
        self.assertEqual(bench_pair.interval([1, 2, 3, 4, 5]), (-math.inf, math.inf))


class VerdictTest(unittest.TestCase):
    def test_small_losses_are_none(self):
        self.assertEqual(bench_pair.verdict([0.98] * 10), "ok")
        self.assertEqual(bench_pair.verdict([0.979] * 10), "slower")

    def test_noise_around_one_is_no_loss(self):
        self.assertEqual(bench_pair.verdict([0.9] * 8 + [1.0] * 2), "ok")  # the 9th of 10 is 1
        self.assertEqual(bench_pair.verdict([0.9] * 9 + [1.1]), "slower")

    def test_ratios_above_one_are_better(self):
        self.assertEqual(bench_pair.ratio(2.0, 3.0, True), 1.5)
        self.assertEqual(bench_pair.ratio(3.0, 2.0, False), 1.5)
        self.assertIsNone(bench_pair.ratio(None, 1.0, True))
        self.assertIsNone(bench_pair.ratio(0.0, 1.0, True))


class PairsTest(unittest.TestCase):
    def pairs(self, old, new, count=10):
        out = bench_pair.Pairs("x")
        for _ in range(count):
            out.add(old, new)
        return out

    def test_values_judge_and_times_do_not(self):
        slow = self.pairs(row(1.0, "1.00 ms, limit 1 ms; n = 9"), row(0.9, "0.50 ms, limit 1 ms; LOUD, n = 1"))
        self.assertTrue(bench_pair.bad(slow))
        self.assertEqual(slow.times, [2.0] * 10)
        self.assertIn("10 of 20 runs loud", slow.line())
        self.assertFalse(bench_pair.bad(self.pairs(row(5.0, "", False), row(4.0, "", False))))

    def test_a_value_that_went_away_is_a_loss(self):
        self.assertEqual(self.pairs(row(1.0), row(None)).verdict(), "lost")
        self.assertTrue(bench_pair.bad(self.pairs(row(1.0), row(None))))
        self.assertEqual(self.pairs(row(None), row(1.0)).verdict(), "no value")
        self.assertIn("no value", self.pairs(row(None), row(None)).line())

    def test_order_alternates(self):
        self.assertEqual([bench_pair.order(i)[0] for i in range(4)], ["old", "new", "old", "new"])


class RowsTest(unittest.TestCase):
    def test_beginnings_choose(self):
        self.assertEqual(bench_pair.choose(["a_b1", "a_b16", "c"], ["a_b1"]), ["a_b1", "a_b16"])
        with self.assertRaises(SystemExit) as ended, mock.patch("sys.stderr"):
            bench_pair.choose(["a_b1"], ["a", "b"])
        self.assertEqual(ended.exception.code, 2)

    def test_long_rows_are_found_unless_named(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(bench_pair, "STARTUP", 0):
            program = pathlib.Path(folder) / "bench"
            program.write_text(PROGRAM)
            program.chmod(0o755)
            names = bench_pair.names_of(program)
            self.assertEqual(names, ["quick", "slow", "last"])
            arguments = mock.Mock(seconds=0.1, longest=2)
            self.assertEqual(bench_pair.too_long(program, names, [], arguments), ["slow"])
            self.assertEqual(bench_pair.too_long(program, names, ["slow"], arguments), [])

    def test_fewer_than_ten_pairs_are_refused(self):
        with self.assertRaises(SystemExit), mock.patch("sys.stderr"):
            bench_pair.parse(["--pairs", "9", "old", "new", "row"])


if __name__ == "__main__":
    unittest.main()
