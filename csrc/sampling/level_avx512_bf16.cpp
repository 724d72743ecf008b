#define EDGESPEC_LEVEL avx512_bf16_level
#define EDGESPEC_LEVEL_NAME "avx512_bf16"
#define EDGESPEC_LANE_BYTES 64
#include "sampling/level_loops.hpp"
