#include "dsv32/probe.h"

int main() { return dsv32_probe() == 42 ? 0 : 1; }
