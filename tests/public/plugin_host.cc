// Opens the shared object of plugin.cc and calls it. usage: plugin_host FILE
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>

int main(int argc, char** argv) {
  void* library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : nullptr;
  if (!library) return std::fprintf(stderr, "%s\n", dlerror()), 1;
  using Probe = void (*)(std::int64_t, char*, std::size_t);
  const auto probe = reinterpret_cast<Probe>(dlsym(library, "plugin_probe"));
  if (!probe) return std::fprintf(stderr, "%s\n", dlerror()), 1;
  char right[80] = "", wrong[80] = "";
  probe(8448, right, sizeof right - 1);
  probe(8447, wrong, sizeof wrong - 1);
  const bool ok = *right == 0 && std::strcmp(wrong, "a page of 8447 bytes, not 8448") == 0;
  std::printf("[%s] [%s]\n", right, wrong);
  return ok ? 0 : 1;
}
