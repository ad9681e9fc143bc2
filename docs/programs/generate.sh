#!/usr/bin/env bash
# Writes the pages beside it: each program's command, run, with what it printed. The models are far
# too small to be good; everything happens in a temporary folder, in a few minutes of two cores.
#
#   docs/programs/generate.sh [PROGRAMS [OUT]]
#     PROGRAMS  folder of the built programs (default build/release/examples)
#     OUT       folder of the pages (default docs/programs)
#     --check   first argument: writes no page there; fails where a program fails, or where a page
#               shows other commands than this script
set -euo pipefail
check=0
if [ "${1:-}" = --check ]; then check=1 && shift; fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
programs=$(cd "${1:-$root/build/release/examples}" && pwd)
pages=${2:-$root/docs/programs}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/pages" "$work/run/data" "$work/run/runs"
cd "$work/run"
ln -s "$root/examples" examples
export PATH=$programs:$PATH
export GOMP_SPINCOUNT=10000  # what programs but train_your_own see to by themselves
lines=30  # of output that a page shows at most

# page NAME: begins a page with the text on stdin.
page() {
  page=$work/pages/$1.md
  {
    printf '# %s\n\n' "$1"
    cat
  } >"$page"
}

# show COMMAND: runs it, and adds it and what it printed to the page.
show() {
  printf '+ %s\n' "$*" >&2
  local status=0
  bash -c "$1" >"$work/output" 2>&1 || status=$?
  if [ $status != 0 ]; then
    cat "$work/output" >&2
    printf 'generate.sh: exit code %d of: %s\n' $status "$1" >&2
    exit 1
  fi
  {
    printf '\n```\n$ %s\n' "$1"
    head -n $lines "$work/output" | sed -E "s#$work/run/##g; s#^(.{150}).{4,}\$#\1...#"
    if [ "$(wc -l <"$work/output")" -gt $lines ]; then printf '...\n'; fi
    printf '```\n'
  } >>"$page"
}

# text: adds the text on stdin to the page.
text() {
  {
    printf '\n'
    cat
  } >>"$page"
}

