#include <eval/dreaming/stage.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>

#include <nlohmann/json.hpp>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace jepa::eval::dreaming {
namespace {

namespace fs = std::filesystem;

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw DataError(path + ": cannot be opened");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

std::string record_json(const StageRecord& record) {
  nlohmann::ordered_json scores = nlohmann::ordered_json::object();
  for (const auto& [name, s] : record.scores) {
    scores[name] = {{"mean", s.mean},
                    {"low", s.low},
                    {"high", s.high},
                    {"deviation", s.deviation},
                    {"episodes", s.episodes}};
  }
  return nlohmann::ordered_json{{"name", record.name},
                                {"seconds", record.seconds},
                                {"real_frames", record.frames},
                                {"real_decisions", record.decisions},
                                {"imagined_decisions", record.imagined},
                                {"numbers", record.numbers},
                                {"scores", scores},
                                {"curves", record.curves}}
             .dump(1) +
         "\n";
}

StageRecord parse_record(const std::string& json, const std::string& path) {
  try {
    const auto read = nlohmann::json::parse(json);
    StageRecord record{.name = read.at("name"),
                       .seconds = read.at("seconds"),
                       .frames = read.at("real_frames"),
                       .decisions = read.at("real_decisions"),
                       .imagined = read.at("imagined_decisions"),
                       .numbers = read.at("numbers"),
                       .curves = read.at("curves")};
    for (const auto& [name, s] : read.at("scores").items()) {
      record.scores[name] = {.mean = s.at("mean"),
                             .low = s.at("low"),
                             .high = s.at("high"),
                             .deviation = s.at("deviation"),
                             .episodes = s.at("episodes")};
    }
    return record;
  } catch (const nlohmann::json::exception& error) {
    throw DataError(path + ": is no stage's record (" + error.what() + ")");
  }
}

Stages::Stages(std::string folder, std::function<void(const std::string&)> say)
    : folder_(std::move(folder)), say_(std::move(say)) {
  fs::create_directories(folder_ + "/stages");
}

bool Stages::done(const std::string& name) const {
  return fs::exists(folder_ + "/stages/" + name + ".json");
}

StageRecord Stages::run(const std::string& name, const std::function<void(StageRecord&)>& work) {
  const std::string path = folder_ + "/stages/" + name + ".json";
  if (done(name)) {
    records_.push_back(parse_record(read_text(path), path));
    return records_.back();
  }
  if (say_) say_(name);
  StageRecord record{.name = name};
  const auto start = std::chrono::steady_clock::now();
  work(record);
  record.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  write_file_atomic(path, record_json(record));
  records_.push_back(std::move(record));
  return records_.back();
}

const StageRecord& Stages::record(const std::string& name) const {
  for (const auto& record : records_) {
    if (record.name == name) return record;
  }
  throw Error("dream: stage " + name + " has not been run");
}

Cost cost_of(const std::vector<StageRecord>& records,
             const std::function<bool(const std::string&)>& counted) {
  Cost cost;
  for (const auto& record : records) {
    if (!counted(record.name)) continue;
    cost.seconds += record.seconds;
    cost.frames += record.frames;
    cost.imagined += record.imagined;
  }
  return cost;
}

}  // namespace jepa::eval::dreaming
