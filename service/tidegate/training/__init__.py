"""From a CSV and a recipe to a checked model package; the only code that knows torch and onnx."""
