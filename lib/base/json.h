// Strict JSON in, Python-style JSON out. The only user of nlohmann-json is json.cc.
#ifndef DSV32_LIB_BASE_JSON_H_
#define DSV32_LIB_BASE_JSON_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace dsv32 {

// The caps of all JSON that is read. Who reads a text may have a lower one for its bytes.
inline constexpr int kMaxJsonDepth = 64;
inline constexpr std::size_t kMaxJsonBytes = 100'000'000;  // as safetensors has for its headers

// What a scan meets, in the order of the text. `text` lives during the call.
struct JsonEvent {
  enum class Kind : std::uint8_t {
    null,
    boolean,
    integer,  // text: its digits, of any length, as json.dumps would print them
    real,
    string,
    begin_object,
    key,
    end_object,
    begin_array,
    end_array,
  };
  Kind kind = Kind::null;
  bool boolean = false;
  double real = 0.0;
  std::string_view text{};
};

// Reads `text` once, without building a value: for headers with 100,000 entries. Strict: RFC 8259,
// no BOM, no duplicate key in an object, no lone surrogate, no number beyond double's range,
// nothing but white space behind the value. A zero byte, which is nowhere legal, is found before
// the first event. Throws bad_format, or limit for the caps above, naming `what`; exceptions of
// `on_event` pass. Duplicates are reported at the end of their object.
void scan_json(std::string_view text, std::string_view what,
               const std::function<void(const JsonEvent&)>& on_event);

struct JsonMember;

// A JSON value. Object members keep their order.
struct Json {
  enum class Kind : std::uint8_t { null, boolean, integer, real, string, array, object };

  Kind kind = Kind::null;
  bool boolean = false;
  double real = 0.0;
  std::string text{};  // a string's characters, an integer's digits
  std::vector<Json> items{};
  std::vector<JsonMember> members;  // with an initialiser clang 14 would want it complete

  bool is_object() const { return kind == Kind::object; }
  bool is_array() const { return kind == Kind::array; }
  bool is_string() const { return kind == Kind::string; }

  const Json* find(std::string_view key) const;  // null if absent, or if this is no object
};

struct JsonMember {
  std::string key{};
  Json value{};
};

// As scan_json, but returns the value.
Json parse_json(std::string_view text, std::string_view what);

// Writes \uFFFD over every escape of a lone surrogate, which no UTF-8 text can hold; `json` keeps
// its length. Returns how many there were.
std::size_t replace_lone_surrogates(std::string& json);

// Digits of an integer event or value as a number; throws bad_format, naming `what`, if it does not
// fit. Never goes through a double.
std::uint64_t parse_u64(std::string_view digits, std::string_view what);
std::int64_t parse_i64(std::string_view digits, std::string_view what);

// Python's json.dumps(value, ensure_ascii=False): ", " and ": ", floats as repr() prints them. What
// the chat encodings put into prompts.
std::string python_json(const Json& value);
std::string python_json_string(std::string_view text);
// The same without its quotes, so that pieces can be joined.
std::string json_escaped(std::string_view text);

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_JSON_H_
