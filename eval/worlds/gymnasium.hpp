// Gymnasium environments as a World: games and simulators in Python, stepped from here.
#pragma once

#include <eval/worlds/world.hpp>
#include <jepa/options.hpp>
#include <jepa/stopped.hpp>

#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::worlds {

/// Which environment, and what of it is seen.
struct GymnasiumOptions {
  std::string id = {};    ///< as gymnasium.make takes it, `module:Name` too; or EnvPool's
  std::string make = {};  ///< arguments of gymnasium.make, `frame_skip=4,obs_type=rgb`
  /// gymnasium, or envpool: EnvPool steps all episodes of a process at once, in C++ and threads of
  /// its own; frames are its observations, of one frame unless `make` says `stack_num`.
  std::string server = "gymnasium";
  std::string python = {};  ///< interpreter; empty: see find_python()
  int64_t height = 0;       ///< of frames, averaged over area; 0: as they come
  int64_t width = 0;
  int64_t frame_skip = 1;       ///< steps of the environment that an action is repeated for
  int64_t max_steps = 0;        ///< of the environment, after which an episode is cut; 0: its own
  std::string pixels = "auto";  ///< observation, render; auto: observation where it is an image
  std::string state = "auto";   ///< observation, ram, info.KEY, none; auto: RAM, else observation
  /// [s] for the answer to a step, and for each environment that is made or reset
  double timeout = 60;
  int64_t workers = 1;    ///< processes that share the episodes
  StopRequest stop = {};  ///< asked while answers are waited for

  void describe(OptionVisitor& visit);
};

/// JEPA_PYTHON; else `.deps/envs/FAMILY/bin/python` below the current folder (./dev setup-envs),
/// where the environment is one of a family's; else python3.
std::string find_python(const GymnasiumOptions& options);

/// Averages the pixels of uint8 [H, W, C] over area. @param to uint8 [C, height, width]
void resize_area(const uint8_t* from, int64_t from_height, int64_t from_width, int64_t channels,
                 int64_t height, int64_t width, uint8_t* to);

/// Episodes of one Gymnasium environment, stepped in Python processes of their own
/// (gymnasium_episodes.py, gymnasium_server.py). Frames are [C, H, W] as they are seen, the last
/// one of an episode the last real one: where an environment ends with a frame of zeros (ViZDoom's
/// wrapper), frame and state before it stay. Actions are choices from 0 on, or the box's numbers,
/// never clipped. `terminated` and `truncated` are the environment's; an episode that has ended is
/// stepped no more. There are no factors, goals or success rules.
///
/// Every failure of the environment is a DataError of one line with its last output: it raises,
/// dies, gives no answer in time, changes the size of its frames or state, or sends NaN.
class Gymnasium : public World {
 public:
  /// Starts the processes and makes the environments.
  /// @throws DataError, ConfigError; Stopped, here and whenever its environments are waited for
  Gymnasium(const GymnasiumOptions& options, int64_t batch);
  ~Gymnasium() override;

  /// Frames a second as the environment says, over the frame skip; 0: unknown.
  double fps() const;
  /// Episodes so far that ended with a frame of zeros, which was left out.
  int64_t blank_ends() const;

 protected:
  void start(int64_t i, const std::vector<double>& factors, Random& random) override;
  void all_started() override;
  Outcome advance(int64_t i, const double* action, Random& random) override;
  std::vector<Outcome> advance_all(const double* actions) override;
  void draw(int64_t i, uint8_t* frame) const override;
  void write_state(int64_t i, double* state) const override;

 private:
  class Servers;
  Gymnasium(const GymnasiumOptions& options, std::unique_ptr<Servers> servers, int64_t batch);
  Outcome outcome(int64_t i);  // of the step that was made
  void take_frame(int64_t i);

  GymnasiumOptions options_;
  std::unique_ptr<Servers> servers_;
  std::vector<uint8_t> frames_;  // [B, C, H, W], as they are seen
};

/// The world `name`, native or `gym:ID`. @param options of the latter, their id aside
std::unique_ptr<World> open_world(const std::string& name, int64_t batch,
                                  GymnasiumOptions options = {});

}  // namespace jepa::eval::worlds
