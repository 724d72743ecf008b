#define EDGESPEC_LEVEL baseline_level
#define EDGESPEC_LEVEL_NAME "baseline"
#define EDGESPEC_LANE_BYTES 16
#include "sampling/level_loops.hpp"
