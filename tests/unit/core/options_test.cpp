#include <jepa/errors.hpp>
#include <jepa/options.hpp>

#include <gtest/gtest.h>

namespace jepa {
namespace {

struct Sample {
  int64_t dim = 8;
  double rate = 0.1;
  bool flag = false;
  std::string kind = "a";
  std::vector<double> range = {0.5, 1.5};

  void describe(OptionVisitor& visit) {
    visit("dim", dim, {.help = "width", .unit = "tokens", .min = 1, .max = 64});
    visit("rate", rate, {.help = "rate", .min = 0});
    visit("flag", flag, {.help = "flag"});
    visit("kind", kind, {.help = "kind", .choices = {"a", "b"}});
    visit("range", range, {.help = "range"});
  }
};

std::vector<OptionSection> sections_of(Sample& sample) {
  return {{"sample", "a sample", [&](OptionVisitor& visit) { sample.describe(visit); }}};
}

std::string failure(const OptionValues& values) {
  Sample sample;
  try {
    apply_options(sections_of(sample), values);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(Options, CommandLineFormsAreRead) {
  const char* arguments[] = {"program",          "--sample.dim",   "16", "--sample.flag",
                             "--sample.rate=-0", "--sample.range", "1,2"};
  const OptionValues values = parse_command_line(7, arguments);
  Sample sample;
  apply_options(sections_of(sample), values);
  EXPECT_EQ(sample.dim, 16);
  EXPECT_TRUE(sample.flag);
  EXPECT_EQ(sample.range, (std::vector<double>{1, 2}));
}

TEST(Options, NegativeNumbersAreValues) {
  const char* arguments[] = {"program", "--sample.rate", "-1"};
  EXPECT_EQ(parse_command_line(3, arguments).at("sample.rate"), "-1");
}

TEST(Options, StrayWordIsRefused) {
  const char* arguments[] = {"program", "stray"};
  EXPECT_THROW(parse_command_line(2, arguments), ConfigError);
}

TEST(Options, MessagesNameTheKeyAndWhatWasExpected) {
  EXPECT_NE(failure({{"sample.dimension", "3"}}).find("unknown option sample.dimension"),
            std::string::npos);
  EXPECT_NE(failure({{"sample.dim", "3.5"}}).find("sample.dim: expected a whole number"),
            std::string::npos);
  EXPECT_NE(failure({{"sample.dim", "0"}}).find("1 to 64"), std::string::npos);
  EXPECT_NE(failure({{"sample.rate", "nan"}}).find("finite"), std::string::npos);
  EXPECT_NE(failure({{"sample.kind", "c"}}).find("one of a|b"), std::string::npos);
  EXPECT_NE(failure({{"sample.flag", "maybe"}}).find("true or false"), std::string::npos);
  EXPECT_NE(failure({{"sample.range", "1,x"}}).find("a number"), std::string::npos);
  EXPECT_EQ(failure({{"sample.dim", "64"}}), "");
}

TEST(Options, DumpIsReadBackBitForBit) {
  Sample sample{.dim = 3, .rate = 0.1 + 0.2, .flag = true, .kind = "b", .range = {1.0 / 3.0}};
  Sample again;
  apply_options(sections_of(again), parse_ini(dump_ini(sections_of(sample)), "dump"));
  EXPECT_EQ(again.rate, sample.rate);
  EXPECT_EQ(again.range, sample.range);
  EXPECT_EQ(again.kind, "b");
  EXPECT_TRUE(again.flag);
}

TEST(Options, DumpKeepsOptionsWithoutASectionOutOfTheSections) {
  int64_t inner = 1;
  int64_t outer = 2;
  const std::vector<OptionSection> sections{
      {"part", "", [&](OptionVisitor& visit) { visit("inner", inner, {}); }},
      {"", "", [&](OptionVisitor& visit) { visit("outer", outer, {}); }}};
  const OptionValues read = parse_ini(dump_ini(sections), "dump");
  EXPECT_EQ(read, (OptionValues{{"outer", "2"}, {"part.inner", "1"}}));
}

TEST(Options, IniErrorsNameTheFile) {
  try {
    parse_ini("[sample]\ndim 3\n", "broken.ini");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("broken.ini"), std::string::npos);
  }
  EXPECT_THROW(read_ini("/nonexistent.ini"), ConfigError);
  EXPECT_THROW(parse_ini("[a]\nb = 1\nb = 2\n", "twice.ini"), ConfigError);
}

}  // namespace
}  // namespace jepa
