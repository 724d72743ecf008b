#define EDGESPEC_LOOPS avx2_loops
#define EDGESPEC_LOOPS_NAME "avx2"
#define EDGESPEC_LANE_BYTES 32
#include "decoder/loops_of_level.hpp"
