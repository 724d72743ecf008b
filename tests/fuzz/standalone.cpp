// A main for compilers without libFuzzer: the corpus, and seeded mutations of it. `TARGET COUNT FILE...`
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes);

namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes read(const char* name) {
    std::ifstream file(name, std::ios::binary);
    return Bytes(std::istreambuf_iterator<char>(file), {});
}

// A few bytes changed, removed, repeated, or the whole followed by another.
Bytes mutated(const std::vector<Bytes>& corpus, std::mt19937& random) {
    const auto any = [&](std::size_t below) { return below == 0 ? 0 : random() % below; };
    Bytes bytes = corpus[any(corpus.size())];
    for (std::size_t change = 1 + any(4); change > 0; --change) {
        const std::size_t at = any(bytes.size() + 1);
        const auto where = bytes.begin() + static_cast<std::ptrdiff_t>(at);
        switch (any(5)) {
            case 0:
                if (at < bytes.size()) bytes[at] ^= static_cast<std::uint8_t>(1u << any(8));
                break;
            case 1:
                if (at < bytes.size()) bytes[at] = static_cast<std::uint8_t>(random());
                break;
            case 2:
                bytes.erase(where, where + static_cast<std::ptrdiff_t>(any(bytes.size() - at + 1)));
                break;
            case 3:
                bytes.insert(where, static_cast<std::uint8_t>(random()));
                break;
            default: {
                const Bytes& other = corpus[any(corpus.size())];
                bytes.insert(where, other.begin(), other.end());
            }
        }
    }
    return bytes;
}

}  // namespace

int main(int count, char** arguments) {
    std::vector<Bytes> corpus{{}};
    for (int i = 2; i < count; ++i) corpus.push_back(read(arguments[i]));
    for (const Bytes& bytes : corpus) LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    std::mt19937 random(1);
    const long runs = count > 1 ? std::atol(arguments[1]) : 0;
    for (long run = 0; run < runs; ++run) {
        const Bytes bytes = mutated(corpus, random);
        LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    }
    std::cout << corpus.size() << " inputs and " << runs << " mutations\n";
}
