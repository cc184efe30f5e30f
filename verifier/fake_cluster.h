// Test-only: a main run made of plain numbers, and a scorer without a model.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/digest.h"
#include "core/layout.h"
#include "leap/v1/agent.pb.h"
#include "verifier/fetch.h"
#include "verifier/scorer.h"

namespace leap {

// Two tensors, a whole block and a part of one.
inline WeightLayout SmallLayout() {
  const int64_t first = kBlockFloats, second = 100;
  return {.tensors = {{.name = "w", .shape = {first}, .offset = 0, .size = first, .decays = true},
                      {.name = "b", .shape = {second}, .offset = first, .size = second}},
          .size = first + second};
}

// What the ranks' rings hold; answers fetches and counts them.
class FakeCluster {
 public:
  // Buffer of `step`, all floats equal to `value` times (1 + i mod 7).
  const std::vector<float>& Set(int64_t step, v1::Buffer buffer, float value) {
    std::vector<float> values(static_cast<size_t>(SmallLayout().size));
    for (size_t i = 0; i < values.size(); ++i) values[i] = value * static_cast<float>(1 + i % 7);
    return Set(step, buffer, std::move(values));
  }
  const std::vector<float>& Set(int64_t step, v1::Buffer buffer, std::vector<float> values) {
    return buffers_[{step, buffer}] = std::move(values);
  }
  const std::vector<float>& Get(int64_t step, v1::Buffer buffer) const {
    return buffers_.at({step, buffer});
  }
  uint64_t Digest(int64_t step, v1::Buffer buffer) const {
    return DigestOf(Get(step, buffer), {0, SmallLayout().size});
  }

  v1::SnapshotRef Ref(int64_t step) const {
    v1::SnapshotRef ref;
    ref.set_step(step);
    ref.set_weights_digest(Digest(step, v1::BUFFER_WEIGHTS));
    ref.set_has_moments(buffers_.contains({step, v1::BUFFER_EXP_AVG}));
    for (const v1::Buffer buffer : {v1::BUFFER_STATE_0, v1::BUFFER_STATE_1}) {
      if (buffers_.contains({step, buffer})) ref.add_state_digests(Digest(step, buffer));
    }
    v1::ShardSource* source = ref.add_sources();
    source->set_data_address("rank0");
    source->set_end(SmallLayout().size);
    return ref;
  }

  v1::Task Task(v1::Task::Kind kind, const std::vector<int64_t>& steps) const {
    v1::Task task;
    task.set_job("job");
    task.set_epoch(1);
    task.set_task(1);
    task.set_kind(kind);
    task.set_base_step(steps.at(0));
    for (const int64_t step : steps) *task.add_snapshots() = Ref(step);
    return task;
  }

  BufferFetcher Fetcher() {
    return [this](const BufferRequest& request, std::span<const v1::ShardSource>,
                  std::span<float> out) -> absl::Status {
      ++fetches_[{request.step, request.buffer}];
      const auto found = buffers_.find({request.step, request.buffer});
      if (found == buffers_.end()) return absl::NotFoundError("not in the ring");
      std::copy(found->second.begin(), found->second.end(), out.begin());
      return absl::OkStatus();
    };
  }
  int Fetches(int64_t step, v1::Buffer buffer) { return fetches_[{step, buffer}]; }
  void Forget(int64_t step, v1::Buffer buffer) { buffers_.erase({step, buffer}); }

 private:
  std::map<std::pair<int64_t, v1::Buffer>, std::vector<float>> buffers_;
  std::map<std::pair<int64_t, v1::Buffer>, int> fetches_;
};

// "Losses" are the first weight, and that plus one; training adds one to every weight.
class FakeScorer final : public Scorer {
 public:
  const WeightLayout& layout() const override { return layout_; }
  void Load(std::span<const float> weights) override {
    weights_.assign(weights.begin(), weights.end());
  }
  void LoadMoments(std::span<const float>, std::span<const float>) override {}
  absl::StatusOr<std::vector<float>> Fingerprint(const TaskControl& control) override {
    ++fingerprints;
    const absl::Status status = control.Check();
    if (!status.ok()) return status;
    return std::vector<float>{weights_[0], 1.0f};
  }
  absl::StatusOr<std::vector<float>> GateLosses(const TaskControl& control) override {
    const absl::Status status = control.Check();
    if (!status.ok()) return status;
    return std::vector<float>{weights_[0], weights_[0] + 1};
  }
  absl::StatusOr<double> ReportLoss(const TaskControl&) override { return weights_[0] + 10; }
  absl::Status TrainOn(const AuditStart& start, int64_t steps, const TaskControl&) override {
    audit_start = start;
    for (float& weight : weights_) weight += static_cast<float>(steps);
    return absl::OkStatus();
  }

  int fingerprints = 0;
  AuditStart audit_start;

 private:
  const WeightLayout layout_ = SmallLayout();
  std::vector<float> weights_;
};

}  // namespace leap
