"""The rules that a model is held to, one row each. The documentation and the severity of a finding come from here.

An error is what makes a model wrong: some runtime must refuse it or may answer falsely. A warning is what a reader of
the model would want to know: nothing is wrong by the letter, but something was probably not meant so.
"""

from __future__ import annotations

from typing import NamedTuple

from gesher.base.report import Severity


class Rule(NamedTuple):
    """One rule: its kebab-case name, how grave it is to break it, what it says, and what to do about it."""

    name: str
    severity: Severity
    what: str
    advice: str


_E: Severity = "error"
_W: Severity = "warning"

RULES: dict[str, Rule] = {row[0]: Rule(*row) for row in (
    # Structure
    ("undefined-value", _E, "Every value that is read or given out is made by something in reach.",
     "correct the name, or add what makes it"),
    ("node-order", _E, "A node stands behind the nodes whose outputs it reads.",
     "sort the nodes so that each stands behind those that it reads"),
    ("cycle", _E, "No node reads, over others, what it makes itself.", "break the circle"),
    ("duplicate-name", _E, "Within a graph each value's name is made once.", "rename one of them"),
    ("shadowed-name", _W, "A name of an inner graph is not also a name of a graph around it.",
     "rename the inner one: readers disagree on which is meant"),
    ("duplicate-node-name", _W, "Nodes that have names have different ones.",
     "rename one; tools that address nodes by name will mix them up"),
    ("unnamed-value", _E, "The inputs and outputs of the main graph have names.", "name it"),
    ("no-outputs", _E, "A graph gives something out.", "name its outputs"),
    ("graph-name", _W, "A graph has a name.", "name it; some readers refuse graphs without one"),
    ("input-type", _E, "The inputs and outputs of the main graph declare a type.", "declare it"),
    ("no-op-type", _E, "A node says which operator it applies.", "write its op_type"),
    ("dead-node", _W, "What a node makes leads to an output.", "remove it; it costs time and does nothing"),
    ("unused-initializer", _W, "An initializer is read by something.", "remove it; it only takes space"),
    ("nesting-depth", _E, "Graphs are nested no deeper than 64 levels.", "flatten them"),
    # Operators
    ("operator-unknown", _E, "Every node applies a known operator or calls a function of the model.",
     "correct the name or the domain, or add a function that defines it"),
    ("operator-foreign", _W, "Operators of other domains are defined by functions of the model.",
     "only runtimes that know this domain can run it; nothing about the node was checked"),
    ("operator-unwritten", _W, "Gesher knows all of ONNX's operators but a few.", "nothing about the node was checked"),
    ("operator-version", _E, "An operator is there in the imported version of its domain.",
     "import a newer version of the domain"),
    ("operator-deprecated", _E, "An operator is not deprecated in the imported version.",
     "convert the model, or import an older version"),
    ("input-count", _E, "A node has as many inputs as its operator takes.", "see the operator's signature"),
    ("output-count", _E, "A node has as many outputs as its operator makes.", "see the operator's signature"),
    ("input-missing", _E, "Only optional inputs are left out.", "give the input"),
    # Attributes
    ("attribute-unknown", _E, "A node has only attributes that its operator knows.", "remove or rename it"),
    ("attribute-missing", _E, "Required attributes are there.", "write it"),
    ("attribute-kind", _E, "An attribute's value is of the declared kind.", "write it as the declared kind"),
    ("attribute-value", _E, "An attribute that is one of a few words or numbers is one of them.",
     "write one of those that are allowed"),
    ("attribute-lengths", _E, "Lists that describe the same axes or entries have matching lengths.",
     "make the lists match"),
    ("attribute-ref", _E, "A reference attribute names an attribute of the function around it, of the same kind.",
     "correct the name; outside functions write the value itself"),
    ("subgraph-arity", _E, "The graphs of If, Loop and Scan take and give as many values as their node asks for.",
     "make the graph's inputs and outputs match the node's"),
    # Constants
    ("index-range", _E, "Constant indices lie within the axis that they index.",
     "correct the index; a negative one counts from the end"),
    ("weights-contradict", _E, "Weights that belong together have matching shapes.",
     "one of them belongs to another layer, or was cut"),
    ("constant-doubt", _W, "Constants make sense where they are used: scales are positive, variances not negative, "
     "bounds in order, integer divisors not 0.", "look at where the number comes from"),
    # Weights: the numbers of small tensors, and of all with `--weights`
    ("weight-not-finite", _W, "Weights are finite numbers.",
     "a training that diverged, or a mask: masks are better made with the lowest finite number"),
    ("weight-subnormal", _W, "Fewer than 1 in 100 weights are subnormal: so small that their type keeps fewer digits.",
     "write 0 instead: most processors compute many times slower with subnormal numbers"),
    ("weight-duplicate", _W, "Large weights (16 KiB and more) are stored once.",
     "let all readers share one"),
    # Types
    ("type-constraint", _E, "A value's type is one that the operator allows.", "insert a Cast"),
    ("type-binding", _E, "Inputs that share a type variable have the same type.", "insert a Cast"),
    ("type-contradiction", _E, "What a file declares of a value is what it is.", "correct or remove the declaration"),
    ("shape-inference", _E, "The shapes of a node's inputs fit its operator.",
     "see where the shapes come from: `gesher show --nodes`"),
    ("dim-contradiction", _E, "Sizes that must be equal are.", "see where the sizes come from: `gesher show --nodes`"),
    ("input-dims", _W, "A size that varies is a name, not 0 or a negative number.", "write a name"),
    ("constant-fails", _W, "A node whose inputs are all constant can be run.", "it will fail whenever it runs"),
    ("inference-rule", _W, "Gesher's inference understands every valid node.",
     "if the model is right, this is a fault in gesher: please report it"),
    # Versions
    ("opset-import", _E, "Every domain that is used is imported in a version of 1 or more.", "import it"),
    ("opset-unknown", _W, "The imported version of a domain is one that has been published.",
     "it is read as the newest known; meanings may have changed since"),
    ("opset-unused", _W, "Every imported domain is used.", "remove the import"),
    ("ir-version", _E, "The IR version is a number from 1 on.", "write the IR version"),
    ("ir-unknown", _W, "The IR version is one that has been published.", "parts of the file may not be understood"),
    ("ir-opset-pair", _W, "The opset was published with this IR version or an earlier one.",
     "raise the IR version; strict readers of the old one do not know the opset"),
    ("ir-feature", _E, "A model uses only what its IR version has.", "raise the IR version"),
    # Tensors
    ("tensor-data", _E, "A tensor's data is as large as its dims and data type say, and held in one place.",
     "the file is damaged, or its writer is wrong"),
    ("tensor-dims", _E, "A tensor's dims are 0 or more.", "correct the dims"),
    ("tensor-type", _E, "A tensor has a data type.", "write the data type"),
    ("external-data", _E, "Data in other files is there, inside the model's folder.", "bring the data file along"),
    ("sparse-tensor", _E, "A sparse tensor's indices lie in its dims and are as many as its values.",
     "correct the indices"),
    # Functions
    ("function-recursion", _E, "Functions do not call themselves, over others or directly.", "unroll the recursion"),
    ("function-arity", _E, "A call gives no more inputs than the function has, and takes no more outputs.",
     "make call and function match"),
    ("function-attribute", _W, "A call gives the function's attributes that have no default.",
     "inside the function they are left out"),
    ("function-name", _E, "A function has a name and a domain.", "write them"),
    ("function-shadows", _W, "A function does not redefine an operator of ONNX.",
     "the function is what counts here; other runtimes may take the operator"),
    ("function-unused", _W, "Every function is called.", "remove it"),
    ("unused-input", _W, "A function reads all its inputs.", "remove the input"),
    ("function-initializers", _E, "A function captures nothing and has no initializers.", "use Constant nodes"),
    # Names
    ("name-identifier", _W, "With `--strict`: names are identifiers of C90, as the letter of ONNX has it.",
     "rename them: letters, digits and _ only, no digit first; hardly any runtime minds"),
    # Metadata
    ("metadata-key", _W, "Metadata entries have keys.", "name the entry"),
    ("quantization-annotation", _W, "A quantization annotation names values that are there.", "remove the annotation"),
)}


def table() -> str:
    """The rules as a Markdown table, for the documentation."""
    lines = ["| rule | severity | says | when broken |", "|---|---|---|---|"]
    lines += [f"| `{r.name}` | {r.severity} | {r.what} | {r.advice} |" for r in RULES.values()]
    return "\n".join(lines)
