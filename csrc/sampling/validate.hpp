// What is wrong with the arguments of `verify`, if anything: its door in Python asks here first, and looks for words
// to say it in only where something is.
#pragma once

#include <cstddef>

#include "sampling/verify.hpp"

namespace edgespec::sampling {

// Of arrays whose sizes fit; how many ids each of the input's lists has in all. nullptr: nothing.
struct ListSizes {
    std::size_t seen, biases;
};
const char* validate(const VerifyInput& input, const ListSizes& sizes);

}  // namespace edgespec::sampling
