"""Generated from proto/tidegate/v1 by `make proto`; never edited by hand."""
