// Names of the classes that labels number, where a source knows them.
#pragma once

#include <jepa/data/clip_source.hpp>

#include <string>
#include <vector>

namespace jepa {

/// Names of the classes 0, 1, ... of a source's column `label`: of a folder its folders of the
/// first level, of a clip store its attribute `label_names`. Empty: not known.
std::vector<std::string> label_names(const ClipSource& source);

/// The names as one text, a line each, as clip stores keep them.
std::string join_names(const std::vector<std::string>& names);
/// And apart again.
std::vector<std::string> read_names(const std::string& text);

/// Folders number their classes each for itself, so one that lacks a class shifts the others.
/// @throws DataError naming both and the first class that differs, where both know their names
void require_same_labels(const ClipSource& a, const std::string& a_path, const ClipSource& b,
                         const std::string& b_path);

}  // namespace jepa
