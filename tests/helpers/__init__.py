"""What tests share: oracles that are slow and plainly right, makers of data, comparisons.

* `naive`: networks as loops over steps, straight from their equations.
* `quadrature`: exact expectations over short Gaussian sequences, and networks for them that share
  nothing with the library.
* `differences`: derivatives by central differences.
* `batches`: sums over the batches of a source.
* `blocks`: blocks of a recursion so small that every path through them is taken.
* `tensors`: outer products and contractions, written out.
* `planted`: tensors with known components.
* `generators`: ragged data, stable chains, networks of given sizes.
* `parts`: data in parts, on disk or made when they are asked for.
* `derivatives`: sums of derivatives against differences of a naive network.
* `descents`: minimisations of the squared error.
* `engines`: engines that note what they run.
* `systems`: linear systems with known poles and responses.
* `recovery`: the first stage of a fit from a moment in closed form, and errors of all weights.
* `estimates`: fits of the regressor, and least squares from the truth.
* `comparisons`: closeness relative to the largest entry.
"""
