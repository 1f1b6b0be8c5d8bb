// The message of a parser that is gone.
#include "dsv32/tool_call_parser.h"

std::size_t length() {
#ifdef MISUSE
  return dsv32::ToolCallParser(dsv32::ChatFormat::v32, false).message().content.size();
#else
  const dsv32::ToolCallParser parser(dsv32::ChatFormat::v32, false);
  return parser.message().content.size();
#endif
}
