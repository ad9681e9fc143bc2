#include <eval/report/html.hpp>

#include <cmath>
#include <cstdint>
#include <cstdio>

namespace jepa::eval::report {
namespace {

// The colour names are shared with the plots (plot.cpp), which draw with var(--...).
constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark;--page:#ffffff;--panel:#f6f7f9;--ink:#16202c;--muted:#667085;
--line:#dde1e7;--c0:#2563eb;--c1:#d97706;--c2:#059669;--c3:#a21caf;--c4:#64748b;--c5:#dc2626;
--c6:#0891b2;--c7:#854d0e;--good:#047857;--warning:#b45309;--bad:#b91c1c}
@media(prefers-color-scheme:dark){:root{--page:#11161d;--panel:#1a212b;--ink:#e6eaf0;
--muted:#98a2b3;--line:#2f3947;--c0:#6ea8fe;--c1:#fbbf24;--c2:#34d399;--c3:#e879f9;--c4:#94a3b8;
--c5:#f87171;--c6:#22d3ee;--c7:#d6a35c;--good:#34d399;--warning:#fbbf24;--bad:#f87171}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:20px;margin:44px 0 10px;padding-top:14px;
border-top:1px solid var(--line)}h3{font-size:16px;margin:26px 0 8px}
p{margin:6px 0;max-width:80ch}.muted{color:var(--muted)}.good{color:var(--good)}
.warning{color:var(--warning)}.bad{color:var(--bad)}
.badge{display:inline-block;border:1px solid currentColor;border-radius:999px;padding:0 10px;
font-size:13px;font-weight:600;white-space:nowrap}
.scroll{overflow-x:auto}
table{border-collapse:collapse;margin:10px 0;font-variant-numeric:tabular-nums}
th,td{padding:5px 14px 5px 0;border-bottom:1px solid var(--line);text-align:right;
vertical-align:baseline;white-space:nowrap}th{color:var(--muted);font-weight:600;font-size:13px}
th.text,td.text{text-align:left;white-space:normal}
td small{color:var(--muted);margin-left:6px}
.below td small{display:block;margin:0;font-size:12px}
td svg.bar{width:clamp(110px,24vw,300px);max-width:none;height:auto}
.below th{white-space:normal}
@media(max-width:900px){th,td{padding-right:8px}main{padding:24px 16px 48px}td svg.bar{width:20vw}}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(148px,1fr));gap:10px;margin:14px 0}
.tile{background:var(--panel);border-radius:8px;padding:10px 14px}
.tile b{display:block;font-size:22px;line-height:1.3;font-variant-numeric:tabular-nums}
.tile span,.tile small{display:block;color:var(--muted);font-size:13px}
.callout{background:var(--panel);border-left:5px solid currentColor;border-radius:6px;
padding:10px 16px;margin:14px 0}.callout b{font-size:17px}.callout p{color:var(--ink);margin:3px 0}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));
gap:14px 22px;align-items:start}
figure{margin:8px 0;min-width:0}figcaption{color:var(--muted);font-size:13px;max-width:80ch}
svg{display:block;width:100%;max-width:600px;height:auto}
img,video{display:block;max-width:100%;border-radius:4px;image-rendering:pixelated}
details{margin:10px 0}summary{cursor:pointer;color:var(--muted)}
pre{background:var(--panel);border-radius:6px;padding:12px 14px;overflow-x:auto;font-size:13px;
line-height:1.45}
@media print{details{display:none}}
)";

std::string_view tone_class(Tone tone) {
  switch (tone) {
    case Tone::kGood:
      return "good";
    case Tone::kWarning:
      return "warning";
    case Tone::kBad:
      return "bad";
    case Tone::kMuted:
      return "muted";
    case Tone::kPlain:
      break;
  }
  return "";
}

/// `<name class="tone">escaped text</name>`.
std::string element(std::string_view name, std::string_view text, std::string_view classes = {}) {
  std::string out = "<" + std::string(name);
  if (!classes.empty()) out += " class=\"" + std::string(classes) + "\"";
  return out + ">" + escape_html(text) + "</" + std::string(name) + ">";
}

std::string media_source(std::string_view type, std::string_view bytes) {
  return " src=\"data:" + std::string(type) + ";base64," + base64(bytes) + "\"";
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string base64(std::string_view bytes) {
  constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t given = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;  // three bytes, four digits of six bits
    for (size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < given ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    }
    for (size_t k = 0; k < 4; ++k) {
      out += k <= given ? kAlphabet[group >> (18 - 6 * k) & 63u] : '=';
    }
  }
  return out;
}

