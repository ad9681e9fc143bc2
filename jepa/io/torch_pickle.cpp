#include <jepa/errors.hpp>
#include <jepa/io/pickle_machine.hpp>
#include <jepa/io/torch_pickle.hpp>
#include <jepa/printable.hpp>

#include <c10/util/StringUtil.h>

#include <algorithm>

namespace jepa {
namespace {

// Walks the outermost value and collects tensors and scalars.
class Flattener {
 public:
  Flattener(const PickleMachine& machine, ByteBudget& budget)
      : machine_(machine), budget_(budget) {}
  TorchFile result;

  void walk(const PickleValue& value, const std::string& path, int depth) {
    // Weight files nest four deep; a value that contains itself has no end.
    if (depth > 12) machine_.fail("nested too deep");
    budget_.charge(1);
    switch (value.kind) {
      case PickleValue::kDict: {
        const std::vector<PickleValue>& items = machine_.items(value);
        for (size_t i = 0; i < items.size(); i += 2) {
          walk(items[i + 1], join(path, key_text(items[i], i / 2)), depth + 1);
        }
        return;
      }
      case PickleValue::kList:
      case PickleValue::kTuple: {
        const std::vector<PickleValue>& items = machine_.items(value);
        for (size_t i = 0; i < items.size(); ++i) {
          walk(items[i], join(path, std::to_string(i)), depth + 1);
        }
        return;
      }
      case PickleValue::kTensor:
        budget_.charge(path.size() + 96);
        if (!result.tensors.emplace(path, machine_.tensor(value)).second) fail_twice(path);
        return;
      case PickleValue::kRecord:
        return;
      default:
        if (depth > 1) return;
        budget_.charge(path.size() + value.index + 160);
        if (!result.scalars.emplace(path, scalar_text(value)).second) fail_twice(path);
    }
  }

 private:
  static std::string join(const std::string& path, const std::string& key) {
    return path.empty() ? key : path + "/" + key;
  }
  // No weight has a tuple or None for a name; what stands there keeps the key's place.
  static std::string key_text(const PickleValue& key, size_t place) {
    if (key.kind == PickleValue::kInt) return std::to_string(key.integer);
    if (key.kind != PickleValue::kString || key.index > 1024) return c10::str("[", place, "]");
    return std::string(key.string());
  }
  std::string scalar_text(const PickleValue& value) const {
    switch (value.kind) {
      case PickleValue::kNone:
        return "None";
      case PickleValue::kBool:
        return value.integer != 0 ? "true" : "false";
      case PickleValue::kInt:
        return std::to_string(value.integer);
      case PickleValue::kFloat:
        return c10::str(value.number);
      case PickleValue::kString:
        return std::string(value.string());
      default:
        machine_.fail("a class or storage where a value belongs");
    }
  }
  [[noreturn]] void fail_twice(const std::string& path) const {
    machine_.fail("'" + path.substr(0, 200) + "' comes twice");
  }

  const PickleMachine& machine_;
  ByteBudget& budget_;
};

// Zip archives that are something else than torch.save's are told by what lies in them.
void refuse_other_archives(const std::vector<ZipEntry>& entries, const std::string& path) {
  const auto any = [&](const auto& is) { return std::any_of(entries.begin(), entries.end(), is); };
  if (any([](const ZipEntry& entry) {
        return entry.name.find("/code/") != std::string_view::npos ||
               entry.name.ends_with("/constants.pkl");
      })) {
    throw CheckpointError(path +
                          ": a TorchScript archive (torch.jit.save), which holds code; save "
                          "torch.jit.load(FILE).state_dict() with torch.save instead");
  }
  if (any([](const ZipEntry& entry) { return entry.name.ends_with("/archive_format"); })) {
    throw CheckpointError(path +
                          ": an exported program (torch.export.save); save "
                          "torch.export.load(FILE).state_dict with torch.save instead");
  }
  if (any([](const ZipEntry& entry) { return entry.name.ends_with("/data.pkl"); })) return;
  if (any([](const ZipEntry& entry) { return entry.name.ends_with(".npy"); })) {
    throw CheckpointError(path + ": an archive of NumPy arrays (.npz), not a weight file");
  }
  const std::string first = entries.empty() ? "" : std::string(entries[0].name.substr(0, 80));
  throw CheckpointError(path + ": a zip archive without data.pkl, not written by torch.save (" +
                        (first.empty() ? "it is empty" : "it holds '" + printable(first) + "'") +
                        "); if the weights are packed in it, unpack it first");
}

}  // namespace

TorchFile read_torch_file(const std::string& path) {
  const std::shared_ptr<MappedFile> file = MappedFile::open(path);
  const std::string_view bytes = file->bytes();
  if (bytes.starts_with("\x80\x02")) {
    throw CheckpointError(path +
                          ": the format of PyTorch before 1.6; save it again with a newer one");
  }
  // Copies of odd storages take at most the file's size, everything else this much.
  ByteBudget budget(path, bytes.size() + 768 * 1024);
  const std::vector<ZipEntry> entries = read_zip_index(bytes, path, budget);
  refuse_other_archives(entries, path);
  const ZipEntry* pickle = nullptr;
  for (const ZipEntry& entry : entries) {
    if (entry.compressed) {
      throw CheckpointError(path + ": '" + printable(entry.name.substr(0, 200)) +
                            "' is compressed; torch.save compresses nothing: unpack the archive "
                            "and pack it again without compression (zip -0)");
    }
    if (!entry.name.ends_with("/data.pkl")) continue;
    if (pickle != nullptr) throw CheckpointError(path + ": more than one data.pkl in the archive");
    pickle = &entry;
  }
  const std::string prefix(pickle->name.substr(0, pickle->name.size() - 8));
  const ZipEntry* order = find_zip_entry(entries, prefix + "byteorder");
  if (order != nullptr && bytes.substr(order->offset, order->size) != "little") {
    throw CheckpointError(path + ": written on a big-endian machine");
  }
  PickleMachine machine(file, entries, *pickle, budget);
  const PickleValue root = machine.run();
  if (root.kind == PickleValue::kTensor)
    throw CheckpointError(path + ": a single tensor, not a state dict");
  if (root.kind != PickleValue::kDict)
    throw CheckpointError(path + ": the outermost value is not a dict");
  Flattener flattener(machine, budget);
  flattener.walk(root, "", 0);
  return std::move(flattener.result);
}

}  // namespace jepa
