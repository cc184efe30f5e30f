#include "service/auth.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <sys/stat.h>

#include <array>
#include <fstream>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/error_reason.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "grpc/grpc_security_constants.h"
#include "grpcpp/security/auth_context.h"

namespace leap {
namespace {

constexpr uint8_t kViewer = static_cast<uint8_t>(AccessRole::kViewer);
constexpr uint8_t kSubmitter = static_cast<uint8_t>(AccessRole::kSubmitter);
constexpr uint8_t kOperator = static_cast<uint8_t>(AccessRole::kOperator);
constexpr uint8_t kWorker = static_cast<uint8_t>(AccessRole::kWorker);
constexpr uint8_t kEverything = kViewer | kSubmitter | kOperator | kWorker;
constexpr uint8_t kReaders = kViewer | kSubmitter | kOperator;
constexpr uint8_t kWriters = kSubmitter | kOperator;

// In order of what they may do; the first that a method lists is the least that will do.
constexpr std::array kRoles = {AccessRole::kViewer, AccessRole::kSubmitter, AccessRole::kWorker,
                               AccessRole::kOperator};

constexpr std::array kMethods = {
    MethodAccess{"/leap.v1.JobService/CreateJob", kWriters},
    MethodAccess{"/leap.v1.JobService/GetJob", kReaders},
    MethodAccess{"/leap.v1.JobService/ListJobs", kReaders},
    MethodAccess{"/leap.v1.JobService/WatchJob", kReaders},
    MethodAccess{"/leap.v1.JobService/CancelJob", kWriters},
    MethodAccess{"/leap.v1.JobService/PauseJob", kWriters},
    MethodAccess{"/leap.v1.JobService/ResumeJob", kWriters},
    MethodAccess{"/leap.v1.JobService/ListSnapshots", kReaders},
    MethodAccess{"/leap.v1.JobService/ListCandidates", kReaders},
    MethodAccess{"/leap.v1.JobService/ListLeaps", kReaders},
    MethodAccess{"/leap.v1.JobService/ListEvents", kReaders},
    MethodAccess{"/leap.v1.JobService/ListAgents", kReaders},
    MethodAccess{"/leap.v1.AgentService/Session", kWorker},
    MethodAccess{"/leap.v1.SnapshotService/Fetch", kWorker | kOperator},
    MethodAccess{"/leap.v1.SnapshotService/ListHoldings", kWorker | kOperator},
};

std::optional<AccessRole> ParseRole(absl::string_view text) {
  for (const AccessRole role : kRoles) {
    if (text == AccessRoleName(role)) return role;
  }
  return std::nullopt;
}

absl::string_view View(grpc::string_ref text) { return {text.data(), text.size()}; }

// ---- tokens ----

using Digest = std::array<unsigned char, SHA256_DIGEST_LENGTH>;

Digest DigestOfToken(absl::string_view token) {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), digest.data());
  return digest;
}

struct TokenEntry {
  Digest digest;
  Caller caller;
};

constexpr size_t kMinTokenBytes = 16;
constexpr size_t kMaxTokens = 10000;

absl::StatusOr<TokenEntry> ParseTokenLine(absl::string_view line, const std::string& where) {
  const std::vector<absl::string_view> words =
      absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
  const auto error = [&](absl::string_view what) {
    return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kConfigInvalid,
                     absl::StrCat(where, ": ", what));
  };
  if (words.size() != 3) return error("expected three words: TOKEN ROLE NAME");
  if (words[0].size() < kMinTokenBytes) {
    return error("the token is shorter than 16 characters; make one with: openssl rand -hex 32");
  }
  const auto role = ParseRole(words[1]);
  if (!role) return error("the second word must be viewer, submitter, operator or worker");
  return TokenEntry{DigestOfToken(words[0]),
                    {.name = std::string(words[2]), .roles = static_cast<uint8_t>(*role)}};
}

