// A model.safetensors.index.json beside one small, right shard.
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>

#include "lib/weights/shards.h"
#include "tests/fuzz/fuzz.h"

namespace {

std::filesystem::path make_folder() {
  const auto folder = std::filesystem::temp_directory_path() /
                      ("dsv32-index-fuzz-" + std::to_string(static_cast<long>(getpid())));
  std::filesystem::create_directories(folder);
  std::string header = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  header.resize(64, ' ');
  std::string file = "\x40" + std::string(7, '\0') + header + "\1\2\3\4";
  std::ofstream(folder / "one.safetensors", std::ios::binary) << file;
  return folder;
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::filesystem::path folder = make_folder();
  std::ofstream(folder / "model.safetensors.index.json", std::ios::binary)
      << dsv32::fuzz::text_of(data, size);
  return dsv32::fuzz::run([&] { dsv32::open_shards(folder, dsv32::FileAccess::mmap); });
}
