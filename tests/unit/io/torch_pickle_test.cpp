#include "pickle_writer.hpp"
#include "temporary_folder.hpp"

#include <jepa/errors.hpp>
#include <jepa/io/torch_pickle.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

namespace jepa {
namespace {

using namespace pickle;

TorchFile read(const std::string& bytes) {
  const TemporaryFolder folder;
  write_bytes(folder.file("x.pt"), bytes);
  return read_torch_file(folder.file("x.pt"));
}

std::string pickle_error(const std::string& bytes) {
  return message_of<CheckpointError>([&] { read(bytes); });
}

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

// Six floats 0..5.
std::string six_floats() {
  std::string bytes;
  for (int i = 0; i < 6; ++i) bytes += bytes_of(static_cast<float>(i));
  return bytes;
}

TEST(TorchPickle, NestedValuesAreFlattened) {
  const std::string tensor = tensor_of(storage_of("Float", "0", 6), 0, {2, 3}, {3, 1});
  const std::string view = tensor_of(storage_of("Float", "0", 6), 1, {2}, {3});
  const std::string value = dict_of({{"encoder", dict_of({{"w", tensor}, {"column", view}})},
                                     {"list", "](" + view + view + "e"},
                                     {"epoch", "K\x07"},
                                     {"big", "\x8a\x02\xff\xff"},
                                     {"rate", std::string("G\x3f\xe0\0\0\0\0\0\0", 9)},
                                     {"name", string_of("vit")},
                                     {"none", "N"}});
  for (const bool zip64 : {false, true}) {
    const TorchFile file = read(checkpoint_of(value, {{"0", six_floats()}}, zip64));
    EXPECT_TRUE(
        file.tensors.at("encoder/w").equal(torch::arange(0, 6).view({2, 3}).to(torch::kFloat)));
    EXPECT_TRUE(file.tensors.at("encoder/column").equal(torch::tensor({1.0F, 4.0F})));
    EXPECT_TRUE(file.tensors.at("list/1").equal(torch::tensor({1.0F, 4.0F})));
    EXPECT_EQ(file.tensors.size(), 4U);
    EXPECT_EQ(file.scalars.at("epoch"), "7");
    EXPECT_EQ(file.scalars.at("big"), "-1");
    EXPECT_EQ(file.scalars.at("rate"), "0.5");
    EXPECT_EQ(file.scalars.at("name"), "vit");
    EXPECT_EQ(file.scalars.at("none"), "None");
  }
}

TEST(TorchPickle, OddAddressesAreCopied) {
  const std::string value =
      dict_of({{"w", tensor_of(storage_of("Float", "0", 6), 2, {2, 2}, {2, 1})}});
  const TorchFile file = read(checkpoint_of(value, {{"0", six_floats()}}, false, 1));
  EXPECT_TRUE(file.tensors.at("w").equal(torch::tensor({{2.0F, 3.0F}, {4.0F, 5.0F}})));
}

TEST(TorchPickle, SharedValuesAndStateDictAttributesAreUnderstood) {
  // A memoised tensor used twice; an OrderedDict with attributes set by BUILD; a parameter.
  const std::string tensor = tensor_of(storage_of("Float", "0", 6), 0, {6}, {1});
  const std::string ordered = global_of("collections", "OrderedDict") + ")R(" + string_of("a") +
                              tensor + "q\x05" + string_of("b") + "h\x05" + "u" +
                              dict_of({{"_metadata", "}"}}) + "b";
  const std::string parameter =
      global_of("torch._utils", "_rebuild_parameter") +
      tuple_of({"h\x05", "\x88", global_of("collections", "OrderedDict") + ")R"}) + "R";
  const TorchFile file =
      read(checkpoint_of(dict_of({{"m", ordered}, {"p", parameter}}), {{"0", six_floats()}}));
  EXPECT_TRUE(file.tensors.at("m/a").equal(file.tensors.at("m/b")));
  EXPECT_EQ(file.tensors.at("p")[5].item<float>(), 5.0F);
}

TEST(TorchPickle, AForeignGlobalIsNamedAndNotRun) {
  const std::string call =
      global_of("os", "system") + tuple_of({string_of("touch /tmp/pwned")}) + "R";
  const std::string error = pickle_error(checkpoint_of(dict_of({{"a", call}})));
  EXPECT_SAYS(error, "'os.system'");
  EXPECT_SAYS(error, "x.pt");
  EXPECT_SAYS(pickle_error(checkpoint_of("\x8c\x02os\x8c\x06system\x93.")), "'os.system'");
  EXPECT_SAYS(pickle_error(checkpoint_of(global_of("builtins", "eval") + "0}")), "'builtins.eval'");
  EXPECT_SAYS(pickle_error(checkpoint_of(global_of("torch", "FloatStorage") + ")R")),
              "calls a storage class");
}

TEST(TorchPickle, TensorsStayInTheirStorages) {
  const auto error = [](const std::string& tensor) {
    return pickle_error(checkpoint_of(dict_of({{"w", tensor}}), {{"0", six_floats()}}));
  };
  const std::string storage = storage_of("Float", "0", 6);
  EXPECT_EQ(error(tensor_of(storage, 0, {6}, {1})), "");
  EXPECT_EQ(error(tensor_of(storage, 6, {0}, {1})), "");
  EXPECT_SAYS(error(tensor_of(storage, 1, {6}, {1})), "does not fit its storage of 6");
  EXPECT_SAYS(error(tensor_of(storage, 0, {2}, {6})), "does not fit");
  EXPECT_SAYS(error(tensor_of(storage, 7, {0}, {1})), "does not fit");
  EXPECT_SAYS(error(tensor_of(storage, 0, {1 << 30}, {0})), "does not fit");
  EXPECT_SAYS(error(tensor_of(storage, 0, {1 << 30, 1 << 30, 1 << 30}, {1, 1, 1})), "does not fit");
  EXPECT_SAYS(error(tensor_of(storage, -1, {2}, {1})), "malformed");
  EXPECT_SAYS(error(tensor_of(storage, 0, {2}, {-1})), "malformed");
  EXPECT_SAYS(error(tensor_of(storage, 0, {2}, {1, 1})), "more sizes");
  EXPECT_SAYS(error(tensor_of(storage_of("Float", "0", 7), 0, {6}, {1})), "declares 7 items");
  EXPECT_SAYS(error(tensor_of(storage_of("Double", "0", 6), 0, {6}, {1})), "declares 6 items");
  EXPECT_SAYS(error(tensor_of(storage_of("Float", "1", 6), 0, {6}, {1})),
              "no entry archive/data/1");
  EXPECT_SAYS(error(tensor_of(storage_of("Bool", "0", 24), 0, {24}, {1})), "neither 0 nor 1");
}

TEST(TorchPickle, BrokenPicklesAreErrors) {
  for (const std::string value : {"",
                                  "0",
                                  "t",
                                  "u",
                                  "a",
                                  "}s",
                                  "}(N",
                                  "](Nu",
                                  "}(Nu",
                                  "h\x01",
                                  "r\xff\xff\xff\x7f",
                                  "X\xff\xff",
                                  "\x81",
                                  "R",
                                  "NR",
                                  "Q",
                                  "]Q",
                                  "(",
                                  "\x8a\x09",
                                  "b",
                                  "}b",
                                  "K\x01",
                                  "]",
                                  "]q\x01(h\x01"
                                  "e",
                                  "}q\x01(X\x01\x00\x00\x00xh\x01u",
                                  "ctorch\nSize\n)R",
                                  "2",
                                  "\x8f(K\x01",
                                  "\x90",
                                  "]\x91",
                                  "(\x90",
                                  "\x8b\xff\xff\xff\xff",
                                  "\x8d\xff\xff\xff\xff\xff\xff\xff\xff"}) {
    EXPECT_NE(pickle_error(checkpoint_of(value)), "") << value;
  }
  // A list that holds itself has no end.
  EXPECT_SAYS(pickle_error(checkpoint_of("}" + string_of("x") + "]q\x01h\x01" + "as")), "too deep");
  EXPECT_SAYS(pickle_error(checkpoint_of(dict_of({{"a", "N"}, {"a", "N"}}))), "'a' comes twice");
  // Each list holds the one before a thousand times over.
  std::string bomb = "]q\x01";
  for (int level = 1; level < 10; ++level) {
    const std::string previous = "h" + std::string(1, static_cast<char>(level));
    bomb += "](";
    for (int i = 0; i < 1000; ++i) bomb += previous;
    bomb += "eq" + std::string(1, static_cast<char>(level + 1));
  }
  EXPECT_SAYS(pickle_error(checkpoint_of("}" + string_of("x") + "(" + bomb + "ts")),
              "more than a file");
}

// A pickle of one-byte operations costs many bytes each in memory.
TEST(TorchPickle, APickleCannotSwell) {
  EXPECT_SAYS(pickle_error(checkpoint_of(std::string(1 << 20, ']'))),
              "more than a file of its size");
  EXPECT_SAYS(pickle_error(checkpoint_of(std::string(1 << 20, '('))),
              "more than a file of its size");
}

TEST(TorchPickle, BrokenArchivesAreErrors) {
  const std::string good = checkpoint_of("}");
  EXPECT_EQ(pickle_error(good), "");
  EXPECT_SAYS(pickle_error("not a zip"), "not a zip archive");
  EXPECT_SAYS(pickle_error(""), "not a zip archive");
  EXPECT_SAYS(pickle_error(std::string("\x80\x02\x8a\x0a", 4)), "before 1.6");
  EXPECT_SAYS(pickle_error(good.substr(0, good.size() - 1)), "no end record");
  for (size_t cut = 2; cut < good.size(); ++cut)
    EXPECT_NE(pickle_error(good.substr(0, cut)), "") << cut;
  EXPECT_SAYS(pickle_error(zip_of({{"a/data.pkl", "}."}, {"a/data.pkl", "}."}})), "twice");
  EXPECT_SAYS(pickle_error(zip_of({{"a/data.pkl", "}."}, {"b/data.pkl", "}."}})), "more than one");
  EXPECT_SAYS(pickle_error(zip_of({{"a/data", "}."}})), "without data.pkl");
  EXPECT_SAYS(pickle_error(zip_of({{"a/data.pkl", "}."}, {"a/byteorder", "big"}})), "big-endian");
  std::string compressed = good;
  const size_t record = compressed.find("PK\x01\x02");
  compressed[record + 10] = 8;
  EXPECT_SAYS(pickle_error(compressed), "compressed");
  std::string encrypted = good;
  encrypted[record + 8] = 1;
  EXPECT_SAYS(pickle_error(encrypted), "encrypted");
  std::string renamed = good;
  renamed[renamed.find("archive/data.pkl")] = 'b';
  EXPECT_SAYS(pickle_error(renamed), "another name");
}

}  // namespace
}  // namespace jepa
