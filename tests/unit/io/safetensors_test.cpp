#include "temporary_folder.hpp"

#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/io/json_text.hpp>
#include <jepa/io/safetensors.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>

#include <csignal>
#include <filesystem>
#include <sys/resource.h>
#include <unistd.h>

namespace jepa {
namespace {

// A safetensors file with this header and data.
std::string file_of(const std::string& header, const std::string& data) {
  const uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + header + data;
}

std::string read_error(const std::string& bytes) {
  const TemporaryFolder folder;
  write_bytes(folder.file("x.safetensors"), bytes);
  return message_of<CheckpointError>([&] { read_safetensors(folder.file("x.safetensors")); });
}

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST(Safetensors, EveryTypeAndShapeComesBack) {
  const TemporaryFolder folder;
  TensorMap tensors;
  for (const auto type :
       {torch::kBool, torch::kByte, torch::kChar, torch::kShort, torch::kInt, torch::kLong,
        torch::kHalf, torch::kBFloat16, torch::kFloat, torch::kDouble}) {
    tensors[std::string("t.") + c10::toString(type)] = torch::arange(0, 7).to(type);
  }
  tensors["scalar"] = torch::tensor(3.5);
  tensors["empty"] = torch::empty({0, 4});
  tensors["transposed"] = torch::arange(0, 6).view({2, 3}).t();
  tensors["odd \"name\"\n\u00e9"] = torch::ones({1});
  write_safetensors(folder.file("a.safetensors"), tensors, {{"note", "caf\u00e9"}, {"x", ""}});
  const SafetensorsFile file = read_safetensors(folder.file("a.safetensors"));
  EXPECT_EQ(file.metadata, (std::map<std::string, std::string>{{"note", "caf\u00e9"}, {"x", ""}}));
  ASSERT_EQ(file.tensors.size(), tensors.size());
  for (const auto& [key, tensor] : tensors) {
    const auto& found = file.tensors.at(key);
    EXPECT_EQ(found.scalar_type(), tensor.scalar_type()) << key;
    EXPECT_EQ(found.sizes(), tensor.sizes()) << key;
    EXPECT_TRUE(found.equal(tensor)) << key;
  }
}

TEST(Safetensors, TensorsOutliveTheFileAndWritesDoNotTouchIt) {
  const TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  write_safetensors(path, {{"a", torch::arange(0, 1000).to(torch::kFloat)}});
  torch::Tensor tensor = read_safetensors(path).tensors.at("a");
  tensor[1] = 77.0F;
  EXPECT_EQ(read_safetensors(path).tensors.at("a")[1].item<float>(), 1.0F);
  std::filesystem::remove(path);
  EXPECT_EQ(tensor[999].item<float>(), 999.0F);
  EXPECT_EQ(tensor[1].item<float>(), 77.0F);
}

TEST(Safetensors, UnalignedDataIsRead) {
  const TemporaryFolder folder;
  const float value = 2.5F;
  // A header of 61 bytes: the data starts at an odd address.
  std::string header = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  header.resize(61, ' ');
  write_bytes(folder.file("a.safetensors"),
              file_of(header, std::string(reinterpret_cast<const char*>(&value), 4)));
  EXPECT_EQ(read_safetensors(folder.file("a.safetensors")).tensors.at("a").item<float>(), 2.5F);
}

TEST(Safetensors, HeadersThatLieAreNamed) {
  const std::string data(8, '\0');
  const auto error = [&](const std::string& header) { return read_error(file_of(header, data)); };
  const std::string good = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  EXPECT_EQ(error("{" + good + "}"), "");
  EXPECT_SAYS(read_error("\x01\x02\x03"), "too short");
  EXPECT_SAYS(read_error(std::string(8, '\xff') + "{}"), "cut short");
  EXPECT_SAYS(error("{" + good + "," + good + "}"), "'a': the key comes twice");
  EXPECT_SAYS(error(R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})"),
              "comes twice");
  EXPECT_SAYS(error(R"({"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}})"),
              "unknown type 'F33'");
  EXPECT_SAYS(error(R"({"a":{"shape":[2],"data_offsets":[0,8]}})"), "no dtype");
  EXPECT_SAYS(error(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})"), "no shape");
  EXPECT_SAYS(error(R"({"a":{"dtype":"F32","shape":[2]}})"), "two numbers");
  EXPECT_SAYS(error(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}})"), "belongs");
  EXPECT_SAYS(error(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})"), "does not fit");
  EXPECT_SAYS(error(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})"), "not negative");
  EXPECT_SAYS(error(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})"), "whole number");
  EXPECT_SAYS(error(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})"), "bytes 8 to 0");
  EXPECT_SAYS(error(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})"), "bytes 4 to 12");
  EXPECT_SAYS(error(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})"), "describes 4");
  EXPECT_SAYS(error(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                    R"("b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"),
              "overlap");
  EXPECT_SAYS(error(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4611686018427387904,0],)"
                    R"("data_offsets":[0,0]}})"),
              "does not fit");
  EXPECT_SAYS(error(R"({"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})"), "belongs");
  EXPECT_SAYS(error(R"({"a":5})"), "belongs");
  EXPECT_SAYS(error(R"({"__metadata__":{"a":1},)" + good + "}"), "metadata must be strings");
  EXPECT_SAYS(error("{" + good), "not valid JSON");
  EXPECT_SAYS(error(std::string(400, '[')), "belongs");
  EXPECT_SAYS(error(R"({"__metadata__":)" + std::string(400, '{') + "}"), "not valid JSON");
  EXPECT_SAYS(error("{\"" + std::string(200000, 'x') + "\":0}"), "token is too long");
}

