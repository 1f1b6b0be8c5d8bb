// The index, the shards, and how they agree.
#include "lib/weights/shards.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/json.h"
#include "lib/base/thread_pool.h"
#include "lib/weights/safetensors.h"

namespace dsv32 {
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr std::string_view kEnding = ".safetensors";
constexpr std::size_t kMaxIndexBytes = 64u << 20;
constexpr int kMaxThreads = 8;  // headers are small
constexpr std::size_t kReadStep = std::size_t{64} << 20;

using WeightMap = std::vector<std::pair<std::string, std::string>>;  // tensor, file

bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos && name.size() <= 255;
}

WeightMap read_index(const Folder& folder) {
  const std::string text = read_text(folder, kIndex, kMaxIndexBytes);
  WeightMap map;
  int depth = 0;
  bool in_map = false, found = false;
  std::string key;
  scan_json(text, kIndex, [&](const JsonEvent& e) {
    using Kind = JsonEvent::Kind;
    if (depth == 1 && e.kind == Kind::key) in_map = e.text == "weight_map";
    DSV32_CHECK(depth > 0 || e.kind == Kind::begin_object, bad_format, "{}: no JSON object",
                kIndex);
    if (e.kind == Kind::begin_object || e.kind == Kind::begin_array) {
      DSV32_CHECK(!in_map || (depth == 1 && e.kind == Kind::begin_object), bad_format,
                  "{}: weight_map is no map of strings", kIndex);
      found |= in_map;
      ++depth;
    } else if (e.kind == Kind::end_object || e.kind == Kind::end_array) {
      if (--depth == 1) in_map = false;
    } else if (in_map && depth == 2 && e.kind == Kind::key) {
      key = e.text;
    } else if (in_map && e.kind != Kind::key) {
      DSV32_CHECK(depth == 2 && e.kind == Kind::string, bad_format,
                  "{}: weight_map is no map of strings", kIndex);
      DSV32_CHECK(is_plain_name(e.text), bad_format, "{}: {} is no file name", kIndex,
                  quote(e.text));
      map.emplace_back(key, e.text);
    }
  });
  DSV32_CHECK(found, bad_format, "{}: no weight_map", kIndex);
  return map;
}

// A list of names for a message: as many as fit, and how many more there are.
std::string some_of(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 3;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kMost); ++i)
    text += (i > 0 ? ", " : "") + quote(names[i]);
  if (names.size() > kMost) text += formatted(" and {} more", names.size() - kMost);
  return text;
}

