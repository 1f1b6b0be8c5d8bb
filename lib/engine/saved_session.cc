#include "lib/engine/saved_session.h"

#include <algorithm>
#include <array>
#include <future>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/hash.h"
#include "lib/base/signal_block.h"
#include "lib/base/wrong_file.h"

namespace dsv32 {
namespace {

constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kByteOrder = 0x01020304;
constexpr std::array<char, 8> kMagic{'d', 's', 'v', '3', '2', 'k', 'v', '\n'};
constexpr std::size_t kMaxText = 64u << 10;
// Of pages in memory at once: large for a disk, short for who waits for a turn.
constexpr std::size_t kPiece = std::size_t{16} << 20;

constexpr std::uint32_t kMtpStale = 1, kLogits = 2;  // Head::flags

// How a file begins, then `text_bytes` of text: what the bytes depend on, a line each.
struct Head {
  std::array<char, 8> magic = kMagic;
  std::uint32_t byte_order = kByteOrder;
  std::uint32_t version = kVersion;
  std::uint32_t text_bytes = 0;
  std::uint32_t flags = 0;
  std::uint64_t tokens = 0;
  std::uint64_t page_bytes = 0;
};
static_assert(sizeof(Head) == 40 && std::is_trivially_copyable_v<Head>);

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

std::map<std::string_view, std::string_view> lines_of(std::string_view text) {
  std::map<std::string_view, std::string_view> lines;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const std::size_t equals = line.find('=');
    if (equals != line.npos) lines.emplace(line.substr(0, equals), line.substr(equals + 1));
  }
  return lines;
}

// Throws mismatch, with the first line that differs.
void check_description(const LoadedModel& model, std::string_view theirs,
                       const std::filesystem::path& path) {
  const std::string text = model.description();
  const auto saved = lines_of(theirs), here = lines_of(text);
  const auto value = [](const auto& lines, std::string_view key) {
    const auto found = lines.find(key);
    return found == lines.end() ? std::string_view("not there") : found->second;
  };
  const auto compare = [&](std::string_view key) {
    DSV32_CHECK(value(saved, key) == value(here, key), mismatch,
                "{} is of another model or form: {} was {}, is {}", quote_path(path.string()),
                quote(key), quote(value(saved, key)), quote(value(here, key)));
  };
  for (const auto& lines : {here, saved}) {
    for (const auto& [key, unused] : lines)
      if (key != "kernel_set" && key != "all_weights" && key != "weights") compare(key);
  }
  compare("weights");
  if (here.contains("all_weights") && saved.contains("all_weights")) compare("all_weights");
  if (value(saved, "kernel_set") == value(here, "kernel_set")) return;
  model.log(
      LogLevel::warning,
      formatted("{} was saved with the kernel set {}, this is {}: what comes is equal within "
                "the tolerance, not to the bit",
                quote_path(path.string()), quote(value(saved, "kernel_set")), model.kernel_set()));
}

// Runs `work` on a thread of its own, if there is one to be had: else when it is asked for.
template <class Work>
auto started(bool thread, Work work) {
  try {
    const SignalBlock no_signals;
    if (thread) return std::async(std::launch::async, work);
  } catch (const std::system_error&) {  // no more threads
  }
  return std::async(std::launch::deferred, work);
}

class Writer {
 public:
  explicit Writer(SavedFile& file) : file_(file) {}
  void write(std::span<const std::byte> bytes) {
    hash_.add(bytes);
    wait();
    file_.write(bytes);
  }
  // The same, but it may go on behind the call, until the next one.
  void write_behind(std::span<const std::byte> bytes) {
    hash_.add(bytes);
    wait();
    behind_ = started(true, [this, bytes] { file_.write(bytes); });
  }
  void write_hash() { write(bytes_of(hash_.value())); }  // of all before

 private:
  void wait() {  // throws what was thrown there
    if (behind_.valid()) behind_.get();
  }

  SavedFile& file_;
  Hash hash_;
  std::future<void> behind_;  // its end waits, too
};

class Reader {
 public:
  explicit Reader(FileReader& file) : file_(file) {}

