// The decoder for Python: it holds the arrays of weights, and checks every size before a pointer is used.
#include "decoder/decoder.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <mutex>
#include <optional>

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"

namespace py = pybind11;

namespace edgespec::bindings {

namespace {

using decoder::Layer;
using decoder::Part;

// Matrices float32 [*, inputs] in a list, one below the other: `outputs` rows in all.
decoder::Panels panels_of(const py::handle& list, std::size_t outputs, std::size_t inputs, const char* what) {
    std::vector<decoder::Panels::Rows> matrices;
    std::size_t rows = 0;
    for (const py::handle& given : list.cast<py::list>()) {
        const auto array = given.cast<py::array>();
        expect(array.dtype().is(py::dtype::of<float>()) && array.ndim() == 2, what);
        expect((array.flags() & py::array::c_style) != 0, what);
        expect(static_cast<std::size_t>(array.shape(1)) == inputs, what);
        matrices.push_back({static_cast<const float*>(array.data()), static_cast<std::size_t>(array.shape(0))});
        rows += matrices.back().outputs;
    }
    expect(rows > 0 && (outputs == 0 || rows == outputs), what);
    return {matrices, inputs};
}

const float* vector_of(const py::object& object, std::size_t size, const char* what) {
    if (object.is_none()) return nullptr;
    const auto array = py::cast<py::array>(object);
    expect(array.dtype().is(py::dtype::of<float>()) && array.ndim() == 1 && (array.flags() & py::array::c_style) != 0 &&
               static_cast<std::size_t>(array.size()) == size,
           what);
    return static_cast<const float*>(array.data());
}

// A layer as Python gives it: lists of matrices attention_input, attention_output, mlp_input and mlp_output, which are
// copied; vectors, which are kept: attention_norm, mlp_norm, and
// attention_bias, query_norm, key_norm or None.
Layer layer_of(const py::tuple& arrays, const decoder::Shape& shape) {
    expect(arrays.size() == 9, "a layer is nine arrays");
    const std::size_t queries = shape.heads * shape.head_width,
                      inputs = queries + 2 * shape.kv_heads * shape.head_width;
    Layer layer{panels_of(arrays[0], inputs, shape.dim, "attention_input must be float32 [Q + 2 K, D]"),
                panels_of(arrays[1], shape.dim, queries, "attention_output must be float32 [D, Q]"),
                panels_of(arrays[2], 2 * shape.mlp_width, shape.dim, "mlp_input must be float32 [2 M, D]"),
                panels_of(arrays[3], shape.dim, shape.mlp_width, "mlp_output must be float32 [D, M]"),
                vector_of(arrays[4], shape.dim, "attention_norm must be float32 [D]"),
                vector_of(arrays[5], shape.dim, "mlp_norm must be float32 [D]"),
                vector_of(arrays[6], inputs, "attention_bias must be float32 [Q + 2 K]"),
                vector_of(arrays[7], shape.head_width, "query_norm must be float32 [W]"),
                vector_of(arrays[8], shape.head_width, "key_norm must be float32 [W]")};
    expect(layer.attention_norm != nullptr && layer.mlp_norm != nullptr, "a layer needs both norms");
    return layer;
}

class Decoder {
 public:
    Decoder(std::size_t dim, std::size_t heads, std::size_t kv_heads, std::size_t head_width, std::size_t mlp_width,
            float epsilon, const py::list& layers, const py::list& head, const py::array& final_norm,
            std::size_t threads, const std::string& tier)
        : kept_(py::make_tuple(layers, final_norm)) {
        const decoder::Shape shape{dim, heads, kv_heads, head_width, mlp_width, epsilon};
        expect(dim > 0 && kv_heads > 0 && heads > 0 && heads % kv_heads == 0 && head_width > 0 && head_width % 2 == 0 &&
                   mlp_width > 0 && threads > 0,
               "a decoder's sizes must be positive, heads a multiple of kv_heads, head_width even");
        std::vector<Layer> found;
        for (const py::handle& layer : layers) found.push_back(layer_of(layer.cast<py::tuple>(), shape));
        expect(!found.empty() && !final_norm.is_none(), "a decoder needs layers and a final norm");
        const float* norm = vector_of(final_norm, dim, "final_norm must be float32 [D]");
        decoder_ = std::make_unique<decoder::Decoder>(shape, std::move(found),
                                                      panels_of(head, 0, dim, "head must be float32 [V, D]"), norm,
                                                      threads, tier_of(tier));
    }

