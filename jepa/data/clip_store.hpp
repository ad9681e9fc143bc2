// The clip store: episodes of frames and their labels in one HDF5 file.
//
// Layout: `pixels` uint8 (N, H, W, C), all frames of all episodes one after another, chunked by a
// few frames; `ep_len` int32 (E), `ep_offset` int64 (E); any further dataset of numbers whose first
// dimension is E is a column: integers (E) are classes (booleans 0 and 1), floating-point (E) or
// (E, K) are quantities; one whose first dimension is N, (N) or (N, K), holds values of each frame
// and can be carried by clips as a signal. Attributes: fps, generator, seed, licence, version.
// Files of this layout from other tools open as they are (stable-worldmodel's is this one: row t
// holds observation t, the action that leaves it and the reward that came with it).
#pragma once

#include <jepa/data/clip_source.hpp>

#include <map>

namespace jepa {

/// What a clip store says about itself.
struct ClipStoreInfo {
  int64_t episodes = 0;  ///< in the file; empty ones have no clips
  int64_t frames = 0;    ///< of all episodes together
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 0;
  double fps = 0.0;  ///< 0: unknown
  /// generator, seed, licence, version, recipe, label_names, and any others that a
  /// ClipStoreWriter wrote
  std::map<std::string, std::string> attributes;
  int64_t deflate = 0;  ///< writing: level at which pixels are compressed, 0 (not) to 9
};

/// Mean and deviation of each number of a column's rows, float64 [K]; rows with a NaN (the action
/// after an episode's last frame) are left out.
struct ColumnStatistics {
  torch::Tensor mean;
  torch::Tensor deviation;         ///< of the population (n), as stable-worldmodel normalises
  torch::Tensor sample_deviation;  ///< of a sample (n - 1), as LeWM does
  int64_t rows = 0;
};

/// The attribute in which a ClipStoreWriter lists its other ones, by commas: a damaged file's are
/// not safely listed (Hdf5File::attributes).
inline constexpr const char* kAttributeNames = "attribute_names";

/// Reads clips from a clip store. HDF5 itself is used under one lock for the whole process.
class ClipStore : public ClipSource {
 public:
  /// @throws DataError naming the file and what is missing, of the wrong shape, compressed with a
  /// filter that is not installed, or held in another file
  ClipStore(const std::string& path, const ClipOptions& options);
  ~ClipStore() override;

  int64_t size() const override;
  using ClipSource::read;
  RawClip read(int64_t index, Random& random, const CropChooser& crop) const override;
  std::string name(int64_t index) const override;
  /// The clip that starts at frame `start` of an episode (its number in the file), with all of its
  /// frames and actions.
  /// @throws DataError where the episode does not hold it
  RawClip read_at(int64_t episode, int64_t start) const;
  /// Every (episode, start) that read_at() takes, as stable-worldmodel numbers its clips.
  std::vector<std::pair<int64_t, int64_t>> windows() const;
  /// @throws DataError where there is no such column, or fewer than two rows without a NaN
  ColumnStatistics statistics(const std::string& column) const;
  std::vector<std::string> columns() const override;
  /// Names of the columns of one value or row a frame.
  std::vector<std::string> signals() const;
  /// Clips from the same episode share its value. Of a column of one value or row a frame, that of
  /// the clip's last frame, where `random_window` is off and a clip is always the same frames. Of a
  /// column of rows, `NAME.K` is number K of each (`state.49`).
  torch::Tensor column(const std::string& name) const override;

  const ClipStoreInfo& info() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// Writes a clip store: under a temporary name beside `path`, renamed when it is complete.
class ClipStoreWriter {
 public:
  /// @param info only fps, attributes and deflate are read; sizes come from the first clip
  /// @throws DataError where the file cannot be made
  ClipStoreWriter(const std::string& path, const ClipStoreInfo& info);
  /// Removes the temporary file where finish() was not reached.
  ~ClipStoreWriter();

  /// Adds an episode; its signals become columns of one row a frame.
  /// @throws DataError where its frames or signals are of another size than the first one's, or on
  /// a full disk
  void append(const RawClip& clip);

  /// Sets an attribute that is known only now.
  void note(const std::string& attribute, const std::string& value);
  /// The same for the frames a second; 0: not known.
  void set_fps(double fps);

  /// Writes the index and the columns (int64 [E], float32 [E] or [E, K]) and puts the file in
  /// place.
  void finish(const std::map<std::string, torch::Tensor>& columns);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace jepa
