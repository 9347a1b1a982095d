// A whole step of a Llama-shaped decoder on the CPU: every member of a thread team runs `Step::run`
// side by side, does its share of each operation and waits at a barrier for the next.
//
// Plain C at the boundary: Python owns all memory (weights, cache, results) and passes addresses.

#include <algorithm>
#include <vector>

#include "gemm.h"
#include "team.h"
#include "vector.h"

namespace isthmus {

extern "C" {

struct Shape {
    int32_t layers, hidden, heads, kv_heads, head_size, intermediate, columns, block_size;
    int32_t max_tokens, max_context, ranks;
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
    const void *embedding, *head;
    const float *final_norm, *cosines, *sines;  // tables are [max_context, head_size / 2]
    float* partial;                             // [max_tokens, hidden], what the ranks add up
};

// A step plan, see engine/plan.py. `sampled_rows` are the tokens whose logits are wanted.
struct Batch {
    int32_t sequences, tokens, sampled;
    const int32_t *ids, *lengths, *starts, *block_counts, *blocks, *sampled_rows;
};

using AllReduce = void (*)(int32_t tokens);  // adds up `partial[:tokens]` over the ranks
}

// Some consecutive tokens of one sequence, as many as fill the rows of a product.
struct Tile {
    int row, tokens, position;
    const int32_t* blocks;
};

template <class T>
class Decoder {
    using Value = typename T::Value;

  public:
    Decoder(const Shape& shape, const ModelAddresses& model, int threads, AllReduce all_reduce)
        : s(shape),
          model(model),
          layers(model.layers, model.layers + shape.layers),
          all_reduce(all_reduce),
          team(threads),
          group(shape.heads / shape.kv_heads),
          queues(shape.layers * QUEUES + 1) {
        const size_t n = shape.max_tokens;
        residual.resize(n * s.hidden);
        normed.resize(n * s.hidden);
        qkv.resize(n * (s.heads + 2 * s.kv_heads) * s.head_size);
        queries.resize(n * s.heads * s.head_size);
        attended.resize(n * s.heads * s.head_size);
        gated.resize(n * s.intermediate);
        positions.resize(n);
        slots.resize(n);
        context_stride = (s.max_context + 2 * LANES - 1) / (2 * LANES) * 2 * LANES;
        scores.resize(size_t(threads) * MAX_ROWS * context_stride);
        weights.resize(size_t(threads) * MAX_ROWS * context_stride);
    }

    void step(const Batch& batch, float* logits) {
        b = batch;
        lay_out();
        team.run([&](int member) { run(member, logits); });
    }

  private:
    // ---- what the caller prepares alone ----

    void lay_out() {
        tiles.clear();
        const int tile_tokens = std::max(1, MAX_ROWS / group);
        const int32_t* blocks = b.blocks;
        int row = 0;
        for (int i = 0; i < b.sequences; ++i) {
            for (int t = 0; t < b.lengths[i]; ++t) {
                const int position = b.starts[i] + t;
                positions[row + t] = position;
                slots[row + t] = blocks[position / s.block_size] * s.block_size + position % s.block_size;
                if (t % tile_tokens == 0)
                    tiles.push_back({row + t, std::min(tile_tokens, b.lengths[i] - t), position, blocks});
            }
            row += b.lengths[i];
            blocks += b.block_counts[i];
        }
        for (Queue& queue : queues) queue.reset();
    }

    // ---- what all members run side by side ----

    void run(int member, float* logits) {
        embed(member);
        for (int i = 0; i < s.layers; ++i) {
            const LayerAddresses& layer = layers[i];
            Queue* queue = &queues[i * QUEUES];
            normalize(layer.attention_norm, member);
            project_qkv(layer, queue[QKV]);
            rotate_and_cache(layer, member);
            attend(layer, queue[ATTENTION], member);
            project_back(attended.data(), s.heads * s.head_size, layer.output, queue[OUTPUT], member);
            normalize(layer.mlp_norm, member);
            project_gate_up(layer, queue[GATE_UP]);
            project_back(gated.data(), s.intermediate, layer.down, queue[DOWN], member);
        }
        project_vocabulary(logits, member);
    }

    void embed(int member) {
        const Value* embedding = static_cast<const Value*>(model.embedding);
        const Share rows(b.tokens, member, team.size());
        for (int t = rows.begin; t < rows.end; ++t)
            for (int i = 0; i < s.hidden; i += LANES)
                store(&residual[size_t(t) * s.hidden + i],
                      T::load16(embedding + long(b.ids[t]) * s.hidden + i));
    }

