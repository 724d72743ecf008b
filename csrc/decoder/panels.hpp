// Weights in panels: what the products read one after the other lies one after the other.
//
// A panel is 32 outputs by all inputs; for each input its 32 weights follow each other. Where bfloat16 holds every
// weight exactly a panel is of bfloat16, output i and output i + 16 in the low and the high half of word i: each half
// is a float32 after one shift or one mask. Otherwise it is of float32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "simd/tier.hpp"

namespace edgespec::decoder {

class Panels {
 public:
    static constexpr std::size_t kOutputs = simd::kPanelOutputs;

    // Rows of weights float32 [outputs, inputs], matrix after matrix; copied.
    struct Rows {
        const float* weights;
        std::size_t outputs;
    };
    Panels(const std::vector<Rows>& matrices, std::size_t inputs);

    bool narrow() const { return narrow_; }
    std::size_t inputs() const { return inputs_; }
    std::size_t outputs() const { return outputs_; }
    // Panels, the last of which may have outputs to spare, whose weights are 0.
    std::size_t count() const { return (outputs_ + kOutputs - 1) / kOutputs; }
    const void* panel(std::size_t index) const {
        return data_.get() + index * kOutputs * inputs_ * (narrow_ ? sizeof(std::uint16_t) : sizeof(float));
    }

 private:
    std::size_t inputs_, outputs_ = 0;
    bool narrow_ = true;
    std::shared_ptr<char> data_;
};

}  // namespace edgespec::decoder
