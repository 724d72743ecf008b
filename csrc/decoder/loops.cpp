#include "decoder/loops.hpp"

#include <cstring>

#include "sampling/level.hpp"

namespace edgespec::decoder {

extern const Loops baseline_loops;
#if defined(__x86_64__)
extern const Loops avx2_loops, avx512_loops;
#endif

const Loops* find_loops(const char* level) {
#if defined(__x86_64__)
    static const Loops* const all[] = {&avx512_loops, &avx2_loops, &baseline_loops};
#else
    static const Loops* const all[] = {&baseline_loops};
#endif
    for (const Loops* loops : all) {
        const bool wanted = *level == '\0' || std::strcmp(loops->name, level) == 0;
        if (wanted && sampling::find_level(loops->name) != nullptr) return loops;
    }
    return nullptr;
}

}  // namespace edgespec::decoder
