// The agent's side of AgentService.Session, for workers and verifiers: keeps one stream to the
// coordinator open, for ever, and never holds up training.
//
// Threads: Start starts two. The *session thread* connects, says Hello, reads, and runs on_message
// and the other callbacks but `heartbeat`; so callbacks must not block for long, and may call Send
// but not Stop. The *writer thread* writes the outbox and calls `heartbeat` at the interval that
// Welcome named. Send may be called from any thread.
//
// When the stream breaks the outbox is dropped (nothing is assumed to have arrived), the session
// waits with backoff and jitter, connects again and asks `hello` anew. What must not be lost is
// sent again by its owner when on_connected is called.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/backoff.h"
#include "leap/v1/agent.pb.h"
#include "service/channel.h"

namespace leap {

struct AgentSessionOptions {
  std::string coordinator;  // host:port
  ChannelOptions channel;
  size_t outbox_messages = 1024;  // bound; Send returns false beyond
  BackoffOptions backoff{.initial = absl::Milliseconds(100), .max = absl::Seconds(5)};
  absl::Duration connect_timeout = absl::Seconds(5);  // from dialling to Welcome
  uint64_t seed = 0;                                  // of the jitter; 0: from the clock
};

struct AgentSessionCallbacks {
  // Built at each connect: who the agent is and what it holds. Required. Session thread.
  std::function<v1::Hello()> hello;
  // Built at each beat; nullopt skips one. Required. Writer thread.
  std::function<std::optional<v1::Heartbeat>()> heartbeat;
  // Each message after Welcome, in order. Required. Session thread.
  std::function<void(const v1::CoordinatorMessage&)> on_message;
  // Welcome arrived; Send works from here on. Optional. Session thread.
  std::function<void(const v1::Welcome&)> on_connected;
  // The stream ended or a connect failed, with the reason; called once per outage, and again when
  // the reason changes. Optional. Session thread.
  std::function<void(const absl::Status&)> on_disconnected;
  // Asked after each failure: go on trying? Default: yes, but for InvalidArgument and Unimplemented
  // (they will not heal). Session thread.
  std::function<bool(const absl::Status&)> retry;
};

struct AgentSessionInfo {
  bool connected = false;
  bool ended = false;                    // gave up (see `retry`) or stopped; `last_error` says why
  absl::Time changed;                    // since when it is connected, or not
  absl::Time last_connected;             // InfinitePast: never
  int64_t connects = 0;                  // successful ones
  int64_t failures = 0;                  // failed connects and broken streams
  uint64_t coordinator_incarnation = 0;  // of the newest Welcome
  absl::Duration lease;                  // of the newest Welcome
  absl::Status last_error;
};

class AgentSession {
 public:
  // InvalidArgument: options that cannot work. An unreachable coordinator is no error: it is tried
  // for ever.
  static absl::StatusOr<std::unique_ptr<AgentSession>> Start(const AgentSessionOptions& options,
                                                             AgentSessionCallbacks callbacks);
  // Stops at once if Stop was not called.
  virtual ~AgentSession() = default;

  // Queues `message` for the current stream. False: not connected, or the outbox is full (dropped).
  // Never blocks.
  virtual bool Send(v1::AgentMessage message) = 0;

  virtual AgentSessionInfo info() const = 0;

  // Says Goodbye(`reason`) if connected, writes what is in the outbox until `timeout` has passed,
  // ends the stream, joins both threads. No callback runs after it returns. Idempotent. Not from a
  // callback.
  virtual void Stop(const std::string& reason, absl::Duration timeout) = 0;
};

}  // namespace leap