    void normalize(const float* norm, int member) {
        const Share rows(b.tokens, member, team.size());
        for (int t = rows.begin; t < rows.end; ++t) normalize_row(t, norm, &normed[size_t(t) * s.hidden]);
        team.barrier();
    }

    void normalize_row(int t, const float* norm, Value* to) {
        const float* x = &residual[size_t(t) * s.hidden];
        Floats squares{};
        for (int i = 0; i < s.hidden; i += LANES) {
            const Floats v = load<Floats>(x + i);
            squares += v * v;
        }
        const float scale = 1.0f / std::sqrt(sum(squares) / s.hidden + s.epsilon);
        for (int i = 0; i < s.hidden; i += LANES)
            T::store16(to + i, load<Floats>(x + i) * scale * load<Floats>(norm + i));
    }

    void project_qkv(const LayerAddresses& layer, Queue& queue) {
        const int width = (s.heads + 2 * s.kv_heads) * s.head_size;
        gemm<T>(normed.data(), s.hidden, b.tokens, s.hidden, static_cast<const Value*>(layer.qkv), width,
                team.size(), queue, [&](int row, int pair, Floats first, Floats second) {
                    float* to = &qkv[size_t(row) * width + pair * 2 * LANES];
                    store(to, first);
                    store(to + LANES, second);
                });
        team.barrier();
    }

    // Rotary position embedding of queries and keys; keys and values go to their slots.
    void rotate_and_cache(const LayerAddresses& layer, int member) {
        const Share rows(b.tokens, member, team.size());
        for (int t = rows.begin; t < rows.end; ++t) {
            const float* heads = &qkv[size_t(t) * (s.heads + 2 * s.kv_heads) * s.head_size];
            for (int h = 0; h < s.heads; ++h, heads += s.head_size) write_query(t, h, heads);
            for (int h = 0; h < s.kv_heads; ++h, heads += s.head_size) write_key(layer, t, h, heads);
            for (int h = 0; h < s.kv_heads; ++h, heads += s.head_size) write_value(layer, t, h, heads);
        }
        team.barrier();
    }

    // Rotate lanes i.. of a head's two halves.
    void rotate(int t, int i, const float* head, Floats& low, Floats& high) {
        const long at = long(positions[t]) * (s.head_size / 2) + i;
        const Floats cosine = load<Floats>(model.cosines + at), sine = load<Floats>(model.sines + at);
        const Floats x = load<Floats>(head + i), y = load<Floats>(head + s.head_size / 2 + i);
        low = x * cosine - y * sine;
        high = y * cosine + x * sine;
    }

    // Queries lie as [kv head][token][head of its group], so that a tile's rows are evenly spaced.
    void write_query(int t, int h, const float* head) {
        const size_t row = (size_t(h / group) * b.tokens + t) * group + h % group;
        Value* to = &queries[row * s.head_size];
        for (int i = 0; i < s.head_size / 2; i += LANES) {
            Floats low, high;
            rotate(t, i, head, low, high);
            T::store16(to + i, low * s.scaling);
            T::store16(to + s.head_size / 2 + i, high * s.scaling);
        }
    }

    // A block's keys are packed as a weight matrix whose columns are its tokens.
    void write_key(const LayerAddresses& layer, int t, int h, const float* head) {
        const int offset = slots[t] % s.block_size;
        Value* to = key_group(layer, slots[t] / s.block_size, h, offset / LANES) + offset % LANES * T::STEP;
        for (int i = 0; i < s.head_size / 2; i += LANES) {
            Floats low, high;
            rotate(t, i, head, low, high);
            for (int lane = 0; lane < LANES; ++lane) {
                *within_column(to, i + lane) = T::narrow(low[lane]);
                *within_column(to, s.head_size / 2 + i + lane) = T::narrow(high[lane]);
            }
        }
    }

    static Value* within_column(Value* column, int k) {
        return column + long(k / T::STEP) * LANES * T::STEP + k % T::STEP;
    }

    // A block's values are packed as a weight matrix whose rows are its tokens.
    void write_value(const LayerAddresses& layer, int t, int h, const float* head) {
        const int offset = slots[t] % s.block_size;
        for (int i = 0; i < s.head_size; ++i) {
            Value* panel = value_panel(layer, slots[t] / s.block_size, h, i / LANES);
            *within_column(panel + i % LANES * T::STEP, offset) = T::narrow(head[i]);
        }
    }

