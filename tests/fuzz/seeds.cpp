// Writes the first corpus: `seeds FOLDER` fills FOLDER/parser, FOLDER/session, FOLDER/peer.
#include <fstream>
#include <random>

#include "../cpp/frames.hpp"

using edgespec::test::Frame;

namespace {

void write(const std::string& name, const Frame& bytes) {
    std::ofstream(name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) return 2;
    const std::string folder = arguments[1];
    Frame all{0xff};  // for `peer`: pieces of 64 bytes, welcomed
    std::uint32_t sequence = 0;
    for (const Frame& frame : edgespec::test::one_of_each()) {
        const auto type = edgespec::wire::read_header(frame.data()).type;
        write(folder + "/parser/" + std::to_string(type), frame);
        const bool counted = edgespec::wire::is_sequenced(static_cast<edgespec::wire::FrameType>(type));
        const Frame said = counted ? edgespec::test::numbered(frame, ++sequence) : frame;
        Frame alone{0xff};
        alone.insert(alone.end(), said.begin(), said.end());
        write(folder + "/peer/" + std::to_string(type), alone);
        all.insert(all.end(), said.begin(), said.end());
    }
    write(folder + "/peer/all", all);
    write(folder + "/parser/all", Frame(all.begin() + 1, all.end()));
    std::mt19937 random(7);
    for (int i = 0; i < 8; ++i) {
        Frame program(16u + 8u * static_cast<unsigned>(i));
        for (auto& byte : program) byte = static_cast<std::uint8_t>(random());
        write(folder + "/session/" + std::to_string(i), program);
    }
}
