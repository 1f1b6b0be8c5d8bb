#include "lib/base/wrong_file.h"

#include <array>

namespace dsv32 {
namespace {

struct Kind {
  std::string_view begins;
  std::string_view is;
};

constexpr std::string_view kPage =
    "a web page in place of the file, as a download that failed leaves it: download it again";
constexpr std::string_view kPickle =
    "a pickle of PyTorch, which is not read: convert the checkpoint to safetensors";

constexpr std::array kKinds = {
    Kind{"version https://git-lfs",
         "a git LFS pointer in place of the file: run `git lfs pull` in its folder"},
    Kind{"<!doctype", kPage},
    Kind{"<html", kPage},
    Kind{"<?xml", kPage},
    Kind{"pk\x03\x04",
         "a zip archive, such as a .bin or .pt of PyTorch: unpack it, or convert the "
         "checkpoint to safetensors"},
    Kind{"\x80\x02", kPickle},
    Kind{"\x80\x03", kPickle},
    Kind{"\x80\x04", kPickle},
    Kind{"\x80\x05", kPickle},
    Kind{"\x1f\x8b", "a gzip file: unpack it"},
    Kind{"gguf", "a GGUF file, which is not read: use the checkpoint that it was made from"},
};

// White space and a byte order mark, as servers put them in front of a page.
std::string_view without_leading_space(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  while (!text.empty() && (text[0] == ' ' || text[0] == '\n' || text[0] == '\r' || text[0] == '\t'))
    text.remove_prefix(1);
  return text;
}

bool begins_with(std::string_view text, std::string_view lower) {
  if (text.size() < lower.size()) return false;
  for (std::size_t i = 0; i < lower.size(); ++i) {
    const char c = text[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c) != lower[i]) return false;
  }
  return true;
}

}  // namespace

std::string_view wrong_file(std::string_view head) {
  const std::string_view text = without_leading_space(head.substr(0, 256));
  for (const Kind& kind : kKinds) {
    if (begins_with(text, kind.begins)) return kind.is;
  }
  return {};
}

}  // namespace dsv32