# Ends every page.
finish() {
  local file
  for file in "$work"/pages/*.md; do
    # shellcheck disable=SC2016
    local name
    name=$(basename "$file" .md)
    if [ "$name" != train_your_own ]; then  # it has no options
      printf '\n`%s --help` lists every option with its range and default.' "$name" >>"$file"
    fi
    printf '\n[All programs](README.md)\n' >>"$file"
  done
}

page make_data <<'TEXT'
Generates moving digits or shapes, cuts labelled crops of footage, or turns videos and images into a
clip store (HDF5, the layout that stable-worldmodel's files have). Splits share no digit.
TEXT
show 'make_data --kind digits --split train --clips 2000 --seed 1 --out data/train.h5'
show 'make_data --kind digits --split validation --clips 500 --seed 2 --out data/validation.h5'
show 'make_data --kind digits --split test --clips 500 --seed 3 --out data/test.h5'
text <<'TEXT'
Longer clips, for the programs that continue them:
TEXT
show 'make_data --kind digits --clips 1000 --generated.frames 12 --seed 1 --out data/digits12.h5'
show 'make_data --kind digits --split validation --clips 200 --generated.frames 12 --seed 2 --out data/digits12_validation.h5'
show 'make_data --kind digits --split test --clips 200 --generated.frames 12 --seed 3 --out data/digits12_test.h5'
text <<'TEXT'
Insects and spiders that walk, with body, colour, size and length of legs as columns; `held_out` are
round red spiders and square blue insects, which `seen` never has together with their legs:
TEXT
show 'make_data --kind creatures --creatures.combinations held_out --split test --clips 100 --seed 1 --out data/creatures.h5'
text <<'TEXT'
Your own files: `--kind files --data FOLDER`; footage: `--kind footage --data FOLDER`.
TEXT

page collect <<'TEXT'
Collects episodes of a world into a clip store: native worlds, and any Gymnasium environment, which a
Python process steps (`./dev setup-envs` installs some). Row t holds the frame, the action sent after
it (NaN after the last one), the reward that came with the frame since the one before, the ends
(`terminated`, `truncated`) and the exact state; episodes have their return, length, success and
factors. The header says who acted, with which knobs, and what the data covers.
TEXT
show 'collect --world two_rooms --policy walk --policy.wall_share 0.3 --episodes 20 --max_steps 90 --out data/rooms.h5'
show 'collect --world dodge --policy scripted --frames 2000 --factors training --out data/dodge.h5'
text <<'TEXT'
Games: `--world gym:ALE/Pong-v5 --gym.make frameskip=4,repeat_action_probability=0.25` keeps the 128
bytes of RAM as `state`, which `probe --labels state.49,state.54` reads as labels of each clip's last
frame. ViZDoom's Take Cover, with the cap that its scenario lacks: `--world gym:VizdoomTakeCover-v1
--gym.make episode_timeout=2100,screen_resolution=RES_160X120 --gym.height 64 --gym.width 64 --policy
held`. Under `--gym.frame_skip K` an action is repeated K times; under `--block K` the policy acts at
each of K steps and the store's action is all K. An environment that dies, hangs (`--gym.timeout`),
changes its frames or sends NaN ends the program with one line; what was collected until then is a
store. ViZDoom's last frame of zeros is left out: the last real frame stays.

EnvPool (`./dev setup-envs envpool`; `--gym.server envpool`) steps all episodes of a process at once, in C++:
`--world gym:Pong-v5 --gym.server envpool --gym.make gray_scale=False,img_height=64,img_width=64`. Ids and arguments are its own; frames are
its observations, whose skipped frames are in `frame_skip` of `make`.

Data sets of others: stable-worldmodel's HDF5 files open as they are. DINO-WM's (tensors of
`torch.save` beside one video an episode) and LeRobot's (Parquet tables beside videos) are not read.
TEXT

page pretrain <<'TEXT'
Trains a JEPA. Before it starts it tells what the run costs; while it trains it tells whether the
features collapse. A run folder that exists is continued, on the CPU bit for bit as if it had not
stopped. `--data` takes a clip store, a video, a folder of videos or images, a `path label` list, or
an ini file that describes a data set.
TEXT
show 'pretrain --config examples/configs/moving_digits.ini --data data/train.h5 --run runs/digits \
  --loader.batch 32 --training.steps 40 --optimisation.total_steps 40 --optimisation.warmup_steps 10'
text <<'TEXT'
The run folder:
TEXT
show 'ls runs/digits runs/digits/checkpoints runs/digits/checkpoints/step-00000040'

page probe <<'TEXT'
Reads labels from the frozen encoder with linear, ridge, k-NN or attentive probes, beside controls.
Settings are chosen on the validation clips, the test clips are read once, intervals resample what is
independent (`--unit`). What the controls are: [protocol](../protocol.md).
TEXT
show 'probe --weights runs/digits --labels digit,direction,position --unit instance --kind linear,knn \
  --train data/train.h5 --validation data/validation.h5 --test data/test.h5'

page embed <<'TEXT'
Clips or videos in, tokens out (safetensors or HDF5), with any run or published weights. `--pca`
paints the first three principal components beside the frames.
TEXT
show 'make_data --kind digits --split test --clips 20 --seed 4 --out data/few.h5'
show 'embed --weights runs/digits --video data/few.h5 --out tokens.h5 --pca features.mp4'

page convert <<'TEXT'
Weights between our layout, the V-JEPA code's and Hugging Face's.
TEXT
show 'convert --weights runs/digits --to vjepa --out mine.safetensors'
show 'convert --weights runs/digits --to safetensors --out mine'

page report <<'TEXT'
Run folders in, one self-contained `report.html` out: losses, diagnostics, masks, features, probes.
TEXT
show 'report --run runs/digits --out report.html --summary summary.json'

page train_your_own <<'TEXT'
A training loop of one's own, in the open: [the source](../../examples/train_your_own.cpp) is meant to
be copied. It takes a recipe and a number of steps, and writes `encoder.safetensors` in the current folder.
TEXT
show 'train_your_own examples/configs/plain_digits.ini 20'

page train_diffusion <<'TEXT'
The generative side: a diffusion transformer in pixels or in an autoencoder's latents, that
autoencoder (`--stage autoencoder`), or the decoder of a JEPA's latents (`--jepa RUN`).
TEXT
show 'train_diffusion --config examples/configs/diffusion_pixels.ini --data data/digits12.h5 \
  --run runs/pixels --in_memory 1000 --training.steps 10 --optimisation.total_steps 10'
text <<'TEXT'
A JEPA that predicts, and a decoder that makes its predictions visible:
TEXT
show 'pretrain --config examples/configs/predict_digits.ini --data data/digits12.h5 --run runs/predict \
  --in_memory 1000 --training.steps 10 --optimisation.total_steps 10'
show 'train_diffusion --config examples/configs/diffusion_decoder.ini --data data/digits12.h5 \
  --jepa runs/predict --run runs/decoder --in_memory 1000 --training.steps 10 --optimisation.total_steps 10'

page sample <<'TEXT'
Video from a diffusion model: from a prompt, around frames that are given (these come back bit for
bit), longer films in windows. `--sampler.given_guidance 3` follows given frames more closely,
`--sampler.guidance 4` the prompt. Whether `--out` can be written is checked before anything is drawn.
TEXT
show 'sample --model runs/pixels --prompt "three left fast" --frames 12 --count 2 --out three.png'
show 'sample --model runs/pixels --given data/digits12_test.h5 --given_frames 0:4 --frames 12 --count 2 --out forwards.gif'

page decode <<'TEXT'
A clip in, the future that a JEPA predicts of it out as video, beside the truth, what was shown, the
encoder's own latents decoded and another clip's.
TEXT
show 'decode --model runs/decoder --video data/digits12_test.h5 --count 2 --sampler.steps 8 --out future.gif'

page judge <<'TEXT'
A small network, trained with labels on real frames, reads digits and places from what a diffusion
model or a decoder draws, beside copying the last frame, a straight line, shuffled latents and the
true frames. The judge is kept in `--judge_file`; read from there it keeps the options it was trained
with, and one that is given and differs is refused. So is a horizon beyond the clips.
TEXT
show 'judge --model runs/decoder --train data/digits12.h5 --validation data/digits12_validation.h5 \
  --test data/digits12_test.h5 --judge_file judge.safetensors --judge.clips 500 --judge.held_out_clips 200 \
  --judge.steps 60 --clips 16 --futures 2 --sampler.steps 4'

page compare <<'TEXT'
Trains JEPA and generative arms within the same floating-point budget and asks all of them the same
questions. It goes on where it was cut off, cell by cell, and writes `summary.json`, `report.html` and
a film. What is named twice (an arm, seed or budget) is refused, and so is a folder with another
program's cells.
TEXT
show 'compare --config examples/configs/compare_digits.ini --run runs/compare --arms jepa,random_init \
  --budgets 0.05 --seeds 0 --arm.decoder_tera 0.05 --judge.steps 50 --judge.clips 500 \
  --judge.held_out_clips 100 --questions.train_clips 500 --questions.probe_clips 300 \
  --questions.validation_clips 100 --questions.test_clips 200 --questions.predicted_clips 8 --questions.futures 2'

text <<'TEXT'
Other worlds, with test clips outside the range of training, and curves over training compute (see
[extrapolation](../extrapolation.md)); `--quick` shows that everything runs, no more:
TEXT
show 'compare --config examples/configs/compare_creatures.ini --run runs/creatures --quick --arms masked_pixels,random_init --film.examples 0'

page train_dynamics <<'TEXT'
Trains an action-conditioned world model: an encoder and a predictor together, then the predictor alone
on the frozen encoder's latents. `--data two_rooms` makes its clips as it trains, and says what they
touch; a clip store with a column `action` is read as it is, and one of `collect` tells its world, its
factors and how many actions lie between its frames. Every evaluation (of a store: where `--validation` names
held-out clips) tells the skill over predicting no change (one block and k blocks ahead), what a linear probe
reads, and the wall test: how often the model, pushed straight at a wall, thinks that it is beyond it.
TEXT
show 'train_dynamics --config examples/configs/two_rooms_quick.ini --run runs/rooms'
text <<'TEXT'
`predictor.kind` chooses the residual MLP, eb_jepa's `gru` or LeWorldModel's `adaln` transformer, which looks
back over `predictor.frames` latents; the second phase's predictor is of the same kind unless `second.*` says
otherwise. `protocol.history` may be as long as the last phase's predictor and the clips allow, and `plan` uses
it. `adaln` is trained in windows of `predictor.frames`; every frame of a clip counts once.
`--model.action_mean measured` and `--model.action_std measured` take them from the training data (rows with a
NaN left out) and keep them in the run's config.ini; `clip.action_mode` stays `concat` where a block has
several stored frames.

`--patches.weights FILE` puts a frozen encoder in the small one's place (published weights or a run of `pretrain`
whose frames have as many channels): each frame becomes its layer-normed patch tokens, and the predictor
of the next frame's tokens is trained alone, V-JEPA 2-AC's (`--patches.predictor action_conditioned`,
teacher forcing and a rollout, absolute error) or AdaLN over patches (`adaln`, one step ahead, squared
error), as `examples/configs/vjepa2_ac.ini` and `dinowm_push.ini` have it. The encoder stays where it is:
a checkpoint keeps the predictor and a fingerprint of the encoder, and goes on over no other. `plan` takes
such runs too, unless their predictor was given states.
TEXT

page plan <<'TEXT'
Plans with a run of `train_dynamics` in the world of its protocol: in two rooms success at the last of
200 steps, with Wilson intervals, beside controllers that need no model (`--controls`, one of them the
same model before training). Writes `summary.json`, `config.ini`, `report.html`, films (the world, and where
the plan leads), in two rooms rollouts over true frames (where a probe reads the dot from predicted latents),
and the energy landscape: costs over two numbers of a held action, the cheapest and the planner's choice
marked (`--landscape FILE.png` writes it alone). What the run was not trained for is refused. Whoever acts,
no step is longer than `protocol.longest_step`; `--planner.variant` starts from a published search, what is
given of `--cem.*` goes on top. Rows `unseen_*` are left out where the training data had these values.
TEXT
show 'plan --run runs/rooms --episodes 20 --unseen_episodes 10 --films 1 --cem.samples 32 --cem.iterations 2'
text <<'TEXT'
In other worlds (`protocol.world` of the run: `push`, `swm_two_rooms`, `gym:ID`) the controls are random
actions, the world's script and the untrained model. `--ahead_episodes N` adds the published protocol of
Push-T: the goal is a frame that the script reached `--ahead` steps later, success counts at any of
`--ahead_steps`. Gymnasium's Push-T knows that kind alone: `--gym.make
obs_type=state,visualization_width=96,visualization_height=96 --gym.pixels render`. Frames of Gymnasium
environments are of the run's size.

`--weights FILE` plans with published weights instead of a run, in `--protocol.world`: eb_jepa's checkpoint
(two_rooms), or LeWorldModel's folder (any world of RGB frames; `--action_mean` and `--action_std` are
those of its data, which its files leave out). They bring their published planner and longest step, on which
`--cem.*` goes on top (`--planner.*` puts another in its place); frames, actions, blocks or a history that do
not fit are refused. `--members RUN,RUN` plans with several runs at once: a cost is the mean of theirs, and with
`--cost.disagreement W` also W of their standard deviations.
TEXT

page dream <<'TEXT'
Learns inside its own dream (Ha and Schmidhuber): collects episodes of a game, trains V (frames to
latents) and M (what comes next, and whether it ends) on them, trains a controller in what M imagines
alone, and plays the real game. Beside it: held random, the best constant action, a policy that swaps
sides, untrained controllers, and the same controller searched for in the real game by as many candidates and generations.
Real scores are the game's rewards, and frames lived beside them; a dream has frames lived alone. All candidates
of a generation start alike, in the dream and in the real game. Every stage leaves a file; a run that was
killed or stopped (Ctrl-C) goes on with the next. More `temperatures` and the
real game's arm (`play.real`) can be asked of a finished run. `--quick` makes everything far too small, to see
it work.
TEXT
show 'dream --config examples/configs/ha_dodge.ini --quick --run runs/dodge'
text <<'TEXT'
`summary.json` holds dream and real scores with intervals, seconds and real frames of every arm;
`report.html` the same as tables with a film of a real episode beside the dream.
TEXT

page surprise <<'TEXT'
Trains models on films in which all is lawful, then shows them pairs of films that are one up to a
frame and of which one breaks a rule: which one surprises more? Twelve rules, matched changes that
break none, each arm beside untrained networks of its own initialisation, intervals over scenes and
seeds; `report.html` has the curves and heat maps. It goes on where it was cut off. `--scale 0.1,1` asks
the arms at other budgets too, for the shares told wrong over training compute. `--quick` shows that
everything runs, no more; what else is on the command line wins over it.
TEXT
show 'surprise --config examples/configs/surprise_balls.ini --run runs/surprise --quick --arms jepa'
text <<'TEXT'
Published films, for those who have them (IntPhys dev, GRASP, InfLevel):
`surprise --benchmark intphys --data intphys/dev --model WEIGHTS --run runs/intphys`.
TEXT

page watch <<'TEXT'
Watches video of any length through a sliding window, each frame decoded once: a file, a folder
(`--loop_minutes` again and again), or a pipe (`ffmpeg ... -f matroska - | watch --video -`). Memory
does not grow with the film. `curve.csv` has a row for every watched frame as it comes, with a mark
where a film begins, changes its size, is damaged or ends early; `index.html` has the curve, the most
surprising moments and the film under its heat, which a click on the curve winds to that moment. A
pipe that gives nothing for `--stall` seconds, or ends within a frame, is one line, once the files are
finished; Ctrl-C finishes them too.

It takes runs that predict each clip by itself, as those of `predict_digits.ini` and
`watch_footage.ini`. One trained with `objective.target_norm = content` (`footage.ini`,
`moving_digits.ini`, `digits_views.ini`, `atari.ini`) is refused: its predictions are relative to a batch.
TEXT
show 'watch --weights runs/predict --video features.mp4 --around 0.3 --out watched'
show 'head -n 4 watched/curve.csv; ls watched'
text <<'TEXT'
Probes that `probe --save` wrote are asked about every window: one more column each, and curves on
the page.
TEXT
show 'probe --weights runs/predict --labels digit,position --unit instance --control.draws 1 \
  --train data/digits12.h5 --validation data/digits12_validation.h5 --test data/digits12_test.h5 \
  --save probes.safetensors'
show 'watch --weights runs/predict --video features.mp4 --film 0 --probes probes.safetensors --out answered'
show 'sed -n 12,16p answered/curve.csv'
text <<'TEXT'
Is surprise worth anything on real footage? `--events` splices seven kinds of event into the end of
each video, which the model was not trained on (`examples/configs/watch_footage.ini`), and asks it,
untrained networks and pixels which windows hold one: AUROC, with intervals over stretches of footage;
the grid of cells goes on where it was cut off, and scores again what another model or other videos were
asked. `--inspect` looks into the model: surprise by token, attention, principal components
([debugging](../debugging.md)).
TEXT
show 'watch --weights runs/predict --video features.mp4 --inspect --fault top_left --out inside'

finish
commands() { awk '/^\$ / { on = 1 } on { print } !/\\$/ { on = 0 }' "$1"; }
if [ $check = 1 ]; then
  failed=0
  for file in "$work"/pages/*.md; do
    if ! diff -u <(commands "$pages/$(basename "$file")") <(commands "$file"); then
      printf 'generate.sh: %s shows other commands; run docs/programs/generate.sh\n' \
        "$(basename "$file")" >&2
      failed=1
    fi
  done
  exit $failed
fi
mkdir -p "$pages"
cp "$work"/pages/*.md "$pages/"
