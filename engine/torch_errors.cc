#include "engine/internal/torch_errors.h"

#include <c10/util/Exception.h>

#include <cstdlib>
#include <new>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/error_reason.h"
#include "base/log.h"

namespace leap {
namespace {

// LibTorch's messages go on with a stack trace.
std::string FirstLine(absl::string_view text) {
  return std::string(text.substr(0, text.find('\n')));
}

absl::Status NoMemory(absl::string_view doing, absl::string_view what) {
  return absl::ResourceExhaustedError(
      absl::StrCat("no memory left while ", doing, " (", what,
                   "); lower spec.train.batch_sequences or spec.data.sequence_length_tokens, or "
                   "take a smaller model"));
}

}  // namespace

absl::Status CurrentTorchError(absl::string_view doing) {
  try {
    std::rethrow_exception(std::current_exception());
  } catch (const std::bad_alloc& error) {
    return NoMemory(doing, error.what());
  } catch (const c10::OutOfMemoryError& error) {
    return NoMemory(doing, FirstLine(error.what_without_backtrace()));
  } catch (const c10::AcceleratorError& error) {
    return MakeError(
        absl::StatusCode::kUnavailable, ErrorReason::kDeviceUnavailable,
        absl::StrCat("the device failed while ", doing, ": ",
                     FirstLine(error.what_without_backtrace()),
                     "; this process cannot use it any more and must be started again"));
  } catch (const c10::Error& error) {
    const std::string what = FirstLine(error.what_without_backtrace());
    if (absl::StrContains(what, "can't allocate memory")) return NoMemory(doing, what);
    return absl::InternalError(absl::StrCat("LibTorch failed while ", doing, ": ", what));
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("failed while ", doing, ": ", FirstLine(error.what())));
  } catch (...) {
    return absl::InternalError(
        absl::StrCat("failed while ", doing, ": something unknown was thrown"));
  }
}

void DieOf(const absl::Status& status) {
  LogError("device_failed", {{"error", status}});
  std::abort();
}

}  // namespace leap
