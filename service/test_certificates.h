// Test-only: a certificate authority in a folder, made on the spot, so that no key lies in the
// repository.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "service/tls.h"

namespace leap {

class TestAuthority {
 public:
  // Writes ca.pem into `folder`, which must exist.
  explicit TestAuthority(std::string folder);
  ~TestAuthority();

  // Writes NAME.pem and NAME.key, for `common_name`, SANs ("DNS:localhost", "IP:127.0.0.1",
  // "URI:leap:worker") and an organizational unit unless empty. Returns them with this authority.
  TlsFiles Issue(const std::string& name, const std::string& common_name,
                 const std::vector<std::string>& sans, const std::string& unit = "");

  std::string ca_path() const { return folder_ + "/ca.pem"; }

 private:
  struct Keys;
  const std::string folder_;
  std::unique_ptr<Keys> keys_;
  long serial_ = 1;
};

}  // namespace leap
