#include <eval/worlds/gymnasium.hpp>
#include <eval/worlds/gymnasium_server.hpp>
#include <eval/worlds/registry.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/json_text.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>

namespace jepa::eval::worlds {
namespace {

// One side of a picture made smaller: which pixels an output pixel covers, and by how much.
struct PixelShare {
  int64_t first;
  std::vector<float> weights;
};

std::vector<PixelShare> pixel_shares(int64_t from, int64_t to) {
  std::vector<PixelShare> all;
  const double ratio = static_cast<double>(from) / static_cast<double>(to);
  for (int64_t i = 0; i < to; ++i) {
    const double low = static_cast<double>(i) * ratio, high = low + ratio;
    PixelShare one{static_cast<int64_t>(low), {}};
    for (int64_t p = one.first; p < from && static_cast<double>(p) < high; ++p) {
      const double share =
          std::min(high, static_cast<double>(p + 1)) - std::max(low, static_cast<double>(p));
      one.weights.push_back(static_cast<float>(share / ratio));
    }
    all.push_back(std::move(one));
  }
  return all;
}

}  // namespace

void resize_area(const uint8_t* from, int64_t from_height, int64_t from_width, int64_t channels,
                 int64_t height, int64_t width, uint8_t* to) {
  const auto rows = pixel_shares(from_height, height), columns = pixel_shares(from_width, width);
  const int64_t stride = from_width * channels;
  std::vector<float> line(static_cast<size_t>(stride));
  for (int64_t y = 0; y < height; ++y) {
    std::fill(line.begin(), line.end(), 0.0F);
    for (size_t k = 0; k < rows[y].weights.size(); ++k) {
      const float weight = rows[y].weights[k];
      const uint8_t* row = from + (rows[y].first + static_cast<int64_t>(k)) * stride;
      for (int64_t x = 0; x < stride; ++x) line[x] += weight * static_cast<float>(row[x]);
    }
    for (int64_t c = 0; c < channels; ++c) {
      uint8_t* out = to + (c * height + y) * width;
      for (int64_t x = 0; x < width; ++x) {
        float sum = 0.5F;  // rounds
        for (size_t k = 0; k < columns[x].weights.size(); ++k) {
          const auto at = (columns[x].first + static_cast<int64_t>(k)) * channels + c;
          sum += columns[x].weights[k] * line[at];
        }
        out[x] = static_cast<uint8_t>(std::min(sum, 255.0F));
      }
    }
  }
}

void GymnasiumOptions::describe(OptionVisitor& visit) {
  visit("make", make, {.help = "arguments of gymnasium.make, name=value,..."});
  visit("server", server,
        {.help = "what steps them; envpool: EnvPool, all at once (id and make are its own)",
         .choices = {"gymnasium", "envpool"}});
  visit("python", python,
        {.help = "interpreter; none: JEPA_PYTHON, else that of ./dev setup-envs, else python3"});
  visit("height", height, {.help = "of frames, averaged over area; 0: as they come", .min = 0});
  visit("width", width, {.help = "of frames; 0: as they come", .min = 0});
  visit("frame_skip", frame_skip,
        {.help = "steps of the environment that an action is repeated for", .min = 1});
  visit("max_steps", max_steps,
        {.help = "of the environment, after which an episode is cut; 0: its own limit", .min = 0});
  visit("pixels", pixels,
        {.help = "where frames come from; auto: observations where they are "
                 "images, else rendered",
         .choices = {"auto", "observation", "render"}});
  visit("state", state,
        {.help = "auto (an Atari's RAM, else what is no image in observations), "
                 "observation, ram, info.KEY or none"});
  visit("timeout", timeout,
        {.help = "for the answer to a step, and for each environment that is made or reset",
         .unit = "s",
         .min = 0.01});
  visit("workers", workers, {.help = "processes that share the episodes", .min = 1});
}

std::string find_python(const GymnasiumOptions& options) {
  if (const char* given = std::getenv("JEPA_PYTHON"); given != nullptr && *given != 0) return given;
  static const std::map<std::string, std::string> families = {{"ALE/", "doom-atari"},
                                                              {"Vizdoom", "doom-atari"},
                                                              {"gym_pusht/", "pusht"},
                                                              {"Reacher", "mujoco"},
                                                              {"dm_control/", "mujoco"}};
  std::string family = options.server == "envpool" ? "envpool" : "";
  for (const auto& [prefix, its] : families) {
    if (family.empty() && options.id.starts_with(prefix)) family = its;
  }
  std::error_code error;
  const auto python = std::filesystem::absolute(".deps/envs/" + family + "/bin/python", error);
  const bool there = !family.empty() && std::filesystem::exists(python, error);
  return there ? python.string() : "python3";
}

/// The processes, the episodes each has, and where their numbers lie.
class Gymnasium::Servers {
 public:
  Servers(const GymnasiumOptions& options, int64_t batch) {
    if (batch < 1) throw ConfigError("gym:" + options.id + ": a batch needs an episode");
    if ((options.height == 0) != (options.width == 0)) {
      throw ConfigError("gym: height and width go together");
    }
    const std::string python = options.python.empty() ? find_python(options) : options.python;
    const int64_t count = std::min(options.workers, batch);
    for (int64_t w = 0; w < count; ++w) {
      const int64_t first = batch * w / count, end = batch * (w + 1) / count;
      const nlohmann::json asked = {{"id", options.id},
                                    {"server", options.server},
                                    {"batch", end - first},
                                    {"make", options.make},
                                    {"frame_skip", options.frame_skip},
                                    {"max_steps", options.max_steps},
                                    {"pixels", options.pixels},
                                    {"state", options.state}};
      auto server = std::make_unique<GymnasiumServer>("gym:" + options.id, python, json_text(asked),
                                                      options.timeout, options.stop);
      auto said = nlohmann::json::parse(server->description());
      if (w == 0) description = said;
      if (said.at("frame") != description.at("frame") ||
          said.at("state") != description.at("state")) {
        throw DataError("gym:" + options.id + ": its frames or state differ between processes");
      }
      const auto offsets = said.at("offsets").get<std::map<std::string, int64_t>>();
      for (int64_t i = first; i < end; ++i) places_.push_back({servers_.size(), i - first});
      servers_.push_back({std::move(server), offsets});
    }
    description.at("frame").get_to(frame);
    description.at("action_width").get_to(action_width);
    state = static_cast<int64_t>(description.at("state").size());
  }

