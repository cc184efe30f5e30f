#include "verifier/assembler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "core/digest.h"
#include "core/schedule.h"

namespace leap {
namespace {

// Work between two looks at the task's control: a few milliseconds.
constexpr int64_t kChunkFloats = 64 * kBlockFloats;

std::span<const float> Part(const Floats& whole, FlatRange range) {
  if (whole == nullptr) return {};
  return std::span<const float>(*whole).subspan(static_cast<size_t>(range.begin),
                                                static_cast<size_t>(range.size()));
}

Floats Share(std::vector<float> values) {
  return std::make_shared<const std::vector<float>>(std::move(values));
}

v1::Buffer StateBuffer(int index) { return static_cast<v1::Buffer>(v1::BUFFER_STATE_0 + index); }

}  // namespace

Assembler::Assembler(const std::string& job, const JobSpec& spec, WeightLayout layout,
                     SnapshotStore* store, BufferFetcher fetch, uint64_t spread)
    : job_(job),
      spec_(spec),
      layout_(std::move(layout)),
      store_(store),
      fetch_(std::move(fetch)),
      spread_(spread) {}

absl::StatusOr<std::unique_ptr<Assembler>> Assembler::Create(const std::string& job,
                                                             const JobSpec& spec,
                                                             WeightLayout layout,
                                                             SnapshotStore* store,
                                                             BufferFetcher fetch, uint64_t spread) {
  std::unique_ptr<Assembler> assembler(
      new Assembler(job, spec, std::move(layout), store, std::move(fetch), spread));
  for (const PredictorSpec& predictor_spec : spec.leap.predictors) {
    LEAP_ASSIGN_OR_RETURN(std::unique_ptr<Predictor> predictor,
                          MakePredictor(predictor_spec, spec.leap.interval_steps));
    assembler->depth_ = std::max(assembler->depth_, predictor->needs().snapshots + 1);
    assembler->predictors_.push_back(std::move(predictor));
  }
  return assembler;
}

double Assembler::TakeFetchSeconds() { return std::exchange(fetch_seconds_, 0); }

absl::StatusOr<const Predictor*> Assembler::PredictorAt(int index) const {
  if (index >= 0 && index < static_cast<int>(predictors_.size())) return predictors_[index].get();
  return absl::InvalidArgumentError(
      absl::StrCat("predictor ", index, " of ", predictors_.size(), " does not exist in this job"));
}

AdamContext Assembler::AdamAt(int64_t step, int64_t adam_step) const {
  const TrainSpec& train = spec_.train;
  return {.adam_step = adam_step,
          .lr = LearningRate(train, step),
          .beta1 = train.beta1,
          .beta2 = train.beta2,
          .epsilon = train.epsilon,
          .weight_decay = train.weight_decay};
}

absl::StatusOr<Floats> Assembler::Fetch(const v1::Task& task, const v1::SnapshotRef& ref,
                                        v1::Buffer buffer, std::optional<uint64_t> digest,
                                        const TaskControl& control) {
  const BufferRequest request{.job = job_,
                              .epoch = task.epoch(),
                              .step = ref.step(),
                              .buffer = buffer,
                              .size = layout_.size};
  const std::vector<v1::ShardSource> sources(ref.sources().begin(), ref.sources().end());
  const absl::Time start = control.clock().Now();
  absl::StatusOr<std::vector<float>> values =
      FetchWhole(request, digest, sources, spread_, fetch_, control);
  fetch_seconds_ += absl::ToDoubleSeconds(control.clock().Now() - start);
  LEAP_RETURN_IF_ERROR(values.status());
  return Share(*std::move(values));
}

absl::StatusOr<Floats> Assembler::Weights(const v1::Task& task, int index,
                                          const TaskControl& control) {
  if (index < 0 || index >= task.snapshots_size()) {
    return absl::InvalidArgumentError(absl::StrCat("the task names ", task.snapshots_size(),
                                                   " snapshots; number ", index, " is needed"));
  }
  const v1::SnapshotRef& ref = task.snapshots(index);
  if (const auto held = store_->Find(ref.step(), ref.weights_digest())) return held->weights;
  LEAP_ASSIGN_OR_RETURN(Floats weights,
                        Fetch(task, ref, v1::BUFFER_WEIGHTS, ref.weights_digest(), control));
  store_->Put({.step = ref.step(),
               .epoch = task.epoch(),
               .weights_digest = ref.weights_digest(),
               .weights = weights});
  return weights;
}

absl::StatusOr<HeldSnapshot> Assembler::WithMoments(const v1::Task& task,
                                                    const TaskControl& control) {
  LEAP_RETURN_IF_ERROR(Weights(task, 0, control).status());
  const v1::SnapshotRef& ref = task.snapshots(0);
  std::optional<HeldSnapshot> held = store_->Find(ref.step(), ref.weights_digest());
  if (!held.has_value()) return absl::InternalError("the ring dropped the snapshot in use");
  if (held->exp_avg != nullptr && held->exp_avg_sq != nullptr) return *held;
  if (!ref.has_moments()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the snapshot at step ", ref.step(), " was taken without Adam's moments"));
  }
  LEAP_ASSIGN_OR_RETURN(held->exp_avg, Fetch(task, ref, v1::BUFFER_EXP_AVG, {}, control));
  LEAP_ASSIGN_OR_RETURN(held->exp_avg_sq, Fetch(task, ref, v1::BUFFER_EXP_AVG_SQ, {}, control));
  store_->Put(*held);
  store_->DropMomentsExcept(ref.step());
  return *held;
}

PredictorInputs Assembler::InputsFor(const Inputs& inputs, FlatRange range) const {
  PredictorInputs in{.range = range, .adam = inputs.adam, .scales = inputs.scales};
  for (const Floats& snapshot : inputs.snapshots) in.snapshots.push_back(Part(snapshot, range));
  in.exp_avg = Part(inputs.exp_avg, range);
  in.exp_avg_sq = Part(inputs.exp_avg_sq, range);
  for (const Floats& buffer : inputs.state) in.state.push_back(Part(buffer, range));
  return in;
}

absl::StatusOr<std::vector<float>> Assembler::Predict(const Predictor& predictor,
                                                      const Inputs& inputs, int64_t horizon_steps,
                                                      const TaskControl& control) const {
  std::vector<float> out(static_cast<size_t>(layout_.size));
  for (int64_t begin = 0; begin < layout_.size; begin += kChunkFloats) {
    LEAP_RETURN_IF_ERROR(control.Check());
    const FlatRange range{begin, std::min(begin + kChunkFloats, layout_.size)};
    predictor.Predict(InputsFor(inputs, range), horizon_steps, layout_,
                      std::span<float>(out).subspan(static_cast<size_t>(range.begin),
                                                    static_cast<size_t>(range.size())));
  }
  return out;
}

absl::StatusOr<Candidate> Assembler::Build(const v1::Task& task, const TaskControl& control) {
  LEAP_ASSIGN_OR_RETURN(const Predictor* predictor, PredictorAt(task.predictor()));
  const PredictorNeeds needs = predictor->needs();
  Inputs inputs{.adam = AdamAt(task.base_step(), task.adam_step())};
  for (int i = 0; i < needs.snapshots; ++i) {
    LEAP_ASSIGN_OR_RETURN(Floats weights, Weights(task, i, control));
    inputs.snapshots.push_back(std::move(weights));
  }
  if (needs.moments) {
    LEAP_ASSIGN_OR_RETURN(HeldSnapshot held, WithMoments(task, control));
    inputs.exp_avg = held.exp_avg;
    inputs.exp_avg_sq = held.exp_avg_sq;
  }
  LEAP_ASSIGN_OR_RETURN(inputs.state, State(task, control));
  if (needs.scales) {
    inputs.scales = predictor->Scales(InputsFor(inputs, {0, layout_.size}), layout_);
  }
  LEAP_ASSIGN_OR_RETURN(std::vector<float> weights,
                        Predict(*predictor, inputs, task.horizon_steps(), control));
  return Candidate{.weights = std::move(weights), .scales = std::move(inputs.scales)};
}

absl::StatusOr<std::vector<Floats>> Assembler::State(const v1::Task& task,
                                                     const TaskControl& control) {
  LEAP_ASSIGN_OR_RETURN(const Predictor* predictor, PredictorAt(task.predictor()));
  const int buffers = predictor->needs().state_buffers;
  if (buffers == 0) return std::vector<Floats>();
  LEAP_RETURN_IF_ERROR(Weights(task, 0, control).status());
  const v1::SnapshotRef& ref = task.snapshots(0);
  std::optional<HeldSnapshot> held = store_->Find(ref.step(), ref.weights_digest());
  if (!held.has_value()) return absl::InternalError("the ring dropped the snapshot in use");
  if (StateMatches(ref, held->state)) return held->state;

  std::optional<std::vector<Floats>> state = AdvancedState(task, *predictor, control);
  if (!state.has_value() || !StateMatches(ref, *state)) state = FirstState(task, *predictor);
  if (!state.has_value() || !StateMatches(ref, *state)) {
    state.emplace();
    for (int i = 0; i < buffers; ++i) {
      const std::optional<uint64_t> digest = i < ref.state_digests_size()
                                                 ? std::optional<uint64_t>(ref.state_digests(i))
                                                 : std::nullopt;
      LEAP_ASSIGN_OR_RETURN(Floats buffer, Fetch(task, ref, StateBuffer(i), digest, control));
      state->push_back(std::move(buffer));
    }
  }
  held->state = *state;
  store_->Put(*std::move(held));
  return *std::move(state);
}

bool Assembler::StateMatches(const v1::SnapshotRef& ref, const std::vector<Floats>& state) const {
  if (state.empty() || ref.state_digests_size() != static_cast<int>(state.size())) return false;
  for (size_t i = 0; i < state.size(); ++i) {
    const uint64_t digest = DigestOf(*state[i], FlatRange{0, layout_.size});
    if (digest != ref.state_digests(static_cast<int>(i))) return false;
  }
  return true;
}

// The snapshot before the base: the one the task names, else the one an interval earlier.
std::optional<HeldSnapshot> Assembler::Predecessor(const v1::Task& task) {
  if (task.snapshots_size() > 1) {
    return store_->Find(task.snapshots(1).step(), task.snapshots(1).weights_digest());
  }
  return store_->FindStep(job_, task.base_step() - spec_.leap.interval_steps);
}

std::optional<std::vector<Floats>> Assembler::AdvancedState(const v1::Task& task,
                                                            const Predictor& predictor,
                                                            const TaskControl& control) {
  const std::optional<HeldSnapshot> before = Predecessor(task);
  if (!before.has_value() || before->state.empty()) return std::nullopt;
  const std::optional<Floats> anchor = Anchor(task, *before, control);
  const std::optional<HeldSnapshot> base =
      store_->Find(task.snapshots(0).step(), task.snapshots(0).weights_digest());
  if (!anchor.has_value() || !base.has_value()) return std::nullopt;
  std::vector<std::vector<float>> state;
  for (const Floats& buffer : before->state) state.push_back(*buffer);
  predictor.AdvanceState(**anchor, *base->weights, {state.begin(), state.end()});
  std::vector<Floats> shared;
  for (std::vector<float>& buffer : state) shared.push_back(Share(std::move(buffer)));
  return shared;
}

// Where training went on from at the predecessor: θ̂ of the leap applied since, else its weights.
std::optional<Floats> Assembler::Anchor(const v1::Task& task, const HeldSnapshot& before,
                                        const TaskControl& control) {
  const v1::AppliedLeap& applied = task.applied();
  if (!task.has_applied() || applied.leap() == 0) return before.weights;
  if (applied.base_step() != before.step) return std::nullopt;
  const absl::StatusOr<const Predictor*> predictor = PredictorAt(applied.predictor());
  if (!predictor.ok()) return std::nullopt;
  const PredictorNeeds needs = (*predictor)->needs();
  if (needs.moments) return std::nullopt;  // those of the predecessor are not kept
  if (needs.state_buffers > static_cast<int>(before.state.size())) return std::nullopt;
  Inputs inputs{.snapshots = {before.weights},
                .scales = {applied.scales().begin(), applied.scales().end()}};
  if (!CheckScales(needs, inputs.scales, layout_.tensors.size()).ok()) return std::nullopt;
  for (int i = 1; i < needs.snapshots; ++i) {
    if (task.snapshots_size() <= i + 1) return std::nullopt;
    const v1::SnapshotRef& ref = task.snapshots(i + 1);
    const std::optional<HeldSnapshot> older = store_->Find(ref.step(), ref.weights_digest());
    if (!older.has_value()) return std::nullopt;
    inputs.snapshots.push_back(older->weights);
  }
  if (needs.state_buffers > 0) inputs.state = before.state;
  absl::StatusOr<std::vector<float>> predicted =
      Predict(**predictor, inputs, applied.horizon_steps(), control);
  if (!predicted.ok()) return std::nullopt;
  return Share(*std::move(predicted));
}

std::optional<std::vector<Floats>> Assembler::FirstState(const v1::Task& task,
                                                         const Predictor& predictor) {
  if (task.base_step() > spec_.leap.warmup_steps + spec_.leap.interval_steps) return std::nullopt;
  const std::optional<HeldSnapshot> base =
      store_->Find(task.snapshots(0).step(), task.snapshots(0).weights_digest());
  if (!base.has_value()) return std::nullopt;
  std::vector<std::vector<float>> state(static_cast<size_t>(predictor.needs().state_buffers),
                                        std::vector<float>(static_cast<size_t>(layout_.size)));
  predictor.InitState(*base->weights, {state.begin(), state.end()});
  std::vector<Floats> shared;
  for (std::vector<float>& buffer : state) shared.push_back(Share(std::move(buffer)));
  return shared;
}

}  // namespace leap
