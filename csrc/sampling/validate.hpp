// What is wrong with the values of `verify`'s arguments, if anything, in words: which one, what is expected, what came.
#pragma once

#include <cstddef>
#include <string>

#include "sampling/verify.hpp"

namespace edgespec::sampling {

// How many ids each of the input's lists has in all.
struct ListSizes {
    std::size_t seen, biases;
};

// Of arrays whose sizes fit; the logits are not read. Empty: nothing is wrong.
std::string validate(const VerifyInput& input, const ListSizes& sizes);

}  // namespace edgespec::sampling
