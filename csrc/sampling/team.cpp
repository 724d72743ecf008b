#include "sampling/team.hpp"

#include <dlfcn.h>
#include <link.h>

#include <string>

namespace edgespec::sampling {

namespace {

// The file that torch loaded it from; a process may hold another runtime of that name.
std::string torchs_runtime() {
    std::string path;
    ::dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* found) {
            const std::string name = info->dlpi_name;
            const bool torchs = name.find("libgomp") != std::string::npos && name.find("torch") != std::string::npos;
            if (torchs) *static_cast<std::string*>(found) = name;
            return torchs ? 1 : 0;
        },
        &path);
    return path;
}

}  // namespace

const Team* Team::of_torch() {
    static const Team* const team = find();  // not asked before torch is there
    return team != nullptr && team->size() > 1 ? team : nullptr;
}

std::size_t Team::size() const { return static_cast<std::size_t>(most_threads_()); }

const Team* Team::find() {
    const std::string path = torchs_runtime();
    void* runtime = path.empty() ? nullptr : ::dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
    if (runtime == nullptr) return nullptr;
    const auto parallel = reinterpret_cast<Parallel>(::dlsym(runtime, "GOMP_parallel"));
    const auto most_threads = reinterpret_cast<MostThreads>(::dlsym(runtime, "omp_get_max_threads"));
    if (parallel == nullptr || most_threads == nullptr) return nullptr;
    return new Team(parallel, most_threads);
}

}  // namespace edgespec::sampling
