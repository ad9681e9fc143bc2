// What train_dynamics does where a frozen encoder of patches is named.
#pragma once

#include <eval/dynamics/patch_training.hpp>
#include <eval/dynamics/protocol.hpp>
#include <examples/program.hpp>
#include <jepa/data/loader.hpp>

#include <memory>

namespace jepa::examples {

/// Options that the kind of model asked for would pass over.
/// @param given of a new run
/// @throws ConfigError naming the first of them
void require_options_of_model(const OptionValues& given, bool patches);

/// The model with its first weights, on the program's device, for the sizes that `some` has;
/// `shape` takes them.
/// @throws ConfigError where the protocol's history or the loss's rollout is longer than clips show
std::unique_ptr<eval::dynamics::PatchDynamicsModel> make_patch_model(
    const Program& program, eval::dynamics::RunShape& shape, const ClipBatch& some);

}  // namespace jepa::examples
