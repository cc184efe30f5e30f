#include "service/test_certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_join.h"

namespace leap {
namespace {

void Require(bool ok) {
  if (!ok) std::abort();
}

void AddName(X509_NAME* name, const char* field, const std::string& value) {
  Require(X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8,
                                     reinterpret_cast<const unsigned char*>(value.c_str()), -1, -1,
                                     0) == 1);
}

void AddExtension(X509* certificate, X509* issuer, int id, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str());
  Require(extension != nullptr);
  Require(X509_add_ext(certificate, extension, -1) == 1);
  X509_EXTENSION_free(extension);
}

X509* NewCertificate(EVP_PKEY* key, long serial) {
  X509* certificate = X509_new();
  Require(X509_set_version(certificate, 2) == 1);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 24 * 3600);
  Require(X509_set_pubkey(certificate, key) == 1);
  return certificate;
}

void Write(const std::string& path, X509* certificate, EVP_PKEY* key) {
  FILE* file = std::fopen(path.c_str(), "w");
  Require(file != nullptr);
  Require((certificate != nullptr
               ? PEM_write_X509(file, certificate)
               : PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr)) == 1);
  std::fclose(file);
}

}  // namespace

struct TestAuthority::Keys {
  EVP_PKEY* key = nullptr;
  X509* certificate = nullptr;
};

TestAuthority::TestAuthority(std::string folder)
    : folder_(std::move(folder)), keys_(std::make_unique<Keys>()) {
  keys_->key = EVP_EC_gen("P-256");
  keys_->certificate = NewCertificate(keys_->key, serial_++);
  X509_NAME* name = X509_get_subject_name(keys_->certificate);
  AddName(name, "CN", "Leap test authority");
  X509_set_issuer_name(keys_->certificate, name);
  AddExtension(keys_->certificate, keys_->certificate, NID_basic_constraints, "critical,CA:TRUE");
  Require(X509_sign(keys_->certificate, keys_->key, EVP_sha256()) != 0);
  Write(ca_path(), keys_->certificate, nullptr);
}

TestAuthority::~TestAuthority() {
  X509_free(keys_->certificate);
  EVP_PKEY_free(keys_->key);
}

TlsFiles TestAuthority::Issue(const std::string& name, const std::string& common_name,
                              const std::vector<std::string>& sans, const std::string& unit) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = NewCertificate(key, serial_++);
  X509_NAME* subject = X509_get_subject_name(certificate);
  if (!unit.empty()) AddName(subject, "OU", unit);
  AddName(subject, "CN", common_name);
  X509_set_issuer_name(certificate, X509_get_subject_name(keys_->certificate));
  if (!sans.empty()) {
    AddExtension(certificate, keys_->certificate, NID_subject_alt_name, absl::StrJoin(sans, ","));
  }
  Require(X509_sign(certificate, keys_->key, EVP_sha256()) != 0);
  TlsFiles files{.certificate = folder_ + "/" + name + ".pem",
                 .key = folder_ + "/" + name + ".key",
                 .ca = ca_path(),
                 .reload_seconds = 1};
  Write(files.certificate, certificate, nullptr);
  Write(files.key, nullptr, key);
  X509_free(certificate);
  EVP_PKEY_free(key);
  return files;
}

}  // namespace leap
