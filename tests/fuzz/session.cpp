// Fuzzes a session's state: the bytes are a programme of sends, stalls, cuts and new paths
// (tests/cpp/delivery_rig.hpp), whose frames must each arrive once and in order.
#include "../cpp/delivery_rig.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    if (bytes <= 200) edgespec::test::DeliveryRig().run(data, bytes);
    return 0;
}
