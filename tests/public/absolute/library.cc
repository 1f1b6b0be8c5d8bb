#include "dsv32/probe.h"

int dsv32_probe() { return 42; }
