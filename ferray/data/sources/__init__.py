"""One module per data set or layout, which reads its labels into a `Source` (module `rows`)."""
