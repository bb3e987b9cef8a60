"""The plots of the page; `ferray.report.page.chart` says what a plot is."""