absl::StatusOr<std::vector<TokenEntry>> ReadTokens(const std::string& path) {
  struct stat info;
  std::ifstream file(path);
  const bool readable = file && stat(path.c_str(), &info) == 0;
  if (!readable || (info.st_mode & S_IROTH) != 0) {
    return MakeError(
        absl::StatusCode::kInvalidArgument, ErrorReason::kConfigInvalid,
        absl::StrCat("token file '", path, "': ",
                     readable ? "can be read by everybody on this machine; chmod o-r it"
                              : "cannot be read"));
  }
  std::vector<TokenEntry> tokens;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    absl::StripAsciiWhitespace(&line);
    if (line.empty() || line[0] == '#') continue;
    LEAP_ASSIGN_OR_RETURN(TokenEntry entry,
                          ParseTokenLine(line, absl::StrCat(path, " line ", number)));
    tokens.push_back(std::move(entry));
    if (tokens.size() > kMaxTokens) break;
  }
  return tokens;
}

// ---- certificates ----

// The role in one name: "leap:ROLE" or "leap:ROLE:NAME".
std::optional<Caller> CallerOf(absl::string_view text) {
  if (!absl::ConsumePrefix(&text, "leap:")) return std::nullopt;
  const std::vector<absl::string_view> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  const auto role = ParseRole(parts[0]);
  if (!role) return std::nullopt;
  return Caller{.name = parts.size() > 1 ? std::string(parts[1]) : "",
                .roles = static_cast<uint8_t>(*role)};
}

void Merge(const std::optional<Caller>& found, Caller* caller) {
  if (!found) return;
  caller->roles |= found->roles;
  if (caller->name.empty()) caller->name = found->name;
}

// Takes "CN=a,OU=b+O=c" apart (RFC 2253). A separator that is escaped belongs to the value: nobody
// gets a role by a comma in a name.
std::vector<std::string> PartsOfSubject(absl::string_view subject) {
  std::vector<std::string> parts(1);
  for (size_t i = 0; i < subject.size(); ++i) {
    if (subject[i] == '\\' && i + 1 < subject.size()) {
      parts.back() += subject[++i];
    } else if (subject[i] == ',' || subject[i] == '+') {
      parts.emplace_back();
    } else {
      parts.back() += subject[i];
    }
  }
  return parts;
}

// No role: the certificate is believed but says nothing about Leap.
Caller CallerOf(const grpc::AuthContext& peer) {
  Caller caller;
  for (const auto& san : peer.FindPropertyValues(GRPC_X509_SAN_PROPERTY_NAME)) {
    Merge(CallerOf(View(san)), &caller);
  }
  for (const auto& subject : peer.FindPropertyValues(GRPC_X509_SUBJECT_PROPERTY_NAME)) {
    for (const std::string& part : PartsOfSubject(View(subject))) {
      absl::string_view unit = absl::StripAsciiWhitespace(part);
      if (absl::ConsumePrefix(&unit, "OU=")) Merge(CallerOf(unit), &caller);
    }
  }
  for (const auto& name : peer.FindPropertyValues(GRPC_X509_CN_PROPERTY_NAME)) {
    Merge(CallerOf(View(name)), &caller);
    if (caller.name.empty() && !absl::StartsWith(View(name), "leap:")) {
      caller.name = std::string(View(name));
    }
  }
  return caller;
}

// ---- the authenticator ----

class FileAuthenticator final : public Authenticator {
 public:
  explicit FileAuthenticator(const AuthOptions& options) : options_(options) {}

  absl::Status Load() {
    if (options_.token_file.empty()) return absl::OkStatus();
    LEAP_ASSIGN_OR_RETURN(std::vector<TokenEntry> tokens, ReadTokens(options_.token_file));
    MutexLock lock(&mutex_);
    tokens_ = std::move(tokens);
    version_ = FileVersion();
    return absl::OkStatus();
  }

  absl::StatusOr<Caller> Check(const grpc::ServerContextBase& context,
                               absl::string_view method) const override {
    if (!options_.required) return Caller{.name = "local", .roles = kEverything};
    LEAP_ASSIGN_OR_RETURN(Caller caller, Identify(context));
    uint8_t allowed = 0;
    for (const MethodAccess& access : kMethods) {
      if (access.method == method) allowed = access.roles;
    }
    if ((caller.roles & allowed) != 0) return caller;
    return MakeError(absl::StatusCode::kPermissionDenied, ErrorReason::kPermissionDenied,
                     absl::StrCat("'", caller.name, "' may not call ", method,
                                  ": it takes the role ", LeastRole(allowed)),
                     {{"method", std::string(method)}});
  }