  void read(std::span<std::byte> out) { take(out, file_.read_some(out)); }
  // The same in two parts, which may run on a thread of its own in between.
  void begin(std::span<std::byte> out, bool behind) {
    out_ = out;
    got_ = started(behind, [this, out] { return file_.read_some(out); });
  }
  std::span<std::byte> finish() {
    take(out_, got_.get());
    return out_;
  }
  template <class T>
  void read(T& value) {
    read(std::as_writable_bytes(std::span(&value, 1)));
  }
  void check_hash() {
    const std::uint64_t mine = hash_.value();
    std::uint64_t theirs = 0;
    read(theirs);
    DSV32_CHECK(mine == theirs, bad_format, "{} is damaged: its checksum is another one",
                quote_path(file_.path().string()));
  }
  void check_end() {
    std::byte more{};
    DSV32_CHECK(file_.read_some(std::span(&more, 1)) == 0, bad_format, "{} goes on after its end",
                quote_path(file_.path().string()));
  }

 private:
  void take(std::span<const std::byte> out, std::size_t got) {
    done_ += got;
    DSV32_CHECK(got == out.size(), bad_format, "{} ends at byte {}: it was cut",
                quote_path(file_.path().string()), done_);
    hash_.add(out);
  }

  FileReader& file_;
  Hash hash_;
  std::uint64_t done_ = 0;
  std::span<std::byte> out_;
  std::future<std::size_t> got_;  // its end waits, too
};

Head read_head(Reader& reader, const std::filesystem::path& path) {
  Head head;
  reader.read(head.magic);
  const std::string_view magic(head.magic.data(), head.magic.size());
  const std::string_view wrong = wrong_file(magic);
  DSV32_CHECK(head.magic == kMagic, bad_format, "{} is no saved session{}{}",
              quote_path(path.string()), wrong.empty() ? "" : " but ", wrong);
  reader.read(std::as_writable_bytes(std::span(&head, 1)).subspan(sizeof head.magic));
  DSV32_CHECK(head.byte_order == kByteOrder, unsupported,
              "{} was saved on a machine of another byte order", quote_path(path.string()));
  DSV32_CHECK(head.version == kVersion, unsupported,
              "{} has version {} of the format, this library reads version {}",
              quote_path(path.string()), head.version, kVersion);
  return head;
}

// The bytes behind head and text, with both checksums.
std::uint64_t rest_bytes(const Head& head, const LoadedModel& model) {
  const auto vocab = static_cast<std::uint64_t>(model.config.vocab_size);
  return sizeof(std::uint64_t) + head.tokens * sizeof(TokenId) +
         ((head.flags & kLogits) != 0 ? vocab * sizeof(float) : 0) +
         pages_for(head.tokens) * head.page_bytes + sizeof(std::uint64_t);
}

// What the counts of a file whose head is whole may be here.
void check_counts(const Head& head, const LoadedModel& model, const FileReader& file) {
  const std::string name = quote_path(file.path().string());
  const auto most = static_cast<std::uint64_t>(model.config.max_position_embeddings);
  DSV32_CHECK(head.tokens <= most, context_length,
              "{} has {} tokens, the model has positions for {}", name, head.tokens, most);
  DSV32_CHECK(head.page_bytes == model.page_bytes(), mismatch, "{} has pages of {} bytes, not {}",
              name, head.page_bytes, model.page_bytes());
  if (!file.size()) return;
  const std::uint64_t all = sizeof head + head.text_bytes + rest_bytes(head, model);
  DSV32_CHECK(*file.size() == all, bad_format, "{} has {} bytes, not {}", name, *file.size(), all);
}

// Pages that nobody has yet.
class TakenPages {
 public:
  TakenPages(PagePool& pool, std::size_t count) : pool_(pool), pages_(pool.take(count)) {}
  ~TakenPages() { pool_.release(pages_); }
  TakenPages(const TakenPages&) = delete;
  TakenPages& operator=(const TakenPages&) = delete;
  std::span<const std::int32_t> get() const { return pages_; }
  std::vector<std::int32_t> give() { return std::exchange(pages_, {}); }

 private:
  PagePool& pool_;
  std::vector<std::int32_t> pages_;
};

// For pages of the model: as many as a piece has room for, at least one, at most a quarter of
// `count`, so that few pages are several pieces, too.
class Piece {
 public:
  Piece(const LoadedModel& model, std::size_t count)
      : page_bytes_(model.page_bytes()),
        pages_(count == 0 ? 0 : std::clamp<std::size_t>(kPiece / page_bytes_, 1, (count + 3) / 4)),
        memory_(pages_ * page_bytes_) {}
  std::size_t pages() const { return pages_; }
  std::span<std::byte> bytes(std::size_t pages) {
    return std::span(memory_).first(pages * page_bytes_);
  }

