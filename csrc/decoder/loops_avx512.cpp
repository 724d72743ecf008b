#define EDGESPEC_LOOPS avx512_loops
#define EDGESPEC_LOOPS_NAME "avx512"
#define EDGESPEC_LANE_BYTES 64
#include "decoder/loops_of_level.hpp"
