"""A directory with `model.onnx` and `tokenizer.json`, opened and run a text at a time.

Model hubs keep the former in a folder `onnx` beside the latter, where it is found, too.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Encoding, Tokenizer

MODEL = "model.onnx"
SLOW_FUSIONS = ["SkipLayerNormFusion", "BiasSkipLayerNormFusion", "BiasGeluFusion"]
"""What ONNX Runtime 1.32 would make of Add and LayerNormalization, or of Add and Gelu, takes two to
five times as long on a CPU as the nodes it replaces."""
INPUTS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""Names of Hugging Face's exports, and what they are in an `Encoding`."""
POOLED = "sentence_embedding"
"""What Optimum's exports of sentence-transformers call a text's vector. It is not the first of
their outputs: the tokens' vectors are."""


def model_file(folder: Path) -> Path:
    """Return where `folder` has its model, or would have it."""
    nested = folder / "onnx" / MODEL
    return nested if nested.exists() and not (folder / MODEL).exists() else folder / MODEL


class OnnxModel:
    """A model that takes tokens. Loading raises whatever ONNX Runtime and the tokenizer raise."""

    def __init__(self, folder: Path, threads: int, max_tokens: int) -> None:
        """Load `folder`.

        Args:
            folder: directory of the two files.
            threads: CPU threads that one text uses.
            max_tokens: longer texts are cut.
        """
        self.tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_tokens)
        self._session = onnxruntime.InferenceSession(
            model_file(folder),
            _options(threads),
            providers=["CPUExecutionProvider"],
            disabled_optimizers=SLOW_FUSIONS,
        )
        taken = {given.name for given in self._session.get_inputs()}
        self._inputs = {name: part for name, part in INPUTS.items() if name in taken}
        outputs = [made.name for made in self._session.get_outputs()]
        self._output = POOLED if POOLED in outputs else outputs[0]

    def run(self, encoded: Encoding) -> npt.NDArray[np.float32]:
        """Return the output `POOLED`, or else the first one, for one text, float32 [...]."""
        inputs = {
            name: np.array([getattr(encoded, part)], np.int64)
            for name, part in self._inputs.items()
        }
        output: npt.NDArray[np.float32] = self._session.run([self._output], inputs)[0][0]
        return output


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning workers would burn the cores that neighbours need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
