// A gRPC server as every binary of Leap has one: bound port reported, health and reflection on,
// limits set, TLS or loopback only.
//
// Start builds and starts it; the object owns the server and its threads (gRPC's). The services
// must outlive it. Thread-safe.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/server.h"
#include "service/tls.h"

namespace leap {

class Metrics;  // service/metrics.h

struct RpcServerOptions {
  std::string listen = "127.0.0.1:0";  // host:port; port 0 takes a free one, see RpcServer::port()
  std::string
      port_file;  // if given: the bound port and a newline, written atomically once it is bound
  TlsFiles tls;   // empty: without TLS, on loopback only
  bool optional_client_certificate =
      false;  // with tls.ca: tokens are an alternative (service/auth.h)
  bool insecure_anywhere =
      false;  // --insecure-listen-anywhere: without TLS beyond loopback, asked for by hand
  int max_receive_bytes = 4 << 20;  // per message
  int max_streams_per_connection = 256;
  int max_memory_bytes = 256 << 20;  // of gRPC's buffers; beyond it, new work waits
  Metrics* metrics = nullptr;  // if given: counts every call (leap_requests_total); must outlive it
  absl::Duration keepalive =
      absl::Seconds(10);  // ping an idle peer so often; gone after as long without an answer
};

class RpcServer {
 public:
  // FailedPrecondition, PORT_TAKEN: somebody listens there already. InvalidArgument: an address or
  // a TLS file that cannot be used. FailedPrecondition, TLS_INVALID: no TLS, not loopback, not
  // asked for.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(
      const RpcServerOptions& options, const std::vector<grpc::Service*>& services);

  // Shuts down at once if Shutdown was not called.
  ~RpcServer();
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;

  int port() const { return port_; }
  // "host:port" as bound. With a host of all interfaces use AdvertisedAddress.
  const std::string& address() const { return address_; }
  // What others should dial: `host` or host:port as given by --advertise, else the bound address,
  // with this machine's name in place of 0.0.0.0 or [::].
  std::string AdvertisedAddress(const std::string& advertise) const;

  // What the health service answers; serving after Start.
  void SetServing(bool serving);

  // Refuses new calls, waits for the running ones until `grace` has passed, then cancels them and
  // returns. Idempotent.
  void Shutdown(absl::Duration grace);

 private:
  RpcServer(std::unique_ptr<grpc::Server> server, std::string address, int port);

  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  int port_;
  std::atomic<bool> shut_down_{false};
};

}  // namespace leap
