#include "service/metrics.h"

#include <cmath>
#include <exception>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error_reason.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "prometheus/counter.h"
#include "prometheus/exposer.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"
#include "service/address.h"

namespace leap {
namespace {

constexpr size_t kMetrics = static_cast<size_t>(Metric::kMetricCount);

// One name with its children. Exactly one of the families is set, by type.
struct Family {
  const MetricDef* def = nullptr;
  prometheus::Family<prometheus::Counter>* counters = nullptr;
  prometheus::Family<prometheus::Gauge>* gauges = nullptr;
  prometheus::Family<prometheus::Histogram>* histograms = nullptr;
  struct Child {
    std::vector<std::string> values;
    prometheus::Counter* counter = nullptr;
    prometheus::Gauge* gauge = nullptr;
    prometheus::Histogram* histogram = nullptr;
  };
  std::map<std::string, Child> children;  // by the values, joined
};

std::string Key(const std::vector<std::string>& values) { return absl::StrJoin(values, "\x1f"); }

class PrometheusMetrics final : public Metrics {
 public:
  explicit PrometheusMetrics(const MetricsOptions& options)
      : registry_(std::make_shared<prometheus::Registry>()) {
    MutexLock lock(&mutex_);
    families_.resize(kMetrics);
    for (const MetricDef& def : MetricTable()) {
      if ((def.rooms & options.room) == 0) continue;
      Family& family = families_[static_cast<size_t>(def.metric)];
      Build(def, &family);
      if (def.at_zero) ExportAtZero(&family, {});
    }
    if (Family::Child* info = FindOrAdd(Metric::kBuildInfo, {options.version})) info->gauge->Set(1);
  }

  // Serves them; the exposer is the only part that throws.
  absl::Status Serve(const MetricsOptions& options) {
    LEAP_ASSIGN_OR_RETURN(HostPort where, ParseHostPort(options.listen));
    if (!options.insecure_anywhere && !IsLoopback(options.listen)) {
      return MakeError(absl::StatusCode::kFailedPrecondition, ErrorReason::kTlsInvalid,
                       absl::StrCat("metrics at '", options.listen,
                                    "' can be read beyond this machine, without TLS: listen on "
                                    "127.0.0.1, or give --insecure-plaintext-anywhere if the "
                                    "network is closed to others"));
    }
    LEAP_RETURN_IF_ERROR(WhyNoListen(where));
    if (where.host.empty()) where.host = "0.0.0.0";
    try {
      exposer_ = std::make_unique<prometheus::Exposer>(JoinHostPort(where), 2);
      exposer_->RegisterCollectable(registry_);
      port_ = exposer_->GetListeningPorts().at(0);
    } catch (const std::exception& error) {
      return MakeError(
          absl::StatusCode::kInvalidArgument, ErrorReason::kAddressInvalid,
          absl::StrCat("cannot serve metrics at '", options.listen, "': ", error.what()));
    }
    if (options.port_file.empty()) return absl::OkStatus();
    return WriteFileAtomically(options.port_file, absl::StrCat(port_, "\n"));
  }

  void Count(Metric metric, Labels labels, double n) override {
    MutexLock lock(&mutex_);
    Family::Child* child = Find(metric, labels, MetricType::kCounter);
    if (child != nullptr && n >= 0) child->counter->Increment(n);
  }

  void Set(Metric metric, Labels labels, double value) override {
    MutexLock lock(&mutex_);
    if (Family::Child* child = Find(metric, labels, MetricType::kGauge)) child->gauge->Set(value);
  }

  void Observe(Metric metric, Labels labels, double value) override {
    MutexLock lock(&mutex_);
    Family::Child* child = Find(metric, labels, MetricType::kHistogram);
    if (child != nullptr && std::isfinite(value)) child->histogram->Observe(value);
  }

  void Forget(absl::string_view label, absl::string_view value) override {
    MutexLock lock(&mutex_);
    for (Family& family : families_) {
      if (family.def == nullptr) continue;
      for (size_t i = 0; i < family.def->labels.size(); ++i) {
        if (family.def->labels[i].open && family.def->labels[i].name == label)
          Remove(&family, i, value);
      }
    }
  }

  int port() const override { return port_; }

  std::string Text() const override {
    return prometheus::TextSerializer().Serialize(registry_->Collect());
  }

