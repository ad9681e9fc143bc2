#include <examples/dynamics_data.hpp>
#include <jepa/data/clip_store.hpp>
#include <jepa/data/media_list.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/text_values.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <charconv>
#include <filesystem>

namespace jepa::examples {
namespace {

constexpr int64_t kProbeClips = 8;  // fewest that a probe of states is fitted on

bool is_clip_store(const std::string& path) {
  const std::string extension = lower_extension(path);
  return extension == ".h5" || extension == ".hdf5";
}

}  // namespace

StoreNotes store_notes(const std::string& path) {
  StoreNotes notes;
  if (!is_clip_store(path)) return notes;
  if (!std::filesystem::exists(path)) throw DataError(path + ": no such file");
  const auto attributes = ClipStore(path, {}).info().attributes;
  const auto value = [&](const char* name) { return value_or_empty(attributes, name); };
  if (value("generator") != "jepa collect") return notes;
  notes.world = value("world");
  notes.factors = value("factors");
  if (notes.factors.empty()) {  // stores of before have it in their recipe alone
    notes.factors =
        value_or_empty(parse_ini(value("recipe"), path + ", attribute recipe"), "factors");
  }
  notes.make = value("gym_make");
  const auto count = [&](const char* name, int64_t least, int64_t& number) {
    const std::string text = value(name);
    if (text.empty()) return;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || number < least) {
      throw DataError(path + ": attribute " + name + " is '" + text + "'");
    }
  };
  count("action_block", 1, notes.action_block);
  count("action_choices", 0, notes.choices);
  count("frame_skip", 1, notes.frame_skip);
  return notes;
}

std::shared_ptr<ClipSource> open_dynamics_store(const std::string& path, int64_t block,
                                                ClipOptions& clip) {
  if (!std::filesystem::exists(path)) throw DataError(path + ": no such file");
  const StoreNotes notes = store_notes(path);
  if (notes.choices > 0) {
    throw DataError(c10::str(path, ": its actions are one of ", notes.choices,
                             " choices; dynamics are trained on actions that are numbers"));
  }
  const int64_t apart = notes.action_block;
  if (block % apart != 0) {
    throw ConfigError(c10::str("option model.block: the frames of ", path, " are ", apart,
                               " steps apart, which do not divide ", block));
  }
  if (clip.signals.empty()) clip.signals = kActionSignal;
  if (clip.frame_step == 1) clip.frame_step = block / apart;
  if (clip.frame_step != block / apart) {
    throw ConfigError(c10::str("clip.frame_step is ", clip.frame_step, ", a block of the model ",
                               block, " steps, the frames of ", path, " ", apart, " apart"));
  }
  return open_clip_source(path, clip);
}

void complete_action_statistics(eval::dynamics::ModelOptions& model, const std::string& data,
                                const std::function<ClipBatch()>& some) {
  if (!model.measures_actions()) return;
  try {
    if (is_clip_store(data)) {
      model.take_action_statistics(ClipStore(data, {}).statistics(kActionSignal),
                                   store_notes(data).action_block);
      return;
    }
    const auto rows = eval::dynamics::actions_between(some()).flatten(0, 1).to(torch::kFloat64);
    model.take_action_statistics(
        {rows.mean(0), rows.std(0, false), rows.std(0, true), rows.size(0)}, model.block);
  } catch (const DataError& error) {
    const std::string what = error.what();
    throw DataError(what.starts_with(data) ? what : data + ": " + what);
  }
}

void follow_first(const eval::dynamics::PredictorShape& first,
                  eval::dynamics::PredictorShape& second, const OptionValues& given) {
  const auto section = [](eval::dynamics::PredictorShape& of) {
    return std::vector<OptionSection>{
        {"second", "", [&of](OptionVisitor& visit) { of.describe(visit); }}};
  };
  auto shape = first;
  OptionValues followed;
  for (const auto& [key, value] : dump_options(section(shape))) {
    const bool residual = key == "second.hidden" || key == "second.layers";
    if (!residual && !given.contains(key)) followed[key] = value;
  }
  apply_options(section(second), followed);
}

void require_history(int64_t history, int64_t longest) {
  if (history <= longest) return;
  throw ConfigError(c10::str("option protocol.history is ", history,
                             ": predictions are trained from ", longest,
                             longest == 1 ? " frame at most" : " frames at most"));
}

void require_fitting(const eval::dynamics::HeldOutClips& held,
                     const eval::dynamics::ModelOptions& o, const std::string& path, bool probed) {
  const int64_t block = o.action_width * o.block;
  if (held.actions.size(2) != block) {
    throw DataError(c10::str(path, ": actions of ", held.actions.size(2),
                             " numbers a block, the model takes ", block));
  }
  const auto sizes = held.clips.sizes();  // [B, C, T, H, W]
  if (sizes[1] != o.encoder.channels || sizes[3] != o.encoder.height ||
      sizes[4] != o.encoder.width) {
    throw DataError(c10::str(path, ": frames of ", sizes[1], " x ", sizes[3], " x ", sizes[4],
                             ", the model takes ", o.encoder.channels, " x ", o.encoder.height,
                             " x ", o.encoder.width, " (channels, height, width)"));
  }
  if (probed && held.states.defined() && sizes[0] < kProbeClips) {
    throw DataError(
        c10::str(path, ": ", sizes[0], " clips, reading their states takes ", kProbeClips));
  }
}

}  // namespace jepa::examples
