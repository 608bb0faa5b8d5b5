// SPDX-License-Identifier: BSD-2-Clause
// An expression is either refused with Errc::kInvalidTrigger or gives a trigger that keeps to the contract with the
// kernel, which reads what it names without a further check.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include <tcpinfo/error.hpp>
#include <tcpinfo/trigger.hpp>

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check(const tcpinfo_operand& operand) {
  require(operand.word % 8 == 0 && operand.word + 8u <= sizeof(tcpinfo_record));
  require(operand.present_word % 8 == 0 && operand.present_word >= offsetof(tcpinfo_record, present));
  require(operand.present_word + 8u <= offsetof(tcpinfo_record, present) + sizeof(tcpinfo_record::present));
  require(operand.shift < 64 && operand.present_shift < 64);
  require(operand.mask == 0 || operand.constant == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tcpinfo;
  try {
    const auto trigger = Trigger::parse({reinterpret_cast<const char*>(data), size});
    const auto& raw = trigger.raw();
    require(raw.clauses <= TCPINFO_TRIGGER_CLAUSES && trigger.empty() == (raw.clauses == 0));
    require(raw.conditions <= TCPINFO_TRIGGER_CONDITIONS && raw.conditions >= raw.clauses);
    require(raw.grows <= TCPINFO_TRIGGER_GROWS);
    for (std::uint32_t i = 0; i < raw.grows; ++i) check(raw.grow[i]);
    for (std::uint32_t i = 0; i < raw.conditions; ++i) {
      const auto& condition = raw.condition[i];
      check(condition.left);
      check(condition.right);
      require(condition.clause < raw.clauses && condition.outcomes > 0 && condition.outcomes < 8);
      require(condition.grows == TCPINFO_TRIGGER_GROWS || condition.grows < raw.grows);
    }
    // Nothing holds where everything is absent.
    const auto none = make_record();
    tcpinfo_history history{};
    require(trigger.examine(Record(none), history) == 0);
  } catch (const Error& e) {
    require(e.code() == make_error_code(Errc::kInvalidTrigger));
  }
  return 0;
}
