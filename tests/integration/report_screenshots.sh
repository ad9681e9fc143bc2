#!/usr/bin/env bash
# Draws the first screen of reports at 1,400 and 800 px in headless Chromium, and fails where a table
# that is not folded is wider than its column, or any is wider than 1,100 px.
#
#   tests/integration/report_screenshots.sh REPORT.html [FOLDER]   (pictures go there, default .)
set -euo pipefail
report=$(realpath "$1")
folder=$(realpath "${2:-.}")
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
  { echo "needs chromium (Debian: apt-get install chromium)" >&2; exit 3; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The report runs no script: a copy is asked how wide its tables came out, folded ones included.
{
  cat "$report"
  cat <<'SCRIPT'
<script>
const folded = new Set(document.querySelectorAll("details .scroll"));
for (const part of document.querySelectorAll("details")) part.open = true;
let over = [], widest = 0;
for (const box of document.querySelectorAll(".scroll")) {
  widest = Math.max(widest, box.firstChild.offsetWidth);
  // What is folded may be scrolled in its own box.
  if (!folded.has(box) && box.scrollWidth > box.clientWidth + 1) over.push(box.innerText.split("\n")[0]);
}
document.body.innerHTML = "WIDTHS " + widest + " OVER " + over.length + ": " + over.join("; ") + " END";
</script>
SCRIPT
} >"$work/measured.html"
chrome() { timeout 120 "$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars "$@" 2>/dev/null; }
failed=0
for width in 1400 800; do
  picture=$folder/$(basename "$report" .html)-$width.png
  chrome --window-size="$width,1000" --screenshot="$picture" "file://$report" >/dev/null
  found=$(chrome --window-size="$width,1000" --dump-dom "file://$work/measured.html" |
    grep -o 'WIDTHS .* END' | head -1)
  echo "$width px: $picture, ${found% END}"
  read -r _ widest _ over _ <<<"$found"
  if [ "${over%:}" != 0 ] || [ "$widest" -gt 1100 ]; then failed=1; fi
done
exit $failed