    // keys, values: a float32 array [1, kv_heads, slots, head_width] a layer, which stay with the decoder.
    void remember_in(const py::list& keys, const py::list& values) {
        const decoder::Shape& shape = decoder_->shape();
        expect(keys.size() == decoder_->layers() && values.size() == decoder_->layers(), "one memory a layer");
        std::vector<decoder::Memory> memory;
        std::size_t slots = 0;
        for (std::size_t i = 0; i < keys.size(); ++i) {
            auto key = keys[i].cast<Array<float>>(), value = values[i].cast<Array<float>>();
            for (const auto& array : {key, value}) {
                expect(array.ndim() == 4 && static_cast<std::size_t>(array.shape(1)) == shape.kv_heads &&
                           static_cast<std::size_t>(array.shape(3)) == shape.head_width,
                       "keys and values must be [1, kv_heads, slots, head_width]");
                slots = memory.empty() ? static_cast<std::size_t>(array.shape(2)) : slots;
                expect(static_cast<std::size_t>(array.shape(2)) == slots && array.shape(0) == 1,
                       "every layer must have the same number of slots");
            }
            expect(key.ptr() == keys[i].ptr() && value.ptr() == values[i].ptr(),
                   "keys and values must be contiguous float32 arrays");
            memory.push_back({key.mutable_data(), value.mutable_data()});
        }
        memory_ = std::move(memory);
        slots_ = slots;
        memory_arrays_ = py::make_tuple(keys, values);
    }

    // Layers [first, last) on hidden [R, D], in place. parts: (first row, last row, seen uint8 [rows, W], stretches
    // int64 [n, 3] of slot, pool slot and count) a session.
    void run(std::size_t first, std::size_t last, Array<float>& hidden, const Array<float>& cos,
             const Array<float>& sin, const Array<std::int64_t>& slots, const py::list& parts) {
        const decoder::Shape& shape = decoder_->shape();
        expect(first <= last && last <= decoder_->layers(), "no such layers");
        expect(hidden.ndim() == 2 && static_cast<std::size_t>(hidden.shape(1)) == shape.dim, "hidden must be [R, D]");
        const auto rows = static_cast<std::size_t>(hidden.shape(0));
        for (const auto* array : {&cos, &sin}) {
            expect(static_cast<std::size_t>(array->size()) == rows * shape.head_width, "cos and sin must be [R, W]");
        }
        expect(static_cast<std::size_t>(slots.size()) == rows, "slots must be [R]");
        for (std::size_t row = 0; row < rows; ++row) {
            expect(slots.data()[row] >= 0 && static_cast<std::size_t>(slots.data()[row]) < slots_, "no such slot");
        }
        decoder::Forward forward{rows, cos.data(), sin.data(), slots.data(), {}, slots_};
        for (const py::handle& part : parts) forward.parts.push_back(part_of(part.cast<py::tuple>(), rows));
        float* data = hidden.mutable_data();
        const py::gil_scoped_release release;
        const std::lock_guard lock(mutex_);
        decoder_->run(first, last, data, forward, memory_);
    }

    Array<float> logits(const Array<float>& hidden) {
        expect(hidden.ndim() == 2 && static_cast<std::size_t>(hidden.shape(1)) == decoder_->shape().dim,
               "hidden must be [R, D]");
        const auto rows = static_cast<std::size_t>(hidden.shape(0));
        Array<float> out({rows, decoder_->vocabulary()});
        float* to = out.mutable_data();
        const py::gil_scoped_release release;
        const std::lock_guard lock(mutex_);
        decoder_->logits(hidden.data(), rows, to);
        return out;
    }

