#include "tests/support/checkpoint_files.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>

#include "dsv32/checkpoint.h"

namespace dsv32::test {

namespace fs = std::filesystem;

TempFolder::TempFolder() {
  std::string name = (fs::temp_directory_path() / "dsv32-test-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
  path_ = name;
}

TempFolder::~TempFolder() {
  std::error_code error;
  fs::remove_all(path_, error);
}

fs::path golden_model(const std::string& name) {
  return fs::path(DSV32_SOURCE_DIR) / "tests/golden/model" / name;
}

Tensors tensors_of(const fs::path& folder) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  Tensors tensors;
  for (const TensorInfo& t : checkpoint.tensors()) {
    tensors[t.name] = {
        t.dtype, t.shape, {reinterpret_cast<const char*>(t.data.data()), t.data.size()}};
  }
  return tensors;
}

void write_shard(const fs::path& file, const Tensors& tensors) {
  std::string header = "{", data;
  for (const auto& [name, t] : tensors) {
    std::string shape;
    for (const std::int64_t d : t.shape) shape += (shape.empty() ? "" : ",") + std::to_string(d);
    header += (header.size() > 1 ? ",\"" : "\"") + name + "\":{\"dtype\":\"" + t.dtype +
              "\",\"shape\":[" + shape + "],\"data_offsets\":[" + std::to_string(data.size()) +
              "," + std::to_string(data.size() + t.data.size()) + "]}";
    data += t.data;
  }
  header += "}";
  std::uint64_t size = header.size();
  std::string length(8, '\0');
  std::memcpy(length.data(), &size, 8);
  std::ofstream(file, std::ios::binary) << length << header << data;
}

void write_text(const fs::path& file, const std::string& text) { std::ofstream(file) << text; }

}  // namespace dsv32::test
