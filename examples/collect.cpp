// Collects episodes of a world, native or Gymnasium's, into a clip store.
#include <eval/worlds/collection.hpp>
#include <eval/worlds/coverage.hpp>
#include <eval/worlds/gymnasium.hpp>
#include <eval/worlds/registry.hpp>
#include <examples/training_run.hpp>
#include <jepa/data/clip_store.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/json_text.hpp>
#include <jepa/version.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <iostream>

namespace {

using namespace jepa;
namespace worlds = eval::worlds;

struct CollectOptions {
  std::string world = worlds::kTwoRooms;
  std::string out;
  std::string policy = "random";
  std::string factors = "standard";
  std::string licence;
  int64_t episodes = 0;
  int64_t frames = 0;
  int64_t max_steps = 0;
  int64_t block = 1;
  int64_t batch = 4;
  int64_t deflate = 0;
  double fps = 0;
  worlds::PolicyOptions policy_options;
  worlds::GymnasiumOptions gym;

  void describe(OptionVisitor& visit) {
    visit("world", world, {.help = "two_rooms, swm_two_rooms, dodge, balls, push, or gym:ID"});
    visit("out", out, {.help = "the clip store to write (.h5)"});
    visit("policy", policy, {.help = "who acts", .choices = worlds::policy_names()});
    visit("episodes", episodes, {.help = "how many; 0: as frames says", .min = 0});
    visit("frames", frames, {.help = "whole episodes until there are so many", .min = 0});
    visit("max_steps", max_steps,
          {.help = "of the world in an episode, in actions; 0: the world's own limit", .min = 0});
    visit("block", block, {.help = "actions from one stored frame to the next", .min = 1});
    visit("factors", factors,
          {.help = "of native worlds: standard, training, or one to draw from "
                   "its unseen values"});
    visit("batch", batch, {.help = "episodes that run side by side", .min = 1});
    visit("deflate", deflate, {.help = "how hard pixels are compressed", .min = 0, .max = 9});
    visit("fps", fps, {.help = "noted in the store; 0: what the world says", .min = 0});
    visit("licence", licence, {.help = "noted in the store"});
  }

  std::vector<OptionSection> sections() {
    return {{"", "", [this](OptionVisitor& visit) { describe(visit); }},
            {"policy", "knobs of the policies",
             [this](OptionVisitor& visit) { policy_options.describe(visit); }},
            {"gym", "of Gymnasium environments",
             [this](OptionVisitor& visit) { gym.describe(visit); }}};
  }
};

worlds::FactorRanges factor_ranges(const worlds::World& world, const std::string& factors) {
  if (factors == "standard") return {};
  if (factors == "training") return worlds::training_ranges(world);
  return worlds::unseen_ranges(world, factors);
}

ClipStoreInfo describe_store(examples::Program& program, const CollectOptions& options,
                             const worlds::World& world) {
  ClipStoreInfo info;
  info.fps = options.fps;
  info.deflate = options.deflate;
  if (const auto* gym = dynamic_cast<const worlds::Gymnasium*>(&world); gym && info.fps == 0) {
    info.fps = gym->fps() / static_cast<double>(options.block);
  }
  const auto& about = world.info();
  info.attributes = {{"generator", "jepa collect"},
                     {"version", version() + " (" + commit() + ")"},
                     {"recipe", dump_ini(program.sections)},
                     {"seed", std::to_string(program.common.seed)},
                     {"licence", options.licence.empty() ? "unknown" : options.licence},
                     {"world", about.name},
                     {"policy", options.policy},
                     {"factors", options.factors},
                     {"action_block", std::to_string(options.block)},
                     {"action_width", std::to_string(about.action_width)},
                     {"action_choices", std::to_string(about.action_choices)},
                     {"state_names", c10::Join(",", about.state)},
                     {"success_rule", about.success_rule}};
  if (about.name.starts_with("gym:")) {
    info.attributes["frame_skip"] = std::to_string(options.gym.frame_skip);
    info.attributes["gym_make"] = options.gym.make;
  }
  return info;
}

/// What is known of each episode, and what all of them come to.
class Account {
 public:
  explicit Account(const worlds::World& world) : world_(world), coverage_(world.info().name) {}

  void add(const worlds::CollectedEpisode& episode) {
    number_.push_back(episode.number);
    length_.push_back(episode.clip.frames);
    steps_.push_back(episode.steps);
    total_.push_back(static_cast<float>(episode.total));
    success_.push_back(episode.success);
    ever_.push_back(episode.ever);
    factors_.push_back(episode.factors);
    frames_ += episode.clip.frames;
    coverage_.add(episode.state, episode.actions);
  }

  int64_t frames() const { return frames_; }
  int64_t episodes() const { return static_cast<int64_t>(number_.size()); }

  std::map<std::string, torch::Tensor> columns() const {
    std::map<std::string, torch::Tensor> all = {{"episode", torch::tensor(number_)},
                                                {"length", torch::tensor(length_)},
                                                {"steps", torch::tensor(steps_)},
                                                {"return", torch::tensor(total_)}};
    if (!world_.info().success_rule.empty()) {
      all["success"] = torch::tensor(success_);
      all["ever_success"] = torch::tensor(ever_);
    }
    const auto& factors = world_.info().factors;
    for (size_t k = 0; k < factors.size(); ++k) {
      std::vector<float> values;
      for (const auto& row : factors_) values.push_back(static_cast<float>(row[k]));
      all["factor_" + factors[k].name] = torch::tensor(values);
    }
    return all;
  }

