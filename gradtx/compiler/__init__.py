"""The compiler: from a recipe to `init` and `update`, in several passes."""
