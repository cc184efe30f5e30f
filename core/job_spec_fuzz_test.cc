// Mutated job files: the validator must answer each in bounded time, without a crash, and what it
// accepts must survive printing. A plain test under GCC, bounded in time; with clang,
// -DLEAP_LIBFUZZER makes the same body a libFuzzer target.
//
//   LEAP_FUZZ_SECONDS=600 LEAP_FUZZ_SEED=7 job_spec_fuzz_test
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/test_paths.h"
#include "core/job_spec.h"
#include "gtest/gtest.h"

namespace leap {
namespace {

// What must hold for any text. Returns what does not, or nothing.
std::string Violation(absl::string_view yaml) {
  JobSpec spec;
  const std::vector<SpecError> findings = CheckJobSpec(yaml, &spec);
  if (findings.size() > 20) return absl::StrCat(findings.size(), " findings");
  for (const SpecError& finding : findings) {
    if (finding.message.empty() || finding.message.size() > 4000 || finding.line < 0)
      return "a finding is malformed";
  }
  if (!findings.empty()) return "";
  const std::string printed = JobSpecToYaml(spec);
  const auto again = ParseJobSpec(printed);
  if (!again.ok())
    return absl::StrCat("printed job is refused: ", again.status().message(), "\n", printed);
  if (JobSpecToYaml(*again) != printed) return "printed job prints differently";
  return "";
}

// Words of the language of job files, for mutations that get past its first line of defence.
constexpr absl::string_view kWords[] = {"spec",
                                        "leap",
                                        "train",
                                        "steps",
                                        "lr",
                                        "name",
                                        "predictors",
                                        "horizons_steps",
                                        "params",
                                        "policy",
                                        "paper",
                                        "off",
                                        "average",
                                        "outer-nesterov",
                                        "quadratic",
                                        "form",
                                        "timeouts",
                                        "lease_seconds",
                                        "failure",
                                        "role",
                                        "- ",
                                        ": ",
                                        "\n  ",
                                        "\n    ",
                                        "[",
                                        "]",
                                        "{",
                                        "}",
                                        "&a ",
                                        "*a",
                                        "<<: ",
                                        "\"",
                                        "'",
                                        "|",
                                        ">",
                                        "#",
                                        "---\n",
                                        "...\n",
                                        "!!str ",
                                        "? ",
                                        "~",
                                        "null",
                                        "true",
                                        "0",
                                        "-1",
                                        "1e308",
                                        "9223372036854775807",
                                        "18446744073709551615",
                                        "0.5",
                                        ".nan",
                                        ".inf",
                                        "\t",
                                        "\r\n",
                                        "\xef\xbb\xbf",
                                        "\xff",
                                        "%YAML 1.2\n",
                                        "\\",
                                        "commit_rule",
                                        "replace",
                                        "rebase",
                                        "regimes",
                                        "stable",
                                        "\xc3\xbc"};

class Mutator {
 public:
  Mutator(uint64_t seed, std::vector<std::string> corpus)
      : random_(seed), corpus_(std::move(corpus)) {}

  std::string Next() {
    std::string text = corpus_[Below(corpus_.size())];
    const size_t edits = 1 + Below(6);
    for (size_t i = 0; i < edits; ++i) Edit(text);
    return text;
  }

 private:
  size_t Below(size_t bound) { return bound == 0 ? 0 : random_() % bound; }

  void Edit(std::string& text) {
    const size_t at = Below(text.size() + 1);
    const size_t length = std::min(text.size() - at, Below(24));
    switch (Below(7)) {
      case 0:
        text.erase(at, length);
        break;
      case 1:
        text.insert(at, kWords[Below(std::size(kWords))].data());
        break;
      case 2:
        text.replace(at, length, std::string(kWords[Below(std::size(kWords))]));
        break;
      case 3:
        if (at < text.size()) text[at] = static_cast<char>(Below(256));
        break;
      case 4:
        text.insert(at, text.substr(Below(text.size() + 1), Below(200)));
        break;
      case 5:
        SwapLines(text);
        break;
      case 6: {
        const std::string& other = corpus_[Below(corpus_.size())];
        text = text.substr(0, at) + other.substr(Below(other.size() + 1));
        break;
      }
    }
  }

  void SwapLines(std::string& text) {
    const size_t first = text.find('\n', Below(text.size() + 1));
    if (first == std::string::npos) return;
    const size_t second = text.find('\n', first + 1);
    if (second == std::string::npos) return;
    const std::string line = text.substr(first, second - first);
    text.erase(first, second - first);
    text.insert(Below(text.size() + 1), line);
  }

  std::mt19937_64 random_;
  std::vector<std::string> corpus_;
};

std::vector<std::string> Corpus() {
  std::vector<std::string> corpus;
  for (const char* name : {"demo", "line-search", "minimal", "paper"}) {
    std::ifstream file(SourcePath(absl::StrCat("examples/", name, ".yaml")));
    std::stringstream text;
    text << file.rdbuf();
    corpus.push_back(text.str());
    if (const auto spec = ParseJobSpec(corpus.back()); spec.ok())
      corpus.push_back(JobSpecToYaml(*spec));
  }
  corpus.push_back("a: &a [1, 2]\nb: *a\n");
  return corpus;
}

int64_t FromEnvironment(const char* name, int64_t fallback) {
  int64_t value = 0;
  const char* text = std::getenv(name);
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : fallback;
}

TEST(JobSpecFuzzTest, AnyTextIsAnsweredAndWhatIsAcceptedSurvivesPrinting) {
  const int64_t seed = FromEnvironment("LEAP_FUZZ_SEED", 1);
  const absl::Time end = absl::Now() + absl::Seconds(FromEnvironment("LEAP_FUZZ_SECONDS", 3));
  Mutator mutator(static_cast<uint64_t>(seed), Corpus());
  int64_t tried = 0;
  int64_t accepted = 0;

  while (absl::Now() < end) {
    const std::string yaml = mutator.Next();
    const absl::Time begun = absl::Now();
    const std::string violation = Violation(yaml);
    ++tried;
    JobSpec spec;
    if (CheckJobSpec(yaml, &spec).empty()) ++accepted;
    ASSERT_EQ(violation, "") << "seed " << seed << ", input " << tried << ":\n" << yaml;
    ASSERT_LT(absl::Now() - begun, absl::Seconds(10))
        << "seed " << seed << ", input " << tried << ":\n"
        << yaml;
  }

  RecordProperty("tried", static_cast<int>(tried));
  RecordProperty("accepted", static_cast<int>(accepted));
  std::printf("%ld job files tried, %ld accepted\n", static_cast<long>(tried),
              static_cast<long>(accepted));
  EXPECT_GT(accepted, 0) << "the mutations are too wild to test printing";
}

}  // namespace
}  // namespace leap

#ifdef LEAP_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view yaml(reinterpret_cast<const char*>(data), size);
  if (!leap::Violation(yaml).empty()) std::abort();
  return 0;
}
#endif
