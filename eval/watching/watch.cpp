#include <encoders/published.hpp>
#include <eval/comparison/own_cells.hpp>
#include <eval/probes/features.hpp>
#include <eval/watching/answers.hpp>
#include <eval/watching/film.hpp>
#include <eval/watching/sliding.hpp>
#include <eval/watching/watch.hpp>
#include <jepa/data/media_list.hpp>
#include <jepa/data/video_stream.hpp>
#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>

namespace jepa::eval::watching {
namespace {

constexpr double kHeatQuantile = 0.995;
constexpr double kUnknownFps = 25;
constexpr size_t kProblems = 20;
constexpr int64_t kTimed = 500;  // frames

/// How long frames take: the mean over the first and over the last ones, and all together.
class Stopwatch {
 public:
  void frame() {
    const double now = seconds();
    ++count_;
    if (count_ == kTimed) first_ = now;
    if (count_ % kTimed == 0) {
      last_ = now - block_;
      block_ = now;
    }
  }
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  double first_ms() const { return count_ < kTimed ? mean_ms() : 1e3 * first_ / kTimed; }
  double last_ms() const { return count_ < kTimed ? mean_ms() : 1e3 * last_ / kTimed; }

 private:
  double mean_ms() const { return count_ == 0 ? 0 : 1e3 * seconds() / static_cast<double>(count_); }

  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  int64_t count_ = 0;
  double first_ = 0, last_ = 0, block_ = 0;
};

/// Tokens of windows as they are asked about, into rows of an HDF5 file.
class FeatureWriter {
 public:
  FeatureWriter(const WatchOptions& options, torch::Device device)
      : loaded_(
            encoders::load_encoder(WeightFile::open(options.weights), {.which = "target_encoder"})),
        path_(options.features),
        pool_(options.pool) {
    loaded_.encoder->to(device);
    how_.pixels = loaded_.options.pixels;
    how_.device = device;
  }
  void add(const torch::Tensor& windows) {
    auto tokens = probes::frozen_tokens(loaded_.encoder, windows, how_);
    if (pool_ != "none") tokens = probes::pool_tokens(tokens, pool_);
    if (!rows_) {
      rows_ = std::make_unique<Hdf5RowWriter>(
          path_, "features",
          std::map<std::string, std::string>{{"weights", loaded_.summary}, {"pool", pool_}});
    }
    rows_->append(tokens);
  }
  void finish() {
    if (rows_) rows_->finish();
  }

 private:
  encoders::LoadedEncoder loaded_;
  std::string path_, pool_;
  probes::FeatureOptions how_;
  std::unique_ptr<Hdf5RowWriter> rows_;  // from the first window on
};

/// `peak-1.mp4`, `film-000.mp4`, whole or not.
bool is_piece(const std::string& name) {
  if (!name.starts_with("peak-") && !name.starts_with("film-")) return false;
  const size_t digits = std::min(name.find_first_not_of("0123456789", 5), name.size());
  const std::string rest = name.substr(digits);
  return digits > 5 && (rest == ".mp4" || rest == ".mp4.partial");
}

/// Takes away what an earlier run left in the folder: it would lie beside this one's files.
void remove_earlier(const std::string& folder) {
  std::vector<std::filesystem::path> earlier;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename();
    const bool whole = name == "index.html" || name == "summary.json" || name == "curve.h5";
    if (whole || is_piece(name)) earlier.push_back(entry.path());
  }
  for (const auto& file : earlier) {
    std::error_code error;
    std::filesystem::remove(file, error);
    if (error) throw DataError(file.string() + ": cannot be removed (" + error.message() + ")");
  }
}

/// @throws ConfigError where a film that is watched would be overwritten
void require_apart(const std::vector<MediaEntry>& films, const std::string& out) {
  namespace fs = std::filesystem;
  for (const auto& film : films) {
    const fs::path path = fs::absolute(film.path);
    std::error_code error;
    if (is_piece(path.filename()) && fs::equivalent(path.parent_path(), out, error)) {
      throw ConfigError("option out: " + film.path + " is in it and would be overwritten");
    }
  }
}

/// One run over films.
class Watch {
 public:
  Watch(const WatchOptions& options, const WatchedModel& model, torch::Device device,
        const WatchHooks& hooks)
      : options_(options),
        model_(model),
        hooks_(hooks),
        side_(scaled_side(model, options.short_side)),
        answers_(options.probes.empty() ? nullptr
                                        : std::make_unique<ProbeAnswers>(options, model, device)),
        features_(options.features.empty() ? nullptr
                                           : std::make_unique<FeatureWriter>(options, device)) {
    asked_ = {.past = past(), .stride = options.stride, .batch = options.batch};
    SlidingSurprise::OnWindows on_windows;
    if (features_ || answers_) {
      on_windows = [this](const torch::Tensor& windows) {
        if (features_) features_->add(windows);
        if (answers_) answers_->add(windows);
      };
    }
    sliding_ = std::make_unique<SlidingSurprise>(
        model.surprise, asked_, [this](const WatchedFrame& frame) { take(frame); }, on_windows);
  }

