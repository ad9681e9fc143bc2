// Pairs of films that are one up to a frame and of which one then breaks a rule of physics, beside
// a change that breaks none.
#pragma once

#include <eval/physics/scene.hpp>
#include <jepa/data/clip_source.hpp>
#include <jepa/options.hpp>
#include <jepa/random.hpp>

#include <array>
#include <string>
#include <vector>

namespace jepa::eval::physics {

/// permanence, continuity, shape, colour, solidity, gravity, inertia, collision, support, burst,
/// hoop, candle.
const std::vector<std::string>& rule_names();

/// What films look like.
struct WorldOptions {
  int64_t side = 48;    ///< of the pictures, px
  int64_t frames = 20;  ///< of a film

  void describe(OptionVisitor& visit);
};

/// Four stories of one rule. Pair i has the stage i; its two stories are one until they are cut,
/// and what stands and moves is balanced: each of the two endings is lawful in one pair and breaks
/// the rule in the other.
///
/// Where it can be done, the second pair's lawful story has the ending that breaks the rule in the
/// first: then every single frame of a film that breaks the rule is one of a lawful film.
struct Stories {
  std::array<Stage, 2> stage;
  std::array<Track, 2> lawful;
  std::array<Track, 2> broken;
  int64_t cut = 0;  ///< frames before it are the same within a pair
};

/// Stories of a rule, a function of the generator's state.
///
/// - permanence: a body passes behind an occluder and comes out, or does not; nothing went in and
///   nothing comes out, or a body does
/// - continuity: a body flies on, or from another place
/// - shape, colour: it keeps its own, or has another's, half of the time once it was hidden
/// - solidity: a wall throws it back (half of the time behind an occluder) and without one it flies
///   on, or the other way round
/// - gravity: what falls goes on falling, or rises; seen from the side it flies a parabola and from
///   above straight, or the other way round
/// - inertia: it flies straight, or turns by itself
/// - collision: one of two equal bodies stops and the other moves on, or the one is thrown back and
///   the other stays
/// - support: at a shelf's end it falls and on a longer shelf rolls on, or the other way round
/// - burst: it bursts at a pin and flies on without, or the other way round
/// - hoop: it falls through a hoop and goes on, or bursts behind it; a spiked one bursts it
/// - candle: a gust bends the flame, which goes out, and without one it burns, or the reverse
/// @throws ConfigError for an unknown rule
Stories tell_stories(const std::string& rule, const WorldOptions& options, Random& random);

/// The films of four stories, and of the lawful ones with a light on the back wall that comes on
/// when the others break the rule, in as many pixels as differ between the two.
struct Scene {
  std::string rule;
  std::array<Film, 2> lawful;
  std::array<Film, 2> broken;
  std::array<Film, 2> changed;
  std::array<int64_t, 2> first;  ///< t*: the first frame in which a pair differs
};

/// Scene `index` of a rule: a function of its arguments.
/// @param split such as "test": scenes of different splits are drawn apart
Scene make_scene(const std::string& rule, const WorldOptions& options, uint64_t seed,
                 const std::string& split, int64_t index);

/// Lawful films alone, for training: all rules alike, both stories of each, a share of them with a
/// light that comes on. Column `rule`, int64.
class LawfulFilms : public ClipSource {
 public:
  /// @param clip_frames length of a clip, a window of the film; at most its frames
  /// @throws ConfigError where a clip is longer than a film
  LawfulFilms(const WorldOptions& options, int64_t size, int64_t clip_frames, uint64_t seed,
              double light_share = 0.25);

  int64_t size() const override { return size_; }
  using ClipSource::read;
  RawClip read(int64_t index, Random& random, const CropChooser& crop) const override;
  std::vector<std::string> columns() const override { return {"rule"}; }
  torch::Tensor column(const std::string& name) const override;

 private:
  WorldOptions options_;
  int64_t size_, clip_frames_;
  uint64_t seed_;
  double light_share_;
};

}  // namespace jepa::eval::physics
