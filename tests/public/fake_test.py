"""The full-size fake: opens fast and small, is planned, and is refused for memory.

usage: fake_test.py DSV32_PROGRAM MAKE_FAKE_SCRIPT OUT_DIR
"""
import json
import pathlib
import re
import resource
import subprocess
import sys
import time

TENSORS = 92_425


def main(program, script, out):
    made = subprocess.run([sys.executable, script, str(out)], capture_output=True, text=True, check=True).stdout
    print(made.strip())
    assert "163 shards, 92,425 tensors, 689,471,107,200 bytes" in made, made

    start = time.monotonic()
    done = subprocess.run([program, "inspect", str(out), "--verify", "headers", "--json"], capture_output=True, text=True)
    seconds = time.monotonic() - start
    resident = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    report = json.loads(done.stdout)
    print(f"inspected in {seconds:.2f} s ({seconds / TENSORS * 1e6:.2f} us a tensor), {resident:.0f} MB resident")
    assert "92425" in done.stdout and not report.get("problems"), done.stdout[:500]
    assert resident < 150, resident  # of this and the script; nothing was copied

    done = subprocess.run([program, "generate", "-m", str(out), "x"], capture_output=True, text=True)
    print(done.stderr.strip())
    assert done.returncode != 0 and "needs" in done.stderr and "are available" in done.stderr, done
    weights = float(done.stderr.split("weights ")[1].split(" GiB,")[0])
    assert 560 < weights < 642.1, weights  # without the MTP layer
    assert "--ctx" not in done.stderr and "dsv32 quantize" in done.stderr, done.stderr

    # Advice names options of the subcommand that was called.
    done = subprocess.run([program, "trace", "-m", str(out), "--ids", "-", "-o", str(out / "trace")], input="[1, 2]",
                          capture_output=True, text=True)
    print(done.stderr.strip())
    helped = subprocess.run([program, "trace", "--help"], capture_output=True, text=True).stdout
    assert done.returncode == 4 and not (out / "trace").exists(), done
    for option in re.findall(r"--[a-z][a-z-]*", done.stderr):  # reports_F10
        assert option in helped, option


main(sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]))
