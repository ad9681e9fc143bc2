#include <jepa/io/pickle_machine.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>

#include <bit>
#include <iterator>

namespace jepa {
namespace {

// The callables and classes a weight file may name. Storage classes stand for their element type.
enum class Global : uint32_t {
  kOrderedDict,
  kDict,    // dicts with arguments of their own, which are passed over
  kRecord,  // makes something without tensors: called in name only, the result stays empty
  kValue,   // such a thing itself
  kTensor,
  kTensorV2,
  kParameter,
  kSize,
  kStorage
};

struct GlobalName {
  std::string_view module, name;
  Global global;
  at::ScalarType type = at::kFloat;
};
constexpr GlobalName kGlobals[] = {
    {"collections", "OrderedDict", Global::kOrderedDict},
    {"collections", "defaultdict", Global::kDict},
    {"pytorch_lightning.utilities.parsing", "AttributeDict", Global::kDict},
    {"lightning.pytorch.utilities.parsing", "AttributeDict", Global::kDict},
    {"lightning_fabric.utilities.data", "AttributeDict", Global::kDict},
    {"lightning.fabric.utilities.data", "AttributeDict", Global::kDict},
    {"argparse", "Namespace", Global::kRecord},
    {"types", "SimpleNamespace", Global::kRecord},
    {"numpy", "dtype", Global::kRecord},
    {"numpy", "ndarray", Global::kRecord},
    {"numpy.core.multiarray", "scalar", Global::kRecord},
    {"numpy._core.multiarray", "scalar", Global::kRecord},
    {"numpy.core.multiarray", "_reconstruct", Global::kRecord},
    {"numpy._core.multiarray", "_reconstruct", Global::kRecord},
    {"_codecs", "encode", Global::kRecord},
    {"pathlib", "Path", Global::kRecord},
    {"pathlib", "PosixPath", Global::kRecord},
    {"pathlib", "WindowsPath", Global::kRecord},
    {"pathlib", "PurePosixPath", Global::kRecord},
    {"pathlib._local", "PosixPath", Global::kRecord},
    {"datetime", "datetime", Global::kRecord},
    {"datetime", "timedelta", Global::kRecord},
    {"torch", "device", Global::kRecord},
    {"__builtin__", "set", Global::kRecord},
    {"builtins", "set", Global::kRecord},
    {"__builtin__", "slice", Global::kRecord},
    {"builtins", "slice", Global::kRecord},
    {"__builtin__", "list", Global::kValue},
    {"builtins", "list", Global::kValue},
    {"__builtin__", "dict", Global::kValue},
    {"builtins", "dict", Global::kValue},
    {"__builtin__", "int", Global::kValue},
    {"builtins", "int", Global::kValue},
    {"__builtin__", "float", Global::kValue},
    {"builtins", "float", Global::kValue},
    {"torch", "float32", Global::kValue},
    {"torch", "float64", Global::kValue},
    {"torch", "float16", Global::kValue},
    {"torch", "bfloat16", Global::kValue},
    {"torch", "int64", Global::kValue},
    {"torch._utils", "_rebuild_tensor", Global::kTensor},
    {"torch._utils", "_rebuild_tensor_v2", Global::kTensorV2},
    {"torch._utils", "_rebuild_parameter", Global::kParameter},
    {"torch", "Size", Global::kSize},
    {"torch", "FloatStorage", Global::kStorage, at::kFloat},
    {"torch", "DoubleStorage", Global::kStorage, at::kDouble},
    {"torch", "HalfStorage", Global::kStorage, at::kHalf},
    {"torch", "BFloat16Storage", Global::kStorage, at::kBFloat16},
    {"torch", "LongStorage", Global::kStorage, at::kLong},
    {"torch", "IntStorage", Global::kStorage, at::kInt},
    {"torch", "ShortStorage", Global::kStorage, at::kShort},
    {"torch", "CharStorage", Global::kStorage, at::kChar},
    {"torch", "ByteStorage", Global::kStorage, at::kByte},
    {"torch", "BoolStorage", Global::kStorage, at::kBool},
};

// Operations of protocols 2 to 4 under the names of the format; the others are refused.
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
  kBinFloat = 'G',
  kBinUnicode = 'X',
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kShortBinString = 'U',
  kBinString = 'T',
  kShortBinBytes = 'C',
  kBinBytes = 'B',
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
    case kLong1: {
      const uint8_t size = read<uint8_t>();
      if (size > 8) fail("an integer of more than 64 bits");
      const std::string_view bytes = take(size);
      // Two's complement, the last byte carries the sign.
      uint64_t number = size > 0 && static_cast<int8_t>(bytes.back()) < 0 ? ~uint64_t{0} : 0;
      std::memcpy(&number, bytes.data(), size);
      push_integer(static_cast<int64_t>(number));
      return true;
    }
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
    default:
      return false;
  }
}

void PickleMachine::push_global(std::string_view module, std::string_view name) {
  for (uint32_t i = 0; i < std::size(kGlobals); ++i) {
    if (kGlobals[i].module != module || kGlobals[i].name != name) continue;
    PickleValue value;
    const bool itself = kGlobals[i].global == Global::kValue;
    value.kind = itself ? PickleValue::kRecord : PickleValue::kGlobal;
    value.index = i;
    push(value);
    return;
  }
  fail(c10::str("the pickle names '", module.substr(0, 200), ".", name.substr(0, 200),
                "', which is not on the list of what weight files may hold; nothing was run"));
}

