// Stores that HDF5 1.10 crashes on or never comes back from; other versions may read them.
#include "temporary_folder.hpp"

#include <jepa/data/clip_store.hpp>
#include <jepa/data/hdf5_file.hpp>
#include <jepa/data/hdf5_trial.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

#include <atomic>
#include <thread>

namespace jepa {
namespace {

/// A stored file with one byte changed.
std::string changed(const std::string& name, size_t at, char value) {
  std::string bytes = read_bytes(JEPA_TEST_FIXTURES "/stores/" + name);
  bytes.at(at) = value;
  return bytes;
}

/// What opening a store and asking for its columns says.
std::string failure(const std::string& path) {
  return message_of<DataError>([&] { ClipStore(path, {}).columns(); });
}

void expect_refused(const std::string& message, const std::string& file, const std::string& how) {
  if (message.find("damaged: the HDF5 library") == std::string::npos) {
    GTEST_SKIP() << "this HDF5 takes it: " << message;
  }
  EXPECT_NE(message.find(file + ": damaged: the HDF5 library " + how), std::string::npos)
      << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

TEST(Hdf5Trial, AStoreThatCrashesTheLibraryIsAnError) {
  const TemporaryFolder folder;
  // A field's name in the type of a column: 2^32 bytes are copied of it.
  write_bytes(folder.file("a.h5"), changed("columns.h5", 10631, '\xff'));
  testing::internal::CaptureStderr();
  const std::string message = failure(folder.file("a.h5"));
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  expect_refused(message, "a.h5", "crashes");  // by a signal, or a sanitizer's word
}

TEST(Hdf5Trial, AStoreThatNeverEndsIsAnErrorWithinItsTime) {
  const TemporaryFolder folder;
  // A count in a selection of a virtual dataset.
  write_bytes(folder.file("a.h5"), changed("virtual.h5", 2217, '\0'));
  expect_refused(failure(folder.file("a.h5")), "a.h5", "does not come to an end within 10 s");
}

TEST(Hdf5Trial, WholeStoresAreReadFromSeveralThreads) {
  const TemporaryFolder folder;
  std::atomic<int> read = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const std::string path = folder.file(std::to_string(i) + ".h5");
      for (int again = 0; again < 5; ++again) {
        write_hdf5(path, {{"a", torch::full({3}, again)}});
        read += Hdf5File::open(path).read("a").equal(torch::full({3}, again)) ? 1 : 0;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(read, 20);
}

TEST(Hdf5Trial, OnlyTheRootGroupIsRead) {
  const TemporaryFolder folder;
  write_hdf5(folder.file("a.h5"), {{"a", torch::zeros({3})}});
  EXPECT_EQ(message_of<DataError>([&] { Hdf5File::open(folder.file("a.h5")).read("./a"); }),
            folder.file("a.h5") + ": dataset './a': only datasets of the root group are read");
}

}  // namespace
}  // namespace jepa
