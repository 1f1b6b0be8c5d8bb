// nlohmann-json's SAX parser behind a guard: it lets duplicates, a BOM, endless depth and integers
// rounded to doubles through, and takes a zero byte for the end of the text.
#include "lib/base/json.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/float_state.h"

// nlohmann's assertions would abort.
#define JSON_ASSERT(condition) ((void)0)
#include <nlohmann/json.hpp>

namespace dsv32 {
namespace {

using Kind = JsonEvent::Kind;

bool is_integer_literal(std::string_view token) {
  return token.find_first_not_of("-0123456789") == std::string_view::npos;
}

// nlohmann's SAX interface (a concept, not a base class): checks, then passes the event on.
class Guard {
 public:
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  Guard(std::string_view what, const std::function<void(const JsonEvent&)>& on_event)
      : what_(what), on_event_(on_event) {}

  bool null() { return emit({.kind = Kind::null}); }
  bool boolean(bool value) { return emit({.kind = Kind::boolean, .boolean = value}); }
  bool number_integer(number_integer_t value) { return integer(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) { return integer(std::to_string(value)); }
  bool number_float(number_float_t value, const string_t& token) {
    if (is_integer_literal(token)) return integer(token);  // beyond 64 bits
    return emit({.kind = Kind::real, .real = value});
  }
  bool string(const string_t& value) { return emit({.kind = Kind::string, .text = value}); }
  bool binary(binary_t& /*value*/) { return false; }  // not in JSON text

  bool start_object(std::size_t /*size*/) {
    open();
    first_key_.push_back(keys_.size());
    return emit({.kind = Kind::begin_object});
  }
  bool key(const string_t& value) {
    keys_.push_back(value);
    return emit({.kind = Kind::key, .text = value});
  }
  bool end_object() {
    // Sorting instead of hashing: no set of names makes it slow.
    const auto begin = keys_.begin() + static_cast<std::ptrdiff_t>(first_key_.back());
    const auto not_above = [](const std::string& a, const std::string& b) { return a >= b; };
    auto twice = std::adjacent_find(begin, keys_.end(), not_above);
    if (twice != keys_.end()) {  // not in order already
      std::sort(begin, keys_.end());
      twice = std::adjacent_find(begin, keys_.end());
    }
    DSV32_CHECK(twice == keys_.end(), bad_format, "{}: key {} stands twice", what_, quote(*twice));
    keys_.erase(begin, keys_.end());
    first_key_.pop_back();
    --depth_;
    return emit({.kind = Kind::end_object});
  }
  bool start_array(std::size_t /*size*/) {
    open();
    return emit({.kind = Kind::begin_array});
  }
  bool end_array() {
    --depth_;
    return emit({.kind = Kind::end_array});
  }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*error*/) {
    throw Error(ErrorCode::bad_format, formatted("{}: not JSON, at byte {}", what_, position));
  }

 private:
  bool emit(const JsonEvent& event) {
    on_event_(event);
    return true;
  }
  bool integer(const std::string& digits) { return emit({.kind = Kind::integer, .text = digits}); }
  void open() {
    DSV32_CHECK(++depth_ <= kMaxJsonDepth, limit, "{}: JSON nested deeper than {} levels", what_,
                kMaxJsonDepth);
  }

  std::string_view what_;
  const std::function<void(const JsonEvent&)>& on_event_;
  int depth_ = 0;
  std::vector<std::string> keys_;       // of all open objects
  std::vector<std::size_t> first_key_;  // where each open object's keys begin
};

// Builds a Json from events.
class Builder {
 public:
  void operator()(const JsonEvent& event) {
    switch (event.kind) {
      case Kind::null:
        return put(make(Json::Kind::null));
      case Kind::boolean:
        return put(make(Json::Kind::boolean, {}, event.boolean));
      case Kind::integer:
        return put(make(Json::Kind::integer, event.text));
      case Kind::real:
        return put(make(Json::Kind::real, {}, false, event.real));
      case Kind::string:
        return put(make(Json::Kind::string, event.text));
      case Kind::key:
        return open_.back().members.push_back({std::string(event.text), {}});
      case Kind::begin_object:
        return open_.push_back(make(Json::Kind::object));
      case Kind::begin_array:
        return open_.push_back(make(Json::Kind::array));
      case Kind::end_object:
      case Kind::end_array:
        return close();
    }
  }

  Json take() { return std::move(root_); }

 private:
  static Json make(Json::Kind kind, std::string_view text = {}, bool boolean = false,
                   double real = 0.0) {
    Json value;
    value.kind = kind;
    value.text = text;
    value.boolean = boolean;
    value.real = real;
    return value;
  }
  void put(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().is_array()) {
      open_.back().items.push_back(std::move(value));
    } else {
      open_.back().members.back().value = std::move(value);
    }
  }
  void close() {
    Json value = std::move(open_.back());
    open_.pop_back();
    put(std::move(value));
  }

