// The forward pass of GPT-2 over parameters in the order of LayoutOf. Plain functions of tensors;
// differentiable.
//
// Radford et al., "Language models are unsupervised multitask learners", 2019; names, Conv1D ([in,
// out] matrices) and gelu_new (the tanh form) as in Hugging Face's GPT2LMHeadModel. No dropout.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "engine/model.h"

namespace leap {

// `inputs`: [rows, tokens] int64. Final hidden state, after the last norm: [rows * tokens, n_embd].
at::Tensor Gpt2Hidden(const ModelConfig& config, const std::vector<at::Tensor>& parameters,
                      const at::Tensor& inputs);

// `hidden` as from Gpt2Hidden. Scores through the tied embedding, always fp32: [rows * tokens,
// vocab_size].
at::Tensor Gpt2Logits(const std::vector<at::Tensor>& parameters, const at::Tensor& hidden);

}  // namespace leap
