#include "verifier/scorer.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "core/sampling.h"
#include "core/schedule.h"
#include "engine/corpus.h"
#include "engine/model.h"

namespace leap {
namespace {

// Tokens of one forward pass: small enough to stop soon, large enough to keep a core busy.
constexpr int64_t kChunkTokens = 2048;

class TorchScorer final : public Scorer {
 public:
  TorchScorer(const JobSpec& spec, std::unique_ptr<Corpus> corpus, std::unique_ptr<Model> model)
      : spec_(spec),
        row_tokens_(spec.data.sequence_length_tokens + 1),
        corpus_(std::move(corpus)),
        model_(std::move(model)),
        gate_rows_(corpus_->GateSet()),
        report_rows_(corpus_->ReportSet()),
        probe_rows_(corpus_->Probes(spec.regime.probes)) {}

  const WeightLayout& layout() const override { return model_->layout(); }

  void Load(std::span<const float> weights) override {
    model_->WriteWeights({0, layout().size}, weights);
  }

  void LoadMoments(std::span<const float> exp_avg, std::span<const float> exp_avg_sq) override {
    model_->WriteMoments({0, layout().size}, exp_avg, exp_avg_sq);
  }

  absl::StatusOr<std::vector<float>> Fingerprint(const TaskControl& control) override {
    return InChunks(probe_rows_, control, [this](std::span<const int64_t> rows) {
      return model_->Fingerprint(rows, row_tokens_);
    });
  }

  absl::StatusOr<std::vector<float>> GateLosses(const TaskControl& control) override {
    return Losses(gate_rows_, control);
  }

  absl::StatusOr<double> ReportLoss(const TaskControl& control) override {
    LEAP_ASSIGN_OR_RETURN(const std::vector<float> losses, Losses(report_rows_, control));
    double sum = 0;
    for (const float loss : losses) sum += loss;
    return sum / static_cast<double>(losses.size());
  }

  absl::Status TrainOn(const AuditStart& start, int64_t steps,
                       const TaskControl& control) override {
    const TrainSpec& train = spec_.train;
    for (int64_t i = 0; i < steps; ++i) {
      LEAP_RETURN_IF_ERROR(control.Check());
      const std::vector<int64_t> windows =
          BatchWindows(train.seed, start.data_position + i, corpus_->train_windows(),
                       train.batch_sequences, /*rank=*/0, /*world_size=*/1);
      const std::vector<int64_t> rows = corpus_->TrainBatch(windows);
      LEAP_RETURN_IF_ERROR(
          model_->ForwardBackward(rows, row_tokens_, train.batch_sequences, [](FlatRange) {})
              .status());
      LEAP_RETURN_IF_ERROR(
          model_->Update(train, LearningRate(train, start.step + i), start.adam_step + i + 1)
              .status());
    }
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<std::vector<float>> Losses(const std::vector<int64_t>& rows,
                                            const TaskControl& control) {
    return InChunks(rows, control, [this](std::span<const int64_t> chunk) {
      return model_->RowLosses(chunk, row_tokens_);
    });
  }

  // Concatenates what `work` returns for consecutive chunks of whole rows.
  template <typename Work>
  absl::StatusOr<std::vector<float>> InChunks(const std::vector<int64_t>& rows,
                                              const TaskControl& control, const Work& work) const {
    const size_t chunk =
        static_cast<size_t>(std::max<int64_t>(1, kChunkTokens / row_tokens_) * row_tokens_);
    std::vector<float> out;
    for (size_t begin = 0; begin < rows.size(); begin += chunk) {
      LEAP_RETURN_IF_ERROR(control.Check());
      const std::span<const int64_t> part =
          std::span<const int64_t>(rows).subspan(begin, std::min(chunk, rows.size() - begin));
      LEAP_ASSIGN_OR_RETURN(const std::vector<float> values, work(part));
      out.insert(out.end(), values.begin(), values.end());
    }
    return out;
  }

  const JobSpec spec_;
  const int64_t row_tokens_;
  const std::unique_ptr<Corpus> corpus_;
  const std::unique_ptr<Model> model_;
  const std::vector<int64_t> gate_rows_, report_rows_, probe_rows_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Scorer>> MakeScorer(const JobSpec& spec,
                                                   const std::string& state_dir) {
  LEAP_ASSIGN_OR_RETURN(const ModelConfig config,
                        ResolveModelConfig(spec.model, spec.data.sequence_length_tokens));
  LEAP_ASSIGN_OR_RETURN(std::unique_ptr<Corpus> corpus,
                        Corpus::Open(spec.data, state_dir + "/corpus"));
  LEAP_ASSIGN_OR_RETURN(std::unique_ptr<Model> model,
                        Model::Create(config,
                                      {.device = spec.train.device,
                                       .precision = spec.train.precision,
                                       .threads = static_cast<int>(spec.train.threads)},
                                      spec.train.seed));
  return std::make_unique<TorchScorer>(spec, std::move(corpus), std::move(model));
}

}  // namespace leap