 private:
  void Build(const MetricDef& def, Family* family) {
    family->def = &def;
    if (def.type == MetricType::kCounter) {
      family->counters =
          &prometheus::BuildCounter().Name(def.name).Help(def.help).Register(*registry_);
    } else if (def.type == MetricType::kGauge) {
      family->gauges = &prometheus::BuildGauge().Name(def.name).Help(def.help).Register(*registry_);
    } else {
      family->histograms =
          &prometheus::BuildHistogram().Name(def.name).Help(def.help).Register(*registry_);
    }
  }

  // Adds every combination of the closed labels; nothing if one is open.
  void ExportAtZero(Family* family, std::vector<std::string> values)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::vector<MetricLabel>& labels = family->def->labels;
    if (values.size() == labels.size()) {
      Add(family, std::move(values));
      return;
    }
    for (const std::string& value : labels[values.size()].values) {
      if (value == "other") continue;
      std::vector<std::string> longer = values;
      longer.push_back(value);
      ExportAtZero(family, std::move(longer));
    }
  }

  Family::Child* Add(Family* family, std::vector<std::string> values)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    prometheus::Labels labels;
    for (size_t i = 0; i < values.size(); ++i) labels[family->def->labels[i].name] = values[i];
    Family::Child child{.values = values};
    if (family->counters != nullptr) child.counter = &family->counters->Add(labels);
    if (family->gauges != nullptr) child.gauge = &family->gauges->Add(labels);
    if (family->histograms != nullptr) {
      child.histogram = &family->histograms->Add(
          labels, prometheus::Histogram::BucketBoundaries(family->def->buckets));
    }
    return &(family->children[Key(values)] = std::move(child));
  }

  Family::Child* Find(Metric metric, Labels labels, MetricType type)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const Family& family = families_[static_cast<size_t>(metric)];
    Family::Child* child = nullptr;
    if (family.def != nullptr && family.def->type == type) {
      child = FindOrAdd(metric, std::vector<std::string>(labels.begin(), labels.end()));
    }
    if (child == nullptr) LabelErrors()->Increment();
    return child;
  }

  // Null: labels that the table does not allow.
  Family::Child* FindOrAdd(Metric metric, std::vector<std::string> values)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Family& family = families_[static_cast<size_t>(metric)];
    if (family.def == nullptr || values.size() != family.def->labels.size()) return nullptr;
    const auto found = family.children.find(Key(values));
    if (found != family.children.end()) return &found->second;
    for (size_t i = 0; i < values.size(); ++i) {
      if (!Allow(family, i, &values[i])) return nullptr;
    }
    const auto mapped = family.children.find(Key(values));
    return mapped != family.children.end() ? &mapped->second : Add(&family, std::move(values));
  }

  // Whether `value` may stand for label i; a word outside the list becomes "other" if the list has
  // it.
  static bool Allow(const Family& family, size_t i, std::string* value) {
    const MetricLabel& label = family.def->labels[i];
    if (label.open) {
      std::set<std::string> seen;
      for (const auto& [key, child] : family.children) seen.insert(child.values[i]);
      return seen.count(*value) > 0 || seen.size() < kMaxJobLabels;
    }
    bool other = false;
    for (const std::string& word : label.values) {
      if (word == *value) return true;
      other = other || word == "other";
    }
    if (other) *value = "other";
    return other;
  }

  static void Remove(Family* family, size_t label, absl::string_view value) {
    for (auto it = family->children.begin(); it != family->children.end();) {
      if (it->second.values[label] != value) {
        ++it;
        continue;
      }
      if (family->counters != nullptr) family->counters->Remove(it->second.counter);
      if (family->gauges != nullptr) family->gauges->Remove(it->second.gauge);
      if (family->histograms != nullptr) family->histograms->Remove(it->second.histogram);
      it = family->children.erase(it);
    }
  }

  prometheus::Counter* LabelErrors() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return families_[static_cast<size_t>(Metric::kLabelErrorsTotal)]
        .children.begin()
        ->second.counter;
  }

  const std::shared_ptr<prometheus::Registry>
      registry_;  // shared with the exposer, which takes nothing else
  std::unique_ptr<prometheus::Exposer> exposer_;
  int port_ = 0;

  mutable Mutex mutex_;
  std::vector<Family> families_ ABSL_GUARDED_BY(mutex_);  // indexed by Metric
};

}  // namespace

absl::StatusOr<std::unique_ptr<Metrics>> Metrics::Start(const MetricsOptions& options) {
  auto metrics = std::make_unique<PrometheusMetrics>(options);
  if (!options.listen.empty()) LEAP_RETURN_IF_ERROR(metrics->Serve(options));
  return std::unique_ptr<Metrics>(std::move(metrics));
}

}  // namespace leap
