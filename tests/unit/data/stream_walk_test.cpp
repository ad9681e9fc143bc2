// Streams that were cut, told from whole ones by their containers' own framing.
#include "temporary_folder.hpp"

#include <jepa/data/stream_walk.hpp>
#include <jepa/data/video_decoder.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <fcntl.h>
#include <map>
#include <string>
#include <unistd.h>

namespace jepa {
namespace {

std::string fixture(const std::string& name) {
  return read_bytes(std::string(JEPA_TEST_FIXTURES) + "/data/" + name);
}

const uint8_t* bytes_of(const std::string& text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

const std::map<std::string, std::string> kFormats{
    {"pipe.mkv", "matroska"},    {"pause.mkv", "matroska"}, {"odd_3x5_yuv444p.mkv", "matroska"},
    {"r30_98.webm", "matroska"}, {"held.webm", "matroska"}, {"pipe.nut", "nut"},
    {"pipe.ts", "mpegts"},       {"part.ts", "mpegts"},     {"drop1.ts", "mpegts"},
    {"base.mp4", "mov"},         {"cut2.mp4", "mov"},       {"r30_98.flv", "flv"},
    {"exif_rot6.jpg", "mjpeg"}};

/// Where a stream ends by its framing, when it comes in pieces of `piece` bytes.
StreamEnd end_of(const std::string& format, const std::string& stream, size_t piece) {
  const auto walk = make_stream_walk(format);
  for (size_t at = 0; at < stream.size(); at += piece) {
    walk->take(bytes_of(stream) + at, std::min(piece, stream.size() - at));
  }
  return walk->end();
}

/// How often a stream, cut anywhere, ends so.
std::map<StreamEnd, size_t> ends_of(const std::string& format, const std::string& stream) {
  std::map<StreamEnd, size_t> ends;
  const auto walk = make_stream_walk(format);
  for (size_t i = 0; i < stream.size(); ++i) {
    walk->take(bytes_of(stream) + i, 1);
    ++ends[walk->end()];
  }
  return ends;
}

/// What a decoder says of a pipe's end, and how many frames it gave.
std::pair<int64_t, std::string> piped(const TemporaryFolder& folder, const std::string& stream) {
  write_bytes(folder.file("stream"), stream);
  const int descriptor = open(folder.file("stream").c_str(), O_RDONLY);
  std::pair<int64_t, std::string> seen;
  {
    Decoder decoder("pipe", PipeInput{.descriptor = descriptor});
    while (decoder.frame([](int64_t, const std::string&) {}) != nullptr) ++seen.first;
    seen.second = decoder.early_end();
  }
  close(descriptor);
  return seen;
}

TEST(StreamWalk, WholeStreamsEndRegularly) {
  for (const auto& [name, format] : kFormats) {
    for (const size_t piece : {1, 7, 4096, 1 << 20}) {
      EXPECT_EQ(end_of(format, fixture(name), piece), StreamEnd::kRegular) << name << " " << piece;
    }
  }
  EXPECT_EQ(make_stream_walk("yuv4mpegpipe"), nullptr);
}

TEST(StreamWalk, AlmostEveryCutIsSeen) {
  // 12 frames: cuts between them, and between the headers before them, are all that is not seen.
  for (const char* name : {"pipe.mkv", "pipe.nut"}) {
    const auto stream = fixture(name);
    auto ends = ends_of(std::string(name).ends_with("mkv") ? "matroska" : "nut", stream);
    EXPECT_LE(ends[StreamEnd::kRegular], 32u) << name;
    EXPECT_GT(ends[StreamEnd::kFrame], stream.size() / 2) << name;
    EXPECT_EQ(ends[StreamEnd::kMaybe], 0u) << name;
  }
  // Packets of 188 bytes; until four have come, it is not known that they are.
  const auto stream = fixture("pipe.ts");
  auto ends = ends_of("mpegts", stream);
  EXPECT_LE(ends[StreamEnd::kRegular] + ends[StreamEnd::kMaybe], 204 * 4 + stream.size() / 188);
}

TEST(StreamWalk, WhatItDoesNotKnowIsNoCut) {
  for (const char* format : {"matroska", "nut", "mpegts", "mov", "flv", "ogg", "mpeg", "mjpeg"}) {
    EXPECT_EQ(end_of(format, std::string(5000, '\5'), 100), StreamEnd::kRegular) << format;
    EXPECT_EQ(end_of(format, "", 100), StreamEnd::kRegular) << format;
  }
  // Bytes behind a file's end.
  EXPECT_EQ(end_of("matroska", fixture("pause.mkv") + std::string(9, '\0'), 50),
            StreamEnd::kRegular);
}

TEST(StreamWalk, PacketsWithAClockBeforeThem) {
  const auto plain = fixture("pipe.ts");
  std::string clocked;
  for (size_t at = 0; at < plain.size(); at += 188) clocked += "G\1G\1" + plain.substr(at, 188);
  EXPECT_EQ(end_of("mpegts", clocked, 1000), StreamEnd::kRegular);
  EXPECT_EQ(end_of("mpegts", clocked.substr(0, clocked.size() - 5), 1000), StreamEnd::kFrame);
}

TEST(StreamWalk, PipesThatAreCutWithinAFrame) {
  const TemporaryFolder folder;
  for (const char* name : {"pipe.mkv", "pipe.nut", "pipe.ts", "r30_98.webm", "r30_98.flv"}) {
    const auto stream = fixture(name);
    const auto [all, end] = piped(folder, stream);
    EXPECT_EQ(end, "") << name;
    size_t size = stream.size() * 7 / 10;
    while (end_of(kFormats.at(name), stream.substr(0, size), size) != StreamEnd::kFrame) ++size;
    const auto [some, why] = piped(folder, stream.substr(0, size));
    EXPECT_EQ(why, "it ends within a frame") << name;
    EXPECT_GT(some, 0) << name;
    EXPECT_LT(some, all) << name;
  }
  // Its index is cut, no frame is.
  const auto webm = fixture("r30_98.webm");
  const auto [frames, why] = piped(folder, webm.substr(0, webm.size() - 1));
  EXPECT_EQ(frames, 98);
  EXPECT_EQ(why, "it ends early: 1 byte is missing");
}

TEST(StreamWalk, ATransportStreamCutBetweenPackets) {
  // Its frames do not say how long they are: the decoder notices.
  const TemporaryFolder folder;
  const auto stream = fixture("pipe.ts");
  size_t cuts = 0;
  for (size_t size = 188 * 12; size < stream.size(); size += 188) {
    const auto cut = stream.substr(0, size);
    if (end_of("mpegts", cut, size) != StreamEnd::kMaybe) continue;
    const auto [frames, why] = piped(folder, cut);
    cuts += why == "it ends within a frame" ? 1 : 0;
  }
  EXPECT_GT(cuts, 0u);
}

}  // namespace
}  // namespace jepa
