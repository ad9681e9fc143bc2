// Storages and tensors of PyTorch's pickles, checked against the archive.
#include <jepa/io/pickle_globals.hpp>
#include <jepa/io/pickle_machine.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>

namespace jepa {

// ('storage', class, key, location, items) -> storage
void PickleMachine::load_persistent() {
  const std::vector<PickleValue>& id = items(pop(PickleValue::kTuple, "tuple"));
  const bool good = id.size() == 5 && id[0].kind == PickleValue::kString &&
                    id[0].string() == "storage" && id[1].kind == PickleValue::kGlobal &&
                    pickle_global(id[1].index).global == PickleGlobal::kStorage &&
                    id[2].kind == PickleValue::kString && id[2].index < 256 &&
                    id[3].kind == PickleValue::kString && id[4].kind == PickleValue::kInt &&
                    id[4].integer >= 0;
  if (!good) fail("a storage is not described as PyTorch does");
  const std::string name = c10::str(prefix_, "data/", id[2].string());
  const ZipEntry* entry = find_zip_entry(entries_, name);
  if (entry == nullptr) fail("no entry " + name + " in the archive");
  const at::ScalarType type = pickle_global(id[1].index).type;
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
