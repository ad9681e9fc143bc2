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
  int64_t unknown_heads = 0;  ///< where neither file nor width tells; 0: then they must be given

  /// `family`, `heads` and `allow_non_finite`; the rest is up to the program.
  void describe(OptionVisitor& visit);
};

/// What a weight file holds of one encoder. Asked once, with read_encoder().
struct StoredEncoder {
  std::string path;    ///< the file, for messages
  std::string module;  ///< which one it is: encoder or target_encoder
  /// Published family; empty for a run of this library, whose config.ini says what it is.
  std::optional<ModelFamily> family;
  EncoderOptions options;   ///< complete: widths, patch, positions, nominal clip
  bool knows_heads = true;  ///< false: they are the reader's choice
  /// How clips are cut from videos, the same in all programs: as in the run that made the weights;
  /// for published ones their nominal frames, V-JEPA with every 4th frame, the later ones at 4
  /// frames a second, images one frame. Clips are the middles of equal parts of a video.
  ClipOptions clip;
  TensorMap weights;  ///< under the library's names, as they lie in the file
};

/// An encoder with the weights of a file, in evaluation mode.
struct LoadedEncoder : StoredEncoder {  ///< its `weights` are empty: the encoder has them
  Encoder encoder{nullptr};
  std::string summary;  ///< one line to print: family, sizes, where each choice came from
};

/// Family, shape and weights of the encoder that `file` holds; a file with only one of `encoder`
/// and `target_encoder` gives that one. A run's options are its own, others are read off the
/// tensors.
/// @throws CheckpointError for a damaged file; ConfigError where heads are unknown
StoredEncoder read_encoder(const WeightFile& file, const LoadOptions& choices = {});

/// Compares every option of `stored` that decides what it computes (all but the size of the clip
/// and what only training sees) with `own`.
/// @throws ConfigError naming the option and both values
void require_same_encoder(const StoredEncoder& stored, const EncoderOptions& own);

/// The fixed position table of `weights` (sin-cos, key `key`, [1, N, D]) for another grid, as the
/// encoder itself resizes it for clips of another size; nothing happens where there is none.
void resize_table(TensorMap& weights, const std::string& key, const TokenGrid& from,
                  const TokenGrid& to);

/// `clip` in words, to be printed.
std::string describe_clips(const ClipOptions& clip);

/// Builds the encoder that read_encoder() finds and gives it the weights without copying them.
/// @throws CheckpointError (weights that are not finite too, unless allowed), ConfigError
LoadedEncoder load_encoder(const WeightFile& file, const LoadOptions& choices = {});

}  // namespace jepa::encoders
