// SPDX-License-Identifier: BSD-2-Clause
#include <fmt/format.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): sigprocmask
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <tcpinfo/error.hpp>

#include "command.hpp"
#include "gnuplot.hpp"
#include "options.hpp"
#include "output.hpp"
#include "page.hpp"
#include "recording.hpp"
#include "run.hpp"
#include "run_pictures.hpp"
#include "sampling.hpp"
#include "suite.hpp"

namespace {

namespace fs = std::filesystem;
using plot::Image;
using plot::Options;

constexpr int kFailed = 1, kImpossible = 77;

/// Ctrl-C waits until files are in their places, in all threads that begin while this is alive: none is left half-way.
class SignalsHeld {
 public:
  SignalsHeld() {
    sigemptyset(&held_);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&held_, signal);
    pthread_sigmask(SIG_BLOCK, &held_, &old_);
  }
  ~SignalsHeld() { pthread_sigmask(SIG_SETMASK, &old_, nullptr); }
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;

  /// Whether one of them waits.
  bool pending() const {
    sigset_t waiting;
    sigpending(&waiting);
    return std::ranges::any_of(std::initializer_list<int>{SIGINT, SIGTERM, SIGHUP},
                               [&](int signal) { return sigismember(&waiting, signal) == 1; });
  }

 private:
  sigset_t held_{}, old_{};
};

void complain(std::string_view text) { fmt::print(stderr, "tcpinfo-plot: {}\n", text); }

/// A run to be drawn.
struct Job {
  fs::path directory;
  std::string name;
};

/// The folders of the runs in `directory`: itself, or those below it that are runs, by name.
std::vector<fs::path> find_runs(const fs::path& directory) {
  std::error_code error;
  if (fs::exists(directory / "iperf3.json", error)) return {directory};
  std::vector<fs::path> runs;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    std::error_code ignored;
    if (entry.is_directory(ignored) && fs::exists(entry.path() / "iperf3.json", ignored)) runs.push_back(entry.path());
  }
  if (error) throw tcpinfo::Error(error, "read " + directory.string(), {});
  if (runs.empty())
    throw tcpinfo::Error(std::make_error_code(std::errc::no_such_file_or_directory),
                         "read " + (directory / "iperf3.json").string(),
                         "give the folder that tcpinfo-validate run --out wrote, or one that holds such folders");
  std::ranges::sort(runs);
  return runs;
}

/// How far the drawing of many runs is, on standard error.
class Progress {
 public:
  explicit Progress(std::size_t all) : all_(all), terminal_(::isatty(STDERR_FILENO) == 1) {}
  ~Progress() {
    if (terminal_ && all_ > 1 && done_ > 0) fmt::print(stderr, "\r\033[K");
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void done(const std::string& name) {
    if (++done_, all_ < 2) return;
    const double spent = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    const double left = spent / static_cast<double>(done_) * static_cast<double>(all_ - done_);
    const auto text =
        fmt::format("{} of {} runs drawn, {} s left: {}", done_, all_, static_cast<int>(left + 0.5), name);
    if (terminal_)
      fmt::print(stderr, "\r\033[K{}", text);
    else
      complain(text);
  }

 private:
  std::size_t all_, done_ = 0;
  bool terminal_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Writes the images of pictures into a folder.
void add_files(plot::OutputFiles& files, const fs::path& folder, const std::vector<plot::Picture>& pictures,
               const std::vector<Image>& images, const std::vector<std::vector<std::string>>& bytes) {
  for (std::size_t i = 0; i < pictures.size(); ++i)
    for (std::size_t k = 0; k < images.size(); ++k)
      files.add(folder / fmt::format("{}.{}", pictures[i].name, plot::extension(images[k])), bytes[i][k]);
}

/// Draws a run into `plots`, and packs its pictures for the page.
plot::Section draw(const Job& job, const fs::path& plots, const Options& options) {
  plot::Section section;
  section.name = job.name;
  section.run = plot::read_run(job.directory);
  section.run.name = job.name;
  const auto pictures = plot::pictures(section.run, options.selection.fields);
  section.run.records.clear();
  const auto bytes = plot::render(pictures, options.images, options.paper);
  // The page is read on a screen, whatever paper the pictures are for.
  const Image image = Image::kSvg;
  const auto svg = std::ranges::find(options.images, image) - options.images.begin();
  const bool again = options.paper != plot::Paper() || std::cmp_equal(svg, options.images.size());
  const auto on_page = again ? plot::render(pictures, {&image, 1}, {}) : std::vector<std::vector<std::string>>();
  plot::OutputFiles files;
  add_files(files, plots, pictures, options.images, bytes);
  files.commit();
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    const auto& picture = pictures[i];
    section.drawings.push_back(
        {picture.name, picture.field, picture.title,
         plot::packed(plot::inline_svg(again ? on_page[i][0] : bytes[i][static_cast<std::size_t>(svg)],
                                       fmt::format("{}-{}-", job.name, picture.name), picture.title))});
  }
  return section;
}

int draw_folder(const fs::path& directory, const Options& options) {
  if (!options.of_files.empty())
    cli::usage_error(
        fmt::format("{} is for files, and {} is a folder; tcpinfo-plot {}/sockops.jsonl draws a file of it",
                    options.of_files, directory.string(), directory.string()));
  std::optional<validation::Suite> suite;
  std::vector<Job> jobs;
  std::error_code ignored;
  if (fs::exists(directory / "suite.json", ignored)) {
    suite = validation::read_suite(directory / "suite.json");
    for (const auto& run : suite->runs)
      if (!run.directory.empty() && fs::exists(directory / run.directory / "iperf3.json", ignored))
        jobs.push_back({directory / run.directory, run.name});
  } else {
    for (const auto& one : find_runs(directory)) {
      const auto whole = fs::absolute(one).lexically_normal();
      jobs.push_back({one, (whole.has_filename() ? whole : whole.parent_path()).filename().string()});
    }
  }
  const auto out = options.out.empty() ? directory : options.out;
  const bool is_set = suite || jobs.front().directory != directory;

  const SignalsHeld held;
  std::vector<plot::Section> sections(jobs.size());
  std::vector<std::exception_ptr> errors(jobs.size());
  Progress progress(jobs.size());
  std::atomic<std::size_t> next = 0;
  std::mutex mutex;
  const auto work = [&] {
    for (std::size_t i; (i = next++) < jobs.size() && !held.pending();) {
      const auto& job = jobs[i];
      const auto plots = (is_set ? out / job.directory.lexically_relative(directory) : out) / "plots";
      try {
        sections[i] = draw(job, plots, options);
      } catch (const tcpinfo::Error& error) {
        sections[i] = {.name = job.name, .failure = error.what(), .run = {}, .drawings = {}};
        errors[i] = std::current_exception();
      } catch (...) {
        errors[i] = std::current_exception();
      }
      const std::scoped_lock lock(mutex);
      progress.done(job.name);
    }
  };
  {
    const auto processors = std::max(1u, std::thread::hardware_concurrency());
    const auto threads = std::min<std::size_t>(options.jobs ? options.jobs : processors, jobs.size());
    std::vector<std::jthread> others;
    for (std::size_t i = 1; i < threads; ++i) others.emplace_back(work);
    work();
  }
  if (held.pending()) return kFailed;
  bool whole = true;
  std::size_t pictures = 0;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    // Of a set, the other runs are still worth their pictures.
    if (errors[i] && (!is_set || sections[i].failure.empty())) std::rethrow_exception(errors[i]);
    const auto& section = sections[i];
    pictures += section.drawings.size();
    if (!section.failure.empty()) complain(section.failure);
    for (const auto& defect : section.run.defects) complain(defect);
    for (const auto& remark : section.run.remarks) complain(remark);
    whole &= section.run.defects.empty() && section.failure.empty();
  }
  const auto index = out / "index.html";
  const auto name = fs::absolute(directory).lexically_normal();
  plot::OutputFiles files;
  files.add(index, plot::page((name.has_filename() ? name : name.parent_path()).filename().string(), sections, suite));
  files.commit();
  fmt::print("{}: {} picture{} of {} run{}\n", index.string(), pictures, pictures == 1 ? "" : "s", jobs.size(),
             jobs.size() == 1 ? "" : "s");
  return whole ? 0 : kFailed;
}

