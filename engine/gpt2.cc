#include "engine/internal/gpt2.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/scaled_dot_product_attention.h>

namespace leap {
namespace {

using at::Tensor;

// Hands out parameters in the layout's order.
class Cursor {
 public:
  explicit Cursor(const std::vector<Tensor>& parameters) : parameters_(parameters) {}
  const Tensor& Next() { return parameters_[next_++]; }

 private:
  const std::vector<Tensor>& parameters_;
  size_t next_ = 0;
};

Tensor Linear(Cursor& cursor, const Tensor& x) {
  const Tensor& weight = cursor.Next();
  const Tensor& bias = cursor.Next();
  return at::addmm(bias, x, weight);
}

Tensor Norm(const ModelConfig& config, Cursor& cursor, const Tensor& x) {
  const Tensor& gain = cursor.Next();
  const Tensor& bias = cursor.Next();
  return at::layer_norm(x, {config.n_embd}, gain, bias, config.layer_norm_epsilon);
}

// x: [rows * tokens, n_embd], normed.
Tensor Attention(const ModelConfig& config, Cursor& cursor, const Tensor& x, int64_t rows,
                 int64_t tokens) {
  const int64_t head = config.n_embd / config.n_head;
  const Tensor qkv =
      Linear(cursor, x).view({rows, tokens, 3, config.n_head, head}).permute({2, 0, 3, 1, 4});
  const Tensor mixed = at::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], /*attn_mask=*/{},
                                                        /*dropout_p=*/0.0, /*is_causal=*/true);
  return Linear(cursor, mixed.transpose(1, 2).reshape({rows * tokens, config.n_embd}));
}

Tensor Mlp(Cursor& cursor, const Tensor& x) {
  const Tensor inner = at::gelu(Linear(cursor, x), "tanh");
  return Linear(cursor, inner);
}

}  // namespace

Tensor Gpt2Hidden(const ModelConfig& config, const std::vector<Tensor>& parameters,
                  const Tensor& inputs) {
  const int64_t rows = inputs.size(0);
  const int64_t tokens = inputs.size(1);
  Cursor cursor(parameters);
  const Tensor& wte = cursor.Next();
  const Tensor& wpe = cursor.Next();
  Tensor x =
      at::embedding(wte, inputs).add(wpe.narrow(0, 0, tokens)).view({rows * tokens, config.n_embd});
  for (int64_t layer = 0; layer < config.n_layer; ++layer) {
    const Tensor attention_input = Norm(config, cursor, x);
    x = x.add(Attention(config, cursor, attention_input, rows, tokens));
    const Tensor mlp_input = Norm(config, cursor, x);
    x = x.add(Mlp(cursor, mlp_input));
  }
  return Norm(config, cursor, x);
}

Tensor Gpt2Logits(const std::vector<Tensor>& parameters, const Tensor& hidden) {
  return at::mm(hidden, parameters[0].t()).to(at::kFloat);
}

}  // namespace leap
