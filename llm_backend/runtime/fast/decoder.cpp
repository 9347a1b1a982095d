// A whole step of a Llama-shaped decoder on the CPU: every member of a thread team runs `Step::run`
// side by side, does its share of each operation and waits at a barrier for the next.

#include <vector>

#include "attention.h"
#include "gemm.h"
#include "interface.h"
#include "ranks.h"
#include "team.h"
#include "vector.h"

namespace isthmus {

template <class T>
class Decoder {
    using Value = typename T::Value;

  public:
    Decoder(const Shape& shape, const ModelAddresses& model, int threads, AllReduce all_reduce)
        : s(shape),
          model(model),
          layers(model.layers, model.layers + shape.layers),
          team(threads),
          rank_sum(shape, model, all_reduce),
          attention(shape, model, threads),
          queues(shape.layers * QUEUES + 1) {
        const size_t n = shape.max_tokens + OVERREAD_ROWS;
        residual.resize(n * s.hidden);
        normed.resize(n * s.hidden);
        qkv.resize(n * (s.heads + 2 * s.kv_heads) * s.head_size);
        attended.resize(n * s.heads * s.head_size);
        gated.resize(n * s.intermediate);
    }

    void step(const Batch& batch, float* logits) {
        b = batch;
        attention.lay_out(batch);
        for (Queue& queue : queues) queue.reset();
        team.run([&](int member) { run(member, logits); });
    }

  private:
    // What all members run side by side.

    void run(int member, float* logits) {
        const Tiles tiles;
        embed(member);
        for (int i = 0; i < s.layers; ++i) {
            const LayerAddresses& layer = layers[i];
            Queue* queue = &queues[i * QUEUES];
            normalize(layer.attention_norm, member);
            project_qkv(layer, tiles, queue[QKV]);
            attention.rotate_and_cache(layer, qkv.data(), member);
            team.barrier();
            attention.attend(layer, queue[ATTENTION], attended.data(), member);
            team.barrier();
            project_back(attended.data(), s.heads * s.head_size, layer.output, tiles, queue[OUTPUT], member);
            normalize(layer.mlp_norm, member);
            project_gate_up(layer, tiles, queue[GATE_UP]);
            project_back(gated.data(), s.intermediate, layer.down, tiles, queue[DOWN], member);
        }
        project_vocabulary(logits, tiles, member);
    }

    void embed(int member) {
        const Value* embedding = static_cast<const Value*>(model.embedding);
        const Share rows(b.tokens, member, team.size());
        std::vector<Value> unpacked(s.hidden);
        for (int t = rows.begin; t < rows.end; ++t) {
            const Value* row = embedding ? embedding + long(b.ids[t]) * s.hidden : unpacked.data();
            if (!embedding) unpack<T>(static_cast<const Value*>(model.head), b.ids[t], s.hidden, unpacked.data());
            for (int i = 0; i < s.hidden; i += LANES)
                store(&residual[size_t(t) * s.hidden + i], T::load16(row + i));
        }
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

    void project_qkv(const LayerAddresses& layer, const Tiles& tiles, Queue& queue) {
        const int width = (s.heads + 2 * s.kv_heads) * s.head_size;
        gemm<T>(normed.data(), s.hidden, b.tokens, s.hidden, static_cast<const Value*>(layer.qkv), width,
                team.size(), tiles, queue, [&](int row, int pair, Floats first, Floats second) {
                    float* to = &qkv[size_t(row) * width + pair * 2 * LANES];
                    store(to, first);
                    store(to + LANES, second);
                });
        team.barrier();
    }

    // residual += a x weights, added up over the ranks.
    void project_back(const Value* a, int depth, const void* weights, const Tiles& tiles, Queue& queue,
                      int member) {
        const bool shared = s.ranks > 1;
        float* to = shared ? rank_sum.part() : residual.data();
        gemm<T>(a, depth, b.tokens, depth, static_cast<const Value*>(weights), s.hidden, team.size(), tiles, queue,
                [&](int row, int pair, Floats first, Floats second) {
                    float* at = to + size_t(row) * s.hidden + pair * 2 * LANES;
                    store(at, shared ? first : load<Floats>(at) + first);
                    store(at + LANES, shared ? second : load<Floats>(at + LANES) + second);
                });
        team.barrier();
        if (shared) add_ranks(member);
    }

    void add_ranks(int member) {
        if (member == 0) rank_sum.exchange(b.tokens);
        team.barrier();
        const Share rows(b.tokens, member, team.size());
        for (long i = long(rows.begin) * s.hidden; i < long(rows.end) * s.hidden; i += LANES)
            store(&residual[i], load<Floats>(&residual[i]) + rank_sum.at(i));
        team.barrier();
    }

    void project_gate_up(const LayerAddresses& layer, const Tiles& tiles, Queue& queue) {
        gemm<T>(normed.data(), s.hidden, b.tokens, s.hidden, static_cast<const Value*>(layer.gate_up),
                2 * s.intermediate, team.size(), tiles, queue, [&](int row, int pair, Floats gate, Floats up) {
                    const Floats silu = gate / (1.0f + exponential(-gate));
                    T::store16(&gated[size_t(row) * s.intermediate + pair * LANES], silu * up);
                });
        team.barrier();
    }

    void project_vocabulary(float* logits, const Tiles& tiles, int member) {
        const Share rows(b.sampled, member, team.size());
        for (int i = rows.begin; i < rows.end; ++i)
            normalize_row(b.sampled_rows[i], model.final_norm, &normed[size_t(i) * s.hidden]);
        team.barrier();
        float* part = rank_sum.logits(logits);
        gemm<T>(normed.data() + s.head_begin, s.hidden, b.sampled, s.head_depth,
                static_cast<const Value*>(model.head), s.columns, team.size(), tiles, queues.back(),
                [&](int row, int pair, Floats first, Floats second) {
                    float* to = part + size_t(row) * s.columns + pair * 2 * LANES;
                    store(to, first);
                    store(to + LANES, second);
                });
        if (model.shared) add_logits(logits, member);
    }

    // Only rank 0 samples, so only it adds up.
    void add_logits(float* logits, int member) {
        team.barrier();
        if (member == 0) rank_sum.exchange(b.sampled);
        team.barrier();
        if (s.rank > 0) return;
        const Share rows(b.sampled, member, team.size());
        const long begin = long(rows.begin) * s.columns, end = long(rows.end) * s.columns;
        for (int rank = 1; rank < s.ranks; ++rank) {
            const float* other = rank_sum.logits_of(rank);
            for (long i = begin; i < end; i += LANES)
                store(logits + i, load<Floats>(logits + i) + load<Floats>(other + i));
        }
    }

    const Shape s;
    const ModelAddresses model;
    const std::vector<LayerAddresses> layers;
    Team team;
    RankSum rank_sum;
    Attention<T> attention;
    std::vector<Queue> queues;  // one for each operation of a step that is shared out piecemeal
    enum { QKV, ATTENTION, OUTPUT, GATE_UP, DOWN, QUEUES };

    Batch b{};
    std::vector<float> residual, qkv;
    std::vector<Value> normed, attended, gated;
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
