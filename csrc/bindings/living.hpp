// What Python owns and a thread runs: ended without the GIL, and before the interpreter is.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <memory>
#include <vector>

namespace edgespec::bindings {

namespace py = pybind11;

// Those that are open still, so that the interpreter does not end under their threads.
template <class T>
std::vector<std::weak_ptr<T>>& living() {
    static auto* all = new std::vector<std::weak_ptr<T>>;
    return *all;
}

// What `make` returns a unique_ptr of, owned by Python: made and destroyed without the GIL, because the latter waits
// for a thread.
template <class Make>
auto make_living(Make make) {
    using T = typename decltype(make())::element_type;
    std::unique_ptr<T> made;
    {
        const py::gil_scoped_release release;
        made = make();
    }
    std::shared_ptr<T> owned(made.release(), [](T* ended) {
        const py::gil_scoped_release release;
        delete ended;
    });
    auto& all = living<T>();
    all.erase(std::remove_if(all.begin(), all.end(), [](const auto& weak) { return weak.expired(); }), all.end());
    all.push_back(owned);
    return owned;
}

template <class T>
void end_living_at_exit(void (T::*end)()) {
    py::module_::import("atexit").attr("register")(py::cpp_function([end] {
        const auto all = living<T>();
        for (const auto& weak : all) {
            const auto alive = weak.lock();
            const py::gil_scoped_release release;
            if (alive) (*alive.*end)();
        }
    }));
}

}  // namespace edgespec::bindings
