#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/io/json_text.hpp>
#include <jepa/printable.hpp>
#include <jepa/training/checkpoint.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <vector>

namespace jepa {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string checkpoints_folder(const std::string& run) { return run + "/checkpoints"; }

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw CheckpointError(path + ": cannot be opened");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string read_name(const std::string& path) {
  std::string name = read_text(path);
  while (!name.empty() && (name.back() == '\n' || name.back() == ' ')) name.pop_back();
  return name;
}

std::string damage(const std::string& folder);

/// Names of the folders of steps, oldest first.
std::vector<std::string> step_names(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-")) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// How to go on from the newest whole checkpoint other than `broken`.
std::string advice_to_continue(const std::string& folder, const std::string& broken) {
  std::vector<std::string> names = step_names(folder);
  for (auto name = names.rbegin(); name != names.rend(); ++name) {
    if (*name == broken || !damage(folder + "/" + *name).empty()) continue;
    const std::string best = folder + "/best";  // where it is newer, a run goes on from it
    const bool newer = fs::exists(best) && read_name(best) > *name;
    return "; " + *name + " is whole: to go on from it, echo " + *name + " > " + folder +
           "/latest" + (newer ? " && rm " + best : "");
  }
  return "; no other checkpoint there is whole: start a new run";
}

std::string step_name(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
  return name;
}

/// What state.json says: the state, and how long config.ini is.
struct StoredState {
  CheckpointState state;
  size_t config_bytes = 1;
};

StoredState read_state(const std::string& folder) {
  const std::string path = folder + "/state.json";
  try {
    const Json json = Json::parse(read_text(path));
    StoredState stored;
    stored.state.step = json.at("step").get<int64_t>();
    for (const auto& item : json.at("numbers").items()) {
      // JSON has no other word for what is not finite.
      stored.state.numbers[item.key()] = item.value().is_null()
                                             ? std::numeric_limits<double>::quiet_NaN()
                                             : item.value().get<double>();
    }
    stored.state.texts = json.at("texts").get<std::map<std::string, std::string>>();
    stored.config_bytes = json.value("config_bytes", size_t{1});
    return stored;
  } catch (const nlohmann::json::exception& error) {
    const std::string reason = error.what();  // "[json.exception.type_error.302] type must ..."
    throw CheckpointError(path + ": damaged (" + reason.substr(reason.find(']') + 2) + ")");
  }
}

/// Why the checkpoint in `folder` is not whole; empty: it is.
std::string damage(const std::string& folder) {
  try {
    const size_t whole = read_state(folder).config_bytes;
    const size_t bytes = read_text(folder + "/config.ini").size();
    if (bytes < whole) {
      return folder + "/config.ini: cut short, " + std::to_string(bytes) + " of " +
             std::to_string(whole) + " bytes";
    }
    bool any = false;
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() != ".safetensors") continue;
      read_safetensors(entry.path().string());
      any = true;
    }
    return any ? "" : folder + ": no weights";
  } catch (const std::exception& error) {
    return error.what();
  }
}

/// The folder that the text file `name` names; empty: there is no such file.
std::string named_checkpoint(const std::string& folder, const std::string& name) {
  const std::string path = folder + "/" + name;
  if (!fs::exists(path)) return "";
  const std::string step = read_name(path);
  const std::string found = folder + "/" + step;
  if (step.empty() || !fs::is_directory(found)) {
    const std::string what =
        step.empty() ? " is empty" : " names " + printable(found) + ", which is not there";
    throw CheckpointError(path + what + advice_to_continue(folder, ""));
  }
  return found;
}

/// Removes what killed runs left half written.
void remove_partial(const std::string& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with("partial-")) fs::remove_all(entry.path());
  }
}

void remove_old(const std::string& folder, int64_t keep) {
  const std::vector<std::string> names = step_names(folder);
  const auto named = [&](const char* file) {
    return fs::exists(folder + "/" + file) ? read_name(folder + "/" + file) : std::string();
  };
  const std::string best = named("best"), latest = named("latest");
  // Counted back from where the run stands: a later one, of a run that was set back, is not newer.
  const auto end = std::upper_bound(names.begin(), names.end(), latest);
  for (auto name = names.begin(); end - name > keep; ++name) {
    if (*name != best) fs::remove_all(folder + "/" + *name);
  }
}

}  // namespace

void save_checkpoint(const std::string& run_folder, const std::map<std::string, TensorMap>& files,
                     const CheckpointState& state, const std::string& config_ini, int64_t keep,
                     bool best) {
  const std::string folder = checkpoints_folder(run_folder);
  const std::string name = step_name(state.step);
  const std::string partial = folder + "/partial-" + name;
  try {
    fs::create_directories(folder);
    remove_partial(folder);
    fs::create_directory(partial);
    for (const auto& [file, tensors] : files) {
      write_safetensors(partial + "/" + file + ".safetensors", tensors);
    }
    Json json{{"step", state.step}};
    json["numbers"] = state.numbers;
    json["texts"] = state.texts;
    json["config_bytes"] = config_ini.size();
    write_file_atomic(partial + "/state.json", json_text(json, 2) + "\n");
    write_file_atomic(partial + "/config.ini", config_ini);
    sync_directory(partial);
    // The same step, whole but killed before it was named: a named one is where a run goes on.
    fs::remove_all(folder + "/" + name);
    fs::rename(partial, folder + "/" + name);
    sync_directory(folder);
    if (best) write_file_atomic(folder + "/best", name + "\n");
    write_file_atomic(folder + "/latest", name + "\n");
    remove_old(folder, std::max<int64_t>(1, keep));
  } catch (const fs::filesystem_error& error) {
    throw DataError(std::string("checkpoint ") + folder + "/" + name + ": " + error.what());
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(partial, ignored);
    throw;
  }
}

std::string find_checkpoint(const std::string& run_folder, const std::string& name) {
  const std::string folder = checkpoints_folder(run_folder);
  std::string found = named_checkpoint(folder, name);
  if (name == "latest") found = std::max(found, named_checkpoint(folder, "best"));
  return found;
}

void require_whole(const std::string& checkpoint_folder) {
  const std::string why = damage(checkpoint_folder);
  if (why.empty()) return;
  const fs::path path(checkpoint_folder);
  throw CheckpointError(why +
                        advice_to_continue(path.parent_path().string(), path.filename().string()));
}

CheckpointState read_checkpoint_state(const std::string& checkpoint_folder) {
  return read_state(checkpoint_folder).state;
}

}  // namespace jepa