TEST(Safetensors, BooleansAreZeroOrOne) {
  const std::string header = R"({"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})";
  EXPECT_EQ(read_error(file_of(header, std::string("\1\0", 2))), "");
  EXPECT_SAYS(read_error(file_of(header, "\1\2")), "neither 0 nor 1");
}

// A header of nothing but empty tensors is a few bytes each here and a kilobyte each in memory.
TEST(Safetensors, AHeaderCannotSwell) {
  std::string header = "{";
  for (int i = 0; i < 20000; ++i) {
    header += (i == 0 ? "\"" : ",\"") + std::to_string(i) +
              R"(":{"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
  }
  EXPECT_SAYS(read_error(file_of(header + "}", "")), "more than a file of its size");
}

TEST(Safetensors, MissingAndStrangeFilesAreNamed) {
  const TemporaryFolder folder;
  const auto error = [&](const std::string& name) {
    return message_of<CheckpointError>([&] { read_safetensors(folder.file(name)); });
  };
  EXPECT_SAYS(error("absent.safetensors"), "absent.safetensors: No such file");
  EXPECT_SAYS(error(""), "not a regular file");
  write_bytes(folder.file("empty.safetensors"), "");
  EXPECT_SAYS(error("empty.safetensors"), "an empty file");
}

TEST(Safetensors, ShardsAreReadThroughTheirIndex) {
  const TemporaryFolder folder;
  write_safetensors(folder.file("m-1.safetensors"), {{"a", torch::ones({2})}});
  write_safetensors(folder.file("m-2.safetensors"), {{"b", torch::zeros({3})}});
  const std::string index = folder.file("m.safetensors.index.json");
  const auto write_index = [&](const std::string& map) {
    write_bytes(index, R"({"metadata":{"total_size":20},"weight_map":{)" + map + "}}");
  };
  write_index(R"("a":"m-1.safetensors","b":"m-2.safetensors")");
  const TensorMap tensors = read_safetensors(index).tensors;
  EXPECT_TRUE(tensors.at("a").equal(torch::ones({2})));
  EXPECT_TRUE(tensors.at("b").equal(torch::zeros({3})));
  const auto error = [&] { return message_of<CheckpointError>([&] { read_safetensors(index); }); };
  write_index(R"("a":"m-2.safetensors")");
  EXPECT_SAYS(error(), "'a' is not in m-2.safetensors");
  write_index(R"("a":"../m-1.safetensors")");
  EXPECT_SAYS(error(), "not a file name");
  write_index(R"("a":"m-1.safetensors","a":"m-1.safetensors")");
  EXPECT_SAYS(error(), "comes twice");
  write_index(R"("a":"m-3.safetensors")");
  EXPECT_SAYS(error(), "m-3.safetensors");
}

TEST(Safetensors, WhatCannotBeStoredIsNamed) {
  const TemporaryFolder folder;
  const auto error = message_of<CheckpointError>([&] {
    write_safetensors(folder.file("x"), {{"z", torch::ones({1}, torch::kComplexDouble)}});
  });
  EXPECT_SAYS(error, "'z' has type");
  EXPECT_FALSE(std::filesystem::exists(folder.file("x")));
  EXPECT_NE(message_of<DataError>([&] {
              write_safetensors(folder.file("no/such/x"), {{"z", torch::ones({1})}});
            }).find("no/such/x"),
            std::string::npos);
}

// A limit on file sizes stands in for a full disk: both end a write in the middle.
TEST(AtomicFile, AFailedWriteLeavesTheOldFile) {
  const TemporaryFolder folder;
  const std::string path = folder.file("a.safetensors");
  write_safetensors(path, {{"a", torch::ones({4})}});
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 4096;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string error = message_of<DataError>([&] {
    write_safetensors(path, {{"a", torch::ones({100000})}});
  });
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_SAYS(error, "cannot write " + path);
  EXPECT_EQ(read_safetensors(path).tensors.at("a").numel(), 4);
  EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
}

TEST(AtomicFile, LinksStayAndDevicesAreWrittenTo) {
  const TemporaryFolder folder;
  const std::string file = folder.file("a"), link = folder.file("b"), null = folder.file("c");
  write_file_atomic(file, "one");
  std::filesystem::create_symlink(file, link);
  write_file_atomic(link, "two");
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(read_bytes(file), "two");
  const std::string dangling = folder.file("d"), later = folder.file("e");
  std::filesystem::create_symlink("e", dangling);  // beside it, not there yet
  write_file_atomic(dangling, "one");
  EXPECT_TRUE(std::filesystem::is_symlink(dangling));
  EXPECT_EQ(read_bytes(later), "one");
  if (std::filesystem::exists("/dev/shm")) {  // files like any other
    const std::string shared = "/dev/shm/jepa_test_" + std::to_string(::getpid());
    write_file_atomic(shared, "one");
    write_file_atomic(shared, "two");
    EXPECT_EQ(read_bytes(shared), "two");
    std::filesystem::remove(shared);
  }
  std::filesystem::create_symlink("/dev/null", null);
  write_file_atomic(null, "three");
  EXPECT_TRUE(std::filesystem::is_symlink(null));
  EXPECT_TRUE(std::filesystem::is_character_file(null));
  EXPECT_THROW(write_file_atomic(folder.file(""), "four"), DataError);
}

TEST(Json, NamesThatAreNoTextDoNotLoseTheRest) {
  EXPECT_EQ(json_text(nlohmann::json{{"file", "bad\xe9.mp4"}}),
            "{\"file\":\"bad\xef\xbf\xbd.mp4\"}");
}

TEST(AtomicFile, NothingAppearsBeforeCommit) {
  const TemporaryFolder folder;
  const std::string path = folder.file("a.txt");
  {
    AtomicFile file(path);
    file.write("half");
    EXPECT_FALSE(std::filesystem::exists(path));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.file("")));
  write_file_atomic(path, "one");
  write_file_atomic(path, "two");
  EXPECT_EQ(read_bytes(path), "two");
}

}  // namespace
}  // namespace jepa
