// What picture files say in their bytes that decoders do not tell: where they end, and how they are
// to be turned. Internal to data.
#pragma once

#include <jepa/data/video_decoder.hpp>

#include <cstddef>
#include <cstdint>
#include <istream>
#include <string_view>

namespace jepa {

/// Bytes of the JPEG at the start, its end marker included, whatever comes after it (a second
/// picture, the film of a motion photo); 0: it ends before that marker.
size_t jpeg_length(std::string_view bytes);

/// Whether a GIF goes on to its trailer. @param file at its start
bool gif_is_whole(std::istream& file);

/// Why these are the bytes of a TIFF that decoders get wrong without a word (a JPEG inside, samples
/// that are no plain numbers); empty: they are not.
std::string_view tiff_fault(std::string_view bytes);

/// Leaves of a TIFF's first directory the tags that say where its pixels are and what they mean.
/// Decoders that are to refuse damage refuse tags that they do not know as well.
void drop_tiff_tags(uint8_t* bytes, size_t size);

/// The turn that the EXIF orientation of a PNG or WebP asks for, or the tag of a TIFF.
Turn picture_turn(std::string_view bytes);

}  // namespace jepa
