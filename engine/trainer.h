// One rank's training of one job: model, corpus, the epoch's group, the ring; one optimizer step at
// a time, and what happens at its boundary (a leap, a snapshot, a checkpoint). LibTorch stays
// behind this header.
//
// Life: Create once a job; then per epoch Join, and Step until it says done or fails. After an
// error of Step or Join the weights, moments and position are those of a whole step (the one before
// or after the failed collective), so the next epoch goes on from them, and the predictor's state
// with it (docs/decisions/2026-11-25-predictor-state-outlives-its-ranks.md). Threads: Create, Join,
// Step, Finish: the training thread. Prepare, Decide, SetPaused, RequestCheckpoint and the readers:
// any thread. Callbacks: the ring's thread, or the training thread where noted.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/job_spec.h"
#include "core/sampling.h"
#include "engine/checkpoint.h"
#include "engine/group.h"
#include "engine/interrupt.h"
#include "engine/ring.h"

namespace leap {

struct EpochOptions {
  GroupOptions group;
  std::string job;
  uint64_t epoch = 0;
  bool live = false;             // this rank holds the job's state from an earlier epoch
  bool from_checkpoint = false;  // nobody does: newest complete checkpoint, else fresh
  std::string checkpoint_path;   // newest one the ledger knows; empty: look in the folder
  // Begin with the state before this leap, if every rank kept its shard of it and the leap is part
  // of the newest state; with from_checkpoint, instead of the checkpoint. 0: none.
  uint64_t undo_leap = 0;
};

struct JoinReport {
  TrainPosition position;
  uint64_t weights_digest = 0;
  std::string recovered_from;   // "", "peer rank 1", "checkpoint PATH", "the state before leap 3"
  std::string undo_problem;     // why undo_leap is still part of the state
  std::string predictor_state;  // "" (there is none), "goes on from step 40", "starts over: WHY"
};

struct LeapReport {
  uint64_t leap = 0;
  bool applied = false;
  int64_t boundary_step = 0;
  int64_t step = 0;
  double pause_seconds = 0;
  uint64_t shard_digest = 0;
  uint64_t weights_digest = 0;
};

struct StepReport {
  double loss = 0;  // mean over the global batch
  double seconds = 0;
  bool done = false;  // the last step has been trained
  bool paused = false;
};

struct FinalReport {
  int64_t step = 0;
  double train_loss = 0, gate_loss = 0, report_loss = 0;
  uint64_t weights_digest = 0;
};

struct TrainerCallbacks {
  std::function<void(const RingSnapshot&, FlatRange shard)> on_snapshot;
  std::function<void(const PrepareRequest&, const absl::StatusOr<uint64_t>& digest)> on_vote;
  std::function<void(const LeapReport&)>
      on_leap;  // ring's thread (applied) or training thread (expired)
  std::function<void(int64_t step, const absl::StatusOr<std::string>& path, double seconds)>
      on_checkpoint;  // ring's thread
};

class Trainer {
 public:
  // Errors of the corpus, the model and the paths, as they are.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(const JobSpec& spec,
                                                         const std::string& state_dir,
                                                         TrainerCallbacks callbacks);
  virtual ~Trainer() = default;

  virtual absl::StatusOr<JoinReport> Join(const EpochOptions& options,
                                          std::shared_ptr<Interrupt> interrupt) = 0;
  // Aborted: interrupted. Unavailable, COLLECTIVE_FAILED: the group is broken. OutOfRange: the loss
  // or the gradient is not finite, at all ranks alike. Anything else: this rank cannot go on.
  virtual absl::StatusOr<StepReport> Step() = 0;
  // After done, rank 0: writes the last checkpoint, again and again if it cannot, scores gate and
  // report set. Other ranks: their digest. Aborted: interrupted meanwhile.
  virtual absl::StatusOr<FinalReport> Finish() = 0;
  // Ends the epoch: drops the group, what is staged, and the ring.
  virtual void Leave() = 0;

  virtual void Prepare(PrepareRequest request) = 0;
  // False: not staged here; the caller answers "not applied" unless last_leap says otherwise.
  virtual bool Decide(uint64_t leap, bool commit) = 0;
  virtual void SetPaused(bool paused) = 0;
  virtual void RequestCheckpoint() = 0;

  virtual TrainPosition position() const = 0;
  virtual uint64_t held_leap() const = 0;
  virtual std::shared_ptr<Ring> ring()
      const = 0;  // shared: gRPC's threads read it; null between epochs
  virtual const DataRegions& regions() const = 0;
  virtual int64_t corpus_tokens() const = 0;
  virtual std::string corpus_digest() const = 0;
  virtual int64_t parameters() const = 0;
};

}  // namespace leap
