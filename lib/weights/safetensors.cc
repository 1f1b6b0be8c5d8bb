// One pass over the header's JSON straight into TensorInfos, then the layout check.
#include "lib/weights/safetensors.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/json.h"
#include "lib/base/wrong_file.h"

namespace dsv32 {
namespace {

using Kind = JsonEvent::Kind;

struct Entry {
  TensorInfo info;
  std::uint64_t begin = 0, end = 0;
};

// States by depth: 1 the file's object, 2 a tensor's or the metadata's, 3 a tensor's list.
class HeaderReader {
 public:
  explicit HeaderReader(std::string_view what) : what_(what) {}

  void operator()(const JsonEvent& e) {
    switch (e.kind) {
      case Kind::begin_object:
        require(depth_ == 0 || depth_ == 1, "an object in the wrong place");
        ++depth_;
        break;
      case Kind::end_object:
        if (--depth_ == 1 && !metadata_) finish_tensor();
        break;
      case Kind::begin_array:
        require(depth_ == 2 && !metadata_ && (key_ == "shape" || key_ == "data_offsets"),
                "a list in the wrong place");
        ++depth_;
        break;
      case Kind::end_array:
        --depth_;
        break;
      case Kind::key:
        read_key(e.text);
        break;
      default:
        read_value(e);
    }
  }

  std::vector<Entry> take() { return std::move(entries_); }

 private:
  void require(bool ok, const char* problem) const {
    DSV32_CHECK(ok, bad_format, "{}: header: {}, near tensor {}", what_, problem, quote(name_));
  }

  void read_key(std::string_view text) {
    if (depth_ == 1) {
      DSV32_CHECK(text.size() <= kMaxTensorName, limit, "{}: header: a name of {} bytes", what_,
                  text.size());
      metadata_ = text == "__metadata__";
      name_ = text;
      seen_ = 0;
      if (!metadata_) entries_.emplace_back().info.name = name_;
      offsets_ = 0;
      return;
    }
    key_ = text;
    if (metadata_) return;
    require(key_ == "dtype" || key_ == "shape" || key_ == "data_offsets", "an unknown field");
    ++seen_;
  }

  void read_value(const JsonEvent& e) {
    if (metadata_) {
      require(depth_ == 2 && e.kind == Kind::string, "metadata that is no string");
    } else if (depth_ == 2) {
      require(key_ == "dtype" && e.kind == Kind::string, "a value of the wrong kind");
      entries_.back().info.dtype = e.text;
    } else {
      require(depth_ == 3 && e.kind == Kind::integer, "a number that is no integer");
      read_number(parse_u64(e.text, what_));
    }
  }

  void read_number(std::uint64_t value) {
    Entry& entry = entries_.back();
    if (key_ == "shape") {
      require(value <= INT64_MAX, "a dimension beyond 2^63");
      DSV32_CHECK(entry.info.shape.size() < kMaxTensorRank, limit,
                  "{}: header: tensor {} has more than {} dimensions", what_, quote(name_),
                  kMaxTensorRank);
      entry.info.shape.push_back(static_cast<std::int64_t>(value));
    } else {
      require(offsets_ < 2, "more than two data_offsets");
      (offsets_++ == 0 ? entry.begin : entry.end) = value;
    }
  }

  void finish_tensor() { require(seen_ == 3 && offsets_ == 2, "a tensor that lacks a field"); }

  std::string_view what_;
  std::vector<Entry> entries_;
  std::string name_, key_;
  int depth_ = 0, seen_ = 0, offsets_ = 0;
  bool metadata_ = false;
};

// Bytes of a tensor; throws if the product overflows or is no whole number of bytes.
std::uint64_t tensor_bytes(const TensorInfo& info, std::string_view what) {
  const int bits = dtype_bits(info.dtype);
  DSV32_CHECK(bits > 0, bad_format, "{}: tensor {} has the unknown dtype {}", what,
              quote(info.name), quote(info.dtype));
  if (std::find(info.shape.begin(), info.shape.end(), 0) != info.shape.end()) return 0;
  std::uint64_t product = static_cast<std::uint64_t>(bits);
  for (const std::int64_t dim : info.shape) {
    DSV32_CHECK(!__builtin_mul_overflow(product, static_cast<std::uint64_t>(dim), &product),
                bad_format, "{}: the shape of tensor {} overflows", what, quote(info.name));
  }
  DSV32_CHECK(product % 8 == 0, bad_format, "{}: tensor {} is no whole number of bytes", what,
              quote(info.name));
  return product / 8;
}

// Sorted by their begin, the ranges must tile [0, size) exactly.
void check_layout(const std::vector<Entry>& entries, std::uint64_t size, std::string_view what) {
  std::vector<const Entry*> order;
  order.reserve(entries.size());
  for (const Entry& entry : entries) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const Entry* a, const Entry* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  });
  std::uint64_t next = 0, need = 0;
  for (const Entry& entry : entries) need = std::max(need, entry.end);
  DSV32_CHECK(need <= size, bad_format,
              "{}: {} bytes of tensors where its header calls for {}: {} are missing, as of a "
              "download that was cut; get the file again",
              what, size, need, need - size);
  for (const Entry* entry : order) {
    const std::string& name = entry->info.name;
    DSV32_CHECK(entry->begin == next && entry->end >= entry->begin && entry->end <= size,
                bad_format, "{}: data_offsets of tensor {} leave a hole, overlap, or lie outside",
                what, quote(name));
    DSV32_CHECK(entry->end - entry->begin == tensor_bytes(entry->info, what), bad_format,
                "{}: tensor {} has {} bytes of data, its shape says otherwise", what, quote(name),
                entry->end - entry->begin);
    next = entry->end;
  }
  DSV32_CHECK(next == size, bad_format, "{}: {} bytes behind the last tensor", what, size - next);
}

