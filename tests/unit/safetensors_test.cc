// weights/safetensors: what loads, and the attacks ST, OF and DT.
#include "lib/weights/safetensors.h"

#include <chrono>
#include <cstring>
#include <string>
#include <sys/mman.h>

#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

std::string length_of(std::uint64_t n) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &n, 8);
  return bytes;
}

std::string file_of(const std::string& header, std::size_t data_bytes) {
  return length_of(header.size()) + header + std::string(data_bytes, '\1');
}

std::vector<TensorInfo> parse(const std::string& file) {
  return parse_safetensors(std::as_bytes(std::span(file)), "test");
}

void refused(const std::string& file) {
  INFO(file.substr(0, 200));
  try {
    parse(file);
  } catch (const Error& error) {
    CHECK((error.code() == ErrorCode::bad_format || error.code() == ErrorCode::limit));
    CHECK(std::string_view(error.what()).size() <= 512);
    return;
  }
  FAIL("it loaded");
}

// One tensor's description with a field replaced.
std::string tensor(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

const std::string kGood =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]},)"
    R"("a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]},)"
    R"("e":{"dtype":"BF16","shape":[0,7],"data_offsets":[28,28]}})";

TEST_CASE("a good file loads, whatever its order") {
  const std::string file = file_of(kGood, 28);
  const auto tensors = parse(file);
  REQUIRE(tensors.size() == 3);
  CHECK(tensors[0].name == "b");
  CHECK(tensors[0].shape == std::vector<std::int64_t>{2, 3});
  CHECK(tensors[0].data.size() == 24);
  CHECK(reinterpret_cast<const char*>(tensors[1].data.data()) == file.data() + 8 + kGood.size());
  CHECK(tensors[2].data.empty());
  CHECK(parse(file_of("{}", 0)).empty());
  CHECK(parse(file_of(R"({"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4)).size() == 1);
}

TEST_CASE("ST-03 ST-04 ST-06 lengths that lie") {
  const std::string rest = kGood + std::string(28, '\1');
  for (const std::uint64_t n :
       {~std::uint64_t{0}, ~std::uint64_t{0} - 7, std::uint64_t{1} << 63,
        kGood.size() + (std::uint64_t{1} << 32), std::uint64_t{100'000'001}, std::uint64_t{0},
        std::uint64_t{kGood.size()} << 56, rest.size() + 1}) {
    refused(length_of(n) + rest);
  }
}

TEST_CASE("ST-07 ST-08 ST-19 what may stand around the header's object") {
  CHECK(parse(file_of(kGood + std::string(65536, ' '), 28)).size() == 3);
  for (const std::string before : {"\xEF\xBB\xBF", " ", "\t", "\n"}) {
    refused(file_of(before + kGood, 28));
  }
  for (const std::string& after :
       {std::string("x"), std::string("{}"), std::string("//"), std::string(8, '\0')}) {
    refused(file_of(kGood + after, 28));
  }
  for (const char* header : {"[]", "\"x\"", "7", "null", ""}) refused(file_of(header, 0));
}

TEST_CASE("ST-10 ST-13 ST-14 names that stand twice, metadata that is none") {
  const std::string a = "\"a\":" + tensor("\"U8\"", "[4]", "[0,4]");
  refused(file_of("{" + a + "," + a + "}", 4));
  refused(file_of("{" + a + ",\"a\":" + tensor("\"U8\"", "[4]", "[4,8]") + "}", 8));
  refused(file_of(R"({"__metadata__":{},"__metadata__":{}})", 0));
  refused(file_of(R"({"__metadata__":{"k":"1","k":"2"}})", 0));
  for (const char* value : {"1", "{}", "[]", "true", "null"}) {
    refused(file_of(std::string(R"({"__metadata__":{"k":)") + value + "}}", 0));
  }
  for (const char* value : {"[]", "\"x\"", "7"}) {
    refused(file_of(std::string(R"({"__metadata__":)") + value + "}", 0));
  }
}