int draw_files(const Options& options) {
  std::vector<plot::Recording> recordings;
  bool whole = true;
  for (const auto& input : options.inputs) {
    auto& recording = recordings.emplace_back(plot::read_recording(input));
    if (recording.truncated) {
      complain(fmt::format("read {}: its end is cut off, the {} records before it are drawn",
                           recording.file.string(), recording.records.size()));
      whole = false;
    }
  }
  std::vector<std::string> remarks;
  const auto pictures = plot::pictures(recordings, options.selection, remarks);
  for (const auto& remark : remarks) complain(remark);
  const auto bytes = plot::render(pictures, options.images, options.paper);
  const auto out = options.out.empty() ? fs::path("plots") : options.out;
  const SignalsHeld held;
  plot::OutputFiles files;
  add_files(files, out, pictures, options.images, bytes);
  files.commit();
  for (const auto& picture : pictures) fmt::print("{}\n", (out / picture.name).string());
  return whole ? 0 : kFailed;
}

/// The figure of tcpinfo-validate study.
int draw_study(const fs::path& directory, const fs::path& out) {
  const auto figures = plot::draw_study(validation::read_study(directory / "study.json"));
  const SignalsHeld held;
  plot::OutputFiles files;
  for (const auto& figure : figures) files.add(out / figure.name, figure.bytes);
  files.commit();
  for (const auto& figure : figures) fmt::print("{}\n", (out / figure.name).string());
  return 0;
}

int run(const Options& options) {
  std::error_code ignored;
  const auto folder =
      std::ranges::find_if(options.inputs, [&](const auto& input) { return fs::is_directory(input, ignored); });
  if (folder == options.inputs.end()) return draw_files(options);
  if (options.inputs.size() > 1)
    cli::usage_error(fmt::format("{} is a folder: it is drawn by itself (or give files only)", *folder));
  if (fs::exists(fs::path(*folder) / "study.json", ignored))
    return draw_study(*folder, options.out.empty() ? fs::path(*folder) : options.out);
  return draw_folder(*folder, options);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const auto options = plot::parse_options(argc, argv);
    if (!options) return 0;
    if (!plot::gnuplot_exists()) {
      complain("gnuplot is not installed (apt-get install gnuplot-nox)");
      return kImpossible;
    }
    return run(*options);
  } catch (const cli::Failure& failure) {
    if (*failure.what()) complain(failure.what());
    return failure.code();
  } catch (const std::exception& error) {
    complain(error.what());
    return kFailed;
  }
}
