// Intel AMX: products of bf16 tiles, 16 rows x 16 columns x 32 deep in one instruction. The panels
// that weights are packed in are its tiles already: 16 pairs of values of 16 columns, 64 bytes each.
#pragma once

#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__linux__)
#define ISTHMUS_AMX 1
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstdint>

#include "vector.h"

namespace isthmus {

constexpr int TILE = 16;        // rows and columns of a product of tiles
constexpr int TILE_DEPTH = 32;  // bf16 values of a tile's row
constexpr int AMX_ROWS = 4;     // fewer are as fast through AVX512_BF16, one by one

// Rows that may be read beyond the last one of a product's left side.
#if defined(ISTHMUS_AMX)
constexpr int OVERREAD_ROWS = 2 * TILE - 1;

// Whether this process may use AMX. Linux wants to be asked: tiles make a context switch dearer.
inline bool amx_allowed() {
    constexpr long REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;  // arch_prctl(2)
    static const bool allowed = syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
    return allowed;
}

// While it lives, the calling thread's eight tile registers are 16 rows of 64 bytes.
class Tiles {
  public:
    Tiles() : allowed_(amx_allowed()) {
        struct alignas(64) {
            uint8_t palette = 1, start_row = 0, reserved[14] = {};
            uint16_t row_bytes[16] = {};
            uint8_t rows[16] = {};
        } config;
        for (int i = 0; i < 8; ++i) config.row_bytes[i] = 64, config.rows[i] = TILE;
        if (allowed_) _tile_loadconfig(&config);
    }
    ~Tiles() {
        if (allowed_) _tile_release();
    }

    // Whether a product of `rows` is to be computed here.
    bool take(int rows, int depth) const { return allowed_ && rows >= AMX_ROWS && depth % TILE_DEPTH == 0; }

  private:
    const bool allowed_;
};

// Where the sums of rows and a pair of panels go: floats from one row, panel or block of 16 rows to the next.
struct SumLayout {
    long row, panel, block;
};
constexpr SumLayout TILE_BY_TILE = {LANES, TILE * LANES, 2 * TILE * LANES};

// Sums of 16 or 32 rows of `a` and a pair of panels. `load(k)` fetches 32 deep of these into tiles 6 and 7.
template <int BLOCKS, class Load>
inline void multiply_tiles(const uint16_t* a, long stride, int depth, Load&& load, float* sums,
                           const SumLayout& layout) {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (BLOCKS == 2) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int k = 0; k < depth; k += TILE_DEPTH) {
        _tile_loadd(4, a + k, stride * sizeof *a);
        load(k);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if constexpr (BLOCKS == 2) {
            _tile_loadd(5, a + k + TILE * stride, stride * sizeof *a);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    const long bytes = layout.row * sizeof *sums;
    _tile_stored(0, sums, bytes);
    _tile_stored(1, sums + layout.panel, bytes);
    if constexpr (BLOCKS == 2) {
        _tile_stored(2, sums + layout.block, bytes);
        _tile_stored(3, sums + layout.block + layout.panel, bytes);
    }
}

// The same for up to 32 `rows`. Reads up to OVERREAD_ROWS rows of `a` too many.
template <class Load>
inline void multiply_rows_amx(const uint16_t* a, long stride, int rows, int depth, Load&& load, float* sums,
                              const SumLayout& layout) {
    if (rows > TILE)
        multiply_tiles<2>(a, stride, depth, load, sums, layout);
    else
        multiply_tiles<1>(a, stride, depth, load, sums, layout);
}

// Fetch 32 deep of two panels.
inline void load_panels(const uint16_t* first, const uint16_t* second) {
    _tile_loadd(6, first, 64);
    _tile_loadd(7, second, 64);
}

// As `multiply_pair` of gemm.h. Reads up to OVERREAD_ROWS rows of `a` too many.
template <class Emit>
inline void multiply_pair_amx(const uint16_t* a, long stride, int rows, int depth, const uint16_t* first,
                              int pair, Emit& emit) {
    const uint16_t* second = first + long(LANES) * depth;
    alignas(64) float sums[4 * TILE * LANES];
    for (int row = 0; row < rows; row += 2 * TILE) {
        multiply_rows_amx(
            a + row * stride, stride, rows - row, depth,
            [&](int k) { load_panels(first + long(k) * LANES, second + long(k) * LANES); }, sums, TILE_BY_TILE);
        for (int r = 0; r < 2 * TILE && row + r < rows; ++r) {
            const float* at = sums + (r / TILE * 2 * TILE + r % TILE) * LANES;
            emit(row + r, pair, load<Floats>(at), load<Floats>(at + TILE * LANES));
        }
    }
}
#else
constexpr int OVERREAD_ROWS = 0;

inline bool amx_allowed() { return false; }

class Tiles {
  public:
    bool take(int, int) const { return false; }
};

template <class Emit>
inline void multiply_pair_amx(const uint16_t*, long, int, int, const uint16_t*, int, Emit&) {}
#endif

}  // namespace isthmus
