// Matrix products with weights packed in panels of 16 columns: [columns / 16][depth / STEP][16][STEP].
#pragma once

#include "team.h"
#include "vector.h"

namespace isthmus {

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

// One member's share of `a` [rows, depth], `stride` apart, x packed weights: pairs of panels are split over the team.
// `emit(row, pair, first, second)` gets the 16 sums of each panel of the pair.
template <class T, class Emit>
inline void gemm(const typename T::Value* a, long stride, int rows, int depth, const typename T::Value* weights,
                 int columns, int member, int members, Emit&& emit) {
    using Value = typename T::Value;
    const Share pairs(columns / (2 * LANES), member, members);
    for (int pair = pairs.begin; pair < pairs.end; ++pair) {
        const Value* first = weights + long(pair) * 2 * LANES * depth;
        const Value* const panels[2] = {first, first + long(LANES) * depth};
        for (int row = 0; row < rows; row += MAX_ROWS) {
            with_rows(rows - row < MAX_ROWS ? rows - row : MAX_ROWS, [&]<int ROWS>() {
                Floats sums[ROWS][2] = {};
                multiply<T, ROWS, 2>(a + row * stride, stride, panels, depth, sums);
                for (int r = 0; r < ROWS; ++r) emit(row + r, pair, sums[r][0], sums[r][1]);
            });
        }
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

}  // namespace isthmus
