#include <jepa/errors.hpp>
#include <jepa/io/zip_index.hpp>

#include <algorithm>
#include <cstring>
#include <optional>

namespace jepa {
namespace {

constexpr uint32_t kLocalHeader = 0x04034b50;
constexpr uint32_t kCentralHeader = 0x02014b50;
constexpr uint32_t kEnd = 0x06054b50;
constexpr uint32_t kEnd64 = 0x06064b50;
constexpr uint32_t kEnd64Locator = 0x07064b50;
constexpr uint32_t kIn64 = 0xffffffff;  // the value stands in the zip64 field instead

// Little-endian fields at checked positions.
class Fields {
 public:
  Fields(std::string_view bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  template <class T>
  T at(uint64_t offset) const {
    T value;
    std::memcpy(&value, text(offset, sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string_view text(uint64_t offset, uint64_t size) const {
    if (offset > bytes_.size() || size > bytes_.size() - offset) {
      fail("a header points outside the file");
    }
    return bytes_.substr(offset, size);
  }
  uint64_t size() const { return bytes_.size(); }
  [[noreturn]] void fail(const std::string& what) const {
    throw CheckpointError(path_ + ": damaged zip archive: " + what);
  }

 private:
  std::string_view bytes_;
  const std::string& path_;
};

struct Directory {
  uint64_t entries, size, offset;
};

Directory find_directory(const Fields& fields) {
  // The end record is the last thing in the file but for a comment of at most 65,535 bytes.
  constexpr uint64_t end_size = 22;
  std::optional<uint64_t> end;
  for (uint64_t back = end_size; back <= std::min<uint64_t>(fields.size(), end_size + 65535);
       ++back) {
    const uint64_t offset = fields.size() - back;
    if (fields.at<uint32_t>(offset) == kEnd &&
        fields.at<uint16_t>(offset + 20) == back - end_size) {
      end = offset;
      break;
    }
  }
  if (!end) fields.fail("no end record (cut short?)");
  if (*end >= 20 && fields.at<uint32_t>(*end - 20) == kEnd64Locator) {
    const auto end64 = fields.at<uint64_t>(*end - 12);
    if (fields.at<uint32_t>(end64) != kEnd64) fields.fail("no zip64 end record");
    fields.text(end64, 56);
    return {fields.at<uint64_t>(end64 + 32), fields.at<uint64_t>(end64 + 40),
            fields.at<uint64_t>(end64 + 48)};
  }
  return {fields.at<uint16_t>(*end + 10), fields.at<uint32_t>(*end + 12),
          fields.at<uint32_t>(*end + 16)};
}

// The 64-bit values of an extra field, in the order the format fixes: size, stored size, offset.
void read_zip64(const Fields& fields, std::string_view extra, uint64_t& size, uint64_t& stored,
                uint64_t& offset) {
  while (extra.size() >= 4) {
    uint16_t id = 0, length = 0;
    std::memcpy(&id, extra.data(), 2);
    std::memcpy(&length, extra.data() + 2, 2);
    extra.remove_prefix(4);
    if (length > extra.size()) fields.fail("an extra field is cut short");
    std::string_view content = extra.substr(0, length);
    extra.remove_prefix(length);
    if (id != 1) continue;
    for (uint64_t* value : {&size, &stored, &offset}) {
      if (*value != kIn64) continue;
      if (content.size() < 8) fields.fail("a zip64 field is cut short");
      std::memcpy(value, content.data(), 8);
      content.remove_prefix(8);
    }
  }
}

// Reads one record of the central directory at `position` and moves past it.
ZipEntry read_record(const Fields& fields, uint64_t& position) {
  if (fields.at<uint32_t>(position) != kCentralHeader) fields.fail("no directory record");
  const uint16_t flags = fields.at<uint16_t>(position + 8);
  const uint16_t method = fields.at<uint16_t>(position + 10);
  uint64_t stored = fields.at<uint32_t>(position + 20);
  uint64_t size = fields.at<uint32_t>(position + 24);
  const uint16_t name_size = fields.at<uint16_t>(position + 28);
  const uint16_t extra_size = fields.at<uint16_t>(position + 30);
  const uint16_t comment_size = fields.at<uint16_t>(position + 32);
  uint64_t header = fields.at<uint32_t>(position + 42);
  const std::string_view name = fields.text(position + 46, name_size);
  const std::string_view extra = fields.text(position + 46 + name_size, extra_size);
  position += 46 + uint64_t{name_size} + extra_size + comment_size;
  read_zip64(fields, extra, size, stored, header);

  const std::string shown(name.substr(0, 200));
  if ((flags & 1) != 0) fields.fail("'" + shown + "' is encrypted");
  if (method == 0 && size != stored) {
    fields.fail("'" + shown + "' is not compressed and has two sizes");
  }
  fields.text(header, 30);
  if (fields.at<uint32_t>(header) != kLocalHeader) fields.fail("'" + shown + "' has no header");
  const uint16_t local_name_size = fields.at<uint16_t>(header + 26);
  if (fields.text(header + 30, local_name_size) != name) {
    fields.fail("'" + shown + "' has another name in its own header");
  }
  ZipEntry entry{name, header + 30 + local_name_size + fields.at<uint16_t>(header + 28), stored,
                 method != 0};
  fields.text(entry.offset, entry.size);
  return entry;
}

}  // namespace

std::vector<ZipEntry> read_zip_index(std::string_view bytes, const std::string& path,
                                     ByteBudget& budget) {
  if (!bytes.starts_with("PK")) throw CheckpointError(path + ": not a zip archive");
  const Fields fields(bytes, path);
  const Directory directory = find_directory(fields);
  fields.text(directory.offset, directory.size);
  if (directory.entries > directory.size / 46) fields.fail("more entries than the directory holds");
  budget.charge(directory.entries * sizeof(ZipEntry));
  std::vector<ZipEntry> entries;
  entries.reserve(directory.entries);
  uint64_t position = directory.offset;
  for (uint64_t i = 0; i < directory.entries; ++i) entries.push_back(read_record(fields, position));
  std::sort(entries.begin(), entries.end(),
            [](const ZipEntry& a, const ZipEntry& b) { return a.name < b.name; });
  const auto twice =
      std::adjacent_find(entries.begin(), entries.end(),
                         [](const ZipEntry& a, const ZipEntry& b) { return a.name == b.name; });
  if (twice != entries.end())
    fields.fail("'" + std::string(twice->name.substr(0, 200)) + "' twice");
  return entries;
}

const ZipEntry* find_zip_entry(const std::vector<ZipEntry>& entries, std::string_view name) {
  const auto found = std::lower_bound(
      entries.begin(), entries.end(), name,
      [](const ZipEntry& entry, std::string_view wanted) { return entry.name < wanted; });
  return found != entries.end() && found->name == name ? &*found : nullptr;
}

}  // namespace jepa