 private:
  static absl::string_view LeastRole(uint8_t allowed) {
    for (const AccessRole role : kRoles) {
      if ((allowed & static_cast<uint8_t>(role)) != 0) return AccessRoleName(role);
    }
    return "that nobody has";
  }

  absl::StatusOr<Caller> Identify(const grpc::ServerContextBase& context) const {
    const auto found = context.client_metadata().find("authorization");
    if (found != context.client_metadata().end()) return CallerOfToken(View(found->second));
    const auto peer = context.auth_context();
    if (peer != nullptr && peer->IsPeerAuthenticated()) {
      Caller caller = CallerOf(*peer);
      if (caller.roles != 0) return caller;
    }
    return MakeError(
        absl::StatusCode::kUnauthenticated, ErrorReason::kUnauthenticated,
        "who are you? show a client certificate with a SAN or OU leap:ROLE, or a token "
        "(--token-path, LEAP_TOKEN)");
  }

  absl::StatusOr<Caller> CallerOfToken(absl::string_view header) const {
    if (absl::ConsumePrefix(&header, "Bearer ")) {
      const Digest digest = DigestOfToken(header);
      ReloadIfChanged();
      MutexLock lock(&mutex_);
      std::optional<Caller> match;  // every entry is compared, so that time tells nothing
      for (const TokenEntry& entry : tokens_) {
        if (CRYPTO_memcmp(entry.digest.data(), digest.data(), digest.size()) == 0)
          match = entry.caller;
      }
      if (match) return *match;
    }
    return MakeError(absl::StatusCode::kUnauthenticated, ErrorReason::kUnauthenticated,
                     "the token is not in the server's token file; ask the operator for a new one");
  }

  std::pair<int64_t, int64_t> FileVersion() const {
    struct stat info;
    if (stat(options_.token_file.c_str(), &info) != 0) return {0, 0};
    return {info.st_mtim.tv_sec * 1'000'000'000LL + info.st_mtim.tv_nsec,
            static_cast<int64_t>(info.st_ino)};
  }

  // A file that became unreadable or wrong leaves the tokens that were good, and one line in the
  // log.
  void ReloadIfChanged() const {
    if (options_.token_file.empty()) return;
    const auto version = FileVersion();
    {
      MutexLock lock(&mutex_);
      if (version == version_) return;
      version_ = version;
    }
    auto tokens = ReadTokens(options_.token_file);
    if (!tokens.ok()) {
      LogWarning("token_file_refused", {{"error", tokens.status()}});
      return;
    }
    MutexLock lock(&mutex_);
    tokens_ = *std::move(tokens);
  }

  const AuthOptions options_;
  mutable Mutex mutex_;
  mutable std::vector<TokenEntry> tokens_ ABSL_GUARDED_BY(mutex_);
  mutable std::pair<int64_t, int64_t> version_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::string_view AccessRoleName(AccessRole role) {
  switch (role) {
    case AccessRole::kViewer:
      return "viewer";
    case AccessRole::kSubmitter:
      return "submitter";
    case AccessRole::kOperator:
      return "operator";
    case AccessRole::kWorker:
      return "worker";
  }
  return "unknown";
}

bool Caller::MaySteer(absl::string_view submitter) const {
  return Has(AccessRole::kOperator) || (Has(AccessRole::kSubmitter) && name == submitter);
}

std::span<const MethodAccess> MethodAccessTable() { return kMethods; }

absl::StatusOr<std::unique_ptr<Authenticator>> Authenticator::Create(const AuthOptions& options) {
  auto authenticator = std::make_unique<FileAuthenticator>(options);
  LEAP_RETURN_IF_ERROR(authenticator->Load());
  return std::unique_ptr<Authenticator>(std::move(authenticator));
}

}  // namespace leap
