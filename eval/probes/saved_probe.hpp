// Fitted probes in a file: read again, they give the answers they gave. Safetensors with metadata,
// so that a file from anywhere can be opened: nothing in it is run.
#pragma once

#include <eval/probes/protocol.hpp>
#include <jepa/io/safetensors.hpp>
#include <jepa/model.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace jepa::eval::probes {

/// One probe of one label.
struct SavedProbe {
  std::string label;
  std::string kind;                     ///< linear, ridge (both linear maps) or attentive
  std::string setting = {};             ///< chosen on validation
  std::string score = {};               ///< on its test clips, in words
  int64_t classes = 0;                  ///< 0: quantities
  std::vector<std::string> names = {};  ///< of the classes, where they are known
  int64_t depth = 1, heads = 1;         ///< of an attentive probe
  TensorMap parts = {};                 ///< see Candidate::parts

  /// Columns that a prediction has.
  int64_t outputs() const;
};

/// Probes of one encoder.
struct SavedProbes {
  std::string encoder;              ///< encoder_identity() of the one they were fitted on
  std::string module;               ///< which it is of its weights: encoder or target_encoder
  std::string summary;              ///< of the encoder, in words
  int64_t layer = -1;               ///< whose tokens are read
  std::string pool;                 ///< of tokens for linear probes
  std::vector<int64_t> clip_sizes;  ///< [C, T, H, W] of the clips that they were fitted on
  std::vector<SavedProbe> probes = {};
};

/// A digest of names, types, shapes and values, 16 hexadecimal digits. It tells tensors apart, not
/// forgeries.
std::string tensor_identity(const TensorMap& tensors);
/// A digest of names, shapes and values of an encoder's weights, 16 hexadecimal digits. It tells
/// encoders apart, not forgeries.
std::string encoder_identity(const EncoderImpl& encoder);

/// Those of `results` that can be saved: all but k-NN, whose probe is its training clips.
/// @param names of the classes of column `label`; empty: not known
std::vector<SavedProbe> savable_probes(const std::vector<ProbeResult>& results,
                                       const ProbeOptions& options, int64_t width,
                                       const std::vector<std::string>& names);

/// @throws DataError naming the file that cannot be written; ConfigError where there is no probe
void write_probes(const std::string& path, const SavedProbes& saved);

/// @throws CheckpointError naming the file, and the key that is missing or of another shape
SavedProbes read_probes(const std::string& path);

/// @param sizes [C, T, H, W] of clips that will be asked about
/// @throws CheckpointError where the probes were fitted on another encoder; ConfigError where they
///   were on clips of other sizes
void require_encoder(const SavedProbes& saved, const std::string& path, const EncoderImpl& encoder,
                     const std::vector<int64_t>& sizes);

/// The probe as it was fitted: takes pooled features [n, D], an attentive one tokens [n, N, D].
/// @param width of the encoder's tokens
/// @throws CheckpointError where its tensors are of another width
Candidate restore_probe(const SavedProbe& probe, const SavedProbes& saved, int64_t width,
                        torch::Device device, const std::string& path);

}  // namespace jepa::eval::probes
