// V3.2's tool calls: a block of invokes with parameters in DSML markup. Strict is the grammar of
// encoding_dsv32.py; lenient is what models are known to write instead.
#ifndef DSV32_LIB_TEXT_DSML_PARSER_H_
#define DSV32_LIB_TEXT_DSML_PARSER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include "lib/text/output_parser.h"

namespace dsv32 {

class DsmlParser final : public OutputParser {
 public:
  using OutputParser::OutputParser;
  DsmlParser(const DsmlParser&) = default;

  std::unique_ptr<OutputParser> clone() const override {
    return std::make_unique<DsmlParser>(*this);
  }

 protected:
  std::size_t openers(bool reasoning, std::span<Marker> out) const override;
  Opening opening(const Match& opener) const override;
  void open_block(const Match& opener) override;
  bool block_step() override;
  void finish_block() override;
  bool in_block_gap() const override { return where_ == Where::gap; }

 private:
  enum class Where : std::uint8_t {
    open_tail,       // behind the opener's word: `>`
    gap,             // between invokes
    head,            // behind `<｜DSML｜invoke`
    parameter,       // behind `<｜DSML｜parameter`
    value,           // behind its `>`
    parameter_tail,  // behind `</｜DSML｜parameter`
    invoke_tail,     // behind `</｜DSML｜invoke`
    skip,            // in a call that was refused
  };
  enum class Gap : std::uint8_t { blank, text, raw };
  enum : std::uint8_t {
    opener = first_own,
    reasoning_opener,
    closer,
    invoke,
    invoke_line,  // with the line end before it
    invoke_close,
    block_close,
    block_close_line,
    parameter,
    parameter_close,
    string_value,
    json_value,
    stray,
  };
  // What may stand behind a head or a parameter; strict: the first two.
  static constexpr std::array<Marker, 4> kTags{{{markers::kParameterOpen, parameter},
                                                {"</｜DSML｜invoke", invoke_close},
                                                {markers::kInvokeOpen, invoke},
                                                {markers::kBlockClose, block_close}}};
  std::span<const Marker> tags() const {
    return std::span(kTags).first(options_.strict ? 2 : kTags.size());
  }

  // Between calls: dsml_parser.cc.
  Opening block(std::size_t at) const;
  Opening wrapper(std::string_view behind, std::size_t at) const;
  bool open_tail_step();
  bool gap_step();
  bool leave_gap(const Match& match);
  bool strict_gap_step();
  bool skip_step();
  bool refuse(Fault fault);  // this call; what is left of it is raw text
  void close_block(std::size_t size);
  void finish_strict();

  // In a call: dsml_call.cc.
  void enter_invoke(std::size_t tag_size);
  bool enter_tag(int id);  // behind a head or a parameter
  bool head_step();
  bool trial_head_fits(const Match& match) const;
  bool parameter_step();
  bool value_step();
  bool parameter_tail_step();
  bool strict_tail_step();
  bool invoke_tail_step();
  std::optional<std::string_view> parameter_key(std::string_view text) const;
  void take_value(std::string_view text);
  void close_parameter();
  void finish_call();

  bool go(Where where) {
    where_ = where;
    return true;
  }
  bool enter_gap() {
    gap_ = Gap::blank;
    begin_gap();
    return go(Where::gap);
  }

  Where where_ = Where::gap;
  Gap gap_ = Gap::blank;
  std::string wrapper_tag_{};  // closes what stands in place of a block, if its call ends
  std::string close_tag_{};    // of the last one whose call did
  bool tail_begun_ = false;    // lenient: the parameter's `>` is there
  std::size_t tail_size_ = 0;
  bool tail_exact_ = false;  // and behind it one newline
  bool is_string_ = false;
  std::string value_{};  // of a parameter that is no string
  std::set<std::string, std::less<>> keys_{};
  Fault skip_fault_ = Fault::none;
};

// NAME of ` name="NAME">` and a newline or two, as the reference's expression finds it.
std::optional<std::string_view> strict_dsml_name(std::string_view text);

}  // namespace dsv32

#endif  // DSV32_LIB_TEXT_DSML_PARSER_H_
