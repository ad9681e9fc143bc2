// Many videos with one memory of decoded frames between them.
#pragma once

#include <jepa/data/clip_source.hpp>
#include <jepa/data/video_reader.hpp>

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace jepa {

/// Writes a part of a picture as [height, width, channels], RGB or luma stretched to 0 to 255.
/// @param whole_height, whole_width of the picture that the planes hold
void write_part(const VideoFrame& picture, int64_t whole_height, int64_t whole_width,
                int64_t channels, const PixelRect& part, uint8_t* to);

/// Decoded frames that follow each other.
struct FrameBlock {
  int64_t video = 0;
  int64_t number = 0;  ///< of the block: its first frame is number * VideoLibrary::kBlock
  std::vector<VideoFrame> frames;
  int64_t bytes = 0;
};

/// Hands out parts of frames of a list of videos. Frames are decoded by blocks, each video by one
/// thread at a time, and kept in memory up to a limit; the least recently used blocks go first. Of
/// videos that were not used lately no more than their sizes is kept, so that memory does not grow
/// with their number. Safe for threads.
class VideoLibrary {
 public:
  /// Frames decoded together.
  static constexpr int64_t kBlock = 16;

  /// Opens no file yet.
  VideoLibrary(std::vector<std::string> paths, const FrameScale& scale, int64_t channels,
               int64_t cache_mb);

  int64_t size() const { return static_cast<int64_t>(videos_.size()); }
  const std::string& path(int64_t video) const { return videos_[static_cast<size_t>(video)]->path; }
  int64_t channels() const { return channels_; }

  /// @throws DataError naming the file that cannot be opened
  const VideoInfo& info(int64_t video) const;

  /// VideoReader::times of a video.
  std::vector<double> times(int64_t video) const;

  /// Writes a part of a frame as [height, width, channels], RGB or luma stretched to 0 to 255.
  /// @throws DataError naming the file and the frame that cannot be decoded
  void read(int64_t video, int64_t frame, const PixelRect& part, uint8_t* to) const;

  /// The luma plane [H, W] of a frame, valid while `hold` is. Cheap where `hold` is already the
  /// block of the frame.
  const uint8_t* luma(int64_t video, int64_t frame, std::shared_ptr<const FrameBlock>& hold) const;

  /// Bytes of decoded frames in memory.
  int64_t cached_bytes() const;

 private:
  struct Video {
    std::string path;
    std::mutex mutex;                     // guards the reader
    std::unique_ptr<VideoReader> reader;  // while it is among those last used
    std::optional<VideoInfo> info;        // stays once it is known
    std::string error;                    // why it could not be opened
  };
  using Key = std::pair<int64_t, int64_t>;  // video, block

  VideoReader& reader(Video& video) const;
  void used(int64_t number) const;
  const VideoFrame& frame(int64_t video, int64_t frame,
                          std::shared_ptr<const FrameBlock>& hold) const;
  std::shared_ptr<const FrameBlock> block(int64_t video, int64_t number) const;
  std::shared_ptr<const FrameBlock> decode(const Key& key) const;
  std::shared_ptr<const FrameBlock> cached(const Key& key) const;
  void remember(const Key& key, const std::shared_ptr<const FrameBlock>& block) const;

  std::vector<std::unique_ptr<Video>> videos_;
  FrameScale scale_;
  int64_t channels_;
  int64_t cache_limit_;

  mutable std::mutex readers_mutex_;    // guards what follows
  mutable std::list<int64_t> readers_;  // videos whose readers are kept, most recently used first
  mutable std::map<int64_t, std::list<int64_t>::iterator> reader_places_;

  struct Entry {
    std::shared_ptr<const FrameBlock> block;
    std::list<Key>::iterator used;
  };
  mutable std::mutex cache_mutex_;  // guards what follows
  mutable std::map<Key, Entry> cache_;
  mutable std::list<Key> recent_;  // most recently used first
  mutable int64_t cache_bytes_ = 0;
};

}  // namespace jepa