  Json root_;
  std::vector<Json> open_;  // at most kMaxJsonDepth
};

template <class Integer>
Integer parse_integer(std::string_view digits, std::string_view what) {
  Integer value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  DSV32_CHECK(error == std::errc() && end == digits.data() + digits.size(), bad_format,
              "{}: integer {} is out of range", what, quote(digits));
  return value;
}

// repr(float): the shortest digits that round-trip, positional for 1e-4 <= |value| < 1e16.
std::string python_float(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  std::array<char, 64> buffer{};
  const double size = std::fabs(value);
  const bool positional = size == 0.0 || (size >= 1e-4 && size < 1e16);
  const auto format = positional ? std::chars_format::fixed : std::chars_format::scientific;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, format).ptr;
  std::string text(buffer.data(), end);
  if (positional && text.find('.') == std::string::npos) text += ".0";
  return text;
}

void append_json(std::string& out, const Json& value);

void append_list(std::string& out, const Json& value) {
  const bool object = value.is_object();
  out += object ? '{' : '[';
  const std::size_t count = object ? value.members.size() : value.items.size();
  for (std::size_t i = 0; i < count; ++i) {
    if (i > 0) out += ", ";
    if (object) out += python_json_string(value.members[i].key) + ": ";
    append_json(out, object ? value.members[i].value : value.items[i]);
  }
  out += object ? '}' : ']';
}

// NOLINTNEXTLINE(misc-no-recursion): depth is at most kMaxJsonDepth
void append_json(std::string& out, const Json& value) {
  switch (value.kind) {
    case Json::Kind::null:
      out += "null";
      break;
    case Json::Kind::boolean:
      out += value.boolean ? "true" : "false";
      break;
    case Json::Kind::integer:
      out += value.text;
      break;
    case Json::Kind::real:
      out += python_float(value.real);
      break;
    case Json::Kind::string:
      out += python_json_string(value.text);
      break;
    case Json::Kind::array:
    case Json::Kind::object:
      append_list(out, value);
      break;
  }
}

}  // namespace

void scan_json(std::string_view text, std::string_view what,
               const std::function<void(const JsonEvent&)>& on_event) {
  DSV32_CHECK(text.size() <= kMaxJsonBytes, limit, "{}: {} bytes of JSON, at most {}", what,
              text.size(), kMaxJsonBytes);
  DSV32_CHECK(!text.starts_with("\xEF\xBB\xBF"), bad_format, "{}: begins with a byte order mark",
              what);
  const std::size_t zero = text.find('\0');
  DSV32_CHECK(zero == text.npos, bad_format, "{}: not JSON, a zero byte at byte {}", what, zero);
  Guard guard(what, on_event);
  const FloatState nearest;  // numbers round as they do everywhere
  nlohmann::json::sax_parse(text.begin(), text.end(), &guard);
}

Json parse_json(std::string_view text, std::string_view what) {
  Builder builder;
  scan_json(text, what, std::ref(builder));
  return builder.take();
}

const Json* Json::find(std::string_view key) const {
  for (const JsonMember& member : members) {
    if (member.key == key) return &member.value;
  }
  return nullptr;
}

std::size_t replace_lone_surrogates(std::string& json) {
  enum class Half { none, high, low };
  // What the six characters at `at` spell.
  const auto half = [&](std::size_t at) {
    if (at + 6 > json.size() || json[at] != '\\' || json[at + 1] != 'u') return Half::none;
    unsigned unit = 0;
    const char* end = json.data() + at + 6;
    const auto [stop, error] = std::from_chars(json.data() + at + 2, end, unit, 16);
    if (error != std::errc() || stop != end || unit < 0xD800 || unit > 0xDFFF) return Half::none;
    return unit < 0xDC00 ? Half::high : Half::low;
  };
  std::size_t replaced = 0;
  for (std::size_t at = json.find('\\'); at != json.npos; at = json.find('\\', at)) {
    const Half first = half(at);
    if (first == Half::high && half(at + 6) == Half::low) {
      at += 12;
    } else if (first != Half::none) {
      json.replace(at + 2, 4, "FFFD");
      ++replaced;
      at += 6;
    } else {
      at += 2;  // an escaped backslash is not the beginning of another escape
    }
  }
  return replaced;
}

std::uint64_t parse_u64(std::string_view digits, std::string_view what) {
  return parse_integer<std::uint64_t>(digits, what);
}

std::int64_t parse_i64(std::string_view digits, std::string_view what) {
  return parse_integer<std::int64_t>(digits, what);
}

std::string python_json(const Json& value) {
  const FloatState nearest;
  std::string out;
  append_json(out, value);
  return out;
}

std::string python_json_string(std::string_view text) { return '"' + json_escaped(text) + '"'; }

std::string json_escaped(std::string_view text) {
  constexpr std::string_view kShort = "\b\t\n\f\r\"\\", kLetters = "btnfr\"\\";
  const auto is_plain = [](char c) {
    return static_cast<unsigned char>(c) >= 0x20 && c != '"' && c != '\\';
  };
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    while (end < text.size() && is_plain(text[end])) ++end;
    out += text.substr(at, end - at);
    if (end == text.size()) break;
    const std::size_t known = kShort.find(text[end]);
    if (known != kShort.npos) {
      out += '\\';
      out += kLetters[known];
    } else {
      out += formatted("\\u{:04x}", static_cast<unsigned>(text[end]));
    }
    at = end + 1;
  }
  return out;
}

}  // namespace dsv32