// Of files that are numbered ("model-00002-of-000163.safetensors") and have no index, all must be
// there.
void check_numbers(const std::set<std::string>& names) {
  for (const std::string& name : names) {
    const std::size_t dot = name.size() - kEnding.size(), of = name.rfind("-of-", dot);
    if (of == std::string::npos || of + 4 == dot || dot - of > 12) continue;
    const std::string digits = name.substr(of + 4, dot - of - 4);
    if (digits.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string begin = name.substr(0, name.rfind('-', of - 1) + 1), end = name.substr(of);
    const auto same = [&](const std::string& other) {
      return other.starts_with(begin) && other.ends_with(end);
    };
    const auto have = static_cast<std::uint64_t>(std::count_if(names.begin(), names.end(), same));
    const std::uint64_t all = parse_u64(digits, name);
    DSV32_CHECK(have >= all, not_found,
                "{} of the {} files {} are missing; get them again, with their index", all - have,
                all, quote(formatted("{}..{}", begin, end)));
  }
}

// Says how many of the index's files there are not; nothing if there are all.
void check_present(const Folder& folder, const std::vector<std::string>& names) {
  std::vector<std::string> missing;
  for (const std::string& name : names) {
    if (!folder.has(name)) missing.push_back(name);
  }
  DSV32_CHECK(missing.empty(), not_found,
              "{} of the {} files that {} names are missing: {}; get "
              "them again",
              missing.size(), names.size(), kIndex, some_of(missing));
}

// Files that look like the model's and are not read: a remark. Beside an index any other index and
// any *.safetensors; beside a lone model.safetensors those that would be parts of a model by their
// names.
void remark_strays(const Folder& folder, const std::vector<std::string>& read, bool by_index,
                   Shards& shards) {
  if (!by_index && read.front() != kSingle) return;  // everything was read
  std::vector<std::string> strays;
  for (const std::string& name : folder.names()) {
    if (name.starts_with('.') || std::binary_search(read.begin(), read.end(), name)) continue;
    const bool part = name.ends_with(kEnding) &&
                      (by_index || name.starts_with("model") || name.starts_with("consolidated"));
    const bool index = name.find(".safetensors.index") != std::string::npos && name != kIndex;
    if (part || index) strays.push_back(name);
  }
  if (strays.empty()) return;
  shards.remarks.push_back(
      by_index ? formatted("not read: {}: {} does not name them", some_of(strays), kIndex)
               : formatted("not read: {}: {} holds the model", some_of(strays), kSingle));
}

std::vector<std::string> shard_names(const Folder& folder, const std::optional<WeightMap>& index) {
  std::set<std::string> names;
  if (index) {
    for (const auto& [tensor, file] : *index) names.insert(file);
  } else if (folder.has(kSingle)) {
    names.insert(kSingle);
  } else {
    for (const std::string& name : folder.names()) {
      if (name.ends_with(kEnding) && !name.starts_with('.')) names.insert(name);
    }
    check_numbers(names);
    DSV32_CHECK(!names.empty(), not_found, "{} holds no *.safetensors",
                quote_path(folder.path().string()));
  }
  return {names.begin(), names.end()};
}

// Without making a path of it: an index has a hundred thousand names.
bool is_file_name_of(const std::filesystem::path& path, std::string_view name) {
  const std::string_view text = path.native();
  return text.ends_with(name) &&
         (text.size() == name.size() || text[text.size() - name.size() - 1] == '/');
}

// A tensor that the index promises lies in the file that it names.
void check_index(const WeightMap& index, Shards& shards) {
  const TensorInfo* next = shards.tensors.data();  // an index is usually sorted, too
  const TensorInfo* const end = next + shards.tensors.size();
  for (const auto& [name, file] : index) {
    const TensorInfo* tensor = next != end && next->name == name ? next : shards.find(name);
    DSV32_CHECK(tensor && is_file_name_of(tensor->file, file), mismatch,
                "{}: tensor {} is not in {}", kIndex, quote(name), quote(file));
    next = tensor + 1;
  }
  if (index.size() == shards.tensors.size()) return;  // names are different, in both
  shards.remarks.push_back(
      formatted("{} leaves out {} of the {} tensors in its files; they count all the same", kIndex,
                shards.tensors.size() - index.size(), shards.tensors.size()));
}

bool by_name(const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; }

// Merges `lists`, each of them sorted.
std::vector<TensorInfo> merge(std::vector<std::vector<TensorInfo>> lists) {
  struct Cursor {
    std::vector<TensorInfo>::iterator at, end;
  };
  const auto later = [](const Cursor& a, const Cursor& b) { return by_name(*b.at, *a.at); };
  std::vector<Cursor> heap;  // the first name in front
  std::size_t count = 0;
  for (std::vector<TensorInfo>& list : lists) {
    count += list.size();
    if (!list.empty()) heap.push_back({list.begin(), list.end()});
  }
  std::make_heap(heap.begin(), heap.end(), later);
  std::vector<TensorInfo> tensors;
  tensors.reserve(count);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    Cursor& first = heap.back();
    // A shard holds long runs of names: taken as one, until another shard's name comes first.
    const TensorInfo* const other = heap.size() > 1 ? &*heap.front().at : nullptr;
    do {
      tensors.push_back(std::move(*first.at));
    } while (++first.at != first.end && (other == nullptr || by_name(*first.at, *other)));
    if (first.at == first.end) {
      heap.pop_back();
    } else {
      std::push_heap(heap.begin(), heap.end(), later);
    }
  }
  return tensors;
}

