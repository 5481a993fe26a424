"""Operations → ONNX graph, written with the package onnx.

Graphs are written directly, because torch's exporter takes about ten seconds for a head, cannot export a bidirectional
LSTM with any number of frames, and writes the paths of source files into the graph.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from featcache._version import __version__
from featcache.errors import MissingPackageError

# Operator set 18 (2022) and IR version 8: old enough for all current runtimes.
OPSET, IR_VERSION = 18, 8


def require_onnx() -> tuple[Any, Any]:
    """Return the packages onnx and onnxruntime.

    Raises:
        MissingPackageError: one of them is not installed.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(
            f"--onnx needs {error.name or 'onnx'}, which is not installed: pip install 'featcache[onnx]'"
        ) from None
    return onnx, onnxruntime


class GraphBuilder:
    """ONNX graph under construction. A value is referred to by its name."""

    def __init__(self) -> None:
        self._onnx, _ = require_onnx()
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []

    def input(self, name: str, shape: Sequence[int | str]) -> str:
        """Add a float32 input; a text in the shape is the name of a size that may vary."""
        kind = self._onnx.TensorProto.FLOAT
        self._inputs.append(self._onnx.helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def constant(self, values: npt.NDArray[Any]) -> str:
        """Add constant values."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def integers(self, *values: int) -> str:
        """Add a constant vector of int64."""
        return self.constant(np.array(values, dtype=np.int64))

    def add(self, operation: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Add a node, and return the name of its first output.

        Args:
            operation: Operator, as the ONNX standard names it.
            inputs: Names of the inputs; an empty name leaves an optional input out.
            outputs: Number of outputs.
            attributes: Attributes of the operator.
        """
        names = [f"{operation.lower()}_{len(self._nodes)}_{i}" for i in range(outputs)]
        self._nodes.append(self._onnx.helper.make_node(operation, list(inputs), names, **attributes))
        return names[0]

    def cast(self, values: str, dtype: npt.DTypeLike) -> str:
        """Convert values to another dtype."""
        return self.add("Cast", values, to=self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def mean(self, values: str, axis: int) -> str:
        """Return the mean over an axis, in float64 for the sum, as the heads compute it."""
        summed = self.add("ReduceMean", self.cast(values, np.float64), self.integers(axis), keepdims=0)
        return self.cast(summed, np.float32)

    def linear(self, values: str, weight: npt.NDArray[Any], bias: npt.NDArray[Any]) -> str:
        """Return ``values @ weight.T + bias``."""
        return self.add("Add", self.add("MatMul", values, self.constant(weight.T)), self.constant(bias))

    def model(self, scores: str, num_outputs: int, metadata: Mapping[str, str]) -> Any:
        """Return the checked model whose output ``scores`` has the shape (num_outputs,) float32.

        Args:
            scores: Name of the value that becomes the output.
            num_outputs: Number of scores.
            metadata: Name → text, for users of the graph.
        """
        helper, kind = self._onnx.helper, self._onnx.TensorProto.FLOAT
        self._nodes.append(helper.make_node("Identity", [scores], ["scores"]))
        output = helper.make_tensor_value_info("scores", kind, [num_outputs])
        graph = helper.make_graph(self._nodes, "head", self._inputs, [output], self._constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="featcache",
            producer_version=__version__,
        )
        helper.set_model_props(model, dict(metadata))
        self._onnx.checker.check_model(model, full_check=True)
        return model
