// Early return for absl::Status and absl::StatusOr.
//
//   LEAP_RETURN_IF_ERROR(store.Append(record));
//   LEAP_ASSIGN_OR_RETURN(JobSpec spec, ParseJobSpec(yaml));
//
// Both evaluate their expression once and pass the error on as it is; a layer that adds context
// does so in its own words before returning. Named and behaving like the macros of today's Abseil,
// which Debian's 2022 release lacks.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns the status from the enclosing function unless it is OK. `expr` is an absl::Status.
#define LEAP_RETURN_IF_ERROR(expr)                                                  \
  do {                                                                              \
    if (::absl::Status leap_status = (expr); !leap_status.ok()) return leap_status; \
  } while (false)

// Assigns the value of `expr`, an absl::StatusOr<T>, to `lhs` (a declaration or an lvalue), or
// returns its status. Two statements, so not the body of an unbraced if; a type with a comma in
// `lhs` needs an alias.
#define LEAP_ASSIGN_OR_RETURN(lhs, ...) \
  LEAP_ASSIGN_OR_RETURN_IMPL(LEAP_STATUS_CONCAT(leap_status_or_, __LINE__), lhs, (__VA_ARGS__))

#define LEAP_ASSIGN_OR_RETURN_IMPL(statusor, lhs, expr)    \
  auto statusor = expr;                                    \
  if (!statusor.ok()) return std::move(statusor).status(); \
  lhs = *std::move(statusor)

#define LEAP_STATUS_CONCAT(a, b) LEAP_STATUS_CONCAT_INNER(a, b)
#define LEAP_STATUS_CONCAT_INNER(a, b) a##b
