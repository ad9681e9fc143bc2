// Which files a data set consists of, and their classes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace jepa {

/// A video or picture and its class.
struct MediaEntry {
  std::string path;
  int64_t label = 0;
  std::string class_name = {};  ///< the folder that the label numbers; empty: not known
};

/// Reads a list of videos: a `path label` a line, as V-JEPA takes them, or `path::label`; between
/// the two may be blanks, tabs or commas, and paths may be in double quotes. Empty lines and those
/// that start with # are passed over, and so are empty columns after the label. Relative paths
/// start at the list's folder.
/// @throws DataError naming the list and the line
std::vector<MediaEntry> read_video_list(const std::string& path);

/// @throws DataError where the path is no file (but a folder, a pipe, a device)
void require_file(const std::string& path);

/// The videos below a folder, in the order of their paths. Where they lie in folders of the first
/// level, each such folder is a class, numbered in the order of names. A folder that is reached
/// twice counts where it lies, not where a link to it does.
/// @throws DataError naming a folder that cannot be read
std::vector<MediaEntry> list_videos(const std::string& folder);

/// The videos of a folder, a `path label` list (`.txt`, `.csv`), or one file by itself.
/// @throws DataError where the path is missing or a folder has none
std::vector<MediaEntry> find_videos(const std::string& path);

/// Whether a file's name ends as a picture's.
bool is_picture(const std::string& path);

/// The same as list_videos() for pictures.
std::vector<MediaEntry> list_images(const std::string& folder);

/// Names of the classes 0, 1, ...; empty where one is not known.
std::vector<std::string> class_names(const std::vector<MediaEntry>& entries);

/// `.mp4` of `a/B.MP4`.
std::string lower_extension(const std::string& path);

}  // namespace jepa
