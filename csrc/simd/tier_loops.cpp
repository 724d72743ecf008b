// The loops of one tier: compiled once for each, see lanes.hpp.
#include "simd/attention.hpp"
#include "simd/choice.hpp"
#include "simd/layer_loops.hpp"
#include "simd/panel_products.hpp"
#include "simd/row_loops.hpp"
#include "simd/row_products.hpp"

#define EDGESPEC_TEXT_OF(name) #name
#define EDGESPEC_NAME_OF(name) EDGESPEC_TEXT_OF(name)

namespace edgespec::simd::EDGESPEC_TIER {

namespace {

template <class T>
constexpr RowLoops<T> kRowLoops{divide<T>, add_mass<T>,  choose<T>,  choose_listed<T>,
                                weigh<T>,  mass_from<T>, collect<T>, mask<T>};

}  // namespace

extern const Tier tier;
const Tier tier{EDGESPEC_NAME_OF(EDGESPEC_TIER),
                packed_bytes,
                pack,
                multiply,
                widen,
                kRowLoops<float>,
                kRowLoops<double>,
                {multiply_panels, norm, rotate, score_keys, weigh_scores, mix_values, gate, add}};

}  // namespace edgespec::simd::EDGESPEC_TIER
