// Reading a run folder back, and what the report says about it.
#include "temporary_folder.hpp"

#include <eval/report/run_report.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <filesystem>
#include <fstream>

namespace jepa::eval::report {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

/// A run folder made by hand.
class FakeRun {
 public:
  FakeRun() { line({{"type", "run"}, {"machine", "a <fast> one"}, {"encoder_parameters", 4.2e6}}); }

  void line(const Json& object) { log_ += object.dump() + "\n"; }
  void raw(const std::string& text) { log_ += text; }
  void file(const std::string& name, const std::string& text) {
    fs::create_directories(fs::path(path(name)).parent_path());
    std::ofstream(path(name)) << text;
  }
  RunRecord read() {
    file("metrics.jsonl", log_);
    return read_run(folder_.path());
  }
  std::string path(const std::string& name) const { return folder_.file(name); }

  /// The message of the DataError that reading gives.
  std::string error() {
    try {
      read();
    } catch (const DataError& error) {
      return error.what();
    }
    return "no error";
  }

 private:
  TemporaryFolder folder_;
  std::string log_;
};

Json step(int64_t number, double loss) {
  return {{"type", "step"}, {"step", number}, {"loss", loss}};
}

Json interval(double low, double value, double high) {
  return {{"value", value}, {"low", low}, {"high", high}};
}

/// A probe result whose difference from its own initialisation is given.
Json probe(const std::string& label, double value, double low, double difference, double high) {
  Json result = interval(value - 0.05, value, value + 0.05);
  result.update({{"dataset", "digits"},
                 {"probe", "linear"},
                 {"label", label},
                 {"metric", "accuracy"},
                 {"unit", "instance"},
                 {"test_units", 740},
                 {"controls",
                  {{"initialisation", interval(value - difference - 0.05, value - difference,
                                               value - difference + 0.05)},
                   {"majority", interval(0.1, 0.12, 0.14)}}},
                 {"differences", {{"initialisation", interval(low, difference, high)}}},
                 {"control_notes", {{"initialisation", "as the recipe starts & 3 draws"}}}});
  return result;
}

TEST(RunRecord, ReadsCurvesVerdictsAndTotals) {
  FakeRun fake;
  fake.line(step(1, 1.5));
  fake.line({{"type", "step"}, {"step", 2}, {"loss", nullptr}, {"verdict", "healthy: fine"}});
  fake.line({{"type", "end"}, {"train_seconds", 12.5}, {"end", "finished"}});
  fake.file("config.ini", "[encoder]\ndim = 96\n");
  const RunRecord run = fake.read();
  EXPECT_EQ(run.last_step, 2);
  ASSERT_EQ(run.curves.at("loss").values.size(), 2u);
  EXPECT_EQ(run.curves.at("loss").values[0], 1.5);
  EXPECT_TRUE(std::isnan(run.curves.at("loss").values[1]));
  EXPECT_EQ(run.curves.at("loss").steps, (std::vector<double>{1, 2}));
  ASSERT_EQ(run.verdicts.size(), 1u);
  EXPECT_EQ(run.verdicts[0], (std::pair<int64_t, std::string>{2, "healthy: fine"}));
  EXPECT_EQ(run.numbers.at("train_seconds"), 12.5);
  EXPECT_EQ(run.numbers.at("encoder_parameters"), 4.2e6);
  EXPECT_EQ(run.texts.at("end"), "finished");
  EXPECT_EQ(run.config, "[encoder]\ndim = 96\n");
  EXPECT_TRUE(run.notes.empty());
}

TEST(RunRecord, ClipsThatWereLeftOutAreNamedOnce) {
  FakeRun fake;
  for (int64_t number = 1; number < 3; ++number) {
    fake.line({{"type", "left_out"}, {"clip", "a.mp4: the file is empty"}});
    fake.line(step(number, 1.5));
  }
  fake.line({{"type", "end"}, {"end", "finished"}});
  const RunRecord run = fake.read();
  EXPECT_EQ(run.notes, (std::vector<std::string>{"Left out: a.mp4: the file is empty"}));
}

TEST(RunRecord, UnfinishedLastLineIsLeftOutAndSaid) {
  FakeRun fake;
  fake.line(step(1, 1.5));
  fake.raw(R"({"type": "step", "step": 2, "lo)");
  const RunRecord run = fake.read();
  EXPECT_EQ(run.last_step, 1);
  ASSERT_EQ(run.notes.size(), 2u);
  EXPECT_NE(run.notes[0].find("line 3"), std::string::npos) << run.notes[0];
  EXPECT_NE(run.notes[1].find("no closing line"), std::string::npos) << run.notes[1];
}

TEST(RunRecord, WholeLastLineWithoutNewlineCounts) {
  FakeRun fake;
  fake.raw(step(7, 0.5).dump());
  EXPECT_EQ(fake.read().last_step, 7);
}

TEST(RunRecord, ErrorsNameFileAndLine) {
  {
    FakeRun fake;
    fake.line(step(1, 1.5));
    fake.raw("{\"type\": \"step\", \"st\n");
    fake.line(step(2, 1.4));
    EXPECT_EQ(fake.error(), fake.path("metrics.jsonl") + ":3: not a JSON object");
  }
  {
    FakeRun fake;
    fake.line(step(5, 1.5));
    fake.line(step(4, 1.5));
    EXPECT_EQ(fake.error(), fake.path("metrics.jsonl") + ":3: step 4 comes after step 5");
  }
  {
    FakeRun fake;
    fake.line({{"type", "step"}, {"loss", 1}});
    EXPECT_EQ(fake.error(), fake.path("metrics.jsonl") + ":2: expected an integer 'step'");
  }
  {
    FakeRun fake;
    fake.line({{"type", "step"}, {"step", 1}, {"loss", {1, 2}}});
    EXPECT_NE(fake.error().find(":2: 'loss' is array"), std::string::npos) << fake.error();
  }
  {
    FakeRun fake;
    fake.line({{"type", "pause"}});
    EXPECT_NE(fake.error().find(":2: unknown type \"pause\""), std::string::npos) << fake.error();
  }
}

TEST(RunRecord, MissingParts) {
  EXPECT_THROW(read_run(FakeRun().path("no_such_run")), DataError);
  FakeRun fake;
  EXPECT_THROW(read_run(fs::path(fake.path("x")).parent_path().string()), DataError);
  fake.file("metrics.jsonl", "");
  try {
    read_run(fs::path(fake.path("x")).parent_path().string());
    FAIL() << "an empty log was taken";
  } catch (const DataError& error) {
    EXPECT_EQ(std::string(error.what()), fake.path("metrics.jsonl") + ": has no complete line");
  }
  fake.file("metrics.jsonl", step(1, 1).dump() + "\n");
  try {
    read_run(fs::path(fake.path("x")).parent_path().string());
    FAIL() << "a log without its opening line was taken";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find(":1: expected the line of type \"run\""),
              std::string::npos)
        << error.what();
  }
}

