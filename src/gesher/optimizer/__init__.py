"""Rules and passes that make a model cheaper without changing what it means.

    whole = for_compiler(model)      # a private copy and the imports of its nodes, for `compiler.compile`

`FOR_COMPILER` is a list of passes; each pass is a list of rules from the files beside this one. Names of files say what
their rules are about.
"""

from .pipelines import FOR_COMPILER, FOR_EXPORT, for_compiler, for_export

__all__ = ["FOR_COMPILER", "FOR_EXPORT", "for_compiler", "for_export"]
