#include "mutations.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <vector>

namespace jepa::fuzz {
namespace {

size_t below(Random& random, size_t n) {
  return static_cast<size_t>(random.below(static_cast<int64_t>(std::max<size_t>(n, 1))));
}

// Numbers at the edges of what the formats' fields hold.
uint64_t edge_number(Random& random, size_t file_size) {
  const uint64_t numbers[] = {0,
                              1,
                              7,
                              0x7f,
                              0xff,
                              0xffff,
                              0x7fffffff,
                              0xffffffff,
                              uint64_t{1} << 62,
                              (uint64_t{1} << 62) + 1,
                              uint64_t{1} << 63,
                              ~uint64_t{0},
                              ~uint64_t{0} - 7,
                              file_size,
                              file_size - 8,
                              file_size + 1,
                              random.bits() % (2 * file_size + 1),
                              random.bits()};
  return numbers[below(random, std::size(numbers))];
}

void put(std::string& text, size_t position, uint64_t value, size_t bytes) {
  if (position + bytes <= text.size()) std::memcpy(text.data() + position, &value, bytes);
}

void change_bytes(std::string& text, size_t from, size_t to, Random& random) {
  if (from >= to) return;
  for (size_t i = 0; i <= below(random, 8); ++i) {
    const size_t position = from + below(random, to - from);
    if (random.below(2) == 0) {
      text[position] = static_cast<char>(text[position] ^ (1 << random.below(8)));
    } else {
      text[position] = static_cast<char>(random.bits());
    }
  }
}

// Copies, removes or moves a piece.
void rearrange(std::string& text, Random& random) {
  if (text.empty()) return;
  const size_t from = below(random, text.size());
  const size_t length = below(random, std::min<size_t>(text.size() - from, 300)) + 1;
  const std::string piece = text.substr(from, length);
  if (random.below(3) != 0) text.insert(below(random, text.size()), piece);
  if (random.below(2) == 0) text.erase(from, length);
}

// Start and length of a random run of characters in `set`.
std::pair<size_t, size_t> find_run(const std::string& text, const char* set, Random& random) {
  const size_t start = text.find_first_of(set, below(random, text.size()));
  if (start == std::string::npos) return {0, 0};
  const size_t end = std::min(text.find_first_not_of(set, start), text.size());
  return {start, end - start};
}

void change_json(std::string& text, Random& random) {
  static const std::vector<std::string> pieces = {"{",
                                                  "}",
                                                  "[",
                                                  "]",
                                                  ",",
                                                  ":",
                                                  "\"",
                                                  "null",
                                                  "true",
                                                  "-1",
                                                  "1e999",
                                                  "0.5",
                                                  "\\u0000",
                                                  "\"a\":",
                                                  "\"dtype\":\"F64\"",
                                                  "\"dtype\":\"BOOL\"",
                                                  "\"dtype\":\"F4\"",
                                                  "\"shape\":[]",
                                                  "\"shape\":[-1]",
                                                  "\"data_offsets\":[0,0]",
                                                  "\"__metadata__\":{}",
                                                  "\"encoder.layer.0.x\":{}"};
  switch (random.below(7)) {
    case 0: {  // a number at the edge
      const auto [start, length] = find_run(text, "0123456789", random);
      text.replace(start, length, std::to_string(edge_number(random, text.size())));
      break;
    }
    case 1: {  // a number slightly off
      const auto [start, length] = find_run(text, "0123456789", random);
      if (length > 0 && length < 18) {
        const int64_t number = std::stoll(text.substr(start, length)) + random.below(9) - 4;
        text.replace(start, length, std::to_string(number));
      }
      break;
    }
    case 2:
      rearrange(text, random);
      break;
    case 3:
      change_bytes(text, 0, text.size(), random);
      break;
    case 4:
      text.insert(below(random, text.size()), pieces[below(random, pieces.size())]);
      break;
    case 5: {  // an entry twice: from one brace to the next
      const size_t start = text.find("},", below(random, text.size()));
      const size_t end = start == std::string::npos ? start : text.find("},", start + 2);
      if (end != std::string::npos) text.insert(end + 2, text.substr(start + 2, end - start));
      break;
    }
    default: {  // nesting, or a long token
      const char filler[] = {'[', '{', ' ', '9', 'x', '"'};
      text.insert(below(random, text.size()),
                  std::string(below(random, 3000), filler[below(random, std::size(filler))]));
    }
  }
}

// Positions of the bytes `mark` in `text`.
std::vector<size_t> find_all(const std::string& text, const std::string& mark) {
  std::vector<size_t> found;
  for (size_t i = text.find(mark); i != std::string::npos; i = text.find(mark, i + 1)) {
    found.push_back(i);
  }
  return found;
}

void change_zip_field(std::string& file, Random& random) {
  const std::string marks[] = {"PK\x01\x02", "PK\x03\x04", "PK\x05\x06", "PK\x06\x06",
                               "PK\x06\x07"};
  const auto found = find_all(file, marks[below(random, std::size(marks))]);
  if (found.empty()) return;
  const size_t widths[] = {1, 2, 4, 8};
  const size_t position = found[below(random, found.size())] + 4 + below(random, 60);
  put(file, position, edge_number(random, file.size()), widths[below(random, std::size(widths))]);
}

// Records that contradict each other: what each reader of zip files must decide for itself.
void contradict_zip(std::string& file, Random& random) {
  const auto entries = find_all(file, "PK\x01\x02");
  const auto ends = find_all(file, "PK\x05\x06");
  if (entries.size() < 2 || ends.empty()) return;
  constexpr size_t kEntry = 46, kEnd = 22, kNameLength = 28, kLocalOffset = 42;
  const size_t one = entries[below(random, entries.size())];
  const size_t other = entries[below(random, entries.size())];
  if (std::max(one, other) + kEntry > file.size()) return;
  switch (random.below(6)) {
    case 0:  // two names for the same bytes
      file.replace(one + kLocalOffset, 4, file.substr(other + kLocalOffset, 4));
      break;
    case 1:  // one entry's sizes for another's bytes
      file.replace(one, kEntry, file.substr(other, kEntry));
      break;
    case 2: {  // the same name twice, or a path out of the archive
      const std::string names[] = {file.substr(other + kEntry, 8), "../../..", "/etc/pas",
                                   "data.pkl"};
      uint16_t length = 0;
      std::memcpy(&length, file.data() + one + kNameLength, 2);
      const std::string& name = names[below(random, std::size(names))];
      file.replace(one + kEntry, std::min<size_t>(length, name.size()), name, 0, length);
      break;
    }
    case 3:  // a second end, which points at the first one's directory or not
      file += file.substr(ends.back(), kEnd);
      break;
    case 4:  // something in front: all offsets are off
      file.insert(0, 1 + below(random, 100), 'x');
      break;
    default:  // the directory starts at another entry, the count stays
      put(file, ends.back() + 16, other, 4);
  }
}

// Where the pickle lies: behind the first local header, up to the next one.
std::pair<size_t, size_t> pickle_range(const std::string& file) {
  const size_t name = file.find("data.pkl");
  if (name == std::string::npos) return {0, 0};
  const size_t end = file.find("PK\x03\x04", name);
  return {name + 8, end == std::string::npos ? file.size() : end};
}

void change_pickle(std::string& file, Random& random) {
  static const std::string operations =
      "(.012FIJKLMNPQRSTUVXabcdeghijlopqrstu)}]\x80\x81\x82\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e"
      "\x8f\x90\x91\x92\x93\x94\x95";
  static const std::vector<std::string> pieces = {"cos\nsystem\n",
                                                  "cos\nsystem\n(X\x04\x00\x00\x00trueltR",
                                                  "cbuiltins\neval\n",
                                                  "ctorch._utils\n_rebuild_tensor_v2\n",
                                                  "ccollections\nOrderedDict\n)R",
                                                  "ctorch\nBoolStorage\n",
                                                  "r\xff\xff\xff\x7f",
                                                  "j\xff\xff\xff\xff",
                                                  "\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
                                                  "]]]]]]]]",
                                                  "((((((((",
                                                  "h\x01h\x01h\x01h\x01"};
  const auto [from, to] = pickle_range(file);
  if (from >= to) return;
  const size_t position = from + below(random, to - from);
  switch (random.below(8)) {
    case 0:
      file[position] = operations[below(random, operations.size())];
      break;
    case 1:
      put(file, position, edge_number(random, file.size()), 1 + below(random, 8));
      break;
    case 2:
      change_bytes(file, from, to, random);
      break;
    case 3: {  // overwritten in place, so that the archive stays in order
      const std::string& piece = pieces[below(random, pieces.size())];
      file.replace(position, std::min(piece.size(), to - position), piece, 0, to - position);
      break;
    }
    case 4: {  // an integer argument: shapes, strides, offsets, sizes of storages
      const size_t found = file.find_first_of("JKM", position);
      if (found < to) put(file, found + 1, edge_number(random, 1000), 1 + below(random, 4));
      break;
    }
    case 5: {  // nesting: lists, marks, tuples of tuples
      const char openers[] = {']', '(', '}', '\x85'};
      const size_t length = std::min<size_t>(1 + below(random, 3000), to - position);
      file.replace(position, length, length, openers[below(random, std::size(openers))]);
      break;
    }
    case 6: {  // another storage class
      const std::string types[] = {"DoubleStorage", "HalfStorage\nX", "BoolStorage\nX"};
      const size_t found = file.find("FloatStorage\n", from);
      if (found < to) file.replace(found, 13, types[below(random, std::size(types))], 0, 13);
      break;
    }
    default: {  // one piece over another of the same length
      const size_t length = std::min<size_t>(1 + below(random, 60), to - position);
      const size_t other = from + below(random, to - from - length + 1);
      file.replace(position, length, file.substr(other, length));
    }
  }
}

// Writes the checksums of a PNG's chunks anew.
void repair_png(std::string& file) {
  if (!file.starts_with("\x89PNG")) return;
  const auto big_endian = [&](size_t at) {
    uint32_t value = 0;
    std::memcpy(&value, file.data() + at, 4);
    return __builtin_bswap32(value);
  };
  for (size_t at = 8; at + 12 <= file.size();) {
    const size_t length = big_endian(at);
    if (length > file.size() - at - 12) return;
    uint32_t crc = ~uint32_t{0};
    for (size_t i = at + 4; i < at + 8 + length; ++i) {
      crc ^= static_cast<uint8_t>(file[i]);
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0xedb88320U & (0 - (crc & 1)));
    }
    put(file, at + 8 + length, __builtin_bswap32(~crc), 4);
    at += 12 + length;
  }
}

}  // namespace