TEST(RunRecord, ProbeResultsAndTheirErrors) {
  FakeRun fake;
  fake.file("probes.json", Json{{"results", {probe("digit", 0.55, 0.15, 0.2, 0.25)}}}.dump());
  const auto results = read_probe_results(fake.path("probes.json"));
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].label, "digit");
  EXPECT_EQ(results[0].value.low, 0.5);
  EXPECT_EQ(results[0].differences.at("initialisation").high, 0.25);

  fake.file("probes.json", R"([{"label": "digit"}])");
  try {
    read_probe_results(fake.path("probes.json"));
    FAIL() << "a result without a value was taken";
  } catch (const DataError& error) {
    EXPECT_EQ(std::string(error.what()),
              fake.path("probes.json") + ", result 1: expected a number 'value'");
  }
  fake.file("probes.json", "[{");
  EXPECT_THROW(read_probe_results(fake.path("probes.json")), DataError);
  fake.file("probes.json", "7");
  EXPECT_THROW(read_probe_results(fake.path("probes.json")), DataError);
}

TEST(ProbeResult, ThePairedDifferenceFromItsOwnStartDecidesAndNothingElse) {
  ProbeResult result;
  result.value = {0.5, 0.45, 0.55};
  EXPECT_EQ(result.against_initialisation(), 0);
  // Intervals that lie apart are no paired difference, and random_init is another control.
  result.controls["initialisation"] = {0.1, 0.05, 0.15};
  result.differences["random_init"] = {0.4, 0.3, 0.5};
  EXPECT_EQ(result.against_initialisation(), 0);
  result.differences["initialisation"] = {0.02, 0.01, 0.03};
  EXPECT_EQ(result.against_initialisation(), 1);
  result.differences["initialisation"] = {0.02, -0.01, 0.05};
  EXPECT_EQ(result.against_initialisation(), 0);
  result.differences["initialisation"] = {-0.02, -0.03, -0.01};
  EXPECT_EQ(result.against_initialisation(), -1);
}

TEST(Assess, NamesTheOutcome) {
  const auto outcome = [](const std::vector<Json>& probes, const std::string& verdict) {
    FakeRun fake;
    fake.line({{"type", "step"}, {"step", 1}, {"verdict", verdict}});
    if (!probes.empty()) fake.file("probes.json", Json(probes).dump());
    return assess(fake.read()).outcome;
  };
  const Json above = probe("digit", 0.55, 0.15, 0.2, 0.25);
  const Json same = probe("position", 0.35, -0.04, 0.01, 0.06);
  const Json below = probe("direction", 0.15, -0.25, -0.2, -0.15);
  Json older = above;  // from before the control was the model's own initialisation
  older["differences"] = {{"random_init", interval(0.15, 0.2, 0.25)}};
  EXPECT_EQ(outcome({above, same}, "healthy: x"), Outcome::kLearned);
  EXPECT_EQ(outcome({above, below}, "healthy: x"), Outcome::kLearnedInPart);
  EXPECT_EQ(outcome({same, below}, "healthy: x"), Outcome::kDidNotLearn);
  EXPECT_EQ(outcome({}, "drifting: x"), Outcome::kUnclear);
  EXPECT_EQ(outcome({older}, "healthy: x"), Outcome::kUnclear);
  EXPECT_EQ(outcome({above}, "collapsed: tokens are x"), Outcome::kCollapsed);
}

