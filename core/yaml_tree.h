// A YAML document as a plain tree of values that know their line, read within bounds.
//
// What it adds to yaml-cpp: duplicate keys are findings (yaml-cpp keeps one silently), text in
// quotes is told from a plain scalar, aliases are expanded under a budget, and no exception gets
// out. What it leaves out: several documents in one file, tags, merge keys, keys that are not plain
// text. Pure: text in, tree and findings out.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/job_spec.h"

namespace leap {

struct YamlKey {
  std::string text;
  int line = 0;  // 1-based
};

struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMapping };
  Kind kind = Kind::kNull;
  int line = 0;               // 1-based
  bool quoted = false;        // a scalar in quotes, or a block of text: always text, never a number
  std::string text;           // scalar: the value
  std::vector<YamlKey> keys;  // mapping: keys, in order; as many as `items`
  std::vector<YamlNode> items;  // sequence: items; mapping: values
};

// The value under `key`, or nullptr if `node` is no mapping or has none.
const YamlNode* FindKey(const YamlNode& node, absl::string_view key);

struct YamlLimits {
  size_t bytes = 256 << 10;            // of the file
  int depth = 16;                      // nested lists and mappings
  size_t values = 20000;               // keys and values, aliases expanded
  size_t expanded_bytes = 1024 << 10;  // text, aliases expanded
};

struct YamlDocument {
  YamlNode root;
  std::vector<SpecError> errors;  // path empty; not in order of line
  bool readable = false;          // false: `root` is incomplete and the errors say why
};

// Parses one document. Never throws; takes time in proportion to the text.
YamlDocument ParseYaml(absl::string_view text, const YamlLimits& limits = {});

}  // namespace leap
