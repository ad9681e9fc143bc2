// Encoders from weight files: published checkpoints, Hugging Face folders, runs of this library.
#pragma once

#include <encoders/registry.hpp>
#include <jepa/data/clip_source.hpp>
#include <jepa/io/published.hpp>

#include <optional>
#include <string>

namespace jepa::encoders {

/// What a user may decide about loading; the file decides the rest.
struct LoadOptions {
  std::string which = "target_encoder";  ///< or "encoder", of files that hold both
  std::string family = "auto";           ///< see ModelFamily; "auto": from the tensors
  int64_t heads = 0;                     ///< 0: from the file or the table of published widths
  bool allow_non_finite = false;         ///< take weights with NaN or infinity

  /// `family`, `heads` and `allow_non_finite`; `which` is up to the program.
  void describe(OptionVisitor& visit);
};

/// An encoder with the weights of a file, in evaluation mode.
struct LoadedEncoder {
  Encoder encoder{nullptr};
  EncoderOptions options;  ///< complete: widths, patch, positions, nominal clip
  /// Published family; empty for a run of this library, whose config.ini says what it is.
  std::optional<ModelFamily> family;
  std::string module;           ///< which one it is: encoder or target_encoder
  std::string summary;          ///< one line to print: family, sizes, where each choice came from
};

/// The family of `file`: as chosen, as a converted file says, as the tensors show; none for a run.
std::optional<ModelFamily> family_of(const WeightFile& file, const std::string& module,
                                     const LoadOptions& choices);

/// Options of the encoder that `file` holds: a run's own, else read off the tensors.
/// @param family of published weights, see family_of()
/// @throws CheckpointError for a damaged file; ConfigError where heads are unknown or do not divide
EncoderOptions encoder_options(const WeightFile& file, const std::string& module,
                               std::optional<ModelFamily> family, const LoadOptions& choices);

/// Compares every option of the encoder in `file` that decides what it computes (all but the size
/// of the clip and what only training sees) with `own`.
/// @throws ConfigError naming the option and both values
void require_same_encoder(const WeightFile& file, const std::string& module,
                          std::optional<ModelFamily> family, const EncoderOptions& own);

/// The fixed position table of `weights` (sin-cos, key `key`, [1, N, D]) for another grid, as the
/// encoder itself resizes it for clips of another size; nothing happens where there is none.
void resize_table(TensorMap& weights, const std::string& key, const TokenGrid& from,
                  const TokenGrid& to);

/// How clips are cut from videos for `loaded`, the same in all programs: as in the run that made
/// the weights; for published ones their nominal frames, V-JEPA with every 4th frame, the later
/// ones at 4 frames a second, images one frame. Clips are the middles of equal parts of a video.
ClipOptions trained_clips(const WeightFile& file, const LoadedEncoder& loaded);
/// `clip` in words, to be printed.
std::string describe_clips(const ClipOptions& clip);

/// Builds the encoder that `file` holds and gives it the weights without copying them.
/// A file with only one of `encoder` and `target_encoder` gives that one.
/// @throws CheckpointError (weights that are not finite too, unless allowed), ConfigError
LoadedEncoder load_encoder(const WeightFile& file, const LoadOptions& choices = {});

}  // namespace jepa::encoders
