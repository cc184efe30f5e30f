#include "service/request_counter.h"

#include <string>

#include "absl/status/status.h"
#include "service/rpc_status.h"

namespace leap {
namespace {

using grpc::experimental::InterceptionHookPoints;

class Counter final : public grpc::experimental::Interceptor {
 public:
  Counter(Metrics* metrics, const char* method)
      : metrics_(metrics), method_(method + (method[0] == '/')) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      const absl::Status status = FromGrpcStatus(methods->GetSendStatus());
      metrics_->Count(Metric::kRequestsTotal, {method_, absl::StatusCodeToString(status.code())});
    }
    methods->Proceed();
  }

 private:
  Metrics* const metrics_;
  const std::string method_;
};

class Factory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(Metrics* metrics) : metrics_(metrics) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    return new Counter(metrics_, info->method());  // gRPC's; it deletes it
  }

 private:
  Metrics* const metrics_;
};

}  // namespace

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeRequestCounter(
    Metrics* metrics) {
  return std::make_unique<Factory>(metrics);
}

}  // namespace leap
