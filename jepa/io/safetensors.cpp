#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/io/byte_budget.hpp>
#include <jepa/io/foreign_file.hpp>
#include <jepa/io/json_walk.hpp>
#include <jepa/io/mapped_file.hpp>
#include <jepa/io/safetensors.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>
#include <c10/util/strides.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <filesystem>
#include <limits>
#include <optional>
#include <set>

namespace jepa {
namespace {

static_assert(std::endian::native == std::endian::little, "the formats are little-endian");

constexpr uint64_t kMaxHeader = 100'000'000;  // the reference implementation's cap

struct TypeName {
  const char* name;
  at::ScalarType type;
};
constexpr TypeName kTypes[] = {
    {"BOOL", at::kBool},
    {"U8", at::kByte},
    {"I8", at::kChar},
    {"I16", at::kShort},
    {"U16", at::kUInt16},
    {"F16", at::kHalf},
    {"BF16", at::kBFloat16},
    {"I32", at::kInt},
    {"U32", at::kUInt32},
    {"F32", at::kFloat},
    {"F64", at::kDouble},
    {"I64", at::kLong},
    {"U64", at::kUInt64},
    {"F8_E4M3", at::kFloat8_e4m3fn},
    {"F8_E5M2", at::kFloat8_e5m2},
    {"C64", at::kComplexFloat},
};

struct Entry {
  std::optional<at::ScalarType> type;
  bool has_shape = false;
  bool has_offsets = false;
  std::vector<int64_t> shape;
  std::vector<uint64_t> offsets;
};

// Collects the header's entries and refuses whatever the format does not define.
class HeaderVisitor : public JsonVisitor {
 public:
  HeaderVisitor(const std::string& name, uint64_t budget) : name_(name), budget_(name, budget) {}

  std::map<std::string, Entry> entries;
  std::map<std::string, std::string> metadata;

  /// Unaligned data are copied; this is for what a tensor of its own takes beside them.
  void charge_copy() { budget_.charge(512); }

  void object(const std::vector<std::string>& path) override {
    if (path.empty()) return;
    if (path.size() != 1) fail(path, "an object where none belongs");
    const bool is_metadata = path[0] == "__metadata__";
    if (is_metadata ? seen_metadata_ : entries.contains(path[0])) fail(path, "the key comes twice");
    if (is_metadata) {
      seen_metadata_ = true;
    } else {
      budget_.charge(path[0].size() + kTensorCost);
      entries.emplace(path[0], Entry{});
    }
  }

  void array(const std::vector<std::string>& path) override {
    if (path.size() != 2) fail(path, "an array where none belongs");
    Entry& entry = find(path);
    bool* seen = path[1] == "shape"          ? &entry.has_shape
                 : path[1] == "data_offsets" ? &entry.has_offsets
                                             : nullptr;
    if (seen == nullptr) fail(path, "unknown field");
    if (*seen) fail(path, "the field comes twice");
    *seen = true;
  }

  void scalar(const std::vector<std::string>& path, const JsonScalar& value) override {
    if (path.size() < 2) fail(path, "a value where none belongs");
    const auto* text = std::get_if<std::string_view>(&value);
    if (path[0] == "__metadata__") {
      if (text == nullptr) fail(path, "metadata must be strings");
      budget_.charge(path[1].size() + text->size() + 256);
      if (!metadata.emplace(path[1], *text).second) fail(path, "the key comes twice");
      return;
    }
    Entry& entry = find(path);
    if (path.size() == 2 && path[1] == "dtype" && text != nullptr) {
      if (entry.type) fail(path, "the field comes twice");
      for (const TypeName& known : kTypes) {
        if (*text == known.name) entry.type = known.type;
      }
      if (!entry.type) fail(path, c10::str("unknown type '", text->substr(0, 32), "'"));
      return;
    }
    if (path.size() != 3) fail(path, "a value where none belongs");
    const auto* number = std::get_if<uint64_t>(&value);
    if (number == nullptr) fail(path, "a whole number that is not negative is expected");
    if (path[1] == "shape") {
      if (*number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ||
          entry.shape.size() >= 16) {
        fail(path, "the shape is too large");
      }
      budget_.charge(32);  // here, and as size and stride of the tensor
      entry.shape.push_back(static_cast<int64_t>(*number));
    } else if (path[1] == "data_offsets" && entry.offsets.size() < 2) {
      entry.offsets.push_back(*number);
    } else {
      fail(path, "a value where none belongs");
    }
  }

