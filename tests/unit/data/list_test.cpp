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
#include <sys/stat.h>
#include <unistd.h>

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

TEST(FolderClasses, RealFoldersComeBeforeLinksToThem) {
  const TemporaryFolder folder;
  touch(folder.file("d/dog/1.mp4"));
  touch(folder.file("d/zebra/2.mp4"));
  fs::create_directory_symlink("dog", folder.file("d/best"));
  EXPECT_EQ(class_names(list_videos(folder.file("d"))), (std::vector<std::string>{"dog", "zebra"}));

  touch(folder.file("c/cat/1.mp4"));
  touch(folder.file("c/dog/2.mp4"));
  touch(folder.file("far/in/3.mp4"));
  fs::create_directory_symlink("../dog", folder.file("c/cat/friend"));
  fs::create_directory_symlink("..", folder.file("c/cat/loop"));
  fs::create_directory_symlink(folder.file("far"), folder.file("c/dog/more"));
  fs::create_directory_symlink("../../c", folder.file("far/in/back"));
  const auto entries = list_videos(folder.file("c"));
  ASSERT_EQ(entries.size(), 3u);
  const std::vector<std::string> classes{"cat", "dog", "dog"};
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(entries[i].class_name, classes[i]) << entries[i].path;
}

TEST(FolderClasses, AFolderThatCannotBeReadIsSaid) {
  const TemporaryFolder folder;
  for (const char* name : {"d/cat/1.mp4", "d/dog/2.mp4"}) touch(folder.file(name));
  fs::permissions(folder.path(), fs::perms::all);
  const auto listed_with = [&](fs::perms mode) {
    fs::permissions(folder.file("d/dog"), mode);
    const uid_t user = geteuid();
    const bool lowered = user == 0 && seteuid(65534) == 0;  // root may read everything
    const std::string text = message_of<DataError>([&] { list_videos(folder.file("d")); });
    if (lowered && seteuid(user) != 0) ADD_FAILURE();
    fs::permissions(folder.file("d/dog"), fs::perms::owner_all);
    return text;
  };
  const std::string closed = listed_with(fs::perms::none);
  const std::string searched =  // names, but no files
      listed_with(fs::perms::owner_read | fs::perms::others_read);
  EXPECT_NE(closed.find("d/dog: cannot be read (Permission denied)"), std::string::npos) << closed;
  EXPECT_NE(searched.find("cannot be read (Permission denied)"), std::string::npos) << searched;
}

TEST(MediaLists, PipesAreRefused) {
  const TemporaryFolder folder;
  for (const char* name : {"list.txt", "list.csv", "recipe.ini"}) {
    ASSERT_EQ(mkfifo(folder.file(name).c_str(), 0600), 0);
    const std::string text =
        message_of<DataError>([&] { open_clip_source(folder.file(name), {}); });
    EXPECT_NE(text.find(std::string(name) + ": not a regular file"), std::string::npos) << text;
  }
}

TEST(MediaLists, LinesThatPeopleWrite) {
  const TemporaryFolder folder;
  const std::vector<std::pair<std::string, std::string>> lines = {
      {"clip::take.mp4 3", "clip::take.mp4"},
      {"clip::take.mp4::3", "clip::take.mp4"},
      {"s.mp4,3,", "s.mp4"},
      {"s.mp4 , 3 ,;", "s.mp4"},
      {"\"s, t.mp4\",3,", "s, t.mp4"},
      {"\"s.mp4\"::3", "s.mp4"},
      {"s.mp4 \"3\",", "s.mp4"},
      {"7.mp4 :: 3", "7.mp4"}};
  for (const auto& [line, name] : lines) {
    std::ofstream(folder.file("list.csv")) << line << "\n";
    const auto entries = read_video_list(folder.file("list.csv"));
    ASSERT_EQ(entries.size(), 1u) << line;
    EXPECT_EQ(fs::path(entries[0].path).filename(), name) << line;
    EXPECT_EQ(entries[0].label, 3) << line;
  }
}

TEST(MediaLists, WhatIsNoListIsSaidInOneLine) {
  const TemporaryFolder folder;
  const auto said = [&](const std::string& bytes) {
    write_bytes(folder.file("l.txt"), bytes);
    return message_of<DataError>([&] { read_video_list(folder.file("l.txt")); });
  };
  const std::string path = folder.file("l.txt");
  EXPECT_EQ(said(std::string("\xFF\xFEs\0.\0m\0p\0 \0001\0\n\0", 16)),
            path + ": text in UTF-16, expected UTF-8");
  EXPECT_EQ(said(std::string("\x7F\x45LF\0\1", 6)), path + ": not a text file");
  EXPECT_EQ(said("s.mp4 1000000000000\n"),
            path + ": line 1: labels end at 999999999, found 1000000000000");
  EXPECT_EQ(said("s.mp4 99999999999999999999999\n"),
            path + ": line 1: labels end at 999999999, found 99999999999999999999999");
  EXPECT_EQ(said("s.mp4 -1\n"), path + ": line 1: labels are numbered from 0 on, found -1");
  EXPECT_EQ(said("path,label\n"), path + ": line 1: expected 'path label', found 'path,label'");
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
