// Which encoder of a run or weight file is meant, asked alike by all programs that read features.
#pragma once

#include <jepa/io/weight_file.hpp>
#include <jepa/options.hpp>

#include <string>

namespace jepa::examples {

/// Option `module` of weights that hold both encoders.
struct EncoderModule {
  std::string module = "auto";  ///< auto, encoder, target_encoder

  /// @param what its help says before what `auto` means
  void describe(OptionVisitor& visit, const std::string& what = "which encoder of the weights");
  /// `encoder` or `target_encoder`; what `auto` means, the options of the run say.
  std::string of(const WeightFile& weights) const;
};

}  // namespace jepa::examples
