// Everything: Model -> Session -> Sampler -> ToolCallParser; chat() ties them together.
#ifndef DSV32_DSV32_H_
#define DSV32_DSV32_H_

// IWYU pragma: begin_exports
#include "dsv32/backend.h"
#include "dsv32/chat.h"
#include "dsv32/chat_template.h"
#include "dsv32/checkpoint.h"
#include "dsv32/communicator.h"
#include "dsv32/config.h"
#include "dsv32/engine.h"
#include "dsv32/error.h"
#include "dsv32/generation.h"
#include "dsv32/model.h"
#include "dsv32/observer.h"
#include "dsv32/sampler.h"
#include "dsv32/session.h"
#include "dsv32/tokenizer.h"
#include "dsv32/tool_call_parser.h"
#include "dsv32/types.h"
// IWYU pragma: end_exports

#endif  // DSV32_DSV32_H_