TEST_CASE("ST-16 nesting bombs need no stack") {
  for (const char* open : {"[", "{\"k\":"}) {
    std::string bomb;
    for (int i = 0; i < 200'000; ++i) bomb += open;
    refused(file_of(bomb, 0));
    refused(file_of("{\"__metadata__\":" + bomb, 0));
    refused(file_of("{\"a\":{\"extra\":" + bomb, 0));
  }
}

TEST_CASE("ST-17 DT-07 numbers in any other spelling") {
  for (const char* n :
       {"16.0", "16e0", "016", "+16", "-16", "0x10", "\"16\"", "true", "null", "16_0",
        "18446744073709551616", "18446744073709551632", "[16]", "4294967312"}) {
    refused(file_of("{\"a\":" + tensor("\"U8\"", std::string("[") + n + "]", "[0,16]") + "}", 16));
    refused(file_of("{\"a\":" + tensor("\"U8\"", "[16]", std::string("[0,") + n + "]") + "}", 16));
  }
  refused(file_of("{\"a\":" + tensor("\"U8\"", "[1" + std::string(400, '0') + "]", "[0,16]") + "}",
                  16));
}

TEST_CASE("ST-20 names are never printed raw, and have a cap") {
  const std::string odd = "../\\u0000\\u202e\\u0007" + std::string(600, 'n');
  try {
    parse(file_of("{\"" + odd + "\":" + tensor("\"U8\"", "[4]", "[0,5]") + "}", 5));
    FAIL("it loaded");
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK(message.size() <= 512);
    CHECK(message.find('\a') == std::string::npos);
    CHECK(message.find("\xE2\x80\xAE") == std::string::npos);
  }
  refused(file_of(
      "{\"" + std::string(1 << 20, 'n') + "\":" + tensor("\"U8\"", "[4]", "[0,4]") + "}", 4));
}

TEST_CASE("ST-22 many tensors are linear work") {
  const auto seconds = [](int count) {
    std::string header = "{";
    for (int i = 0; i < count; ++i) {
      const std::string at = std::to_string(i), next = std::to_string(i + 1);
      header += (i > 0 ? ",\"t" : "\"t") + at +
                "\":" + tensor("\"U8\"", "[1]", "[" + at + "," + next + "]");
    }
    const std::string file = file_of(header + "}", static_cast<std::size_t>(count));
    const auto start = std::chrono::steady_clock::now();
    CHECK(parse(file).size() == static_cast<std::size_t>(count));
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  CHECK(seconds(100'000) < 20.0);  // quadratic work would take minutes
}

TEST_CASE("ST-23 any byte of a header may be anything") {
  const std::string file = file_of(kGood, 28);
  std::size_t loaded = 0;
  for (std::size_t at = 0; at < 8 + kGood.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string broken = file;
      broken[at] = static_cast<char>(value);
      try {
        for (const TensorInfo& t : parse(broken)) {
          const auto* begin = reinterpret_cast<const char*>(t.data.data());
          if (begin < broken.data() || begin + t.data.size() > broken.data() + broken.size()) {
            FAIL("a tensor lies outside the file");
          }
        }
        ++loaded;
      } catch (const Error&) {
      }
    }
  }
  CHECK(loaded >= 8 + kGood.size());  // the unchanged value of each byte
}

TEST_CASE("ST-24 OF-06 OF-07 a file that is cut, or goes on") {
  const std::string file = file_of(kGood, 28);
  for (std::size_t size = 0; size < file.size(); ++size) refused(file.substr(0, size));
  refused(file + std::string(1, '\0'));
  refused(file + "PK\x05\x06");
}

TEST_CASE("ST-25 strings that are broken") {
  for (const char* name : {"a\x01", "a\n", "a\\x", "a\\u12", "a\\", "\xff", "\\ud800"}) {
    refused(file_of(std::string("{\"") + name + "\":" + tensor("\"U8\"", "[4]", "[0,4]") + "}", 4));
  }
}

TEST_CASE("ST-26 nothing behind the file is read") {
  const std::size_t page = 4096;
  auto* map = static_cast<char*>(
      mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(map != MAP_FAILED);
  REQUIRE(mprotect(map + page, page, PROT_NONE) == 0);
  const std::string file = file_of("{}", 0);
  char* begin = map + page - file.size();
  std::memcpy(begin, file.data(), file.size());
  CHECK(parse_safetensors(std::as_bytes(std::span(begin, file.size())), "edge").empty());
  munmap(map, 2 * page);
}

TEST_CASE("OF-01 OF-02 OF-03 OF-04 OF-08 OF-09 offsets that do not tile the data") {
  for (const char* offsets :
       {"[4,0]", "[0,8]", "[1,5]", "[0,3]", "[8,12]", "[18446744073709551612,0]",
        "[18446744073709551612,18446744073709551615]", "[-4,0]", "[]", "[0]", "[0,4,4]", "[[0,4]]",
        "{\"0\":4}", "\"0,4\"", "null", "[100,104]"}) {
    refused(file_of("{\"a\":" + tensor("\"U8\"", "[4]", offsets) + "}", 4));
  }
  const auto two = [](const std::string& first, const std::string& second, std::size_t size) {
    return file_of("{\"a\":" + tensor("\"U8\"", "[4]", first) +
                       ",\"b\":" + tensor("\"U8\"", "[4]", second) + "}",
                   size);
  };
  CHECK(parse(two("[0,4]", "[4,8]", 8)).size() == 2);
  refused(two("[0,4]", "[0,4]", 4));
  refused(two("[0,4]", "[3,7]", 7));
  refused(two("[0,4]", "[5,9]", 9));
}

TEST_CASE("DT-01 DT-04 dtypes and sizes") {
  for (const char* dtype :
       {"\"F128\"", "\"f32\"", "\"BF16 \"", "\"\"", "\"F8_E4M3FN\"", "7", "null", "[\"F32\"]"}) {
    refused(file_of("{\"a\":" + tensor(dtype, "[1]", "[0,4]") + "}", 4));
  }
  // The product of the dimensions, and times the element's size, wraps to 4.
  refused(file_of("{\"a\":" + tensor("\"F32\"", "[4611686018427387905]", "[0,4]") + "}", 4));
  refused(file_of("{\"a\":" + tensor("\"U8\"", "[3,6148914691236517207,4]", "[0,4]") + "}", 4));
  refused(file_of("{\"a\":" + tensor("\"F32\"", "[2]", "[0,4]") + "}", 4));
  for (const char* missing : {R"("shape":[4],"data_offsets":[0,4])", R"("dtype":"U8","shape":[4])",
                              R"("dtype":"U8","data_offsets":[0,4])",
                              R"("dtype":"U8","shape":[4],"data_offsets":[0,4],"more":1)"}) {
    refused(file_of(std::string("{\"a\":{") + missing + "}}", 4));
  }
}

std::string shape_of(std::size_t rank, const std::string& dim) {
  std::string shape = "[";
  for (std::size_t i = 0; i < rank; ++i) shape += (i > 0 ? "," : "") + dim;
  return shape + "]";
}

TEST_CASE("reports_C9 tensors have at most eight dimensions") {
  const auto load = [](std::size_t rank) {
    return parse(file_of("{\"t\":" + tensor("\"U8\"", shape_of(rank, "1"), "[0,1]") + "}", 1));
  };
  CHECK(load(8).front().shape.size() == 8);
  for (const std::size_t rank : {9, 100, 3'000'000}) {
    INFO(rank);
    const std::string message = check_error(ErrorCode::limit, "dimensions", [&] { load(rank); });
    CHECK(message.find("\"t\"") != std::string::npos);
  }
}

TEST_CASE("reports_C9 a dimension of zero makes an empty tensor, whatever the others are") {
  for (const char* shape : {"[0]", "[0,9223372036854775807]", "[9223372036854775807,0]",
                            "[9223372036854775807,9223372036854775807,0,3]", "[0,0]"}) {
    INFO(shape);
    const auto tensors = parse(file_of("{\"t\":" + tensor("\"F32\"", shape, "[0,0]") + "}", 0));
    REQUIRE(tensors.size() == 1);
    CHECK(tensors[0].data.empty());
    refused(file_of("{\"t\":" + tensor("\"F32\"", shape, "[0,4]") + "}", 4));
  }
  refused(file_of("{\"t\":" + tensor("\"F32\"", "[9223372036854775807,4]", "[0,0]") + "}", 0));
}

}  // namespace
}  // namespace dsv32::test