 private:
  // What a tensor and its map nodes take, rounded up.
  static constexpr uint64_t kTensorCost = 640;

  [[noreturn]] void fail(const std::vector<std::string>& path, const std::string& what) const {
    std::string where;
    for (const std::string& key : path) where += (where.empty() ? "" : ".") + key.substr(0, 200);
    throw CheckpointError(name_ + ": header" + (where.empty() ? "" : ", '" + where + "'") + ": " +
                          what);
  }
  Entry& find(const std::vector<std::string>& path) {
    const auto found = entries.find(path[0]);
    if (found == entries.end()) fail(path, "a value where none belongs");
    return found->second;
  }

  const std::string& name_;
  ByteBudget budget_;
  bool seen_metadata_ = false;
};

void check_entry(const std::string& file, const std::string& key, const Entry& entry,
                 uint64_t data_bytes) {
  const auto fail = [&](const std::string& what) {
    throw CheckpointError(file + ": tensor '" + key.substr(0, 200) + "': " + what);
  };
  if (!entry.type) fail("no dtype");
  if (!entry.has_shape) fail("no shape");
  if (entry.offsets.size() != 2) fail("data_offsets must be two numbers");
  const uint64_t begin = entry.offsets[0], end = entry.offsets[1];
  if (begin > end || end > data_bytes) {
    fail(c10::str("bytes ", begin, " to ", end, " of a data section of ", data_bytes));
  }
  const int64_t bytes =
      checked_bytes(entry.shape, static_cast<int64_t>(c10::elementSize(*entry.type)));
  const bool empty = std::find(entry.shape.begin(), entry.shape.end(), 0) != entry.shape.end();
  if (bytes < 0 || end - begin != (empty ? 0 : static_cast<uint64_t>(bytes))) {
    fail(c10::str("shape ", at::IntArrayRef(entry.shape), " of ", c10::toString(*entry.type),
                  " does not fit ", end - begin, " bytes"));
  }
}

SafetensorsFile read_single(const std::string& path) {
  const std::shared_ptr<MappedFile> file = MappedFile::open(path);
  const std::string_view bytes = file->bytes();
  const std::string foreign = foreign_file(bytes);
  if (!foreign.empty()) throw CheckpointError(path + ": " + foreign);
  if (bytes.size() < 8) throw CheckpointError(path + ": too short for a safetensors file");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  if (header_bytes > std::min<uint64_t>(bytes.size() - 8, kMaxHeader)) {
    throw CheckpointError(c10::str(path, ": not a safetensors file, or cut short: a header of ",
                                   header_bytes, " bytes in a file of ", bytes.size()));
  }
  // What is kept takes at most the file's size plus 768 KiB; copies of unaligned data and, before
  // that, parsing take less than the rest of what is allowed.
  HeaderVisitor header(path, bytes.size() + 768 * 1024);
  walk_json(bytes.substr(8, header_bytes), path, header);

  const uint64_t data_start = 8 + header_bytes;
  const uint64_t data_bytes = bytes.size() - data_start;
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const auto& [key, entry] : header.entries) {
    check_entry(path, key, entry, data_bytes);
    ranges.emplace_back(entry.offsets[0], entry.offsets[1]);
    if ((data_start + entry.offsets[0]) % c10::elementSize(*entry.type) != 0) {
      header.charge_copy();
    }
  }
  std::sort(ranges.begin(), ranges.end());
  uint64_t covered = 0;
  for (const auto& [begin, end] : ranges) {
    if (begin != covered) {
      throw CheckpointError(c10::str(path, ": the tensors overlap or leave a gap at byte ",
                                     std::min(begin, covered), " of the data"));
    }
    covered = end;
  }
  if (covered != data_bytes) {
    throw CheckpointError(c10::str(path, ": the header describes ", covered,
                                   " bytes of data, the file holds ", data_bytes));
  }

