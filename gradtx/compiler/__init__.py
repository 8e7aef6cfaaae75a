"""The compiler: from a recipe to `init` and `update`, in the order of the passes."""
