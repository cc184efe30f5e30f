// The metrics of one binary, served for Prometheus on a port of their own (GET /metrics).
//
//   ASSIGN(auto metrics, Metrics::Start({.room = kInCoordinator, .listen = "127.0.0.1:9464"}));
//   metrics->Count(Metric::kCandidatesTotal, {"stable", "linear", HorizonLabel(50), "accepted"});
//   metrics->Set(Metric::kJobSimilarity, {job}, 0.9995);
//   metrics->Observe(Metric::kVerificationSeconds, {}, 1.8);
//
// Values are in the order of the labels in metric_names.h. A wrong number of values, an unknown
// one, or a metric of another binary is counted in leap_label_errors_total and dropped: metrics
// never fail a caller. Thread-safe.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "service/metric_names.h"

namespace leap {

struct MetricsOptions {
  MetricRoom room = kInCoordinator;
  std::string listen;     // host:port, port 0 takes a free one; empty: keep them, serve nothing
  std::string port_file;  // as RpcServerOptions::port_file
  bool insecure_anywhere = false;  // there is no TLS here: beyond loopback, asked for by hand
  std::string version;             // of leap_build_info
};

class Metrics {
 public:
  using Labels = std::initializer_list<absl::string_view>;

  // FailedPrecondition, PORT_TAKEN; InvalidArgument, ADDRESS_INVALID. FailedPrecondition,
  // TLS_INVALID: not loopback, not asked for.
  static absl::StatusOr<std::unique_ptr<Metrics>> Start(const MetricsOptions& options);
  virtual ~Metrics() = default;

  virtual void Count(Metric metric, Labels labels = {}, double n = 1) = 0;  // counters; n >= 0
  virtual void Set(Metric metric, Labels labels, double value) = 0;         // gauges
  virtual void Observe(Metric metric, Labels labels, double value) = 0;     // histograms

  // Drops every series of this value of an open label (a job that ended).
  virtual void Forget(absl::string_view label, absl::string_view value) = 0;

  virtual int port() const = 0;          // 0: serves nothing
  virtual std::string Text() const = 0;  // what GET /metrics answers
};

}  // namespace leap
