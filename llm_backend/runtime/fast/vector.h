// Sixteen lanes at a time, in GCC's portable vector types. The compiler lowers them to AVX-512,
// AVX2, NEON or whatever the machine has; the one instruction that it cannot find by itself, the
// bf16 dot product of AVX512_BF16, is named where the machine has it.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace isthmus {

constexpr int LANES = 16;
constexpr int LINE = 64;  // bytes of the processor's cache
using Floats = float __attribute__((vector_size(64)));
using Ints = int32_t __attribute__((vector_size(64)));
using Words = uint32_t __attribute__((vector_size(64)));
using Halves = uint16_t __attribute__((vector_size(32)));

template <class V>
inline V load(const void* from) {
    V v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <class V>
inline void store(void* to, V v) {
    std::memcpy(to, &v, sizeof v);
}

inline Floats splat(float x) { return Floats{} + x; }

inline float sum(Floats v) {
    float total = 0;
    for (int i = 0; i < LANES; ++i) total += v[i];
    return total;
}

inline float largest(Floats v) {
    float top = v[0];
    for (int i = 1; i < LANES; ++i) top = v[i] > top ? v[i] : top;
    return top;
}

// e^x to within 2 units in the last place; 0 below -87. Cephes' polynomial on [-ln2/2, ln2/2].
inline Floats exponential(Floats x) {
    const Ints small = x < -87.0f;
    x = x < -87.0f ? splat(-87.0f) : x;
    x = x > 88.0f ? splat(88.0f) : x;
    const Ints n = __builtin_convertvector(x * 1.44269504f + (x < 0.0f ? splat(-0.5f) : splat(0.5f)), Ints);
    const Floats k = __builtin_convertvector(n, Floats);
    const Floats r = x - k * 0.693359375f + k * 2.12194440e-4f;
    Floats p = splat(1.9875691500e-4f);
    for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        p = p * r + c;
    p = p * r * r + r + 1.0f;
    const Floats power = (Floats)((n + 127) << 23);
    return small ? Floats{} : p * power;
}

// A number format of weights, activations and cache. STEP values lie next to each other in a
// packed panel and are multiplied together: two for bf16, as the instruction wants them.
struct Float32 {
    using Value = float;
    using Column = Floats;  // one step of 16 columns
    using Row = Floats;     // one step of a row, in all lanes
    static constexpr int STEP = 1;

    static Column column(const Value* b) { return load<Floats>(b); }
    static Row row(const Value* a) { return splat(*a); }
    static Floats multiply(Floats sum, Row a, Column b) { return sum + a * b; }
    static void store16(Value* to, Floats v) { store(to, v); }
    static Floats load16(const Value* from) { return load<Floats>(from); }
    static Value narrow(float x) { return x; }
};

struct BFloat16 {
    using Value = uint16_t;
    static constexpr int STEP = 2;
#if defined(__AVX512BF16__)
    using Column = __m512bh;
    using Row = __m512bh;
    static Column column(const Value* b) { return (__m512bh)_mm512_loadu_si512(b); }
    static Row row(const Value* a) {
        int32_t pair;
        std::memcpy(&pair, a, sizeof pair);
        return (__m512bh)_mm512_set1_epi32(pair);
    }
    static Floats multiply(Floats sum, Row a, Column b) {
        return (Floats)_mm512_dpbf16_ps((__m512)sum, a, b);
    }
#else
    struct Column {
        Floats low, high;
    };
    struct Row {
        Floats low, high;
    };
    static Column column(const Value* b) {
        const Words pairs = load<Words>(b);
        return {(Floats)(pairs << 16), (Floats)(pairs & 0xffff0000u)};
    }
    static Row row(const Value* a) { return {splat(widen(a[0])), splat(widen(a[1]))}; }
    static Floats multiply(Floats sum, Row a, Column b) {
        return sum + a.low * b.low + a.high * b.high;
    }
#endif
    static float widen(Value x) {
        const uint32_t bits = uint32_t(x) << 16;
        float f;
        std::memcpy(&f, &bits, sizeof f);
        return f;
    }
    // Round to nearest, ties to even. Not-a-number stays one: its payload's top bit is set.
    static Value narrow(float x) {
        uint32_t bits;
        std::memcpy(&bits, &x, sizeof bits);
        if (x != x) return uint16_t(bits >> 16 | 0x40);
        return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
    static void store16(Value* to, Floats v) {
        const Words bits = (Words)v;
        const Words rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        const Words nan = bits >> 16 | 0x40;
        store(to, __builtin_convertvector(v == v ? rounded : nan, Halves));
    }
    static Floats load16(const Value* from) {
        return (Floats)(__builtin_convertvector(load<Halves>(from), Words) << 16);
    }
};

}  // namespace isthmus
