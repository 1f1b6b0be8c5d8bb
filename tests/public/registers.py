"""registers.py OBJECT...: the sums of the micro-kernels stay in registers.

Disassembles isa_avx512bf16.cc's object and looks at every innermost loop with at least eight VDPBF16PS or VPDPBUSD,
where a product spends its time. A sum that lives in memory is stored at least once for the four products that a block adds to it, so
fewer 512-bit stores to the stack than a quarter of the products are the odd temporary. (GCC 12 has left whole tiles of
sums in memory, and a line more in a loop was enough.)
"""
import re
import subprocess
import sys

MULTIPLY, SPILL = ("vdpbf16ps", "vpdpbusd"), re.compile(r"vmov\w+\s+%zmm\d+,-?(0x)?[0-9a-f]*\(%r[sb]p")


def functions(path):
    text = subprocess.run(["objdump", "-dC", "--no-show-raw-insn", path], capture_output=True, text=True,
                          check=True).stdout
    name, body = None, []
    for line in text.splitlines():
        if head := re.match(r"[0-9a-f]+ <(.*)>:", line):
            if name:
                yield name, body
            name, body = head.group(1), []
        elif row := re.match(r"\s+([0-9a-f]+):\s+(.*)", line):
            body.append((int(row.group(1), 16), row.group(2)))
    if name:
        yield name, body


def innermost_loops(body):
    """Stretches from the target of a jump back to the jump, without another such stretch inside."""
    spans = []
    for address, code in body:
        jump = re.match(r"j\w+\s+([0-9a-f]+)", code)
        if jump and body[0][0] <= int(jump.group(1), 16) < address:
            spans.append((int(jump.group(1), 16), address))
    for begin, end in spans:
        if not any((b, e) != (begin, end) and begin <= b and e <= end for b, e in spans):
            yield [code for address, code in body if begin <= address <= end]


def main(path):
    seen, bad = 0, []
    for name, body in functions(path):
        for loop in innermost_loops(body):
            products = sum(code.startswith(MULTIPLY) for code in loop)
            if products < 8:
                continue
            seen += 1
            spills = sum(bool(SPILL.match(code)) for code in loop)
            if 4 * spills >= products:
                bad.append(f"{spills} stores to the stack beside {products} products in {name[:200]}")
    print(f"{seen} loops, {len(bad)} with sums in memory", *bad, sep="\n")
    return 1 if bad or seen < 10 else 0


sys.exit(main(next(path for path in sys.argv[1:] if path.endswith("isa_avx512bf16.cc.o"))))
