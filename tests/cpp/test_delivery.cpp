// One session over paths that come, stall and go: every frame arrives once and in order, whatever happens to them.
#include <random>

#include "delivery_rig.hpp"

int main() {
    std::mt19937 random(1);
    for (int round = 0; round < 2000; ++round) {
        std::vector<std::uint8_t> program(random() % 64);
        for (auto& byte : program) byte = static_cast<std::uint8_t>(random());
        edgespec::test::DeliveryRig().run(program.data(), program.size());
    }
}
