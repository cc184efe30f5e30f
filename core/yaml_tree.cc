#include "core/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <exception>
#include <map>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace leap {
namespace {

// Thrown by the builder through yaml-cpp, caught in ParseYaml: stop reading.
struct Stop {
  SpecError error;
};

[[noreturn]] void StopAt(int line, std::string message) {
  throw Stop{SpecError{line, "", std::move(message)}};
}

// Builds the tree from yaml-cpp's events.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(const YamlLimits& limits, YamlDocument& document)
      : limits_(limits), document_(document) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Add(Leaf(YamlNode::Kind::kNull, mark), anchor);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode node = Leaf(YamlNode::Kind::kScalar, mark);
    node.quoted = tag == "!" || tag == "tag:yaml.org,2002:str";
    if (!node.quoted) RefuseTag(tag, node.line);
    node.text = value;
    if (!node.quoted &&
        (value.empty() || value == "~" || value == "null" || value == "Null" || value == "NULL")) {
      node.kind = YamlNode::Kind::kNull;
    }
    Add(std::move(node), anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(YamlNode::Kind::kSequence, mark, tag, anchor);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(YamlNode::Kind::kMapping, mark, tag, anchor);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapEnd() override { Close(); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const int line = mark.line + 1;
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) StopAt(line, "alias stands inside the value that it names");
    if (static_cast<int>(open_.size()) + Height(found->second) > limits_.depth) TooDeep(line);
    Charge(found->second, line);
    YamlNode copy = found->second;
    copy.line = line;
    Place(std::move(copy));
  }

 private:
  struct Frame {
    YamlNode node;
    YAML::anchor_t anchor;
    bool has_key = false;  // mapping: a key waits for its value
    bool drop = false;     // ... which is left out, because the key stands there a second time
  };

  static YamlNode Leaf(YamlNode::Kind kind, const YAML::Mark& mark) {
    YamlNode node;
    node.kind = kind;
    node.line = mark.line + 1;
    return node;
  }

  static void RefuseTag(absl::string_view tag, int line) {
    if (tag.empty() || tag == "?" || tag == "!" || absl::StartsWith(tag, "tag:yaml.org,2002:")) {
      return;
    }
    StopAt(line, absl::StrCat("tag '", tag.substr(0, 40), "' has no meaning here; take it out"));
  }

  [[noreturn]] void TooDeep(int line) const {
    StopAt(line, absl::StrCat("nested more than ", limits_.depth, " levels deep"));
  }

  static int Height(const YamlNode& node) {
    if (node.kind != YamlNode::Kind::kSequence && node.kind != YamlNode::Kind::kMapping) return 0;
    int height = 0;
    for (const YamlNode& item : node.items) height = std::max(height, Height(item));
    return height + 1;
  }

  // Counts one value, and the values under it, against the limits.
  void Charge(const YamlNode& node, int line) {
    bytes_ += node.text.size();
    for (const YamlKey& key : node.keys) bytes_ += key.text.size();
    values_ += 1 + node.keys.size();
    if (values_ > limits_.values) {
      StopAt(line, absl::StrCat("more than ", limits_.values, " values, aliases expanded"));
    }
    if (bytes_ > limits_.expanded_bytes) {
      StopAt(line, absl::StrCat("more than ", limits_.expanded_bytes >> 10,
                                " KiB of text, aliases expanded"));
    }
    for (const YamlNode& item : node.items) Charge(item, line);
  }

  void Open(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
            YAML::anchor_t anchor) {
    YamlNode node = Leaf(kind, mark);
    RefuseTag(tag, node.line);
    if (static_cast<int>(open_.size()) >= limits_.depth) TooDeep(node.line);
    Charge(node, node.line);
    open_.push_back({std::move(node), anchor});
  }

  void Close() {
    Frame frame = std::move(open_.back());
    open_.pop_back();
    Remember(frame.anchor, frame.node);
    Place(std::move(frame.node));
  }

  void Add(YamlNode node, YAML::anchor_t anchor) {
    Charge(node, node.line);
    Remember(anchor, node);
    Place(std::move(node));
  }

  void Remember(YAML::anchor_t anchor, const YamlNode& node) {
    if (anchor == 0) return;
    Charge(node, node.line);
    anchors_[anchor] = node;
  }

  // Puts a finished value where it belongs: into the innermost open list or mapping, or at the
  // root.
  void Place(YamlNode node) {
    if (open_.empty()) {
      document_.root = std::move(node);
      return;
    }
    Frame& frame = open_.back();
    if (frame.node.kind == YamlNode::Kind::kMapping && !frame.has_key) {
      PlaceKey(frame, node);
    } else {
      if (!frame.drop) frame.node.items.push_back(std::move(node));
      frame.has_key = frame.drop = false;
    }
  }

