// Signals cut from the columns of a clip store.
#pragma once

#include <jepa/data/clip_source.hpp>
#include <jepa/data/hdf5_dataset.hpp>

namespace jepa {

/// The columns of a clip store that its clips carry as signals; only these are opened.
class SignalColumns {
 public:
  /// @param frames all frames of the store; @param episodes its episodes
  /// @throws DataError naming file and column: not there, no numbers, neither a row a frame nor one
  /// an episode
  SignalColumns(const Hdf5File& file, const ClipOptions& options, int64_t frames, int64_t episodes);

  /// The signals of a clip. Uses no ATen operator.
  /// @param chosen its frames, counted over the whole store; @param end of the episode, likewise
  /// @param step source frames from one to the next where none is held
  /// @throws DataError for an action that is not finite, but for those that lead nowhere: an
  ///   episode's last, and what a block cut short before its last frame lacks, which count as 0
  Signals read(const std::vector<int64_t>& chosen, int64_t end, int64_t step,
               int64_t episode) const;

 private:
  struct Column {
    std::string name;
    Hdf5Dataset dataset;
    bool per_frame;
  };

  Signal frames_of(const Column& column, const std::vector<int64_t>& chosen) const;
  Signal actions_of(const Column& column, const std::vector<int64_t>& chosen, int64_t end,
                    int64_t step) const;

  std::string path_;  // of the file, for messages
  std::string mode_;
  std::vector<Column> columns_;
};

}  // namespace jepa