  /// Means over episodes, with 95 % intervals of the normal distribution.
  nlohmann::json summary() const {
    nlohmann::json all = {{"episodes", episodes()}, {"frames", frames_}};
    const auto mean = [](const auto& values) {
      const auto x = torch::tensor(values).to(torch::kFloat64);
      const double average = x.mean().template item<double>();
      const double deviation = x.numel() > 1 ? x.std().template item<double>() : 0.0;
      const double half = 1.96 * deviation / std::sqrt(static_cast<double>(x.numel()));
      return nlohmann::json{{"mean", average},
                            {"low", average - half},
                            {"high", average + half},
                            {"deviation", deviation}};
    };
    all["steps"] = mean(steps_);
    all["return"] = mean(total_);
    if (!world_.info().success_rule.empty()) {
      all["success"] = torch::tensor(success_).to(torch::kFloat64).mean().item<double>();
      all["ever_success"] = torch::tensor(ever_).to(torch::kFloat64).mean().item<double>();
    }
    for (const auto& [name, share] : coverage_.shares()) all["coverage"][name] = share;
    return all;
  }

 private:
  const worlds::World& world_;
  worlds::Coverage coverage_;
  std::vector<int64_t> number_, length_, steps_, success_, ever_;
  std::vector<float> total_;
  std::vector<std::vector<double>> factors_;
  int64_t frames_ = 0;
};

/// Notes what is known only at the end, and puts the store in place.
void finish(ClipStoreWriter& writer, const Account& account, const worlds::World& world,
            const std::string& interrupted) {
  const auto summary = account.summary();
  if (summary.contains("coverage")) {
    for (const auto& [name, share] : summary.at("coverage").items()) {
      writer.note("coverage_" + name, json_text(share));
    }
  }
  if (const auto* gym = dynamic_cast<const worlds::Gymnasium*>(&world)) {
    writer.note("blank_last_frames", std::to_string(gym->blank_ends()));
  }
  if (!interrupted.empty()) writer.note("interrupted", interrupted.substr(0, 1000));
  writer.finish(account.columns());
}

void report(examples::Program& program, const CollectOptions& options, const Account& account,
            double seconds) {
  program.results = account.summary();
  program.results["out"] = options.out;
  program.results["world"] = options.world;
  program.results["policy"] = options.policy;
  program.results["seconds"] = seconds;
  const double rate = static_cast<double>(account.frames()) / seconds;
  program.results["frames_per_second"] = rate;
  const auto& r = program.results;
  std::cout << options.out << ": " << account.episodes() << " episodes, " << account.frames()
            << " frames, " << std::llround(rate) << " frames/s\n";
  const auto show = [&](const char* name, int digits) {
    char text[120];
    std::snprintf(text, sizeof text, "%s %.*f [%.*f, %.*f]\n", name, digits,
                  r[name]["mean"].get<double>(), digits, r[name]["low"].get<double>(), digits,
                  r[name]["high"].get<double>());
    std::cout << text;
  };
  show("steps", 1);
  show("return", 2);
  for (const char* name : {"success", "ever_success"}) {
    if (r.contains(name)) std::cout << name << " " << r[name].get<double>() << "\n";
  }
  if (!r.contains("coverage")) return;
  for (const auto& [name, share] : r["coverage"].items()) {
    std::cout << name << " " << share.get<double>() << "\n";
  }
}

void collect(examples::Program& program, CollectOptions& options) {
  if (options.out.empty()) throw ConfigError("option out: a file to write is needed");
  if ((options.episodes > 0) == (options.frames > 0)) {
    throw ConfigError("options episodes and frames: one of them says how much is collected");
  }
  const int64_t batch =
      options.episodes > 0 ? std::min(options.batch, options.episodes) : options.batch;
  const auto world = worlds::open_world(options.world, batch, options.gym);
  const auto policy = worlds::make_policy(options.policy, options.policy_options, *world);
  const worlds::CollectionOptions collection{.episodes = options.episodes,
                                             .frames = options.frames,
                                             .max_steps = options.max_steps,
                                             .block = options.block,
                                             .seed = static_cast<uint64_t>(program.common.seed),
                                             .ranges = factor_ranges(*world, options.factors)};
  const std::filesystem::path folder = std::filesystem::path(options.out).parent_path();
  if (!folder.empty()) examples::make_folder(folder.string());
  ClipStoreWriter writer(options.out, describe_store(program, options, *world));
  Account account(*world);
  const bool by_frames = options.frames > 0;
  examples::ProgressBar progress(by_frames ? "frames" : "episodes");
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const auto take = [&](worlds::CollectedEpisode& episode) {
    writer.append(episode.clip);
    account.add(episode);
    progress.update(by_frames ? std::min(account.frames(), options.frames) : account.episodes(),
                    by_frames ? options.frames : options.episodes, options.out);
  };
  try {
    worlds::collect_episodes(*world, *policy, collection, take, examples::stop_requested);
  } catch (const DataError& error) {
    progress.finish();
    if (account.episodes() == 0) throw;
    finish(writer, account, *world, error.what());
    throw DataError(std::string(error.what()) + "; " + options.out + " holds the " +
                    std::to_string(account.frames()) + " frames collected until then");
  }
  progress.finish();
  if (account.episodes() == 0) throw DataError(options.out + ": stopped before a frame was seen");
  finish(writer, account, *world, examples::stop_requested() ? "stopped by a signal" : "");
  report(program, options, account, seconds());
}

}  // namespace

int main(int argc, char** argv) {
  CollectOptions options;
  return examples::program_main(
      argc, argv,
      {.name = "collect",
       .summary = "collects episodes of a world into a clip store",
       .sections = [&](const OptionValues&) { return options.sections(); },
       .run =
           [&](examples::Program& program) {
             examples::catch_stop_signals();
             options.gym.stop = examples::stop_requested;
             collect(program, options);
           }});
}