  // The row of episode `i` in a shared array whose rows have `width` values.
  template <class T>
  T* row(int64_t i, const char* array, int64_t width = 1) const {
    const Place& place = places_[i];
    const Server& server = servers_[place.server];
    return reinterpret_cast<T*>(server.process->memory() + server.offsets.at(array)) +
           place.row * width;
  }

  void command(const std::string& text) {
    for (auto& server : servers_) server.process->send(text);
    for (auto& server : servers_) server.process->wait();
  }

  int64_t frame_bytes() const { return frame[0] * frame[1] * frame[2]; }

  nlohmann::json description;
  std::vector<int64_t> frame;  // H, W, C as they come
  int64_t action_width = 0, state = 0;
  int64_t blank_ends = 0;

 private:
  struct Server {
    std::unique_ptr<GymnasiumServer> process;
    std::map<std::string, int64_t> offsets;
  };
  struct Place {
    size_t server;
    int64_t row;
  };
  std::vector<Server> servers_;
  std::vector<Place> places_;
};

namespace {

WorldInfo world_info(const GymnasiumOptions& options, const nlohmann::json& said) {
  const auto frame = said.at("frame").get<std::vector<int64_t>>();
  WorldInfo info{.name = "gym:" + options.id,
                 .frame = {frame[2], options.height > 0 ? options.height : frame[0],
                           options.width > 0 ? options.width : frame[1]}};
  said.at("action_width").get_to(info.action_width);
  said.at("action_choices").get_to(info.action_choices);
  said.at("action_low").get_to(info.action_low);
  said.at("action_high").get_to(info.action_high);
  said.at("state").get_to(info.state);
  int64_t limit = said.at("step_limit").get<int64_t>();
  if (options.max_steps > 0 && (limit == 0 || options.max_steps < limit)) limit = options.max_steps;
  info.step_limit = (limit + options.frame_skip - 1) / options.frame_skip;
  return info;
}

}  // namespace

Gymnasium::Gymnasium(const GymnasiumOptions& options, int64_t batch)
    : Gymnasium(options, std::make_unique<Servers>(options, batch), batch) {}

Gymnasium::Gymnasium(const GymnasiumOptions& options, std::unique_ptr<Servers> servers,
                     int64_t batch)
    : World(world_info(options, servers->description), batch),
      options_(options),
      servers_(std::move(servers)) {}

Gymnasium::~Gymnasium() = default;

double Gymnasium::fps() const {
  return servers_->description.at("fps").get<double>() / static_cast<double>(options_.frame_skip);
}

int64_t Gymnasium::blank_ends() const { return servers_->blank_ends; }

void Gymnasium::start(int64_t i, const std::vector<double>&, Random& random) {
  *servers_->row<int64_t>(i, "seeds") = random.below(int64_t{1} << 31);
}

void Gymnasium::all_started() {
  servers_->command("reset");
  for (int64_t i = 0; i < batch(); ++i) take_frame(i);
}

std::vector<World::Outcome> Gymnasium::advance_all(const double* actions) {
  const int64_t width = servers_->action_width;
  for (int64_t i = 0; i < batch(); ++i) {
    *servers_->row<uint8_t>(i, "active") = ended(i) ? 0 : 1;
    std::copy(actions + i * width, actions + (i + 1) * width,
              servers_->row<double>(i, "actions", width));
  }
  servers_->command("step");
  std::vector<Outcome> outcomes;
  for (int64_t i = 0; i < batch(); ++i) {
    if (!ended(i)) take_frame(i);
    outcomes.push_back(outcome(i));
  }
  return outcomes;
}

World::Outcome Gymnasium::advance(int64_t, const double*, Random&) {
  throw Error(info().name + ": episodes are stepped together");
}

World::Outcome Gymnasium::outcome(int64_t i) {
  if (ended(i)) return {.reward = 0, .done = true};
  const bool terminated = *servers_->row<uint8_t>(i, "terminated") != 0;
  const bool truncated = *servers_->row<uint8_t>(i, "truncated") != 0;
  servers_->blank_ends += *servers_->row<uint8_t>(i, "blank");
  return {.reward = *servers_->row<double>(i, "rewards"),
          .done = terminated || truncated,
          .truncated = truncated};
}

// Frames are made smaller once, when they come.
void Gymnasium::take_frame(int64_t i) {
  const auto& from = servers_->frame;
  const uint8_t* pixels = servers_->row<uint8_t>(i, "frames", servers_->frame_bytes());
  const int64_t height = info().frame[1], width = info().frame[2];
  const int64_t bytes = from[2] * height * width;
  frames_.resize(static_cast<size_t>(batch() * bytes));
  uint8_t* frame = frames_.data() + i * bytes;
  if (height != from[0] || width != from[1]) {
    resize_area(pixels, from[0], from[1], from[2], height, width, frame);
    return;
  }
  for (int64_t c = 0; c < from[2]; ++c) {
    for (int64_t p = 0; p < height * width; ++p) *frame++ = pixels[p * from[2] + c];
  }
}

void Gymnasium::draw(int64_t i, uint8_t* frame) const {
  const int64_t bytes = info().frame[0] * info().frame[1] * info().frame[2];
  std::memcpy(frame, frames_.data() + i * bytes, static_cast<size_t>(bytes));
}

void Gymnasium::write_state(int64_t i, double* state) const {
  const double* values = servers_->row<double>(i, "state", servers_->state);
  std::copy(values, values + servers_->state, state);
}

std::unique_ptr<World> open_world(const std::string& name, int64_t batch,
                                  GymnasiumOptions options) {
  const std::string prefix = "gym:";
  if (!name.starts_with(prefix)) return make_world(name, batch);
  options.id = name.substr(prefix.size());
  if (options.id.empty()) throw ConfigError("world: gym: needs an environment's id after it");
  return std::make_unique<Gymnasium>(options, batch);
}

}  // namespace jepa::eval::worlds
