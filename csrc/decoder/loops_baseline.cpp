#define EDGESPEC_LOOPS baseline_loops
#define EDGESPEC_LOOPS_NAME "baseline"
#define EDGESPEC_LANE_BYTES 16
#include "decoder/loops_of_level.hpp"