  WatchResult run() {
    auto films =
        options_.video == "-" ? std::vector<MediaEntry>{{"-"}} : find_videos(options_.video);
    require_apart(films, options_.out);
    for (bool again = true; again && !done();) {
      const int64_t before = result_.frames;
      for (const auto& film : films) {
        if (!done()) watch(film.path);
      }
      again = options_.loop_minutes > 0 && result_.frames > before;
    }
    finish();
    return result_;
  }

 private:
  int64_t past() const {
    return options_.known_frames(model_.surprise.window, model_.surprise.tubelet);
  }
  bool stopping() const { return hooks_.stop && hooks_.stop(); }
  bool done() const {
    return result_.stopped || (options_.loop_minutes > 0 && seconds_ >= 60 * options_.loop_minutes);
  }
  void mark(const std::string& what) {
    std::string part;
    for (size_t at = 0; at <= what.size(); at += part.size() + 1) {
      part = what.substr(at, what.find('+', at) - at);
      if (!part.empty()) ++result_.marks[part];
    }
    if (!what.empty()) mark_ += (mark_.empty() ? "" : "+") + what;
  }
  void problem(const std::string& what) {
    if (result_.problems.size() < kProblems) result_.problems.push_back(what);
  }

  void watch(const std::string& path);
  void begin(const VideoStream& stream);
  bool wanted(const StreamFrame& frame, double film_fps);
  void take(const WatchedFrame& frame);
  void finish();
  void write_peaks();

