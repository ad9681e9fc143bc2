// PyTorch checkpoints written by hand: a zip archive with a pickle and raw storages, honest or not.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace jepa::pickle {

template <class T>
std::string bytes_of(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

/// A stored zip archive of `entries` (name, content), contents aligned to 64 bytes as PyTorch's
/// are; with `zip64` all sizes and offsets stand in zip64 fields.
inline std::string zip_of(const std::vector<std::pair<std::string, std::string>>& entries,
                          bool zip64 = false, uint64_t alignment = 64) {
  std::string archive, directory;
  const auto small = [&](uint64_t value) {
    return bytes_of<uint32_t>(zip64 ? 0xffffffffU : static_cast<uint32_t>(value));
  };
  for (const auto& [name, content] : entries) {
    const uint64_t offset = archive.size();
    const uint64_t start = offset + 30 + name.size() + 4;
    const auto padding = static_cast<uint16_t>((alignment - start % alignment) % alignment);
    const std::string common = bytes_of<uint16_t>(45) + bytes_of<uint16_t>(0) +
                               bytes_of<uint16_t>(0) + bytes_of<uint32_t>(0) +
                               bytes_of<uint32_t>(0);  // version, flags, stored, time, checksum
    archive += bytes_of<uint32_t>(0x04034b50) + common +
               bytes_of<uint32_t>(static_cast<uint32_t>(content.size())) +
               bytes_of<uint32_t>(static_cast<uint32_t>(content.size())) +
               bytes_of<uint16_t>(static_cast<uint16_t>(name.size())) +
               bytes_of<uint16_t>(static_cast<uint16_t>(padding + 4)) + name +
               bytes_of<uint16_t>(0x4246) + bytes_of<uint16_t>(padding) +
               std::string(padding, 'Z') + content;
    const std::string extra =
        !zip64
            ? ""
            : bytes_of<uint16_t>(1) + bytes_of<uint16_t>(24) + bytes_of<uint64_t>(content.size()) +
                  bytes_of<uint64_t>(content.size()) + bytes_of<uint64_t>(offset);
    directory += bytes_of<uint32_t>(0x02014b50) + bytes_of<uint16_t>(45) + common +
                 small(content.size()) + small(content.size()) +
                 bytes_of<uint16_t>(static_cast<uint16_t>(name.size())) +
                 bytes_of<uint16_t>(static_cast<uint16_t>(extra.size())) + std::string(10, '\0') +
                 small(offset) + name + extra;
  }
  const uint64_t start = archive.size(), count = entries.size();
  archive += directory;
  if (zip64) {
    archive += bytes_of<uint32_t>(0x06064b50) + bytes_of<uint64_t>(44) + bytes_of<uint16_t>(45) +
               bytes_of<uint16_t>(45) + std::string(8, '\0') + bytes_of(count) + bytes_of(count) +
               bytes_of<uint64_t>(directory.size()) + bytes_of(start) +
               bytes_of<uint32_t>(0x07064b50) + bytes_of<uint32_t>(0) +
               bytes_of<uint64_t>(start + directory.size()) + bytes_of<uint32_t>(1);
  }
  return archive + bytes_of<uint32_t>(0x06054b50) + std::string(4, '\0') +
         bytes_of<uint16_t>(static_cast<uint16_t>(count)) +
         bytes_of<uint16_t>(static_cast<uint16_t>(count)) + small(directory.size()) + small(start) +
         bytes_of<uint16_t>(0);
}

inline std::string string_of(const std::string& text) {
  return "X" + bytes_of<uint32_t>(static_cast<uint32_t>(text.size())) + text;
}
inline std::string integer_of(int32_t value) { return "J" + bytes_of(value); }
inline std::string global_of(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string tuple_of(const std::vector<std::string>& items) {
  std::string text = "(";
  for (const auto& item : items) text += item;
  return text + "t";
}
inline std::string shape_of(const std::vector<int32_t>& sizes) {
  std::vector<std::string> items;
  for (const int32_t size : sizes) items.push_back(integer_of(size));
  return tuple_of(items);
}
/// ('storage', torch.TYPEStorage, KEY, 'cpu', ITEMS), made a storage.
inline std::string storage_of(const std::string& type, const std::string& key, int32_t items) {
  return tuple_of({string_of("storage"), global_of("torch", type + "Storage"), string_of(key),
                   string_of("cpu"), integer_of(items)}) +
         "Q";
}
inline std::string tensor_of(const std::string& storage, int32_t offset,
                             const std::vector<int32_t>& sizes,
                             const std::vector<int32_t>& strides) {
  return global_of("torch._utils", "_rebuild_tensor_v2") +
         tuple_of({storage, integer_of(offset), shape_of(sizes), shape_of(strides), "\x89",
                   global_of("collections", "OrderedDict") + ")R"}) +
         "R";
}
/// A dict of keys and pickled values.
inline std::string dict_of(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string text = "}(";
  for (const auto& [key, value] : items) text += string_of(key) + value;
  return text + "u";
}
/// The archive that `torch.save` would write for this pickled value.
inline std::string checkpoint_of(const std::string& value,
                                 std::vector<std::pair<std::string, std::string>> storages = {},
                                 bool zip64 = false, uint64_t alignment = 64) {
  std::vector<std::pair<std::string, std::string>> entries = {
      {"archive/data.pkl", "\x80\x02" + value + "."}, {"archive/byteorder", "little"}};
  for (auto& [key, content] : storages) entries.emplace_back("archive/data/" + key, content);
  return zip_of(entries, zip64, alignment);
}

}  // namespace jepa::pickle