std::string mutate_safetensors(std::string file, Random& random) {
  uint64_t header_size = 0;
  std::memcpy(&header_size, file.data(), 8);
  std::string header = file.substr(8, header_size);
  const std::string data = file.substr(8 + header_size);
  bool cut = false, size_changed = false, bytes = false;
  for (int64_t changes = random.below(4); changes >= 0; --changes) {
    const int64_t kind = random.below(12);
    cut |= kind == 0;
    size_changed |= kind == 1;
    bytes |= kind == 2;
    if (kind > 2) change_json(header, random);
  }
  // Most changes of the text keep the file honest about its header's length.
  header_size = size_changed ? edge_number(random, file.size()) : header.size();
  file = std::string(reinterpret_cast<const char*>(&header_size), 8) + header + data;
  if (bytes) change_bytes(file, 0, file.size(), random);
  if (cut) file.resize(below(random, file.size()));
  return file;
}

std::string mutate_torch(std::string file, Random& random) {
  for (int64_t changes = random.below(4); changes >= 0; --changes) {
    const int64_t kind = random.below(20);
    if (kind == 0) file.resize(below(random, file.size()));
    if (kind == 1) change_bytes(file, 0, file.size(), random);
    if (kind == 2) rearrange(file, random);
    if (kind > 2 && kind < 7) change_zip_field(file, random);
    if (kind == 7 || kind == 8) contradict_zip(file, random);
    if (kind >= 9) change_pickle(file, random);
  }
  return file;
}

