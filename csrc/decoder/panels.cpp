#include "decoder/panels.hpp"

#include <cstring>
#include <new>

namespace edgespec::decoder {

namespace {

constexpr std::size_t kHalf = Panels::kOutputs / 2;
constexpr std::align_val_t kCacheLine{64};

std::uint32_t bits_of(float weight) {
    std::uint32_t bits;
    std::memcpy(&bits, &weight, sizeof bits);
    return bits;
}

bool fit_bfloat16(const Panels::Rows& matrix, std::size_t inputs) {
    std::uint32_t lost = 0;
    for (std::size_t i = 0; i < matrix.outputs * inputs; ++i) lost |= bits_of(matrix.weights[i]);
    return (lost & 0xffffu) == 0;
}

}  // namespace

Panels::Panels(const std::vector<Rows>& matrices, std::size_t inputs) : inputs_(inputs) {
    for (const Rows& matrix : matrices) {
        outputs_ += matrix.outputs;
        narrow_ = narrow_ && fit_bfloat16(matrix, inputs);
    }
    const std::size_t bytes = count() * kOutputs * inputs_ * (narrow_ ? sizeof(std::uint16_t) : sizeof(float));
    data_ = {static_cast<char*>(::operator new(bytes, kCacheLine)),
             [](char* data) { ::operator delete(data, kCacheLine); }};
    std::memset(data_.get(), 0, bytes);
    auto* halves = reinterpret_cast<std::uint16_t*>(data_.get());
    auto* floats = reinterpret_cast<float*>(data_.get());
    std::size_t output = 0;
    for (const Rows& matrix : matrices) {
        for (std::size_t row = 0; row < matrix.outputs; ++row, ++output) {
            const float* from = matrix.weights + row * inputs_;
            const std::size_t base = output / kOutputs * kOutputs * inputs_, place = output % kOutputs;
            const std::size_t half_place = place % kHalf * 2 + place / kHalf;
            for (std::size_t d = 0; d < inputs_; ++d) {
                if (narrow_) {
                    halves[base + d * kOutputs + half_place] = static_cast<std::uint16_t>(bits_of(from[d]) >> 16);
                } else {
                    floats[base + d * kOutputs + place] = from[d];
                }
            }
        }
    }
}

}  // namespace edgespec::decoder
