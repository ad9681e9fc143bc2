// The virtual machine behind PyTorch's pickles, as far as weight files need it. Internal to io.
#pragma once

#include <jepa/errors.hpp>
#include <jepa/io/byte_budget.hpp>
#include <jepa/io/mapped_file.hpp>
#include <jepa/io/zip_index.hpp>

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace jepa {

/// A Python value. Containers, tensors and storages stand in the machine's lists, so that shared
/// and even circular values need no care, neither here nor when they are freed.
struct PickleValue {
  enum Kind : uint8_t {
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kTuple,
    kList,
    kDict,
    kTensor,
    kStorage,
    kGlobal,
    kRecord  // something of a class that is passed over
  };
  Kind kind = kNone;
  uint32_t index = 0;  // place in a list; length of a string
  union {
    int64_t integer = 0;
    double number;
    const char* text;
  };

  std::string_view string() const { return {text, index}; }
};

/// Part of an archive that tensors view.
struct PickleStorage {
  const ZipEntry* entry;
  at::ScalarType type;
  uint64_t items;
};

/// The pickle virtual machine, opcodes as protocols 2 to 5 write them for weight files.
class PickleMachine {
 public:
  PickleMachine(std::shared_ptr<MappedFile> file, const std::vector<ZipEntry>& entries,
                const ZipEntry& pickle, ByteBudget& budget)
      : file_(std::move(file)),
        entries_(entries),
        prefix_(pickle.name.substr(0, pickle.name.size() - std::strlen("data.pkl"))),
        rest_(file_->bytes().substr(pickle.offset, pickle.size)),
        length_(pickle.size),
        budget_(budget),
        copies_(file_->path(), file_->size()) {}

  /// Runs the pickle and gives what it leaves on the stack.
  PickleValue run();
  /// A dict's keys and values in turn, or a list's items.
  const std::vector<PickleValue>& items(const PickleValue& container) const {
    return containers_[container.index];
  }
  const at::Tensor& tensor(const PickleValue& value) const { return tensors_[value.index]; }

  [[noreturn]] void fail(const std::string& what) const {
    throw CheckpointError(file_->path() + ": " + what);
  }

 private:
  void step(uint8_t opcode);
  bool step_scalar(uint8_t opcode);
  bool step_container(uint8_t opcode);

  // Input.
  std::string_view take(uint64_t size) {
    if (size > rest_.size()) fail("the pickle is cut short");
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }
  template <class T>
  T read() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string_view line() {
    const size_t end = std::min(rest_.find('\n'), size_t{256});
    const std::string_view text = take(end);
    take(1);
    return text;
  }

  // Stack.
  void push(const PickleValue& value) {
    if (stack_.size() == high_water_) {
      budget_.charge(sizeof(PickleValue));
      ++high_water_;
    }
    stack_.push_back(value);
  }
  PickleValue pop() {
    if (stack_.size() <= floor()) fail("the pickle takes a value from an empty stack");
    const PickleValue value = stack_.back();
    stack_.pop_back();
    return value;
  }
  PickleValue pop(PickleValue::Kind kind, const char* what) {
    const PickleValue value = pop();
    if (value.kind != kind) fail(std::string("the pickle has no ") + what + " where one belongs");
    return value;
  }
  const PickleValue& top() {
    if (stack_.size() <= floor()) fail("the pickle takes a value from an empty stack");
    return stack_.back();
  }
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  size_t pop_mark() {
    if (marks_.empty()) fail("the pickle has no mark where one belongs");
    const size_t mark = marks_.back();
    marks_.pop_back();
    return mark;
  }

  // Values.
  void push_integer(int64_t number) {
    PickleValue value;
    value.kind = PickleValue::kInt;
    value.integer = number;
    push(value);
  }
  void push_record() {
    PickleValue value;
    value.kind = PickleValue::kRecord;
    push(value);
  }
  // An integer of `size` bytes, two's complement, the last byte carries the sign. Those over 64
  // bits (seeds, states of generators) count nothing here.
  void push_long(uint64_t size) {
    const std::string_view bytes = take(size);
    if (size > 8) return push_record();
    uint64_t number = size > 0 && static_cast<int8_t>(bytes.back()) < 0 ? ~uint64_t{0} : 0;
    std::memcpy(&number, bytes.data(), size);
    push_integer(static_cast<int64_t>(number));
  }
  // A string over 64 KiB is no name or setting: a log, a patch, an image.
  void push_string(uint64_t size) {
    const std::string_view text = take(size);
    if (size > 65535) return push_record();
    PickleValue value;
    value.kind = PickleValue::kString;
    value.index = static_cast<uint32_t>(size);
    value.text = text.data();
    push(value);
  }
  // A new container of the `count` topmost values.
  void push_container(PickleValue::Kind kind, size_t count) {
    if (count > stack_.size() - floor()) fail("the pickle takes a value from an empty stack");
    budget_.charge(sizeof(std::vector<PickleValue>));
    containers_.emplace_back();
    append(containers_.back(), count);
    PickleValue value;
    value.kind = kind;
    value.index = static_cast<uint32_t>(containers_.size() - 1);
    push(value);
  }
  // Moves the `count` topmost values of the stack into `items`.
  void append(std::vector<PickleValue>& items, size_t count) {
    const size_t before = items.capacity();
    // Vectors at most double: charged before it happens.
    if (items.size() + count > before) {
      budget_.charge(std::max(items.size() + count, 2 * before) * sizeof(PickleValue) + 16);
    }
    const auto first = stack_.end() - static_cast<std::ptrdiff_t>(count);
    items.insert(items.end(), first, stack_.end());
    stack_.erase(first, stack_.end());
  }
  void append_to(PickleValue::Kind kind, size_t mark) {
    const size_t count = stack_.size() - mark;
    if (mark <= floor()) fail("the pickle takes a value from an empty stack");
    if (kind == PickleValue::kDict && count % 2 != 0) fail("a dict key without a value");
    const PickleValue target = stack_[mark - 1];
    if (target.kind == PickleValue::kRecord) return stack_.resize(mark);
    if (target.kind != kind) fail("the pickle adds items to something that cannot hold them");
    append(containers_[target.index], count);
  }
  void push_global(std::string_view module, std::string_view name);
  void load_persistent();
  void reduce();
  void build();
  void rebuild_tensor(const std::vector<PickleValue>& arguments);
  std::vector<int64_t> integers(const PickleValue& tuple) const;

  std::shared_ptr<MappedFile> file_;
  const std::vector<ZipEntry>& entries_;
  std::string_view prefix_;
  std::string_view rest_;
  uint64_t length_;
  ByteBudget& budget_;
  ByteBudget copies_;
  std::deque<PickleValue> stack_;
  size_t high_water_ = 0;
  std::deque<size_t> marks_;
  std::deque<PickleValue> memo_;
  std::deque<std::vector<PickleValue>> containers_;
  std::deque<PickleStorage> storages_;
  std::deque<at::Tensor> tensors_;
};

}  // namespace jepa