    // Tokens and margins of hidden [R, D] read by an exit with this norm [D].
    py::tuple guess(const Array<float>& hidden, const Array<float>& norm, float epsilon,
                    const Array<float>& temperatures, const Array<std::uint64_t>& seeds,
                    const Array<std::int32_t>& positions) {
        const std::size_t dim = decoder_->shape().dim;
        expect(hidden.ndim() == 2 && static_cast<std::size_t>(hidden.shape(1)) == dim, "hidden must be [R, D]");
        expect(static_cast<std::size_t>(norm.size()) == dim, "norm must be [D]");
        const auto rows = static_cast<std::size_t>(hidden.shape(0));
        expect(static_cast<std::size_t>(temperatures.size()) == rows &&
                   static_cast<std::size_t>(seeds.size()) == rows && static_cast<std::size_t>(positions.size()) == rows,
               "temperatures, seeds and positions must be [R]");
        const sampling::ExitHeadInput input{
            simd::Type::float32, hidden.data(), norm.data(),      nullptr, rows, dim, decoder_->vocabulary(),
            temperatures.data(), seeds.data(),  positions.data(), epsilon, 1.0f, 0.0f};
        std::vector<sampling::ExitHeadRow> said;
        {
            const py::gil_scoped_release release;
            const std::lock_guard lock(mutex_);
            said = decoder_->guess(input);
        }
        return tokens_and_margins(said);
    }

 private:
    Part part_of(const py::tuple& given, std::size_t rows) const {
        expect(given.size() == 4, "a part is first row, last row, seen, stretches");
        const auto seen = given[2].cast<Array<std::uint8_t>>();
        const auto stretches = given[3].cast<Array<std::int64_t>>();
        expect(seen.ptr() == given[2].ptr(), "seen must be a contiguous uint8 array");
        expect(seen.ndim() == 2 && stretches.ndim() == 2 && stretches.shape(1) == 3, "seen [R, W], stretches [n, 3]");
        Part part{given[0].cast<std::size_t>(),
                  given[1].cast<std::size_t>(),
                  static_cast<std::size_t>(seen.shape(1)),
                  seen.data(),
                  {}};
        expect(part.first <= part.last && part.last <= rows &&
                   part.last - part.first == static_cast<std::size_t>(seen.shape(0)),
               "a part's rows must be those of seen");
        std::size_t next = 0;
        for (py::ssize_t i = 0; i < stretches.shape(0); ++i) {
            const std::int64_t slot = stretches.at(i, 0), pool_slot = stretches.at(i, 1), count = stretches.at(i, 2);
            expect(slot >= 0 && static_cast<std::size_t>(slot) == next && count > 0 && pool_slot >= 0 &&
                       static_cast<std::size_t>(count) <= slots_ &&
                       static_cast<std::size_t>(pool_slot) <= slots_ - static_cast<std::size_t>(count),
                   "stretches must follow each other, within the memory");
            next += static_cast<std::size_t>(count);
            part.stretches.push_back(
                {static_cast<std::size_t>(slot), static_cast<std::size_t>(pool_slot), static_cast<std::size_t>(count)});
        }
        expect(next == part.width, "stretches must cover what is seen");
        return part;
    }

    py::tuple kept_;
    py::tuple memory_arrays_;
    std::unique_ptr<decoder::Decoder> decoder_;
    std::vector<decoder::Memory> memory_;
    std::size_t slots_ = 0;
    std::mutex mutex_;
};

}  // namespace

void register_decoder(py::module_& module) {
    py::class_<Decoder>(module, "Decoder")
        .def(py::init<std::size_t, std::size_t, std::size_t, std::size_t, std::size_t, float, const py::list&,
                      const py::list&, const py::array&, std::size_t, const std::string&>(),
             py::kw_only(), py::arg("dim"), py::arg("heads"), py::arg("kv_heads"), py::arg("head_width"),
             py::arg("mlp_width"), py::arg("epsilon"), py::arg("layers"), py::arg("head"), py::arg("final_norm"),
             py::arg("threads") = 1, py::arg("tier") = "")
        .def("remember_in", &Decoder::remember_in, py::arg("keys"), py::arg("values"))
        .def("run", &Decoder::run, py::arg("first"), py::arg("last"), py::arg("hidden").noconvert(), py::arg("cos"),
             py::arg("sin"), py::arg("slots"), py::arg("parts"))
        .def("logits", &Decoder::logits, py::arg("hidden"))
        .def("guess", &Decoder::guess, py::arg("hidden"), py::arg("norm"), py::arg("epsilon"), py::arg("temperatures"),
             py::arg("seeds"), py::arg("positions"));
}

}  // namespace edgespec::bindings