// For a file that cannot be one of safetensors: throws if it is known what else it is.
void check_kind(std::span<const std::byte> file, std::string_view what) {
  const std::string_view head(reinterpret_cast<const char*>(file.data()), file.size());
  const std::string_view other = wrong_file(head);
  DSV32_CHECK(other.empty(), bad_format, "{} is {}", what, other);
}

}  // namespace

int dtype_bits(std::string_view dtype) {
  struct Bits {
    std::string_view name;
    int bits;
  };
  static constexpr std::array<Bits, 22> kBits = {
      {{"F8_E4M3", 8}, {"F32", 32},    {"BF16", 16},       {"F8_E8M0", 8},     {"F16", 16},
       {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6},     {"F6_E3M2", 6},     {"U8", 8},
       {"I8", 8},      {"F8_E5M2", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
       {"U16", 16},    {"I32", 32},    {"U32", 32},        {"C64", 64},        {"F64", 64},
       {"I64", 64},    {"U64", 64}}};
  for (const Bits& known : kBits) {
    if (known.name == dtype) return known.bits;
  }
  return 0;
}

namespace {

std::uint64_t header_length(std::span<const std::byte> file) {
  std::uint64_t length = 0;
  for (int i = 7; i >= 0; --i)
    length = length << 8 | static_cast<std::uint64_t>(file[static_cast<std::size_t>(i)]);
  return length;
}

}  // namespace

std::size_t header_end(std::span<const std::byte> file) {
  if (file.size() < 8) return file.size();
  const std::uint64_t length = std::min<std::uint64_t>(header_length(file), kMaxHeaderBytes);
  return std::min<std::size_t>(8 + length, file.size());
}

std::vector<TensorInfo> parse_safetensors(std::span<const std::byte> file, std::string_view what) {
  if (file.size() < 8) check_kind(file, what);
  DSV32_CHECK(file.size() >= 8, bad_format, "{}: {} bytes are no safetensors file", what,
              file.size());
  const std::uint64_t length = header_length(file);
  if (length > file.size() - 8 || length == 0) check_kind(file, what);
  DSV32_CHECK(length <= kMaxHeaderBytes || length > file.size() - 8, limit,
              "{}: a header of {} bytes, more than {}", what, length, kMaxHeaderBytes);
  DSV32_CHECK(length <= file.size() - 8, bad_format, "{}: a header of {} bytes in a file of {}",
              what, length, file.size());
  // The header is validated in this copy: the mapping may change under us.
  const std::string header(reinterpret_cast<const char*>(file.data()) + 8, length);
  if (!header.starts_with('{')) check_kind(file, what);
  DSV32_CHECK(header.starts_with('{'), bad_format, "{}: the header does not begin with a brace",
              what);
  const std::size_t end = header.find_last_not_of(' ');
  DSV32_CHECK(header[end] == '}', bad_format, "{}: text behind the header's object", what);
  HeaderReader reader(what);
  scan_json(header, what, std::ref(reader));
  std::vector<Entry> entries = reader.take();
  const std::span<const std::byte> data = file.subspan(8 + length);
  check_layout(entries, data.size(), what);
  std::vector<TensorInfo> tensors;
  tensors.reserve(entries.size());
  for (Entry& entry : entries) {
    entry.info.data = data.subspan(entry.begin, entry.end - entry.begin);
    tensors.push_back(std::move(entry.info));
  }
  return tensors;
}

}  // namespace dsv32