std::string mutate_media(std::string file, Random& random) {
  for (int64_t changes = random.below(4); changes >= 0 && !file.empty(); --changes) {
    // Most of what can be wrong stands at the start or, in MP4 and HDF5, at the end.
    const size_t size = file.size();
    const size_t part = std::min<size_t>(size, random.below(2) == 0 ? 256 : 4096);
    const int64_t where = random.below(4);
    const size_t from = where == 0 ? 0 : where == 1 ? size - part : where == 2 ? size / 2 : 0;
    const size_t to = where == 3 ? size : std::min(size, from + part);
    const int64_t kind = random.below(12);
    if (kind == 0) file.resize(below(random, size));
    if (kind == 1) rearrange(file, random);
    if (kind == 2) {
      const size_t start = from + below(random, to - from);
      const size_t gap = below(random, std::min<size_t>(size - start, 600));
      std::fill_n(file.begin() + static_cast<std::ptrdiff_t>(start), gap,
                  random.below(2) == 0 ? '\0' : '\xff');
    }
    if (kind >= 3 && kind < 7) change_bytes(file, from, to, random);
    if (kind >= 7) {
      const size_t bytes = size_t{1} << random.below(4);
      uint64_t number = edge_number(random, size);
      if (random.below(2) == 0) number = __builtin_bswap64(number) >> (64 - 8 * bytes);
      put(file, from + below(random, to - from), number, bytes);
    }
  }
  if (random.below(4) != 0) repair_png(file);
  return file;
}

std::string mutate_json(std::string text, Random& random) {
  for (int64_t changes = random.below(4); changes >= 0; --changes) {
    if (random.below(12) == 0) text.resize(below(random, text.size()));
    change_json(text, random);
  }
  return text;
}

}  // namespace jepa::fuzz
