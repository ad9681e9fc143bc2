// One self-contained HTML file: inline style, SVG, base64 pictures and films. It opens offline,
// runs no script and follows the reader's light or dark setting.
//
// Every function returns markup; a page is their concatenation. Text is escaped here and nowhere
// else: parameters called `text` are plain text, parameters called `markup` are taken as they are.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace jepa::eval::report {

/// `text` with the five characters that mean something in HTML and SVG replaced.
std::string escape_html(std::string_view text);

/// Bytes as base64 (RFC 4648, padded).
std::string base64(std::string_view bytes);

/// A number for people: `digits` digits (whole numbers all of theirs), no exponent between 1e-3 and
/// 1e9, thousands as `12,300`, "n/a" for NaN.
std::string short_number(double value, int digits = 3);

/// How a cell or badge is tinted.
enum class Tone { kPlain, kGood, kWarning, kBad, kMuted };

/// A table cell: the value, and beside it in small print its interval or unit; then a drawing.
struct Cell {
  std::string text;
  std::string note = {};
  Tone tone = Tone::kPlain;
  std::string markup = {};
};

/// Rows shorter than the head are filled with empty cells.
struct Table {
  std::vector<std::string> head = {};
  std::vector<std::vector<Cell>> rows = {};
  /// First columns that hold words and are set flush left; the others hold numbers.
  size_t text_columns = 1;
  bool notes_below = false;  ///< small print under the value: narrow columns
};

/// One fact of a row of tiles: a large value over a label.
struct Tile {
  std::string label;
  std::string value;
  std::string note = {};
  Tone tone = Tone::kPlain;
};

/// A heading of level 1 to 6. @param id its anchor; empty: none
std::string heading(int level, std::string_view text, std::string_view id = {});
/// A paragraph of text, tinted.
std::string paragraph(std::string_view text, Tone tone = Tone::kPlain);
/// A word or two in a tinted frame.
std::string badge(std::string_view text, Tone tone);
/// A table that scrolls sideways where the page is narrow.
std::string table(const Table& table);
/// Tiles side by side.
std::string tiles(const std::vector<Tile>& tiles);
/// A verdict set off from the text: a coloured bar, a headline, sentences.
std::string callout(std::string_view headline, const std::vector<std::string>& sentences,
                    Tone tone);
/// Anything with a caption under it.
std::string figure(std::string_view markup, std::string_view caption);
/// A PNG, drawn `width` CSS pixels wide at most, hard pixel edges.
std::string image(std::string_view png, std::string_view alternative, int width);
/// An MP4 that plays in a loop without sound.
std::string video(std::string_view mp4, std::string_view alternative, int width);
/// Figures side by side where the page is wide enough.
std::string grid(const std::vector<std::string>& markup);
/// Markup that opens on a click.
std::string details(std::string_view summary, std::string_view markup);
/// Text with its spaces and line ends as they are.
std::string preformatted(std::string_view text);

/// The whole document.
std::string page(std::string_view title, std::string_view body_markup);

}  // namespace jepa::eval::report
