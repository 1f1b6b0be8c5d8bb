"""What the shared library needs and shows, and what its objects define.

usage: symbols.py LIBRARY OBJECT...
"""
import pathlib
import platform
import re
import subprocess
import sys

# Anything that ends, prints, or changes the process around us.
FORBIDDEN = re.compile(
    r"^(abort|exit|_exit|_Exit|quick_exit|at_quick_exit|__assert_fail|printf|fprintf|vprintf|vfprintf|"
    r"puts|putchar|fputs|fputc|fwrite|perror|__printf_chk|__fprintf_chk|__vfprintf_chk|stdout|stderr|"
    r"signal|sigaction|setlocale|chdir|umask|putenv|setenv|unsetenv|getenv|secure_getenv|srand|rand|"
    r"system|popen|fesetround|fesetenv|socket|connect|getaddrinfo|_ZSt4cout|_ZSt4cerr|_ZSt4clog|"
    r"_ZNSt8ios_base4InitC1Ev)(@.*)?$")


def nm(*arguments):
    return subprocess.run(["nm", *map(str, arguments)], check=True, capture_output=True,
                          text=True).stdout.splitlines()


def uses_wide_registers(path):
    """Whether an object has AVX code: flags for an instruction set belong to kernel files alone."""
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", str(path)], check=True,
                          capture_output=True, text=True).stdout
    return re.search(r"%[yz]mm\d", code) is not None


def check_portable(files):
    """None but kernel files (kernels.py) has wide code."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return
    for path in files:
        if not path.name.startswith("isa_") and uses_wide_registers(path):
            yield f"{path.name} has AVX code"


def main(library, files):
    problems = []
    for line in nm("-D", "--undefined-only", library):
        symbol = line.split()[-1]
        if FORBIDDEN.match(symbol):
            problems.append(f"the library uses {symbol}")
    exported = 0
    for line in nm("-DC", "--defined-only", library):
        kind, name = line.split(maxsplit=2)[1:]
        ours = re.match(r"(typeinfo (for|name for) |vtable for |non-virtual thunk to )?dsv32::", name)
        exported += bool(ours)
        if not ours or kind == "u":  # a unique symbol forbids unloading
            problems.append(f"the library shows {name}")
    if exported < 50:
        problems.append(f"only {exported} symbols of dsv32 are exported")
    if not files:
        problems.append("no object files")
    for path in files:
        for line in nm("-C", path):
            name = line[19:]
            if line[17:18] == "u":
                problems.append(f"{path.name} has the unique symbol {name}")
            if "_GLOBAL__sub_I" in name:
                problems.append(f"{path.name} runs code before main: {name}")
    problems.extend(check_portable(files))
    print("\n".join(problems) or f"{exported} exported symbols, {len(files)} objects: as they should be")
    return 1 if problems else 0


sys.exit(main(sys.argv[1], [pathlib.Path(path) for path in sys.argv[2:]]))
