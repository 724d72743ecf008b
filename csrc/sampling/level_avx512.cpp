#define EDGESPEC_LEVEL avx512_level
#define EDGESPEC_LEVEL_NAME "avx512"
#define EDGESPEC_LANE_BYTES 64
#include "sampling/level_loops.hpp"