TEST(Report, HoldsEverythingEscapedAndNothingFromElsewhere) {
  FakeRun fake;
  for (int64_t i = 1; i <= 1000; ++i) {
    Json line = step(i, 1.0 / static_cast<double>(i));
    if (i % 100 == 0) {
      line.update({{"position_share", 0.6},
                   {"clip_share", 0.1},
                   {"rest_share", 0.3},
                   {"probe_digit", 0.4},
                   {"odd_number", 3},
                   {"verdict", "healthy: x < y"}});
    }
    fake.line(line);
  }
  fake.file("config.ini", "[data]\npath = <b>\"quoted\"</b>\n");
  fake.file("probes.json", Json::array({probe("digit", 0.55, 0.15, 0.2, 0.25)}).dump());
  fake.file("media/view_1.png", "not really a png");
  RunReport report{fake.read(), {}};
  report.media.masks.push_back({.caption = "mask 1 & more", .png = "x"});
  report.media.features.push_back({.caption = "features", .mp4 = "y"});

  const std::string html = report_html("A <run>", {report});
  for (const char* part :
       {"A &lt;run&gt;", "Learned: clear above the model&#39;s own initialisation on 1 of 1 probes",
        "a &lt;fast&gt; one", "path = &lt;b&gt;&quot;quoted&quot;&lt;/b&gt;", "mask 1 &amp; more",
        "healthy: x &lt; y", "Where the token variance is", "Online probe", "odd number", "view_1",
        "[0.500, 0.600]", "+0.200 [+0.150, +0.250]", "740 units of column instance",
        "as the recipe starts &amp; 3 draws", "data:video/mp4;base64,eQ==", "60 / 10 / 30 %"}) {
    EXPECT_NE(html.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(html.find("<b>\"quoted\""), std::string::npos);
  EXPECT_EQ(html.find("<script"), std::string::npos);
  // The only address is SVG's namespace name, which nobody fetches.
  size_t addresses = 0;
  for (size_t at = html.find("http"); at != std::string::npos; at = html.find("http", at + 1)) {
    EXPECT_EQ(html.substr(at, 26), "http://www.w3.org/2000/svg");
    ++addresses;
  }
  EXPECT_GT(addresses, 0u);
}

TEST(Report, ShowsTheDifferenceFirstSortedAndColoursNothingElse) {
  FakeRun fake;
  fake.line(step(1, 1));
  fake.file("probes.json", Json{probe("position", 0.35, -0.04, 0.01, 0.06),
                                probe("direction", 0.15, -0.25, -0.2, -0.15),
                                probe("digit", 0.55, 0.15, 0.2, 0.25)}
                               .dump());
  const std::string html = report_html("A run", {{fake.read(), {}}});
  const size_t table = html.find("trained less own initialisation");
  ASSERT_NE(table, std::string::npos);
  EXPECT_LT(table, html.find("class=\"tiles\""));
  const std::string first = html.substr(table, html.find("</table>", table) - table);
  EXPECT_LT(first.find("digit"), first.find("position"));
  EXPECT_LT(first.find("position"), first.find("direction"));
  const auto count = [&](const std::string& part) {
    size_t found = 0;
    for (size_t at = first.find(part); at != std::string::npos; at = first.find(part, at + 1)) {
      ++found;
    }
    return found;
  };
  EXPECT_EQ(count("class=\" good\""), 1U);
  EXPECT_EQ(count("class=\" bad\""), 1U);
  EXPECT_EQ(count("<circle"), 3U);
  EXPECT_EQ(count("majority"), 0U);  // controls are behind a click
  const size_t folded = html.find("<summary>Values and controls</summary>");
  EXPECT_LT(folded, html.find("majority"));
  EXPECT_NE(html.find("Clear above the model&#39;s own initialisation: digit (linear) by +0.200 "
                      "[+0.150, +0.250]; clear below: direction (linear) by -0.200"),
            std::string::npos);
}

TEST(Report, SeveralRunsShareATable) {
  FakeRun first, second;
  first.file("probes.json", Json::array({probe("digit", 0.55, 0.15, 0.2, 0.25)}).dump());
  first.line(step(1, 1));
  second.line(step(9, 1));
  const std::string path = first.path("out/report.html");
  fs::create_directories(fs::path(path).parent_path());
  const RunRecord a = first.read(), b = second.read();
  write_report(path, "Both", {{a, {}}, {b, {}}});
  std::ifstream file(path);
  const std::string html{std::istreambuf_iterator<char>(file), {}};
  EXPECT_NE(html.find("<h2 id=\"" + a.name), std::string::npos);
  EXPECT_NE(html.find("<h2 id=\"" + b.name), std::string::npos);
  EXPECT_NE(html.find("Not yet compared with its own initialisation"), std::string::npos);
  EXPECT_THROW(write_report(first.path("no/such/folder.html"), "Both", {}), DataError);
}

}  // namespace
}  // namespace jepa::eval::report