    Value* key_group(const LayerAddresses& layer, int block, int h, int token_group) const {
        const long head = (long(block) * s.kv_heads + h) * s.block_size * s.head_size;
        return static_cast<Value*>(layer.keys) + head + long(token_group) * LANES * s.head_size;
    }

    Value* value_panel(const LayerAddresses& layer, int block, int h, int panel) const {
        const long head = (long(block) * s.kv_heads + h) * s.block_size * s.head_size;
        return static_cast<Value*>(layer.values) + head + long(panel) * LANES * s.block_size;
    }

    // Tiles differ in length, so members take the next one when they are done with theirs.
    void attend(const LayerAddresses& layer, Queue& queue, int member) {
        const int count = int(tiles.size()) * s.kv_heads;
        for (int i, end; queue.take(count, 1, i, end);) {
            const Tile& tile = tiles[i / s.kv_heads];
            with_rows(tile.tokens * group,
                      [&]<int ROWS>() { attend_tile<ROWS>(layer, tile, i % s.kv_heads, member); });
        }
        team.barrier();
    }

    template <int ROWS>
    void attend_tile(const LayerAddresses& layer, const Tile& tile, int h, int member) {
        float* score = &scores[size_t(member) * MAX_ROWS * context_stride];
        Value* weight = &weights[size_t(member) * MAX_ROWS * context_stride];
        const int groups = (tile.position + tile.tokens + LANES - 1) / LANES;
        float inverse[ROWS];
        score_rows<ROWS>(layer, tile, h, groups, score);
        for (int r = 0; r < ROWS; ++r)
            inverse[r] = soften(score + r * context_stride, tile.position + r / group + 1, groups,
                                weight + r * context_stride);
        for (int panel = 0; panel < s.head_size / LANES; panel += 2) {
            Floats sums[ROWS][2] = {};
            for (int g = 0; g < groups; ++g) {
                const int block = tile.blocks[g * LANES / s.block_size];
                const long within = long(g * LANES % s.block_size) * LANES;
                const Value* const values[2] = {value_panel(layer, block, h, panel) + within,
                                                value_panel(layer, block, h, panel + 1) + within};
                multiply<T, ROWS, 2>(weight + g * LANES, context_stride, values, LANES, sums);
            }
            for (int r = 0; r < ROWS; ++r) {
                Value* to = &attended[(size_t(tile.row + r / group) * s.heads + h * group + r % group) *
                                          s.head_size + panel * LANES];
                T::store16(to, sums[r][0] * inverse[r]);
                T::store16(to + LANES, sums[r][1] * inverse[r]);
            }
        }
    }

    // score[r][token] = query r . key of the token, for whole groups of 16 tokens.
    template <int ROWS>
    void score_rows(const LayerAddresses& layer, const Tile& tile, int h, int groups, float* score) {
        const Value* query = &queries[(size_t(h) * b.tokens + tile.row) * group * s.head_size];
        for (int g = 0; g < groups; g += 2) {
            const Value* keys[2];
            for (int j = 0; j < 2; ++j) {
                const int token = std::min(g + j, groups - 1) * LANES;
                keys[j] = key_group(layer, tile.blocks[token / s.block_size], h, token % s.block_size / LANES);
            }
            const Value* const panels[2] = {keys[0], keys[1]};
            Floats sums[ROWS][2] = {};
            multiply<T, ROWS, 2>(query, s.head_size, panels, s.head_size, sums);
            for (int r = 0; r < ROWS; ++r)
                for (int j = 0; j < 2; ++j) store(score + r * context_stride + (g + j) * LANES, sums[r][j]);
        }
    }

    // weight = exp(score - max) over the first `limit` tokens and 0 after; return 1 / their sum.
    static float soften(float* score, int limit, int groups, Value* weight) {
        std::fill(score + limit, score + groups * LANES, -INFINITY);
        Floats top = splat(-INFINITY);
        for (int g = 0; g < groups; ++g) {
            const Floats v = load<Floats>(score + g * LANES);
            top = v > top ? v : top;
        }
        const float highest = largest(top);
        Floats total{};
        for (int g = 0; g < groups; ++g) {
            const Floats e = exponential(load<Floats>(score + g * LANES) - highest);
            total += e;
            T::store16(weight + g * LANES, e);
        }
        return 1.0f / sum(total);
    }

