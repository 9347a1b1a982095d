// Attention over the paged cache. In each block, keys lie as a weight matrix whose columns are the
// block's tokens, and values as one whose rows are: scores and sums are then plain products.
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "gemm.h"
#include "interface.h"
#include "team.h"
#include "vector.h"

namespace isthmus {

constexpr int AHEAD = 4;  // groups of 16 tokens between fetching keys or values and using them

// Some consecutive tokens of one sequence, as many as fill the rows of a product.
struct Tile {
    int row, tokens, position;
    const int32_t* blocks;
};

template <class T>
class Attention {
    using Value = typename T::Value;

  public:
    Attention(const Shape& shape, const ModelAddresses& model, int members)
        : s(shape),
          cosines(model.cosines),
          sines(model.sines),
          members(members),
          group(shape.heads / shape.kv_heads),
          context_stride((shape.max_context + 2 * LANES - 1) / (2 * LANES) * 2 * LANES),
          positions(shape.max_tokens),
          slots(shape.max_tokens),
          queries((size_t(shape.max_tokens) * shape.heads + OVERREAD_ROWS) * shape.head_size),
          scores(size_t(members) * TILE_ROWS * context_stride),
          weights(size_t(members) * TILE_ROWS * context_stride) {}

    // Find every token's slot and cut the sequences into tiles. Called by one member, before a step.
    void lay_out(const Batch& batch) {
        b = batch;
        tiles.clear();
        const int32_t* blocks = b.blocks;
        int row = 0;
        for (int i = 0; i < b.sequences; ++i) {
            const bool wide = AMX && amx_allowed() && b.lengths[i] * group > MAX_ROWS;
            const int tile_tokens = std::max(1, (wide ? TILE_ROWS : MAX_ROWS) / group);
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
    }

    // Rotary position embedding of queries and keys; keys and values go to their slots.
    void rotate_and_cache(const LayerAddresses& layer, const float* qkv, int member) {
        const Share rows(b.tokens, member, members);
        for (int t = rows.begin; t < rows.end; ++t) {
            const float* heads = qkv + size_t(t) * (s.heads + 2 * s.kv_heads) * s.head_size;
            for (int h = 0; h < s.heads; ++h, heads += s.head_size) write_query(t, h, heads);
            for (int h = 0; h < s.kv_heads; ++h, heads += s.head_size) write_key(layer, t, h, heads);
            for (int h = 0; h < s.kv_heads; ++h, heads += s.head_size) write_value(layer, t, h, heads);
        }
    }

    // Tiles differ in length, so members take the next one when they are done with theirs.
    void attend(const LayerAddresses& layer, Queue& queue, Value* attended, int member) {
        const int count = int(tiles.size()) * s.kv_heads;
        for (int i, end; queue.take(count, 1, i, end);) {
            const Tile& tile = tiles[i / s.kv_heads];
            if constexpr (AMX)
                if (tile.tokens * group > MAX_ROWS) {
                    attend_wide_tile(layer, tile, i % s.kv_heads, attended, member);
                    continue;
                }
            with_rows(tile.tokens * group,
                      [&]<int ROWS>() { attend_tile<ROWS>(layer, tile, i % s.kv_heads, attended, member); });
        }
    }

  private:
#if defined(ISTHMUS_AMX)
    static constexpr bool AMX = std::is_same_v<T, BFloat16>;
#else
    static constexpr bool AMX = false;
#endif
    static constexpr int TILE_ROWS = AMX ? 2 * TILE : MAX_ROWS;  // of scores and weights

    // Rotate lanes i.. of a head's two halves.
    void rotate(int t, int i, const float* head, Floats& low, Floats& high) {
        const long at = long(positions[t]) * (s.head_size / 2) + i;
        const Floats cosine = load<Floats>(cosines + at), sine = load<Floats>(sines + at);
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

    // Fetch a group of 16 tokens: keys of the first `groups`, values of as many after them. Decodes
    // read each once and from memory, in pieces too short for the processor to see what comes next.
    void fetch(const LayerAddresses& layer, const Tile& tile, int h, int groups, int g) const {
        if (g >= 2 * groups) return;
        const int token = g % groups * LANES, block = tile.blocks[token / s.block_size];
        const int within = token % s.block_size;
        if (g < groups) return prefetch(keys_of(layer, tile, h, g), LANES * s.head_size);
        for (int panel = 0; panel < s.head_size / LANES; ++panel)
            prefetch(value_panel(layer, block, h, panel) + within * LANES, LANES * LANES);
    }

    static void prefetch(const Value* from, int values) {
        for (int i = 0; i < values; i += LINE / sizeof *from) __builtin_prefetch(from + i);
    }

    template <int ROWS>
    void attend_tile(const LayerAddresses& layer, const Tile& tile, int h, Value* attended, int member) {
        float* score = &scores[size_t(member) * TILE_ROWS * context_stride];
        Value* weight = &weights[size_t(member) * TILE_ROWS * context_stride];
        const int groups = (tile.position + tile.tokens + LANES - 1) / LANES;
        float inverse[ROWS];
        score_rows<ROWS>(layer, tile, h, groups, score);
        for (int r = 0; r < ROWS; ++r)
            inverse[r] = soften(score + r * context_stride, tile.position + r / group + 1, groups,
                                weight + r * context_stride);
        for (int panel = 0; panel < s.head_size / LANES; panel += 2) {
            Floats sums[ROWS][2] = {};
            for (int g = 0; g < groups; ++g) {
                if (panel == 0) fetch(layer, tile, h, groups, groups + g + AHEAD);
                const int block = tile.blocks[g * LANES / s.block_size];
                const long within = long(g * LANES % s.block_size) * LANES;
                const Value* const values[2] = {value_panel(layer, block, h, panel) + within,
                                                value_panel(layer, block, h, panel + 1) + within};
                multiply<T, ROWS, 2>(weight + g * LANES, context_stride, values, LANES, sums);
            }
            for (int r = 0; r < ROWS; ++r)
                write_attended(attended, tile, h, r, panel, sums[r][0] * inverse[r], sums[r][1] * inverse[r]);
        }
    }

    void write_attended(Value* attended, const Tile& tile, int h, int r, int panel, Floats first, Floats second) {
        const size_t head = size_t(tile.row + r / group) * s.heads + h * group + r % group;
        Value* to = attended + head * s.head_size + panel * LANES;
        T::store16(to, first);
        T::store16(to + LANES, second);
    }

#if defined(ISTHMUS_AMX)
    // A prefill's tile of up to 32 rows: scores and sums are products of AMX.
    void attend_wide_tile(const LayerAddresses& layer, const Tile& tile, int h, Value* attended, int member) {
        float* score = &scores[size_t(member) * TILE_ROWS * context_stride];
        Value* weight = &weights[size_t(member) * TILE_ROWS * context_stride];
        const int rows = tile.tokens * group;
        const int groups = (tile.position + tile.tokens + LANES - 1) / LANES;
        const int paired = (groups + 1) / 2 * 2;  // the last pair's second group may have no weight
        const Value* query = &queries[(size_t(h) * b.tokens + tile.row) * group * s.head_size];
        for (int g = 0; g < paired; g += 2) {
            const Value* first = keys_of(layer, tile, h, g);
            const Value* second = keys_of(layer, tile, h, std::min(g + 1, groups - 1));
            multiply_rows_amx(
                query, s.head_size, rows, s.head_size,
                [&](int k) { load_panels(first + long(k) * LANES, second + long(k) * LANES); },
                score + g * LANES, {context_stride, LANES, TILE * context_stride});
        }
        float inverse[TILE_ROWS];
        for (int r = 0; r < rows; ++r)
            inverse[r] = soften(score + r * context_stride, tile.position + r / group + 1, paired,
                                weight + r * context_stride);
        for (int panel = 0; panel < s.head_size / LANES; panel += 2) {
            alignas(64) float sums[4 * TILE * LANES];
            multiply_rows_amx(
                weight, context_stride, rows, paired * LANES,
                [&](int k) { load_values(layer, tile, h, panel, k / LANES, groups); }, sums, TILE_BY_TILE);
            for (int r = 0; r < rows; ++r) {
                const float* at = sums + (r / TILE * 2 * TILE + r % TILE) * LANES;
                write_attended(attended, tile, h, r, panel, load<Floats>(at) * inverse[r],
                               load<Floats>(at + TILE * LANES) * inverse[r]);
            }
        }
    }

    // Two groups of 16 tokens are one tile's depth. They may lie in two blocks, so they are copied.
    void load_values(const LayerAddresses& layer, const Tile& tile, int h, int panel, int g, int groups) const {
        alignas(64) Value copy[2][2][LANES * LANES];
        for (int j = 0; j < 2; ++j) {
            const int token = std::min(g + j, groups - 1) * LANES, block = tile.blocks[token / s.block_size];
            for (int p = 0; p < 2; ++p)
                std::memcpy(copy[p][j], value_panel(layer, block, h, panel + p) + token % s.block_size * LANES,
                            sizeof copy[p][j]);
        }
        load_panels(copy[0][0], copy[1][0]);
    }
#else
    void attend_wide_tile(const LayerAddresses&, const Tile&, int, Value*, int) {}
#endif

    // The keys of group g of 16 tokens of a tile's sequence.
    const Value* keys_of(const LayerAddresses& layer, const Tile& tile, int h, int g) const {
        const int token = g * LANES;
        return key_group(layer, tile.blocks[token / s.block_size], h, token % s.block_size / LANES);
    }

    // score[r][token] = query r . key of the token, for whole groups of 16 tokens.
    template <int ROWS>
    void score_rows(const LayerAddresses& layer, const Tile& tile, int h, int groups, float* score) {
        const Value* query = &queries[(size_t(h) * b.tokens + tile.row) * group * s.head_size];
        for (int g = 0; g < groups; g += 2) {
            for (int j = 0; j < 2; ++j) fetch(layer, tile, h, groups, g + j + AHEAD);
            const Value* const panels[2] = {keys_of(layer, tile, h, g),
                                            keys_of(layer, tile, h, std::min(g + 1, groups - 1))};
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

    const Shape s;
    const float *cosines, *sines;
    const int members;
    const int group;  // query heads for each key-value head
    const long context_stride;

    Batch b{};
    std::vector<Tile> tiles;
    std::vector<int> positions, slots;
    std::vector<Value> queries;
    // Of each member, for the rows of one tile:
    std::vector<float> scores;
    std::vector<Value> weights;
};

}  // namespace isthmus
