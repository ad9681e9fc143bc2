// Stages of a run: what each came to is a file, so that a run that was killed goes on with the
// next.
#pragma once

#include <eval/dreaming/policy.hpp>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace jepa::eval::dreaming {

/// What a stage took and came to.
struct StageRecord {
  std::string name = {};
  double seconds = 0;
  int64_t frames = 0;     ///< real ones that the game was moved on by
  int64_t decisions = 0;  ///< real ones
  int64_t imagined = 0;   ///< imagined ones
  std::map<std::string, double> numbers = {};
  std::map<std::string, ScoreInterval> scores = {};
  std::map<std::string, std::vector<double>> curves = {};
};

/// A record as JSON.
std::string record_json(const StageRecord& record);
/// Reads what record_json() wrote. @throws DataError naming `path` where it is none
StageRecord parse_record(const std::string& json, const std::string& path);

/// The stages of a run folder, in `FOLDER/stages/NAME.json`.
class Stages {
 public:
  /// @param say told of every stage that begins; may be empty
  Stages(std::string folder, std::function<void(const std::string&)> say);

  /// Whether the stage has been done.
  bool done(const std::string& name) const;
  /// Does the stage unless it has been done, and keeps its record; its seconds are measured here.
  StageRecord run(const std::string& name, const std::function<void(StageRecord& record)>& work);
  /// All that `run` was asked for, in order.
  const std::vector<StageRecord>& records() const { return records_; }
  const StageRecord& record(const std::string& name) const;
  /// A file of the run that a stage keeps its result in.
  std::string file(const std::string& name) const { return folder_ + "/" + name; }

 private:
  std::string folder_;
  std::function<void(const std::string&)> say_;
  std::vector<StageRecord> records_;
};

/// What an arm cost: the sums over the stages that it rests on.
struct Cost {
  double seconds = 0;
  int64_t frames = 0;
  int64_t imagined = 0;
};
/// @param counted whether a stage, by its name, belongs to the arm
Cost cost_of(const std::vector<StageRecord>& records,
             const std::function<bool(const std::string& name)>& counted);

}  // namespace jepa::eval::dreaming