void check_names(const std::vector<TensorInfo>& tensors) {
  const auto twice =
      std::adjacent_find(tensors.begin(), tensors.end(),
                         [](const TensorInfo& a, const TensorInfo& b) { return a.name == b.name; });
  DSV32_CHECK(twice == tensors.end(), mismatch, "tensor {} is in {} and in {}", quote(twice->name),
              quote(twice->file.filename().string()), quote((twice + 1)->file.filename().string()));
}

// As many of those threads as there are files; one file starts none.
BackendOptions header_threads(const BackendOptions& asked, std::size_t files) {
  if (asked.executor) return {.executor = asked.executor};
  return {.num_threads = std::min({pool_size(asked), static_cast<int>(files), kMaxThreads})};
}

Shards open_files(const Folder& folder, const std::vector<std::string>& names, FileAccess access,
                  const BackendOptions& threads) {
  Shards shards;
  for (const std::string& name : names) shards.files.emplace_back(folder, name, access);
  std::vector<std::vector<TensorInfo>> lists(names.size());
  ThreadPool pool(header_threads(threads, std::max<std::size_t>(names.size(), 1)));
  pool.parallel_for(static_cast<int>(names.size()), [&](int item, int) {
    const auto i = static_cast<std::size_t>(item);
    shards.files[i].read_until(8);
    shards.files[i].read_until(header_end(shards.files[i].bytes()));
    lists[i] = parse_safetensors(shards.files[i].bytes(), quote(names[i]));
    for (TensorInfo& tensor : lists[i]) tensor.file = shards.files[i].path();
    std::sort(lists[i].begin(), lists[i].end(), by_name);
  });
  shards.tensors = merge(std::move(lists));
  check_names(shards.tensors);
  return shards;
}

}  // namespace

const TensorInfo* Shards::find(std::string_view name) const {
  const auto it = std::lower_bound(
      tensors.begin(), tensors.end(), name,
      [](const TensorInfo& tensor, std::string_view wanted) { return tensor.name < wanted; });
  return it != tensors.end() && it->name == name ? &*it : nullptr;
}

std::size_t Shards::unread() const {
  std::size_t bytes = 0;
  for (const File& file : files) bytes += file.unread();
  return bytes;
}

void Shards::read_all(FunctionRef<void(std::size_t bytes)> progress) {
  for (File& file : files) {
    while (const std::size_t left = file.unread()) {
      file.read_until(file.bytes().size() - left + std::min(left, kReadStep));
      progress(left - file.unread());
    }
  }
}

std::string Shards::unmapped() const {
  const auto refused = [](const File& file) { return file.map_error() != 0; };
  const auto first = std::find_if(files.begin(), files.end(), refused);
  if (first == files.end()) return {};
  return formatted("{} of {} files cannot be mapped and are read into memory; {}: {}",
                   std::count_if(first, files.end(), refused), files.size(),
                   quote_path(first->path().string()), system_reason(first->map_error()));
}

Shards open_shards(const Folder& folder, FileAccess access, const BackendOptions& threads) {
  std::optional<WeightMap> index;
  if (folder.has(kIndex)) index = read_index(folder);
  const std::vector<std::string> names = shard_names(folder, index);
  if (index) check_present(folder, names);
  Shards shards = open_files(folder, names, access, threads);
  remark_strays(folder, names, index.has_value(), shards);
  if (index) check_index(*index, shards);
  return shards;
}

Shards open_shards(const std::filesystem::path& path, FileAccess access) {
  std::error_code error;
  const std::filesystem::path parent = path.has_parent_path() ? path.parent_path() : ".";
  Shards shards = std::filesystem::is_directory(path, error)
                      ? open_shards(Folder(path), access, {})
                      : open_files(Folder(parent), {path.filename().string()}, access, {});
  shards.read_all([](std::size_t) {});
  return shards;
}

}  // namespace dsv32
