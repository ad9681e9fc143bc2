#include <jepa/io/pickle_globals.hpp>
#include <jepa/io/pickle_machine.hpp>

#include <c10/util/StringUtil.h>

#include <bit>
#include <optional>

namespace jepa {
namespace {

// Operations of protocols 2 to 5 under the names of the format; the others are refused.
enum Operation : uint8_t {
  kProto = 0x80,
  kFrame = 0x95,
  kBinPut = 'q',
  kLongBinPut = 'r',
  kMemoize = 0x94,
  kBinGet = 'h',
  kLongBinGet = 'j',
  kGlobal = 'c',
  kStackGlobal = 0x93,
  kBinPersId = 'Q',
  kReduce = 'R',
  kNewObject = 0x81,
  kBuild = 'b',
  kNone = 'N',
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kBinFloat = 'G',
  kBinUnicode = 'X',
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kShortBinString = 'U',
  kBinString = 'T',
  kShortBinBytes = 'C',
  kBinBytes = 'B',
  kBinBytes8 = 0x8e,
  kByteArray8 = 0x96,
  kMark = '(',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kEmptyTuple = ')',
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kEmptyList = ']',
  kEmptyDict = '}',
  kTuple = 't',
  kAppend = 'a',
  kAppends = 'e',
  kSetItem = 's',
  kSetItems = 'u',
  kEmptySet = 0x8f,
  kAddItems = 0x90,
  kFrozenSet = 0x91,
  kStop = '.',
};

}  // namespace

PickleValue PickleMachine::run() {
  for (auto opcode = read<uint8_t>(); opcode != kStop; opcode = read<uint8_t>()) step(opcode);
  return pop();
}

void PickleMachine::step(uint8_t opcode) {
  if (step_scalar(opcode) || step_container(opcode)) return;
  const auto put = [&](uint64_t index) {
    // Each entry takes at least two bytes of pickle, so that an honest index is below its length.
    if (index >= length_) fail("a memo index out of range");
    if (index >= memo_.size()) {
      budget_.charge((index + 1 - memo_.size()) * sizeof(PickleValue));
      memo_.resize(index + 1);
    }
    memo_[index] = top();
  };
  const auto get = [&](uint64_t index) {
    if (index >= memo_.size()) fail("a memo index out of range");
    push(memo_[index]);
  };
  switch (opcode) {
    case kProto:
      take(1);
      break;
    case kFrame:
      take(8);
      break;
    case kBinPut:
      put(read<uint8_t>());
      break;
    case kLongBinPut:
      put(read<uint32_t>());
      break;
    case kMemoize:
      put(memo_.size());
      break;
    case kBinGet:
      get(read<uint8_t>());
      break;
    case kLongBinGet:
      get(read<uint32_t>());
      break;
    case kGlobal: {
      const std::string_view module = line();
      push_global(module, line());
      break;
    }
    case kStackGlobal: {
      const PickleValue name = pop(PickleValue::kString, "string");
      push_global(pop(PickleValue::kString, "string").string(), name.string());
      break;
    }
    case kBinPersId:
      load_persistent();
      break;
    case kReduce:
    case kNewObject:
      reduce();
      break;
    case kBuild:
      build();
      break;
    default:
      fail(c10::str("the pickle uses operation ", static_cast<int>(opcode),
                    ", which weight files do not need"));
  }
}

bool PickleMachine::step_scalar(uint8_t opcode) {
  switch (opcode) {
    case kNone:
      push({});
      return true;
    case kNewTrue:
    case kNewFalse: {
      PickleValue value;
      value.kind = PickleValue::kBool;
      value.integer = opcode == kNewTrue;
      push(value);
      return true;
    }
    case kBinInt:
      push_integer(read<int32_t>());
      return true;
    case kBinInt1:
      push_integer(read<uint8_t>());
      return true;
    case kBinInt2:
      push_integer(read<uint16_t>());
      return true;
    case kLong1:
      push_long(read<uint8_t>());
      return true;
    case kLong4:
      push_long(read<uint32_t>());
      return true;
    case kBinFloat: {
      const std::string_view bytes = take(8);
      uint64_t bits = 0;  // big-endian, alone among all
      for (const char c : bytes) bits = bits << 8 | static_cast<uint8_t>(c);
      PickleValue value;
      value.kind = PickleValue::kFloat;
      value.number = std::bit_cast<double>(bits);
      push(value);
      return true;
    }
    case kBinUnicode:
      push_string(read<uint32_t>());
      return true;
    case kShortBinUnicode:
      push_string(read<uint8_t>());
      return true;
    case kBinUnicode8:
    case kBinBytes8:
    case kByteArray8:
      push_string(read<uint64_t>());
      return true;
    case kShortBinString:
    case kShortBinBytes:
      push_string(read<uint8_t>());
      return true;
    case kBinString:
    case kBinBytes:
      push_string(read<uint32_t>());
      return true;
    default:
      return false;
  }
}

bool PickleMachine::step_container(uint8_t opcode) {
  switch (opcode) {
    case kMark:
      budget_.charge(sizeof(size_t));
      marks_.push_back(stack_.size());
      return true;
    case kPop:
      pop();
      return true;
    case kPopMark:
      stack_.resize(pop_mark());
      return true;
    case kDup:
      push(top());
      return true;
    case kEmptyTuple:
      push_container(PickleValue::kTuple, 0);
      return true;
    case kTuple1:
      push_container(PickleValue::kTuple, 1);
      return true;
    case kTuple2:
      push_container(PickleValue::kTuple, 2);
      return true;
    case kTuple3:
      push_container(PickleValue::kTuple, 3);
      return true;
    case kEmptyList:
      push_container(PickleValue::kList, 0);
      return true;
    case kEmptyDict:
      push_container(PickleValue::kDict, 0);
      return true;
    case kTuple: {
      const size_t mark = pop_mark();
      push_container(PickleValue::kTuple, stack_.size() - mark);
      return true;
    }
    case kAppend:
      top();
      append_to(PickleValue::kList, stack_.size() - 1);
      return true;
    case kAppends:
      append_to(PickleValue::kList, pop_mark());
      return true;
    case kSetItem:
      if (stack_.size() < floor() + 2) fail("a dict key without a value");
      append_to(PickleValue::kDict, stack_.size() - 2);
      return true;
    case kSetItems:
      append_to(PickleValue::kDict, pop_mark());
      return true;
    case kEmptySet:
      push_record();
      return true;
    case kAddItems:
      append_to(PickleValue::kRecord, pop_mark());
      return true;
    case kFrozenSet:
      stack_.resize(pop_mark());
      push_record();
      return true;
    default:
      return false;
  }
}

void PickleMachine::push_global(std::string_view module, std::string_view name) {
  if (const std::optional<uint32_t> known = find_pickle_global(module, name)) {
    const bool itself = pickle_global(*known).global == PickleGlobal::kValue;
    PickleValue value;
    value.kind = itself ? PickleValue::kRecord : PickleValue::kGlobal;
    value.index = *known;
    push(value);
    return;
  }
  fail(c10::str("the pickle names '", module.substr(0, 200), ".", name.substr(0, 200),
                "', which is not on the list of what weight files may hold; nothing was run"));
}

void PickleMachine::reduce() {
  const PickleValue tuple = pop(PickleValue::kTuple, "tuple");
  const PickleValue callable = pop(PickleValue::kGlobal, "callable");
  const std::vector<PickleValue>& arguments = items(tuple);
  switch (pickle_global(callable.index).global) {
    case PickleGlobal::kOrderedDict:
      if (!arguments.empty()) fail("an OrderedDict with arguments");
      push_container(PickleValue::kDict, 0);
      return;
    case PickleGlobal::kDict:
      push_container(PickleValue::kDict, 0);
      return;
    case PickleGlobal::kRecord:
    case PickleGlobal::kValue:
      push_record();
      return;
    case PickleGlobal::kSize:
      if (arguments.size() != 1 || arguments[0].kind != PickleValue::kTuple)
        fail("a malformed torch.Size");
      push(arguments[0]);
      return;
    case PickleGlobal::kParameter:
      if (arguments.empty() || arguments[0].kind != PickleValue::kTensor)
        fail("a malformed parameter");
      push(arguments[0]);
      return;
    case PickleGlobal::kTensor:
    case PickleGlobal::kTensorV2:
      rebuild_tensor(arguments);
      return;
    case PickleGlobal::kStorage:
      break;
  }
  fail("the pickle calls a storage class");
}

// Attributes are not needed; what they would be set on must be something that can have them.
void PickleMachine::build() {
  const PickleValue state = pop();
  const PickleValue::Kind kind = top().kind;
  if (kind == PickleValue::kRecord) return;
  if (kind != PickleValue::kDict || state.kind != PickleValue::kDict) {
    fail("the pickle sets attributes of something not a dict");
  }
}

}  // namespace jepa
