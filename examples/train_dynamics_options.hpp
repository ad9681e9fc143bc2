// What `train_dynamics` can be told, and what the data and other runs make of it.
#pragma once

#include <eval/dynamics/protocol.hpp>
#include <eval/dynamics/training.hpp>
#include <eval/dynamics/two_rooms_clips.hpp>
#include <eval/worlds/registry.hpp>
#include <examples/training_run.hpp>
#include <jepa/data/clip_source.hpp>
#include <jepa/options.hpp>
#include <jepa/training/loop.hpp>

#include <memory>
#include <string>
#include <vector>

namespace jepa::examples {

/// Everything that decides a run.
struct TrainDynamicsOptions {
  TrainingInput input{.run = "runs/dynamics", .data = eval::worlds::kTwoRooms};
  std::string validation;
  int64_t validation_clips = 512;
  int64_t wall_cases = 512;
  std::string encoder;
  eval::dynamics::TwoRoomsClipOptions rooms;
  eval::dynamics::RunShape shape;
  eval::dynamics::DynamicsTrainingOptions training;
  LoopOptions loop;

  std::vector<OptionSection> sections();
  bool native() const { return input.data == eval::worlds::kTwoRooms; }
};

/// The word `measured` for statistics of actions becomes the empty list that asks for them.
void take_measured(OptionValues& given);
/// What a run measured stays, though what is given asks for it again.
void keep_measured(OptionValues& given);

/// @param clip completed for the data
/// @throws DataError, and ConfigError where its actions do not make the model's blocks
std::shared_ptr<ClipSource> open_clips(const TrainDynamicsOptions& options, const std::string& data,
                                       ClipOptions& clip);

/// World and factors as the data have them. @param goes_on the run exists
/// @throws ConfigError where another world was asked for
void complete_protocol(TrainDynamicsOptions& options, const OptionValues& given, bool goes_on);

/// The model of the run whose encoder is taken, statistics and all.
/// @throws CheckpointError where there is none, or another was asked for
void take_encoder_shape(TrainDynamicsOptions& options, const OptionValues& given);

/// Lengths of both schedules where they are left to the run.
void complete_schedules(TrainDynamicsOptions& options);

}  // namespace jepa::examples
