#include "service/tls.h"

#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/status_macros.h"
#include "grpcpp/security/tls_certificate_provider.h"
#include "grpcpp/security/tls_credentials_options.h"

namespace leap {
namespace {

using grpc::experimental::FileWatcherCertificateProvider;

absl::Status TlsError(absl::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kTlsInvalid, message);
}

template <typename T, void (*Free)(T*)>
struct Freer {
  void operator()(T* object) const { Free(object); }
};
using Bio = std::unique_ptr<BIO, Freer<BIO, BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Freer<X509, X509_free>>;
using PrivateKey = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY, EVP_PKEY_free>>;

absl::StatusOr<Certificate> ReadCertificate(const std::string& path) {
  Bio file(BIO_new_file(path.c_str(), "r"));
  if (!file) return TlsError(absl::StrCat("cannot read the certificate file '", path, "'"));
  Certificate certificate(PEM_read_bio_X509(file.get(), nullptr, nullptr, nullptr));
  if (!certificate) {
    return TlsError(absl::StrCat("'", path, "' holds no certificate in PEM form"));
  }
  return certificate;
}

absl::Status CheckPair(const TlsFiles& files) {
  LEAP_ASSIGN_OR_RETURN(Certificate certificate, ReadCertificate(files.certificate));
  Bio file(BIO_new_file(files.key.c_str(), "r"));
  if (!file) return TlsError(absl::StrCat("cannot read the key file '", files.key, "'"));
  char no_password[] = "";
  PrivateKey key(PEM_read_bio_PrivateKey(file.get(), nullptr, nullptr, no_password));
  if (!key) {
    return TlsError(
        absl::StrCat("'", files.key, "' holds no private key in PEM form without a password"));
  }
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return TlsError(absl::StrCat("the key '", files.key, "' does not belong to the certificate '",
                                 files.certificate, "'"));
  }
  return absl::OkStatus();
}

std::shared_ptr<FileWatcherCertificateProvider> Watch(const TlsFiles& files) {
  return std::make_shared<FileWatcherCertificateProvider>(files.key, files.certificate, files.ca,
                                                          std::max(1u, files.reload_seconds));
}

}  // namespace

absl::Status CheckTlsFiles(const TlsFiles& files) {
  if (files.certificate.empty() != files.key.empty()) {
    return TlsError(
        "a certificate and its key come together: give both --tls-cert and --tls-key, or neither");
  }
  if (!files.certificate.empty()) LEAP_RETURN_IF_ERROR(CheckPair(files));
  if (!files.ca.empty()) LEAP_RETURN_IF_ERROR(ReadCertificate(files.ca).status());
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsFiles& files, bool optional_client_certificate) {
  if (files.empty()) return grpc::InsecureServerCredentials();
  LEAP_RETURN_IF_ERROR(CheckTlsFiles(files));
  if (files.certificate.empty()) {
    return TlsError("a server with --tls-ca needs --tls-cert and --tls-key too");
  }
  grpc::experimental::TlsServerCredentialsOptions options(Watch(files));
  options.watch_identity_key_cert_pairs();
  if (!files.ca.empty()) {
    options.watch_root_certs();
    options.set_cert_request_type(optional_client_certificate
                                      ? GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY
                                      : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return grpc::experimental::TlsServerCredentials(options);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const TlsFiles& files) {
  if (files.empty()) return grpc::InsecureChannelCredentials();
  LEAP_RETURN_IF_ERROR(CheckTlsFiles(files));
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(Watch(files));
  if (!files.ca.empty()) options.watch_root_certs();
  if (!files.certificate.empty()) options.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsCredentials(options);
}

absl::string_view TlsHint(absl::string_view grpc_message, const TlsFiles& own) {
  const auto says = [&](absl::string_view words) { return absl::StrContains(grpc_message, words); };
  if (says("certificate verify failed") || says("Hostname Verification")) {
    return "the peer's certificate is not signed by --tls-ca, has expired, or is for another host";
  }
  const bool hung_up = says("failed to connect") && (says("closed") || says("reset"));
  if (!hung_up && !says("andshake") && !says("SSL")) return "";
  if (own.empty()) {
    return "the peer hung up at once; if it speaks TLS, give --tls-ca, and --tls-cert with "
           "--tls-key";
  }
  if (own.certificate.empty()) {
    return "the peer hung up in the TLS handshake; if it asks for a certificate, give --tls-cert "
           "and --tls-key";
  }
  return "the peer hung up in the TLS handshake; it does not believe --tls-cert (another "
         "authority, "
         "or expired), or speaks no TLS";
}

}  // namespace leap