// ('storage', class, key, location, items) -> storage
void PickleMachine::load_persistent() {
  const std::vector<PickleValue>& id = items(pop(PickleValue::kTuple, "tuple"));
  const bool good =
      id.size() == 5 && id[0].kind == PickleValue::kString && id[0].string() == "storage" &&
      id[1].kind == PickleValue::kGlobal && kGlobals[id[1].index].global == Global::kStorage &&
      id[2].kind == PickleValue::kString && id[2].index < 256 &&
      id[3].kind == PickleValue::kString && id[4].kind == PickleValue::kInt && id[4].integer >= 0;
  if (!good) fail("a storage is not described as PyTorch does");
  const std::string name = c10::str(prefix_, "data/", id[2].string());
  const ZipEntry* entry = find_zip_entry(entries_, name);
  if (entry == nullptr) fail("no entry " + name + " in the archive");
  const at::ScalarType type = kGlobals[id[1].index].type;
  const auto count = static_cast<uint64_t>(id[4].integer);
  if (count > entry->size / c10::elementSize(type)) {
    fail(c10::str("storage ", name, " declares ", count, " items of ", c10::toString(type),
                  ", the archive holds ", entry->size, " bytes"));
  }
  budget_.charge(sizeof(PickleStorage));
  storages_.push_back({entry, type, count});
  PickleValue value;
  value.kind = PickleValue::kStorage;
  value.index = static_cast<uint32_t>(storages_.size() - 1);
  push(value);
}

void PickleMachine::reduce() {
  const PickleValue tuple = pop(PickleValue::kTuple, "tuple");
  const PickleValue callable = pop(PickleValue::kGlobal, "callable");
  const std::vector<PickleValue>& arguments = items(tuple);
  switch (kGlobals[callable.index].global) {
    case Global::kOrderedDict:
      if (!arguments.empty()) fail("an OrderedDict with arguments");
      push_container(PickleValue::kDict, 0);
      return;
    case Global::kDict:
      push_container(PickleValue::kDict, 0);
      return;
    case Global::kRecord:
    case Global::kValue: {
      PickleValue record;
      record.kind = PickleValue::kRecord;
      push(record);
      return;
    }
    case Global::kSize:
      if (arguments.size() != 1 || arguments[0].kind != PickleValue::kTuple)
        fail("a malformed torch.Size");
      push(arguments[0]);
      return;
    case Global::kParameter:
      if (arguments.empty() || arguments[0].kind != PickleValue::kTensor)
        fail("a malformed parameter");
      push(arguments[0]);
      return;
    case Global::kTensor:
    case Global::kTensorV2:
      rebuild_tensor(arguments);
      return;
    case Global::kStorage:
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

std::vector<int64_t> PickleMachine::integers(const PickleValue& tuple) const {
  if (tuple.kind != PickleValue::kTuple || items(tuple).size() > 16)
    fail("a malformed tensor shape");
  std::vector<int64_t> numbers;
  for (const PickleValue& item : items(tuple)) {
    if (item.kind != PickleValue::kInt || item.integer < 0) fail("a malformed tensor shape");
    numbers.push_back(item.integer);
  }
  return numbers;
}

// (storage, offset, sizes, strides, ...) -> tensor
void PickleMachine::rebuild_tensor(const std::vector<PickleValue>& arguments) {
  if (arguments.size() < 4 || arguments[0].kind != PickleValue::kStorage ||
      arguments[1].kind != PickleValue::kInt || arguments[1].integer < 0) {
    fail("a malformed tensor");
  }
  const PickleStorage& storage = storages_[arguments[0].index];
  const std::vector<int64_t> sizes = integers(arguments[2]);
  const std::vector<int64_t> strides = integers(arguments[3]);
  if (sizes.size() != strides.size()) fail("a tensor with more sizes than strides");
  const uint64_t item = c10::elementSize(storage.type);
  const int64_t bytes = checked_bytes(sizes, static_cast<int64_t>(item));
  const auto offset = static_cast<uint64_t>(arguments[1].integer);
  // Items from the first to the last one.
  uint64_t reach = 1;
  bool overflow = bytes < 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    uint64_t step = 0;
    if (sizes[i] == 0) reach = 0;
    if (reach == 0) continue;
    overflow |= __builtin_mul_overflow(static_cast<uint64_t>(sizes[i] - 1),
                                       static_cast<uint64_t>(strides[i]), &step);
    overflow |= __builtin_add_overflow(reach, step, &reach);
    if (overflow) break;
  }
  // More elements than the storage has (stride 0) would swell on the first copy.
  const bool too_many = reach > 0 && static_cast<uint64_t>(bytes) > storage.items * item;
  if (overflow || too_many || offset > storage.items || reach > storage.items - offset) {
    fail(c10::str("a tensor of shape ", at::IntArrayRef(sizes), ", strides ",
                  at::IntArrayRef(strides), " and offset ", arguments[1].integer,
                  " does not fit its storage of ", storage.items, " items"));
  }
  const uint64_t start = storage.entry->offset + offset * item;
  const uint64_t span = reach * item;
  if (storage.type == at::kBool) {
    copies_.charge(span);
    const std::string_view content = file_->bytes().substr(start, span);
    // A bool that is neither 0 nor 1 is undefined behaviour wherever it is read.
    if (std::any_of(content.begin(), content.end(), [](char c) { return c != 0 && c != 1; })) {
      fail("a bool that is neither 0 nor 1");
    }
  }
  const bool copied = start % item != 0;
  if (copied) copies_.charge(span);
  budget_.charge(copied ? 1152 : 640);  // of a tensor and its storage, beside the data
  tensors_.push_back(file_->tensor(start, span, sizes, strides, storage.type));
  PickleValue value;
  value.kind = PickleValue::kTensor;
  value.index = static_cast<uint32_t>(tensors_.size() - 1);
  push(value);
}

}  // namespace jepa
