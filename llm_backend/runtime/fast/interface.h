// What Python and the kernels exchange: plain C structures of sizes and addresses, mirrored in
// library.py. Python owns all memory: weights, cache, results.
#pragma once

#include <cstdint>

namespace isthmus {

extern "C" {

struct Shape {
    int32_t layers, hidden, heads, kv_heads, head_size, intermediate, columns, block_size;
    int32_t max_tokens, max_context, ranks, rank;
    int32_t head_begin, head_depth;  // what of the hidden state this rank's output head takes
    float epsilon, scaling;
};

// Where each layer's packed weights and cache are. `gate_up` holds panels of gate and up in turn.
struct LayerAddresses {
    const void *qkv, *output, *gate_up, *down;
    const float *attention_norm, *mlp_norm;
    void *keys, *values;
};

struct ModelAddresses {
    const LayerAddresses* layers;
    const void *embedding, *head;               // [vocabulary, hidden], null where it is the packed head
    const float *final_norm, *cosines, *sines;  // tables are [max_context, head_size / 2]
    // Memory of all ranks, zero at first: of each 64 bytes, then of each two parts of a sum [max_tokens,
    // hidden], then of each but rank 0 logits [max_tokens, columns]. Null where they share none.
    void* shared;
    float* partial;  // [max_tokens, hidden], what the ranks add up in that case
};

// A step plan, see engine/plan.py. `sampled_rows` are the tokens whose logits are wanted.
struct Batch {
    int32_t sequences, tokens, sampled;
    const int32_t *ids, *lengths, *starts, *block_counts, *blocks, *sampled_rows;
};

using AllReduce = void (*)(int32_t tokens);  // adds up `partial[:tokens]` over the ranks
}

}  // namespace isthmus
