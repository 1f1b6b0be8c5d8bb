"""scripts/emulated.sh: a program finds the fake driver by its name, and the environment reaches it.
usage: emulated_test.py SOURCE_DIR BUILD_DIR"""
import os
import pathlib
import subprocess
import sys

PROGRAM = """
import ctypes
driver = ctypes.CDLL("libcuda.so.1")
number, address = ctypes.c_int(-1), ctypes.c_void_p()
print(driver.cuInit(0), driver.cuDriverGetVersion(ctypes.byref(number)), number.value)
print(driver.cuDeviceGetCount(ctypes.byref(number)), number.value)
context = ctypes.c_void_p()
driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
driver.cuCtxPushCurrent_v2(context)
for i in range(3):
    print(driver.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(64)))
"""


class Case:
    def __init__(self, root, build):
        self.script, self.build, self.bad = root / "scripts/emulated.sh", build, 0

    def run(self, arguments, **variables):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("FAKECUDA_", "LD_LIBRARY"))}
        return subprocess.run([self.script, *arguments], env={**clean, **variables}, text=True,
                              capture_output=True, timeout=60, check=False)

    def check(self, what, good, done):
        if not good:
            self.bad += 1
            print(f"{what}: rc {done.returncode}\n{done.stdout}{done.stderr}")

    def driver(self, what, wanted, text="", **variables):
        done = self.run(["--build", self.build, sys.executable, "-c", PROGRAM], **variables)
        self.check(what, done.stdout.split() == wanted.split() and text in done.stderr, done)


def main(root, build):
    case = Case(root, build)
    case.driver("as it is", "0 0 13000  0 2  0 0 0")
    case.driver("settings", "0 0 12080  0 1  0 0 0", FAKECUDA_DEVICES="1", FAKECUDA_VERSION="12080")
    case.driver("a failure", "0 0 13000  0 2  0 2 0", FAKECUDA_FAIL="cuMemAlloc_v2:2:2")
    case.driver("two failures", "0 0 13000  0 2  719 719 719",
                FAKECUDA_FAIL="allocation:1:719,cuInit:2:3")
    case.driver("no device", "100 0 13000  3 13000  3 3 3", FAKECUDA_DEVICES="0")
    case.driver("a stub", "34 34 -1  34 -1  34 34 34", FAKECUDA_STUB="1")
    case.driver("it vanishes", "0 0 13000  0 2  0 999 999", FAKECUDA_VANISH="7:999")
    case.driver("a report", "0 0 13000  0 2  0 0 0", "still there: device 192", FAKECUDA_REPORT="1")
    case.driver("nonsense is no setting", "", "no number", FAKECUDA_SEED="one")
    done = case.run(["--build", case.build, "sh", "-c", "exit 7"])
    case.check("the command's exit status", done.returncode == 7, done)
    done = case.run(["--build", "/nowhere", "true"])
    case.check("a build that is none", done.returncode == 2 and "fake_libcuda" in done.stderr, done)
    done = case.run([])
    case.check("no command", done.returncode != 0 or "emulated.sh" in done.stdout, done)
    print(f"{case.bad} bad")
    return 1 if case.bad else 0


sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2]))
