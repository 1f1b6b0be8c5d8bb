// Checkpoints to spoil: their tensors taken apart and written again, in folders that go away.
#ifndef DSV32_TESTS_SUPPORT_CHECKPOINT_FILES_H_
#define DSV32_TESTS_SUPPORT_CHECKPOINT_FILES_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace dsv32::test {

class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

struct Tensor {
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::string data;
};
using Tensors = std::map<std::string, Tensor>;

std::filesystem::path golden_model(const std::string& name);  // of tests/golden/model
Tensors tensors_of(const std::filesystem::path& checkpoint);
void write_shard(const std::filesystem::path& file, const Tensors& tensors);
void write_text(const std::filesystem::path& file, const std::string& text);

}  // namespace dsv32::test

#endif  // DSV32_TESTS_SUPPORT_CHECKPOINT_FILES_H_
