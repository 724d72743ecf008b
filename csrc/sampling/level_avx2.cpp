#define EDGESPEC_LEVEL avx2_level
#define EDGESPEC_LEVEL_NAME "avx2"
#define EDGESPEC_LANE_BYTES 32
#include "sampling/level_loops.hpp"