std::string short_number(double value, int digits) {
  if (std::isnan(value)) return "n/a";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char text[64];
  const double size = std::abs(value);
  if (size != 0 && (size < 1e-3 || size >= 1e9)) {
    std::snprintf(text, sizeof text, "%.*g", digits, value);
    return text;
  }
  // Digits before the point count; whole numbers need none after it.
  const int before = size >= 1000 ? digits : size >= 100 ? 3 : size >= 10 ? 2 : size >= 1 ? 1 : 0;
  const int after = value == std::round(value) ? 0 : std::max(0, digits - before);
  std::snprintf(text, sizeof text, "%.*f", after, value);
  std::string out = text;
  if (after > 0) return out;
  const size_t first = value < 0 ? 1 : 0;
  for (size_t at = out.size(); at > first + 3;) out.insert(at -= 3, ",");
  return out;
}

std::string heading(int level, std::string_view text, std::string_view id) {
  const std::string name = "h" + std::to_string(level);
  std::string open = "<" + name;
  if (!id.empty()) open += " id=\"" + escape_html(id) + "\"";
  return open + ">" + escape_html(text) + "</" + name + ">\n";
}

std::string paragraph(std::string_view text, Tone tone) {
  return element("p", text, tone_class(tone)) + "\n";
}

std::string badge(std::string_view text, Tone tone) {
  return element("span", text, "badge " + std::string(tone_class(tone)));
}

std::string table(const Table& table) {
  std::string out = std::string("<div class=\"scroll\"><table") +
                    (table.notes_below ? " class=\"below\"" : "") + "><thead><tr>";
  const auto column_class = [&](size_t column) {
    return std::string(column < table.text_columns ? "text" : "");
  };
  for (size_t i = 0; i < table.head.size(); ++i) {
    out += element("th", table.head[i], column_class(i));
  }
  out += "</tr></thead><tbody>\n";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (size_t i = 0; i < std::max(table.head.size(), row.size()); ++i) {
      const Cell cell = i < row.size() ? row[i] : Cell{};
      out += "<td class=\"" + column_class(i) + " " + std::string(tone_class(cell.tone)) + "\">" +
             escape_html(cell.text);
      if (!cell.note.empty()) out += element("small", cell.note);
      out += cell.markup + "</td>";
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string tiles(const std::vector<Tile>& tiles) {
  std::string out = "<div class=\"tiles\">";
  for (const Tile& tile : tiles) {
    out += "<div class=\"tile\">" + element("span", tile.label) +
           element("b", tile.value, tone_class(tile.tone));
    if (!tile.note.empty()) out += element("small", tile.note);
    out += "</div>\n";
  }
  return out + "</div>\n";
}

std::string callout(std::string_view headline, const std::vector<std::string>& sentences,
                    Tone tone) {
  std::string out =
      "<div class=\"callout " + std::string(tone_class(tone)) + "\">" + element("b", headline);
  for (const std::string& sentence : sentences) out += element("p", sentence);
  return out + "</div>\n";
}

std::string figure(std::string_view markup, std::string_view caption) {
  return "<figure>" + std::string(markup) + element("figcaption", caption) + "</figure>\n";
}

std::string image(std::string_view png, std::string_view alternative, int width) {
  return "<img width=\"" + std::to_string(width) + "\" alt=\"" + escape_html(alternative) + "\"" +
         media_source("image/png", png) + ">";
}

std::string video(std::string_view mp4, std::string_view alternative, int width) {
  return "<video width=\"" + std::to_string(width) + "\" aria-label=\"" + escape_html(alternative) +
         "\" autoplay loop muted playsinline" + media_source("video/mp4", mp4) + "></video>";
}

std::string grid(const std::vector<std::string>& markup) {
  std::string out = "<div class=\"grid\">";
  for (const std::string& item : markup) out += item;
  return out + "</div>\n";
}

std::string details(std::string_view summary, std::string_view markup) {
  return "<details>" + element("summary", summary) + std::string(markup) + "</details>\n";
}

std::string preformatted(std::string_view text) { return element("pre", text) + "\n"; }

std::string page(std::string_view title, std::string_view body_markup) {
  return "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n" +
         element("title", title) + "\n<style>" + std::string(kStyle) +
         "</style></head>\n<body><main>\n" + std::string(body_markup) + "</main></body></html>\n";
}

}  // namespace jepa::eval::report