  SafetensorsFile result;
  result.metadata = std::move(header.metadata);
  result.mappings.push_back(file);
  for (const auto& [key, entry] : header.entries) {
    const uint64_t begin = entry.offsets[0], length = entry.offsets[1] - begin;
    const std::string_view content = bytes.substr(data_start + begin, length);
    // A bool that is neither 0 nor 1 is undefined behaviour wherever it is read.
    if (*entry.type == at::kBool &&
        std::any_of(content.begin(), content.end(), [](char c) { return c != 0 && c != 1; })) {
      throw CheckpointError(path + ": tensor '" + key + "': a BOOL that is neither 0 nor 1");
    }
    result.tensors.emplace_hint(result.tensors.end(), key,
                                file->tensor(data_start + begin, length, entry.shape,
                                             c10::contiguous_strides(entry.shape), *entry.type));
  }
  return result;
}

// `weight_map` of an index file: tensor name -> shard file name.
class IndexVisitor : public JsonVisitor {
 public:
  IndexVisitor(const std::string& name, uint64_t budget) : name_(name), budget_(name, budget) {}
  std::map<std::string, std::string> files;

  void object(const std::vector<std::string>& path) override {
    if (path.size() == 1 && path[0] == "weight_map" && std::exchange(seen_, true))
      fail("weight_map");
  }
  void array(const std::vector<std::string>&) override {}
  void scalar(const std::vector<std::string>& path, const JsonScalar& value) override {
    if (path.size() != 2 || path[0] != "weight_map") return;
    const auto* text = std::get_if<std::string_view>(&value);
    // A plain name: a shard lies beside its index and nowhere else.
    if (text == nullptr || text->empty() || text->find('/') != std::string_view::npos) {
      throw CheckpointError(name_ + ": '" + path[1].substr(0, 200) + "': not a file name");
    }
    budget_.charge(path[1].size() + text->size() + 256);
    if (!files.emplace(path[1], *text).second) fail(path[1]);
  }

 private:
  [[noreturn]] void fail(const std::string& key) const {
    throw CheckpointError(name_ + ": '" + key.substr(0, 200) + "' comes twice");
  }
  const std::string& name_;
  ByteBudget budget_;
  bool seen_ = false;
};

SafetensorsFile read_sharded(const std::string& path) {
  const std::shared_ptr<MappedFile> file = MappedFile::open(path);
  IndexVisitor index(path, file->size() + 768 * 1024);
  walk_json(file->bytes(), path, index);
  if (index.files.empty()) throw CheckpointError(path + ": no weight_map");
  std::map<std::string, TensorMap> shards;
  SafetensorsFile result;
  for (const auto& [key, name] : index.files) {
    auto shard = shards.find(name);
    if (shard == shards.end()) {
      const std::string shard_path = (std::filesystem::path(path).parent_path() / name).string();
      SafetensorsFile content = read_single(shard_path);
      result.mappings.push_back(content.mappings.front());
      shard = shards.emplace(name, std::move(content.tensors)).first;
    }
    const auto tensor = shard->second.find(key);
    if (tensor == shard->second.end()) {
      throw CheckpointError(path + ": tensor '" + key + "' is not in " + name);
    }
    result.tensors.emplace(key, tensor->second);
  }
  return result;
}

const char* type_name(const std::string& path, const std::string& key, at::ScalarType type) {
  for (const TypeName& known : kTypes) {
    if (known.type == type) return known.name;
  }
  throw CheckpointError(path + ": tensor '" + key + "' has type " + c10::toString(type) +
                        ", which safetensors does not have");
}

}  // namespace

SafetensorsFile read_safetensors(const std::string& path) {
  return path.ends_with(".index.json") ? read_sharded(path) : read_single(path);
}

void write_safetensors(const std::string& path, const TensorMap& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const TensorMap::value_type*> order;
  for (const auto& item : tensors) order.push_back(&item);
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return a->second.element_size() > b->second.element_size();
  });
  auto header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const auto* item : order) {
    const auto& [key, tensor] = *item;
    const uint64_t end = offset + static_cast<uint64_t>(tensor.numel() * tensor.element_size());
    header[key] = {{"dtype", type_name(path, key, tensor.scalar_type())},
                   {"shape", tensor.sizes().vec()},
                   {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    throw CheckpointError(path + ": a key or metadata is not UTF-8 text");
  }
  text.resize((text.size() + 8 + 63) / 64 * 64 - 8, ' ');

  AtomicFile file(path);
  const uint64_t header_bytes = text.size();
  file.write(&header_bytes, 8);
  file.write(text);
  for (const auto* item : order) {
    const at::Tensor tensor = item->second.detach().to(at::kCPU).contiguous();
    file.write(tensor.const_data_ptr(), tensor.nbytes());
  }
  file.commit();
}

}  // namespace jepa
