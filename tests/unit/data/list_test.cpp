// Folders and their classes.
#include "temporary_folder.hpp"

#include <jepa/data/clip_source.hpp>
#include <jepa/data/image_folder.hpp>
#include <jepa/data/label_names.hpp>
#include <jepa/data/media_list.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace jepa {
namespace {

namespace fs = std::filesystem;

void touch(const fs::path& path) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << "x";
}

TEST(FolderClasses, FoldersThatNumberTheirClassesDifferentlyAreRefused) {
  const TemporaryFolder folder;
  for (const char* name : {"train/cat/a.mp4", "train/dog/b.mp4", "test/dog/c.mp4",
                           "pictures/cat/a.PNG", "pictures/dog/b.jpeg"}) {
    touch(folder.file(name));
  }
  const auto open = [&](const char* name) { return open_clip_source(folder.file(name), {}); };
  const auto train = open("train");
  const auto test = open("test");
  const auto pictures = open("pictures");
  EXPECT_EQ(label_names(*train), (std::vector<std::string>{"cat", "dog"}));
  EXPECT_EQ(label_names(*test), (std::vector<std::string>{"dog"}));
  EXPECT_NO_THROW(require_same_labels(*train, "train", *pictures, "pictures"));
  try {
    require_same_labels(*train, "train", *test, "test");
    FAIL() << "a dog is class 1 in one and class 0 in the other";
  } catch (const DataError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("label 0 is 'cat' in train but 'dog' in test"), std::string::npos) << text;
  }
}

TEST(FolderClasses, FilesWithoutClassFoldersHaveNoNames) {
  const TemporaryFolder folder;
  touch(folder.file("flat/a.mp4"));
  touch(folder.file("flat/dog/b.mp4"));
  EXPECT_TRUE(class_names(list_videos(folder.file("flat"))).empty());
}

TEST(FolderClasses, OfTwoLinksToOneFolderTheFirstByNameIsEntered) {
  const TemporaryFolder folder;
  touch(folder.file("real/x.mp4"));
  fs::create_directories(folder.file("root"));
  for (const char* name : {"z", "m", "b"}) {
    fs::create_directory_symlink(folder.file("real"), folder.file(std::string("root/") + name));
  }
  const auto names = class_names(list_videos(folder.file("root")));
  EXPECT_EQ(names, (std::vector<std::string>{"b"}));
}

TEST(FolderClasses, OneGifDoesNotHideAFolderOfPictures) {
  const TemporaryFolder folder;
  for (const char* name : {"a.png", "b.png", "c.gif"}) touch(folder.file(std::string("p/") + name));
  const auto source = open_clip_source(folder.file("p"), {});
  ASSERT_NE(dynamic_cast<const ImageFolder*>(source.get()), nullptr);
  EXPECT_EQ(source->size(), 2);
  touch(folder.file("g/c.gif"));
  EXPECT_EQ(dynamic_cast<const ImageFolder*>(open_clip_source(folder.file("g"), {}).get()),
            nullptr);
}

}  // namespace
}  // namespace jepa
