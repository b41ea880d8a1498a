"""What a model is, apart from running it: manifest, package, rules about time."""