  void PlaceKey(Frame& frame, const YamlNode& node) {
    if (node.kind != YamlNode::Kind::kScalar) {
      StopAt(node.line, "expected a key, saw something that is not plain text");
    }
    frame.has_key = true;
    for (const YamlKey& key : frame.node.keys) {
      if (key.text != node.text) continue;
      frame.drop = true;
      document_.errors.push_back({node.line, "",
                                  absl::StrCat("key '", node.text.substr(0, 60),
                                               "' stands here a second time, first on line ",
                                               key.line, "; keep one of them")});
      return;
    }
    frame.node.keys.push_back({node.text, node.line});
  }

  const YamlLimits& limits_;
  YamlDocument& document_;
  std::vector<Frame> open_;
  std::map<YAML::anchor_t, YamlNode> anchors_;
  size_t values_ = 0;
  size_t bytes_ = 0;
};

// Length of the well-formed UTF-8 character at `at`, 0 if there is none. NUL and other control
// characters that YAML forbids count as ill-formed.
size_t CharacterLength(absl::string_view text, size_t at) {
  const auto byte = [&](size_t i) -> unsigned {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u;
  };
  const auto follows = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return lead >= 0x20 || lead == '\n' || lead == '\r' || lead == '\t' ? 1 : 0;
  if (lead >= 0xC2 && lead <= 0xDF) return follows(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    if (lead == 0xE0 && byte(1) < 0xA0) return 0;
    if (lead == 0xED && byte(1) > 0x9F) return 0;
    return follows(1) && follows(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    if (lead == 0xF0 && byte(1) < 0x90) return 0;
    if (lead == 0xF4 && byte(1) > 0x8F) return 0;
    return follows(1) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

// Line of the first byte that is no UTF-8 text, 0 if all is well.
int BadTextLine(absl::string_view text) {
  int line = 1;
  for (size_t at = 0; at < text.size();) {
    const size_t length = CharacterLength(text, at);
    if (length == 0) return line;
    if (text[at] == '\n') ++line;
    at += length;
  }
  return 0;
}

bool IndentsByTab(absl::string_view text, int line) {
  for (; line > 1; --line) {
    const size_t end = text.find('\n');
    if (end == absl::string_view::npos) return false;
    text.remove_prefix(end + 1);
  }
  const size_t word = text.find_first_not_of(" \t");
  return text.substr(0, word).find('\t') != absl::string_view::npos;
}

void ReadDocument(absl::string_view text, const YamlLimits& limits, YamlDocument& document) {
  std::istringstream stream{std::string(text)};
  YAML::Parser parser(stream);
  TreeBuilder builder(limits, document);
  if (!parser.HandleNextDocument(builder)) {
    StopAt(1, "the file is empty; expected a job (see docs/job.md)");
  }
  YamlDocument second;
  TreeBuilder after(limits, second);
  if (parser.HandleNextDocument(after)) {
    StopAt(second.root.line, "a second document begins; expected one job in a file");
  }
}

}  // namespace

const YamlNode* FindKey(const YamlNode& node, absl::string_view key) {
  for (size_t i = 0; i < node.keys.size() && i < node.items.size(); ++i) {
    if (node.keys[i].text == key) return &node.items[i];
  }
  return nullptr;
}

YamlDocument ParseYaml(absl::string_view text, const YamlLimits& limits) {
  YamlDocument document;
  if (text.size() > limits.bytes) {
    document.errors.push_back({0, "",
                               absl::StrCat("expected at most ", limits.bytes >> 10, " KiB, saw ",
                                            (text.size() + 1023) >> 10, " KiB")});
    return document;
  }
  if (const int line = BadTextLine(text); line != 0) {
    document.errors.push_back({line, "", "expected UTF-8 text, saw bytes that are none"});
    return document;
  }
  try {
    ReadDocument(text, limits, document);
    document.readable = true;
  } catch (const Stop& stop) {
    document.errors.push_back(stop.error);
  } catch (const YAML::Exception& error) {
    const int line = std::max(error.mark.line + 1, 0);
    document.errors.push_back(
        {line, "",
         absl::StrCat(
             "not YAML: ", error.msg,
             IndentsByTab(text, line) ? "; the line begins with a tab, YAML wants spaces" : "")});
  } catch (const std::exception& error) {
    document.errors.push_back({0, "", absl::StrCat("not YAML: ", error.what())});
  }
  return document;
}

}  // namespace leap
