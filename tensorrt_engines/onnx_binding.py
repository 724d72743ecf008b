"""Buffers bound to a graph of ONNX Runtime, kept by shape, so that a run of a known shape allocates next to nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

KEPT_BINDINGS = 128
"""Shapes whose buffers are kept; the one that was not used for longest goes first."""

Shape = TypeVar("Shape")
Bound = TypeVar("Bound", bound="Binding")


class Binding:
    """bound: an `IOBinding` of onnxruntime. What is given it is read and written where it lies."""

    def __init__(self, bound: Any) -> None:
        self.bound = bound

    def input(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """Contiguous; it must live until the run is over."""
        self.bound.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        return array

    def output(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """As `input`."""
        self.bound.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        return array


class KeptBindings(Generic[Shape, Bound]):
    """The buffers of the shapes that were used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Shape, Bound] = OrderedDict()

    def of(self, shape: Shape, make: Callable[[Shape], Bound]) -> Bound:
        """Those kept, or new ones that `make` binds."""
        binding = self._kept.get(shape)
        if binding is None:
            binding = self._kept[shape] = make(shape)
            if len(self._kept) > KEPT_BINDINGS:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(shape)
        return binding
