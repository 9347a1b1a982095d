// Matrix products with weights packed in panels of 16 columns: [columns / 16][depth / STEP][16][STEP].
#pragma once

#include <algorithm>
#include <type_traits>

#include "amx.h"
#include "team.h"
#include "vector.h"

namespace isthmus {

constexpr int PIECES = 4;  // of a product for each member: enough to even out, few enough to stream
constexpr int MAX_ROWS = 12;  // 12 rows x 2 panels of sums fill 24 of the 32 vector registers

// sums[r][p] += rows a[r] x panel b[p], over `depth`.
template <class T, int ROWS, int PANELS>
inline void multiply(const typename T::Value* a, long stride, const typename T::Value* const (&b)[PANELS],
                     int depth, Floats (&sums)[ROWS][PANELS]) {
    for (int k = 0; k < depth; k += T::STEP) {
        typename T::Column column[PANELS];
        for (int p = 0; p < PANELS; ++p) column[p] = T::column(b[p] + long(k) * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; ++r) {
            const auto row = T::row(a + r * stride + k);
            for (int p = 0; p < PANELS; ++p) sums[r][p] = T::multiply(sums[r][p], row, column[p]);
        }
    }
}

// Call `body.template operator()<ROWS>()` with ROWS = rows, which is at most MAX_ROWS.
template <class Body>
inline void with_rows(int rows, Body&& body) {
    switch (rows) {
        case 1: return body.template operator()<1>();
        case 2: return body.template operator()<2>();
        case 3: return body.template operator()<3>();
        case 4: return body.template operator()<4>();
        case 5: return body.template operator()<5>();
        case 6: return body.template operator()<6>();
        case 7: return body.template operator()<7>();
        case 8: return body.template operator()<8>();
        case 9: return body.template operator()<9>();
        case 10: return body.template operator()<10>();
        case 11: return body.template operator()<11>();
        default: return body.template operator()<12>();
    }
}

// One pair of panels for all rows.
template <class T, class Emit>
inline void multiply_pair(const typename T::Value* a, long stride, int rows, int depth,
                          const typename T::Value* first, int pair, Emit& emit) {
    const typename T::Value* const panels[2] = {first, first + long(LANES) * depth};
    for (int row = 0; row < rows; row += MAX_ROWS) {
        with_rows(std::min(rows - row, MAX_ROWS), [&]<int ROWS>() {
            Floats sums[ROWS][2] = {};
            multiply<T, ROWS, 2>(a + row * stride, stride, panels, depth, sums);
            for (int r = 0; r < ROWS; ++r) emit(row + r, pair, sums[r][0], sums[r][1]);
        });
    }
}

// A member's part of `a` [rows, depth], `stride` apart, x packed weights: members take pairs of
// panels from the queue. `emit(row, pair, first, second)` gets the 16 sums of each panel of a pair.
template <class T, class Emit>
inline void gemm(const typename T::Value* a, long stride, int rows, int depth,
                 const typename T::Value* weights, int columns, int members, const Tiles& tiles, Queue& queue,
                 Emit&& emit) {
    const int pairs = columns / (2 * LANES);
    const int piece = std::max(1, pairs / (members * PIECES));
    for (int begin, end; queue.take(pairs, piece, begin, end);)
        for (int pair = begin; pair < end; ++pair) {
            const auto* first = weights + long(pair) * 2 * LANES * depth;
            if constexpr (std::is_same_v<T, BFloat16>)
                if (tiles.take(rows, depth)) {
                    multiply_pair_amx(a, stride, rows, depth, first, pair, emit);
                    continue;
                }
            multiply_pair<T>(a, stride, rows, depth, first, pair, emit);
        }
}

// Pack `weights` [columns, depth] into panels.
template <class T>
inline void pack(const typename T::Value* weights, int columns, int depth, typename T::Value* packed) {
    for (int column = 0; column < columns; ++column) {
        auto* panel = packed + long(column / LANES) * LANES * depth + column % LANES * T::STEP;
        for (int k = 0; k < depth; ++k)
            panel[long(k / T::STEP) * LANES * T::STEP + k % T::STEP] = weights[long(column) * depth + k];
    }
}

// Take one column [depth] out of the panels again.
template <class T>
inline void unpack(const typename T::Value* packed, int column, int depth, typename T::Value* to) {
    const auto* panel = packed + long(column / LANES) * LANES * depth + column % LANES * T::STEP;
    for (int k = 0; k < depth; ++k) to[k] = panel[long(k / T::STEP) * LANES * T::STEP + k % T::STEP];
}

}  // namespace isthmus