 private:
  std::size_t page_bytes_, pages_;
  std::vector<std::byte> memory_;
};

void check_cancel(const std::stop_token& cancel) {
  DSV32_CHECK(!cancel.stop_requested(), cancelled, "the session was not saved or loaded whole");
}

}  // namespace

void write_session(LoadedModel& model, const Sequence& sequence, std::span<const float> logits,
                   SavedFile& file, const std::stop_token& cancel) {
  const std::string text = model.description();
  const std::vector<LoadedModel::PagePart> parts = sequence.page_parts();
  Head head{.text_bytes = static_cast<std::uint32_t>(text.size()),
            .tokens = sequence.size(),
            .page_bytes = model.page_bytes()};
  head.flags = (sequence.mtp_stale() ? kMtpStale : 0u) | (logits.empty() ? 0u : kLogits);
  // A disk may be no faster than a core copies: so one piece is written while the next is read.
  const bool behind = model.has_threads();
  std::array pieces{Piece(model, parts.size()), Piece(model, behind ? parts.size() : 0)};
  Writer writer(file);
  writer.write(bytes_of(head));
  writer.write(std::as_bytes(std::span(text)));
  writer.write_hash();
  writer.write(std::as_bytes(sequence.tokens()));
  writer.write(std::as_bytes(logits));
  const std::size_t pages = pieces[0].pages();
  for (std::size_t first = 0, i = 0; first < parts.size(); first += pages, ++i) {
    check_cancel(cancel);
    const auto now = std::span(parts).subspan(first, std::min(pages, parts.size() - first));
    const std::span<std::byte> bytes = pieces[behind ? i % 2 : 0].bytes(now.size());
    model.read_pages(now, bytes, cancel);
    behind ? writer.write_behind(bytes) : writer.write(bytes);
  }
  writer.write_hash();
}

std::vector<float> read_session(LoadedModel& model, Sequence& sequence, FileReader& file,
                                const std::stop_token& cancel) {
  std::vector<Piece> pieces;  // lives longer than who reads into it
  Reader reader(file);
  const Head head = read_head(reader, file.path());
  DSV32_CHECK(head.text_bytes <= kMaxText, bad_format, "{} is damaged: {} bytes of description",
              quote_path(file.path().string()), head.text_bytes);
  std::string text(head.text_bytes, '\0');
  reader.read(std::as_writable_bytes(std::span(text)));
  reader.check_hash();
  check_description(model, text, file.path());
  check_counts(head, model, file);
  TakenPages pages(model.pages(), pages_for(head.tokens));
  std::vector<TokenId> tokens(head.tokens);
  reader.read(std::as_writable_bytes(std::span(tokens)));
  const int vocab = model.config.vocab_size;
  for (const TokenId token : tokens) {
    DSV32_CHECK(token >= 0 && token < vocab, bad_format, "{} has token {}, which is not in 0..{}",
                quote_path(file.path().string()), token, vocab - 1);
  }
  std::vector<float> logits((head.flags & kLogits) != 0 ? static_cast<std::size_t>(vocab) : 0);
  reader.read(std::as_writable_bytes(std::span(logits)));
  const bool behind = model.has_threads();
  const std::span<const std::int32_t> all = pages.get();
  for (const bool needed : {true, behind}) pieces.emplace_back(model, needed ? all.size() : 0);
  const std::size_t count = pieces[0].pages();
  const auto part = [&](std::size_t first) {
    return all.subspan(first, std::min(count, all.size() - first));
  };
  const auto begin = [&](std::size_t first, std::size_t i) {
    if (first < all.size()) reader.begin(pieces[i].bytes(part(first).size()), behind);
  };
  begin(0, 0);
  for (std::size_t first = 0, i = 0; first < all.size(); first += count) {
    check_cancel(cancel);
    const std::span<std::byte> bytes = reader.finish();
    if (behind) begin(first + count, i ^= 1);
    model.write_pages(part(first), bytes, cancel);
    if (!behind) begin(first + count, i);
  }
  reader.check_hash();
  reader.check_end();
  sequence.restore(tokens, pages.give(), (head.flags & kMtpStale) != 0);
  sequence.set_written();
  return logits;
}

}  // namespace dsv32
