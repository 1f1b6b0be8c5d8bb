// What the stand-in library has.
#ifndef DSV32_PROBE_H_
#define DSV32_PROBE_H_

int dsv32_probe();

#endif  // DSV32_PROBE_H_
