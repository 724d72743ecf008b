// Rows times weights that lie in panels (decoder/panels.hpp).
//
// A tile of sums, kRows rows of x by kPanels panels, stays in registers while the panels go by once, in the order in
// which they lie. Each sum adds its products in the order of the inputs, whatever else is computed beside it.
#pragma once

#include "simd/lanes.hpp"
#include "simd/tier.hpp"

namespace edgespec::simd::EDGESPEC_TIER {

// Vectors of floats in half a panel; a panel's words hold output i in their low half and i + 16 in their high one.
constexpr int kHalf = kPanelOutputs / 2 / kLanes;

struct NarrowPanel {
    using Element = std::uint16_t;
    static EDGESPEC_INLINE void read(const Element* panel, int half, Floats& low, Floats& high) {
        const Words both = load<Words>(panel + half * kLanes * 2);
        low = low_halves(both);
        high = high_halves(both);
    }
};

struct WidePanel {
    using Element = float;
    static EDGESPEC_INLINE void read(const Element* panel, int half, Floats& low, Floats& high) {
        low = load<Floats>(panel + half * kLanes);
        high = load<Floats>(panel + kPanelOutputs / 2 + half * kLanes);
    }
};

// Part `half` of each of kPanels panels, the i-th of which begins at panels + i * inputs * kPanel.
template <class Weight, int kPanels, int kRows>
EDGESPEC_INLINE void multiply_panel_tile(const typename Weight::Element* panels, std::size_t inputs, int half,
                                         const float* x, float* out, std::size_t stride) {
    Floats low[kPanels][kRows] = {}, high[kPanels][kRows] = {};
    for (std::size_t d = 0; d < inputs; ++d) {
        EDGESPEC_UNROLL
        for (int p = 0; p < kPanels; ++p) {
            const typename Weight::Element* from = panels + (p * inputs + d) * kPanelOutputs;
            Floats even, odd;
            Weight::read(from, half, even, odd);
            EDGESPEC_UNROLL
            for (int r = 0; r < kRows; ++r) {
                const float factor = x[r * inputs + d];
                low[p][r] += factor * even;
                high[p][r] += factor * odd;
            }
        }
    }
    for (int p = 0; p < kPanels; ++p) {
        for (int r = 0; r < kRows; ++r) {
            float* to = out + r * stride + p * kPanelOutputs + half * kLanes;
            store(to, low[p][r]);
            store(to + kPanelOutputs / 2, high[p][r]);
        }
    }
}

template <class Weight, int kPanels, int kRows>
EDGESPEC_INLINE void multiply_rows_of(const typename Weight::Element* panels, std::size_t inputs, std::size_t count,
                                      const float* x, float* out, std::size_t stride) {
    std::size_t panel = 0;
    for (; panel + kPanels <= count; panel += kPanels) {
        for (int half = 0; half < kHalf; ++half) {
            multiply_panel_tile<Weight, kPanels, kRows>(panels + panel * inputs * kPanelOutputs, inputs, half, x,
                                                        out + panel * kPanelOutputs, stride);
        }
    }
    for (; panel < count; ++panel) {
        for (int half = 0; half < kHalf; ++half) {
            multiply_panel_tile<Weight, 1, kRows>(panels + panel * inputs * kPanelOutputs, inputs, half, x,
                                                  out + panel * kPanelOutputs, stride);
        }
    }
}

template <class Weight>
void multiply_panels_of(const typename Weight::Element* panels, std::size_t inputs, std::size_t count, const float* x,
                        std::size_t rows, float* out, std::size_t stride) {
    // Twelve rows by a panel of two vectors fill the 32 registers of AVX-512; of 16 registers five rows fill eleven.
    constexpr int kMost = EDGESPEC_LANE_BYTES == 64 ? 12 : 4;
    for (std::size_t row = 0; row < rows;) {
        const float* from = x + row * inputs;
        float* to = out + row * stride;
        const std::size_t left = rows - row;
        if (left >= kMost) {
            multiply_rows_of<Weight, 1, kMost>(panels, inputs, count, from, to, stride);
            row += kMost;
        } else if (left >= 8 && kMost > 8) {
            multiply_rows_of<Weight, 1, 8>(panels, inputs, count, from, to, stride);
            row += 8;
        } else if (left >= 6 && kMost > 6) {
            multiply_rows_of<Weight, 2, 6>(panels, inputs, count, from, to, stride);
            row += 6;
        } else if (left >= 4 && kMost > 4) {
            multiply_rows_of<Weight, 2, 4>(panels, inputs, count, from, to, stride);
            row += 4;
        } else if (left >= 2) {
            multiply_rows_of<Weight, (kMost > 4 ? 4 : 2), 2>(panels, inputs, count, from, to, stride);
            row += 2;
        } else {
            multiply_rows_of<Weight, (kMost > 4 ? 4 : 2), 1>(panels, inputs, count, from, to, stride);
            row += 1;
        }
    }
}

inline void multiply_panels(bool narrow, const void* panels, std::size_t inputs, std::size_t count, const float* x,
                            std::size_t rows, float* out, std::size_t stride) {
    if (narrow) {
        multiply_panels_of<NarrowPanel>(static_cast<const std::uint16_t*>(panels), inputs, count, x, rows, out, stride);
    } else {
        multiply_panels_of<WidePanel>(static_cast<const float*>(panels), inputs, count, x, rows, out, stride);
    }
}

}  // namespace edgespec::simd::EDGESPEC_TIER