    // residual += a x weights, added up over the ranks.
    void project_back(const Value* a, int depth, const void* weights, Queue& queue, int member) {
        const bool shared = s.ranks > 1;
        float* to = shared ? model.partial : residual.data();
        gemm<T>(a, depth, b.tokens, depth, static_cast<const Value*>(weights), s.hidden, team.size(), queue,
                [&](int row, int pair, Floats first, Floats second) {
                    float* at = to + size_t(row) * s.hidden + pair * 2 * LANES;
                    store(at, shared ? first : load<Floats>(at) + first);
                    store(at + LANES, shared ? second : load<Floats>(at + LANES) + second);
                });
        team.barrier();
        if (shared) add_ranks(member);
    }

    void add_ranks(int member) {
        if (member == 0) all_reduce(b.tokens);
        team.barrier();
        const Share rows(b.tokens, member, team.size());
        for (long i = long(rows.begin) * s.hidden; i < long(rows.end) * s.hidden; i += LANES)
            store(&residual[i], load<Floats>(&residual[i]) + load<Floats>(model.partial + i));
        team.barrier();
    }

    void project_gate_up(const LayerAddresses& layer, Queue& queue) {
        gemm<T>(normed.data(), s.hidden, b.tokens, s.hidden, static_cast<const Value*>(layer.gate_up),
                2 * s.intermediate, team.size(), queue, [&](int row, int pair, Floats gate, Floats up) {
                    const Floats silu = gate / (1.0f + exponential(-gate));
                    T::store16(&gated[size_t(row) * s.intermediate + pair * LANES], silu * up);
                });
        team.barrier();
    }

    void project_vocabulary(float* logits, int member) {
        const Share rows(b.sampled, member, team.size());
        for (int i = rows.begin; i < rows.end; ++i)
            normalize_row(b.sampled_rows[i], model.final_norm, &normed[size_t(i) * s.hidden]);
        team.barrier();
        gemm<T>(normed.data() + s.head_begin, s.hidden, b.sampled, s.head_depth,
                static_cast<const Value*>(model.head), s.columns, team.size(), queues.back(), [&](int row, int pair, Floats first, Floats second) {
                    float* to = logits + size_t(row) * s.columns + pair * 2 * LANES;
                    store(to, first);
                    store(to + LANES, second);
                });
    }

    const Shape s;
    const ModelAddresses model;
    const std::vector<LayerAddresses> layers;
    const AllReduce all_reduce;
    Team team;
    const int group;  // query heads for each key-value head
    std::vector<Queue> queues;  // one for each operation of a step that is shared out piecemeal
    enum { QKV, ATTENTION, OUTPUT, GATE_UP, DOWN, QUEUES };

    Batch b{};
    std::vector<Tile> tiles;
    std::vector<int> positions, slots;
    std::vector<float> residual, qkv, scores;
    std::vector<Value> normed, queries, attended, gated, weights;
    long context_stride;
};

}  // namespace isthmus

using namespace isthmus;

extern "C" {

void isthmus_pack_float32(const float* weights, int columns, int depth, float* packed) {
    pack<Float32>(weights, columns, depth, packed);
}

void isthmus_pack_bfloat16(const uint16_t* weights, int columns, int depth, uint16_t* packed) {
    pack<BFloat16>(weights, columns, depth, packed);
}

void* isthmus_create_float32(const Shape* shape, const ModelAddresses* model, int threads, AllReduce reduce) {
    return new Decoder<Float32>(*shape, *model, threads, reduce);
}

void* isthmus_create_bfloat16(const Shape* shape, const ModelAddresses* model, int threads, AllReduce reduce) {
    return new Decoder<BFloat16>(*shape, *model, threads, reduce);
}

void isthmus_step_float32(void* decoder, const Batch* batch, float* logits) {
    static_cast<Decoder<Float32>*>(decoder)->step(*batch, logits);
}

void isthmus_step_bfloat16(void* decoder, const Batch* batch, float* logits) {
    static_cast<Decoder<BFloat16>*>(decoder)->step(*batch, logits);
}

void isthmus_destroy_float32(void* decoder) { delete static_cast<Decoder<Float32>*>(decoder); }

void isthmus_destroy_bfloat16(void* decoder) { delete static_cast<Decoder<BFloat16>*>(decoder); }
}