  const WatchOptions& options_;
  const WatchedModel& model_;
  const WatchHooks& hooks_;
  int64_t side_;
  physics::WindowOptions asked_;
  WatchResult result_;
  Stopwatch watch_;
  std::unique_ptr<ProbeAnswers> answers_;
  std::unique_ptr<CurveWriter> curve_;  // from the first frame on
  CurveOutline outline_;
  RunningQuantile quantile_;
  std::unique_ptr<FeatureWriter> features_;
  std::unique_ptr<SlidingSurprise> sliding_;
  std::unique_ptr<FilmWriter> film_;
  std::unique_ptr<Peaks> peaks_;
  std::deque<CurveRow> waiting_;    // of frames that are in the window
  std::string mark_;                // what happened since the last watched frame
  double seconds_ = 0;              // of the last frame
  std::optional<SteadyRate> rate_;  // of this film
  int64_t in_film_ = 0;             // frames of this film so far
};

/// What is made once there is a frame to put into it: a mistyped name leaves the folder as it was.
void Watch::begin(const VideoStream& stream) {
  std::filesystem::create_directories(options_.out);
  remove_earlier(options_.out);
  curve_ = std::make_unique<CurveWriter>(
      options_.out + "/curve", answers_ ? answers_->columns() : std::vector<std::string>());
  result_.film_fps = stream.fps();
  const double film_fps = stream.fps() > 0 ? stream.fps() : kUnknownFps;
  const double rate =
      model_.fps > 0 ? model_.fps : film_fps / static_cast<double>(model_.frame_step);
  const auto frames = [rate](double seconds) {
    return std::max<int64_t>(1, std::llround(seconds * rate));
  };
  peaks_ = std::make_unique<Peaks>(options_.peaks, frames(options_.around));
  film_ = std::make_unique<FilmWriter>(options_.out, rate, frames(60 * options_.piece_minutes),
                                       options_.film_scale);
}

/// Whether a frame is among those that the model is shown.
bool Watch::wanted(const StreamFrame& frame, double film_fps) {
  if (model_.fps <= 0) return in_film_ % model_.frame_step == 0;
  if (!rate_) rate_.emplace(model_.fps, film_fps > 0 ? film_fps : kUnknownFps);
  return rate_->picks(frame.seconds);
}

void Watch::watch(const std::string& path) {
  std::unique_ptr<VideoStream> stream;
  const std::string name = path == "-" ? "standard input" : path;
  try {
    stream = std::make_unique<VideoStream>(
        path, StreamOptions{
                  .scale = {.short_side = side_}, .timeout = options_.stall, .stop = hooks_.stop});
    if (model_.fps > 0 && stream->fps() > 0 && stream->fps() < 0.99 * model_.fps) {
      throw DataError(
          c10::str(name, ": ", stream->fps(), " frames a second, expected at least ", model_.fps));
    }
  } catch (const DataError& error) {
    problem(error.what());
    return;
  }
  const bool first = result_.frames == 0;
  const double offset =
      first ? 0 : seconds_ + 1 / (stream->fps() > 0 ? stream->fps() : kUnknownFps);
  if (!first) {
    sliding_->cut();
    mark("cut");
  }
  rate_.reset();
  in_film_ = 0;
  while (!done()) {
    auto frame = stream->next();
    if (!frame) break;
    if (!curve_) begin(*stream);
    mark(frame->mark);
    if (frame->mark.starts_with("size")) sliding_->cut();
    seconds_ = offset + frame->seconds;
    if (wanted(*frame, stream->fps())) {
      waiting_.push_back({.frame = result_.frames, .seconds = seconds_, .mark = mark_});
      mark_.clear();
      ++result_.watched;
      sliding_->add(central_picture(frame->picture, frame->height, frame->width, model_));
    }
    ++in_film_;
    ++result_.frames;
    watch_.frame();
    if (hooks_.progress) {
      hooks_.progress(result_.frames, seconds_,
                      static_cast<double>(result_.frames) / watch_.seconds());
    }
    if (stopping()) result_.stopped = true;
  }
  if (stream->end() == "stopped") {
    result_.stopped = true;
  } else if (!stream->end().empty()) {
    mark("early_end");
    problem(c10::str(name, ": ", stream->end(), ", after ", in_film_, " frames"));
  } else if (in_film_ == 0 && !result_.stopped) {
    problem(name + ": no frames");
  }
}

void Watch::take(const WatchedFrame& frame) {
  SeenFrame seen{frame.index, waiting_.front(), frame.picture, frame.map};
  waiting_.pop_front();
  if (frame.map.defined()) {
    seen.row.surprise = frame.map.mean().item<double>();
    seen.row.most = frame.map.max().item<double>();
    quantile_.add(frame.map);
  }
  if (frame.window >= 0) {
    seen.row.window = frame.window;
    result_.windows = frame.window + 1;
    if (answers_) seen.row.answers = answers_->take(seen.row);
  }
  curve_->add(seen.row);
  outline_.add(seen.row);
  peaks_->add(seen);
  if (options_.film) {
    film_->add(seen, options_.heat > 0 ? options_.heat : quantile_.value(kHeatQuantile));
  }
}

void Watch::write_peaks() {
  const double heat = options_.heat > 0 ? options_.heat : quantile_.value(kHeatQuantile);
  const double rate =
      std::max(1.0, static_cast<double>(result_.watched) / std::max(seconds_, 1e-3));
  for (size_t i = 0; i < result_.peaks.size(); ++i) {
    write_clip(options_.out + "/peak-" + std::to_string(i + 1) + ".mp4", result_.peaks[i].clip,
               options_.film_scale, heat, std::min(rate, 60.0));
  }
  const auto place = [this](int64_t row) { return film_->place(row); };
  write_file_atomic(
      options_.out + "/index.html",
      watch_page(options_, result_, outline_.spans(),
                 options_.film ? place : std::function<std::string(int64_t)>(), heat));
}

void Watch::finish() {
  if (result_.frames == 0) {
    throw DataError(result_.problems.empty() ? options_.video + ": nothing to watch"
                                             : result_.problems.front());
  }
  sliding_->finish();
  if (result_.windows == 0 && !result_.stopped) {
    problem(c10::str(options_.video == "-" ? "standard input" : options_.video, ": ",
                     result_.watched, " frames watched of ", result_.frames,
                     ", fewer than the model's window of ", model_.surprise.window,
                     ": no surprise is known"));
  }
  peaks_->finish();
  if (!mark_.empty()) {  // after the last frame: a row of its own
    curve_->add({.frame = result_.frames, .seconds = seconds_, .mark = mark_});
  }
  curve_->finish();
  if (features_) features_->finish();
  if (options_.film) film_->finish();
  result_.peaks = peaks_->peaks();
  if (answers_) result_.answers = answers_->section();
  result_.seconds = seconds_;
  for (int64_t i = 0; i < film_->pieces(); ++i) result_.films.push_back(FilmWriter::name(i));
  result_.wall_seconds = watch_.seconds();
  result_.first_ms = watch_.first_ms();
  result_.last_ms = watch_.last_ms();
  result_.peak_mb = peak_memory_mb();
  write_peaks();
}

}  // namespace

bool SteadyRate::picks(double seconds) {
  if (seconds < due_ - early_) return false;
  due_ = seconds > due_ + step_ ? seconds + step_ : due_ + step_;
  return true;
}

WatchResult run_watch(const WatchOptions& options, const WatchedModel& given, torch::Device device,
                      const WatchHooks& hooks) {
  if (options.video.empty()) throw ConfigError("option video: name a file, a folder or -");
  if (options.video == "-" && options.loop_minutes > 0) {
    throw ConfigError("option loop_minutes: a pipe cannot be watched again");
  }
  const WatchedModel model = options.at_asked_rate(given);
  if (std::filesystem::exists(options.out) && !std::filesystem::is_directory(options.out)) {
    throw ConfigError("option out: " + options.out + " is a file, expected a folder");
  }
  comparison::require_own_cells("out", options.out);
  const WatchResult result = Watch(options, model, device, hooks).run();
  write_file_atomic(options.out + "/summary.json", summary_json(options, result));
  if (!result.problems.empty()) {
    const size_t others = result.problems.size() - 1;
    throw DataError(result.problems.front() +
                    (others > 0 ? c10::str(" (and ", others, " more in summary.json)") : "") +
                    "; what was watched is in " + options.out);
  }
  return result;
}

}  // namespace jepa::eval::watching
