"""`gesher ops`: the tables made from the book, and which engines run an operator."""

import json
import subprocess
import sys
from typing import Any

from click.testing import CliRunner

from gesher.cli.main import root


def call(*arguments: Any) -> str:
    result = CliRunner().invoke(root, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.output


def test_ops_tells_which_engines_run_an_operator() -> None:
    text = call("ops", "Softmax", "--engines")
    assert "reference 1-" in text and "onnxruntime 1-10 11-12 13-" in text and "openvino ?" in text
    [row] = json.loads(call("ops", "StringSplit", "--engines", "--json"))
    assert row["engines"]["reference"] == "20-" and row["engines"]["onnxruntime"] == "20-"
    assert "onnxruntime" not in call("ops", "Softmax")


def test_ops_as_markdown_has_a_line_for_each_operator() -> None:
    from gesher.ops import operators

    lines = call("ops", "--markdown").splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.startswith("| operator")]
    assert len(rows) == len(list(operators()))
    assert "| `Softmax` | 1 11 13 |" in "\n".join(rows) and "## ai.onnx.ml" in lines
    assert all(line.count("|") == 6 for line in rows)
    wide = call("ops", "--domain", "ai.onnx.ml", "--markdown", "--engines").splitlines()
    assert "on onnxruntime" in wide[4] and all(line.count("|") == 10 for line in wide[6:])


def test_engines_are_imported_only_when_asked_for() -> None:
    code = "import sys; from gesher.cli.main import root\ntry: root(['ops', 'Add'])\nexcept SystemExit: pass\n" \
           "print(sorted({'onnxruntime', 'openvino', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_an_engine_that_is_not_there_is_told_as_unknown() -> None:
    code = "import sys; sys.modules['onnxruntime'] = None\nfrom gesher.engines.operators import engines_of\n" \
           "from gesher.ops import find; print(engines_of(find('', 'Add')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'onnxruntime': '?'" in done.stdout
