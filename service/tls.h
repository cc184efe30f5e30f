// Certificates of servers and channels.
//
// Files are PEM. They are read again every `reload_seconds`, so a rotated certificate is used for
// new connections without a restart; replace certificate and key together (rename a folder or a
// symlink): while the two do not match, new connections fail. Private keys never leave these
// functions and are never logged.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"

namespace leap {

// One set of files for the program's server and for the channels it opens.
struct TlsFiles {
  std::string
      certificate;  // own chain; with `key`: needed by a server, and by a client for mutual TLS
  std::string key;
  std::string ca;  // whom to believe: clients (server side: they must show a certificate), servers
                   // (client side)
  unsigned reload_seconds = 10;

  bool empty() const { return certificate.empty() && key.empty() && ca.empty(); }
};

// Half a pair, or a file that cannot be read or holds no PEM: InvalidArgument naming the file.
// Empty is valid.
absl::Status CheckTlsFiles(const TlsFiles& files);

// `optional_client_certificate`: a client without a certificate is let in (it must show a token
// then); one that shows a certificate is always checked.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsFiles& files, bool optional_client_certificate);
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const TlsFiles& files);

// What a failed connect may mean for TLS, from gRPC's message and the caller's own files: what to
// look at and which flag mends it. Empty: it is no matter of TLS.
absl::string_view TlsHint(absl::string_view grpc_message, const TlsFiles& own);

}  // namespace leap
