"""Generated from proto/tidegate/oip by `make proto`; never edited by hand."""
