// The pictures of a surprise run, of films of any side.
#include "temporary_folder.hpp"

#include <eval/physics/surprise_grid.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

#include <filesystem>

namespace jepa::eval::physics {
namespace {

TEST(SurpriseMedia, CaptionsFitTheSmallestFilms) {
  for (const int64_t side : {16, 48}) {
    const TemporaryFolder folder;
    SurpriseOptions options;
    options.run = folder.path().string();
    options.world.side = side;
    options.training.arm.jepa.encoder.vit.patch = 8;
    comparison::ComparisonHooks hooks;
    hooks.say = [](const std::string&) {};
    const std::string markup =
        surprise_media(options, {{.arm = "copy_last", .seed = 0, .past = 4}}, hooks);
    EXPECT_NE(markup.find("copy_last"), std::string::npos);
    for (const char* file : {"surprise.mp4", "surprise.png", "curves.csv"}) {
      EXPECT_TRUE(std::filesystem::exists(folder.file(file))) << side << " " << file;
    }
  }
}

}  // namespace
}  // namespace jepa::eval::physics
