// Pages and plots: escaping, numbers, ticks, what a curve becomes.
#include <eval/report/html.hpp>
#include <eval/report/plot.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace jepa::eval::report {
namespace {

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(Html, EscapesEverythingThatMeansSomething) {
  EXPECT_EQ(escape_html("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
  EXPECT_EQ(paragraph("1 < 2"), "<p>1 &lt; 2</p>\n");
  EXPECT_NE(image("", "\"><script>", 3).find("&quot;&gt;&lt;script"), std::string::npos);
}

TEST(Html, Base64OfTheRfcsExamples) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64("\xff\xfe\xfd"), "//79");
}

TEST(Html, NumbersForPeople) {
  EXPECT_EQ(short_number(0), "0");
  EXPECT_EQ(short_number(0.4567), "0.457");
  EXPECT_EQ(short_number(0.5), "0.500");
  EXPECT_EQ(short_number(1), "1");
  EXPECT_EQ(short_number(2.345), "2.35");
  EXPECT_EQ(short_number(-34.56), "-34.6");
  EXPECT_EQ(short_number(456.7), "457");
  EXPECT_EQ(short_number(12345), "12,345");
  EXPECT_EQ(short_number(-1234567.4), "-1,234,567");
  EXPECT_EQ(short_number(-123), "-123");
  EXPECT_EQ(short_number(1.5e10), "1.5e+10");
  EXPECT_EQ(short_number(0.00012), "0.00012");
  EXPECT_EQ(short_number(std::nan("")), "n/a");
}

TEST(Html, TableFillsShortRows) {
  const std::string markup = table({.head = {"a", "b", "c"}, .rows = {{{"1", "[0, 2]"}}}});
  EXPECT_EQ(count(markup, "<td"), 3u);
  EXPECT_NE(markup.find("<small>[0, 2]</small>"), std::string::npos);
}

TEST(Plot, TicksAreRoundAndInside) {
  EXPECT_EQ(nice_ticks(0, 1), (std::vector<double>{0, 0.2, 0.4, 0.6000000000000001, 0.8, 1}));
  EXPECT_EQ(nice_ticks(0, 1000), (std::vector<double>{0, 200, 400, 600, 800, 1000}));
  for (double tick : nice_ticks(-0.37, 0.91)) {
    EXPECT_GE(tick, -0.37);
    EXPECT_LE(tick, 0.91);
  }
}

TEST(Plot, NonFiniteValuesBreakTheLine) {
  const double nan = std::nan("");
  const std::string whole =
      line_plot({.title = "t", .series = {{"a", {1, 2, 3, 4}, {1, 2, 3, 4}}}});
  const std::string broken =
      line_plot({.title = "t", .series = {{"a", {1, 2, 3, 4, 5}, {1, 2, nan, 3, 4}}}});
  EXPECT_EQ(count(whole, "<circle"), 4u);
  EXPECT_EQ(count(broken, "<circle"), 4u);
  const auto path = [](const std::string& svg) {
    const size_t begin = svg.find("<path d=\"") + 9;
    return svg.substr(begin, svg.find('"', begin) - begin);
  };
  EXPECT_EQ(count(path(whole), "M"), 1u);
  EXPECT_EQ(count(path(broken), "M"), 2u);
  EXPECT_EQ(broken.find("nan"), std::string::npos);
}

TEST(Plot, NothingAndConstantsAreDrawable) {
  for (const std::string& svg :
       {line_plot({.title = "empty"}), line_plot({.title = "one", .series = {{"a", {5}, {0.25}}}}),
        line_plot({.title = "no", .series = {{"a", {1, 2}, {std::nan(""), std::nan("")}}}}),
        interval_plot({.title = "empty", .groups = {}})}) {
    EXPECT_EQ(svg.find("nan"), std::string::npos) << svg;
    EXPECT_EQ(svg.find("inf"), std::string::npos) << svg;
    EXPECT_NE(svg.find("</svg>"), std::string::npos);
  }
}

TEST(Plot, LongCurvesAreThinnedWithTheirExtremesKept) {
  Series series{"loss", {}, {}};
  for (int i = 0; i < 100000; ++i) {
    series.x.push_back(i);
    series.y.push_back(i == 50000 ? 9.0 : 1.0);
  }
  const std::string svg = line_plot({.title = "t", .series = {series}});
  EXPECT_LT(svg.size(), 20000u);
  EXPECT_EQ(count(svg, "<polygon"), 1u);
  // The peak reaches the top of the drawing: range 0..9 and 5 % more.
  const std::string fan =
      svg.substr(svg.find("<polygon"), svg.find("opacity") - svg.find("<polygon"));
  EXPECT_NE(fan.find(",54.5 "), std::string::npos);
}

TEST(Plot, IntervalsHaveABarEachAndWhiskersWhereKnown) {
  const std::string svg =
      interval_plot({.title = "probes",
                     .groups = {"trained", "random-init"},
                     .rows = {{"digit", {{0, {0.5, 0.45, 0.55}}, {1, {0.36, 0.36, 0.36}}}},
                              {"direction", {{0, {0.6, 0.5, 0.7}}}}}});
  EXPECT_EQ(count(svg, "<rect"), 3u);
  EXPECT_EQ(count(svg, "stroke-width=\"1.6\""), 2u);
  EXPECT_NE(svg.find("trained: 0.500 [0.450, 0.550]"), std::string::npos);
}

}  // namespace
}  // namespace jepa::eval::report
